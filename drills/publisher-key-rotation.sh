#!/bin/sh
# From one publisher key to another, in the steps and with the waiting that every client needs.
# world: zone
# shellcheck disable=SC2016 # what is typed stands in single quotes
set -eu
# shellcheck source=drills/drill.sh
. "$(dirname "$0")/drill.sh"

main() {
    step keygen
    run 'wws-dns keygen publisher.key --domain example.org'
    run 'wws-dns publish --key publisher.key'

    step introduce
    later '3 days'
    run 'wws-dns keygen new.key'
    run 'wws-dns rotate introduce new.key --key publisher.key --key new.key'
    expect 'introduced'

    step early
    refused 7 'wws-dns rotate drop publisher.key --key publisher.key --key new.key'
    expect 'is still needed'

    step wait
    later '20 days'
    run 'wws-dns renew --key publisher.key --key new.key'
    later '40 days'
    quietly 'wws-dns renew --key publisher.key --key new.key'
    run 'wws-dns rotate show'
    later '60 days'
    quietly 'wws-dns renew --key publisher.key --key new.key'

    step drop
    later '80 days'
    quietly 'wws-dns renew --key publisher.key --key new.key'
    run 'wws-dns rotate drop publisher.key --key publisher.key --key new.key'
    expect 'dropped'

    step gone
    later '150 days'
    run 'wws-dns rotate show'
    expect 'its file may be destroyed'
}

main "$@"
