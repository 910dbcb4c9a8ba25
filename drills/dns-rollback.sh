#!/bin/sh
# A list was published that is wrong; back to the one before.
# world: zone
# shellcheck disable=SC2016 # what is typed stands in single quotes
set -eu
# shellcheck source=drills/drill.sh
. "$(dirname "$0")/drill.sh"

main() {
    step wrong
    quietly 'wws-dns keygen publisher.key'
    quietly 'wws-dns publish'
    later '3 days'
    quietly 'sed -i s/198.51.100.1/198.51.100.99/ records.toml'
    run 'wws-dns publish'

    step list
    run 'wws-dns rollback --list'

    step rollback
    run 'wws-dns rollback'
    expect 'serves now bundle'
    say 'and the records file, or the next publish brings the mistake again'
    run 'sed -i s/198.51.100.99/198.51.100.1/ records.toml'
    run 'wws-dns plan'
}

main "$@"
