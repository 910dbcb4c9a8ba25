#!/bin/sh
# Fetches every file of a published release as anybody would, and verifies them.
#
#   scripts/release/fetch.sh --releases URL --version V --out DIR [--roots FILE]
#
# Nothing is left in DIR when it does not verify. Exit status: 8 as of verify.sh, 9 it could not be fetched,
# 2 wrong usage.
set -eu

main() {
    here=$(cd "$(dirname "$0")" && pwd)
    releases='' version='' out='' roots=$here/../../packaging/trust/roots
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage && exit 0 ;;
        --releases) releases=${2:?} ;;
        --version) version=${2:?} ;;
        --out) out=${2:?} ;;
        --roots) roots=${2:?} ;;
        *) wrong "what is $1?" ;;
        esac
        shift 2
    done
    for given in "$releases" "$version" "$out"; do
        [ -n "$given" ] || wrong "an option is missing"
    done
    mkdir -p "$out"
    [ -z "$(ls -A "$out")" ] || wrong "$out is not empty"
    trap '[ -n "$done" ] || rm -rf "$out"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' HUP TERM
    done=''
    for name in SHA256SUMS release-keys; do
        for end in '' .sig .sshsig .minisig; do get "$name$end"; done
    done
    # What is not signed yet names files here: their names are looked at before anything is done with them.
    if grep -Evq '^[0-9a-f]{64}  [A-Za-z0-9][A-Za-z0-9._+-]*$' "$out/SHA256SUMS"; then
        failed 8 "SHA256SUMS has a line that is none"
    fi
    cut -c 67- "$out/SHA256SUMS" | while read -r name; do get "$name"; done
    "$here/verify.sh" --files "$out" --version "$version" --roots "$roots"
    done=yes
}

get() {
    curl --silent --show-error --fail --location --max-time 900 --retry 3 --max-filesize 1073741824 \
        --output "$out/$1" "$releases/download/v$version/$1" || failed 9 "$1 could not be fetched"
}

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

failed() {
    echo "fetch.sh: $2" >&2
    exit "$1"
}

wrong() {
    echo "fetch.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
