#!/bin/sh
# Something in the zone is not ours any more.
# world: zone
# shellcheck disable=SC2016 # what is typed stands in single quotes
set -eu
# shellcheck source=drills/drill.sh
. "$(dirname "$0")/drill.sh"

main() {
    step well
    quietly 'wws-dns keygen publisher.key'
    quietly 'wws-dns publish'
    awaits 0 'wws-dns verify --authority "$DNS_SERVER" --least-resolvers 0'

    step forged
    quietly "sed -i 's/@192.0.2.1:9000/@192.0.2.66:9000/' zone.json"
    quietly 'kill -HUP "$(cut -d" " -f1 dns.pid)"'
    awaits 8 'wws-dns verify --authority "$DNS_SERVER" --least-resolvers 0'

    step mend
    run 'wws-dns plan'
    run 'wws-dns publish'
    expect 'serves now bundle'
    awaits 0 'wws-dns verify --authority "$DNS_SERVER" --least-resolvers 0'
}

main "$@"
