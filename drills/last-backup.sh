#!/bin/sh
# A node is to move to another machine: it is drained, stopped and sealed, and all that it is goes into a backup.
# world: hosts
# shellcheck disable=SC2016 # what is typed stands in single quotes
set -eu
# shellcheck source=drills/drill.sh
. "$(dirname "$0")/drill.sh"

main() {
    step seal
    run 'umask 077; test -e age.key || age-keygen -o age.key'
    run 'wws-ops backup eu --final --dir moving --recipient "$(age-keygen -y age.key)"'
    expect 'sealed' '-final.age'
    run 'wws-ops exec eu --root -- systemctl start wws-bootstrap'
    refused 3 'wws-ops status'
    expect 'stopped'
}

main "$@"
