"""What hostile peers try on one Kademlia machine: make it work, fill it, lie to it."""

from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace
from typing import cast

import pytest

from tests.unit.dht.test_kademlia import ALICE, BOB, KEY, NEWER, NOTE, UNIX, address, machine, queries
from wws.addresses.multiaddr import Multiaddr
from wws.dht.kademlia import GetDone, KademliaConfig, PeerJoined, QueryAnswered, StartGet, TimerFired
from wws.dht.lookup import LookupConfig
from wws.dht.messages import KadMessage, KadRecord, MessageType, WirePeer
from wws.dht.operations import OperationConfig
from wws.dht.positions import position_of_peer
from wws.dht.region import Region
from wws.dht.routing import RoutingTable
from wws.dht.serving import Serving
from wws.dht.size import SwarmSize
from wws.dht.store import ProviderStore, RecordStore, StoreConfig
from wws.dht.upkeep import BringRecord, Upkeep, UpkeepConfig
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.testing.notes import PREFIX, Notes, note_key, write_note

PEERS = [Identity.from_label(f"peer {number}") for number in range(20)]


def read_from(answers: list[bytes]) -> bytes | None:
    """What alice gets for KEY from twenty holders that answer with these values, in this order."""
    alice = machine(ALICE)
    for number, peer in enumerate(PEERS):
        alice.handle(PeerJoined(peer.peer_id, address(number), None), 0, UNIX)
    commands = alice.handle(StartGet(1, KEY), 0, UNIX)
    waiting, left = queries(commands), list(answers)
    while waiting:
        record = KadRecord(KEY.encode(), left.pop(0))
        answer = KadMessage(MessageType.GET_VALUE, KEY.encode(), record)
        commands = alice.handle(QueryAnswered(waiting.pop(0).query_id, answer), 0, UNIX)
        for done in commands:
            if isinstance(done, GetDone):
                return done.value
        waiting += [query for query in queries(commands) if query.message.type is MessageType.GET_VALUE]
    raise AssertionError("the get did not end")


def test_nineteen_holders_of_garbage_do_not_hide_the_value() -> None:
    assert read_from([*(f"garbage {number}".encode() for number in range(19)), NOTE]) == NOTE


def test_the_winner_is_found_among_any_number_of_valid_values() -> None:
    rivals = [write_note(BOB, KEY, str(number), seq=1, expires_at=UNIX + 3600) for number in range(19)]
    assert read_from([*rivals, NEWER]) == NEWER
    assert read_from([NEWER, *rivals]) == NEWER


def near(count: int, local: PeerId) -> list[PeerId]:
    """Peers as they come, near to `local`: what somebody finds who tries keys."""
    tried = (Identity.from_label(f"near {number}").peer_id for number in range(count * 20))
    return sorted(tried, key=lambda peer: peer.position ^ local.position)[:count]


class Holder:
    """Alice's upkeep, with a table and a store of notes."""

    def __init__(self, config: UpkeepConfig, records: int) -> None:
        local = ALICE.peer_id
        self.routing = RoutingTable(position_of_peer(local))
        self.records = RecordStore(local, {PREFIX: Notes()})
        region = Region(self.routing, SwarmSize(20), LookupConfig(), dense_share=0.6)
        self.upkeep = Upkeep(local, self.routing, region, self.records, config, 20, random.Random(1))
        for number in range(records):
            key = note_key(str(number))
            value = write_note(BOB, key, "text", seq=1, expires_at=UNIX + 3600)
            self.records.offer(key.encode(), value, local, UNIX)
        self.now = 0.0

    def meet(self, peer: PeerId) -> None:
        self.routing.add(peer, (), None, self.now)
        self.upkeep.peer_added(peer, self.now)

    def tick(self) -> list[BringRecord]:
        """One tick later."""
        wakeup = self.upkeep.next_wakeup()
        assert wakeup is not None
        self.now = max(self.now, wakeup)
        return [task for task in self.upkeep.due(self.now, serving=True) if isinstance(task, BringRecord)]


def test_who_comes_and_goes_does_not_make_us_go_through_all_records_each_time() -> None:
    config = UpkeepConfig(records_looked_at=10, records_per_tick=100)
    holder = Holder(config, records=100)
    mallory = near(1, ALICE.peer_id)[0]
    looked_up = 0
    find_closest = holder.routing.closest

    def counted(position: int, count: int, *, proven: bool = False) -> list[object]:
        nonlocal looked_up
        looked_up += 1
        return list(find_closest(position, count, proven=proven))

    holder.routing.closest = counted  # type: ignore[method-assign,assignment]
    for _ in range(50):
        holder.meet(mallory)
        holder.routing.remove(mallory)
    holder.meet(mallory)
    assert looked_up == 0, "nothing is gone through at the moment when somebody comes"
    brought: list[BringRecord] = []
    for _ in range(11):
        before = looked_up
        brought += holder.tick()
        assert looked_up - before <= 10
    assert {task.key for task in brought} == {record.key for record in holder.records}
    assert len(brought) == 100, "once, however often it came"


def test_newcomers_that_wait_for_records_are_bounded() -> None:
    holder = Holder(UpkeepConfig(max_newcomers=3), records=1)
    for peer in near(5, ALICE.peer_id):
        holder.meet(peer)
    assert holder.upkeep.handovers_dropped == 2
    assert len(holder.tick()) == 3


def test_provider_addresses_share_a_bound_in_bytes() -> None:
    store = ProviderStore(StoreConfig(max_provider_bytes=8_000))
    long = tuple(Multiaddr.parse(f"/dns4/{'a' * 60}.{'b' * 60}.{number}/tcp/9000") for number in range(16))
    added = [store.add(bytes([number]), peer.peer_id, long, 0) for number, peer in enumerate(PEERS[:4])]
    assert added == [True, False, False, False]
    assert not store.add(bytes(1), PEERS[0].peer_id, long * 2, 0), "repeating it with more needs room too"
    store.remove(bytes(1), PEERS[0].peer_id)
    assert store.bytes_held == 0
    assert store.add(b"1", PEERS[1].peer_id, long, 0)


def puts_after(answers: list[bytes | None], config: OperationConfig) -> list[PeerId]:
    """To whom alice brings the winner when twenty holders answer so, in this order."""
    alice = machine(ALICE, config=KademliaConfig(operation=config))
    for number, peer in enumerate(PEERS):
        alice.handle(PeerJoined(peer.peer_id, address(number), None), 0, UNIX)
    waiting = queries(alice.handle(StartGet(1, KEY), 0, UNIX))
    left = list(answers)
    brought: list[PeerId] = []
    while waiting:
        query = waiting.pop(0)
        if query.message.type is MessageType.PUT_VALUE:
            brought.append(query.peer)
            continue
        value = left.pop(0)
        record = KadRecord(KEY.encode(), value) if value is not None else None
        answer = KadMessage(MessageType.GET_VALUE, KEY.encode(), record)
        waiting += queries(alice.handle(QueryAnswered(query.query_id, answer), 0, UNIX))
    return brought


def test_the_winner_is_brought_to_those_with_less_and_to_no_more_than_that() -> None:
    answers: list[bytes | None] = [NEWER, *[NOTE] * 5, *[None] * 14]
    assert len(puts_after(answers, OperationConfig())) == 19
    # One question makes us send so many answers at most; who holds another value comes first.
    assert len(puts_after(answers, OperationConfig(max_corrections=6))) == 6
    few = puts_after(answers, OperationConfig(max_corrections=5))
    assert len(few) == len(set(few)) == 5


def shown_first_by(prefix: str | None) -> int:
    """How many peers were asked when alice was content with an old value that all show at once."""
    alice = machine(ALICE)
    for number, peer in enumerate(PEERS):
        ip = f"203.0.{number}.1" if prefix is None else f"{prefix}.{number + 1}"
        alice.handle(PeerJoined(peer.peer_id, (Multiaddr.of(ip, 9000),), None), 0, UNIX)
    waiting = queries(alice.handle(StartGet(1, KEY), 0, UNIX))
    answer = KadMessage(MessageType.GET_VALUE, KEY.encode(), KadRecord(KEY.encode(), NOTE))
    for query in waiting[:3]:
        alice.handle(QueryAnswered(query.query_id, answer), 0.01, UNIX)
    commands = alice.handle(TimerFired(), 0.25, UNIX)
    return sum(isinstance(command, GetDone) for command in commands)


def test_three_answers_are_enough_early_only_from_three_prefixes() -> None:
    assert shown_first_by(None) == 1
    assert shown_first_by("203.0.113") == 0


@pytest.mark.parametrize("kind", [MessageType.FIND_NODE, MessageType.GET_VALUE, MessageType.GET_PROVIDERS])
def test_a_crowd_with_long_addresses_does_not_make_answers_too_large(kind: MessageType) -> None:
    """Each of sixty next to a key, and of twenty that provide it, says that it is at sixteen long names."""
    relay = Identity.from_label("relay").peer_id
    host = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 55])
    long = tuple(
        Multiaddr.parse(f"/dns4/{host}/udp/{port}/quic-v1/p2p/{relay}/p2p-circuit")
        for port in range(50_000, 50_016)
    )
    honest = WirePeer(BOB.peer_id, tuple(address(number)[0] for number in range(8)))
    crowd = [WirePeer(Identity.from_label(f"{number}").peer_id, long) for number in range(59)]
    providers = ProviderStore()
    for peer in crowd[:20]:
        assert providers.add(KEY.encode(), peer.peer_id, long, 0.0)
    records = RecordStore(ALICE.peer_id, {PREFIX: Notes()})
    region = SimpleNamespace(named_to=lambda *_: [SimpleNamespace(named=peer) for peer in [*crowd, honest]])
    serving = Serving(ALICE.peer_id, cast(Region, region), records, providers, Counter())
    answer, _ = serving.answer(BOB.peer_id, KadMessage(kind, KEY.encode()), 0.0, UNIX)
    assert answer is not None
    assert len(answer.encode()) < 128 * 1024 - StoreConfig().max_value_bytes
    assert answer.closer_peers[-1] == honest
    assert len(answer.closer_peers) == 60
    assert all(peer.addresses for peer in answer.closer_peers)
    few = SimpleNamespace(named_to=lambda *_: [SimpleNamespace(named=peer) for peer in [*crowd[:10], honest]])
    serving = Serving(ALICE.peer_id, cast(Region, few), records, ProviderStore(), Counter())
    answer, _ = serving.answer(BOB.peer_id, KadMessage(kind, KEY.encode()), 0.0, UNIX)
    assert answer is not None
    assert answer.closer_peers == (*crowd[:10], honest)


def test_many_lookups_at_once_remember_less_each() -> None:
    """Lied to, one remembers 512 peers of 7 kB each, and 256 may run at a time."""
    alice = machine(ALICE)
    alice.handle(PeerJoined(BOB.peer_id, address(1), None), now=0, unix_now=UNIX)
    for op in range(200):
        alice.handle(StartGet(op, note_key(f"{op}")), now=1, unix_now=UNIX)
    rooms = [operation.lookup._config.max_candidates for operation in alice._operations.values()]
    assert rooms[0] == alice.config.lookup.max_candidates
    assert rooms[-1] == 2 * alice.config.lookup.widest
    assert rooms == sorted(rooms, reverse=True)
