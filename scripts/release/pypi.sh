#!/bin/sh
# Uploads wheel and sdist of a verified release to PyPI, as the workflow that PyPI trusts: no token is kept anywhere.
#
#   scripts/release/pypi.sh --files DIR --version V [-- OPTIONS OF uv publish]
#
# Needs uv (requirements/dev.txt has it), and a job with `id-token: write` in the environment that the trusted
# publisher names. What is there already with the same bits is left alone.
set -eu

main() {
    files='' version=''
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage && exit 0 ;;
        --files) files=${2:?} ;;
        --version) version=${2:?} ;;
        --) shift && break ;;
        *) wrong "what is $1?" ;;
        esac
        shift 2
    done
    for given in "$files" "$version"; do
        [ -n "$given" ] || wrong "an option is missing"
    done
    uv publish --trusted-publishing always --check-url https://pypi.org/simple/ "$@" \
        "$files/wws-$version-py3-none-any.whl" "$files/wws-$version.tar.gz"
}

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

wrong() {
    echo "pypi.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
