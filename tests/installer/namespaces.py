"""Mounts that only one run of the installer sees."""

from __future__ import annotations

import os
import shlex

from tests.prerequisites import find_tool, require


def mounts(*arguments: tuple[str, ...]) -> list[str]:
    """What a command is started by to run with these mounts; each is what `mount` is given."""
    require("unshare", "mount")
    options = ["-m"] if os.geteuid() == 0 else ["-U", "-r", "-m"]
    script = "".join(f"{tool('mount')} {shlex.join(each)} && " for each in arguments)
    return [tool("unshare"), *options, "/bin/sh", "-c", f'{script}exec "$@"', "sh"]


def tool(name: str) -> str:
    """The path of a program: PATH is the machine's, which has less."""
    return find_tool(name) or name
