#!/bin/sh
# Installs wws for this user, and upgrades or removes it. It asks nothing, and never for root. Exit codes: docs/install.md.
# A release counts when its hash fits SHA256SUMS, signed by a release key that a root key below vouches for.
# shellcheck disable=SC2015,SC3045 # "a && b || fail" is meant so; every shell that is tested has ulimit -c
set -eu
# Filled in by a release. A copy without them needs --from and --root-key.
RELEASES=''
ROOTS=''
GLIBC=''
set -- whole "$@" # main misses this word when the last line was cut after "main", and then does nothing
usage() {
    cat <<'END'
Usage: sh install.sh [options]       or  curl -sSfL URL/install.sh | sh -s -- [options]
Example: sh install.sh --prefix "$HOME/tools" --no-modify-path

  --prefix DIR         where to: DIR/bin and DIR/share/wws (default: ~/.local)
  --version V          this version, even an older one (default: what the channel says)
  --channel NAME       follow this channel (default: stable)
  --from URL           take releases from a mirror; they are verified all the same
  --root-key KEY       believe this root key ('ssh-ed25519 AAAA…') and not the built-in ones; may be repeated
  --offline DIR        the files of a release lie in DIR; download nothing
  --require-signature  stop where nothing can verify signatures, instead of checking hashes alone
  --no-modify-path     leave the files alone that set PATH
  --no-service         do not tell how to keep wws running as a service, nor what to restart after an update
  --dry-run            show every URL, path and hash; change nothing
  --yes                ask nothing, which is so anyway
  --uninstall          remove wws; with --purge its identities and data, too
END
}
main() {
    [ "${1-}" = whole ] && shift || exit 9
    if [ -n "${ZSH_VERSION-}" ]; then emulate -R sh && set -eu; fi
    exec </dev/null && umask 022 && export LC_ALL=C # stdin may be the pipe that this script came by
    unset IFS CDPATH GREP_OPTIONS TAR_OPTIONS GZIP POSIXLY_CORRECT 2>/dev/null || : # they change what our tools do
    work='' new='' locked='' serial=0 issued=0 keys_folder='' keys='' revoked=''
    trap clean_up EXIT && trap 'exit 130' INT && trap 'exit 143' HUP TERM
    for tool in awk cat cp cut date find grep gzip head id ln ls mkdir mktemp mv printf readlink rm rmdir sed sleep sort tail tar tr uname; do
        have $tool || fail 10 "$tool is missing on this machine, or in PATH. Install it, then run this again."
    done
    parse "$@"
    [ -n "${HOME-}" ] || HOME=$(awk -F: -v id="$(id -u)" '$3 == id { print $6 }' /etc/passwd 2>/dev/null) || HOME=''
    case $HOME in /*) export HOME ;; *) fail 10 "HOME is not set to a folder. Give it: HOME=/home/you sh install.sh" ;; esac
    prefix=${prefix:-${HOME%/}/.local} data=${WWS_HOME:-$HOME/.openswarm} && share=$prefix/share/wws
    at=$prefix && is "$prefix$HOME" '[^:|]+' && is_private ||
        fail 10 "others on this machine can change what is in $at, or its path has a colon, a bar or a line feed in it. Another place: --prefix DIR"
    case :$PATH: in *:"$prefix/bin":*) in_path=yes ;; *) in_path='' ;; esac
    if [ -n "$uninstall" ]; then uninstall; else install; fi
}
parse() {
    prefix='' version='' channel='' from='' offline='' root_key='' dry_run='' uninstall='' purge='' require_signature=''
    no_modify_path='' no_service='' timeout=${WWS_INSTALL_TIMEOUT:-30} retries=${WWS_INSTALL_RETRIES:-3}
    while [ $# -gt 0 ]; do
        case $1 in --*=*) option=${1%%=*} && value=${1#*=} && shift && set -- "$option" "$value" "$@" ;; esac
        case $1 in
        --prefix | --version | --channel | --from | --offline | --root-key)
            [ -n "${2-}" ] || wrong "$1 needs a value"
            if [ "$1" = --root-key ]; then root_key="$root_key $2"; else eval "${1#--}=\$2"; fi && shift ;;
        --require-signature | --no-modify-path | --no-service | --dry-run | --uninstall | --purge) eval "$(say "${1#--}" | tr - _)=yes" ;;
        --yes | -y) ;;
        --help | -h) usage && exit 0 ;;
        *) wrong "there is no option $1" ;;
        esac
        shift
    done
    version=${version#v} from=${from%/} given=$(keys_in "$root_key")
    case $prefix in '' | /*) ;; *) prefix=$PWD/$prefix ;; esac; case $offline in '' | /*) ;; *) offline=$PWD/$offline ;; esac
    [ -z "$purge" ] || [ -n "$uninstall" ] || wrong "--purge goes with --uninstall"
    is "$version" "($version_form)?" || wrong "'$version' is not a version like 1.2.3"
    is "$timeout.$retries" '[1-9][0-9]{0,4}\.(0|[1-9][0-9]?)' || wrong "WWS_INSTALL_TIMEOUT and WWS_INSTALL_RETRIES are whole numbers, like 30 and 3"
    is "${channel:-stable}" '[a-z][a-z0-9-]{0,31}' || wrong "'$channel' is not the name of a channel"
    is "${from:-https://x}" 'https://[][A-Za-z0-9._~:/%+=-]+|http://(127\.0\.0\.1|localhost)(:[0-9]+)?(/[A-Za-z0-9._~/%+=-]*)?' ||
        wrong "--from takes an https:// URL (http:// for this machine alone)"
    [ "$(say "$given" | tr -d ' \n')" = "$(say "$root_key" | tr -d ' \n')" ] || wrong "a root key looks so: --root-key 'ssh-ed25519 AAAAC3…'"
}
say() { printf '%s\n' "$@"; }
note() { say "$@" >&2; }
wrong() { note "install.sh: $*. See --help." && exit 2; }
fail() { code=$1 && shift && note "" "error: $*" && exit "$code"; }
refuse() { fail 8 "$@"; }
full() { why=$(mktemp "${1:-$share}/work.XXXXXX" 2>&1) && rm -f "$why" && why="is the disk full?"; fail 10 "cannot write into ${1:-$share}: ${why##*: } (df -h '$prefix')"; } # in the system's words, where it has any
add() { say "As root, for example: apt-get update && apt-get install -y $*"; }
have() { command -v "$1" >/dev/null 2>&1; }
is() { say "$1" | tr '\n' '|' | grep -Eqx "($2)\|"; } # also: one line
version_form='((0|[1-9][0-9]{0,5})\.){2}(0|[1-9][0-9]{0,5})((a|b|rc)(0|[1-9][0-9]{0,5}))?'
older() { # versions: 1.2.0rc1 < 1.2.0 < 1.10.0. And numbers, as text: some shells have but 32 bits
    say "$1" "$2" | awk -F. '{ sub(/(rc|a|b)[0-9]*$/, ".&") && sub(/[.](rc|a|b)/, "&."); rank[NR] = sprintf("%14s%6s%6s%s%6s", $1, $2, $3, $4 == "" ? "z" : $4, $5) } END { exit !(rank[1] < rank[2]) }'
}
key_form='ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI[A-P][A-Za-z0-9+/]{42}'
time_form='[0-9]{4}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]'
keys_in() { say "$1" | grep -Eo "$key_form" || :; }
told() { value "$1" "$share/installation" 2>/dev/null || :; }
is_private() { # whether nobody else can put in place what is run from here. /tmp is for all, but sticky; root may use somebody's HOME
    me=$(id -u) && set -- -perm -2 ! -perm -1000 ! -type l
    [ "$me" = 0 ] || set -- "$@" -o ! -user "$me" ! -user 0 ! -user 65534 # nobody: who is not mapped into a container
    set -- -prune \( "$@" \) && for at in "$share" "$prefix/bin"; do
        [ -z "$(find "$at/" -prune \( -perm -2 -o ! -user "$me" ! -user 0 ! -user 65534 \) 2>/dev/null)" ] || return 1
        while [ -n "$at" ]; do set -- "$at" "$at/" "$@" && at=${at%/*}; done
    done
    at=$(find "$@" 2>/dev/null | tail -n 1) && at=${at%/} && [ -z "$at" ]
}
limit() { ulimit -c 0 && ulimit -f $(($1 * 2)); } # KIB of one file; bash counts in KiB, and allows twice as much
know_platform() {
    case "$(uname -s) $(uname -m) $(sysctl -n sysctl.proc_translated 2>/dev/null)" in
    Linux\ x86_64* | Linux\ amd64*) platform=linux-x86_64 ;;
    Linux\ aarch64* | Linux\ arm64*) platform=linux-aarch64 ;;
    Darwin\ arm64* | Darwin\ x86_64\ 1) platform=macos-aarch64 && return ;; # the second is Rosetta
    Darwin\ x86_64*) platform=macos-x86_64 && return ;;
    MINGW* | MSYS* | CYGWIN*) fail 10 "on Windows wws runs inside WSL: wsl --install, then run this there." ;;
    *) fail 10 "there are releases for Linux and macOS on x86_64 and aarch64, not for $(uname -sm). With Python 3.11: pip install wws" ;;
    esac
    ! grep -qi microsoft /proc/version 2>/dev/null || note "This is WSL: what runs in it ends with it."
    libc=$(getconf GNU_LIBC_VERSION 2>/dev/null || ldd --version 2>&1 | head -n 1) || libc=''
    case $libc in
    *musl*) no_glibc "this system has musl (Alpine and others)" ;;
    *[0-9].[0-9]*) [ -z "$GLIBC" ] || ! older "${libc##* }" "$GLIBC" || no_glibc "this system has glibc ${libc##* }" ;;
    *) for loader in /lib*/ld-linux-*.so.*; do [ -e "$loader" ] || no_glibc "this system has another C library (musl?)"; done ;;
    esac
}
no_glibc() { fail 10 "$1, and releases need glibc${GLIBC:+ $GLIBC or newer}. Use a newer system, a container, or Python 3.11: pip install wws"; }
choose_tools() { # to download, to hash and to verify: of getters and verifiers the last that is here
    getter='' verifier=''
    ! have wget || case $(wget --version 2>&1) in *GNU\ Wget*) getter=wget ;; *) getter="this wget" ;; esac
    ! have curl || getter=curl
    [ -n "$getter$offline" ] || fail 10 "neither curl nor wget is here. $(add curl ca-certificates)"
    for hasher in sha256sum 'shasum -a 256' 'openssl dgst -sha256 -r' ''; do ! have "${hasher%% *}" || break; done
    [ -n "$hasher" ] || fail 10 "nothing here computes SHA-256, so nothing can be checked. $(add coreutils)"
    ! "$share/current/bin/wws" self verify-file --help >/dev/null 2>&1 || verifier=wws
    ! have minisign || ! have base64 || verifier=minisign
    ! have openssl || case $(openssl version) in OpenSSL\ [3-9]*) verifier=openssl ;; esac
    ! have ssh-keygen || ssh-keygen -Y check-novalidate -n x -s /nonexistent 2>&1 | grep -qi option || verifier='ssh-keygen'
    [ -z "$verifier" ] || return 0
    # A wget can be led from https to http, and that of BusyBox checks no certificates.
    case $offline:$getter in :*wget) refuse "nothing here verifies signatures, and with $getter the connection alone proves nothing. $(add openssh-client)" ;; esac
    [ -z "$require_signature" ] || refuse "nothing here verifies signatures. $(add openssh-client)"
    note "warning: nothing here verifies signatures (ssh-keygen, OpenSSL 3, minisign). Hashes alone are checked, and they" \
        "come from where the files come from. To stop here instead: --require-signature"
}
begin() { # with a folder for this run, and a lock that ends with it, however it ends; without flock a link tells whose it is
    [ -z "$dry_run" ] || { work=$(mktemp -d "${TMPDIR:-/tmp}/wws.XXXXXX") && log=$work/log && return || fail 10 "cannot write into ${TMPDIR:-/tmp}"; }
    [ -d "$share" ] || new=$share
    while [ -n "$new" ] && ! [ -d "${new%/*}/" ]; do new=${new%/*}; done # the first folder that is made: it goes if this fails
    { mkdir -p "$share/versions" && : >>"$share/lock"; } 2>/dev/null || fail 10 "cannot write into $share. Another place: --prefix DIR"
    exec 9>>"$share/lock" && { ! have flock || flock -n 9 9>&9 || busy; }
    until have flock || ln -s $$ "$share/lock.held" 2>/dev/null; do
        if kill -0 "$(readlink "$share/lock.held")" 2>/dev/null; then busy; else rm "$share/lock.held" || full; fi # its owner is gone
    done
    locked=yes && rm -rf "$share"/work.* && work=$(mktemp -d "$share/work.XXXXXX") && log=$work/log || full # and no more of runs that were killed
}
busy() { new='' && fail 10 "another installation is at work in $share. Wait for it, then run this again."; }
clean_up() {
    result=$? && trap '' INT TERM HUP
    [ -z "$work" ] || rm -rf "$work"
    if [ -n "$locked" ] && ! have flock; then rm -f "$share/lock.held"; fi
    [ $result -eq 0 ] || [ -z "$new" ] || [ -L "$share/current" ] ||
        { rm -f "$share/lock" && find "$new" -depth -type d -exec rmdir {} +; } 2>/dev/null || :
    exit $result
}
point() { # LINK CONTENT: by one rename. mv would go into the folder of an old link: -T of GNU and BusyBox, -h of BSD
    [ "$(readlink "$1" 2>/dev/null)" != "$2" ] || return 0
    rm -rf "$1.new" && ln -s "$2" "$1.new" && { mv -f -T "$1.new" "$1" 2>/dev/null || mv -f -h "$1.new" "$1"; } || full "${1%/*}"
}
keep() { cp "$1" "$2.new" && mv -f "$2.new" "$2" || { rm -f "$2.new" && full "${2%/*}"; }; } # FILE PLACE: there whole, or as before
is_ours() { [ "$(readlink "$prefix/bin/$1" 2>/dev/null)" = "../share/wws/current/bin/$1" ]; }
fetch() { # FOLDER NAME KIB: a file below $releases/download, of at most that size, into $work; 1: it is not there
    file=$work/$1/$2 url=$releases/download/$1/$2 attempt=0 && mkdir -p "$work/$1" || full
    within=$((timeout * (4 + $3 / 2200))) # seconds: two minutes for what is small, an hour for an archive
    if [ -n "$offline" ]; then
        url=$offline/$2 && [ -f "$url" ] || return 1
        (limit "$3" && exec cp "$url" "$file") && return || [ $? -ne 153 ] || fail 10 "$url has more than the $3 KiB that it may have."
        head -c 1 "$url" >/dev/null && full || fail 10 "cannot read $url. Is the stick whole, and may you read it?"
    fi
    while :; do
        { transfer "$3" 3>&2 && return || problem=$?; } 2>/dev/null
        (printf x >"$work/probe") 2>/dev/null || full # before the tools are asked why: they are not alone in writing
        reason=$(tail -n 1 "$log" | tr -cd ' -~' | cut -c 1-200)
        case $getter:$problem:$answer in
        *:20:* | curl:1:*) fail 9 "$url leads to an address that is not https." ;;
        *:404 | *:410) return 1 ;;
        *:4??) fail 9 "$url is refused: the answer is $answer." ;;
        *:153:* | curl:63:*) fail 9 "$url has more than the $3 KiB that it may have." ;;
        curl:23:* | wget:3:*) full ;;
        curl:60:* | curl:77:* | wget:5:*) fail 9 "the certificate of $releases is not trusted: $reason. No CA certificates? $(add ca-certificates). A CA of your own: CURL_CA_BUNDLE=/path/to/ca.pem. The clock says $(date)." ;;
        esac
        attempt=$((attempt + 1)) && [ $attempt -le "$retries" ] || fail 9 "cannot download $url: ${reason:-no word why}. Is there a way to it, or a proxy (https_proxy)?"
        note "  $2: ${reason:-no word why}; trying again" && sleep $((attempt * attempt))
    done
}
transfer() { # KIB: $url into $file, and the status code into $answer
    if [ "$getter" = curl ]; then
        protocol='=https' silent=-sS errors=$log && case $url in http:*) protocol='=http' ;; esac
        if [ "$1" -gt 9999 ] && [ -t 3 ]; then silent='-#' errors=/dev/fd/3; fi
        answer=$(limit "$1" && exec curl -q -fL $silent --proto $protocol --proto-redir '=https' --max-redirs 5 --tlsv1.2 --max-filesize $(($1 * 1024)) \
            --connect-timeout "$timeout" --speed-limit 100 --speed-time "$timeout" --max-time $within -w '%{http_code}' -o "$file" "$url" 2>"$errors" 9>&-) && return || return
    fi # GNU wget reads this file; that of BusyBox knows nothing of the kind
    say "verbose = off" "timeout = $timeout" "tries = 1" "check_certificate = on" ${CURL_CA_BUNDLE:+"ca_certificate = $CURL_CA_BUNDLE"} >"$work/wgetrc"
    for ended_by in "timeout --foreground $within" "timeout $within" ''; do ! $ended_by id >/dev/null 2>&1 || break; done # of GNU, of BusyBox
    problem=0 && (limit "$1" && WGETRC=$work/wgetrc && export WGETRC && exec $ended_by wget -S -O - "$url" >"$file" 2>"$log" 9>&-) || problem=$?
    case $problem in 124 | 143) say "not done after $within s" >>"$log" ;; esac
    answer=$(sed -n 's/.*HTTP\/[0-9.]* \([0-9][0-9][0-9]\).*/\1/p' "$log" | tail -n 1)
    if grep -qi '^ *location: *http:' "$log"; then return 20; else return $problem; fi
}
fetch_signed() { # FOLDER NAME KIB: with the signature for the verifier here, and the raw one for the release's own
    fetch "$1" "$2" "$3" || return 1
    case $verifier in ssh-keygen) forms='sig sshsig' ;; minisign) forms='sig minisig' ;; *) forms=sig ;; esac
    for form in $forms; do fetch "$1" "$2.$form" 4 || refuse "$2 of $source has no signature ($url)."; done
}
signed() { # FILE NAMESPACE KEYS: by one of the keys. Without a verifier everything is; that was said.
    [ -z "$verifier" ] || say "$3" | (while read -r _ blob; do ! signed_by "$1" "$2" "$blob" >/dev/null 2>&1 || exit 0; done && exit 1)
}
signed_by() { # FILE NAMESPACE BLOB
    case $verifier in
    wws) "$share/current/bin/wws" self verify-file --key "ssh-ed25519 $3" --namespace "$2" --signature "$1.sig" "$1" </dev/null ;;
    ssh-keygen) say "release@wws ssh-ed25519 $3" >"$work/key" && ssh-keygen -Y verify -f "$work/key" -I release@wws -n "$2" -s "$1.sshsig" <"$1" ;;
    openssl) x509_key "$3" >"$work/key" && openssl pkeyutl -verify -rawin -pubin -keyform DER -inkey "$work/key" -sigfile "$1.sig" -in "$1" ;;
    minisign) minisign -V -q -P "$(minisign_key "$3")" -m "$1" -x "$1.minisig" ;;
    esac
}
# The last 32 bytes of our form of a key are the key: X.509 has 12 fixed bytes before it, minisign "Ed" and a number.
x509_key() { printf '\060\052\060\005\006\003\053\145\160\003\041\000' && say "$1" | openssl base64 -d -A | tail -c 32; }
minisign_key() { say "$1" | base64 -d | tail -c 32 >"$work/key" && { printf Ed && head -c 8 "$work/key" && cat "$work/key"; } | base64 | tr -d '\n'; }
lines_are() { tr '\n\000|' '|\n!' <"$1" 2>/dev/null | tr '\n' ! | grep -Eqx "$2"; } # FILE PATTERN, in which | ends each line
value() { sed -n "s/^$1 //p" "$2"; }                            # WORD FILE
statement() { # FILE: whether it is a list of release keys; then what it says
    lines_are "$1" "wws-release-keys 1\|serial [1-9][0-9]{0,8}\|expires $time_form\|(key $key_form\|)+(revoked $key_form\|)*" || return 1
    new_serial=$(value serial "$1") end=$(value expires "$1") new_revoked=$(value revoked "$1")
    new_keys=$(value key "$1" | grep -vFx -e "$new_revoked") || :
}
believe() { serial=$new_serial keys=$new_keys revoked=$new_revoked keys_folder=$1; } # the statement in this FOLDER
adopt_keys() { # FOLDER, whose release-keys count from now on; older ones are met beside an old release that was asked for
    statement "$work/$1/release-keys" || refuse "release-keys of $source is no list of release keys."
    signed "$work/$1/release-keys" wws-release-keys "$roots" ||
        refuse "release-keys of $source is not signed by a root key that counts here. For other people's releases: --root-key"
    ! older "$end" "$now" || refuse "release-keys of $source lapsed at $end UTC, and now it is $now: an old list, or the clock is wrong."
    older "$new_serial" "$serial" || { believe "$1" && return; }
    [ -n "$asked" ] || refuse "release-keys of $source has the serial $new_serial, and this machine has seen $serial: somebody serves an old list."
}
by_release_key() { # FILE NAMESPACE
    signed "$1" "$2" "$keys" && return || signed "$1" "$2" "$revoked" && refuse "${1##*/} of $source is signed by a key that has been revoked."
    refuse "${1##*/} of $source is not signed by a release key."
}
is_ahead() { say "$1" "$2" | awk '{ day[NR] = substr($0, 1, 4) * 372 + substr($0, 5, 2) * 31 + substr($0, 7, 2) } END { exit !(day[1] > day[2] + 5) }'; } # by five days: else one made with a stolen key made all later ones old
follow_channel() { # FILE: which version it leads to, if it is genuine, not lapsed and no step back
    by_release_key "$1" wws-channel
    lines_are "$1" "wws-channel 1\|channel $channel\|version $version_form\|issued $time_form\|expires $time_form\|" ||
        refuse "what $source serves is not the channel $channel."
    version=$(value version "$1") new_issued=$(value issued "$1") end=$(value expires "$1")
    ! older "$end" "$now" || refuse "channel $channel of $source lapsed at $end UTC, and now it is $now: an old one, or the clock is wrong."
    ! is_ahead "$new_issued" "$now" || refuse "channel $channel of $source was issued at $new_issued UTC, and now it is $now: the clock is wrong."
    ! older "$new_issued" "$issued" || refuse "channel $channel of $source was issued at $new_issued, and this machine has seen one of $issued."
}
install() {
    from=${from:-$(told from | grep '^http' || :)} # a mirror that was named counts until another is; the built-in address may move
    releases=${from:-$RELEASES} now=$(date -u +%Y%m%d%H%M%S) asked=$version roots=${given:-$(keys_in "$ROOTS")}
    [ -n "$releases$offline" ] && [ -n "$roots" ] || wrong "this copy does not know releases and root keys: --from URL, --root-key KEY"
    source=${offline:-$releases} && { [ -n "$releases" ] || from=$offline; }
    [ -z "$offline" ] || [ -d "$offline/." ] || fail 10 "there is no folder $offline (--offline), or it is closed to you."
    know_platform; choose_tools; begin
    for program in wws wws-connector wws-bootstrap; do
        is_ours $program || ! ls -d "$prefix/bin/$program" >/dev/null 2>&1 || fail 10 "there is another $prefix/bin/$program. Remove it, or: --prefix DIR"
    done
    channel=${channel:-$(told channel)} && channel=${channel:-stable}
    current=$(readlink "$share/current" 2>/dev/null) && [ -x "$share/current/bin/wws" ] || current=''
    installed=${current##*/} && installed=${installed%.new}
    choose_version
    [ "$version" = "$installed" ] && changed='' || changed=$installed
    if [ -z "$dry_run" ] && is_whole; then say "wws $version is installed already."; else get_release; fi
    [ -n "$dry_run" ] || settle
}
is_whole() { [ "$current" = "versions/$version" ] && [ "${hasher#openssl}" = "$hasher" ] && (cd "$share/current/" && $hasher -c MANIFEST) >/dev/null 2>&1; }
choose_version() {
    if say "$roots" | grep -qFx -f "$share/trust/roots" 2>/dev/null; then # what this machine has seen under these root keys
        mkdir "$work/kept" && cp "$share"/trust/* "$work/kept" || full
        ! statement "$work/kept/release-keys" || believe kept
        issued=$(value issued "$work/kept/channel-$channel" 2>/dev/null) || issued=0
    fi
    if fetch_signed "channel-$channel" release-keys 16; then adopt_keys "channel-$channel"; fi
    [ -z "$version" ] || return 0
    if fetch_signed "channel-$channel" channel 16; then
        [ "$keys_folder" = "channel-$channel" ] || refuse "there is no release-keys beside channel $channel of $source."
        follow_channel "$work/channel-$channel/channel"
    else
        [ -n "$offline" ] || fail 9 "$source has no channel $channel ($url)."
        version=$(printf '%s\n' "$offline"/wws-*-"$platform".tar.gz | sed "s/^.*\/wws-//; s/-$platform.tar.gz\$//")
        is "$version" "$version_form" || fail 10 "$offline has not one wws-<version>-$platform.tar.gz. Say which: --version V"
    fi
    [ -z "$installed" ] || ! older "$version" "$installed" ||
        refuse "$source leads to $version, and $installed is installed. If you want it: --version $version"
}
get_release() {
    folder=v$version archive=wws-$version-$platform.tar.gz
    fetch_signed "$folder" SHA256SUMS 64 || fail 9 "$source has no release $version ($url)."
    sums=$work/$folder/SHA256SUMS
    [ "$keys_folder" = "channel-$channel" ] || { fetch_signed "$folder" release-keys 16 && adopt_keys "$folder"; } ||
        refuse "there is no release-keys beside release $version of $source."
    by_release_key "$sums" wws-release
    lines_are "$sums" '([0-9a-f]{64}  [A-Za-z0-9][A-Za-z0-9._+-]*\|)+' && cut -c 67- "$sums" | sort -cu 2>/dev/null || refuse "SHA256SUMS of $source is empty, or no list of hashes."
    ! cut -c 67- "$sums" | grep '^wws-' | grep -qv "^wws-${version}[-.]" || refuse "SHA256SUMS of $source is of another release than $version."
    wanted=$(sed -n "s/^\([0-9a-f]*\)  $archive\$/\1/p" "$sums") && is "$wanted" '[0-9a-f]{64}' || fail 10 "release $version has nothing for $platform."
    if [ -n "$dry_run" ]; then
        say "Would install wws $version${installed:+ (installed: $installed)}:" "  from    ${source%/}/download/$folder/$archive" "  sha256  $wanted" \
            "  signed  ${verifier:+verified by }${verifier:-not verified}" "  into    $share/versions/$version" \
            "  links   $prefix/bin/wws, wws-connector, wws-bootstrap" "  data    $data (an identity, when there is none)"
        [ -n "$no_modify_path" ] || path_files | sed 's/^/  PATH    a line in /'
        (cd "$work" && find v* channel-* -type f | sort | sed "s|^|  read    $source/download/|") && return
    fi
    if [ -n "$offline" ]; then note "Reading $offline/$archive"; else note "Downloading $archive"; fi
    fetch "$folder" "$archive" 262144 || fail 9 "$source has no $archive ($url)."
    found=$($hasher <"$file" | cut -c 1-64)
    [ "$found" = "$wanted" ] || refuse "$archive is not the file of the release: its SHA-256 is $found, not $wanted."
    unpack; switch
}
unpack() { # $file, whose hash is right; still it must not reach out of its folder, nor fill the disk
    tree=$work/tree/wws-$version place=$share/versions/$version
    (limit 524288 && gzip -dc "$file" >"$work/tar") 2>/dev/null && rm -f "$file" || { gzip -t "$file" 2>/dev/null && full || refuse "$archive is no archive, or a broken one."; }
    tar -tf "$work/tar" 2>/dev/null | awk -v top="wws-$version/" '
        $0 != top && index($0, top) != 1 || /(^|\/)\.\.(\/|$)/ || /[^ -~]|\\/ { bad = 1 }
        END { exit bad || NR == 0 || NR > 60000 }' || refuse "$archive has files for other places than its own folder."
    ! tar -tvf "$work/tar" 2>/dev/null | grep -Eq '^[^-d]| -> | link to ' || refuse "$archive has links or devices in it."
    mkdir "$work/tree" && (limit 524288 && cd "$work/tree" && tar -xof "$work/tar") 2>/dev/null && rm -f "$work/tar" || full
    [ "$(cat "$tree/VERSION" 2>/dev/null)" = "$version" ] && [ -f "$tree/bin/wws" ] || refuse "$archive is not wws $version."
    mkdir -p "$tree/release" && cp "$work/$folder"/SHA256SUMS* "$work/$keys_folder"/release-keys* "$tree/release" || full
    set --
    for key in $given; do case $key in AAAA*) set -- "$@" --root-key "ssh-ed25519 $key" ;; esac done
    "$tree/bin/wws" self verify --staged "$tree" "$@" >"$log" 2>&1 || case $? in
    8) refuse "wws $version refuses itself: $(tail -n 3 "$log")" ;;
    126) fail 10 "no program can be run in $share (is it mounted noexec?). Another place: --prefix DIR" ;;
    *) fail 10 "wws $version does not run on this machine: $(tail -n 3 "$log")" ;;
    esac
}
switch() {
    if [ "$current" = "versions/$version" ]; then # it is damaged: a copy of the new one is current while that takes its place
        cp -R "$tree" "$work/copy" && rm -rf "$place.new" && mv "$work/copy" "$place.new" && point "$share/current" "versions/$version.new" || full
    fi
    { [ ! -e "$place" ] || mv "$place" "$work/replaced"; } && mv "$tree" "$place" || full "$share/versions"
    [ -z "$changed" ] || point "$share/previous" "$current"
    point "$share/current" "versions/$version"
    for old in "$share"/versions/*; do
        [ "$old" = "$place" ] || [ "versions/${old##*/}" = "$(readlink "$share/previous" || :)" ] || rm -rf "$old"
    done
    say "wws $version is installed${changed:+ (before: $changed; back to it: wws self rollback)}."
    if systemctl --user is-active -q 'wws*.service' 2>/dev/null; then again="systemctl --user restart 'wws*.service'"; else again="wws leave, then wws join as before"; fi
    [ -z "$changed" ] || [ -n "$no_service" ] || ! ls "$data"/run/*/ready.json >/dev/null 2>&1 || say "" "A node that runs goes on with $changed until it is started again:  $again"
}
settle() { # all that is around a version; nothing of it is done twice
    { mkdir -p "$prefix/bin" || full "$prefix"; } && rm -rf "$share/versions/$version.new" && mkdir -p "$share/trust" && say "$roots" >"$work/roots" || full
    for program in wws wws-connector wws-bootstrap; do point "$prefix/bin/$program" "../share/wws/current/bin/$program"; done
    [ -z "$verifier" ] || [ ! -f "$work/channel-$channel/channel" ] || keep "$work/channel-$channel/channel" "$share/trust/channel-$channel"
    [ -z "$verifier" ] || for item in "$work/$keys_folder"/release-keys* "$work/roots"; do keep "$item" "$share/trust/${item##*/}"; done # only what was verified
    [ -n "$no_modify_path" ] || [ -n "$in_path" ] || edit_paths add
    say "wws-installation 1" "version $version" ${from:+"from $from"} "channel $channel" "$(say "$given" | sed 's/^ssh/root ssh/')" \
        "$({ cat "$work/rc" 2>/dev/null || told path-edit; } | sed 's/^/path-edit /')" | sed '/^$/d' >"$work/installation" && keep "$work/installation" "$share/installation" || full
    [ -z "$changed" ] || return 0 # who updates has all that follows
    wws=$prefix/bin/wws network='' && identity=$("$wws" id 2>"$log") || [ $? -ne 4 ] || identity=$("$wws" id new 2>"$log") || identity=''
    say "${identity:-"warning: no identity: $(head -n 1 "$log")"}" | grep -E '^(peer id|did|path)  |^warning' || :
    ! "$wws" network show --json 2>/dev/null | grep -q '"networks": *\[\]' ||
        { network=" --network 'DOMAIN#PUBLISHER-KEY'" && say "" "This build knows no network: ask who runs yours for its domain and publisher key."; }
    [ -n "$in_path" ] || say "" "In this terminal first:  export PATH=$(quoted "$prefix/bin"):\"\$PATH\""
    say "" "A node with a name has a key of its own: its first join makes it." "Next:  wws join --name YOUR-NAME$network"
    [ -n "$no_service" ] || ! systemctl --user show-environment >/dev/null 2>&1 || say "or, to keep it running:  wws service install --name YOUR-NAME$network"
}
quoted() { printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"; }
path_files() { # what the shells of this user read, and what a run before has edited
    zsh=${ZDOTDIR:-$HOME}/.zshrc && { told path-edit && say "$HOME/.profile" && case ${SHELL-} in */zsh) say "$zsh" ;; esac &&
        for rc in "$HOME/.bash_profile" "$HOME/.bash_login" "$HOME/.bashrc" "$zsh"; do [ ! -f "$rc" ] || say "$rc"; done; } | sort -u
}
edit_paths() { # add|remove. By a copy and a rename: never half a file of the user's. The line says where it made the file
    line="case \":\$PATH:\" in *:$(quoted "$prefix/bin"):*) ;; *) export PATH=$(quoted "$prefix/bin"):\"\$PATH\" ;; esac # by the installer of wws"
    path_files >"$work/rc" || full
    while IFS= read -r rc; do
        found=$(grep -Fx -e "$line" -e "$line, as is this file" "$rc" 2>/dev/null | head -n 1) || :
        case $1:$found in add:?* | remove:) continue ;; esac
        real=$(readlink -f "$rc" 2>/dev/null) || real=$rc
        if [ -e "$real" ]; then was=$real found=${found:-$line}; else was=/dev/null found="$line, as is this file"; fi
        { LINE=$found awk -v what="$1" '$0 != ENVIRON["LINE"]; END { if (what == "add") print ENVIRON["LINE"] }' "$was" >"$work/new" &&
            { [ "$was" = /dev/null ] || cp -p "$real" "$real.wws"; } && cat "$work/new" >"$real.wws" && mv -f "$real.wws" "$real" &&
            { [ -s "$real" ] || [ "$found" = "$line" ] || rm -f "$real"; }; } 2>/dev/null && note "$1: a line for PATH, in $rc" || { rm -rf "$real.wws" && note "warning: cannot write $rc"; }
    done <"$work/rc"
}
uninstall() {
    [ -z "$purge" ] || ! [ -d "$data" ] || { data=$(cd -P "$data" && pwd -P) && case $(cd -P "$HOME" && pwd -P)/ in "${data%/}"/*) false ;; esac &&
        [ -n "$(ls -d "$data"/*.key "$data/state" "$data/networks" "$data/run" "$data/reports" 2>/dev/null)" ]; } || fail 10 "$data is no home of wws, or not that alone: it stays."
    if [ -n "$dry_run" ]; then
        say "Would remove $share, the links to it in $prefix/bin${purge:+, $data with all identities}, and a line from:" "$(path_files)" && return
    elif [ -d "$share" ]; then
        begin
        "$share/current/bin/wws" service uninstall --all >/dev/null 2>&1 || :
        for ready in "$data"/run/*/ready.json; do
            node=${ready%/ready.json} && [ ! -e "$ready" ] || "$share/current/bin/wws" leave --node "${node##*/}" || note "warning: ${node##*/} still runs."
        done
        edit_paths remove
        for program in wws wws-connector wws-bootstrap; do ! is_ours $program || rm -f "$prefix/bin/$program"; done
        for part in "$share"/*; do case ${part##*/} in versions | current | previous | trust | work.* | *.new | lock.held) rm -rf "$part" ;; esac done
        rm -f "$share/installation" "$share/lock" && rmdir "$share" "$prefix/bin" "$prefix/share" "$prefix" 2>/dev/null || :
    fi
    say "wws is not in $prefix${work:+ any more}."
    if [ -n "$purge" ]; then rm -rf "$data" && say "$data is removed, with the identities in it."; fi
    [ ! -d "$data" ] || say "Identities and settings stay in $data (--uninstall --purge removes them, too)."
}

main "$@"
