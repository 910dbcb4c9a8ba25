#!/bin/sh
# The zone does not take what is published: locked, a wrong TSIG key, and then well.
# world: knot
# shellcheck disable=SC2016 # what is typed stands in single quotes
set -eu
# shellcheck source=drills/drill.sh
. "$(dirname "$0")/drill.sh"

main() {
    step publish
    quietly 'wws-dns keygen publisher.key'
    run 'wws-dns publish'
    expect 'serves now bundle'

    step locked
    quietly 'knotc --blocking zone-freeze example.org'
    refused 7 'wws-dns renew --now'
    run 'knotc --blocking zone-thaw example.org'
    run 'wws-dns renew --now'
    expect 'serves now bundle'

    step wrong-key
    quietly 'sed -i s/tsig.key/old-tsig.key/ records.toml'
    refused 7 'wws-dns plan'
}

main "$@"
