"""Makes the keys of releases and signs with them; needs no network, and the root key should not see one.

    python packaging/sign.py new-root root.key --passphrase-file FILE     once, on a machine without network
    python packaging/sign.py new-key release.key --passphrase-file FILE   for the machine that makes releases
    python packaging/sign.py release-keys --root root.key --out DIR --key 'ssh-ed25519 AAAA…' [--key …]
    python packaging/sign.py rotate  --root root.key --from DIR --out DIR --add KEY [--remove KEY]
    python packaging/sign.py revoke  --root root.key --from DIR --out DIR --revoked KEY [--add KEY]
    python packaging/sign.py sums --key release.key DIR       writes SHA256SUMS of all files in DIR, signs it
    python packaging/sign.py channel --key release.key --out DIR --channel stable --version 1.2.3
    python packaging/sign.py unsigned DIR --version 1.2.3     it is the files of SHA256SUMS and nothing else
    python packaging/sign.py check DIR --root-key 'ssh-ed25519 AAAA…'     the whole chain, and every file

A key file is OpenSSH's, 0600, encrypted when a passphrase is given, and never replaced; beside it `FILE.pub`
holds the public key. Each statement gets three signatures: `.sig`, `.sshsig`, `.minisig` (`wws.release`).
What the formats mean and how keys are kept, rotated and revoked is in docs/releases.md.

Exit codes: 0, 2 wrong usage, 8 integrity, 10 this machine.
"""

from __future__ import annotations

import argparse
import os
import stat
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout is enough to run this

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)

from agent_cli.installation import list_folder
from agent_cli.release_folder import file_names, read_signed, sha256, verify_folder
from agent_cli.verify_file import read_bounded
from wws.errors import LocalError, ParseError, WwsError
from wws.identity.keys import Identity
from wws.release.chain import verify_release_keys
from wws.release.channel import Channel, parse_channel_name
from wws.release.errors import FilesDiffer
from wws.release.keys import PublicKey
from wws.release.lines import parse_time
from wws.release.release_keys import ReleaseKeys
from wws.release.signatures import Form, Purpose, sign
from wws.release.sums import MAX_SUMS, parse_sums, require_version, write_sums
from wws.release.version import Version
from wws.runtime.machine_errors import reading_failed
from wws.runtime.whole_files import create_whole, write_whole

DAY = 86_400
KEYS_DAYS = 400
"""How long a list of release keys holds: a year, and a month to be late."""
CHANNEL_DAYS = 45
"""How long a channel holds: it is issued anew with each release, and monthly by a timer in between."""
MAX_KEY_FILE = 16 * 1024

T = TypeVar("T")


class KeyRefused(LocalError):
    """A private key cannot be used."""

    code = "key_refused"
    exit_code = 8


class KeyThere(LocalError):
    """There is a file where the new key was to be; a key is never replaced."""

    code = "key_exists"
    exit_code = 7


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. What went wrong is said on stderr."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except WwsError as error:
        hint = f"\n  {error.hint}" if error.hint else ""
        sys.stderr.write(f"sign.py: {error}{hint}\n")
        code = getattr(error, "exit_code", 2 if isinstance(error, ParseError) else 1)
        return int(code)
    return 0


def new_key(path: Path, passphrase: bytes | None = None, *, comment: str = "") -> PublicKey:
    """Make a private key at `path` and its public key beside it. Never replaces: raises `KeyThere`."""
    for place in (path, public_path(path)):
        if os.path.lexists(place):
            raise KeyThere(f"There is a file at {place} already; a key is never replaced.")
    identity = Identity.generate()
    public = PublicKey(identity.public_key)
    try:
        create_whole(path, private_text(identity, passphrase))
        create_whole(public_path(path), f"{public}{' ' if comment else ''}{comment}\n".encode())
    except FileExistsError as error:
        raise KeyThere(f"There is a file at {error.filename} already; a key is never replaced.") from None
    return public


def private_text(identity: Identity, passphrase: bytes | None = None) -> bytes:
    """The key in OpenSSH's format, encrypted (bcrypt, AES-256) when there is a passphrase."""
    protection: KeySerializationEncryption = NoEncryption()
    if passphrase is not None:
        protection = BestAvailableEncryption(passphrase)
    key = Ed25519PrivateKey.from_private_bytes(identity.seed)
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, protection)


def load_key(path: Path, passphrase: bytes | None = None) -> Identity:
    """The private key at `path`. Raises `KeyRefused` when others can read it, or it is none of ours."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            data = file.read(MAX_KEY_FILE)
    except OSError as error:
        raise reading_failed(path, error) from error
    if not stat.S_ISREG(found.st_mode):
        raise KeyRefused(f"{path} is not a file.")
    if found.st_mode & 0o077:
        raise KeyRefused(
            f"Others can use the key {path} (mode {stat.S_IMODE(found.st_mode):04o}).",
            hint=f"If nobody has read it: chmod 600 {path}. If someone may have: revoke it.",
        )
    try:
        key = load_ssh_private_key(data, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyRefused(
            f"{path} cannot be opened as a private key of OpenSSH: {error}",
            hint="With a key that is encrypted: --passphrase-file FILE, and the right passphrase in it.",
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyRefused(f"{path} is a key of another kind than Ed25519.")
    return Identity(key.private_bytes_raw())


def public_path(path: Path) -> Path:
    """Where the public key lies that belongs to the private one at `path`."""
    return path.with_name(f"{path.name}.pub")


def write_signed(folder: Path, purpose: Purpose, data: bytes, signer: Identity) -> None:
    """Write a statement and its three signatures. The statement comes last: never without them."""
    for form in Form:
        _write(folder / f"{purpose.file}{form}", sign(signer, data, purpose, form))
    _write(folder / purpose.file, data)


def sign_sums(folder: Path, signer: Identity) -> dict[str, str]:
    """Write `SHA256SUMS` of all files of the folder, and sign it. Raises `WwsError`."""
    hashes = {name: sha256(folder / name) for name in file_names(folder)}
    write_signed(folder, Purpose.SUMS, write_sums(hashes), signer)
    return hashes


def check_unsigned(folder: Path, version: Version) -> list[str]:
    """The files of a release that nobody has signed yet: those of its `SHA256SUMS`, of this version, and no
    others but statements and their signatures. Whoever made it chose each name. Raises `ReleaseRefused`,
    `MachineError`."""
    statements = {f"{purpose.file}{form}" for purpose in Purpose for form in ("", *Form)}
    names = set(file_names(folder))
    there = {entry.name for entry in list_folder(folder)}
    if Purpose.SUMS.file not in there:
        raise FilesDiffer(f"{folder} lacks {Purpose.SUMS.file}.")
    sums = parse_sums(read_bounded(folder / Purpose.SUMS.file, MAX_SUMS))
    require_version(sums, version)
    for name in sorted(there - sums.keys() - statements):
        raise FilesDiffer(f"{folder} has {name!r}, which {Purpose.SUMS.file} does not name.")
    for name, digest in sums.items():
        if name not in names:
            raise FilesDiffer(f"{folder} lacks {name}.")
        if sha256(folder / name) != digest:
            raise FilesDiffer(f"{name} is not what {Purpose.SUMS.file} says.")
    return list(sums)


def _new(options: argparse.Namespace) -> None:
    public = new_key(options.file, _passphrase(options), comment=options.comment)
    _say(str(public))


def _release_keys(options: argparse.Namespace) -> None:
    _publish_keys(options, _signer(options), options.serial, tuple(options.key), tuple(options.revoked))


def _change_keys(options: argparse.Namespace) -> None:
    """`rotate` and `revoke`: the list before, which must be ours, with the next serial."""
    signer = _signer(options)
    old, _ = verify_release_keys(read_signed(options.source), [PublicKey(signer.public_key)], None)
    gone = {*options.remove, *options.revoked}
    unknown = [key for key in options.remove if key not in old.keys]
    if unknown:
        raise ParseError(f"{unknown[0]} is no release key, so it cannot be removed")
    keys = (
        *(key for key in old.keys if key not in gone),
        *(key for key in options.add if key not in old.keys),
    )
    revoked = (*old.revoked, *(key for key in options.revoked if key not in old.revoked))
    _publish_keys(options, signer, old.serial + 1, keys, revoked)


def _publish_keys(
    options: argparse.Namespace,
    signer: Identity,
    serial: int,
    keys: tuple[PublicKey, ...],
    revoked: tuple[PublicKey, ...],
) -> None:
    both = [key for key in keys if key in revoked]
    if both:
        raise ParseError(f"{both[0]} was revoked, and never counts again: make a new key")
    there = options.out / Purpose.KEYS.file
    if os.path.lexists(there) and ReleaseKeys.parse(read_bounded(there, MAX_KEY_FILE)).serial >= serial:
        raise ParseError(f"{there} has this serial or a higher one: continue it with rotate or revoke")
    if not keys:
        raise ParseError("without a key nothing could be released: add one (--add KEY)")
    data = ReleaseKeys(serial, _expiry(options), keys, revoked).encode()
    ReleaseKeys.parse(data)  # what cannot be read back is not published
    write_signed(options.out, Purpose.KEYS, data, signer)
    _say(data.decode("ascii").rstrip("\n"))


def _sums(options: argparse.Namespace) -> None:
    signer = _signer(options)
    for name, digest in sorted(sign_sums(options.folder, signer).items()):
        _say(f"{digest}  {name}")


def _channel(options: argparse.Namespace) -> None:
    signer = _signer(options)
    data = Channel(options.channel, options.version, options.issued, _expiry(options)).encode()
    Channel.parse(data)
    write_signed(options.out, Purpose.CHANNEL, data, signer)
    _say(data.decode("ascii").rstrip("\n"))


def _unsigned(options: argparse.Namespace) -> None:
    files = check_unsigned(options.folder, options.version)
    _say(f"{len(files)} files of {options.version}, as SHA256SUMS says; nothing is signed")


def _check(options: argparse.Namespace) -> None:
    found = verify_folder(
        options.folder, options.root_key, options.now, version=options.version, complete=True
    )
    _say(
        f"{len(found.files)} files, signed by {found.release.signer}, which {found.release.root} vouches for"
    )
    for name in found.archives:
        _say(f"every file in {name} is that of its MANIFEST")
    if found.channel is not None:
        _say(f"the channel {found.channel.name} leads to {found.channel.version}")


def _expiry(options: argparse.Namespace) -> int:
    if options.expires is not None:
        return int(options.expires)
    return int(getattr(options, "issued", None) or time.time()) + int(options.days * DAY)


def _signer(options: argparse.Namespace) -> Identity:
    return load_key(options.private, _passphrase(options))


def _passphrase(options: argparse.Namespace) -> bytes | None:
    """From the first line of a file, `-` being stdin; never from an argument, which others can see."""
    if options.passphrase_file is None:
        return None
    if options.passphrase_file == Path("-"):
        data = sys.stdin.buffer.readline(MAX_KEY_FILE)
    else:
        data = read_bounded(options.passphrase_file, MAX_KEY_FILE)
    line = data.split(b"\n", 1)[0].rstrip(b"\r")
    if not line:
        raise ParseError("the passphrase is empty")
    return line


def _write(path: Path, data: bytes) -> None:
    write_whole(path, data)
    path.chmod(0o644)  # public; what uploads it may be another user


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sign.py", description="Make the keys of releases, and sign with them."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, comment, words in (
        ("new-root", "wws-root", "make a root key"),
        ("new-key", "wws-release", "make a release key"),
    ):
        command = _command(commands, name, _new, words)
        command.add_argument("file", type=Path, metavar="FILE")
        command.add_argument("--comment", default=comment, help="for people, in FILE.pub")
    command = _command(commands, "release-keys", _release_keys, "say which keys may sign releases")
    _keys_arguments(command)
    command.add_argument("--serial", type=int, default=1)
    command.add_argument("--key", type=_key, action="append", required=True, metavar="KEY")
    command.add_argument("--revoked", type=_key, action="append", default=[], metavar="KEY")
    for name, words in (
        ("rotate", "add and remove release keys"),
        ("revoke", "revoke release keys for ever"),
    ):
        command = _command(commands, name, _change_keys, words)
        _keys_arguments(command)
        command.add_argument("--from", dest="source", type=Path, required=True, metavar="DIR")
        command.add_argument("--add", type=_key, action="append", default=[], metavar="KEY")
        command.add_argument("--remove", type=_key, action="append", default=[], metavar="KEY")
        command.add_argument(
            "--revoked", type=_key, action="append", default=[], metavar="KEY", required=name == "revoke"
        )
    command = _command(commands, "sums", _sums, "write and sign SHA256SUMS of a folder")
    command.add_argument("folder", type=Path, metavar="DIR")
    _private_argument(command, "--key", "release")
    command = _command(commands, "channel", _channel, "say which version is current")
    _private_argument(command, "--key", "release")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")
    command.add_argument("--channel", type=_typed(parse_channel_name), default="stable")
    command.add_argument("--version", type=_typed(Version.parse), required=True)
    command.add_argument("--issued", type=_time, default=int(time.time()), metavar="YYYYMMDDHHMMSS")
    _expiry_arguments(command, CHANNEL_DAYS)
    words = "check what is to be signed: nothing else may be there"
    command = _command(commands, "unsigned", _unsigned, words, has_key=False)
    command.add_argument("folder", type=Path, metavar="DIR")
    command.add_argument("--version", type=_typed(Version.parse), required=True)
    command = _command(commands, "check", _check, "verify a release as a whole", has_key=False)
    command.add_argument("folder", type=Path, metavar="DIR")
    command.add_argument("--root-key", type=_key, action="append", required=True, metavar="KEY")
    command.add_argument("--version", type=_typed(Version.parse))
    command.add_argument("--now", type=_time, default=int(time.time()), metavar="YYYYMMDDHHMMSS")
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], None],
    words: str,
    *,
    has_key: bool = True,
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
    command.set_defaults(run=run)
    if has_key:
        command.add_argument(
            "--passphrase-file",
            type=Path,
            metavar="FILE",
            help="its first line is the passphrase; - is stdin",
        )
    return command


def _keys_arguments(command: argparse.ArgumentParser) -> None:
    _private_argument(command, "--root", "root")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")
    _expiry_arguments(command, KEYS_DAYS)


def _private_argument(command: argparse.ArgumentParser, flag: str, kind: str) -> None:
    command.add_argument(
        flag, dest="private", type=Path, required=True, metavar="FILE", help=f"the private {kind} key"
    )


def _expiry_arguments(command: argparse.ArgumentParser, days: int) -> None:
    command.add_argument("--expires", type=_time, metavar="YYYYMMDDHHMMSS", help="UTC")
    command.add_argument("--days", type=float, default=days, help="or so many days from now (%(default)s)")


def _typed(parse: Callable[[str], T]) -> Callable[[str], T]:
    """The parser as argparse wants it: its refusal is wrong usage, with the reason."""

    def parsed(text: str) -> T:
        try:
            return parse(text)
        except ParseError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed


_key = _typed(PublicKey.parse)
_time = _typed(lambda text: parse_time(text, "the command line"))


if __name__ == "__main__":
    raise SystemExit(main())
