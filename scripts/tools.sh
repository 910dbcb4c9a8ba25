#!/bin/sh
# Builds what the tests of the workflows need from Go modules into a cache folder, unless it is there, and prints
# the folder: actionlint (reads workflows) and act (runs them without GitHub).
#
#   scripts/tools.sh        into ${XDG_CACHE_HOME:-~/.cache}/wws/workflow-tools-<versions>
#
# 40 s the first time on a quiet machine. Go's module proxy alone is asked, and its checksum database (GOSUMDB)
# says that everybody gets the same. Exit status 3: Go is missing or cannot fetch the one that is needed.
set -eu

ACTIONLINT=v1.7.12
ACT=v0.2.89

main() {
    case ${1:-} in
    "") ;;
    --help | -h)
        sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
    *)
        echo "tools.sh: it takes no arguments: $1" >&2
        exit 2
        ;;
    esac
    target=${XDG_CACHE_HOME:-$HOME/.cache}/wws/workflow-tools-$ACTIONLINT-$ACT
    if ! [ -e "$target/complete" ]; then
        mkdir -p "$(dirname "$target")"
        # Tests run in parallel: one builds, the others wait for it.
        exec 9>"$target.lock"
        if command -v flock >/dev/null; then flock 9; fi
        [ -e "$target/complete" ] || build >&2
    fi
    echo "$target"
}

build() {
    PATH=$PATH:/usr/local/go/bin
    command -v go >/dev/null || {
        echo "tools.sh: go is missing. Install Go 1.21 or newer." >&2
        exit 3
    }
    GOPROXY=$(go env GOPROXY | sed 's/,direct$//') # never a clone of a repository
    GOBIN=$target.new
    export GOPROXY GOBIN GOFLAGS=-modcacherw
    rm -rf "$GOBIN"
    mkdir -p "$GOBIN"
    # Outside the checkout, so that no go.mod of it counts.
    cd "$GOBIN"
    go install -p 2 -trimpath -ldflags "-s -w" "github.com/rhysd/actionlint/cmd/actionlint@$ACTIONLINT"
    go install -p 2 -trimpath -ldflags "-s -w" "github.com/nektos/act@$ACT"
    touch "$GOBIN/complete"
    rm -rf "$target"
    mv "$GOBIN" "$target"
}

main "$@"
