#!/bin/sh
# Puts the files of a release into one flat folder, all of them and nothing else, with their hashes.
#
#   scripts/release/assemble.sh --version V --platforms "linux-x86_64 macos-aarch64" --out DIR [--trust DIR]
#                               [--without-container] FROM…
#
# FROM: folders with what was built; stamps.sh's folder is one of them (install.sh). DIR must be empty or absent.
# The trust folder (packaging/trust) has release-keys with its signatures; without it the release gets none yet.
# SHA256SUMS is written, and not signed: sign.sh does that. Exit status: 1 something is missing, 2 wrong usage.
set -eu

main() {
    version='' platforms='' out='' container=yes
    root=$(cd "$(dirname "$0")/../.." && pwd)
    trust=$root/packaging/trust
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage && exit 0 ;;
        --without-container)
            container=''
            shift
            continue
            ;;
        --version) version=${2:?} ;;
        --platforms) platforms=${2:?} ;;
        --out) out=${2:?} ;;
        --trust) trust=${2:?} ;;
        -*) wrong "what is $1?" ;;
        *) break ;;
        esac
        shift 2
    done
    for given in "$version" "$platforms" "$out" "${1:-}"; do
        [ -n "$given" ] || wrong "something is missing"
    done
    mkdir -p "$out"
    [ -z "$(ls -A "$out")" ] || failed "$out is not empty"

    for platform in $platforms; do
        take "wws-$version-$platform.tar.gz" "$@"
        take "wws-$version-$platform.MANIFEST" "$@"
        tar -xOzf "$out/wws-$version-$platform.tar.gz" "wws-$version/MANIFEST" |
            cmp -s - "$out/wws-$version-$platform.MANIFEST" || failed "the MANIFEST of $platform is another one"
    done
    take "wws-$version-py3-none-any.whl" "$@"
    take "wws-$version.tar.gz" "$@"
    take "wws-$version.cdx.json" "$@"
    if [ -n "$container" ]; then take "wws-$version-container.tar" "$@"; fi
    take install.sh "$@"
    if [ -f "$trust/release-keys" ]; then
        for end in '' .sig .sshsig .minisig; do cp "$trust/release-keys$end" "$out/release-keys$end"; done
    else
        echo "assemble.sh: there is no $trust/release-keys: this release has none yet" >&2
    fi
    "$root/scripts/python.sh" --plain "$root/packaging/release_json.py" --files "$out" --version "$version" \
        --stamp "$(find_in stamp.json "$@")" --out "$out/release.json"
    sums
    echo "$out/SHA256SUMS"
}

take() {
    name=$1
    shift
    cp "$(find_in "$name" "$@")" "$out/$name"
}

# The one file of this name below these folders.
find_in() {
    wanted=$1
    shift
    found=$(find "$@" -type f -name "$wanted" | sort)
    case $found in
    '') failed "there is no $wanted in $*" ;;
    *"
"*) failed "there are several: $found" ;;
    esac
    printf '%s\n' "$found"
}

# Of everything but what is signed by itself.
sums() (
    cd "$out"
    LC_ALL=C
    export LC_ALL
    for file in *; do
        case $file in
        SHA256SUMS* | release-keys* | channel*) ;;
        *) sha256sum "$file" ;;
        esac
    done >.SHA256SUMS
    mv .SHA256SUMS SHA256SUMS
)

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

failed() {
    echo "assemble.sh: $1" >&2
    exit 1
}

wrong() {
    echo "assemble.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
