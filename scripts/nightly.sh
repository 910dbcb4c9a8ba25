#!/bin/sh
# What is too long for every push: the other implementations, the whole machines, the fuzzers and the soak, at the
# full figures, and a look at what is published.
#
#   scripts/nightly.sh interop          tests/interop against the JavaScript and Go peers
#   scripts/nightly.sh hosts            hosts, drills, lab, stack and roll-out (root)
#   scripts/nightly.sh fuzz [CASES]     every fuzzer, CASES each (300,000), with a seed that is new each day
#   scripts/nightly.sh soak [MINUTES]   agents come and go on a network of this machine (60)
#   scripts/nightly.sh published URL [CHANNEL]
#                                       what URL serves verifies, and ends in no less than 21 days
#
# interop and hosts install what they need as .ci/run does (as root on Debian or Ubuntu).
set -eu

DAYS=21

main() {
    cd "$(dirname "$0")/.."
    case ${1:-} in
    --help | -h) sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' scripts/nightly.sh ;;
    interop) full "interop" ;;
    hosts) full "hosts or drills or lab or infra or workflows" ;;
    fuzz) fuzz "${2:-300000}" ;;
    soak) with_venv scripts/nightly/soak.py --minutes "${2:-60}" ;;
    published)
        [ -n "${2:-}" ] || wrong "whose releases?"
        with_venv published "$2" "${3:-stable}"
        ;;
    *) wrong "what is ${1:-missing}?" ;;
    esac
}

full() {
    exec env CI=true WWS_TEST_SCALE=1 PYTEST="-k '$1'" .ci/run
}

fuzz() {
    seed=$(date -u +%Y%m%d)
    echo "seed $seed: python -m tests.fuzz --seed $seed --cases $1"
    with_venv python -m tests.fuzz --seed "$seed" --cases "$1" --largest 200
}

published() {
    folder=$(mktemp -d "${TMPDIR:-/tmp}/wws-published.XXXXXX")
    trap 'rm -rf "$folder"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' HUP TERM
    mkdir "$folder/release"
    fetch "$1" "channel-$2" channel
    version=$(sed -n 's/^version //p' "$folder/channel" | grep -Ex '[0-9][0-9a-z.]{0,31}') || failed "no version in it"
    scripts/release/fetch.sh --releases "$1" --version "$version" --out "$folder/release"
    # The channel is verified beside the release that it names; its keys are those that are served with it.
    for end in '' .sig .sshsig .minisig; do
        fetch "$1" "channel-$2" "channel$end"
        mv "$folder/channel$end" "$folder/release/"
        fetch "$1" "channel-$2" "release-keys$end"
        mv "$folder/release-keys$end" "$folder/release/"
    done
    scripts/release/verify.sh --files "$folder/release" --version "$version"
    soon=$(date -u -d "+$DAYS days" +%Y%m%d%H%M%S)
    for file in channel release-keys; do
        expires=$(sed -n 's/^expires //p' "$folder/release/$file")
        echo "$file: $version until $expires"
        [ "$expires" -gt "$soon" ] ||
            failed "$file ends within $DAYS days, at $expires: sign it anew (docs/operators/releasing.md)"
    done
}

fetch() {
    curl --silent --show-error --fail --location --max-time 60 --retry 3 --output "$folder/$3" "$1/download/$2/$3" ||
        failed "$2/$3 is not served"
}

with_venv() {
    make --no-print-directory .venv/.ready >&2
    PATH=$PWD/.venv/bin:$PATH
    export PATH
    "$@"
}

failed() {
    echo "nightly.sh: $1" >&2
    exit 1
}

wrong() {
    echo "nightly.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
