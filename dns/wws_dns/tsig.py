"""A TSIG key (RFC 8945): the shared secret by which a name server knows who may change a zone.

Read from a file of mode 0600 or from the environment, never from the command line, where everybody on the
machine could see it. Both common forms are understood:

    hmac-sha256:name:c2VjcmV0                                     (dig -y, nsupdate -y, keymgr -t)
    key "name" { algorithm hmac-sha256; secret "c2VjcmV0"; };     (tsig-keygen, BIND)
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wws.codec import base64
from wws.discovery.publishers import host_kind
from wws.errors import LocalError, ParseError
from wws.rpc.codes import Exit
from wws.runtime.keyfile import is_loose
from wws.runtime.machine_errors import reading_failed

VARIABLE: Final = "WWS_DNS_TSIG"
"""The environment variable that holds a key."""
FILE_VARIABLE: Final = "WWS_DNS_TSIG_FILE"
"""The environment variable that names the file of a key."""
ALGORITHMS: Final = ("hmac-sha256", "hmac-sha384", "hmac-sha512")
"""What keys may be used with; the shorter hashes of old are refused."""
MAX_FILE: Final = 4096
MIN_SECRET: Final = 16
"""Shortest secret, in bytes."""

_SHORT: Final = re.compile(r"(?m)^(?:#\s*)?([A-Za-z0-9-]+):([A-Za-z0-9._-]+):([A-Za-z0-9+/=]+)\s*$", re.ASCII)
_CLAUSE: Final = re.compile(r'key\s+"?([A-Za-z0-9._-]+)"?\s*\{([^}]*)\}', re.ASCII)
_ALGORITHM: Final = re.compile(r'\balgorithm\s+"?([A-Za-z0-9-]+)"?\s*;', re.ASCII)
_SECRET: Final = re.compile(r'\bsecret\s+"?([A-Za-z0-9+/=]+)"?\s*;', re.ASCII)


class TsigMalformed(LocalError):
    """That is no TSIG key."""

    code = "tsig_malformed"
    exit_code = Exit.USAGE
    hint = "One line as from `keymgr -t NAME` (hmac-sha256:NAME:SECRET), or the file of `tsig-keygen NAME`."


class TsigMissing(LocalError):
    """There is no TSIG key."""

    code = "tsig_missing"
    exit_code = Exit.USAGE
    hint = f"Name its file: tsig_file in records.toml, or ${FILE_VARIABLE}; or put it into ${VARIABLE}."


class TsigFileLoose(LocalError):
    """Others can read the TSIG key, so others may change the zone."""

    code = "tsig_file_loose"
    exit_code = Exit.INTEGRITY


@dataclass(frozen=True, slots=True)
class TsigKey:
    """A key. Its secret is in no `repr`."""

    name: str
    algorithm: str
    secret: bytes = field(repr=False)


def parse_tsig(text: str) -> TsigKey:
    """The one key in `text`. Raises `TsigMalformed`, whose message does not hold the secret."""
    if len(text) > MAX_FILE:
        raise TsigMalformed(f"A TSIG key of more than {MAX_FILE} characters.")
    if clause := _CLAUSE.search(text):
        algorithm, secret = _ALGORITHM.search(clause[2]), _SECRET.search(clause[2])
        if algorithm is None or secret is None:
            raise TsigMalformed("The key clause lacks its algorithm or its secret.")
        return _key(clause[1], algorithm[1], secret[1])
    if short := _SHORT.search(text):
        return _key(short[2], short[1], short[3])
    raise TsigMalformed("No TSIG key is in it.")


def read_tsig(environ: Mapping[str, str], path: Path | None = None) -> TsigKey:
    """The key: from the file at `path` when one is named, else as the environment says.

    Raises `TsigMissing`, `TsigMalformed`, `TsigFileLoose`, `MachineError`.
    """
    if path is None and environ.get(VARIABLE):
        return parse_tsig(environ[VARIABLE])
    if path is None and environ.get(FILE_VARIABLE):
        path = Path(environ[FILE_VARIABLE]).expanduser()
    if path is None:
        raise TsigMissing("No TSIG key is given.")
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise TsigMissing(f"There is no TSIG key file at {path}.") from None
    except OSError as error:
        raise reading_failed(path, error) from error
    if is_loose(path, mode, environ):
        raise TsigFileLoose(
            f"Others can read the TSIG key {path} (mode {stat.S_IMODE(mode):04o}).",
            hint=f"If nobody has: chmod 600 {path}. If someone may have, make a new one.",
        )
    return parse_tsig(data.decode("utf-8", "replace"))


def _key(name: str, algorithm: str, secret: str) -> TsigKey:
    name, algorithm = name.lower().removesuffix("."), algorithm.lower()
    if host_kind(name) != "name" and not re.fullmatch(r"[a-z0-9._-]{1,253}", name):
        raise TsigMalformed("The name of the TSIG key is none.")
    if algorithm not in ALGORITHMS:
        raise TsigMalformed(f"{algorithm[:40]!r} is no algorithm for it; there are {', '.join(ALGORITHMS)}.")
    try:
        data = base64.decode(secret)
    except ParseError:
        raise TsigMalformed("The secret of the TSIG key is no base64.") from None
    if len(data) < MIN_SECRET:
        raise TsigMalformed(
            f"The secret of the TSIG key has {len(data)} bytes; at least {MIN_SECRET} it takes."
        )
    return TsigKey(name, algorithm, data)
