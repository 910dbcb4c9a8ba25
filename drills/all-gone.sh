#!/bin/sh
# A network is taken down, and nothing of it stays.
# world: local
# shellcheck disable=SC2016 # what is typed stands in single quotes
set -eu
# shellcheck source=drills/drill.sh
. "$(dirname "$0")/drill.sh"

main() {
    step look
    run 'cd infra'
    refused 7 'wws-ops destroy --stack local --infra . --yes local.wws.test'

    step destroy
    run 'wws-ops destroy --stack local --infra . --give-up-identities --retire-dns --yes local.wws.test'
    expect '0 left'
    refused 3 'wws-ops status --inventory ../inventory.json'
    expect 'boot1' 'boot2' 'boot3' 'stopped'
    unseen 'joined'

    step remove
    run 'pulumi stack rm local --yes --preserve-config'
    expect 'removed'
}

main "$@"
