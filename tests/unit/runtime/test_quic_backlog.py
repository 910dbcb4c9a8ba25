"""Turns of connections whose datagrams wait: order, shares, costs, limits at limit + 1."""

from __future__ import annotations

from wws.runtime.quic_backlog import Backlog, BacklogConfig, Datagram

CONFIG = BacklogConfig(
    max_datagrams=12, max_per_connection=8, max_slice=4, slice_seconds=0.004, turn_seconds=0.01
)


class Peer:
    def __init__(self) -> None:
        self.datagram_cost = 0.001


def datagram(number: int) -> Datagram:
    return bytes([number]), ("192.0.2.1", 4001)


def numbers(datagrams: list[Datagram]) -> list[int]:
    return [data[0] for data, _ in datagrams]


def test_connections_take_turns_and_keep_the_order_of_their_datagrams() -> None:
    backlog: Backlog[Peer] = Backlog(CONFIG)
    alice, bob = Peer(), Peer()
    for number in range(6):
        assert backlog.put(alice, datagram(number))
    assert backlog.put(bob, datagram(9))
    turns = []
    while backlog:
        peer, taken = backlog.take()
        turns.append((peer, numbers(taken)))
    assert turns == [(alice, [0, 1, 2, 3]), (bob, [9]), (alice, [4, 5])]
    assert backlog.waiting == 0


def test_costly_datagrams_come_in_smaller_slices() -> None:
    backlog: Backlog[Peer] = Backlog(CONFIG)
    mallory = Peer()
    for number in range(8):
        backlog.put(mallory, datagram(number))
    _, taken = backlog.take()
    assert len(taken) == 4
    backlog.took(mallory, 4, 0.04)
    assert len(backlog.take()[1]) == 1  # never none
    for _ in range(20):
        backlog.took(mallory, 1, 0.0)
    assert len(backlog.take()[1]) == 3


def test_over_the_limits_who_sends_most_loses_most() -> None:
    backlog: Backlog[Peer] = Backlog(CONFIG)
    mallory, alice, bob = Peer(), Peer(), Peer()
    assert [backlog.put(mallory, datagram(0)) for _ in range(9)] == [True] * 8 + [False]
    assert [backlog.put(alice, datagram(0)) for _ in range(4)] == [True] * 4
    assert backlog.waiting == CONFIG.max_datagrams
    assert not backlog.put(mallory, datagram(0))
    assert [backlog.put(bob, datagram(0)) for _ in range(4)] == [True] * 4
    assert not backlog.put(bob, datagram(0))


def test_who_is_gone_leaves_nothing() -> None:
    backlog: Backlog[Peer] = Backlog(CONFIG)
    alice, bob = Peer(), Peer()
    backlog.put(alice, datagram(1))
    backlog.put(bob, datagram(2))
    backlog.forget(alice)
    backlog.forget(alice)
    assert backlog.waiting == 1
    assert backlog.take() == (bob, [datagram(2)])
    assert not backlog
