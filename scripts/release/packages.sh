#!/bin/sh
# Builds what a release has beside the artefacts: wheel, source distribution, SBOM, and the image for containers.
#
#   scripts/release/packages.sh --version V --stamps DIR --artefact ARCHIVE --out DIR [--without-container]
#
# DIR of the stamps: as stamps.sh made it. The image holds ARCHIVE, the artefact for Linux; it is made without an
# engine, out of Debian's packages (mmdebstrap; installed with sudo where it is missing). Exit status: 1 something was
# not built, 2 wrong usage.
set -eu

main() {
    version='' stamps='' artefact='' out='' container=yes
    root=$(cd "$(dirname "$0")/../.." && pwd)
    python=$root/scripts/python.sh
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage && exit 0 ;;
        --without-container)
            container=''
            shift
            continue
            ;;
        --version) version=${2:?} ;;
        --stamps) stamps=${2:?} ;;
        --artefact) artefact=${2:?} ;;
        --out) out=${2:?} ;;
        *) wrong "what is $1?" ;;
        esac
        shift 2
    done
    for given in "$version" "$stamps" "$artefact" "$out"; do
        [ -n "$given" ] || wrong "an option is missing"
    done
    mkdir -p "$out"
    "$python" "$root/packaging/packages.py" --out "$out" --version "$version" --stamp "$stamps/stamp.json"
    "$python" "$root/packaging/sbom.py" --version "$version" --artefact "$artefact" \
        --out "$out/wws-$version.cdx.json"
    if [ -n "$container" ]; then
        have mmdebstrap || as_root apt-get install -qq -y --no-install-recommends mmdebstrap debian-archive-keyring
        "$python" "$root/packaging/container/image.py" --artefact "$artefact" \
            --commit "$(git -C "$root" rev-parse HEAD)" --out "$out/wws-$version-container.tar"
    fi
}

have() { command -v "$1" >/dev/null; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo --set-home PATH="$PATH" "$@"
    fi
}

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

wrong() {
    echo "packages.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
