#!/bin/sh
# Uploads wheel and sdist of a verified release to PyPI, as the workflow that PyPI trusts: no token is kept anywhere.
#
#   scripts/release/pypi.sh --files DIR --version V [--upload URL --check URL]
#
# The addresses are those of another index than PyPI, whose own uv knows: where it takes files, and where it lists
# them. Needs uv (requirements/dev.txt has it), and a job with `id-token: write` in the environment that the trusted
# publisher names. What is there already with the same bits is left alone.
set -eu

main() {
    files='' version='' upload='' check=''
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage && exit 0 ;;
        --files) files=${2:?} ;;
        --version) version=${2:?} ;;
        --upload) upload=${2:?} ;;
        --check) check=${2:?} ;;
        *) wrong "what is $1?" ;;
        esac
        shift 2
    done
    for given in "$files" "$version"; do
        [ -n "$given" ] || wrong "an option is missing"
    done
    uv publish --trusted-publishing always ${upload:+--publish-url "$upload"} ${check:+--check-url "$check"} \
        "$files/wws-$version-py3-none-any.whl" "$files/wws-$version.tar.gz"
}

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

wrong() {
    echo "pypi.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
