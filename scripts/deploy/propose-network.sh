#!/bin/sh
# Proposes the network file of the stack as the default network of the next release: a branch, and a pull request.
#
#   scripts/deploy/propose-network.sh --file network.json [--remote URL] [--trial]
#
# Nobody's builds change by this: the file counts when somebody has reviewed and merged it. The same file again
# proposes nothing. GH_TOKEN may push branches and open pull requests; it stands on no command line.
# --trial takes addresses that nobody else reaches. Exit status: 1 it was not proposed, 2 wrong usage, 8 it is not fit.
set -eu

main() {
    root=$(cd "$(dirname "$0")/../.." && pwd)
    file='' remote=${GITHUB_SERVER_URL:-https://github.com}/${GITHUB_REPOSITORY:-} trial=''
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage && exit 0 ;;
        --trial)
            trial=--allow-unreachable
            shift
            continue
            ;;
        --file) file=${2:?} ;;
        --remote) remote=${2:?} ;;
        *) wrong "what is $1?" ;;
        esac
        shift 2
    done
    [ -f "$file" ] || wrong "which file?"
    file=$(cd "$(dirname "$file")" && pwd)/${file##*/}
    cd "$root"
    said=$(scripts/python.sh packaging/check_network.py "$file" ${trial:+"$trial"})
    if cmp -s "$file" packaging/network.json; then
        echo "the default network of the next release is this one already"
        return
    fi
    branch=network/$(sha256sum "$file" | cut -c 1-12)
    base=$(git rev-parse HEAD)
    cp "$file" packaging/network.json
    git add packaging/network.json
    # A tree and a commit: the checkout stays on its branch, and its index as it was.
    tree=$(git write-tree)
    git reset --quiet -- packaging/network.json
    commit=$(git -c user.name="wws-deploy" -c user.email="wws-deploy@users.noreply.github.com" \
        commit-tree "$tree" -p "$base" -m "Name the network that the next release joins")
    scripts/deploy/push.sh "$remote" "$commit:refs/heads/$branch" --force
    if [ "$(gh pr list --head "$branch" --state open --json number --jq length)" = 0 ]; then
        gh pr create --head "$branch" --title "Name the network that the next release joins" --body "$(body)"
    fi
    echo "$branch"
}

body() {
    cat <<END
The roll-out has left the stack with this network file. Builds of the next release will join it where nobody names
another network, so compare it with what you know of the nodes by another way:

\`\`\`
$said
\`\`\`

\`python packaging/check_network.py packaging/network.json --publisher KEY\` insists on the publisher that you know.
END
}

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

wrong() {
    echo "propose-network.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
