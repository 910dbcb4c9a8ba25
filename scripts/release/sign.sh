#!/bin/sh
# Signs an assembled release, and says in its channel that it is current.
#
#   scripts/release/sign.sh --files DIR --version V --channel NAME [--key FILE [--passphrase-file FILE]] [--or-stop]
#
# Without --key the key is the content of the variable WWS_RELEASE_KEY, its passphrase WWS_RELEASE_PASSPHRASE
# (empty: none). Neither is printed or put on a command line, and the file that it needs is gone at the end.
# SHA256SUMS must fit the files, and name all of them, before it is signed. With --or-stop it says what a person with
# the key has to do where there is none, appends signed=true or signed=false to $GITHUB_OUTPUT, and ends well. Exit
# status: 1 it was not signed, 3 the libraries for it are missing, 2 wrong usage.
set -eu

main() {
    files='' version='' channel='' key='' passphrase='' or_stop=''
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage && exit 0 ;;
        --or-stop)
            or_stop=yes
            shift
            continue
            ;;
        --files) files=${2:?} ;;
        --version) version=${2:?} ;;
        --channel) channel=${2:?} ;;
        --key) key=${2:?} ;;
        --passphrase-file) passphrase=${2:?} ;;
        *) wrong "what is $1?" ;;
        esac
        shift 2
    done
    for given in "$files" "$version" "$channel"; do
        [ -n "$given" ] || wrong "an option is missing"
    done
    root=$(cd "$(dirname "$0")/../.." && pwd)
    private=''
    trap 'if [ -n "$private" ]; then rm -rf "$private"; fi' EXIT
    trap 'exit 130' INT
    trap 'exit 143' HUP TERM
    if [ -z "$key" ]; then
        if [ -n "$or_stop" ] && [ -z "${WWS_RELEASE_KEY:-}" ]; then stop; fi
        [ -n "${WWS_RELEASE_KEY:-}" ] || failed "there is no key: --key FILE, or WWS_RELEASE_KEY"
        private=$(mktemp -d "${RUNNER_TEMP:-${TMPDIR:-/tmp}}/wws-sign.XXXXXX")
        key=$private/release.key
        (umask 077 && printf '%s\n' "$WWS_RELEASE_KEY" >"$key")
        if [ -n "${WWS_RELEASE_PASSPHRASE:-}" ]; then
            passphrase=$private/passphrase
            (umask 077 && printf '%s\n' "$WWS_RELEASE_PASSPHRASE" >"$passphrase")
        fi
        unset WWS_RELEASE_KEY WWS_RELEASE_PASSPHRASE
    fi
    # All of it is looked at before a key is opened: what is signed by mistake stays signed.
    "$root/scripts/python.sh" "$root/packaging/sign.py" unsigned "$files" --version "$version" || {
        [ $? -ne 3 ] || exit 3 # nothing was looked at: the libraries are missing
        failed "SHA256SUMS does not fit the files"
    }
    set -- --key "$key"
    if [ -n "$passphrase" ]; then set -- "$@" --passphrase-file "$passphrase"; fi
    before=$(cat "$files/SHA256SUMS")
    "$root/scripts/python.sh" "$root/packaging/sign.py" sums "$@" "$files"
    [ "$before" = "$(cat "$files/SHA256SUMS")" ] || failed "the files were changed meanwhile"
    "$root/scripts/python.sh" "$root/packaging/sign.py" channel "$@" --out "$files" --channel "$channel" --version "$version"
    if [ -n "$or_stop" ]; then output signed=true; fi
}

stop() {
    said="No release key is here: the release stays a draft until a person with the key has run
\`scripts/release/finish.sh\`. docs/operators/releasing.md says how."
    echo "$said"
    if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then echo "$said" >>"$GITHUB_STEP_SUMMARY"; fi
    output signed=false
    exit 0
}

output() {
    if [ -n "${GITHUB_OUTPUT:-}" ]; then echo "$1" >>"$GITHUB_OUTPUT"; fi
}

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

failed() {
    echo "sign.sh: $1" >&2
    exit 1
}

wrong() {
    echo "sign.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
