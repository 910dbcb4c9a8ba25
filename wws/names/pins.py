"""Pins: whose key a name had when we first used it (wire.md section 4).

The first answer for a name is trusted, and remembered under (network's domain, swarm, name); from then on
another owner is an error, not an answer. All ad hoc networks share one domain, the empty one. A pin moves by
itself only along a chain of transfers that leads on from the pinned key; otherwise the user moves it
(`wws name trust`). The map never evicts: who could push a pin out could take the name's place.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from wws.codec.canonical import JsonObject, JsonValue
from wws.errors import ParseError
from wws.identity.peer_id import PeerId
from wws.names.errors import RecordRefused
from wws.names.record import NameRecord
from wws.names.signed import Members
from wws.names.state import StateUnreadable, state_list, state_object
from wws.names.uri import is_name

SCHEMA = 1
PinKey: TypeAlias = tuple[str, str, str]
"""Domain of the network (empty: ad hoc), swarm, name."""

_MEMBERS = frozenset({"domain", "swarm", "name", "owner", "first_seen", "last_seen"})
_LONGEST_DOMAIN = 253


@dataclass(frozen=True, slots=True)
class PinsConfig:
    """Bounds of the pins."""

    most: int = 20_000
    """Pins kept. When full, new names resolve without being pinned, and the answer says so. As many of the
    longest make a file that is read again: one that is too large is set aside, and with it all pins."""
    last_seen_step: int = 3_600
    """Seconds by which `last_seen` must change to be worth a write."""


@dataclass(frozen=True, slots=True)
class Pin:
    """Whose a name is, as far as this client knows."""

    owner: PeerId
    first_seen: int
    last_seen: int


class Verdict(enum.Enum):
    """What the pins say about a record."""

    NEW = "new"
    """Nothing was pinned; now this owner is."""
    KNOWN = "known"
    """The pinned owner."""
    MOVED = "moved"
    """A chain of transfers led on from the pinned owner; the pin has moved along."""
    CHANGED = "changed"
    """Another owner, with no chain from the pinned one. The pin stays."""
    FULL = "full"
    """Nothing was pinned, and there is no room for a new pin."""


class Pins:
    """The pins of one user. `revision` grows with every change, so that the owner knows when to save."""

    def __init__(self, config: PinsConfig | None = None) -> None:
        self._config = config or PinsConfig()
        self._pins: dict[PinKey, Pin] = {}
        self.revision = 0

    def __len__(self) -> int:
        return len(self._pins)

    def find(self, domain: str, swarm: str, name: str) -> Pin | None:
        """The pin of a name."""
        return self._pins.get((domain, swarm, name))

    def names(self, domain: str, swarm: str) -> Iterator[str]:
        """The names that are pinned in a swarm of a network."""
        return (name for at, in_swarm, name in self._pins if (at, in_swarm) == (domain, swarm))

    def observe(self, domain: str, record: NameRecord, unix_now: int, *, is_done: bool = True) -> Verdict:
        """Judge the record that a look-up found, and pin or move the pin where the rules allow it.

        `is_done` says whether the record's transfers count as done: where there are witnesses, when a
        majority has signed for the new owner. Entries do not grow old and name no network, so one of long
        ago, or of elsewhere, is not enough to move a pin.
        """
        key = (domain, record.swarm, record.name)
        pin = self._pins.get(key)
        if pin is None:
            pinned = self._set(key, Pin(record.peer_id, unix_now, unix_now))
            return Verdict.NEW if pinned else Verdict.FULL
        if pin.owner == record.peer_id:
            if abs(unix_now - pin.last_seen) >= self._config.last_seen_step:
                self._set(key, replace(pin, last_seen=unix_now))
            return Verdict.KNOWN
        if is_done and any(entry.from_peer == pin.owner for entry in record.transfers):
            self._set(key, Pin(record.peer_id, unix_now, unix_now))
            return Verdict.MOVED
        return Verdict.CHANGED

    def trust(self, domain: str, swarm: str, name: str, owner: PeerId, unix_now: int) -> bool:
        """The user accepts this owner. False when there is no room for a new pin."""
        return self._set((domain, swarm, name), Pin(owner, unix_now, unix_now))

    def forget(self, domain: str, swarm: str, name: str) -> bool:
        """Remove a pin. Whether there was one."""
        if self._pins.pop((domain, swarm, name), None) is None:
            return False
        self.revision += 1
        return True

    def to_json(self) -> JsonObject:
        """As it stands in `known_names.json`, sorted so that equal pins give equal files."""
        entries: list[JsonValue] = [
            {
                "domain": domain,
                "swarm": swarm,
                "name": name,
                "owner": str(pin.owner),
                "first_seen": pin.first_seen,
                "last_seen": pin.last_seen,
            }
            for (domain, swarm, name), pin in sorted(self._pins.items(), key=lambda item: item[0])
        ]
        return {"schema": SCHEMA, "pins": entries}

    @classmethod
    def from_json(cls, value: JsonValue, config: PinsConfig | None = None) -> Pins:
        """From `known_names.json`. Raises `StateUnreadable` for any bad entry: a pin that is skipped would be
        a name unguarded."""
        pins = cls(config)
        state = state_object("the file of known names", value, SCHEMA, frozenset({"schema", "pins"}))
        if state.keys() != {"schema", "pins"}:
            raise StateUnreadable("the file of known names has other members than schema and pins")
        is_newer = state["schema"] != SCHEMA
        for entry in state_list("the list of known names", state["pins"], pins._config.most):
            if not isinstance(entry, dict):
                raise StateUnreadable("a known name is not a JSON object")
            if is_newer:
                entry = {key: member for key, member in entry.items() if key in _MEMBERS}
            key, pin = _parse_pin(entry)
            if key in pins._pins:
                raise StateUnreadable(f"{key[2]!r} is among the known names twice")
            pins._pins[key] = pin
        return pins

    def _set(self, key: PinKey, pin: Pin) -> bool:
        if key not in self._pins and len(self._pins) >= self._config.most:
            return False
        self._pins[key] = pin
        self.revision += 1
        return True


def _parse_pin(entry: JsonObject) -> tuple[PinKey, Pin]:
    try:
        members = Members("a known name", entry, required=_MEMBERS)
        domain, swarm, name = members.text("domain"), members.text("swarm"), members.text("name")
        pin = Pin(members.peer_id("owner"), members.integer("first_seen"), members.integer("last_seen"))
    except (RecordRefused, ParseError) as error:
        raise StateUnreadable(str(error)) from None
    if not (is_name(swarm) and is_name(name)) or len(domain) > _LONGEST_DOMAIN:
        raise StateUnreadable(f"{name[:40]!r} in swarm {swarm[:40]!r} of {domain[:40]!r} is not a known name")
    return (domain, swarm, name), pin
