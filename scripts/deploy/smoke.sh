#!/bin/sh
# Installs a published release as a stranger would, joins the network with it, and leaves nothing behind.
#
#   scripts/deploy/smoke.sh --installer URL|FILE --version V --inventory FILE [--like FILE] [--node HOST] [-- OPTIONS]
#
#   --installer   the published install.sh; a URL is fetched with curl
#   --like        the same script, out of the release that was verified: no other is run. This machine has secrets
#   --inventory   inventory.json of the stack: which network, and where its nodes are
#   --node        join through this node alone and be answered by it: a canary, before the others follow
#   OPTIONS       further ones of install.sh, such as --from URL or --require-signature
#
# Home, installation and node lie in a folder of their own. Exit status: 1 something is not well, 2 wrong usage.
set -eu

main() {
    installer='' version='' inventory='' node='' like=''
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage && exit 0 ;;
        --installer) installer=${2:?} ;;
        --like) like=${2:?} ;;
        --version) version=${2:?} ;;
        --inventory) inventory=${2:?} ;;
        --node) node=${2:?} ;;
        --) shift && break ;;
        *) wrong "what is $1?" ;;
        esac
        shift 2
    done
    for given in "$installer" "$version" "$inventory"; do
        [ -n "$given" ] || wrong "an option is missing"
    done
    [ -f "$inventory" ] || wrong "there is no $inventory"

    folder=$(mktemp -d "${TMPDIR:-/tmp}/wws-smoke.XXXXXX")
    wws=$folder/prefix/bin/wws
    trap end EXIT
    trap 'exit 130' INT TERM
    mkdir -m 700 "$folder/home" "$folder/run"
    HOME=$folder/home XDG_RUNTIME_DIR=$folder/run
    export HOME XDG_RUNTIME_DIR
    unset WWS_HOME WWS_NODE WWS_NAME WWS_AGENT_NAME WWS_NETWORK_LISTEN WWS_IDENTITY_PATH 2>/dev/null || :

    say "install"
    case $installer in
    http://* | https://*) curl --silent --show-error --fail --location --max-time 120 --retry 3 \
        --output "$folder/install.sh" "$installer" ;;
    *) cp "$installer" "$folder/install.sh" ;;
    esac
    [ -z "$like" ] || cmp -s "$folder/install.sh" "$like" || failed "$installer is not the install.sh of the release"
    sh "$folder/install.sh" --version "$version" --prefix "$folder/prefix" --yes --no-service --no-modify-path "$@"
    said=$("$wws" --version)
    case " $said " in
    *" $version "*) ;;
    *) failed "it says it is $said, not $version" ;;
    esac
    "$wws" self verify

    say "join"
    # The three lines: the network, its DNS servers, and for --node an address of that one.
    network=$(ask network) servers=$(ask dns_servers) addresses=$(ask addresses) peer=$(ask peer_id)
    name=smoke-$(od -An -N6 -tx1 /dev/urandom | tr -d ' \n')
    set -- --network "$network" --name "$name" --rpc "" --http "" --timeout 60
    for server in $servers; do set -- "$@" --dns-server "$server"; done
    for address in $addresses; do set -- "$@" --bootstrap "$address"; done
    "$wws" join "$@"
    say "ping"
    if [ -n "$peer" ]; then "$wws" ping "$peer" -c 2; fi
    "$wws" status
    say "leave"
    "$wws" leave --release-name
    sh "$folder/prefix/share/wws/current/share/install.sh" --uninstall --purge --prefix "$folder/prefix" --yes
    left=$(find "$folder/prefix" ! -type d 2>/dev/null | head -n 5)
    [ -z "$left" ] || failed "the uninstaller left: $left"
    say "all is well with $version${node:+ at $node}"
}

# One thing out of the inventory, words separated by blanks.
ask() {
    python3 - "$inventory" "$node" "$1" <<'END'
import json, sys
path, node, what = sys.argv[1:]
known = json.load(open(path, encoding="utf-8"))
hosts = [host for host in known["hosts"] if host["name"] == node]
if node and not hosts:
    sys.exit(f"smoke.sh: there is no node {node} in {path}")
print(*{
    "network": lambda: [known["network"]],
    "dns_servers": lambda: known["dns_servers"],
    "addresses": lambda: hosts[0]["multiaddrs"] if hosts else [],
    "peer_id": lambda: [hosts[0]["peer_id"] if hosts else known["hosts"][0]["peer_id"]],
}[what]())
END
}

end() {
    status=$?
    if [ -x "$wws" ]; then "$wws" leave >/dev/null 2>&1 || :; fi
    rm -rf "$folder"
    exit "$status"
}

say() { printf '== %s\n' "$1"; }

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

failed() {
    echo "smoke.sh: $1" >&2
    exit 1
}

wrong() {
    echo "smoke.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
