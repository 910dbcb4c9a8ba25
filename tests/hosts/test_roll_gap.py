"""A whole roll to a newer version and back, under the eyes of two agents who reach each other through relays.

Both are behind NATs that no hole goes through, so each packet between them needs one of the nodes that are
stopped and started meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from tests.hosts.nodes import FIRST, NAMES, Nodes
from tests.lab.nat import Kind, Router
from tests.lab.nodes import Node, Swarm
from tests.lab.probing import eventually
from tests.lab.releases import newer_state_files
from wws.errors import WwsError
from wws.testing.scale import scale_factor

NEWER = "1.1.0"
LONGEST_GAP = 5.0
"""Seconds without an answer that agents may notice (targets: clients' gap)."""
PAUSE = 0.1
"""Seconds between two pings."""


BOOK = "/var/lib/wws/state/bootstrap/witness.sqlite"
SCHEMA_OF_BOOK = (
    "runuser -u wws -- python3 -c '"
    f"""import sqlite3; book = sqlite3.connect("file:{BOOK}?mode=ro", uri=True); """
    """print(book.execute("PRAGMA user_version").fetchone()[0])'"""
)

TROUBLE = "find /var/lib/wws -name '*damaged*' | sort; grep -F '[error' /var/lib/wws/state/bootstrap/log || :"
"""Files that a node could not read, and what it could not do; an earlier test may have lost it a book."""


def promised(nodes: Nodes) -> dict[str, int]:
    """How many names each node has promised to keep."""
    said = nodes.everywhere("wws-control --json status")
    return {name: json.loads(text)["data"]["witness_entries"] for name, text in said.items()}


class Pinger:
    """One agent pings the other all the time; when answers came."""

    def __init__(self, source: Node, target: str) -> None:
        self._source = source
        self._target = target
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.answered: list[float] = []
        self.paths: set[str] = set()

    def __enter__(self) -> Pinger:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def gap(self) -> float:
        """The longest time from one answer to the next, and to now."""
        return max(after - before for before, after in pairwise([*self.answered, time.monotonic()]))

    def _run(self) -> None:
        while not self._over.wait(PAUSE):
            with contextlib.suppress(WwsError):
                replies = self._source.call("swarm.ping", target=self._target, count=1)["replies"]
                for reply in replies:
                    if reply["rtt_ms"] is not None:
                        self.answered.append(time.monotonic())
                        self.paths.add(reply["path"])


@contextlib.contextmanager
def two_agents(nodes: Nodes) -> Iterator[tuple[Node, Node]]:
    """alice and bob at home, both with a place at a relay."""
    folder = nodes.folder / f"agents-{time.monotonic_ns()}"
    folder.mkdir()
    (folder / "lab.json").write_bytes(nodes.network_file.read_bytes())
    swarm = Swarm(nodes.hosts.internet, folder)
    try:
        for name, address in (("alice", "198.18.65.2"), ("bob", "198.18.66.2")):
            home = Router(nodes.hosts.internet, f"{name}-home", Kind.SYMMETRIC, address)
            swarm.agent(name, home.host(name))
        swarm.wait_joined()
        for agent in swarm.agents:
            swarm.wait(agent, "relays", lambda status: len(status["relays"]) > 1, 60)
        alice, bob = swarm.agents
        yield alice, bob
    finally:
        for agent in swarm.agents:
            agent.kill()


@pytest.mark.timeout(600)
def test_agents_behind_nats_reach_each_other_through_a_whole_roll_and_back(
    nodes: Nodes, tell: Callable[[str, str], None]
) -> None:
    newer = nodes.release(NEWER, newer_state_files)
    with two_agents(nodes) as (alice, bob), Pinger(alice, bob.peer_id) as pings:
        eventually(lambda: pings.answered, 30)
        before, trouble = promised(nodes), nodes.everywhere(TROUBLE)
        # One of three may have lost its promises in an earlier test: it makes no first claims then.
        assert sorted(before.values())[1] >= 2, "the names of both agents"

        up = nodes.play("upgrade.yml", newer)
        assert up.rc == 0, up
        assert nodes.running() == dict.fromkeys(NAMES, NEWER)
        gap_up = pings.gap()
        assert set(nodes.everywhere(SCHEMA_OF_BOOK).values()) == {"2\n"}

        # All of the roll, or one host of it.
        back_to = NAMES if scale_factor() >= 1 else NAMES[:1]
        again = nodes.play("upgrade.yml", newer, limit=back_to)
        assert (again.rc, again.changed) == (0, 0), again

        # The older version reads what the newer one wrote.
        back = nodes.play("rollback.yml", limit=back_to)
        assert back.rc == 0, back
        gap_back = pings.gap()
        running, after = nodes.running(), promised(nodes)
    assert all(after[name] >= before[name] for name in NAMES), "no promise is lost, in neither direction"
    assert running == {name: FIRST if name in back_to else NEWER for name in NAMES}
    assert nodes.everywhere(TROUBLE) == trouble
    hosts = "".join(
        f"  {name}: {report['seconds']:.1f} s in all, {report['down_seconds']:.2f} s without a node\n"
        for name, report in up.reports.items()
    )
    tell(
        "the roll of three hosts, with two agents behind symmetric NATs",
        f"  upgrade: {up.seconds:.1f} s; longest gap {gap_up:.2f} s; {len(pings.answered)} pings in all\n"
        f"{hosts}  again, nothing to do: {again.seconds:.1f} s\n"
        f"  back on {', '.join(back_to)}: {back.seconds:.1f} s; longest gap {gap_back:.2f} s",
    )
    assert pings.paths == {"relay"}
    assert max(gap_up, gap_back) <= LONGEST_GAP
