#!/bin/sh
# DNS is dead: what goes on, who still gets in, and how it comes back.
# world: local
# shellcheck disable=SC2016 # what is typed stands in single quotes
set -eu
# shellcheck source=drills/drill.sh
. "$(dirname "$0")/drill.sh"

main() {
    step dead
    quietly 'kill "$(cut -d" " -f1 nodes/dns/pid)"'
    run 'wws-ops status --inventory inventory.json'
    expect 'boot1' 'boot2' 'boot3'
    unseen 'error'

    step known
    say 'alice was here before: she knows peers and the list'
    run "$(cd infra && pulumi stack output join_command) --name alice"
    expect 'found through a peer that worked before' 'witnessed by 3 of 3'
    quietly 'wws leave'

    step newcomer
    say 'bob never was: he gets the file with the addresses'
    run 'wws --home bob network add network.json'
    run 'wws --home bob join --name bob'
    expect 'found through a pinned peer' 'witnessed by 3 of 3'
    quietly 'wws --home bob leave'

    step mend
    run 'cd infra && pulumi up --yes --skip-preview --refresh --suppress-outputs'
    expect 'updated'
}

main "$@"
