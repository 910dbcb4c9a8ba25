"""Who else may have installed wws, and the command of theirs: in place of `wws self …`, and for an extra.

Needs no extra itself.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

from wws.errors import LocalError
from wws.programs import is_frozen
from wws.rpc.codes import Exit

DISTRIBUTION: Final = "wws"
PINNED: Final = "'wws[agent]==VERSION'"


class InstalledOtherwise(LocalError):
    """This copy of wws was not installed by install.sh, and is not for it to change."""

    code = "installed_otherwise"
    exit_code = Exit.REFUSED


@dataclass(frozen=True, slots=True)
class Way:
    """One way that wws can come to a machine."""

    words: str
    update: str
    rollback: str
    uninstall: str
    verify: str = "wws self verify --prefix PREFIX, for what install.sh has installed there"

    def refusal(self, command: str) -> InstalledOtherwise:
        """The error that names what to do instead. `command` is the word behind `wws self`."""
        return InstalledOtherwise(
            f"This wws {self.words}: `wws self {command}` is for what install.sh has installed.",
            hint=f"Here it is: {getattr(self, command)}",
        )


def find_way() -> Way:
    """How the wws that runs now was installed."""
    if is_frozen():
        folder = shlex.quote(str(Path(os.path.realpath(sys.executable)).parent.parent))
        unpack = "unpack the archive of that version"
        return Way(f"was unpacked by hand ({folder})", unpack, unpack, f"rm -r {folder}")
    file = _from_file()
    maker = _maker()
    if maker == "pipx":
        return Way(
            "was installed by pipx",
            f"pipx install --force {file}" if file else "pipx upgrade wws",
            f"pipx install --force {file or PINNED}",
            "pipx uninstall wws",
        )
    if maker == "uv":
        return Way(
            "was installed by uv",
            f"uv tool install --reinstall {file}" if file else "uv tool upgrade wws",
            f"uv tool install --reinstall {file}" if file else f"uv tool install {PINNED}",
            "uv tool uninstall wws",
        )
    try:
        found = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return _checkout()
    if _is_editable(found.read_text("direct_url.json")):
        return _checkout()
    if (found.read_text("INSTALLER") or "").strip() == "uv":
        pip = f"uv pip install --python {shlex.quote(sys.executable)}"
        remove = f"uv pip uninstall --python {shlex.quote(sys.executable)}"
    else:
        pip = f"{shlex.quote(sys.executable)} -m pip install"
        remove = f"{shlex.quote(sys.executable)} -m pip uninstall"
    return Way(
        f"was installed as a package of {shlex.quote(sys.prefix)}",
        f"{pip} {file}" if file else f"{pip} --upgrade 'wws[agent]'",
        f"{pip} {file or PINNED}",
        f"{remove} wws",
    )


def extra_command(extra: str) -> str:
    """What adds an extra to the wws that runs now."""
    try:
        is_checkout = _is_editable(metadata.distribution(DISTRIBUTION).read_text("direct_url.json"))
    except metadata.PackageNotFoundError:
        is_checkout = True
    file = "" if is_checkout else _from_file(extra)
    install = {
        "pipx": "pipx install --force",
        "uv": "uv tool install --reinstall" if file else "uv tool install",
        None: "pip install",
    }[_maker()]
    if is_checkout:
        return f"{install} --editable {shlex.quote(f'{_sources()}[{extra}]')}"
    return f"{install} {file or shlex.quote(f'wws[{extra}]')}"


def _maker() -> Literal["pipx", "uv"] | None:
    """Who made this environment for wws alone; `None`: neither of these."""
    prefix = Path(sys.prefix)
    if (prefix / "pipx_metadata.json").is_file():
        return "pipx"
    return "uv" if (prefix / "uv-receipt.toml").is_file() else None


def _from_file(extra: str = "agent") -> str:
    """What to install where the package came from a downloaded wheel (PEP 610), else nothing.

    Who took a signed file is not sent to an index, where the name may be somebody else's.
    """
    try:
        found = json.loads(metadata.distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
        downloaded = "archive_info" in found
    except (metadata.PackageNotFoundError, ValueError, TypeError):
        return ""
    wheel = f"'wws[{extra}] @ file:///…/wws-VERSION-py3-none-any.whl' (see docs/packages.md)"
    return wheel if downloaded else ""


def _is_editable(direct_url: str | None) -> bool:
    """Whether the package is a link to its sources (PEP 610)."""
    try:
        found = json.loads(direct_url or "{}")
        return bool(found["dir_info"]["editable"])
    except (ValueError, KeyError, TypeError):
        return False


def _checkout() -> Way:
    folder = shlex.quote(str(_sources()))
    return Way(
        f"runs from the sources in {folder}",
        f"git -C {folder} pull",
        f"git -C {folder} checkout VERSION",
        f"rm -r {folder}",
        f"git -C {folder} status",
    )


def _sources() -> Path:
    return Path(__file__).resolve().parent.parent
