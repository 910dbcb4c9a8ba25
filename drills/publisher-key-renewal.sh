#!/bin/sh
# The list is signed anew before its end, and somebody hears of it when it is not.
# world: zone
# shellcheck disable=SC2016 # what is typed stands in single quotes
set -eu
# shellcheck source=drills/drill.sh
. "$(dirname "$0")/drill.sh"

main() {
    step published
    quietly 'wws-dns keygen publisher.key'
    quietly 'wws-dns publish'
    run 'wws-dns renew'

    step alert
    later '17 days'
    refused 8 'wws-dns verify --authority "$DNS_SERVER" --least-resolvers 0 --strict'

    step renew
    run 'wws-dns renew --textfile renew.prom'
    expect 'serves now bundle'
    run 'cat renew.prom'

    step fine
    awaits 0 'wws-dns verify --authority "$DNS_SERVER" --least-resolvers 0 --strict'
}

main "$@"
