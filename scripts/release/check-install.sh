#!/bin/sh
# Installs an assembled release on this machine from its very files, before anybody has signed it: with keys that
# are made here and thrown away. Runs what was installed, and removes it.
#
#   scripts/release/check-install.sh --files DIR --version V
#
# Exit status: 1 something is not well, 2 wrong usage.
set -eu

main() {
    files='' version=''
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage && exit 0 ;;
        --files) files=${2:?} ;;
        --version) version=${2:?} ;;
        *) wrong "what is $1?" ;;
        esac
        shift 2
    done
    for given in "$files" "$version"; do
        [ -n "$given" ] || wrong "an option is missing"
    done
    root=$(cd "$(dirname "$0")/../.." && pwd)
    python=$root/scripts/python.sh
    folder=$(mktemp -d "${TMPDIR:-/tmp}/wws-check.XXXXXX")
    trap 'rm -rf "$folder"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' HUP TERM
    mkdir -m 700 "$folder/home" "$folder/run" "$folder/release"

    say "sign with throw-away keys"
    for file in "$files"/*; do
        case ${file##*/} in
        release-keys* | channel* | SHA256SUMS*) ;;
        *) cp "$file" "$folder/release/" ;;
        esac
    done
    "$python" "$root/packaging/sign.py" new-root "$folder/root.key" >"$folder/root"
    "$python" "$root/packaging/sign.py" new-key "$folder/release.key" >"$folder/key"
    "$python" "$root/packaging/sign.py" release-keys --root "$folder/root.key" --out "$folder/release" \
        --key "$(cat "$folder/key")"
    "$python" "$root/packaging/sign.py" sums --key "$folder/release.key" "$folder/release"
    "$python" "$root/packaging/sign.py" channel --key "$folder/release.key" --out "$folder/release" \
        --channel stable --version "$version"

    say "install"
    HOME=$folder/home XDG_RUNTIME_DIR=$folder/run
    export HOME XDG_RUNTIME_DIR
    sh "$folder/release/install.sh" --offline "$folder/release" --root-key "$(cat "$folder/root")" \
        --require-signature --version "$version" --prefix "$folder/prefix" --yes --no-service --no-modify-path
    said=$("$folder/prefix/bin/wws" --version)
    case " $said " in
    *" $version "*) ;;
    *) failed "it says it is $said, not $version" ;;
    esac
    "$folder/prefix/bin/wws" self verify
    "$folder/prefix/bin/wws" id
    for program in wws-connector wws-bootstrap; do "$folder/prefix/bin/$program" --version; done

    say "remove"
    sh "$folder/prefix/share/wws/current/share/install.sh" --uninstall --purge --prefix "$folder/prefix" --yes
    left=$(find "$folder/prefix" ! -type d 2>/dev/null | head -n 5)
    [ -z "$left" ] || failed "the uninstaller left: $left"
    say "all is well with $version here"
}

say() { printf '== %s\n' "$1"; }

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

failed() {
    echo "check-install.sh: $1" >&2
    exit 1
}

wrong() {
    echo "check-install.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
