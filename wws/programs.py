"""How our own programs are started: by this Python, or by the self-contained artefact that we run in.

    from a checkout or a wheel      python -m wws.runtime …
    from the artefact               …/bin/wws-connector …

In the artefact there is no `python` to be had: `sys.executable` is the program itself, which goes by the name
that it lies under (packaging/frozen/start.py). Everything that starts a program of ours asks here.
"""

from __future__ import annotations

import os.path
import sys
from typing import Final

PROGRAMS: Final[dict[str, str]] = {
    "wws": "agent_cli",
    "wws-connector": "wws.runtime",
    "wws-bootstrap": "bootstrap_node",
    "wws-control": "bootstrap_node.control",
}
"""Each program, and the module that it is with `python -m`."""
RUN_MODULE: Final = "--run-module"
"""As first argument of a program of the artefact: run the module that follows, in place of the program."""


def is_frozen() -> bool:
    """Whether this process runs out of the self-contained artefact."""
    return bool(getattr(sys, "frozen", False))


def command_of(program: str) -> list[str]:
    """The beginning of a command line that runs one of `PROGRAMS`. Raises `KeyError` for another name."""
    module = PROGRAMS[program]
    if is_frozen():
        return [os.path.join(os.path.dirname(sys.executable), program)]
    return [sys.executable, "-m", module]


def command_of_module(module: str) -> list[str]:
    """The beginning of a command line that runs a module of ours that is no program (`wws.testing…`)."""
    if is_frozen():
        return [sys.executable, RUN_MODULE, module]
    return [sys.executable, "-m", module]
