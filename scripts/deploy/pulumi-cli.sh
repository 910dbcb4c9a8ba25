#!/bin/sh
# Puts the Pulumi CLI into a folder, unless one that is new enough is on the PATH, and prints the folder to put on it.
#
#   scripts/deploy/pulumi-cli.sh DIR
#
# The archive is the vendor's, and has the hash below or is not unpacked. Appends the folder to $GITHUB_PATH where
# that is set. Exit status: 1 it cannot be had, 8 it is another archive.
set -eu

VERSION=3.221.0
# As NixOS has recorded them (nixpkgs, pkgs/by-name/pu/pulumi-bin): another pair of eyes than the server's.
LINUX_X64=fe736f91b4153f94f859870e34dda01e648552c25f702c8a42282acf3a5db9ad
LEAST=3.156

main() {
    case ${1:-} in
    --help | -h)
        sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
    "" | -*)
        echo "pulumi-cli.sh: which folder? (--help says more)" >&2
        exit 2
        ;;
    esac
    if command -v pulumi >/dev/null; then
        have=$(pulumi version | sed 's/^v//')
        if [ "$(printf '%s\n' "$LEAST" "$have" | sort -V | head -n 1)" = "$LEAST" ]; then
            folder=$(dirname "$(command -v pulumi)")
            echo "pulumi-cli.sh: there is Pulumi $have" >&2
            out "$folder"
            return
        fi
    fi
    [ "$(uname -sm)" = "Linux x86_64" ] || failed 1 "there is no hash for $(uname -sm): install Pulumi $VERSION yourself"
    mkdir -p "$1"
    archive=$1/pulumi.tar.gz
    curl --silent --show-error --fail --location --max-time 300 --retry 3 --output "$archive" \
        "https://get.pulumi.com/releases/sdk/pulumi-v$VERSION-linux-x64.tar.gz" || failed 1 "it could not be fetched"
    echo "$LINUX_X64  $archive" | sha256sum --check --quiet --strict || {
        rm -f "$archive"
        failed 8 "that is another archive than the pinned one"
    }
    tar -xzf "$archive" -C "$1"
    rm "$archive"
    out "$1/pulumi"
}

out() {
    echo "$1"
    if [ -n "${GITHUB_PATH:-}" ]; then echo "$1" >>"$GITHUB_PATH"; fi
}

failed() {
    echo "pulumi-cli.sh: $2" >&2
    exit "$1"
}

main "$@"
