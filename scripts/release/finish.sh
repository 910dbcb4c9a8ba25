#!/bin/sh
# Finishes a release whose keys are kept offline: release.yml has left a draft, and a person signs it.
#
#   scripts/release/finish.sh fetch TAG DIR       the files of the draft, to be carried to the machine with the key;
#                                                 none where there is one that SHA256SUMS does not name, or it differs
#   scripts/release/sign.sh --files DIR …         there; it needs a checkout and no network
#   scripts/release/finish.sh publish TAG DIR     signatures onto the draft, verified as served, published
#
# And between releases, monthly, for a channel lapses after 45 days:
#
#   scripts/release/finish.sh renew CHANNEL DIR   what it says now; sign it anew there (sign.py channel)
#   scripts/release/finish.sh move CHANNEL DIR    what was signed, verified, to where it is read
#
# With `gh`, logged in as somebody who may publish: that this is a person's own login is what lets the publication
# start the other workflows. Needs packaging/trust of this checkout. Exit status: 1 or 8 not done, 2 wrong usage.
set -eu

main() {
    here=$(cd "$(dirname "$0")" && pwd)
    case ${1:-} in
    --help | -h)
        usage
        exit 0
        ;;
    esac
    [ $# -eq 3 ] || wrong "what, TAG and DIR, please"
    case $1 in
    renew | move)
        "$1" "$2" "$3"
        exit
        ;;
    esac
    tag=$2 files=$3 version=${2#v}
    channel=$("$here/check-tag.sh" "$tag" --rehearsal | sed -n 's/^channel=//p')
    [ -n "$channel" ] || wrong "check $tag out first"
    case $1 in
    fetch)
        [ -z "$(ls -A "$files" 2>/dev/null)" ] || wrong "$files is not empty"
        mkdir -p "$files"
        files=$(cd "$files" && pwd) fetched=''
        trap '[ -n "$fetched" ] || rm -rf "$files"' EXIT
        trap 'exit 130' INT
        trap 'exit 143' HUP TERM
        "$here/github.sh" download "$tag" "$files"
        "$here/../python.sh" "$here/../../packaging/sign.py" unsigned "$files" --version "$version"
        fetched=yes
        echo "Sign it: scripts/release/sign.sh --files $files --version $version --channel $channel --key FILE"
        ;;
    publish)
        "$here/verify.sh" --files "$files" --version "$version"
        grep -qx "channel $channel" "$files/channel" || wrong "its channel is to be $channel"
        "$here/github.sh" sign "$tag" "$files"
        "$here/github.sh" publish "$tag" "$version" "$channel" "$here/../../packaging/trust/roots"
        ;;
    *) wrong "what is $1?" ;;
    esac
}

renew() {
    [ -z "$(ls -A "$2" 2>/dev/null)" ] || wrong "$2 is not empty"
    "$here/github.sh" download "channel-$1" "$2"
    echo "It says now (nobody has verified that; which version it is to lead to is yours to know):"
    LC_ALL=C tr -cd '\n -~' <"$2/channel" | head -n 20
    echo "Sign it: scripts/python.sh packaging/sign.py channel --key FILE --out $2 --channel $1 --version VERSION"
}

move() {
    "$here/verify.sh" --channel-only --files "$2" --version "$(version_in "$2")"
    "$here/github.sh" channel "$1" "$2" "v$(version_in "$2")"
}

version_in() { sed -n 's/^version \([0-9][0-9a-z.]*\)$/\1/p' "$1/channel"; }

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

wrong() {
    echo "finish.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
