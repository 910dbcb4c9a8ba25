"""`docs/operator.md` says what holds: its metrics, keys, defaults, reasons, and what SIGHUP takes over."""

from __future__ import annotations

import re
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from wws.config.records import BOOTSTRAP_DEFAULTS, LimitSettings
from wws.config.reloading import RELOADED
from wws.names.witness.messages import RECEIPT_PROTOCOL, Op, Why

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operator.md").read_text()
BY_RULE = {Why.MALFORMED}
"""Counted by the rule that was broken, each with a word of its own."""


@cache
def series() -> frozenset[str]:
    """What `/metrics` can have: every metric that the code names, and with the ending that counters get."""
    sources = (ROOT / "wws" / "runtime").glob("**/*.py")
    named = {name for source in sources for name in re.findall(r"\"(wws_\w+)\"", source.read_text())}
    return frozenset(named | {f"{name}_total" for name in named})


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\bwws_[a-z_]*[a-z]\b", PAGE))))
def test_every_metric_is_one(name: str) -> None:
    assert name in series()


def test_every_limit_has_the_default_that_is_said() -> None:
    settings, bootstrap = LimitSettings(), BOOTSTRAP_DEFAULTS["limits"]
    rows = re.findall(r"^\| `([a-z_]+)` \| ([\d.]+) \|", PAGE, re.MULTILINE)
    assert len(rows) >= 16
    for key, default in rows:
        value = getattr(settings, key)
        assert float(default) in (float(value), float(bootstrap.get(key, value))), key


def test_sighup_takes_over_what_is_said() -> None:
    table = PAGE[PAGE.index("| section of `config.toml` |") : PAGE.index("All else waits:")]
    said = set()
    for section, cells in re.findall(r"^\| `\[(\w+)\]`[^|]*\|(.+)\|$", table, re.MULTILINE):
        said |= {f"{section}.{key}" for key in re.findall(r"`([a-z_0-9]+)`", cells)}
    denied = {name for name in RELOADED if name.startswith("deny.")}
    assert said - {"deny.file"} == RELOADED - denied
    assert {name.partition(".")[2] for name in said if name.startswith("limits.")} <= {
        field.name for field in fields(LimitSettings)
    }


def test_every_refusal_of_a_witness_is_explained() -> None:
    table = PAGE[PAGE.index(f"of protocol `{RECEIPT_PROTOCOL}`") :]
    table = table[: table.index("\n\nOther words")]
    words = set(re.findall(r"`([a-z_]+)`", "\n".join(line.split("|")[1] for line in table.splitlines()[2:])))
    assert words == {str(why) for why in Why} - {str(why) for why in BY_RULE}
    assert all(f"`{op}`" in PAGE for op in (Op.CLAIM, Op.RENEW, Op.TRANSFER)), "receipts by operation"
