#!/bin/sh
# Says whether a tag may become a release, and which.
#
#   scripts/release/check-tag.sh TAG [--rehearsal]
#
# TAG is `v<version>`, and that is the version of the sources (wws/__init__.py). CHANGELOG.md has a section with a
# date for it. A rehearsal asks for no date. Prints, and appends to $GITHUB_OUTPUT where that is set:
#
#   version=1.2.3
#   channel=stable          candidate, where the version is one (1.2.3rc1)
#   commit=<hash>
#
# Exit status: 1 it may not become one, 2 wrong usage.
set -eu

main() {
    tag='' rehearsal=
    for word in "$@"; do
        case $word in
        --help | -h) usage && exit 0 ;;
        --rehearsal) rehearsal=1 ;;
        -*) wrong "there is no option $word" ;;
        *)
            [ -z "$tag" ] || wrong "one tag, please"
            tag=$word
            ;;
        esac
    done
    [ -n "$tag" ] || wrong "which tag?"
    cd "$(dirname "$0")/../.."

    version=$(sed -n 's/^__version__ = "\([^"]*\)"$/\1/p' wws/__init__.py)
    if ! printf '%s\n' "$version" | grep -Eqx '[0-9]+\.[0-9]+\.[0-9]+((a|b|rc)[0-9]+)?'; then
        refuse "the version of the sources, $version, is not of the form 1.2.3 or 1.2.3rc1"
    fi
    [ "$tag" = "v$version" ] ||
        refuse "the tag $tag is not v$version, the version of the sources (wws/__init__.py)"
    if [ -z "$rehearsal" ]; then
        awk -v begin="## [$version] - " '
            index($0, begin) == 1 && substr($0, length(begin) + 1) ~ /^20[0-9][0-9]-[01][0-9]-[0-3][0-9]$/ { found = 1 }
            END { exit !found }' CHANGELOG.md ||
            refuse "CHANGELOG.md has no section \"## [$version] - YYYY-MM-DD\""
    fi
    case $version in
    *[a-z]*) channel=candidate ;;
    *) channel=stable ;;
    esac
    say "version=$version"
    say "channel=$channel"
    say "commit=$(git rev-parse HEAD)"
}

say() {
    printf '%s\n' "$1"
    if [ -n "${GITHUB_OUTPUT:-}" ]; then printf '%s\n' "$1" >>"$GITHUB_OUTPUT"; fi
}

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

refuse() {
    echo "check-tag.sh: $1" >&2
    exit 1
}

wrong() {
    echo "check-tag.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
