#!/bin/sh
# The key of a node is stolen: the node stops, the others deny the key, a new one takes its place in the list.
# world: hosts
# shellcheck disable=SC2016 # what is typed stands in single quotes
set -eu
# shellcheck source=drills/drill.sh
. "$(dirname "$0")/drill.sh"

main() {
    step stop
    run 'wws-ops logs ap --lines 10000 > ap.log'
    run 'umask 077; test -e age.key || age-keygen -o age.key'
    run 'wws-ops backup ap --dir evidence --recipient "$(age-keygen -y age.key)"'
    run 'wws-ops exec ap --root -- systemctl disable --now wws-bootstrap'

    step deny
    run "stolen=\$(cd infra; pulumi stack output peer_ids --json | sed -n 's/.*\"ap\": *\"\\([^\"]*\\)\".*/\\1/p')"
    run 'wws-ops deny add "$stolen" --stolen --reason "key stolen"'
    expect 'eu' 'us' 'changed'

    step key
    run "wws-ops exec ap --root -- 'mkdir -m 700 /srv/stolen && mv /etc/wws /srv/stolen/etc && mv /var/lib/wws /srv/stolen/home'"
    run 'cd infra'
    run "urn=\$(pulumi stack --show-urns | grep -o 'urn:pulumi:.*:Seed::ap\$')"
    run 'pulumi state unprotect --yes "$urn"'
    run 'pulumi up --yes --skip-preview --suppress-outputs --replace "$urn" > up.log 2>&1 || cat up.log'
    unseen 'error'
    run "sed -n '/^Resources/,\$p' up.log"
    expect 'replaced'
    run 'pulumi stack output inventory --json > ../inventory.json'
    run 'cd ..'

    step follow
    run 'wws-ops exec --root -- wws-control reload'
    eventually ' until ' 'wws-ops status'
    unseen 'different lists'
    run 'wws-ops deny list'
    expect 'eu, us'

    step people
    run '(cd infra; printf %s "$(pulumi stack output network_json)") > network.json'
    run 'grep "$stolen" network.json || echo "the stolen key is not in it"'
    expect 'the stolen key is not in it'
}

main "$@"
