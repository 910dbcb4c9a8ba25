#!/bin/sh
# Builds CPython and OpenSSL from Debian's own source packages, inside of an old Debian: old-glibc.sh starts it
# there. Everything goes to /opt/wws-python; /opt/wws-build is a virtual environment of it that also finds what
# lies in /opt/wws-libraries.
#
#   build-python.sh PYTHON_SOURCE OPENSSL_SOURCE        names of source packages, e.g. python3.13 openssl
#
# apt checks the signatures of the sources. Times in the binaries are those of the packages' changelogs.
set -eu

PREFIX=/opt/wws-python
SOURCES=/opt/wws-sources

main() {
    jobs=$(getconf _NPROCESSORS_ONLN)
    export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
    mkdir -p "$SOURCES"
    cd "$SOURCES"
    apt-get -qq update
    # Signatures are checked by apt; dpkg-source of an old Debian may not know the key of a newer maintainer.
    apt-get -qq source "$1" "$2" >/dev/null
    build_openssl "$SOURCES/$2"-*/
    build_python "$SOURCES"/"$1"-*/
    cd "$SOURCES"
    sha256sum ./*.dsc >"$PREFIX/SOURCES"
    cd /
    rm -rf "$SOURCES" /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
    "$PREFIX/bin/python3" -m venv --without-pip /opt/wws-build
    mkdir -p /opt/wws-libraries
    echo /opt/wws-libraries >"$(echo /opt/wws-build/lib/python3.*/site-packages)/libraries.pth"
    /opt/wws-build/bin/python -c 'import bz2, ctypes, decimal, hashlib, lzma, sqlite3, ssl, zlib; print(ssl.OPENSSL_VERSION)'
}

# What Python is linked with: an old Debian's own is no longer looked after.
build_openssl() {
    cd "$1"
    SOURCE_DATE_EPOCH=$(dpkg-parsechangelog -STimestamp)
    export SOURCE_DATE_EPOCH
    ./config --prefix="$PREFIX" --libdir=lib --openssldir=/etc/ssl shared no-tests no-docs no-legacy >/dev/null
    make -s -j "$jobs" >/dev/null
    make -s install_sw >/dev/null
    # For all that is linked with it here; in the artefact the bootloader says where libraries are.
    echo "$PREFIX/lib" >/etc/ld.so.conf.d/wws.conf
    ldconfig
}

build_python() {
    cd "$1"
    SOURCE_DATE_EPOCH=$(dpkg-parsechangelog -STimestamp)
    export SOURCE_DATE_EPOCH
    optimized=
    if [ "${WWS_PYTHON_OPTIMIZED:-no}" = yes ]; then optimized="--enable-optimizations --with-lto"; fi
    # shellcheck disable=SC2086 # words of ours
    ./configure --prefix="$PREFIX" --enable-shared --with-openssl="$PREFIX" --disable-test-modules \
        --without-doc-strings --with-ensurepip=no $optimized >/dev/null
    make -s -j "$jobs" >/dev/null
    make -s install >/dev/null
    ldconfig
}

main "$@"
