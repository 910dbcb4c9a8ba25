#!/bin/sh
# A third node for a network of two; then one is to be taken away, which is too soon, and done all the same.
# world: two-hosts
# shellcheck disable=SC2016 # what is typed stands in single quotes
set -eu
# shellcheck source=drills/drill.sh
. "$(dirname "$0")/drill.sh"

main() {
    step settings
    run 'cat new_node'
    run "sed -i '/name: us,/r new_node' infra/Pulumi.prod.yaml"
    run "cd infra; pulumi preview --diff 2>&1 | grep -E '^ *[+-] [0-9]+ to '; cd .."
    expect 'to create'

    step add
    run 'cd infra'
    run 'pulumi up --yes --skip-preview --suppress-outputs > up.log 2>&1 || cat up.log'
    unseen 'error'
    run "sed -n '/^Resources/,\$p' up.log"
    expect 'created'
    run 'pulumi stack output inventory --json > ../inventory.json'
    run 'cd ..'
    run 'wws-ops exec --root -- wws-control reload'
    eventually ' until ' 'wws-ops status'
    expect 'eu' 'us' 'ap'
    unseen 'different lists'

    step soon
    run 'wws-ops drain us --wait 5'
    run "sed -i '/name: us,/d' infra/Pulumi.prod.yaml"
    run 'cd infra'
    run "for urn in \$(pulumi stack --show-urns | grep -oE 'urn:pulumi:.*:(Seed|Promises)::us\$'); do pulumi state unprotect --yes \"\$urn\"; done"
    run 'pulumi preview 2>&1 | grep -o "The set was changed at .*" | head -n 1'
    expect 'the next change is safe from'

    step away
    run 'pulumi config set wws:force_unsafe true'
    run 'pulumi up --yes --skip-preview --suppress-outputs > up.log 2>&1 || cat up.log'
    unseen 'error'
    run 'pulumi config rm wws:force_unsafe'
    run 'pulumi stack output inventory --json > ../inventory.json'
    run 'cd ..'
    run 'wws-ops status'
    unseen 'us  '
}

main "$@"
