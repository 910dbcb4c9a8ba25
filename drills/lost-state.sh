#!/bin/sh
# The state of the stack is lost: first with a copy of it, then with the keys alone.
# world: local
# shellcheck disable=SC2016 # what is typed stands in single quotes
set -eu
# shellcheck source=drills/drill.sh
. "$(dirname "$0")/drill.sh"

main() {
    step nodes
    quietly '(cd infra && pulumi stack export > ../backup/stack.json)'
    quietly 'mv wws-state wws-state.lost && mkdir wws-state'
    run 'cd infra'
    run 'pulumi stack ls'
    unseen 'local'
    run 'wws-ops status --inventory ../inventory.json'
    expect 'boot1' 'boot2' 'boot3'
    unseen 'error'

    step from-copy
    run 'pulumi stack init local'
    run 'cp ../backup/Pulumi.local.yaml .'
    run 'pulumi stack import < ../backup/stack.json'
    run 'pulumi up --yes --skip-preview --refresh --suppress-outputs'
    expect 'unchanged'
    unseen 'created' 'replaced'

    step from-keys
    quietly 'rm -rf ../wws-state && mkdir ../wws-state'
    quietly 'sed -i /^encryptionsalt/d Pulumi.local.yaml'
    run 'pulumi stack init local'
    run "names=\$(sed -n 's/^ *- name: //p' Pulumi.local.yaml)"
    run 'n=0; for name in $names; do pulumi config set --path "wws:nodes[$n].identity_key_file" "$PWD/../backup/keys/$name.key"; n=$((n + 1)); done'
    run 'pulumi config set wws:publisher_key_file "$PWD/../backup/keys/publisher.key"'
    run 'pulumi config get --path "wws:nodes[2].identity_key_file"'
    expect 'boot3.key'
    run 'pulumi up --yes --skip-preview --suppress-outputs'
    expect 'created'

    step same
    run 'pulumi stack output inventory --json > ../inventory-new.json'
    run 'grep -h -o "\"peer_id\": \"[^\"]*\"" ../inventory.json ../inventory-new.json | sort | uniq -c'
    expect '2 "peer_id"'
    unseen '1 "peer_id"'
    run 'wws-ops status --inventory ../inventory-new.json'
    unseen 'error'
    run "$(pulumi stack output join_command) --name alice"
    expect 'Joined.'
    quietly 'wws leave'
    run 'printf %s "$(pulumi stack output network_json)" > ../network.json'
    quietly 'mv ../inventory-new.json ../inventory.json'
}

main "$@"
