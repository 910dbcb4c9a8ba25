#!/bin/sh
# Runs a Python program of this checkout with a Python that has its libraries.
#
#   scripts/python.sh [--plain] FILE [ARGUMENT…]
#
# That is $PYTHON where it is given, else .venv/bin/python of the checkout, else python3; with --plain any, for a program
# that needs no libraries. Nothing is imported from where it is called. Exit status: 3 the libraries are missing, 2 wrong
# usage, else that of the program.
set -eu

main() {
    plain=''
    if [ "${1:-}" = --plain ]; then
        plain=yes
        shift
    fi
    case ${1:-} in
    --help | -h)
        sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
    '' | --*)
        echo "python.sh: which program? (--help says more)" >&2
        exit 2
        ;;
    esac
    root=$(cd "$(dirname "$0")/.." && pwd)
    python=python3
    if [ -x "$root/.venv/bin/python" ]; then python=$root/.venv/bin/python; fi
    python=${PYTHON:-$python}
    if [ -z "$plain" ] && ! "$python" -c 'import sys; sys.path = [p for p in sys.path if p]; import cryptography, nacl' 2>/dev/null; then
        echo "python.sh: $python has not the libraries that this needs. In $root: make .venv/.ready" >&2
        exit 3
    fi
    exec "$python" "$@"
}

main "$@"
