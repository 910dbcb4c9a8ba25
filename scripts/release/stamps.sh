#!/bin/sh
# Makes both stamps of a release, once for all platforms: stamp.json for the builds, and install.sh.
#
#   scripts/release/stamps.sh --version V --releases URL --out DIR [--roots FILE] [--network FILE] [--trial]
#
# FILE: by default packaging/trust/roots and packaging/network.json. The network is checked before it is taken; of a
# trial it may have addresses that nobody else reaches. Prints what it made.
set -eu

# The oldest C library that the artefacts for Linux run with: Debian 11 and Ubuntu 20.04 have it. The build fails
# when a file needs a newer one.
GLIBC=2.31

main() {
    root=$(cd "$(dirname "$0")/../.." && pwd)
    version='' releases='' out='' roots=$root/packaging/trust/roots network=$root/packaging/network.json trial=''
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage && exit 0 ;;
        --glibc) echo "$GLIBC" && exit 0 ;;
        --trial)
            trial=--allow-unreachable
            shift
            continue
            ;;
        --version) version=${2:?} ;;
        --releases) releases=${2:?} ;;
        --out) out=${2:?} ;;
        --roots) roots=${2:?} ;;
        --network) network=${2:?} ;;
        *) wrong "what is $1?" ;;
        esac
        shift 2
    done
    for given in "$version" "$releases" "$out"; do
        [ -n "$given" ] || wrong "an option is missing"
    done
    if [ -f "$network" ]; then
        "$root/scripts/python.sh" "$root/packaging/check_network.py" "$network" ${trial:+"$trial"}
    fi
    "$root/scripts/python.sh" "$root/scripts/release/stamp.py" --version "$version" \
        --commit "$(git -C "$root" rev-parse HEAD)" \
        --releases "$releases" --roots "$roots" --network "$network" --out "$out/stamp.json"
    "$root/scripts/release/stamp-installer.sh" --releases "$releases" --roots "$roots" --glibc "$GLIBC" --out "$out/install.sh"
    echo "$out/stamp.json"
}

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

wrong() {
    echo "stamps.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
