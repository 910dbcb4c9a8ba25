#!/bin/sh
# A network on three machines that exist: settings, nodes, DNS; somebody joins; nothing is left to change.
# world: hosts
# shellcheck disable=SC2016 # what is typed stands in single quotes
set -eu
# shellcheck source=drills/drill.sh
. "$(dirname "$0")/drill.sh"

main() {
    step settings
    run 'cat infra/Pulumi.prod.yaml'

    step up
    run 'cd infra'
    run 'pulumi stack init prod'
    run 'pulumi up --yes --skip-preview --suppress-outputs > up.log 2>&1 || cat up.log'
    unseen 'error'
    run "sed -n '/^Resources/,\$p' up.log"
    expect 'created'
    run 'pulumi stack output inventory --json > ../inventory.json'

    step look
    run 'export WWS_INVENTORY=~/inventory.json'
    run 'wws-ops exec --root -- wws-control reload'
    eventually ' until ' 'wws-ops status'
    expect 'eu' 'us' 'ap' '1.0.0'

    step join
    run 'pulumi stack output join_command'
    run "$(pulumi stack output join_command) --name alice"
    expect 'witnessed by 3 of 3'
    run 'wws leave --release-name'

    step again
    run 'pulumi up --yes --skip-preview --refresh --suppress-outputs'
    expect 'unchanged'
    unseen 'updated' 'created'
}

main "$@"
