"""What every test of the packages has: the wheel and the sdist of the sources as they are, with a stamp."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packages.environments import builder

VERSION = "7.8.9"
STAMP = {
    "schema": 1,
    "version": VERSION,
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "releases": "https://releases.example.org/wws",
    "roots": [],
    "network": None,
}


@dataclass(frozen=True, slots=True)
class Packages:
    """Where they lie, and the stamp that they were built with."""

    wheel: Path
    sdist: Path
    stamp: Path


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """Built once by each worker: it takes a second."""
    folder = tmp_path_factory.mktemp("packages")
    stamp = folder / "stamp.json"
    stamp.write_text(json.dumps(STAMP))
    wheel, sdist = builder("packages").build(folder / "dist", version=VERSION, stamp=stamp)
    return Packages(wheel.path, sdist.path, stamp)
