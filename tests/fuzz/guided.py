"""`python -m tests.fuzz.guided TARGET --seconds N`: a row under atheris, which looks where code branches.

For a machine with time: atheris (`pip install atheris`, Linux) is not among what the project needs. It starts
from the examples of the row, and from what it found interesting before when `--keep DIR` says where that is.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path
from types import FunctionType

from tests.fuzz.running import CaseFailed
from tests.fuzz.table import find


def loaded_functions() -> set[FunctionType]:
    """The functions and methods of WWS that are loaded: libraries are not what is looked into."""
    found: set[FunctionType] = set()
    for name, module in list(sys.modules.items()):
        if not name.startswith("wws.") or name.startswith("wws.testing"):
            continue
        for value in vars(module).values():
            members = vars(value).values() if isinstance(value, type) else [value]
            plain = (getattr(member, "__func__", member) for member in members)
            found |= {each for each in plain if isinstance(each, FunctionType) and each.__module__ == name}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.guided")
    parser.add_argument("target", metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--keep", type=Path, help="folder of inputs, kept and gone on with")
    options = parser.parse_args()
    target = find(options.target)
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        parser.error("atheris is not installed: pip install atheris")
    folder = options.keep or Path(tempfile.mkdtemp(prefix="wws-guided-"))
    folder.mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(target.corpus()):
        (folder / f"example-{number}").write_bytes(example)

    def one(data: bytes) -> None:
        try:
            target.parse(data)
        except target.allowed:
            return
        except Exception as error:
            raise CaseFailed(target, 0, 0, data, error) from error

    for function in loaded_functions():
        atheris.instrument_func(function)
    limits = [f"-max_total_time={options.seconds}", f"-max_len={min(target.largest, 16_384)}", "-timeout=10"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={folder}/", str(folder)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
