"""`docs/memory.md` says what holds: its keys, its figures, and the tests that it names."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from wws.config.records import BOOTSTRAP_DEFAULTS, LimitSettings, NetworkSettings
from wws.mesh.memory import MemoryConfig

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "memory.md").read_text()
KEYS = {field.name for settings in (LimitSettings, NetworkSettings) for field in fields(settings)}


def test_every_key_is_one_of_the_settings():
    named = {word for word in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", PAGE) if not word.startswith("test_")}
    words = {
        "phase_timeout",
        "half_open",
        "reservations_ip",
        "reservations_prefix",
        "rate_limited",
        "too_large",
    }
    words |= {"yamux_frame_flood", "stream_buffer", "connection_buffer", "lru_cache"}
    assert named - words <= KEYS
    assert {"memory", "memory_per_peer", "memory_per_prefix"} <= KEYS


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\b(test_\w+)`", PAGE))))
def test_every_test_exists(name: str):
    sources = (path.read_text() for path in (ROOT / "tests").glob("*/**/test_*.py"))
    assert any(re.search(rf"def {name}\(", source) for source in sources)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`?(tests/[\w/]+\.py|test_\w+\.py)", PAGE))))
def test_every_file_of_tests_exists(path: str):
    assert (ROOT / path).exists() or (ROOT / "tests" / "net" / path).exists()


def test_the_figures_are_those_of_the_settings():
    limits, bootstrap = LimitSettings(), BOOTSTRAP_DEFAULTS["limits"]
    for key in ("memory", "memory_per_peer", "memory_per_prefix"):
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{key}`"))
        here, there = (int(cell.split()[0]) * 1024 * 1024 for cell in row.split("|")[2:4])
        assert here == getattr(limits, key)
        assert there == bootstrap.get(key, getattr(limits, key))
    config = MemoryConfig()
    charges = [config.connection, config.quic, config.quic_handshake, config.stream]
    said = re.search(
        r"charged (\d+) KiB .* (\d+) KiB more .* (\d+) KiB more .* (\d+) KiB:", PAGE.replace("\n", " ")
    )
    assert said is not None
    assert [int(figure) * 1024 for figure in said.groups()] == charges
