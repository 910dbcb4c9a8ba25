#!/bin/sh
# Installs wws for this user, and upgrades or removes it. Never as root by itself, never with sudo.
#
#   curl -sSfL <where this file is>/install.sh | sh
#   curl -sSfL <where this file is>/install.sh | sh -s -- --help
#
# A release is believed when its hash fits SHA256SUMS, and SHA256SUMS is signed by a release key that a root key
# below vouches for. It is unpacked beside what is installed, checks itself, and is switched to by one rename.
# Exit codes: 0 done, 2 wrong usage, 8 integrity, 9 network, 10 this machine.
set -eu

# A release fills these in. A copy without them needs --from and --root-key.
RELEASES=''
ROOTS=''
GLIBC=''

# What a cut last line would leave of the arguments is missed by main, which then does nothing.
set -- whole "$@"

usage() {
    cat <<'END'
Usage: install.sh [options]          as a pipe: curl -sSfL URL/install.sh | sh -s -- [options]

  --prefix DIR       where to: DIR/bin and DIR/share/wws (default: ~/.local)
  --version V        this version, also an older one (default: what the channel says)
  --channel NAME     follow another channel (default: stable)
  --from URL         releases of a mirror; what it serves is verified all the same
  --root-key KEY     trust this root key ('ssh-ed25519 AAAA…') in place of the built-in ones; may be repeated
  --offline DIR      the files of a release lie in DIR; nothing is downloaded
  --require-signature  fail where nothing can verify signatures, instead of checking hashes only
  --no-modify-path   leave the files that set PATH alone
  --no-service       do not offer to start wws with the machine
  --dry-run          show every URL, path and hash; change nothing
  --yes              ask nothing
  --uninstall        remove wws; identities stay
  --purge            with --uninstall: remove identities and all other data, too
  --help             this

Example: install.sh --prefix "$HOME/tools" --no-modify-path
Environment: https_proxy, CURL_CA_BUNDLE; WWS_INSTALL_TIMEOUT=30 seconds without a byte, WWS_INSTALL_RETRIES=3.
END
}

main() {
    [ "${1-}" = whole ] || exit 9
    shift
    if [ -n "${ZSH_VERSION-}" ]; then emulate -R sh && set -eu; fi
    exec </dev/null # stdin may be the pipe that this script came by
    umask 022
    LC_ALL=C
    export LC_ALL
    newline='
'
    edited='' work='' made='' locked='' finished=''
    parse "$@"
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' HUP TERM
    need awk cat chmod cp date grep gzip head id ln ls mkdir mktemp mv readlink rm rmdir sed sleep tail tar tr uname wc
    find_home
    share=$prefix/share/wws
    if [ -n "$uninstall" ]; then
        uninstall
    else
        know_platform
        choose_tools
        install
    fi
    finished=yes
}

# --- arguments, messages --------------------------------------------------------------------------------------------

parse() {
    prefix='' version='' channel='' from='' roots='' offline='' dry='' yes='' edit=yes service=yes insist='' uninstall=''
    purge='' timeout=${WWS_INSTALL_TIMEOUT:-30} retries=${WWS_INSTALL_RETRIES:-3}
    while [ $# -gt 0 ]; do
        option=$1 value=''
        shift
        case $option in
        --prefix | --version | --channel | --from | --root-key | --offline)
            [ -n "${1-}" ] || wrong "$option needs a value"
            value=$1
            shift
            ;;
        --prefix=?* | --version=?* | --channel=?* | --from=?* | --root-key=?* | --offline=?*)
            value=${option#*=}
            option=${option%%=*}
            ;;
        esac
        case $option in
        --prefix) prefix=$value ;;
        --version) version=${value#v} ;;
        --channel) channel=$value ;;
        --from) from=${value%/} ;;
        --root-key) roots="$roots $value" ;;
        --offline) offline=$value ;;
        --require-signature) insist=yes ;;
        --no-modify-path) edit='' ;;
        --no-service) service='' ;;
        --dry-run) dry=yes ;;
        --yes | -y) yes=yes ;;
        --uninstall) uninstall=yes ;;
        --purge) purge=yes ;;
        --help | -h) usage && exit 0 ;;
        *) wrong "there is no option $option" ;;
        esac
    done
    [ -z "$purge" ] || [ -n "$uninstall" ] || wrong "--purge goes with --uninstall"
    [ -z "$version" ] || is_version "$version" || wrong "'$version' is not a version like 1.2.3"
    matches "${channel:-stable}" '[a-z][a-z0-9-]{0,31}' || wrong "'$channel' is not the name of a channel"
    matches "$timeout $retries" '[1-9][0-9]{0,3} [0-9]{1,2}' || wrong "WWS_INSTALL_TIMEOUT and _RETRIES are numbers"
    case "$prefix$offline" in *"$newline"*) wrong "a folder with a line break in its name will not do" ;; esac
    case $prefix in '' | /*) ;; *) prefix=$PWD/$prefix ;; esac
    case $offline in '' | /*) ;; *) offline=$PWD/$offline ;; esac
    prefix=${prefix%/}
    given_roots=$(key_lines "$roots") || wrong "a root key looks so: --root-key 'ssh-ed25519 AAAAC3…'"
    [ -z "$from" ] || is_source "$from" || wrong "--from takes an https:// URL (http:// for this machine only)"
}

say() { printf '%s\n' "$@"; }
note() { printf '%s\n' "$@" >&2; }
wrong() { note "install.sh: $*. See --help." && exit 2; }
fail() { # CODE WORDS…
    code=$1
    shift
    note "" "error: $*"
    exit "$code"
}
have() { command -v "$1" >/dev/null 2>&1; }
need() { for tool; do have "$tool" || fail 10 "$tool is missing on this machine (or in PATH). Install it, then run this again."; done; }
matches() { printf '%s\n' "$1" | grep -Eqx -- "$2"; }
is_version() { matches "$1" '((0|[1-9][0-9]{0,5})\.){2}(0|[1-9][0-9]{0,5})((a|b|rc)(0|[1-9][0-9]{0,5}))?'; }
is_source() { matches "$1" 'https://[A-Za-z0-9._~:/%+=-]+|http://(127\.0\.0\.1|localhost)(:[0-9]+)?(/[A-Za-z0-9._~:/%+=-]*)?'; }
# Numbers of more digits than every shell can compare.
less() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a + 0 < b + 0) }'; }
older() { awk -v a="$(rank "$1")" -v b="$(rank "$2")" 'BEGIN { exit !(a "" < b "") }'; }
rank() { # 1.2.0rc1 < 1.2.0 < 1.2.1, as text
    printf '%s\n' "$1" | awk '{
        stage = "z"; number = 0
        if (match($0, /(a|b|rc)[0-9]+$/)) {
            stage = substr($0, RSTART, 1); number = substr($0, RSTART); gsub(/[a-z]/, "", number)
            $0 = substr($0, 1, RSTART - 1)
        }
        split($0, part, ".")
        printf "v%06d%06d%06d%s%06d", part[1], part[2], part[3], stage, number
    }'
}
# The keys of a text, one a line. Keys are public: they may be shown and logged.
key_lines() {
    printf '%s\n' "$1" | tr -s ', \n' '\n\n\n' | awk '
        $0 == "" { next }
        !odd { if ($0 != "ssh-ed25519") bad = 1; odd = 1; next }
        { odd = 0; if (length($0) != 68 || $0 !~ /^AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+\/]+$/) bad = 1; print "ssh-ed25519 " $0 }
        END { exit bad || odd }'
}
# A question goes to the terminal, when there is one that somebody looks at; else `answer` stays what it is.
ask() {
    [ -z "$yes" ] && [ -t 1 ] && [ -t 2 ] && (: </dev/tty) 2>/dev/null || return 0
    printf '%s ' "$1" >/dev/tty
    read -r answer </dev/tty || answer=''
}

# --- this machine -----------------------------------------------------------------------------------------------------

find_home() {
    user=$(id -u)
    if [ -z "${HOME-}" ]; then
        HOME=$(awk -F: -v id="$user" '$3 == id { print $6; exit }' /etc/passwd 2>/dev/null) || HOME=''
        [ -n "$HOME" ] || fail 10 "HOME is not set. Set it to your home folder: HOME=/home/you sh install.sh"
        export HOME
        note "HOME is not set: taking $HOME."
    fi
    case $HOME in /*) ;; *) fail 10 "HOME is '$HOME', which is not an absolute path." ;; esac
    prefix=${prefix:-${HOME%/}/.local}
    data=${WWS_HOME:-$HOME/.openswarm}
}

know_platform() {
    machine=$(uname -m)
    case $(uname -s) in
    Linux) os=linux ;;
    Darwin) os=macos ;;
    MINGW* | MSYS* | CYGWIN* | Windows*) fail 10 "wws runs on Windows inside WSL: install it (wsl --install), and run this there." ;;
    *) fail 10 "there are releases for Linux and macOS, not for $(uname -s). From source: pip install wws." ;;
    esac
    if [ $os = macos ] && [ "$(sysctl -n sysctl.proc_translated 2>/dev/null)" = 1 ]; then
        note "This shell runs under Rosetta: installing for Apple silicon."
        machine=arm64
    fi
    case $machine in
    x86_64 | amd64) machine=x86_64 ;;
    aarch64 | arm64) machine=aarch64 ;;
    *) fail 10 "there are releases for x86_64 and aarch64, not for $machine. With Python 3.11: pip install wws." ;;
    esac
    [ $os = linux ] || return 0
    [ "$(getconf LONG_BIT 2>/dev/null || echo 64)" = 64 ] || fail 10 "this system has 32 bits, and releases need 64."
    ! grep -qi microsoft /proc/version 2>/dev/null || note "This is WSL: wws runs while a window of it is open."
    libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || libc=$(ldd --version 2>&1 | head -n 1) || :
    case $libc in
    *musl*) no_glibc "this system uses musl (Alpine and others)" ;;
    glibc* | ldd*) libc=${libc##* } ;;
    *) libc='' && ls /lib64/ld-linux-*.so.* /lib/ld-linux-*.so.* >/dev/null 2>&1 || no_glibc "there is no GNU C library here" ;;
    esac
    if [ -n "$GLIBC" ] && [ -n "$libc" ] && less "${libc%%.*}$(printf '%03d' "${libc#*.}" 2>/dev/null || :)" \
        "${GLIBC%%.*}$(printf '%03d' "${GLIBC#*.}")"; then
        no_glibc "this system has glibc $libc"
    fi
}

no_glibc() {
    fail 10 "$1, and releases need glibc${GLIBC:+ $GLIBC or newer}." \
        "What works here: a container of a newer system, or Python 3.11 and: pip install wws."
}

choose_tools() {
    log=/dev/null getter='' hasher='' verifier='' getter_checks=yes
    if [ -n "$offline" ]; then
        [ -d "$offline" ] || fail 10 "there is no folder $offline."
    elif have curl; then
        getter=curl
    elif have wget; then
        getter=wget
        case $(wget --version 2>&1) in *GNU\ Wget*) ;; *) getter_checks='' getter=other-wget ;; esac
    else
        fail 10 "neither curl nor wget is here. As root: $(how_to_add curl ca-certificates)"
    fi
    if have sha256sum; then hasher=sha256sum; elif have shasum; then hasher='shasum -a 256'; elif have openssl; then hasher=openssl; else
        fail 10 "nothing here computes SHA-256, so nothing can be checked. As root: $(how_to_add coreutils)"
    fi
    if "$share/current/bin/wws" self verify-file --help >/dev/null 2>&1; then
        verifier=wws
    elif have ssh-keygen && ! ssh-keygen -Y check-novalidate -n x -s /nonexistent 2>&1 | grep -qi option; then
        verifier=ssh-keygen
    elif have openssl && openssl version | grep -q '^OpenSSL [3-9]'; then
        verifier=openssl
    elif have minisign && have base64; then
        verifier=minisign
    elif [ -n "$insist" ]; then
        fail 8 "nothing here verifies signatures. As root: $(how_to_add openssh-client)"
    elif [ -z "$getter_checks" ]; then
        fail 8 "this wget (of BusyBox) checks no certificates, and nothing here verifies signatures. As root: $(how_to_add curl ca-certificates)"
    fi
}

how_to_add() {
    if have apt-get; then
        echo "apt-get update && apt-get install -y $*"
    elif have dnf; then
        echo "dnf install -y $*" | sed 's/openssh-client/openssh/'
    elif have zypper; then
        echo "zypper install -y $*" | sed 's/openssh-client/openssh-clients/'
    elif have pacman; then
        echo "pacman -S $*" | sed 's/openssh-client/openssh/'
    elif have apk; then
        echo "apk add $*"
    else
        echo "install $* with the package manager"
    fi
}

# --- files, folders and the lock --------------------------------------------------------------------------------------

make_folder() { # makes it, and what is above it; all of that goes again when the installation fails
    [ -n "$1" ] && ! [ -d "$1" ] || return 0
    make_folder "${1%/*}"
    mkdir "$1" 2>/dev/null || [ -d "$1" ] || fail 10 "cannot make the folder $1. Choose another with --prefix DIR."
    made="$1$newline$made"
}

take_lock() {
    make_folder "$share"
    [ -w "$share" ] || fail 10 "cannot write into $share. Choose another place with --prefix DIR."
    if have flock; then
        : >>"$share/lock" || fail 10 "cannot write $share/lock"
        exec 9>>"$share/lock"
        flock -n 9 9>&9 || busy "another installation"
    else
        while ! ln -s $$ "$share/lock.held" 2>/dev/null; do
            holder=$(readlink "$share/lock.held") || fail 10 "cannot write into $share."
            ! kill -0 "$holder" 2>/dev/null || busy "another installation (process $holder)"
            rm -f "$share/lock.held" # its owner is gone
        done
    fi
    locked=yes
}

busy() { made='' && fail 10 "$1 is at work in $share. Wait for it, then run this again."; }

clean_up() {
    result=$?
    trap '' INT TERM HUP
    [ -z "$work" ] || rm -rf "$work"
    if [ -n "$locked" ]; then
        rm -f "$share/lock.held"
        [ -n "$finished" ] || [ -e "$share/current" ] || rm -f "$share/lock"
    fi
    [ -n "$finished" ] || printf '%s' "$made" | while IFS= read -r folder; do rmdir "$folder" 2>/dev/null || :; done
    exit $result
}

# A link is replaced by one rename. mv would follow a link to a folder: GNU and BusyBox have -T, BSD has -h.
point() { # LINK CONTENT
    [ "$(readlink "$1" 2>/dev/null)" != "$2" ] || return 0
    rm -rf "$1.new" && ln -s "$2" "$1.new" || fail 10 "cannot write $1.new"
    mv -f -T "$1.new" "$1" 2>/dev/null || mv -f -h "$1.new" "$1" 2>/dev/null || { rm -f "$1" && mv -f "$1.new" "$1"; } || fail 10 "cannot write $1"
}

keep() { # FILE PLACE: there whole or as before
    cp "$1" "$2.new" && mv -f "$2.new" "$2" || fail 10 "cannot write $2"
}

# --- download ---------------------------------------------------------------------------------------------------------

# fetch FOLDER NAME KIB: NAME of the folder of $releases into $work/FOLDER; 1 when it is not there.
fetch() {
    file=$work/$1/$2 url=$releases/download/$1/$2 attempt=0
    mkdir -p "$work/$1" || full
    if [ -n "$offline" ]; then
        [ -f "$offline/$2" ] || return 1
        cp "$offline/$2" "$file" || full
        return 0
    fi
    while :; do
        answer='' problem=0
        { transfer "$url" "$3" 3>&2 || problem=$?; } 2>/dev/null
        [ $problem -ne 0 ] || return 0
        case $answer in
        404 | 410) rm -f "$file" && return 1 ;;
        4*) fail 9 "$url was refused with $answer." ;;
        esac
        reason=$(tail -n 1 "$log" | tr -d '\r' | cut -c 1-200)
        case $getter:$problem in
        *:153) fail 9 "$url has more than the $3 KiB that it may have." ;;
        curl:63) fail 9 "$url has more than the $3 KiB that it may have." ;;
        curl:23 | wget:3) full ;;
        curl:60 | curl:77 | wget:5) untrusted ;;
        *:20) fail 9 "$url leads to an address that is not https." ;;
        curl:1) fail 9 "$url leads to an address that is not https." ;;
        esac
        ! head -c 1 "$file" >/dev/null 2>&1 || (printf x >"$work/probe") 2>/dev/null || full
        attempt=$((attempt + 1))
        [ $attempt -le "$retries" ] || fail 9 "cannot download $url${answer:+ (the answer was $answer)}: ${reason:-no word why}. Is there a way to it from here, or a proxy (https_proxy)?"
        note "  $2: ${reason:-failed}; trying again"
        sleep $((attempt * attempt))
    done
}

# A body without an end is cut by the kernel, whoever downloads (blocks of 512 bytes; bash counts 1024).
transfer() { # URL KIB
    if [ $getter = curl ]; then
        silent=-sS protocols='=https' errors=$log
        case $1 in http:*) protocols='=http' ;; esac
        if [ "$2" -gt 9999 ] && [ -t 3 ]; then silent='-#' errors=/dev/fd/3; fi
        answer=$(
            limit "$2"
            exec curl -q -fL $silent --proto $protocols --proto-redir '=https' --max-redirs 5 --tlsv1.2 \
                --connect-timeout "$timeout" --speed-limit 100 --speed-time "$timeout" --max-filesize $(($2 * 1024)) \
                -w '%{http_code}' -o "$file" "$1" 2>"$errors" 9>&-
        )
        return
    fi
    here=$1 hops=0
    while :; do
        outcome=0
        (
            limit "$2"
            set -- -q -O - "$here"
            if [ $getter = wget ]; then
                authorities=${CURL_CA_BUNDLE:-${SSL_CERT_FILE-}}
                set -- -nv -S --max-redirect=0 --tries=1 --timeout="$timeout" --check-certificate -O - "$here"
                [ -z "$authorities" ] || set -- --ca-certificate="$authorities" "$@"
            elif wget --help 2>&1 | grep -q -- '-T SEC'; then
                set -- -T "$timeout" "$@"
            fi
            exec wget "$@" >"$file" 2>"$log" 9>&-
        ) || outcome=$?
        answer=$(sed -n 's/.*HTTP\/[0-9.]* \([0-9][0-9][0-9]\).*/\1/p' "$log" | tail -n 1)
        case $getter:$answer in wget:30[12378]) ;; *) return $outcome ;; esac
        # GNU wget would also follow to http://
        there=$(tr -d '\r' <"$log" | sed -n 's/^ *[Ll]ocation: *\([^ ]*\).*/\1/p' | tail -n 1)
        hops=$((hops + 1))
        case $there in
        https://*) here=$there ;;
        /*) here=$(printf '%s\n' "$here" | sed 's|^\([a-z]*://[^/]*\).*|\1|')$there ;;
        *) return 20 ;;
        esac
        [ $hops -le 5 ] || return 1
    done
}

limit() { ulimit -c 0 && ulimit -f $(($1 * 2)); }
full() { fail 10 "cannot write into $work: is the disk full? (df -h '$prefix')"; }

untrusted() {
    for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem; do
        [ ! -s $bundle ] || fail 9 "the certificate of ${url%%/download/*} is not trusted: ${reason:-no word why}." \
            "Is the clock right ($(date))? Behind a proxy with a CA of its own: CURL_CA_BUNDLE=/path/to/ca.pem"
    done
    fail 9 "there are no CA certificates on this machine. As root: $(how_to_add ca-certificates)"
}

# --- trust ------------------------------------------------------------------------------------------------------------

fetch_signed() { # FOLDER NAME KIB: with its signatures: the raw one, which the release itself checks, and the one checked here
    fetch "$1" "$2" "$3" || return 1
    fetch "$1" "$2.sig" 4 || fail 8 "there is no signature $2.sig beside $2 of $source."
    case $verifier in
    ssh-keygen) fetch "$1" "$2.sshsig" 4 || fail 8 "there is no signature $2.sshsig beside $2 of $source." ;;
    minisign) fetch "$1" "$2.minisig" 4 || fail 8 "there is no signature $2.minisig beside $2 of $source." ;;
    esac
}

signed() { # FILE NAMESPACE KEYS: by one of the keys. Without a verifier everything is, and that is said.
    [ -n "$verifier" ] || return 0
    printf '%s\n' "$3" | (
        while read -r kind blob; do
            [ -n "$blob" ] || continue
            ! signed_by "$1" "$2" "$kind $blob" "$blob" >/dev/null 2>&1 || exit 0
        done
        exit 1
    )
}

signed_by() { # FILE NAMESPACE KEY BLOB
    case $verifier in
    wws) "$share/current/bin/wws" self verify-file --key "$3" --namespace "$2" --signature "$1.sig" "$1" </dev/null ;;
    ssh-keygen)
        printf 'release@wws %s\n' "$3" >"$work/allowed"
        ssh-keygen -Y verify -f "$work/allowed" -I release@wws -n "$2" -s "$1.sshsig" <"$1"
        ;;
    openssl) # the key as X.509 has it: a fixed beginning, and the last 32 bytes of ours
        printf '\060\052\060\005\006\003\053\145\160\003\041\000' >"$work/key"
        printf '%s\n' "$4" | openssl base64 -d -A | tail -c 32 >>"$work/key"
        openssl pkeyutl -verify -rawin -pubin -keyform DER -inkey "$work/key" -sigfile "$1.sig" -in "$1"
        ;;
    minisign) # "Ed", the number of the key, the key
        printf '%s\n' "$4" | base64 -d | tail -c 32 >"$work/key"
        minisign -Vq -P "$({ printf Ed && head -c 8 "$work/key" && cat "$work/key"; } | base64 | tr -d '\n')" \
            -m "$1" -x "$1.minisig"
        ;;
    esac
}

# The last FILE's serial and end, and the keys in it that no FILE revokes; 1 when one has another form.
statement() { # FILE…
    awk '
        FNR == 1 { if ($0 != "wws-release-keys 1") bad = 1; count = 0; next }
        FNR == 2 { if ($0 !~ /^serial [1-9][0-9]*$/ || length($0) > 16) bad = 1; serial = $2; next }
        FNR == 3 { if ($0 !~ /^expires [0-9]+$/ || length($0) != 22) bad = 1; expires = $2; next }
        $0 !~ /^[a-z]+ ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+\/]+$/ || length($3) != 68 { bad = 1 }
        $1 == "key" { key[++count] = $3; next }
        $1 == "revoked" { revoked[$3] = 1; next }
        { bad = 1 }
        END {
            if (bad || count < 1 || count > 8) exit 1
            print serial, expires
            for (i = 1; i <= count; i++) if (!(key[i] in revoked)) print "ssh-ed25519 " key[i]
            for (blob in revoked) print "revoked ssh-ed25519 " blob
        }' "$@"
}

# What this machine has seen, unless it was under other root keys.
remember() {
    serial=0 issued=0 keys_folder='' kept=/dev/null
    printf '%s\n' "$roots" | grep -qFx -f "$share/trust/roots" 2>/dev/null || return 0
    mkdir -p "$work/kept" && cp "$share"/trust/* "$work/kept" || full
    if statement "$work/kept/release-keys" >"$work/statement" 2>/dev/null; then
        kept=$work/kept/release-keys
        keys_folder=kept
        read_statement
    fi
    issued=$(sed -n 's/^issued \([0-9]*\)$/\1/p' "$work/kept/channel-$channel" 2>/dev/null) || :
    issued=${issued:-0}
}

read_statement() {
    read -r serial expires <"$work/statement"
    keys=$(sed -n 's/^ssh/ssh/p' "$work/statement")
    revoked=$(sed -n 's/^revoked //p' "$work/statement")
}

# release-keys of this folder count from now on. An older list than was seen is only taken for what an old release has.
adopt_keys() { # FOLDER
    genuine=$work/$1/release-keys
    statement "$genuine" >"$work/statement" 2>/dev/null || fail 8 "release-keys of $source is no list of release keys."
    signed "$genuine" wws-release-keys "$roots" ||
        fail 8 "release-keys of $source is not signed by a root key that counts here. If these are other people's releases: --root-key."
    read -r new_serial expires <"$work/statement"
    if ! less "$new_serial" "$serial"; then
        statement "$kept" "$genuine" >"$work/statement"
        keys_folder=$1
        read_statement
    elif [ -z "$asked" ]; then
        fail 8 "release-keys of $source has the serial $new_serial, and this machine has seen $serial: somebody serves an old list."
    fi
    less "$now" "$expires" || fail 8 "release-keys of $source lapsed at $expires (UTC; here it is $now): somebody serves an old list, or the clock is wrong."
}

by_release_key() { # FILE NAMESPACE
    signed "$1" "$2" "$keys" && return
    ! signed "$1" "$2" "$revoked" || fail 8 "${1##*/} of $source was signed by a key that has been revoked."
    fail 8 "${1##*/} of $source is not signed by a release key."
}

# What the channel leads to, if it is genuine, current, and no step back.
follow_channel() {
    text=$(awk -v name="$channel" '
        NR == 1 && $0 == "wws-channel 1" || NR == 2 && $0 == "channel " name { next }
        NR == 3 && /^version [0-9a-z.]+$/ { print $2; next }
        NR == 4 && /^issued [0-9]+$/ && length($0) == 21 || NR == 5 && /^expires [0-9]+$/ && length($0) == 22 { print $2; next }
        { bad = 1 }
        END { exit bad || NR != 5 }' "$work/$channel_folder/channel") || fail 8 "what $source serves as the channel $channel is not that."
    by_release_key "$work/$channel_folder/channel" wws-channel
    { read -r version && read -r new_issued && read -r expires; } <<END
$text
END
    is_version "$version" || fail 8 "the channel $channel leads to '$version', which is no version."
    less "$now" "$expires" || fail 8 "what the channel $channel says lapsed at $expires (UTC; here it is $now): $source serves an old one, or the clock is wrong."
    ! less "$new_issued" "$issued" || fail 8 "the channel $channel was issued at $new_issued, and this machine has seen one of $issued: $source serves an old one."
    [ -z "$installed" ] || ! older "$version" "$installed" ||
        fail 8 "the channel $channel leads to $version, and $installed is installed. If you want it: --version $version"
}

# --- install ----------------------------------------------------------------------------------------------------------

install() {
    releases=${from:-$RELEASES} now=$(date -u +%Y%m%d%H%M%S) asked=$version
    roots=${given_roots:-$(key_lines "$ROOTS")}
    [ -n "$releases$offline" ] && [ -n "$roots" ] ||
        wrong "this copy does not say where releases are and whose key counts: --from URL (or --offline DIR) and --root-key KEY"
    source=${offline:-$releases}
    begin_work
    for program in wws wws-connector wws-bootstrap; do
        [ ! -e "$prefix/bin/$program" ] && [ ! -L "$prefix/bin/$program" ] || is_ours $program ||
            fail 10 "$prefix/bin/$program is there already and not from here. Remove it, or choose another place: --prefix DIR"
    done
    receipt=$share/installation
    channel=${channel:-$(told channel)}
    channel=${channel:-stable}
    installed=$(readlink "$share/current" 2>/dev/null) || installed=''
    installed=${installed##*/}
    [ -x "$share/current/bin/wws" ] || installed=''
    [ -n "$verifier" ] || note "warning: nothing here verifies signatures (ssh-keygen, OpenSSL 3, minisign): hashes alone are checked," \
        "and they come from $source, too. To insist: --require-signature"
    choose_version
    if [ "$version" = "$installed" ] && [ -z "$dry" ] && intact; then
        say "wws $version is installed already, and whole."
    else
        get_release
        [ -z "$dry" ] || return 0
        switch
    fi
    save_memory
    complete
}

begin_work() {
    if [ -n "$dry" ]; then
        work=$(mktemp -d "${TMPDIR:-/tmp}/wws-install.XXXXXX") || fail 10 "cannot make a folder in ${TMPDIR:-/tmp}. Set TMPDIR."
    else
        take_lock
        rm -rf "$share"/work.* # of one that was killed
        work=$(mktemp -d "$share/work.XXXXXX") || fail 10 "cannot write into $share. Choose another place with --prefix DIR."
    fi
    log=$work/log
}

is_ours() { [ "$(readlink "$prefix/bin/$1" 2>/dev/null)" = "../share/wws/current/bin/$1" ]; }
told() { sed -n "s/^$1 //p" "$share/installation" 2>/dev/null || :; }

choose_version() {
    channel_folder=channel-$channel
    [ -z "$offline" ] || channel_folder=offline
    remember
    if fetch_signed $channel_folder release-keys 16; then adopt_keys $channel_folder; fi
    if [ -n "$version" ]; then return; fi
    if fetch_signed $channel_folder channel 16; then
        [ "$keys_folder" = $channel_folder ] || fail 8 "there is no release-keys beside the channel $channel of $source."
        follow_channel
    elif [ -n "$offline" ]; then
        version=$(cd "$offline" && ls -d wws-*-$os-$machine.tar.gz 2>/dev/null | sed "s/^wws-\(.*\)-$os-$machine.tar.gz\$/\1/")
        is_version "$version" || fail 10 "$offline has no release for $os-$machine (wws-<version>-$os-$machine.tar.gz), or several: --version V"
        [ -z "$installed" ] || ! older "$version" "$installed" || fail 8 "$offline has $version, and $installed is installed. If you want it: --version $version"
    else
        fail 9 "$source has no channel $channel ($url)."
    fi
}

intact() {
    case $hasher in openssl*) return 0 ;; esac
    (cd "$share/current/" && $hasher -c MANIFEST) >/dev/null 2>&1 || { note "What is installed is damaged: installing it again." && return 1; }
}

get_release() {
    folder=v$version archive=wws-$version-$os-$machine.tar.gz
    [ -z "$offline" ] || folder=offline
    fetch_signed $folder SHA256SUMS 64 || fail 9 "$source has no release $version ($url)."
    if [ -z "$keys_folder" ] || [ "$keys_folder" = kept ]; then
        fetch_signed $folder release-keys 16 || fail 8 "there is no release-keys beside release $version of $source."
        adopt_keys $folder
    fi
    by_release_key "$work/$folder/SHA256SUMS" wws-release
    wanted=$(awk -v name="$archive" -v start="wws-$version" '
        { hash = substr($0, 1, 64); file = substr($0, 67) }
        hash ~ /[^0-9a-f]/ || substr($0, 65, 2) != "  " || file !~ /^[A-Za-z0-9][A-Za-z0-9._+-]*$/ { bad = 1 }
        file ~ /^wws-/ && index(file, start "-") != 1 && index(file, start ".") != 1 { other = 1 }
        file == name { found = hash; count++ }
        END { if (bad || NR == 0) exit 3; if (other) exit 4; if (count != 1) exit 5; print found }
    ' "$work/$folder/SHA256SUMS") || case $? in
    4) fail 8 "SHA256SUMS of $source is of another release than $version." ;;
    5) fail 10 "release $version has nothing for $os-$machine." ;;
    *) fail 8 "SHA256SUMS of $source is empty or no list of hashes (a page of a proxy?)." ;;
    esac
    if [ -n "$dry" ]; then
        plan
        return
    fi
    note "Downloading $archive"
    fetch $folder "$archive" 262144 || fail 9 "$source has no $archive ($url)."
    actual=$($hasher <"$work/$folder/$archive" | cut -c 1-64)
    [ "$actual" = "$wanted" ] || fail 8 "$archive is not the file of the release: its SHA-256 is $actual, not $wanted."
    unpack "$work/$folder/$archive"
}

plan() {
    say "Would install wws $version for $os-$machine${installed:+ (installed: $installed)}; signatures ${verifier:+verified by $verifier}${verifier:-NOT verified}." \
        "" "from   ${offline:-$releases/download/$folder}/$archive" "sha256 $wanted" "by     $source: channel $channel, SHA256SUMS, release-keys" \
        "to     $share/versions/$version" "links  $prefix/bin/wws, wws-connector, wws-bootstrap"
}

unpack() { # ARCHIVE, whose hash is right; it still must not reach out of its folder, or fill the disk
    top=wws-$version
    (limit 1048576 && gzip -dc "$1" >"$work/tar" 2>/dev/null) 2>/dev/null || fail 10 "cannot unpack $archive in $work: is the disk full? (df -h '$prefix')"
    rm -f "$1"
    tar -tf "$work/tar" 2>/dev/null | awk -v top="$top/" '
        $0 != top && index($0, top) != 1 || /(^|\/)\.\.(\/|$)/ || /[^ -~]|\\/ { bad = 1 }
        END { exit bad || NR == 0 || NR > 60000 }' || fail 8 "$archive holds files for other places than its own folder."
    case $(tar -tvf "$work/tar" 2>/dev/null | cut -c 1 | sort -u | tr -d '\n') in
    -d | d- | -) ;;
    *) fail 8 "$archive holds links or devices." ;;
    esac
    mkdir "$work/tree" && (limit 1048576 && cd "$work/tree" && tar -xof "$work/tar") 2>/dev/null || full
    rm -f "$work/tar"
    tree=$work/tree/$top
    [ "$(cat "$tree/VERSION" 2>/dev/null)" = "$version" ] && [ -x "$tree/bin/wws" ] || fail 8 "$archive does not hold wws $version."
    mkdir -p "$tree/release" && cp "$work/$folder"/SHA256SUMS* "$work/$keys_folder"/release-keys* "$tree/release" || full
    set --
    for key in $roots; do case $key in AAAA*) set -- "$@" --root-key "ssh-ed25519 $key" ;; esac; done
    code=0
    "$tree/bin/wws" self verify --staged "$tree" "$@" >"$log" 2>&1 || code=$?
    case $code in
    0) ;;
    8) fail 8 "wws $version refuses itself: $(tail -n 3 "$log")" ;;
    126) fail 10 "programs in $share cannot be run: is it mounted noexec? Choose another place: --prefix DIR. ($(tail -n 1 "$log"))" ;;
    *) fail 10 "wws $version does not run on this machine (code $code): $(tail -n 3 "$log")" ;;
    esac
}

switch() {
    make_folder "$share/versions"
    if [ -e "$share/versions/$version" ]; then mv "$share/versions/$version" "$work/replaced"; fi
    mv "$tree" "$share/versions/$version" || full
    if [ -n "$installed" ] && [ "$installed" != "$version" ]; then point "$share/previous" "versions/$installed"; fi
    point "$share/current" "versions/$version"
    for old in "$share"/versions/*; do
        case versions/${old##*/} in "versions/$version" | "$(readlink "$share/previous" 2>/dev/null)") ;; *) rm -rf "$old" ;; esac
    done
    say "wws $version is installed in $share${installed:+ (before: $installed; back with: wws self rollback)}."
}

save_memory() { # only what was verified
    [ -n "$verifier" ] && [ "$keys_folder" != kept ] || return 0
    make_folder "$share/trust"
    printf '%s\n' "$roots" >"$work/roots"
    for statement in "$work/$keys_folder"/release-keys*; do keep "$statement" "$share/trust/${statement##*/}"; done
    [ ! -f "$work/$channel_folder/channel" ] || [ -n "$asked" ] || keep "$work/$channel_folder/channel" "$share/trust/channel-$channel"
    keep "$work/roots" "$share/trust/roots"
}

# All that is around a version. Each step does nothing where it was done before.
complete() {
    make_folder "$prefix/bin"
    for program in wws wws-connector wws-bootstrap; do point "$prefix/bin/$program" "../share/wws/current/bin/$program"; done
    wws=$prefix/bin/wws
    [ -z "$edit" ] || edit_paths
    show_identity
    network=--network\ "'DOMAIN#PUBLISHER-KEY'"
    ! "$wws" network show --json 2>/dev/null | grep -q '"origin": *"build"' || network=''
    started=$(told service)
    [ -z "$service" ] || [ -n "$network" ] || offer_service
    write_receipt
    case :$PATH: in *:"$prefix/bin":*) ;; *) say "" "New terminals find it. In this one:  export PATH=$(quoted "$prefix/bin"):\"\$PATH\"" ;; esac
    [ -z "$network" ] || say "" "This build knows no network: ask whoever runs yours for its domain and publisher key."
    say "" "Next:  wws join --name YOUR-NAME${network:+ $network}"
}

show_identity() { # made once, never replaced
    code=0
    identity=$("$wws" id 2>"$log") || code=$?
    if [ $code -eq 4 ]; then identity=$("$wws" id new 2>"$log") && code=0; fi
    if [ $code -eq 0 ]; then
        printf '%s\n' "$identity" | grep -E '^(peer id|did|path) '
    else
        note "warning: no identity was shown or made: $(head -n 1 "$log")"
    fi
}

# A node of its own needs a name, so this asks for one; where nobody can be asked, nothing is started.
offer_service() {
    [ "$started" != yes ] && "$wws" service --help >/dev/null 2>&1 && systemctl --user show-environment >/dev/null 2>&1 || return 0
    answer=''
    ask "Keep a node running, as a systemd service of yours? The name to claim for it (empty: not now):"
    [ -n "$answer" ] || return 0
    if "$wws" service install --name "$answer"; then started=yes; else note "warning: not set up. Again with: wws service install --name $answer"; fi
}

write_receipt() {
    {
        say "wws-installation 1"
        say "version $version"
        where=${releases:-$(told from)}
        [ -z "$where" ] || say "from $where"
        say "channel $channel"
        printf '%s\n' "${given_roots:-$(told root)}" | sed -n 's/^ssh/root ssh/p'
        { told path-edit && printf '%s' "$edited"; } | sort -u | sed -n 's/^\(.\)/path-edit \1/p'
        say "service ${started:-no}"
    } >"$work/installation" || full
    [ "$(cat "$work/installation")" = "$(cat "$receipt" 2>/dev/null)" ] || keep "$work/installation" "$receipt"
}

# --- PATH -------------------------------------------------------------------------------------------------------------

quoted() { printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"; }

path_line() { # FILE
    folder=$(quoted "$prefix/bin")
    case $1 in
    *.fish) say "contains -- $folder \$PATH; or set -gx PATH $folder \$PATH # by the installer of wws" ;;
    *) say "case \":\$PATH:\" in *:$folder:*) ;; *) export PATH=$folder:\"\$PATH\" ;; esac # by the installer of wws" ;;
    esac
}

# Files that the shells of this user read. ~/.profile and zsh's and fish's own are made where they are needed.
path_files() {
    say "$HOME/.profile"
    for name in .bash_profile .bash_login .bashrc; do [ ! -f "$HOME/$name" ] || say "$HOME/$name"; done
    case ${SHELL-} in */zsh) say "${ZDOTDIR:-$HOME}/.zshrc" ;; *) [ ! -f "${ZDOTDIR:-$HOME}/.zshrc" ] || say "${ZDOTDIR:-$HOME}/.zshrc" ;; esac
    [ ! -d "${XDG_CONFIG_HOME:-$HOME/.config}/fish" ] || say "${XDG_CONFIG_HOME:-$HOME/.config}/fish/conf.d/wws.fish"
}

edit_paths() {
    case :$PATH: in *:"$prefix/bin":*) return ;; esac
    path_files >"$work/paths"
    while IFS= read -r file; do
        line=$(path_line "$file")
        if ! grep -qFx -- "$line" "$file" 2>/dev/null; then
            mkdir -p "${file%/*}" 2>/dev/null || :
            [ ! -s "$file" ] || [ -z "$(tail -c 1 "$file")" ] || line="$newline$line"
            (printf '%s\n' "$line" >>"$file") 2>/dev/null || { note "warning: cannot write $file" && continue; }
            note "Added a line to $file (for PATH)."
        fi
        edited="$edited$file$newline"
    done <"$work/paths"
}

remove_path_lines() {
    { told path-edit && path_files; } | sort -u | while IFS= read -r file; do
        line=$(path_line "$file")
        grep -qFx -- "$line" "$file" 2>/dev/null || continue
        real=$(readlink -f "$file" 2>/dev/null) || real=$file
        if grep -vFx -- "$line" "$file" >/dev/null; then # a copy, then a rename: never half a file of the user's
            cp -p "$real" "$real.wws" && grep -vFx -- "$line" "$real" >"$real.wws" && mv -f "$real.wws" "$real" || note "warning: cannot write $file; remove the line of wws from it."
        else
            rm -f "$real" # nothing else was in it
        fi
    done
}

# --- uninstall --------------------------------------------------------------------------------------------------------

uninstall() {
    if [ ! -d "$share" ]; then
        say "wws is not installed in $prefix."
    elif [ -n "$dry" ]; then
        say "Would remove $share, the links to it in $prefix/bin, and the lines for PATH in:" "$({ told path-edit && path_files; } | sort -u)"
    else
        take_lock
        wws=$share/current/bin/wws
        ! ls "$HOME"/.config/systemd/user/wws*.service >/dev/null 2>&1 || "$wws" service uninstall --all ||
            note "warning: the service is left (systemctl --user)."
        for ready in "$data"/run/*/ready.json; do
            [ ! -e "$ready" ] || { node=${ready%/ready.json} && "$wws" leave --node "${node##*/}" || note "warning: the node ${node##*/} still runs."; }
        done
        remove_path_lines
        for program in wws wws-connector wws-bootstrap; do if is_ours $program; then rm -f "$prefix/bin/$program"; fi; done
        for part in "$share"/*; do case $part in */lock | */installation) ;; *) rm -rf "$part" ;; esac done
        rm -rf "$share"
        locked=''
        for folder in "$prefix/bin" "$prefix/share" "$prefix"; do rmdir "$folder" 2>/dev/null || :; done
        say "wws is removed from $prefix."
    fi
    [ -d "$data" ] || return 0
    if [ -z "$purge" ]; then
        say "Identities and settings stay in $data (to remove them, too: --uninstall --purge)."
    elif [ -n "$dry" ]; then
        say "Would remove $data, with the identities in it."
    else
        answer=y
        ask "Remove $data with the identities in it, for ever? [y/N]"
        case $answer in [yY]*) rm -rf "$data" && say "$data is removed." ;; *) say "$data stays." ;; esac
    fi
}

main "$@"
