"""Behind NATs: how soon one agent reaches another by name, relayed and directly, over all kinds of routers.

Real programs in the NAT lab of the tests (network namespaces; needs root): three bootstrap nodes in three
regions, two agents behind each kind of router. Every run is a new lab, so that nothing is remembered.
"""

from __future__ import annotations

import sys
from statistics import median
from typing import Any

from bench.table import render
from tests.lab.internet import Internet
from tests.lab.matrix import KINDS, Patience, Punching, Town, matrix_text
from tests.lab.nodes import Swarm
from tests.prerequisites import missing

VERDICTS_WITHIN = 60.0
NEEDS = ("root", "nft", "conntrack", "ip", "setpriv")


def run(labs: int) -> dict[str, Any]:
    """`labs` times the matrix; raises `RuntimeError` when this machine lacks something."""
    if gaps := [gap for need in NEEDS if (gap := missing(need))]:
        raise RuntimeError("; ".join(gaps))
    reached: list[Any] = []
    verdicts: list[float] = []
    punched = succeeded = first = 0
    shown = ""
    for number in range(labs):
        print(f"measuring the matrix, lab {number + 1} of {labs} …", file=sys.stderr, flush=True)
        with Internet() as internet, Swarm.of(internet) as swarm:
            town = Town.settle(internet, swarm)
            swarm.wait_joined()
            verdicts += town.wait_verdicts(swarm, VERDICTS_WITHIN).values()
            town.forget_connections(swarm)
            found = town.reach_all(swarm, Patience())
            reached += found.values()
            shown = matrix_text(found)
            punching = Punching.of(swarm.agents)
            punched += punching.attempted
            succeeded += punching.succeeded
            first += punching.first_attempt
    fresh = [one for one in reached if not one.was_connected]
    return {
        "labs": labs,
        "pairs": len(reached),
        "connected": sum(one.connected is not None for one in reached),
        "direct": sum(one.path == "direct" for one in reached),
        "verdict_s": verdicts,
        "first_answer_s": [one.connected for one in fresh if one.connected is not None],
        "direct_s": [one.direct for one in fresh if one.direct is not None],
        "punches": {"attempted": punched, "succeeded": succeeded, "first_attempt": first},
        "last_matrix": shown,
    }


def table(results: dict[str, Any]) -> str:
    """The figures of `run`."""
    rows = []
    for title, key in (
        ("start of the process to the right verdict, and a relay where one is needed", "verdict_s"),
        ("first answer to a ping by name, from nothing", "first_answer_s"),
        ("direct connection, where one comes about", "direct_s"),
    ):
        times = sorted(results[key])
        if times:
            p95 = times[min(len(times) - 1, round(0.95 * len(times)))]
            rows.append([title, str(len(times)), f"{median(times):.2f}", f"{p95:.2f}", f"{times[-1]:.2f}"])
    punches, pairs = results["punches"], len(KINDS) ** 2
    ways = f"{results['connected']} of {results['pairs']} pairs connected, {results['direct']} directly"
    holes = f"{punches['attempted']} hole punches, {punches['succeeded']} succeeded"
    return "\n".join(
        [
            render("Behind NATs, seconds", ["", "n", "p50", "p95", "longest"], rows),
            f"{ways} (of each {pairs} pairs 13 can be direct)",
            f"{holes}, {punches['first_attempt']} of them at the first attempt",
            "the last matrix:",
            results["last_matrix"],
        ]
    )
