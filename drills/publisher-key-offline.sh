#!/bin/sh
# A publisher key that never touches a machine with a network: signed there, published here.
# world: zone
# shellcheck disable=SC2016 # what is typed stands in single quotes
set -eu
# shellcheck source=drills/drill.sh
. "$(dirname "$0")/drill.sh"

main() {
    step key
    say 'on the machine without a network'
    run 'wws-dns keygen offline/publisher.key'
    say 'here: its public half into the records file'
    run 'PUBLIC=$(wws-dns keygen offline/publisher.key --show --json | sed "s/.*\"public_key\": *\"\([0-9a-f]*\)\".*/\1/")'
    run 'sed -i "s/^key_files.*/publishers = [\"$PUBLIC\"]/" records.toml'

    step request
    run 'wws-dns plan --request to-sign.json'

    step sign
    say 'there, with the file to-sign.json'
    run 'wws-dns sign to-sign.json --key offline/publisher.key'

    step publish
    say 'here again'
    run 'wws-dns publish --signed to-sign.json'
    expect 'serves now bundle'

    step renew
    later '17 days'
    run 'wws-dns renew --request to-sign.json'
    quietly 'wws-dns sign to-sign.json --key offline/publisher.key'
    run 'wws-dns renew --signed to-sign.json'
    expect 'serves now bundle'
}

main "$@"
