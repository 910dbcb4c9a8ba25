"""The API token for Cloudflare: from a file or the environment, checked for its form, shown nowhere."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from wws.errors import LocalError
from wws.rpc.codes import Exit
from wws.runtime.keyfile import is_loose

TOKEN_VARIABLE: Final = "CLOUDFLARE_API_TOKEN"  # noqa: S105 - the name of the variable, as the SDK has it
FILE_VARIABLE: Final = "CLOUDFLARE_API_TOKEN_FILE"
"""Names the file instead: for services, whose environment others can read."""
HOW_TO_GET_ONE: Final = (
    "Make one in the dashboard, My Profile, API Tokens, template 'Edit zone DNS', for this zone alone."
)
_TOKEN_FORM: Final = re.compile(r"[A-Za-z0-9_-]{20,256}\Z")
_MAX_TOKEN_FILE: Final = 4_096


class TokenMissing(LocalError):
    """There is no API token to speak to Cloudflare with."""

    code = "dns_token_missing"
    exit_code = Exit.USAGE
    hint = f"Put it into ${TOKEN_VARIABLE}, or into a file (mode 0600) and name that. {HOW_TO_GET_ONE}"


class TokenMalformed(LocalError):
    """What was given as API token cannot be one."""

    code = "dns_token_malformed"
    exit_code = Exit.USAGE
    hint = f"It is one word of letters, digits, '-' and '_', without 'Bearer' and quotes. {HOW_TO_GET_ONE}"


class TokenFileLoose(LocalError):
    """Others can read the API token, so others may change the zone."""

    code = "dns_token_file_loose"
    exit_code = Exit.INTEGRITY


def read_token(environ: Mapping[str, str], path: Path | None = None) -> str:
    """The API token: from the file at `path` or the one that `CLOUDFLARE_API_TOKEN_FILE` names, else it is
    what `CLOUDFLARE_API_TOKEN` says.

    Raises `TokenMissing`, `TokenMalformed`, `TokenFileLoose`. The token stands in no message.
    """
    if path is None and environ.get(FILE_VARIABLE):
        path = Path(environ[FILE_VARIABLE])
    if path is None:
        token = environ.get(TOKEN_VARIABLE, "").strip()
        if not token:
            raise TokenMissing(f"The variable {TOKEN_VARIABLE} is not set.")
        where = f"${TOKEN_VARIABLE}"
    else:
        where = str(path)
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                token = file.read(_MAX_TOKEN_FILE + 1).decode("ascii", "replace").strip()
        except OSError as error:
            raise TokenMissing(f"The token file {path} cannot be read: {error.strerror}.") from None
        if is_loose(path, mode, environ):
            raise TokenFileLoose(
                f"Others can read the token file {path} (mode {stat.S_IMODE(mode):04o}).",
                hint=f"If nobody has: chmod 600 {path}. If someone may have, roll the token in the "
                "dashboard.",
            )
        if not token:
            raise TokenMissing(f"The token file {path} is empty.")
    if not _TOKEN_FORM.match(token):
        raise TokenMalformed(f"What stands in {where} is no API token.")
    return token
