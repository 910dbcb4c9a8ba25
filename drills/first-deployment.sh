#!/bin/sh
# A network from nothing, on the stack `local`: keys, nodes, DNS; somebody joins; nothing is left to change.
# world: local
set -eu
# shellcheck source=drills/drill.sh
. "$(dirname "$0")/drill.sh"

main() {
    step up
    run 'cd infra'
    run 'pulumi stack init local'
    run 'pulumi up --yes --suppress-outputs'
    expect 'created'

    step look
    run 'pulumi stack output inventory --json > ../inventory.json'
    run 'wws-ops status --inventory ../inventory.json'
    expect 'boot1' 'boot2' 'boot3'

    step join
    run 'pulumi stack output join_command'
    run "$(pulumi stack output join_command) --name alice"
    expect 'witnessed by 3 of 3'
    run 'wws leave --release-name'

    step again
    run 'pulumi up --yes --skip-preview --suppress-outputs'
    expect 'unchanged'

    step keep
    run 'umask 077; pulumi stack export > ../stack-backup.json'
    run 'cp Pulumi.local.yaml ..'
}

main "$@"
