"""A build with a stamp, for tests: these packages, with a `stamp.json` beside `wws/stamp.py`.

A folder of links to every file of `wws/`, and the stamp, put before the checkout on `PYTHONPATH`: what runs
with it reads the stamp as an installed release does, and the checkout stays without one.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import wws
from wws.codec import canonical

REPOSITORY = Path(__file__).parents[1]


def stamp_of(
    *,
    version: str = "0.1.0",
    commit: str | None = None,
    releases: str | None = None,
    roots: tuple[str, ...] = (),
    network: bytes | None = None,
) -> dict[str, object]:
    """The members of a stamp; `network` are the bytes of a network file."""
    parsed = None if network is None else canonical.loads(network, max_bytes=16 * 1024)
    return {
        "schema": 1,
        "version": version,
        "commit": commit,
        "releases": releases,
        "roots": list(roots),
        "network": parsed,
    }


def stamped(folder: Path, stamp: Mapping[str, object]) -> str:
    """Make the build below `folder`; the `PYTHONPATH` that runs it."""
    package = folder / "wws"
    package.mkdir(parents=True)
    for entry in Path(wws.__file__).parent.iterdir():
        if entry.name not in {"__pycache__", "stamp.json"}:
            (package / entry.name).symlink_to(entry)
    (package / "stamp.json").write_text(json.dumps(stamp))
    return os.pathsep.join(map(str, (folder, REPOSITORY, REPOSITORY / "dns", REPOSITORY / "infra")))
