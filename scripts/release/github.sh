#!/bin/sh
# What a release needs of GitHub, by its own program `gh` (GH_TOKEN, and GH_REPO or a checkout).
#
#   github.sh ci COMMIT [MINUTES]                  wait until ci.yml has passed for this commit (60 minutes)
#   github.sh draft TAG DIR NOTES                  a draft with all files of DIR; again: its files are put anew
#   github.sh sign TAG DIR                         the signatures of DIR, onto the draft
#   github.sh publish TAG VERSION CHANNEL ROOTS    verify what the draft serves, publish it, move the channel
#   github.sh channel CHANNEL DIR TARGET           channel, release-keys and install.sh of DIR, to the moving release
#   github.sh download TAG DIR                     all files of a release, of a draft as well
#
# Nothing is published that does not verify as it is served. Exit status: 1 it was not done, 2 wrong usage.
set -eu

main() {
    here=$(cd "$(dirname "$0")" && pwd)
    case ${1:-} in
    --help | -h) usage ;;
    ci | draft | sign | publish | channel | download)
        command=$1
        shift
        "$command" "$@"
        ;;
    *) wrong "what is ${1:-missing}?" ;;
    esac
}

ci() {
    commit=${1:?} left=${2:-60}
    while :; do
        # Of several runs the last counts, and `gh` lists the newest first. Those of a pull request are its code.
        state=$(gh run list --workflow ci.yml --event push --commit "$commit" --limit 1 --json status,conclusion \
            --jq '.[0] | .status + " " + (.conclusion // "")')
        case $state in
        "completed success") echo "ci.yml passed for $commit" && return ;;
        "completed "*) failed "ci.yml did not pass for $commit: ${state#completed }" ;;
        esac
        [ "$left" -gt 0 ] || failed "ci.yml has not passed for $commit: it is '${state:-unknown}'"
        left=$((left - 1))
        sleep 60
    done
}

draft() {
    tag=${1:?} files=${2:?} notes=${3:?}
    if gh release view "$tag" >/dev/null 2>&1; then
        [ "$(gh release view "$tag" --json isDraft --jq .isDraft)" = true ] ||
            failed "$tag is published already: a release is never changed. Make another version"
        gh release edit "$tag" --notes-file "$notes" --verify-tag >/dev/null
    else
        case $tag in
        *[a-z]*[0-9]*[a-z]*) set -- --prerelease ;; # v1.2.3rc1
        *) set -- ;;
        esac
        gh release create "$tag" --draft --verify-tag --title "wws ${tag#v}" --notes-file "$notes" "$@" >/dev/null
    fi
    upload "$tag" "$files"
    echo "a draft of $tag"
}

sign() {
    tag=${1:?} files=${2:?}
    for name in SHA256SUMS channel; do
        for end in sig sshsig minisig; do
            [ -s "$files/$name.$end" ] || failed "there is no $name.$end"
        done
    done
    upload "$tag" "$files"
}

upload() { gh release upload "$1" "$2"/* --clobber; }

publish() {
    tag=${1:?} version=${2:?} channel=${3:?} roots=${4:?}
    folder=$(mktemp -d "${RUNNER_TEMP:-${TMPDIR:-/tmp}}/wws-publish.XXXXXX")
    trap 'rm -rf "$folder"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' HUP TERM
    download "$tag" "$folder"
    "$here/verify.sh" --files "$folder" --version "$version" --roots "$roots"
    gh release edit "$tag" --draft=false >/dev/null
    echo "$tag is published"
    channel "$channel" "$folder" "$tag"
}

channel() {
    name=channel-${1:?} files=${2:?} target=${3:?}
    grep -qx "channel $1" "$files/channel" || failed "$files/channel is not that of $1"
    if ! gh release view "$name" >/dev/null 2>&1; then
        gh release create "$name" --latest=false --target "$(git -C "$here" rev-parse "$target^{commit}")" \
            --title "channel $1" --notes "Which version is current: a moving release that install.sh reads." >/dev/null
    fi
    # One after the other: who reads in between sees a signature that does not fit, and tries again.
    gh release upload "$name" "$files"/channel "$files"/channel.* "$files"/release-keys \
        "$files"/release-keys.* "$files"/install.sh --clobber
    echo "$name says: $(sed -n 's/^version //p' "$files/channel")"
}

download() {
    tag=${1:?} folder=${2:?}
    # Whoever can change the release chose the names: they are looked at before anything is written.
    listed=$(gh release view "$tag" --json assets --jq '.assets[].name')
    [ -n "$listed" ] || failed "$tag has no files"
    strange=$(printf '%s\n' "$listed" | LC_ALL=C grep -Evx '[A-Za-z0-9][A-Za-z0-9._+-]{0,127}' | head -n 1)
    [ -z "$strange" ] ||
        failed "$tag has a file called $(printf '%s' "$strange" | LC_ALL=C tr -c ' -~' '?'): no release has such a name"
    mkdir -p "$folder"
    gh release download "$tag" --dir "$folder"
}

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

failed() {
    echo "github.sh: $1" >&2
    exit 1
}

wrong() {
    echo "github.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
