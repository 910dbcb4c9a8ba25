"""How many new names a node may claim in a day (contract, section 6: the seed's five).

A name counts once a day, and only when the node really keeps it afterwards: malformed, refused and already
owned ones do not. While a claim is under way it holds a place, so that many at once cannot pass together.
The ledger is saved, because a restart would otherwise be a way around it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from wws.codec.canonical import JsonValue
from wws.names.uri import NameTarget, TargetError, parse_target
from wws.rpc.api import NameRegistered, NodeApi
from wws.rpc.limits import RateLimited
from wws.rpc.policy import NEW_NAME_RATE, Rate

_KEPT = frozenset({"claiming", "held", "contested", "transferring"})
"""States of a name that this node keeps, or is on its way to."""

Name = tuple[str, str]
"""A name and its swarm."""


class NewNames:
    """The ledger. `swarm` is the one of names that do not say theirs. `version` grows with each change."""

    def __init__(self, swarm: str, rate: Rate = NEW_NAME_RATE) -> None:
        self._swarm = swarm
        self._rate = rate
        self._counted: dict[Name, int] = {}
        """When each name was claimed, in Unix seconds."""
        self._under_way: Counter[Name] = Counter()
        self.version = 0

    async def register(self, node: NodeApi, text: str, unix_now: int) -> NameRegistered:
        """Claim a name, if another new one may be claimed today.

        Raises `RateLimited`, `TargetError`, and what the node raises. A cancelled call counts: the claim goes
        on without it.
        """
        name = self._parse(text)
        if name in await _kept(node):
            return await node.register_name(text)
        self._hold(name, unix_now)
        counts = True
        try:
            answer = await node.register_name(text)
            counts = answer.registered or name in await _kept(node)
            return answer
        except Exception:
            counts = name in await _kept(node)
            raise
        finally:
            self._let_go(name, unix_now if counts else None)

    def _parse(self, text: str) -> Name:
        target = parse_target(text)
        if not isinstance(target, NameTarget):
            raise TargetError(f"{text[:80]!r} is not a name")
        return target.name, target.swarm if "@" in text else self._swarm

    def _hold(self, name: Name, unix_now: int) -> None:
        day = int(self._rate.per)
        # A time in the future is left over from a clock that was ahead: it counts for a day at most.
        self._counted = {
            kept: min(at, unix_now)
            for kept, at in self._counted.items()
            if min(at, unix_now) + day > unix_now
        }
        taken = self._counted.keys() | self._under_way.keys()
        if name not in taken and len(taken) >= self._rate.times:
            oldest = min(self._counted.values(), default=unix_now - day + 60)
            raise RateLimited(f"more than {self._rate}", oldest + day - unix_now)
        self._under_way[name] += 1

    def _let_go(self, name: Name, counted_at: int | None) -> None:
        self._under_way[name] -= 1
        if not self._under_way[name]:
            del self._under_way[name]
        if counted_at is not None:
            self._counted[name] = counted_at
            self.version += 1

    def to_json(self) -> list[JsonValue]:
        return [[name, swarm, at] for (name, swarm), at in self._counted.items()]

    def load(self, value: JsonValue) -> None:
        """What `to_json` gave. Entries that are none are left out."""
        for entry in value if isinstance(value, list) else []:
            match entry:
                case [str(name), str(swarm), int(at), *_] if not isinstance(at, bool) and at >= 0:
                    self._counted[name, swarm] = at
                case _:
                    continue


async def _kept(node: NodeApi) -> Collection[Name]:
    return {(lease.name, lease.swarm) for lease in await node.names() if lease.state in _KEPT}
