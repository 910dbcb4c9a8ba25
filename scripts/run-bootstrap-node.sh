#!/bin/sh
# Runs a bootstrap node in the foreground: a way into a network, a relay, a witness of names.
#
#   scripts/run-bootstrap-node.sh [OPTION]...
#
# With the settings of config/bootstrap.toml, unless --config FILE says otherwise. All else goes to
# `wws-bootstrap` (see `wws-bootstrap --help`). Once it listens, on port 9000, TCP and UDP, it prints its
# PeerId and the records for DNS. Its key is ./bootstrap-identity.key: who has that file is this node.
#
#   scripts/run-bootstrap-node.sh --network 'example.org#<publisher key>'
set -eu

main() {
    root=$(cd "$(dirname "$0")/.." && pwd)
    for word in "$@"; do
        case $word in
        --help) usage && exit 0 ;;
        --config | --config=*) run "$@" ;;
        esac
    done
    run --config "$root/config/bootstrap.toml" "$@"
}

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

# The installed program, else that of the checkout.
run() {
    if command -v wws-bootstrap >/dev/null; then
        exec wws-bootstrap "$@"
    elif [ -x "$root/.venv/bin/wws-bootstrap" ]; then
        exec "$root/.venv/bin/wws-bootstrap" "$@"
    fi
    echo "run-bootstrap-node.sh: no wws-bootstrap on the PATH; in a checkout 'make demo' makes one" >&2
    exit 10
}

main "$@"
