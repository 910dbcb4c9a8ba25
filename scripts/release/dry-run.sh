#!/bin/sh
# Does on this machine what release.yml does, with keys that are made here: builds everything, puts it together, tries
# it, signs, verifies, lays it out as it is served, and installs it from there as anybody would.
#
#   scripts/release/dry-run.sh --out DIR [options]
#
#   --version V           another version than that of the sources
#   --releases URL        what the builds are told of where releases are (https://releases.wws.test)
#   --network FILE        a default network for the builds; it may have addresses that nobody else reaches
#   --keys DIR            keys of an earlier dry run, so that its releases follow each other
#   --artefact DIR        take the artefact from there (wws-V-<platform>.tar.gz and .MANIFEST) in place of building it
#   --old-glibc           build it for old systems, as releases are: takes long, once
#   --without-container   for machines that cannot make one
#
# DIR gets keys/ (0700: root.key, release.key, and trust/ as packaging/trust has it), built/, release/ (the flat files)
# and mirror/ (as a web server serves it). Exit status: 1 or 8 something is not well, 2 wrong usage.
set -eu

main() {
    here=$(cd "$(dirname "$0")" && pwd)
    root=$(cd "$here/../.." && pwd)
    python=$root/scripts/python.sh
    out='' version='' releases=https://releases.wws.test network='' keys='' artefact='' glibc=--this-glibc
    without=''
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage && exit 0 ;;
        --old-glibc | --without-container)
            case $1 in
            --old-glibc) glibc='' ;;
            *) without=--without-container ;;
            esac
            shift
            continue
            ;;
        --out) out=${2:?} ;;
        --version) version=${2:?} ;;
        --releases) releases=${2:?} ;;
        --network) network=${2:?} ;;
        --keys) keys=${2:?} ;;
        --artefact) artefact=${2:?} ;;
        *) wrong "what is $1?" ;;
        esac
        shift 2
    done
    [ -n "$out" ] || wrong "--out is missing"
    mkdir -p "$out"
    out=$(cd "$out" && pwd)
    if [ -z "$version" ]; then
        version=$(sed -n 's/^__version__ = "\([^"]*\)"$/\1/p' "$root/wws/__init__.py")
        part "tag" "$here/check-tag.sh" "v$version" --rehearsal
    fi
    platform=linux-$(uname -m)

    keys=${keys:-$out/keys}
    if ! [ -f "$keys/release.key" ]; then part "keys" make_keys; fi
    part "stamps" "$here/stamps.sh" --version "$version" --releases "$releases" --roots "$keys/trust/roots" \
        --network "${network:-$out/none}" --trial --out "$out/stamps"
    rm -rf "$out/built" "$out/release"
    mkdir -p "$out/built"
    if [ -n "$artefact" ]; then
        part "artefact" take_artefact
    else
        part "artefact" "$here/artefact.sh" --platform "$platform" --version "$version" --stamps "$out/stamps" \
            --out "$out/built/artefact" ${glibc:+"$glibc"}
    fi
    part "packages" "$here/packages.sh" --version "$version" --stamps "$out/stamps" --out "$out/built/packages" \
        --artefact "$out/built/artefact/wws-$version-$platform.tar.gz" ${without:+"$without"}
    part "assemble" "$here/assemble.sh" --version "$version" --platforms "$platform" --out "$out/release" \
        --trust "$keys/trust" ${without:+"$without"} "$out/built" "$out/stamps"
    part "try" "$here/check-install.sh" --files "$out/release" --version "$version"
    part "sign" "$here/sign.sh" --files "$out/release" --version "$version" --channel stable --key "$keys/release.key"
    part "verify" "$here/verify.sh" --files "$out/release" --version "$version" --roots "$keys/trust/roots"
    part "mirror" "$here/mirror.sh" --files "$out/release" --version "$version" --channel stable --out "$out/mirror"
    part "install" install_from_mirror
    ls -l "$out/release"
}

part() {
    echo "=== $1"
    shift
    "$@"
}

make_keys() {
    mkdir -p "$keys/trust"
    chmod 700 "$keys"
    "$python" "$root/packaging/sign.py" new-root "$keys/root.key" >"$keys/trust/roots"
    release=$("$python" "$root/packaging/sign.py" new-key "$keys/release.key")
    "$python" "$root/packaging/sign.py" release-keys --root "$keys/root.key" --out "$keys/trust" --key "$release"
    cat "$keys/trust/roots" "$keys/trust/release-keys"
}

take_artefact() {
    mkdir "$out/built/artefact"
    cp "$artefact/wws-$version-$platform.tar.gz" "$artefact/wws-$version-$platform.MANIFEST" "$out/built/artefact/"
}

# Over HTTP on loopback, with the installer that is served.
install_from_mirror() {
    folder=$(mktemp -d "${TMPDIR:-/tmp}/wws-dry-run.XXXXXX")
    "$python" -u -m http.server --bind 127.0.0.1 --directory "$out/mirror" 0 >"$folder/port" 2>"$folder/log" &
    server=$!
    trap 'kill "$server" 2>/dev/null; rm -rf "$folder"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' HUP TERM
    while ! grep -q port "$folder/port"; do
        kill -0 "$server"
        sleep 0.1
    done
    url=http://127.0.0.1:$(sed -n 's/.* port \([0-9]*\).*/\1/p' "$folder/port")
    mkdir "$folder/home"
    curl --silent --show-error --fail --output "$folder/install.sh" "$url/download/channel-stable/install.sh"
    HOME=$folder/home sh "$folder/install.sh" --from "$url" --prefix "$folder/prefix" --require-signature \
        --yes --no-service --no-modify-path
    "$folder/prefix/bin/wws" --version
    HOME=$folder/home "$folder/prefix/bin/wws" self verify
    grep -c '"GET ' "$folder/log" | sed 's/$/ requests/'
    kill "$server"
    wait "$server" 2>/dev/null || :
    rm -rf "$folder"
    trap - EXIT
}

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

wrong() {
    echo "dry-run.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
