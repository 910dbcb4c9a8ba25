#!/bin/sh
# Lays the files of a release out as they are served, so that any web server becomes a mirror.
#
#   scripts/release/mirror.sh --files DIR --version V --channel NAME --out DIR
#
#   OUT/download/v<version>/FILE          every file of the release
#   OUT/download/channel-<name>/FILE      channel, release-keys (each with its signatures) and install.sh
#
# What is there of another version stays. The channel is put in place file by file, each whole or not at all.
set -eu

main() {
    files='' version='' channel='' out=''
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage && exit 0 ;;
        --files) files=${2:?} ;;
        --version) version=${2:?} ;;
        --channel) channel=${2:?} ;;
        --out) out=${2:?} ;;
        *) wrong "what is $1?" ;;
        esac
        shift 2
    done
    for given in "$files" "$version" "$channel" "$out"; do
        [ -n "$given" ] || wrong "an option is missing"
    done
    [ -f "$files/SHA256SUMS" ] || wrong "$files is no release: it has no SHA256SUMS"

    release=$out/download/v$version
    moving=$out/download/channel-$channel
    mkdir -p "$release" "$moving"
    for file in "$files"/*; do
        case ${file##*/} in
        channel | channel.*) put "$file" "$moving" ;;
        release-keys | release-keys.* | install.sh)
            put "$file" "$release"
            put "$file" "$moving"
            ;;
        *) put "$file" "$release" ;;
        esac
    done
    echo "$out"
}

put() {
    cp "$1" "$2/.${1##*/}.new"
    mv "$2/.${1##*/}.new" "$2/${1##*/}"
}

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

wrong() {
    echo "mirror.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
