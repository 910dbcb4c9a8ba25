#!/bin/sh
# Prints what a release says of itself: its section of CHANGELOG.md, and how to verify and install it.
#
#   scripts/release/notes.sh VERSION RELEASES-URL
set -eu

main() {
    case ${1:-} in
    --help | -h)
        sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
    -*) set -- ;;
    esac
    if [ $# -ne 2 ]; then
        echo "notes.sh: VERSION and RELEASES-URL, please (--help says more)" >&2
        exit 2
    fi
    version=$1 releases=$2
    cd "$(dirname "$0")/../.."
    awk -v begin="## [$version]" '
        index($0, "## [") == 1 { shown = index($0, begin) == 1; next }
        shown { print }' CHANGELOG.md
    cat <<END
---

Install: \`curl -sSfL $releases/download/v$version/install.sh | sh -s -- --version $version\`

\`SHA256SUMS\` holds the hash of every file and is signed by a release key (\`.sshsig\`, \`.sig\`, \`.minisig\`: one key,
three forms); \`release-keys\` says which keys those are and is signed by a root key. How to verify all of it, and
where to get the root keys from: docs/releases.md.
END
}

main "$@"
