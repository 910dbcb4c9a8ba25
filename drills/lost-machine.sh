#!/bin/sh
# A machine has burnt, and another is in its place, at the same address: the node comes back as who it was.
# world: hosts
# shellcheck disable=SC2016 # what is typed stands in single quotes
set -eu
# shellcheck source=drills/drill.sh
. "$(dirname "$0")/drill.sh"

main() {
    step seen
    refused 8 'wws-ops status'
    expect 'us' 'host_key_changed'

    step key
    run 'cat new_host_key'
    run 'sed -i "s#$(cat old_host_key)#$(cat new_host_key)#" infra/Pulumi.prod.yaml inventory.json'

    step restore
    run 'wws-ops restore us --file backups/us-*.age --key-file age.key'
    expect 'us'

    step install
    run 'cd infra'
    run 'pulumi up --yes --skip-preview --suppress-outputs > up.log 2>&1 || cat up.log'
    unseen 'error'
    run "sed -n '/^Resources/,\$p' up.log"
    expect 'updated'
    run 'cd ..'

    step back
    run 'wws-ops status us'
    expect 'us'
    unseen 'wrong_key'
    run "wws-ops exec us -- 'curl -s 127.0.0.1:9371/metrics | grep ^wws_witness_no_first_claims'"
    unseen ' 0'
}

main "$@"
