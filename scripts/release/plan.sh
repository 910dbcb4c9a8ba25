#!/bin/sh
# The beginning of a release: may this tag become one, and what is put into its builds?
#
#   scripts/release/plan.sh TAG --releases URL --out DIR [--rehearsal]
#
# DIR gets stamp.json and install.sh. A rehearsal needs no date in CHANGELOG.md, and where the project has no root
# keys it makes one that nobody keeps: what it builds is never published. Prints what check-tag.sh prints.
set -eu

main() {
    here=$(cd "$(dirname "$0")" && pwd)
    tag='' releases='' out='' rehearsal=''
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage && exit 0 ;;
        --rehearsal)
            rehearsal=--rehearsal
            shift
            continue
            ;;
        --releases) releases=${2:?} ;;
        --out) out=${2:?} ;;
        -*) wrong "what is $1?" ;;
        *)
            tag=$1
            shift
            continue
            ;;
        esac
        shift 2
    done
    for given in "$tag" "$releases" "$out"; do
        [ -n "$given" ] || wrong "something is missing"
    done
    said=$("$here/check-tag.sh" "$tag" ${rehearsal:+"$rehearsal"})
    printf '%s\n' "$said"
    mkdir -p "$out"
    roots=$here/../../packaging/trust/roots
    if [ -n "$rehearsal" ] && ! [ -f "$roots" ]; then
        folder=$(mktemp -d "${TMPDIR:-/tmp}/wws-plan.XXXXXX")
        trap 'rm -rf "$folder"' EXIT
        trap 'exit 130' INT
        trap 'exit 143' HUP TERM
        roots=$folder/roots
        "$here/../python.sh" "$here/../../packaging/sign.py" new-root "$folder/root.key" >"$roots"
        echo "plan.sh: a root key that nobody keeps: this is a rehearsal" >&2
    fi
    "$here/stamps.sh" --version "${tag#v}" --releases "$releases" --roots "$roots" --out "$out" >&2
}

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

wrong() {
    echo "plan.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
