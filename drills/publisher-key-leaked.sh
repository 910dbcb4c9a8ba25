#!/bin/sh
# One of two publisher keys is in the hands of somebody else.
# world: zone
# shellcheck disable=SC2016 # what is typed stands in single quotes
set -eu
# shellcheck source=drills/drill.sh
. "$(dirname "$0")/drill.sh"

main() {
    step two-keys
    quietly 'wws-dns keygen publisher.key'
    quietly 'wws-dns keygen second.key'
    quietly 'wws-dns publish'
    later '3 days'
    quietly 'wws-dns rotate introduce second.key --key publisher.key --key second.key'
    run 'wws-dns rotate show'

    step drop
    later '10 days'
    run 'wws-dns rotate drop publisher.key --early --key publisher.key --key second.key'
    expect 'dropped'

    step again-two
    later '13 days'
    run 'wws-dns keygen third.key'
    run 'wws-dns rotate introduce third.key --key publisher.key --key second.key --key third.key'
    expect 'introduced'
}

main "$@"
