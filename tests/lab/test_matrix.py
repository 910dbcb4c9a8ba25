"""Two agents behind any two NATs: eight agents, sixteen ordered pairs, real programs and real routers.

Times are printed, never asserted but for the deadline that a user was promised.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab.conftest import Tell
from tests.lab.internet import Internet
from tests.lab.matrix import (
    KINDS,
    ONLY_RELAYED,
    VERDICTS,
    Patience,
    Punching,
    Town,
    Verdict,
    matrix_text,
    reach,
    table,
    times_text,
)
from tests.lab.nodes import Swarm

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(240),
]

VERDICTS_WITHIN = 60.0


@dataclass
class Lab:
    internet: Internet
    swarm: Swarm
    town: Town
    joined: dict[str, float]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Internet() as internet, Swarm.of(internet) as swarm:
        town = Town.settle(internet, swarm)
        yield Lab(internet, swarm, town, swarm.wait_joined())


def test_everyone_knows_where_it_stands(lab: Lab, tell: Tell) -> None:
    took = lab.town.wait_verdicts(lab.swarm, VERDICTS_WITHIN)
    rows = [["behind", "reachability", "nat", "joined after", "right after"]]
    for (kind, _), node in lab.town.agents.items():
        status = node.status()
        found = Verdict(status["reachability"], status["nat"])
        assert found == VERDICTS[kind], node.log_end()
        rows.append([kind, *found, f"{lab.joined[node.name]:.1f} s", f"{took[node.name]:.1f} s"])
    tell("What each agent found out about its own place", table(rows))


def test_every_pair_connects_by_name(lab: Lab, tell: Tell) -> None:
    lab.town.wait_verdicts(lab.swarm, VERDICTS_WITHIN)
    lab.town.forget_connections(lab.swarm)
    found = lab.town.reach_all(lab.swarm, Patience())
    punching = Punching.of(lab.swarm.agents)
    note = "had: was connected; +n: s from relayed to direct; links: agents 5 ms, relays 20, 60, 100 ms, 1 %"
    direct = sum(one.path == "direct" for one in found.values())
    tell(
        "From behind any NAT to behind any NAT, by name",
        f"{matrix_text(found)}\n\n{note}\n\n{times_text([*found.values()])}\n\n"
        f"{direct} of {len(found)} direct; {punching}",
    )
    wrong = []
    for pair, one in found.items():
        expected = "relay" if pair in ONLY_RELAYED else "direct"
        is_right = (one.path, one.exit_code) == (expected, 0 if expected == "direct" else 6)
        says_why = one.path == "direct" or bool(one.reason)
        if one.connected is None or not is_right or not says_why:
            wrong.append(f"{' → '.join(pair)}: expected {expected}, found {one}")
    if wrong:
        logs = [f"--- {node.name}\n{node.log_end(3_000)}" for node in lab.swarm.agents]
        pytest.fail("\n".join([*wrong, *logs]), pytrace=False)
    assert len(found) == len(KINDS) ** 2


def test_open_agents_reach_each_other(lab: Lab) -> None:
    one = reach(lab.swarm, lab.town.agents["open", "a"], lab.town.agents["open", "b"], Patience())
    assert (one.path, one.exit_code) == ("direct", 0), one
