"""What the release put into this build: `stamp.json` beside this module.

    {"schema": 1, "version": "1.2.3", "commit": "…"|null, "releases": URL|null,
     "roots": ["ssh-ed25519 …"], "network": {…network.json…}|null}

The sources hold none: nothing there names a host, a key or a peer. A build without a stamp has no releases
to update from, no root keys to believe and no default network, and each command that would need one says so.
"""

from __future__ import annotations

import json
import pkgutil
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from wws.errors import LocalError

if TYPE_CHECKING:  # `wws --version` reads the stamp, and needs none of what canonical JSON brings along
    from wws.codec.canonical import JsonObject

FILE = "stamp.json"
SCHEMA = 1
"""Number of the form that this version reads."""
MAX_FILE = 64 * 1024
"""Largest stamp, in bytes; a network file in it has at most 16 KiB."""
MAX_ROOTS = 8
"""Most root keys of a build."""

_MEMBERS = frozenset({"schema", "version", "commit", "releases", "roots", "network"})
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+!_-]{0,63}\Z")
_COMMIT = re.compile(r"[0-9a-f]{7,64}\Z")
_URL = re.compile(r"https?://[!#$%&()*+,./:;=?@A-Za-z0-9_~\[\]-]{1,512}\Z")
_ROOT = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]{68}\Z")


class StampMalformed(LocalError):
    """What the release put into this build cannot be read."""

    code = "stamp_malformed"
    exit_code = 8
    hint = "this build is damaged or was made wrongly: install wws again"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a build knows of its release. A build from the sources knows nothing."""

    version: str | None = None
    commit: str | None = None
    releases: str | None = None
    """The URL below which the releases are."""
    roots: tuple[str, ...] = ()
    """Public keys, as `ssh-ed25519 …`, that say which keys sign releases."""
    network: JsonObject | None = None
    """The members of the default network's file; whoever uses it verifies it."""


@cache
def stamp() -> Stamp:
    """The stamp of this build; all empty where there is none. Raises `StampMalformed`."""
    try:
        data = pkgutil.get_data(__package__ or "wws", FILE)
    except OSError:
        return Stamp()
    return Stamp() if data is None else parse_stamp(data)


def parse_stamp(data: bytes) -> Stamp:
    """A stamp from the bytes of its file. Raises `StampMalformed`."""
    if len(data) > MAX_FILE:
        raise StampMalformed(f"The stamp of this build has {len(data)} bytes, at most {MAX_FILE} are read.")
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise StampMalformed("The stamp of this build is not JSON.") from None
    if not isinstance(value, dict) or value.keys() != _MEMBERS:
        raise StampMalformed("The stamp of this build has missing or unknown members.")
    if value["schema"] != SCHEMA or isinstance(value["schema"], bool):
        raise StampMalformed(f"The stamp of this build is not of form {SCHEMA}.")
    roots, network = value["roots"], value["network"]
    if not isinstance(roots, list) or len(roots) > MAX_ROOTS:
        raise StampMalformed(f"The root keys of this build are not a list of at most {MAX_ROOTS}.")
    if network is not None and not isinstance(network, dict):
        raise StampMalformed("The default network of this build is not an object.")
    return Stamp(
        _text(value["version"], "version", _VERSION),
        _text_or_none(value["commit"], "commit", _COMMIT),
        _text_or_none(value["releases"], "URL of the releases", _URL),
        tuple(_text(root, "root key", _ROOT) for root in roots),
        network,
    )


def _text_or_none(value: object, what: str, form: re.Pattern[str]) -> str | None:
    return None if value is None else _text(value, what, form)


def _text(value: object, what: str, form: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not form.match(value):
        raise StampMalformed(f"The {what} in the stamp of this build is not of its form.")
    return value
