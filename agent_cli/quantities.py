"""Durations and rates as people type them: `90s`, `12h`, `30d`; `10/s`, `600/min`, `100/h`."""

from __future__ import annotations

import re
from typing import Final

from agent_cli.result import WrongUsage

_UNITS: Final = {
    "s": 1,
    "sec": 1,
    "m": 60,
    "min": 60,
    "h": 3_600,
    "hour": 3_600,
    "d": 86_400,
    "day": 86_400,
    "w": 604_800,
    "week": 604_800,
}
"""Seconds by the word for them."""
_DURATION: Final = re.compile(r"(?P<count>[0-9]{1,9})\s*(?P<unit>[a-z]+)")
_RATE: Final = re.compile(r"(?P<count>[0-9]{1,9})\s*/\s*(?P<unit>[a-z]+)")


def parse_duration(text: str, *, least: int, most: int) -> int:
    """Seconds. Raises `WrongUsage` (exit 2) for what is no duration, or not from `least` to `most`."""
    found = _DURATION.fullmatch(text.strip().lower())
    seconds = _UNITS.get(found["unit"]) if found else None
    if found is None or seconds is None:
        raise WrongUsage(f"{text[:40]!r} is no duration.", hint="Write it like: 90s, 15m, 12h, 30d, 2w")
    total = int(found["count"]) * seconds
    if not least <= total <= most:
        bounds = f"{shown_duration(least)} to {shown_duration(most)}"
        raise WrongUsage(f"{text[:40]!r} is out of bounds.", hint=f"It may last {bounds}.")
    return total


def parse_rate(text: str, *, most: int) -> tuple[int, bool]:
    """Calls a minute, rounded down, and whether that is exactly what was typed. Raises `WrongUsage`."""
    found = _RATE.fullmatch(text.strip().lower())
    seconds = _UNITS.get(found["unit"]) if found else None
    if found is None or seconds is None:
        raise WrongUsage(f"{text[:40]!r} is no rate.", hint="Write it like: 10/s, 600/min, 100/h")
    calls = int(found["count"]) * 60
    a_minute = calls // seconds
    if not 1 <= a_minute <= most:
        raise WrongUsage(f"{text[:40]!r} is out of bounds.", hint=f"It may be 1/min to {most}/min.")
    return a_minute, calls % seconds == 0


def shown_duration(seconds: int) -> str:
    """Whole units, the largest that fits: `30d`, `90s`."""
    unit, size = next(
        (unit, size)
        for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
        if seconds % size == 0
    )
    return f"{seconds // size}{unit}"
