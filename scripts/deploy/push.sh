#!/bin/sh
# Pushes with the token of a job, which stands on no command line, in no URL and in no file: others see those.
#
#   scripts/deploy/push.sh REMOTE REFSPEC [--force]
#
# GH_TOKEN may push to REMOTE, an address; without GH_TOKEN git finds its own way in. Exit status: 2 wrong usage, else
# that of git.
set -eu

main() {
    case ${1:-} in
    --help | -h)
        sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
    '' | -*) wrong "where to?" ;;
    esac
    [ $# -ge 2 ] || wrong "what?"
    case ${3:-} in
    '' | --force) ;;
    *) wrong "what is $3?" ;;
    esac
    if [ -n "${GH_TOKEN:-}" ]; then
        GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=http.extraheader
        GIT_CONFIG_VALUE_0="Authorization: Basic $(printf 'x-access-token:%s' "$GH_TOKEN" | base64 | tr -d '\n')"
        export GIT_CONFIG_COUNT GIT_CONFIG_KEY_0 GIT_CONFIG_VALUE_0
    fi
    git push --quiet ${3:+"$3"} "$1" "$2"
}

wrong() {
    echo "push.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
