#!/bin/sh
# The disk of a node is full: it is seen, what fills it is found, room is made, and the witness writes again.
# world: hosts
# shellcheck disable=SC2016 # what is typed stands in single quotes
set -eu
# shellcheck source=drills/drill.sh
. "$(dirname "$0")/drill.sh"

main() {
    step seen
    run 'wws-ops status us'
    expect 'of the disk are free'

    step where
    run 'wws-ops exec us --root -- df -h /var/lib/wws'
    expect '100%'
    run "wws-ops exec us --root -- 'du -xsh /var/lib/wws/* | sort -h'"
    expect '/var/lib/wws/dump'

    step room
    run 'wws-ops exec us --root -- apt-get clean'
    run 'wws-ops exec us --root -- journalctl --quiet --vacuum-size=200M'
    run 'wws-ops exec us --root -- rm -r /var/lib/wws/dump'

    step well
    run 'wws-ops status us'
    unseen 'of the disk are free'
    run "wws-ops exec us -- 'curl -s 127.0.0.1:9371/metrics | grep ^wws_witness_writable'"
    expect 'wws_witness_writable 1'
}

main "$@"
