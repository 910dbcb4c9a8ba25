"""The command line with a fake node behind it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli.running import Cli


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    tmp_path.chmod(0o700)
    cli = Cli(tmp_path, capfd)
    for name in list(os.environ):
        if name.startswith("WWS_"):
            monkeypatch.delenv(name)
    for name, value in cli.env().items():
        monkeypatch.setenv(name, value)
    yield cli
    for ready in cli.home.running_nodes():
        cli("leave", "--node", ready.node)
