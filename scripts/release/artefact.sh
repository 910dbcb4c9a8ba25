#!/bin/sh
# Builds the self-contained artefact of this machine's platform for a release.
#
#   scripts/release/artefact.sh --platform linux-x86_64 --version V --stamps DIR --out DIR [--this-glibc]
#
# DIR of the stamps: as stamps.sh made it. On Linux it is built against an old glibc (packaging/frozen, as root: by
# sudo where one is not), and the build fails when a file needs a newer one than install.sh promises; `--this-glibc`
# builds with what is here instead: for trials on this machine. Exit status: 1 it was not built, 2 wrong usage.
set -eu

main() {
    platform='' version='' stamps='' out='' this_glibc=''
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage && exit 0 ;;
        --this-glibc)
            this_glibc=yes
            shift
            continue
            ;;
        --platform) platform=${2:?} ;;
        --version) version=${2:?} ;;
        --stamps) stamps=${2:?} ;;
        --out) out=${2:?} ;;
        *) wrong "what is $1?" ;;
        esac
        shift 2
    done
    for given in "$platform" "$version" "$stamps" "$out"; do
        [ -n "$given" ] || wrong "an option is missing"
    done
    here=$(this_platform)
    [ "$platform" = "$here" ] || failed "this machine builds $here, not $platform"
    root=$(cd "$(dirname "$0")/../.." && pwd)
    mkdir -p "$out"
    set -- --out "$out" --version "$version" --stamp "$stamps/stamp.json" --installer "$stamps/install.sh"
    case $platform$this_glibc in
    linux-*yes | macos-*) "$root/scripts/python.sh" "$root/packaging/selfcontained.py" "$@" ;;
    *)
        have mmdebstrap || as_root apt-get install -qq -y --no-install-recommends mmdebstrap debian-archive-keyring
        as_root env WWS_PYTHON_OPTIMIZED=yes "$root/packaging/frozen/old-glibc.sh" "$@" \
            --glibc-floor "$("$root/scripts/release/stamps.sh" --glibc)"
        ;;
    esac
    for end in tar.gz MANIFEST; do
        [ -f "$out/wws-$version-$platform.$end" ] || failed "there is no wws-$version-$platform.$end"
    done
}

have() { command -v "$1" >/dev/null; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo --set-home PATH="$PATH" "$@"
    fi
}

this_platform() {
    case $(uname -s) in
    Linux) system=linux ;;
    Darwin) system=macos ;;
    *) failed "there are no artefacts for $(uname -s)" ;;
    esac
    case $(uname -m) in
    x86_64 | amd64) echo "$system-x86_64" ;;
    aarch64 | arm64) echo "$system-aarch64" ;;
    *) failed "there are no artefacts for $(uname -m)" ;;
    esac
}

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

failed() {
    echo "artefact.sh: $1" >&2
    exit 1
}

wrong() {
    echo "artefact.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
