"""Imports every module that is named on stdin, a name a line, and prints those that cannot be, with why.

    wws --run-module wws.testing.importing <names         in the self-contained artefact
    python -m wws.testing.importing <names

What is left out of an artefact shows only when it is asked for: this asks for all of it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable


def main() -> int:
    """Import all of them; 0 when nothing was missing."""
    failed = 0
    for name, error in failures(sys.stdin.read().split()):
        sys.stdout.write(f"{name}: {type(error).__name__}: {error}\n")
        failed += 1
    return 1 if failed else 0


def failures(names: Iterable[str]) -> Iterable[tuple[str, ImportError]]:
    """The modules that cannot be imported, each with its error."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            yield name, error


if __name__ == "__main__":
    raise SystemExit(main())
