#!/bin/sh
# Puts the secrets of a job where the settings of the stack say that they lie, and takes them away again.
#
#   scripts/deploy/secrets.sh put --stack NAME [--infra DIR] --list FILE
#   scripts/deploy/secrets.sh remove --list FILE
#
#   WWS_STACK_SETTINGS   infra/Pulumi.<stack>.yaml, where that is not committed
#   WWS_SSH_KEY          the file that wws:ssh_key_file names
#   WWS_DNS_SECRET       the file that wws:dns names (token_file or tsig_file)
#   WWS_PUBLISHER_KEY    the file that wws:publisher_key_file names, in base64
#
# What is not set is left out. All files are 0600. A file that is there with another content is not touched: this may be
# somebody's own machine. FILE remembers what was made. Prints names, never content.
set -eu

main() {
    root=$(cd "$(dirname "$0")/../.." && pwd)
    case ${1:-} in
    --help | -h)
        usage
        exit 0
        ;;
    put | remove) command=$1 && shift ;;
    *) wrong "put or remove?" ;;
    esac
    stack='' infra=$root/infra list=''
    while [ $# -gt 0 ]; do
        case $1 in
        --stack) stack=${2:?} ;;
        --infra) infra=${2:?} ;;
        --list) list=${2:?} ;;
        *) wrong "what is $1?" ;;
        esac
        shift 2
    done
    [ -n "$list" ] || wrong "--list is missing"
    "$command"
}

put() {
    [ -n "$stack" ] || wrong "--stack is missing"
    umask 077
    : >>"$list"
    # As text: a secret that was pasted may or may not end with a line feed.
    if [ -n "${WWS_STACK_SETTINGS:-}" ]; then
        printf '%s\n' "$WWS_STACK_SETTINGS" | keep "$infra/Pulumi.$stack.yaml"
    fi
    unset WWS_STACK_SETTINGS
    if [ -n "${WWS_SSH_KEY:-}" ]; then printf '%s\n' "$WWS_SSH_KEY" | keep "$(place ssh_key_file)"; fi
    unset WWS_SSH_KEY
    if [ -n "${WWS_DNS_SECRET:-}" ]; then printf '%s\n' "$WWS_DNS_SECRET" | keep "$(place dns)"; fi
    unset WWS_DNS_SECRET
    if [ -n "${WWS_PUBLISHER_KEY:-}" ]; then
        printf '%s' "$WWS_PUBLISHER_KEY" | base64 -d | keep "$(place publisher_key_file)"
    fi
}

remove() {
    if [ -f "$list" ]; then
        while read -r file; do rm -f "$file"; done <"$list"
        rm -f "$list"
    fi
}

# Where the settings say that this one lies.
place() {
    pulumi config --json --stack "$stack" --cwd "$infra" --non-interactive | python3 -c '
import json, os, sys
what = sys.argv[1]
setting = json.load(sys.stdin).get("wws:" + what, {})
value = setting.get("objectValue") or setting.get("value") or ""
if isinstance(value, dict):
    value = value.get("token_file") or value.get("tsig_file") or ""
if not value:
    sys.exit(f"secrets.sh: the secret is set, and wws:{what} names no file for it")
print(os.path.expanduser(value))
' "$1"
}

keep() {
    file=$1
    [ -n "$file" ] || exit 1
    mkdir -p "$(dirname "$file")"
    cat >"$file.new"
    if [ -e "$file" ]; then
        if cmp -s "$file.new" "$file"; then
            rm "$file.new"
            return
        fi
        rm "$file.new"
        echo "secrets.sh: $file is there with another content: it is left as it is" >&2
        exit 1
    fi
    mv "$file.new" "$file"
    printf '%s\n' "$file" >>"$list"
    echo "$file"
}

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

wrong() {
    echo "secrets.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
