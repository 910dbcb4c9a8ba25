#!/bin/sh
# A network from nothing, on the stack `local`: keys, nodes, DNS; somebody joins; all is kept that must be.
# world: local
# shellcheck disable=SC2016 # what is typed stands in single quotes
set -eu
# shellcheck source=drills/drill.sh
. "$(dirname "$0")/drill.sh"

main() {
    step up
    run 'cd infra'
    run 'pulumi stack init local'
    run 'pulumi up --yes --skip-preview --suppress-outputs'
    expect 'created'

    step look
    run 'pulumi stack output inventory --json > ../inventory.json'
    run 'printf %s "$(pulumi stack output network_json)" > ../network.json'
    run 'cd ..'
    run 'wws-ops status --inventory inventory.json'
    expect 'boot1' 'boot2' 'boot3'
    unseen 'error'

    step join
    run '(cd infra && pulumi stack output join_command)'
    run "$(cat "$DRILL_SAID") --name alice"
    expect 'witnessed by 3 of 3'
    run 'wws leave'

    step again
    run 'cd infra && pulumi up --yes --skip-preview --refresh --suppress-outputs'
    expect 'unchanged'
    unseen 'updated' 'created'

    step keep
    run 'umask 077'
    run 'mkdir -p ../backup/keys'
    run 'pulumi stack export > ../backup/stack.json'
    run 'cp Pulumi.local.yaml ../backup/'
    run 'pulumi stack output publisher_key --show-secrets | base64 -d > ../backup/keys/publisher.key'
    run "python3 -c 'import json; [print(h[\"name\"], h[\"home\"]) for h in json.load(open(\"../inventory.json\"))[\"hosts\"]]' > ../homes"
    run '(while read -r name home; do cp "$home/identity.key" "../backup/keys/$name.key" || exit 1; done < ../homes)'
    run 'ls ../backup/keys'
    expect 'boot1.key' 'boot2.key' 'boot3.key'
    run 'wws-dns keygen ../backup/keys/publisher.key --show'
    expect 'public key'
}

main "$@"
