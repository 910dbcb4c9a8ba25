#!/bin/sh
# A whole roll-out, as deploy.yml does it, on this machine: fetch, preview, canary, smoke test, the others, the stack and
# DNS, smoke test, network file. What fails is taken back by itself.
#
#   scripts/deploy/roll-out.sh --stack NAME --releases URL --version V --folder DIR [options] [-- OPTIONS OF verify]
#
#   --roots FILE      root keys (packaging/trust/roots)
#   --infra DIR       the stack's program (infra)
#   --canary HOST     which node first (the first of the inventory)
#   --arch ARCH       of the hosts (x86_64)
#   --set NAME=VALUE  a variable of the role, such as wws_gate_hold=120
#   --yes             do not ask after the preview
#
# DIR is new, and keeps the release, what is known of the roll-out, and network.json in the end. Options of `wws-dns
# verify` are resolvers, mostly. Exit status: 1 it failed and was taken back, or says what was not; 2 wrong usage.
set -eu

main() {
    here=$(cd "$(dirname "$0")" && pwd)
    root=$(cd "$here/../.." && pwd)
    stack='' releases='' version='' folder='' roots=$root/packaging/trust/roots infra=$root/infra canary='' arch=x86_64
    set='' yes=''
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage && exit 0 ;;
        --yes)
            yes=yes
            shift
            continue
            ;;
        --stack) stack=${2:?} ;;
        --releases) releases=${2:?} ;;
        --version) version=${2:?} ;;
        --folder) folder=${2:?} ;;
        --roots) roots=${2:?} ;;
        --infra) infra=${2:?} ;;
        --canary) canary=${2:?} ;;
        --arch) arch=${2:?} ;;
        --set) set=${2:?} ;;
        --) shift && break ;;
        *) wrong "what is $1?" ;;
        esac
        shift 2
    done
    for given in "$stack" "$releases" "$version" "$folder"; do
        [ -n "$given" ] || wrong "an option is missing"
    done
    (umask 077 && mkdir -p "$folder")
    [ -z "$(ls -A "$folder")" ] || wrong "$folder is not empty: a roll-out has a folder of its own"
    folder=$(cd "$folder" && pwd)

    part "fetch and verify"
    "$root/scripts/release/fetch.sh" --releases "$releases" --version "$version" --roots "$roots" --out "$folder/release"
    part "begin"
    roll begin --stack "$stack" --infra "$infra" --files "$folder/release" --version "$version" --arch "$arch" \
        ${canary:+--canary "$canary"} ${set:+--set "$set"}
    part "preview"
    roll preview
    if [ -z "$yes" ]; then
        printf 'Roll %s out? [y/N] ' "$version"
        read -r answer
        case $answer in [yY]*) ;; *) exit 1 ;; esac
    fi
    if ! forth "$@"; then
        part "back"
        roll back
        echo "roll-out.sh: $version was taken back" >&2
        exit 1
    fi
    part "network"
    roll network --out "$folder/network.json"
}

# Each step only where the one before it is well: `set -e` does not hold in a condition.
forth() {
    first=$(sed -n 's/^ *"canary": "\(.*\)",*$/\1/p' "$folder/deploy.json")
    part "canary" && roll canary || return
    if [ -n "$first" ]; then part "smoke test through $first" && smoke --node "$first" || return; fi
    part "the others" && roll rest || return
    part "stack and DNS" && roll up || return
    part "served" && roll dns -- "$@" || return
    part "smoke test through DNS" && smoke || return
}

roll() {
    step=$1
    shift
    "$here/deploy.py" "$step" --folder "$folder" "$@"
}

smoke() {
    "$here/smoke.sh" --installer "$releases/download/v$version/install.sh" --version "$version" \
        --like "$folder/release/install.sh" \
        --inventory "$folder/inventory.json" "$@" -- --from "$releases" --require-signature
}

part() { echo "=== $1"; }

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

wrong() {
    echo "roll-out.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
