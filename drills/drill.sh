# shellcheck shell=sh
# What every drill is written with. A drill sources this file and calls these functions:
#
#   step NAME            from here on the output belongs to this step; a page shows it as NAME-OF-DRILL#NAME
#   say TEXT             a remark
#   run LINE             type LINE: print it, run it in this shell, print what it says; it must succeed
#   refused CODE LINE    the same, and it must end with this exit code
#   eventually TEXT LINE the same, again and again until it says TEXT; only the last time is printed
#   awaits CODE LINE     the same, until it ends with this exit code
#   quietly LINE         run LINE without showing it, unless it fails: for what an operator does by other means
#   expect TEXT…         what was run last has said each TEXT
#   unseen TEXT…         and none of these
#   later TIME           where the world can: the clock is TIME ahead from now on (`20 days`)
#
# Everything else comes from the environment, see README.md beside this file.

DRILL_SAID=$(mktemp "${TMPDIR:-/tmp}/drill.XXXXXX")
trap 'rm -f "$DRILL_SAID"' EXIT

step() {
    printf '=== %s\n' "$1"
}

say() {
    printf '# %s\n' "$1"
}

run() {
    refused 0 "$1"
}

refused() {
    drill_wanted=$1
    printf '$ %s\n' "$2"
    drill_code=0
    eval "$2" >"$DRILL_SAID" 2>&1 </dev/null || drill_code=$?
    cat "$DRILL_SAID"
    [ "$drill_code" -eq "$drill_wanted" ] || drill_failed "ended with exit code $drill_code, not $drill_wanted"
}

eventually() {
    printf '$ %s\n' "$2"
    drill_left=${DRILL_PATIENCE:-20}
    while :; do
        drill_code=0
        eval "$2" >"$DRILL_SAID" 2>&1 </dev/null || drill_code=$?
        if grep -qF -e "$1" "$DRILL_SAID"; then
            break
        fi
        drill_left=$((drill_left - 1))
        if [ "$drill_left" -le 0 ]; then
            cat "$DRILL_SAID"
            drill_failed "never said: $1"
        fi
        sleep 1
    done
    cat "$DRILL_SAID"
}

awaits() {
    printf '$ %s\n' "$2"
    drill_left=${DRILL_PATIENCE:-20}
    while :; do
        drill_code=0
        eval "$2" >"$DRILL_SAID" 2>&1 </dev/null || drill_code=$?
        if [ "$drill_code" -eq "$1" ]; then
            break
        fi
        drill_left=$((drill_left - 1))
        if [ "$drill_left" -le 0 ]; then
            cat "$DRILL_SAID"
            drill_failed "never ended with exit code $1"
        fi
        sleep 1
    done
    cat "$DRILL_SAID"
}

quietly() {
    drill_code=0
    eval "$1" >"$DRILL_SAID" 2>&1 </dev/null || drill_code=$?
    if [ "$drill_code" -ne 0 ]; then
        printf '$ %s\n' "$1"
        cat "$DRILL_SAID"
        drill_failed "ended with exit code $drill_code"
    fi
}

expect() {
    for drill_text; do
        grep -qF -e "$drill_text" "$DRILL_SAID" || drill_failed "did not say: $drill_text"
    done
}

unseen() {
    for drill_text; do
        if grep -qF -e "$drill_text" "$DRILL_SAID"; then
            drill_failed "said: $drill_text"
        fi
    done
}

later() {
    [ -n "${DRILL_CLOCK:-}" ] || drill_failed "the clock of this world cannot be moved (DRILL_CLOCK)"
    printf '+%s\n' "$(printf %s "$1" | sed 's/ *days$/d/')" >"$DRILL_CLOCK"
    printf '# %s later\n' "$1"
}

drill_failed() {
    printf '\nThe drill stops: the last command %s.\n' "$1" >&2
    exit 1
}
