#!/bin/sh
# Joins the mesh as an agent, and leaves its node running: `wws join` by the names of the first plan.
#
#   scripts/run-agent.sh [-n NAME] [--wws-name NAME] [OPTION]...
#
#   -n NAME, --name NAME   what the agent is called: its key is ~/.openswarm/NAME.key, its node NAME, and it
#                          claims wws:NAME
#   --wws-name NAME        claim this name; without -n it is what the agent is called, too
#   --swarm-id ID          the swarm of the name (public)
#
# Everything else goes to `wws join` as it is (see `wws join --help`): --network NET, --bootstrap ADDR,
# --identity-path P, --foreground, --json. With none of them it joins the default network of the build.
#
#   scripts/run-agent.sh -n alice
set -eu

main() {
    root=$(cd "$(dirname "$0")/.." && pwd)
    name='' wws_name='' left=$#
    # Each word is taken from the front, and what is not ours put back at the end.
    while [ "$left" -gt 0 ]; do
        word=$1
        shift
        left=$((left - 1))
        case $word in
        -h | --help) usage && exit 0 ;;
        -n | --name | --wws-name | --swarm-id)
            value=''
            [ "$left" -eq 0 ] || value=$1
            [ -n "$value" ] || wrong "$word needs a value"
            shift
            left=$((left - 1))
            ;;
        --name=?* | --wws-name=?* | --swarm-id=?*)
            value=${word#*=}
            word=${word%%=*}
            ;;
        *)
            set -- "$@" "$word"
            continue
            ;;
        esac
        case $word in
        --wws-name) wws_name=$value ;;
        --swarm-id) set -- "$@" --swarm "$value" ;;
        *) name=$value ;;
        esac
    done
    name=${name:-$wws_name}
    if [ "$name" != "${wws_name:-$name}" ]; then
        # By variables, of which the name alone wins; a flag would beat both.
        WWS_AGENT_NAME=$name WWS_NAME=$wws_name
        export WWS_AGENT_NAME WWS_NAME
    elif [ -n "$name" ]; then
        set -- --name "$name" "$@"
    fi
    run join "$@"
}

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

wrong() {
    echo "run-agent.sh: $1 (--help says more)" >&2
    exit 2
}

# The installed program, else that of the checkout.
run() {
    if command -v wws >/dev/null; then
        exec wws "$@"
    elif [ -x "$root/.venv/bin/wws" ]; then
        exec "$root/.venv/bin/wws" "$@"
    fi
    echo "run-agent.sh: no wws on the PATH; in a checkout 'make demo' makes one" >&2
    exit 10
}

main "$@"
