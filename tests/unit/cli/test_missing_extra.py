"""A program whose extra is missing names the command that adds it to this very installation."""

import json
import sys
from pathlib import Path

import pytest

from agent_cli.result import ExtraMissing

FILE = "'wws[operator] @ file:///…/wws-VERSION-py3-none-any.whl'"


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment of its own, with wws in it as an index gives it."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "wws-1.0.dist-info").mkdir()
    (tmp_path / "wws-1.0.dist-info" / "METADATA").write_text("Name: wws\nVersion: 1.0\n")
    return tmp_path


def come_from(prefix: Path, origin: object) -> None:
    (prefix / "wws-1.0.dist-info" / "direct_url.json").write_text(json.dumps(origin))


WAYS = [
    (None, "pip install 'wws[operator]'", f"pip install {FILE}"),
    ("uv-receipt.toml", "uv tool install 'wws[operator]'", f"uv tool install --reinstall {FILE}"),
    ("pipx_metadata.json", "pipx install --force 'wws[operator]'", f"pipx install --force {FILE}"),
]


@pytest.mark.parametrize("mark, from_index, from_file", WAYS)
def test_the_command_is_that_of_who_made_the_environment(
    prefix: Path, mark: str | None, from_index: str, from_file: str
) -> None:
    if mark is not None:
        (prefix / mark).touch()
    assert str(ExtraMissing("wws-ops", "operator")) == f"wws-ops needs the extra: {from_index}"
    # Who checked a file is not sent to an index, where the name may be somebody else's.
    come_from(prefix, {"url": "file:///tmp/wws.whl", "archive_info": {}})
    assert str(ExtraMissing("wws-ops", "operator")) == (
        f"wws-ops needs the extra: {from_file} (see docs/packages.md)"
    )


def test_a_checkout_gets_it_from_itself(prefix: Path) -> None:
    come_from(prefix, {"url": "file:///src/wws", "dir_info": {"editable": True}})
    checkout = Path(__file__).parents[3]
    assert str(ExtraMissing("wws", "agent")) == (
        f"wws needs the extra: pip install --editable '{checkout}[agent]'"
    )
    (prefix / "uv-receipt.toml").touch()
    assert "uv tool install --editable" in str(ExtraMissing("wws", "agent"))
