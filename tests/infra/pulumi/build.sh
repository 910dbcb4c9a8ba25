#!/bin/sh
# Builds a Pulumi CLI for the tests from its public Go modules into a cache folder, unless it is there, and prints
# the folder.
#
#   tests/infra/pulumi/build.sh        into ${XDG_CACHE_HOME:-~/.cache}/wws/pulumi-<version>
#
# 2 to 5 minutes and 1 GiB the first time. Go's module proxy alone is asked, and go.sum pins all that comes from it.
# The language host for Python that comes with an ordinary CLI cannot be had that way; language_host.py beside this
# stands in for it. Operators install an ordinary CLI. Exit status 3: Go is missing or too old.
set -eu

main() {
    here=$(cd "$(dirname "$0")" && pwd)
    version=$(sed -n 's,^require github.com/pulumi/pulumi/pkg/v3 v,,p' "$here/go.mod")
    target=${XDG_CACHE_HOME:-$HOME/.cache}/wws/pulumi-$version
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
    command -v go >/dev/null || { echo "pulumi: go is missing. Install Go $(wanted_go) or newer." >&2; exit 3; }
    # GOTOOLCHAIN stays as it is: a Go of 1.21 or newer may fetch the one that go.mod asks for.
    export GOFLAGS="-mod=readonly -modcacherw" GOPROXY
    GOPROXY=$(go env GOPROXY | sed 's/,direct$//') # never a clone of a repository
    cd "$here"
    rm -rf "$target.new"
    mkdir -p "$target.new"
    go build -p 2 -trimpath -buildvcs=false -o "$target.new/pulumi" \
        -ldflags "-s -w -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v$version" \
        github.com/pulumi/pulumi/pkg/v3/cmd/pulumi
    go mod download github.com/pulumi/pulumi/sdk/v3
    python=$(go list -m -f '{{.Dir}}' github.com/pulumi/pulumi/sdk/v3)/python
    # What the CLI starts for a Python program, and for resources that are written in Python.
    for file in cmd/pulumi-language-python-exec dist/pulumi-resource-pulumi-python; do
        install -m 755 "$python/$file" "$target.new/"
    done
    touch "$target.new/complete"
    rm -rf "$target"
    mv "$target.new" "$target"
}

wanted_go() { sed -n 's/^go //p' "$here/go.mod"; }

main "$@"
