#!/bin/sh
# Somebody presses: what to look at, whom to keep out, on all nodes, and how to let them in again.
# world: hosts
# shellcheck disable=SC2016 # what is typed stands in single quotes
set -eu
# shellcheck source=drills/drill.sh
. "$(dirname "$0")/drill.sh"

main() {
    step look
    run 'wws-ops status'
    run "wws-ops exec -- 'curl -s 127.0.0.1:9371/metrics | grep -E \"^wws_(bans|kept_bytes(_bound)?|refusal_lines_suppressed_total) \"'"
    expect 'eu: wws_bans' 'ap: wws_kept_bytes_bound'

    step who
    run "wws-ops logs --since 1h --lines 10000 | grep -oE 'refused ip=[^ ]+|banned .*subject=[^ ]+' | sort | uniq -c | sort -rn | head"

    step deny
    run "wws-ops deny add 100.64.7.0/24 --reason 'flood'"
    expect 'changed'
    run 'wws-ops deny list'
    expect '100.64.7.0/24' 'all'
    run 'wws-ops logs eu --lines 50 | grep -o "reloaded changed.*" | tail -n 1'
    expect 'deny.prefixes'

    step ours
    refused 7 'wws-ops deny add 203.0.113.0/24'
    expect 'the node ap'

    step firewall
    run 'wws-ops logs eu --lines 10000 > eu.log'
    run "fail2ban-regex eu.log $(cd "$(dirname "$0")/.." && pwd)/packaging/fail2ban/filter.d/wws.conf | grep -E '^(Failregex|Lines)'"
    expect 'Failregex: 0 total'

    step undo
    run 'wws-ops deny remove 100.64.7.0/24'
    run 'wws-ops deny list'
    expect 'Nobody'
}

main "$@"
