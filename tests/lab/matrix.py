"""Every kind of place to every kind of place: who reaches whom, how, and after how long.

with Internet() as internet, Swarm.of(internet) as swarm:
    town = Town.settle(internet, swarm)
    swarm.wait_joined()
    verdicts = town.wait_verdicts(swarm, within=60)
    print(matrix_text(town.reach_all(swarm, Patience())))
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median
from threading import Event
from typing import NamedTuple

from tests.lab.internet import Internet
from tests.lab.nat import Kind, Router
from tests.lab.nodes import Json, Node, NodeFailed, Swarm
from wws.errors import WwsError

OPEN = "open"
_ASK_WHY = 2.0
"""Seconds between two questions why there is no direct connection."""
_UNDECIDED = "is going on"
"""Part of the reason while there may be one yet."""
KINDS = (OPEN, Kind.FULL_CONE.value, Kind.PORT_RESTRICTED.value, Kind.SYMMETRIC.value)
"""Where an agent stands: on the internet itself, or behind a router of that kind."""


class Verdict(NamedTuple):
    """What a node finds out about its own place."""

    reachability: str
    nat: str


VERDICTS = {
    OPEN: Verdict("public", "none"),
    Kind.FULL_CONE.value: Verdict("public", "endpoint_independent"),
    Kind.PORT_RESTRICTED.value: Verdict("private", "endpoint_independent"),
    Kind.SYMMETRIC.value: Verdict("private", "address_dependent"),
}
ONLY_RELAYED = {
    (Kind.PORT_RESTRICTED.value, Kind.SYMMETRIC.value),
    (Kind.SYMMETRIC.value, Kind.PORT_RESTRICTED.value),
    (Kind.SYMMETRIC.value, Kind.SYMMETRIC.value),
}
"""The pairs between which no port can be known beforehand."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited; these are no goals, only where a wait becomes a failure."""

    connected: float = 15.0
    """For the first answer to a ping by name."""
    direct: float = 30.0
    """From then on, for a direct connection, or until no further attempt is made."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How one agent reached another by name."""

    source: str
    target: str
    was_connected: bool
    """Whether they were connected before, by the DHT or by names."""
    connected: float | None
    """Seconds until the first answer; None: never."""
    direct: float | None
    """Seconds, from the same start, until there was a direct connection; None: never."""
    path: str | None
    """Of the last ping: `direct`, `relay`, or None without an answer."""
    transport: str | None
    """Of the best connection in the end."""
    reason: str | None
    """Why not direct, or why not at all."""
    exit_code: int
    """Of `wws ping --require-direct` in the end."""


def reach(
    swarm: Swarm, source: Node, target: Node, patience: Patience, answered: Event | None = None
) -> Reached:
    """Ping by name until there is an answer, wait for a direct connection, then let `wws ping` say.

    `answered` is set after the first step, however that ends.
    """
    try:
        peer = target.peer_id
        was_connected = bool(source.paths_to(peer))
        start = time.monotonic()
        connected, reason = _first_answer(source, target.name, start + patience.connected, start)
    finally:
        if answered is not None:
            answered.set()
    direct = None
    if connected is not None:
        direct = _direct_connection(source, target, start, patience)
    code, envelope = swarm.wws(source, "ping", target.name, "-c", "1", "--require-direct")
    reply: Json = next(iter((envelope.get("data") or {}).get("replies") or ()), {})
    errors = envelope["errors"]
    best = min(source.paths_to(peer), key=lambda row: str(row["path"]), default=None)
    return Reached(
        source.name,
        target.name,
        was_connected,
        connected,
        direct,
        reply.get("path"),
        str(best["transport"]) if best else None,
        reply.get("reason") or (errors[0]["message"] if errors else None) or reason,
        code,
    )


def _first_answer(source: Node, name: str, deadline: float, start: float) -> tuple[float | None, str | None]:
    reason = None
    while time.monotonic() < deadline:
        try:
            report = source.call("swarm.ping", target=name, count=1)
        except WwsError as error:
            reason = f"{error.code}: {error}"
            time.sleep(0.1)  # the other process may not be there yet
            continue
        if report["received"]:
            return time.monotonic() - start, None
        reason = report["replies"][0]["reason"]
    return None, reason


def _direct_connection(source: Node, target: Node, start: float, patience: Patience) -> float | None:
    """Seconds until there is one; None once it will not come, or the patience is over."""
    peer = target.peer_id
    deadline = time.monotonic() + patience.direct
    ask_at = time.monotonic() + _ASK_WHY
    while (now := time.monotonic()) < deadline:
        if any(row["path"] == "direct" for row in source.paths_to(peer)):
            return time.monotonic() - start
        if now >= ask_at:
            ask_at = now + _ASK_WHY
            (reply,) = source.call("swarm.ping", target=peer, count=1)["replies"]
            if reply["path"] == "relay" and _UNDECIDED not in str(reply["reason"]):
                return None
        time.sleep(0.05)  # other processes are at work
    return None


@dataclass
class Town:
    """Two agents of each kind, each behind a router of its own."""

    agents: dict[tuple[str, str], Node] = field(default_factory=dict)
    """By kind, and `a` or `b`."""
    routers: dict[tuple[str, str], Router] = field(default_factory=dict)

    @classmethod
    def settle(cls, internet: Internet, swarm: Swarm) -> Town:
        """Start all agents; returns at once."""
        town = cls()
        for row, kind in enumerate(KINDS, start=1):
            for column, side in enumerate("ab", start=1):
                address, name = f"198.18.{row}{column}.2", f"{kind}-{side}"
                if kind == OPEN:
                    namespace = internet.host(name, address).namespace
                else:
                    router = town.routers[kind, side] = Router(
                        internet, f"{name}-router", Kind(kind), address
                    )
                    namespace = router.host(name)
                town.agents[kind, side] = swarm.agent(name, namespace)
        return town

    def wait_verdicts(self, swarm: Swarm, within: float) -> dict[str, float]:
        """Wait until every verdict is right, and who needs a relay has one: seconds from each start."""
        took = {}
        end = time.monotonic() + within
        for (kind, _), node in self.agents.items():
            left = max(0.0, end - time.monotonic())
            swarm.wait(node, f"verdict {VERDICTS[kind]} (and a relay)", settled(VERDICTS[kind]), left)
            took[node.name] = time.monotonic() - node.started
        return took

    def forget_connections(self, swarm: Swarm) -> None:
        """Start those once more to whom all others have connected because they serve the DHT.

        So small a swarm is its own neighbourhood: without this an open agent would have waited for nobody.
        """
        public = [self.agents[kind, "a"] for kind in KINDS if VERDICTS[kind].reachability == "public"]
        for node in public:
            node.stop()
            swarm.start(node)
        swarm.wait_joined(*public)

    def reach_all(self, swarm: Swarm, patience: Patience) -> dict[tuple[str, str], Reached]:
        """All ordered pairs of kinds, another pair of agents for each.

        A row begins when the one before has its first answers: so nobody has looked anything up in the DHT,
        and met others there, when it is its turn to be found. Who cannot get a direct connection is waited
        for in the end.
        """
        asked: dict[tuple[str, str], Future[Reached]] = {}
        with ThreadPoolExecutor(len(KINDS) ** 2) as threads:
            for first in KINDS:
                row = {second: Event() for second in KINDS}
                for second, answered in row.items():
                    source, target = self.agents[first, "a"], self.agents[second, "b"]
                    asked[first, second] = threads.submit(reach, swarm, source, target, patience, answered)
                for answered in row.values():
                    answered.wait()
        return {pair: answer.result() for pair, answer in asked.items()}


def settled(verdict: Verdict, *, relays: int = 1) -> Callable[[Json], bool]:
    """Whether a status shows this verdict, and so many relays where they are needed."""

    def is_so(status: Json) -> bool:
        found = Verdict(status["reachability"], status["nat"])
        enough = verdict.reachability == "public" or len(status["relays"]) >= relays
        return found == verdict and enough

    return is_so


def matrix_text(found: dict[tuple[str, str], Reached]) -> str:
    """The matrix as people read it."""
    rows = [["from \\ to", *KINDS]]
    rows += [[first, *(_cell(found[first, second]) for second in KINDS)] for first in KINDS]
    return table(rows)


def _cell(one: Reached) -> str:
    if one.connected is None:
        return "NOT CONNECTED"
    first = "had" if one.was_connected else f"{one.connected:.1f} s"
    if one.path != "direct":
        return f"{one.path} {first}"
    if one.direct is None or one.was_connected:
        return f"{one.transport} {first}"
    later = one.direct - one.connected
    return f"{one.transport} {first}" + (f" +{later:.1f}" if later >= 0.1 else "")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


@dataclass(frozen=True, slots=True)
class Punching:
    """Hole punching over several nodes, since their starts."""

    attempted: int
    succeeded: int
    first_attempt: int

    @classmethod
    def of(cls, nodes: Sequence[Node]) -> Punching:
        said = [_punching(node) for node in nodes]
        members = ("attempted", "succeeded", "first_attempt")
        return cls(*(sum(one[member] for one in said) for member in members))

    def __str__(self) -> str:
        return (
            f"{self.attempted} hole punches, {self.succeeded} succeeded, "
            f"{self.first_attempt} of them at the first attempt"
        )


def _punching(node: Node) -> dict[str, int]:
    try:
        return node.status()["hole_punching"] or {"attempted": 0, "succeeded": 0, "first_attempt": 0}
    except (WwsError, NodeFailed):
        return {"attempted": 0, "succeeded": 0, "first_attempt": 0}


def times_text(found: Sequence[Reached]) -> str:
    """How long it took, over all pairs that were not connected before."""
    fresh = [one for one in found if not one.was_connected]
    rows = [["", "pairs", "median", "longest"]]
    connected = [one.connected for one in fresh if one.connected is not None]
    direct = [one.direct for one in fresh if one.direct is not None]
    for what, times in (("to the first answer", connected), ("to a direct connection", direct)):
        if times:
            rows.append([what, str(len(times)), f"{median(times):.2f} s", f"{max(times):.2f} s"])
    return table(rows)
