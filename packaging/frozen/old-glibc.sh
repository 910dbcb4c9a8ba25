#!/bin/sh
# Builds the self-contained artefact for old systems: in a root folder of Debian 11, whose glibc is 2.31, with a
# Python and an OpenSSL of today that are built there.
#
#   packaging/frozen/old-glibc.sh --out DIR [--version 1.2.3] [--stamp FILE] [--installer FILE] …
#
# All options are those of packaging/selfcontained.py. The folder is made when it is not there (10 to 40 minutes,
# 1 GB) in ${XDG_CACHE_HOME:-~/.cache}/wws/old-glibc; its name carries a hash of its recipe. Needs root, mmdebstrap,
# Debian's archive keyring, and a python3 with pip that fetches the libraries, by the hashes of requirements/.
#
#   WWS_DEBIAN_MIRROR=URL            where packages come from; default: as this machine has it, else Debian's own
#   WWS_PYTHON_OPTIMIZED=yes         profile-guided and link-time optimization, as releases have it: takes long
set -eu

GLIBC=2.31
SUITE=bullseye
SOURCES=trixie
PYTHON=python3.13
PACKAGES=build-essential,ca-certificates,libbz2-dev,libffi-dev,liblzma-dev,libmpdec-dev,libsqlite3-dev,perl,pkg-config,zlib1g-dev
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
BUILD_TOOLS="altgraph packaging pyinstaller pyinstaller-hooks-contrib setuptools"

main() {
    here=$(cd "$(dirname "$0")" && pwd)
    repository=$(cd "$here/../.." && pwd)
    [ "$(id -u)" -eq 0 ] || fail "only root can make and enter a root folder"
    for tool in mmdebstrap unshare chroot flock sha256sum python3; do
        command -v "$tool" >/dev/null || fail "$tool is missing"
    done
    [ -r "$KEYRING" ] || fail "there is no $KEYRING (package debian-archive-keyring)"
    base=${XDG_CACHE_HOME:-$HOME/.cache}/wws/old-glibc
    recipe=$({ echo "$SUITE $SOURCES $PYTHON $PACKAGES ${WWS_PYTHON_OPTIMIZED:-no}"; cat "$here/build-python.sh"; } | short_hash)
    root=$base/$recipe/root
    mkdir -p "$base"
    exec 9>"$base/lock"
    flock 9
    [ -d "$root" ] || make_root >&2
    libraries=$base/$recipe/libraries-$(cat "$repository/requirements/agent.txt" "$repository/requirements/dev.txt" | short_hash)
    [ -d "$libraries" ] || fetch_libraries >&2
    flock -u 9
    build "$@"
}

fail() {
    echo "old-glibc.sh: $1" >&2
    exit 1
}

short_hash() { sha256sum | cut -c 1-16; }

make_root() {
    mirror=${WWS_DEBIAN_MIRROR:-$(awk '/^URIs:/ { print $2; exit }' /etc/apt/sources.list.d/debian.sources 2>/dev/null || :)}
    mirror=${mirror:-http://deb.debian.org/debian}
    part=$base/$recipe/part
    rm -rf "$part"
    mkdir -p "$base/$recipe"
    echo "making Debian $SUITE"
    mmdebstrap --quiet --mode=root --variant=minbase --include="$PACKAGES" --keyring="$KEYRING" \
        --aptopt='Acquire::Languages "none"' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        "$SUITE" "$part" "deb [signed-by=$KEYRING] $mirror $SUITE main"
    cp "$KEYRING" "$part/usr/share/keyrings/wws-sources.gpg"
    echo "deb-src [signed-by=/usr/share/keyrings/wws-sources.gpg] $mirror $SOURCES main" >"$part/etc/apt/sources.list"
    [ ! -e /etc/resolv.conf ] || cp -L /etc/resolv.conf "$part/etc/resolv.conf"
    cp "$here/build-python.sh" "$part/build-python.sh"
    echo "building $PYTHON and openssl of $SOURCES"
    enter "$part" /bin/sh /build-python.sh "$PYTHON" openssl
    rm -f "$part/build-python.sh" "$part/etc/resolv.conf"
    mv "$part" "$root"
}

# Runs a command in a root folder, with mounts that end with it.
enter() {
    # shellcheck disable=SC2016 # for the inner shell
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 WWS_PYTHON_OPTIMIZED="${WWS_PYTHON_OPTIMIZED:-no}" \
        unshare --mount --propagation private /bin/sh -euc '
        root=$1
        shift
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        exec chroot "$root" "$@"' sh "$@"
}

# Here, where there is a network: as wheels for the old glibc, checked by their hashes.
fetch_libraries() {
    echo "fetching the libraries"
    part=$base/$recipe/libraries-part
    rm -rf "$part"
    mkdir -p "$part"
    awk -v names="$BUILD_TOOLS" '
        BEGIN { count = split(names, list, " "); for (i = 1; i <= count; i++) wanted[list[i]] }
        /^[^ #]/ { split($1, parts, "=="); on = parts[1] in wanted }
        on && !/^ *#/' "$repository/requirements/dev.txt" >"$part.tools"
    machine=$(uname -m)
    number=${PYTHON#python}
    set -- --platform "manylinux2014_$machine" --platform "manylinux2010_$machine" --platform "manylinux1_$machine"
    minor=${GLIBC#2.}
    while [ "$minor" -ge 5 ]; do
        set -- "$@" --platform "manylinux_2_${minor}_$machine"
        minor=$((minor - 1))
    done
    abi=cp$(echo "$number" | tr -d .)
    for requirements in "$repository/requirements/agent.txt" "$part.tools"; do
        python3 -m pip install --quiet --target "$part" --require-hashes --no-deps --only-binary=:all: \
            --implementation cp --python-version "$number" --abi "$abi" --abi abi3 --abi none "$@" -r "$requirements"
    done
    rm -rf "$part.tools" "${part:?}/bin"
    mv "$part" "$libraries"
}

# selfcontained.py, with the files that its options name brought to where it runs.
build() {
    work=$(mktemp -d "$base/work-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' HUP TERM
    mkdir "$work/given" "$work/out"
    out=
    count=$#
    while [ "$count" -gt 0 ]; do
        case $1 in
            --out) out=$2; set -- "$@" --out /mnt/out; shift 2; count=$((count - 2)) ;;
            --stamp | --installer)
                cp "$2" "$work/given/${1#--}"
                set -- "$@" "$1" "/mnt/given/${1#--}"
                shift 2
                count=$((count - 2))
                ;;
            *) set -- "$@" "$1"; shift; count=$((count - 1)) ;;
        esac
    done
    [ -n "$out" ] || fail "--out DIR is missing"
    mkdir -p "$out" "$base/$recipe/frozen"
    # shellcheck disable=SC2016 # for the inner shell
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 \
        unshare --mount --propagation private /bin/sh -euc '
        root=$1 repository=$2 libraries=$3 work=$4 frozen=$5
        shift 5
        mkdir -p "$root/src" "$root/mnt" "$root/frozen"
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount --bind "$repository" "$root/src"
        mount --bind "$libraries" "$root/opt/wws-libraries"
        mount --bind "$work" "$root/mnt"
        mount --bind "$frozen" "$root/frozen"
        exec chroot "$root" /opt/wws-build/bin/python /src/packaging/selfcontained.py "$@"' \
        sh "$root" "$repository" "$libraries" "$work" "$base/$recipe/frozen" \
        --frozen /frozen --glibc-floor "$GLIBC" "$@" >"$work/said"
    for file in "$work/out"/*; do
        cp "$file" "$out/.${file##*/}.new"
        mv "$out/.${file##*/}.new" "$out/${file##*/}"
    done
    sed "s,\"/mnt/out/,\"$out/," "$work/said"
}

main "$@"
