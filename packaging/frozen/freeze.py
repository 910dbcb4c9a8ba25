"""Freezes Python and the libraries that a program needs: PYTHON freeze.py NEEDS REQUIREMENTS OUT.

NEEDS is a file of import statements. `OUT/wws` becomes a folder with the program `wws` and, in `lib/`, what
those imports reach; our own modules are put there afterwards (selfcontained.py). Of an environment that has
more than REQUIREMENTS locks nothing else gets in, and one that has another version of something is refused.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

OWN = frozenset({"agent_cli", "bootstrap_node", "wws"})
WHOLE = ("dns.rdtypes", "aioquic", "uvloop")
"""Libraries that load parts of themselves by name."""
UNNEEDED = (
    *(
        "tkinter",
        "turtle",
        "idlelib",
        "lib2to3",
        "ensurepip",
        "venv",
        "test",
        "pydoc_data",
        "curses",
        "readline",
    ),
    *("doctest", "pdb", "unittest", "distutils", "setuptools", "pkg_resources", "pip", "xmlrpc", "pycparser"),
    # Two libraries know how to be a server, or to be tested, and would bring these along.
    *("multiprocessing.managers", "sqlite3.dbapi2.test"),
)
"""Of the standard library and its neighbours: nothing of ours reaches them."""
_LICENCE = re.compile(r"(LICEN[CS]E|COPYING|NOTICE|AUTHORS)", re.IGNORECASE)
_LOCKED = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)(?: *; *(?P<marker>[^\\]+))?", re.MULTILINE
)
CODESIGN = "WWS_CODESIGN_IDENTITY"


def main() -> int:
    from packaging.markers import Marker
    from packaging.utils import canonicalize_name

    needs, requirements, out = map(Path, sys.argv[1:4])
    locked = {
        canonicalize_name(found["name"]): found["version"]
        for found in _LOCKED.finditer(requirements.read_text("utf-8"))
        if found["marker"] is None or Marker(found["marker"].strip()).evaluate()
    }
    wrong = [
        f"{name} is {have or 'not installed'}, {version} is locked"
        for name, version in locked.items()
        if (have := _installed(name)) != version
    ]
    if wrong:
        sys.stderr.write(f"{sys.executable} has not what {requirements.name} locks: {'; '.join(wrong)}\n")
        return 1
    foreign = {
        top
        for top, distributions in metadata.packages_distributions().items()
        if top.isidentifier() and not any(canonicalize_name(name) in locked for name in distributions)
    }
    given = {
        "needs": str(needs),
        "modules": sorted(name for package in WHOLE for name in _modules(package)),
        "excluded": sorted({*UNNEEDED, *foreign, *OWN}),
        "codesign_identity": os.environ.get(CODESIGN) or None,
    }
    out.mkdir(parents=True, exist_ok=True)
    settings = out / "settings.json"
    settings.write_text(json.dumps(given), "utf-8")

    import PyInstaller.__main__

    spec = Path(__file__).with_name("wws.spec")
    PyInstaller.__main__.run(
        [
            *("--noconfirm", "--log-level", "WARN", "--distpath", str(out), "--workpath", str(out / "work")),
            str(spec),
            "--",
            str(settings),
        ]
    )
    _copy_licences(sorted(locked), out / "wws" / "licenses")
    return 0


def _copy_licences(names: Sequence[str], target: Path) -> None:
    """The licences of the libraries, and of Python, go wherever these go."""
    for name in names:
        for file in metadata.files(name) or ():
            parts = file.parts
            if not parts[0].endswith(".dist-info") or _LICENCE.match(file.name) is None:
                continue
            copy = target.joinpath(name, *(part for part in parts[1:] if part != "licenses"))
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), copy)
    found = next(
        filter(Path.exists, (Path(os.__file__).with_name("LICENSE.txt"), Path(sys.prefix, "LICENSE"))), None
    )
    if found is not None:
        target.mkdir(exist_ok=True)
        shutil.copyfile(found, target / "python.txt")


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _modules(package: str) -> Iterator[str]:
    """A package that is installed, and all modules in it."""
    found = importlib.util.find_spec(package)
    for folder in (found.submodule_search_locations or ()) if found else ():
        root = Path(folder)
        for path in root.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            yield ".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts)))


if __name__ == "__main__":
    raise SystemExit(main())
