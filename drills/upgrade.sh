#!/bin/sh
# One node is upgraded, a release that does not start is taken back by itself, and one goes back by hand.
# world: hosts
# shellcheck disable=SC2016 # what is typed stands in single quotes
set -eu
# shellcheck source=drills/drill.sh
. "$(dirname "$0")/drill.sh"

main() {
    step before
    run 'wws-ops status'
    expect '1.0.0'
    run 'cat releases/wws-1.1.0-linux-x86_64.tar.gz.sha256'

    step one
    run 'wws-ops upgrade eu --release releases/wws-1.1.0-linux-x86_64.tar.gz'
    expect 'upgraded' '1.0.0 → 1.1.0'
    run 'wws-ops exec -- cat /opt/wws/current/VERSION'
    expect 'eu: 1.1.0' 'us: 1.0.0'

    step broken
    refused 7 'wws-ops upgrade eu --release releases/wws-1.2.0-linux-x86_64.tar.gz'
    expect 'rolled_back' 'eu runs 1.1.0 again and is well; 1.2.0 failed and is not used'

    step back
    run 'wws-ops exec eu -- ls /opt/wws/releases'
    run 'wws-ops rollback eu'
    expect 'rolled_back' '1.0.0'
    run 'wws-ops exec -- cat /opt/wws/current/VERSION'
    unseen '1.1.0'
}

main "$@"
