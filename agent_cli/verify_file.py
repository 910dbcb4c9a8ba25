"""`wws self verify-file`: one file, one signature, the keys that may have made it. For install.sh.

    wws self verify-file --key 'ssh-ed25519 AAAA…' [--key …] --namespace wws-release --signature FILE.sig FILE

The form of the signature is the ending of its file: `.sig`, `.sshsig` or `.minisig`. Prints the key that
signed. Exit codes: 0, 2 wrong usage, 8 no signature of these keys, 10 a file cannot be read. It is no command
of Typer's and not in `--help`: it must start at once, and is the installer's tool, not people's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agent_cli.result import Result, WrongUsage
from wws.release.errors import ReleaseMalformed
from wws.release.keys import PublicKey
from wws.release.signatures import MAX_SIGNATURE, Form, Purpose, verify_signature
from wws.runtime.machine_errors import reading_failed

MAX_FILE: Final = 1024 * 1024
"""Bytes of a file that is verified: statements are small, everything else is verified by its hash."""

_USAGE: Final = "wws self verify-file --key KEY [--key KEY]… --namespace NAMESPACE --signature SIGNATURE FILE"


def verify_file(arguments: Sequence[str]) -> Result:
    """Verify as the command line asks. Raises `WrongUsage`, `ReleaseRefused`, `MachineError`."""
    keys: list[PublicKey] = []
    purpose: Purpose | None = None
    files: list[str] = []
    signatures: list[str] = []
    words = iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        if word in ("--help", "-h"):
            return Result(text=f"Usage: {_USAGE}")
        elif flag in ("--key", "--namespace", "--signature"):
            given = value if equals else next(words, "")
            match flag:
                case "--key":
                    keys.append(PublicKey.parse(given))
                case "--namespace":
                    purpose = _purpose(given)
                case _:
                    signatures.append(given)
        elif word in ("--json", "--quiet", "-q", "--no-color", "--verbose", "-v"):
            continue
        elif word.startswith("-"):
            raise WrongUsage(f"There is no option {word}.", hint=f"Usage: {_USAGE}")
        else:
            files.append(word)
    if not keys or purpose is None or len(files) != 1 or len(signatures) != 1:
        raise WrongUsage("Keys, a namespace, a file and its signature are needed.", hint=f"Usage: {_USAGE}")
    file, signature = Path(files[0]), Path(signatures[0])
    signer = verify_signature(
        keys, read_bounded(file, MAX_FILE), read_bounded(signature, MAX_SIGNATURE), purpose, _form(signature)
    )
    return Result({"file": str(file), "signer": str(signer)}, str(signer))


def read_bounded(path: Path, most: int) -> bytes:
    """The content of a file of at most `most` bytes. Raises `MachineError`, `ReleaseMalformed`."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise reading_failed(path, error) from error
    if len(data) > most:
        raise ReleaseMalformed(f"{path} has more than {most} bytes.")
    return data


def _purpose(namespace: str) -> Purpose:
    for purpose in Purpose:
        if purpose.namespace == namespace:
            return purpose
    known = ", ".join(purpose.namespace for purpose in Purpose)
    raise WrongUsage(f"There is no namespace {namespace!r}.", hint=f"There are: {known}")


def _form(signature: Path) -> Form:
    try:
        return Form(signature.suffix)
    except ValueError:
        known = ", ".join(Form)
        raise WrongUsage(
            f"{signature.name} does not say what form of signature it has.",
            hint=f"Its ending is one of {known}",
        ) from None
