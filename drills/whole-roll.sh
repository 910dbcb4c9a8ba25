#!/bin/sh
# All nodes are upgraded, one after the other, and the settings of the stack say so afterwards.
# world: hosts
# shellcheck disable=SC2016 # what is typed stands in single quotes
set -eu
# shellcheck source=drills/drill.sh
. "$(dirname "$0")/drill.sh"

main() {
    step roll
    run 'wws-ops upgrade --release releases/wws-1.1.0-linux-x86_64.tar.gz'
    expect 'eu' 'us' 'ap' '1.1.0'
    run 'wws-ops exec -- cat /opt/wws/current/VERSION'
    unseen '1.0.0'

    step settings
    run 'cd infra'
    run "pulumi config set --path wws:release.version 1.1.0"
    run "pulumi config set --path wws:release.archive '~/releases/wws-1.1.0-linux-x86_64.tar.gz'"
    run 'pulumi config set --path wws:release.sha256 "$(cut -c1-64 ../releases/wws-1.1.0-linux-x86_64.tar.gz.sha256)"'
    run "pulumi preview 2>&1 | grep -E '^ *[~+-] *[0-9]+ to '"
    expect '~ 3 to update'
    unseen 'create' 'delete' 'replace'
}

main "$@"
