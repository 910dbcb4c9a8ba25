#!/bin/sh
# Verifies all that can be verified of a release that lies in a folder: hashes, the chain of signatures up to a
# root key, and each form of signature with every tool that is here, not with our own code alone.
#
#   scripts/release/verify.sh --files DIR --version V [--roots FILE] [--channel-only]
#
# FILE has the root keys, by default packaging/trust/roots: of a checkout that you trust, not of the release. With
# --channel-only DIR holds channel and release-keys, and nothing of a release: that they are signed, and hold still.
# Prints what was checked by what. Exit status: 8 something does not hold, 3 the libraries for it are missing, 2 wrong
# usage.
set -eu

main() {
    root=$(cd "$(dirname "$0")/../.." && pwd)
    files='' version='' roots=$root/packaging/trust/roots only=''
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage && exit 0 ;;
        --channel-only)
            only=yes
            shift
            continue
            ;;
        --files) files=${2:?} ;;
        --version) version=${2:?} ;;
        --roots) roots=${2:?} ;;
        *) wrong "what is $1?" ;;
        esac
        shift 2
    done
    for given in "$files" "$version"; do
        [ -n "$given" ] || wrong "an option is missing"
    done
    [ -f "$roots" ] || failed "there is no $roots: see the key ceremony in docs/releases.md"
    folder=$(mktemp -d "${TMPDIR:-/tmp}/wws-verify.XXXXXX")
    trap 'rm -rf "$folder"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' HUP TERM

    keys_of <"$roots" >"$folder/roots"
    # Who was revoked counts no more, wherever else he is listed.
    sed -n 's/^revoked //p' "$files/release-keys" >"$folder/revoked"
    sed -n 's/^key //p' "$files/release-keys" | grep -vxF -f "$folder/revoked" >"$folder/release-keys" || :
    statement release-keys wws-release-keys "$folder/roots"
    holds release-keys
    if [ -n "$only" ] || [ -f "$files/channel" ]; then
        statement channel wws-channel "$folder/release-keys"
        holds channel
        grep -qx "version $version" "$files/channel" || failed "the channel does not say $version"
    fi
    [ -z "$only" ] || return 0

    (cd "$files" && sha256sum --check --quiet --strict SHA256SUMS) || failed "a file is not what SHA256SUMS says"
    echo "SHA256SUMS fits all its files (sha256sum)"
    statement SHA256SUMS wws-release "$folder/release-keys"
    set --
    while read -r line; do set -- "$@" --root-key "$line"; done <"$folder/roots"
    "$root/scripts/python.sh" "$root/packaging/sign.py" check "$files" --version "$version" "$@" || {
        [ $? -ne 3 ] || exit 3 # nothing was checked: the libraries are missing
        failed "the chain of signatures does not hold"
    }
    echo "root key, release-keys, SHA256SUMS, channel, MANIFESTs (packaging/sign.py)"
}

holds() {
    expires=$(sed -n 's/^expires //p' "$files/$1")
    [ "${expires:-0}" -gt "$(date -u +%Y%m%d%H%M%S)" ] || failed "$1 has lapsed: $expires"
}

# One signed file, with each tool of others that is here: NAME NAMESPACE KEYS.
statement() {
    name=$1 namespace=$2 keys=$3 checked=''
    if command -v ssh-keygen >/dev/null; then
        sed 's/^/release@wws /' "$keys" >"$folder/allowed"
        ssh-keygen -Y verify -f "$folder/allowed" -I release@wws -n "$namespace" -s "$files/$name.sshsig" \
            <"$files/$name" >/dev/null || failed "$name.sshsig does not hold (ssh-keygen)"
        checked="$checked $name.sshsig (ssh-keygen)"
    fi
    if command -v openssl >/dev/null && openssl pkeyutl -help 2>&1 | grep -q -e -rawin; then
        any "$keys" by_openssl || failed "$name.sig does not hold (openssl)"
        checked="$checked $name.sig (openssl)"
    fi
    if command -v minisign >/dev/null; then
        any "$keys" by_minisign || failed "$name.minisig does not hold (minisign)"
        checked="$checked $name.minisig (minisign)"
    fi
    [ -n "$checked" ] || failed "there is neither ssh-keygen nor openssl 3 nor minisign here"
    echo "${checked# }"
}

any() {
    while read -r _ blob; do
        "$2" "$blob" && return
    done <"$1"
    return 1
}

# The 32 bytes of the key are the last of the blob; an Ed25519 key in DER is these 12 before them (RFC 8410).
by_openssl() {
    {
        printf '\060\052\060\005\006\003\053\145\160\003\041\000'
        printf '%s' "$1" | base64 -d | tail -c 32
    } >"$folder/key.der"
    openssl pkeyutl -verify -rawin -pubin -keyform DER -inkey "$folder/key.der" \
        -in "$files/$name" -sigfile "$files/$name.sig" >/dev/null 2>&1
}

# A key of minisign: "Ed", the id (our first 8 bytes), the key.
by_minisign() {
    printf '%s' "$1" | base64 -d | tail -c 32 >"$folder/raw"
    public=$({
        printf Ed
        head -c 8 "$folder/raw"
        cat "$folder/raw"
    } | base64 | tr -d '\n')
    minisign -V -q -P "$public" -m "$files/$name" -x "$files/$name.minisig" >/dev/null 2>&1
}

keys_of() { sed -n 's/^\(ssh-ed25519 [A-Za-z0-9+/=]*\).*$/\1/p'; }

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

failed() {
    echo "verify.sh: $1" >&2
    exit 8
}

wrong() {
    echo "verify.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
