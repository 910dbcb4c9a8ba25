"""The swarm as a whole, on simulated time: a thousand nodes, churn, deaths, and the figures of targets.md."""

from __future__ import annotations

import pytest

from wws.dht.kademlia import GetDone
from wws.testing.notes import note_key, write_note
from wws.testing.scale import scale
from wws.testing.simulated_node import Result
from wws.testing.simulation import Figures, Simulation, SimulationConfig, table


def put_notes(simulation: Simulation, count: int) -> dict[str, bytes]:
    """Notes by random authors, stored one after the other."""
    notes: dict[str, bytes] = {}
    for number in range(count):
        author = simulation.some_node()
        key = note_key(f"note {number} at {simulation.time.now}")
        expires_at = simulation.time.unix_now + 86_400
        value = write_note(author.identity, key, f"note {number}", seq=1, expires_at=expires_at)
        assert simulation.put(author, key, value).stored >= 8
        notes[key] = value
    return notes


@pytest.mark.timeout(300)
def test_a_thousand_nodes_join_put_and_get_under_churn(capsys: pytest.CaptureFixture[str]) -> None:
    simulation = Simulation(SimulationConfig(nodes=1_000, seed=1, join_within=240))
    simulation.join_all()
    assert sum(1 for node in simulation.nodes if node.joined_at is None) == 0
    simulation.churn()
    figures = simulation.measure(scale(2_000, least=200), within=300.0)
    with capsys.disabled():
        print("\n" + table(figures, 0.01, 7_200))
    assert figures.put_success == figures.get_success == 1.0
    assert figures.put_p50 <= 1.0
    assert figures.put_p95 <= 3.0
    assert figures.get_p50 <= 0.3
    assert figures.get_p95 <= 1.5
    assert figures.join_p95 <= 5.0
    assert figures.servers * 0.8 <= figures.size_estimate_p50 <= figures.servers * 1.25


def test_a_fifth_of_the_nodes_dying_at_once_loses_nothing() -> None:
    simulation = Simulation(SimulationConfig(nodes=scale(1_000, least=120), seed=2, join_within=60))
    simulation.join_all()
    notes = put_notes(simulation, 20)
    simulation.kill(0.2)
    # At once, before anybody noticed: dead peers are waited for only as long as late ones are.
    for key, value in notes.items():
        began = simulation.time.now
        assert simulation.get(simulation.some_node(), key).value == value
        assert simulation.time.now - began < 10
    simulation.run_for(120)
    put_notes(simulation, 5)
    for key, value in notes.items():
        began = simulation.time.now
        assert simulation.get(simulation.some_node(), key).value == value
        assert simulation.time.now - began < 3


def test_records_follow_as_holders_leave_and_newcomers_come() -> None:
    simulation = Simulation(SimulationConfig(nodes=60, seed=3, join_within=30, half_life=1_200, clients=0.2))
    simulation.join_all()
    notes = put_notes(simulation, 10)
    first_holders = {id(node) for key in notes for node in simulation.holders_of(key)}
    simulation.churn()
    simulation.run_for(2 * 3_600)
    survivors = [node for node in simulation.nodes if id(node) in first_holders]
    assert len(survivors) < 10, "nearly all first holders are gone"
    for key, value in notes.items():
        assert simulation.get(simulation.some_node(), key).value == value
        assert len(simulation.holders_of(key)) >= 8


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_small_networks_store_and_find(count: int) -> None:
    simulation = Simulation(SimulationConfig(nodes=count, seed=4, entry_points=1, clients=0, join_within=1))
    simulation.join_all()
    author = simulation.nodes[-1]
    key = note_key("hello")
    value = write_note(author.identity, key, "hello", seq=1, expires_at=simulation.time.unix_now + 3_600)
    done = simulation.put(author, key, value)
    assert (done.stored, done.reachable) == (count, count)
    for node in simulation.nodes:
        assert simulation.get(node, key).holders == count
        assert node.kademlia.swarm_size(simulation.time.now).count == count


def test_a_record_of_one_who_was_alone_reaches_who_comes_later() -> None:
    simulation = Simulation(SimulationConfig(nodes=1, seed=5, entry_points=1, clients=0, join_within=1))
    simulation.join_all()
    (alone,) = simulation.nodes
    key = note_key("hello")
    value = write_note(alone.identity, key, "hello", seq=1, expires_at=simulation.time.unix_now + 3_600)
    assert simulation.put(alone, key, value).stored == 1
    newcomer = simulation.add_node(client=False)
    simulation.run_for(30)
    assert newcomer in simulation.holders_of(key)


def test_who_is_content_with_less_does_not_search_far_and_wide() -> None:
    simulation = Simulation(SimulationConfig(nodes=120, seed=12, join_within=30))
    simulation.join_all()
    asked: dict[bool, int] = {}

    def done(result: Result) -> None:
        assert isinstance(result, GetDone)
        assert result.value is None
        asked[widely] = result.asked

    for widely in (True, False):
        simulation.nodes[50].get(note_key("nothing"), done, widely=widely)
        simulation.run_for(20)
    assert 20 <= asked[False] < asked[True]


def test_one_prefix_beside_a_key_is_three_peers() -> None:
    simulation = Simulation(SimulationConfig(nodes=60, seed=7, clients=0, join_within=30))
    simulation.join_all()
    (key,) = put_notes(simulation, 1)
    simulation.add_sybils(key, 20, prefixes=1)
    simulation.run_for(60)
    for node in simulation.nodes:
        prefixes = [contact.prefix for contact in node.kademlia.routing]
        assert all(prefixes.count(prefix) <= 3 for prefix in set(prefixes))
    assert simulation.get(simulation.some_honest_node(), key).value is not None


def figures_of(seed: int, *, encode: bool = False) -> Figures:
    simulation = Simulation(
        SimulationConfig(nodes=40, seed=seed, join_within=20, half_life=300, encode_messages=encode)
    )
    simulation.join_all()
    simulation.churn()
    return simulation.measure(20, within=120)


def test_the_same_seed_gives_the_same_run() -> None:
    assert figures_of(8) == figures_of(8)
    assert figures_of(8).trace != figures_of(9).trace


def test_the_codec_changes_nothing() -> None:
    assert figures_of(10, encode=True) == figures_of(10)
