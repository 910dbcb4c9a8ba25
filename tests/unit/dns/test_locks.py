"""Lock files beside what is locked: one that is a link makes nothing elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.dns.world import DOMAIN, START, World, wanted
from wws.errors import WwsError
from wws_dns.history import History
from wws_dns.provider import Changes, Record, Unavailable
from wws_dns.zone_file import ZoneFileProvider


def test_the_lock_of_a_zone(tmp_path: Path) -> None:
    (tmp_path / ".zone.json.lock").symlink_to(tmp_path / "elsewhere")
    provider = ZoneFileProvider(DOMAIN, tmp_path / "zone.json")
    with pytest.raises(Unavailable):
        provider.apply(Changes(add=(Record(DOMAIN, "TXT", "x", 60),)))
    assert not (tmp_path / "elsewhere").exists()


def test_the_lock_of_a_history(tmp_path: Path) -> None:
    (tmp_path / ".history.json.lock").symlink_to(tmp_path / "elsewhere")
    history = History(DOMAIN, path=tmp_path / "history.json")
    world = World(now=START)
    world.history = history
    with pytest.raises(WwsError):
        world.publish(wanted("alice"))
    assert not (tmp_path / "elsewhere").exists()
