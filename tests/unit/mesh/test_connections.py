"""The connection table: duplicates, bounds, trimming; and that no entry outlives its connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.errors import LocalProtocolError
from wws.identity.keys import Identity
from wws.mesh.connections import Close, ConnectionTable, ConnectionTableConfig, Probe

LOW, MID, HIGH = sorted(Identity.from_label(name).peer_id for name in ("alice", "bob", "carol"))
CONFIG = ConnectionTableConfig()


def test_the_oldest_of_two_is_kept_once_it_has_answered() -> None:
    table = ConnectionTable(HIGH, CONFIG)
    assert table.opened(1, LOW, 0, outbound=True) == []
    assert table.opened(2, LOW, 0.1, outbound=False) == []
    assert table.next_wakeup() == pytest.approx(1.1)
    assert table.timer_fired(1.1) == [Probe(1)]
    assert table.probe_answered(1, 1.2) == [Close(2, "duplicate")]
    assert table.closed(2) is None
    assert table.of_peer(LOW) == [1]
    assert table.next_wakeup() is None


def test_the_newer_stays_when_the_oldest_is_dead() -> None:
    table = ConnectionTable(HIGH, CONFIG)
    table.opened(1, LOW, 0, outbound=True)
    table.opened(2, LOW, 100, outbound=False)
    assert table.timer_fired(101) == [Probe(1)]
    assert table.closed(1) is None  # it did not answer, and was closed
    assert table.of_peer(LOW) == [2]
    assert table.probe_answered(1, 102) == []


def test_of_three_the_others_are_settled_when_the_oldest_is_dead() -> None:
    table = ConnectionTable(HIGH, CONFIG)
    for connection in (1, 2, 3):
        table.opened(connection, LOW, 0, outbound=False)
    assert table.timer_fired(1) == [Probe(1)]
    table.closed(1)
    wakeup = table.next_wakeup()
    assert wakeup is not None
    assert wakeup <= 2
    assert table.timer_fired(2) == [Probe(2)]
    assert table.probe_answered(2, 2.1) == [Close(3, "duplicate")]


def test_both_sides_of_a_simultaneous_open_keep_the_same_connection() -> None:
    ours, theirs = ConnectionTable(HIGH, CONFIG), ConnectionTable(LOW, CONFIG)
    ours.opened(1, LOW, 0, outbound=True)
    ours.opened(2, LOW, 0.1, outbound=False)
    theirs.opened(2, HIGH, 0, outbound=True)  # each saw its own first
    theirs.opened(1, HIGH, 0.1, outbound=False)
    assert theirs.timer_fired(2) == []  # the smaller PeerId leaves the decision to the other
    ours.timer_fired(2)
    assert ours.probe_answered(1, 2.1) == [Close(2, "duplicate")]
    ours.closed(2)
    theirs.closed(2)
    assert ours.of_peer(LOW) == theirs.of_peer(HIGH) == [1]


def test_the_smaller_side_decides_when_the_other_never_does() -> None:
    table = ConnectionTable(LOW, CONFIG)
    table.opened(1, HIGH, 0, outbound=True)
    table.opened(2, HIGH, 0, outbound=True)
    assert table.timer_fired(29.9) == []
    assert table.timer_fired(30) == [Probe(1)]


def test_a_duplicate_in_use_may_finish() -> None:
    table = ConnectionTable(HIGH, CONFIG)
    table.opened(1, LOW, 0, outbound=True)
    table.opened(2, LOW, 0, outbound=False)
    table.streams_changed(2, 1, 0.5)
    table.timer_fired(1)
    assert table.probe_answered(1, 1) == []
    assert table.next_wakeup() == 31
    table.streams_changed(2, 0, 5)
    table.timer_fired(31)
    assert table.probe_answered(1, 31) == [Close(2, "duplicate")]


def test_a_direct_connection_supersedes_the_circuit() -> None:
    table = ConnectionTable(LOW, CONFIG)
    table.opened(1, HIGH, 0, outbound=False, is_circuit=True)
    assert not table.is_direct(HIGH)
    table.opened(2, HIGH, 5, outbound=True)
    assert table.is_direct(HIGH)
    assert table.of_peer(HIGH) == [2, 1]  # new streams go over the direct one from now on
    assert (len(table), table.circuits) == (2, 1)
    assert table.next_wakeup() == 6  # whoever has the smaller PeerId, too
    assert table.timer_fired(6) == [Close(1, "superseded")]
    assert table.closed(1) is None
    assert table.next_wakeup() is None
    assert table.circuits == 0


def test_a_superseded_circuit_may_finish_what_it_carries() -> None:
    table = ConnectionTable(HIGH, CONFIG)
    table.opened(1, LOW, 0, outbound=True, is_circuit=True)
    table.streams_changed(1, 1, 0)
    table.opened(2, LOW, 5, outbound=False)
    assert table.timer_fired(6) == []
    table.streams_changed(1, 0, 6.5)
    assert table.timer_fired(7) == [Close(1, "superseded")]


def test_circuits_do_not_make_direct_connections_duplicates() -> None:
    table = ConnectionTable(HIGH, CONFIG)
    table.opened(1, LOW, 0, outbound=True, is_circuit=True)
    table.opened(2, LOW, 0, outbound=True)
    table.opened(3, LOW, 0, outbound=False)
    assert table.timer_fired(1) == [Close(1, "superseded"), Probe(2)]
    assert table.probe_answered(2, 1.1) == [Close(3, "duplicate")]


def test_of_two_circuits_one_is_kept() -> None:
    table = ConnectionTable(HIGH, CONFIG)
    table.opened(1, LOW, 0, outbound=True, is_circuit=True)
    table.opened(2, LOW, 0, outbound=False, is_circuit=True)
    assert table.timer_fired(1) == [Probe(1)]
    assert table.probe_answered(1, 1.1) == [Close(2, "duplicate")]


def test_connections_of_one_peer_are_bounded_at_once() -> None:
    table = ConnectionTable(HIGH, ConnectionTableConfig(max_per_peer=2))
    table.opened(1, LOW, 0, outbound=False)
    table.opened(2, LOW, 0, outbound=False)
    assert table.opened(3, LOW, 0, outbound=False) == [Close(3, "connections_per_peer")]


def test_circuits_do_not_keep_a_direct_connection_away() -> None:
    """A relay that names tiny limits makes both ends open one circuit after the other."""
    table = ConnectionTable(HIGH, ConnectionTableConfig(max_per_peer=2))
    for circuit in (1, 2):
        table.opened(circuit, LOW, 0, outbound=True, is_circuit=True)
        table.streams_changed(circuit, 1, 0)
    assert table.opened(3, LOW, 0, outbound=True, is_circuit=True) == [Close(3, "connections_per_peer")]
    table.closed(3)
    assert table.opened(4, LOW, 0, outbound=True) == []
    assert table.of_peer(LOW)[0] == 4


def test_trimming_takes_the_least_useful_and_spares_the_protected() -> None:
    config = ConnectionTableConfig(high_water=4, low_water=3, grace=10)
    table = ConnectionTable(HIGH, config)
    peers = [Identity.from_label(f"peer {n}").peer_id for n in range(5)]
    for n, peer in enumerate(peers[:4]):
        table.opened(n, peer, 0, outbound=False)
    table.protect(peers[0], "entry_point")
    table.streams_changed(1, 2, 5)
    table.streams_changed(2, 0, 8)
    table.streams_changed(3, 0, 9)
    assert table.opened(4, peers[4], 20, outbound=False) == [Close(2, "trimmed"), Close(3, "trimmed")]


def test_the_young_and_the_protected_are_never_trimmed() -> None:
    table = ConnectionTable(HIGH, ConnectionTableConfig(high_water=1, low_water=1))
    table.protect(LOW, "dht")
    table.protect(LOW, "entry_point")
    table.opened(1, LOW, 0, outbound=False)
    assert table.opened(2, MID, 100, outbound=False) == []
    table.unprotect(LOW, "dht")
    assert table.is_protected(LOW)
    table.unprotect(LOW, "entry_point")
    assert not table.is_protected(LOW)
    assert table.opened(3, Identity.from_label("dave").peer_id, 102, outbound=False) == [Close(1, "trimmed")]


def test_opening_twice_is_a_bug_and_closing_twice_is_nothing() -> None:
    table = ConnectionTable(HIGH, CONFIG)
    table.opened(1, LOW, 0, outbound=True)
    with pytest.raises(LocalProtocolError):
        table.opened(1, LOW, 0, outbound=True)
    assert table.closed(1) == LOW
    assert table.closed(1) is None
    assert len(table) == table.peer_count == 0


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["open", "close", "timer", "answer", "streams"]), st.integers(0, 8), st.integers(0, 2)
    ),
    max_size=80,
)


@given(STEPS)
def test_any_history_leaves_the_table_exact(steps: list[tuple[str, int, int]]) -> None:
    table = ConnectionTable(MID, ConnectionTableConfig(max_per_peer=3, high_water=5, low_water=4, grace=2))
    peers = [LOW, HIGH, Identity.from_label("dave").peer_id]
    alive: dict[int, object] = {}
    for now, (what, connection, which) in enumerate(steps):
        commands = []
        if what == "open" and connection not in alive:
            alive[connection] = peers[which]
            commands = table.opened(connection, peers[which], now, outbound=bool(which))
        elif what == "close":
            alive.pop(connection, None)
            table.closed(connection)
        elif what == "timer":
            commands = table.timer_fired(now)
        elif what == "answer":
            commands = table.probe_answered(connection, now)
        elif what == "streams":
            table.streams_changed(connection, which, now)
        for command in commands:
            assert command.connection in alive
            if isinstance(command, Close):
                del alive[command.connection]
                table.closed(command.connection)
        assert len(table) == len(alive)
        assert table.peer_count == len(set(alive.values()))
        for peer in peers:
            assert set(table.of_peer(peer)) == {c for c, owner in alive.items() if owner == peer}
        if table.next_wakeup() is not None:
            assert len(alive) > len(set(alive.values()))
