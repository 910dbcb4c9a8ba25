"""The names known in this home, where a name of ours could be taken for one of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agent_cli.name_words import ELSEWHERE
from wws.runtime.homes import Home

MAX_KNOWN = 16 * 1024 * 1024
"""Bytes of `known_names.json` that are read: as many as a node reads."""


def looks_like(home: Home, name: str, swarm: str, names: Iterable[Mapping[str, Any]] = ()) -> str | None:
    """The known name of this swarm that `name` could be taken for; of `names`, those of ours do not count.

    The file is the nodes' own: where it cannot be read they say so, and here a warning is left out.
    """
    from wws.names.lookalike import look_alikes

    ours = {entry["name"] for entry in names if entry["state"] not in ELSEWHERE}
    others = (known for known in _pinned(home, swarm) if known not in ours)
    return next(iter(look_alikes(name, others)), None)


def warning(named: str, alike: str | None) -> tuple[str, ...]:
    """What to say to whoever claims a name that looks like another."""
    if alike is None:
        return ()
    return (
        f"warning: {named} looks like wws:{alike}, which is known here: people may take one for the other.",
    )


def _pinned(home: Home, swarm: str) -> Iterator[str]:
    try:
        with open(home.known_names, "rb") as file:
            value = json.loads(file.read(MAX_KNOWN))
    except (OSError, ValueError, RecursionError):
        return
    pins = value.get("pins") if isinstance(value, dict) else None
    for pin in pins if isinstance(pins, list) else ():
        if isinstance(pin, dict) and pin.get("swarm") == swarm and isinstance(pin.get("name"), str):
            yield pin["name"]
