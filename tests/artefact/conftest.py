"""The artefact, unpacked, and a home that only a test uses."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.artefact.built import unpacked

WITHIN = 90


@dataclass
class Artefact:
    """Runs programs of the artefact as a user without Python: there is nothing in PATH at all."""

    top: Path
    home: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home / "run"),
            "PATH": "",
        }

    def program(self, name: str) -> str:
        return str(self.top / "bin" / name)

    def run(
        self, name: str, *arguments: str, given: str | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        return subprocess.run(
            [self.program(name), *arguments],
            input=given or "",
            capture_output=True,
            text=True,
            cwd=self.home,
            env={**self.env, **variables},
            timeout=WITHIN,
            check=False,
        )

    def json(self, *arguments: str) -> dict[str, Any]:
        """The data that a `wws` command answers with. Fails unless it succeeds."""
        done = self.run("wws", "--json", *arguments)
        assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        data: dict[str, Any] = json.loads(done.stdout)["data"]
        return data

    def start(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a program that stays; it is killed at the end of the test."""
        process = subprocess.Popen(
            [self.program(name), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=self.home,
            env=self.env,
        )
        self.started.append(process)
        return process


@pytest.fixture
def artefact(tmp_path: Path) -> Iterator[Artefact]:
    home = tmp_path / "h"
    (home / "run").mkdir(parents=True, mode=0o700)
    made = Artefact(unpacked(), home)
    yield made
    for process in made.started:
        process.kill()
        process.communicate()
