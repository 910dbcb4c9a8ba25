#!/bin/sh
# Pushes the container image of a verified release to a registry: the very archive that was signed.
#
#   scripts/release/container.sh --files DIR --version V --image REGISTRY/NAME [--latest]
#
# Needs skopeo (GitHub's Ubuntu runners have it), and REGISTRY_USER and REGISTRY_TOKEN in the environment. --latest
# lets the tag `latest` follow. Prints the digest, which is what one should run by. Appends digest=… to
# $GITHUB_OUTPUT where that is set.
set -eu

main() {
    files='' version='' image='' latest=''
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage && exit 0 ;;
        --latest)
            latest=yes
            shift
            continue
            ;;
        --files) files=${2:?} ;;
        --version) version=${2:?} ;;
        --image) image=${2:?} ;;
        *) wrong "what is $1?" ;;
        esac
        shift 2
    done
    for given in "$files" "$version" "$image"; do
        [ -n "$given" ] || wrong "an option is missing"
    done
    case $version in *[a-z]*) latest='' ;; esac # a candidate is never the latest
    : "${REGISTRY_USER:?is missing}" "${REGISTRY_TOKEN:?is missing}"
    # Names of repositories on GitHub may have capitals, those of images may not.
    image=$(printf '%s' "$image" | tr '[:upper:]' '[:lower:]')
    folder=$(mktemp -d "${RUNNER_TEMP:-${TMPDIR:-/tmp}}/wws-container.XXXXXX")
    trap 'rm -rf "$folder"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' HUP TERM
    # A file, and not --dest-creds: command lines are seen by others.
    (umask 077 && printf '{"auths": {"%s": {"auth": "%s"}}}\n' "${image%%/*}" \
        "$(printf '%s:%s' "$REGISTRY_USER" "$REGISTRY_TOKEN" | base64 | tr -d '\n')" >"$folder/auth.json")
    unset REGISTRY_TOKEN
    for tag in "$version" ${latest:+latest}; do
        skopeo copy --authfile "$folder/auth.json" --preserve-digests --digestfile "$folder/digest" \
            "oci-archive:$files/wws-$version-container.tar" "docker://$image:$tag"
    done
    echo "$image@$(cat "$folder/digest")"
    if [ -n "${GITHUB_OUTPUT:-}" ]; then
        printf 'digest=%s\nimage=%s\n' "$(cat "$folder/digest")" "$image" >>"$GITHUB_OUTPUT"
    fi
}

usage() { sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p;}' "$0"; }

wrong() {
    echo "container.sh: $1 (--help says more)" >&2
    exit 2
}

main "$@"
