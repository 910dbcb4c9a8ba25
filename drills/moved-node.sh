#!/bin/sh
# On the machine to which a node moves: its last backup is put back, promises and all, and the node goes on.
# world: hosts
# shellcheck disable=SC2016 # what is typed stands in single quotes
set -eu
# shellcheck source=drills/drill.sh
. "$(dirname "$0")/drill.sh"

main() {
    step restore
    run 'sed -i "s#$(cat old_host_key)#$(cat new_host_key)#" infra/Pulumi.prod.yaml inventory.json'
    run 'wws-ops restore eu --file moving/eu-*-final.age --key-file age.key'
    expect 'put back'

    step install
    run 'cd infra'
    run 'pulumi up --yes --skip-preview --suppress-outputs > up.log 2>&1 || cat up.log'
    unseen 'error'
    run "sed -n '/^Resources/,\$p' up.log"
    expect 'updated'
    run 'cd ..'

    step well
    run 'wws-ops status eu'
    expect 'joined'
    run "wws-ops exec eu -- 'curl -s 127.0.0.1:9371/metrics | grep ^wws_witness_no_first_claims'"
    expect '_seconds 0'
}

main "$@"
