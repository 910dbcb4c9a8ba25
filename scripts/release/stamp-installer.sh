#!/bin/sh
# Writes the install.sh of a release: where releases are, whose they are, and which glibc they need, filled in.
#
#   scripts/release/stamp-installer.sh --releases URL --roots FILE --glibc 2.31 --out FILE
#
# FILE holds the root keys, one `ssh-ed25519 AAAA…` a line, a comment may follow (packaging/trust/roots). Exactly three lines of the
# install.sh of the sources are replaced. Exit status: 1 it cannot be stamped, 2 wrong usage.
set -eu

main() {
    releases='' roots='' glibc='' out=''
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage && exit 0 ;;
        --releases) releases=${2:?} ;;
        --roots) roots=${2:?} ;;
        --glibc) glibc=${2:?} ;;
        --out) out=${2:?} ;;
        *) wrong "what is $1?" ;;
        esac
        shift 2
    done
    for given in "$releases" "$roots" "$glibc" "$out"; do
        [ -n "$given" ] || wrong "an option is missing"
    done
    source=$(dirname "$0")/../../install.sh

    # What is filled in stands in single quotes; none of it may end them.
    is_only "$releases" 'https?://[][A-Za-z0-9.:_~/-]+[A-Za-z0-9_~-]' || failed "'$releases' is no URL of releases"
    is_only "$glibc" '2\.[0-9]+' || failed "'$glibc' is no version of glibc"
    [ -f "$roots" ] || failed "there is no $roots: see the key ceremony in docs/releases.md"
    keys=''
    while read -r kind key comment || [ -n "$kind" ]; do
        case $kind in '' | '#'*) continue ;; esac
        is_only "$kind $key" 'ssh-ed25519 [A-Za-z0-9+/]{68}' ||
            failed "$roots: '$kind $key $comment' is no key like 'ssh-ed25519 AAAA…'"
        keys="$keys${keys:+ }$kind $key"
    done <"$roots"
    [ -n "$keys" ] || failed "$roots has no key"

    for name in RELEASES ROOTS GLIBC; do
        [ "$(grep -cx "$name=''" "$source")" = 1 ] || failed "install.sh has not exactly one line $name=''"
    done
    mkdir -p "$(dirname "$out")"
    awk -v releases="RELEASES='$releases'" -v roots="ROOTS='$keys'" -v glibc="GLIBC='$glibc'" '
        $0 == "RELEASES='\'''\''" { $0 = releases }
        $0 == "ROOTS='\'''\''" { $0 = roots }
        $0 == "GLIBC='\'''\''" { $0 = glibc }
        { print }' "$source" >"$out.new"
    chmod 755 "$out.new"
    mv "$out.new" "$out"
    echo "$out"
}

is_only() { printf '%s\n' "$1" | grep -Eqx "$2"; }

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

failed() {
    echo "stamp-installer.sh: $1" >&2
    exit 1
}

wrong() {
    echo "stamp-installer.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
