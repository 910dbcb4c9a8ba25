#!/bin/sh
# Every node is backed up, and what a backup holds is looked at.
# world: hosts
# shellcheck disable=SC2016 # what is typed stands in single quotes
set -eu
# shellcheck source=drills/drill.sh
. "$(dirname "$0")/drill.sh"

main() {
    step key
    run 'umask 077; age-keygen -o age.key'
    run 'recipient=$(age-keygen -y age.key)'

    step make
    run 'wws-ops backup --dir backups --recipient "$recipient"'
    expect 'backups/eu-' 'backups/us-' 'backups/ap-'

    step look
    # What else is there of the home depends on how long the node has run.
    run 'age --decrypt --identity age.key backups/us-*.age | tar --list | grep -E "^manifest|^etc|witness"'
    expect 'manifest.json' 'etc/identity.key' 'witness.sqlite'
}

main "$@"
