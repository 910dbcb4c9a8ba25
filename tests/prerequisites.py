"""What a test needs from the machine: skipped with the reason on a desk, a failure in CI.

::

    @pytest.fixture(scope="module", autouse=True)
    def _prerequisites() -> None:
        require("knotd", "node>=22", "root")
"""

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

_REQUIREMENT = re.compile(r"(?P<tool>[A-Za-z0-9_.+-]+?)(?:>=(?P<version>\d+(?:\.\d+)*))?")
_VERSION = re.compile(r"\d+(?:\.\d+)+|\d+")

_INTEROP_BINARIES = Path(__file__).parent / "interop" / "peers" / ".build" / "js"
"""Where tests/interop/build.sh puts a node newer than the system's."""

_VERSION_ARGUMENTS = {"go": ["version"], "ip": ["-V"], "openssl": ["version"]}


def running_in_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def find_tool(tool: str) -> str | None:
    """The path of `tool`: what tests/interop installed for itself first, then PATH and the sbin folders."""
    folders = [str(_INTEROP_BINARIES), os.environ.get("PATH", ""), "/usr/local/go/bin", "/usr/sbin", "/sbin"]
    return shutil.which(tool, path=os.pathsep.join(folders))


@functools.cache
def _version_of(binary: str, tool: str) -> tuple[int, ...] | None:
    arguments = _VERSION_ARGUMENTS.get(tool, ["--version"])
    answer = subprocess.run([binary, *arguments], capture_output=True, text=True, timeout=30, check=False)
    found = _VERSION.search(answer.stdout or answer.stderr)
    return tuple(int(part) for part in found.group().split(".")) if found else None


def missing(requirement: str) -> str | None:
    """Why `requirement` is not met here, or None. Forms: "root", "knotd", "node>=22", "/dev/net/tun"."""
    if requirement == "root":
        return None if os.geteuid() == 0 else "not root"
    if requirement.startswith("/"):
        return None if os.path.exists(requirement) else f"there is no {requirement}"
    parsed = _REQUIREMENT.fullmatch(requirement)
    if parsed is None:
        raise ValueError(f"not a requirement: {requirement!r}")
    tool, wanted = parsed["tool"], parsed["version"]
    binary = find_tool(tool)
    if binary is None:
        return f"{tool} is not installed"
    if wanted is None:
        return None
    have = _version_of(binary, tool)
    if have is None:
        return f"{tool} does not say its version"
    if have < tuple(int(part) for part in wanted.split(".")):
        return f"{tool} is {'.'.join(map(str, have))}, {wanted} is needed"
    return None


def require(*requirements: str) -> None:
    """Go on only where every requirement is met: otherwise skip, or fail when `CI` is true.

    CI installs everything (`.ci/run`), so there a gap is a fault of the set-up and must not look green.
    """
    gaps = [gap for requirement in requirements if (gap := missing(requirement)) is not None]
    if not gaps:
        return
    skip("; ".join(gaps))


def skip(reason: str) -> NoReturn:
    """Skip for something that this machine lacks, or fail when `CI` is true."""
    if running_in_ci():
        pytest.fail(f"missing in CI, see .ci/run: {reason}", pytrace=False)
    pytest.skip(reason)
