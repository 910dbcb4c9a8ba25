#!/bin/sh
# Builds the foreign peers of the interoperability tests into tests/interop/peers/.build, unless they are up to date.
#
#   tests/interop/build.sh [js] [go]      both when none is named
#
# Needs npm for js and go for go, and their package registries the first time. Exit status 3: such a tool is missing.
set -eu

main() {
    peers=$(cd "$(dirname "$0")/peers" && pwd)
    build=$peers/.build
    mkdir -p "$build"
    [ $# -gt 0 ] || set -- js go
    for implementation in "$@"; do
        case $implementation in
            js | go) build_unless_fresh "$implementation" ;;
            *) echo "usage: build.sh [js] [go]" >&2; exit 2 ;;
        esac
    done
}

build_unless_fresh() {
    wanted=$(digest "$peers/$1")
    if [ "$(cat "$build/$1.stamp" 2>/dev/null)" = "$wanted" ]; then
        echo "$1 peer: up to date"
        return
    fi
    started=$(date +%s)
    rm -f "$build/$1.stamp"
    "build_$1"
    echo "$wanted" > "$build/$1.stamp"
    echo "$1 peer: built in $(($(date +%s) - started)) s"
}

# The sources and locks, and the platform: one checkout may be used from two.
digest() {
    {
        uname -sm
        find "$1" "$0" -type f ! -path '*/node_modules/*' | LC_ALL=C sort | while read -r file; do cat "$file"; done
    } | if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -d ' ' -f 1
}

build_js() {
    need npm "Install Node.js with npm; the peer's own node comes from the registry."
    if ! cmp -s "$peers/js/package-lock.json" "$build/js/node_modules/.installed"; then
        rm -rf "$build/js"
        mkdir -p "$build/js"
        cp "$peers/js/package.json" "$peers/js/package-lock.json" "$build/js/"
        # Not `npm ci`: it wants the QUIC binaries of all platforms in the lock, and not every registry has them all.
        (cd "$build/js" && npm install --ignore-scripts --no-audit --no-fund --loglevel=error) >&2
        cp "$peers/js/package-lock.json" "$build/js/node_modules/.installed"
    fi
    cp "$peers/js/peer.mjs" "$build/js/"
    # Not .bin/node: npm 9, which Debian 12 has, leaves that link out.
    own=$(cd "$build/js" && find node_modules/node-*/bin -name node 2>/dev/null | head -n 1)
    if [ -n "$own" ]; then
        ln -sf "$own" "$build/js/node"
    elif command -v node >/dev/null && [ "$(node -p 'process.versions.node.split(".")[0]')" -ge 22 ]; then
        ln -sf "$(command -v node)" "$build/js/node"
    else
        echo "js peer: the registry has no node for this platform; install Node.js 22 or newer" >&2
        exit 3
    fi
}

build_go() {
    need go "Install Go $(sed -n 's/^go //p' "$peers/go/go.mod") or newer, or 1.21 or newer that may fetch it."
    mkdir -p "$build/go"
    (cd "$peers/go" && go build -trimpath -mod=readonly -buildvcs=false -ldflags='-s -w' -o "$build/go/peer" .) >&2
}

need() {
    if ! command -v "$1" >/dev/null; then
        echo "$implementation peer: $1 is missing. $2" >&2
        exit 3
    fi
}

main "$@"
