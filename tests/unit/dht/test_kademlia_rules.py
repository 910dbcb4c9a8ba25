"""Kademlia under any sequence of events: it answers, stays bounded, ends and frees what it began."""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wws.addresses.multiaddr import Multiaddr
from wws.dht.kademlia import (
    AddressesChanged,
    Cancel,
    DropQuery,
    FindDone,
    GetDone,
    Kademlia,
    KademliaConfig,
    PeerJoined,
    PeerLeft,
    PeerUseless,
    ProvidersDone,
    PutDone,
    QueryAnswered,
    QueryFailed,
    Reply,
    RequestReceived,
    SendQuery,
    SetMode,
    StartFind,
    StartFindProviders,
    StartGet,
    StartProvide,
    StartPut,
    TimerFired,
    TooManyOperations,
)
from wws.dht.lookup import LookupConfig
from wws.dht.messages import KadMessage, KadRecord, MessageType, WirePeer
from wws.dht.store import StoreConfig
from wws.identity.keys import Identity
from wws.machine import Event
from wws.testing.notes import PREFIX, Notes, note_key, write_note
from wws.testing.scale import scale

LOCAL = Identity.from_label("alice")
OTHERS = [Identity.from_label(f"peer {number}") for number in range(40)]
UNIX = 1_800_000_000
KEYS = [note_key(label) for label in "abc"]
VALUES = [
    write_note(author, key, "text", seq=seq, expires_at=UNIX + 5_000)
    for key in KEYS
    for author in OTHERS[:2]
    for seq in (1, 2)
]
ADDRESSES = [Multiaddr.of(f"203.0.{number % 7}.9", 9000) for number in range(40)]
CONFIG = KademliaConfig(
    lookup=LookupConfig(max_candidates=64, max_queries=30),
    store=StoreConfig(max_records=2, max_provided_keys=3, max_providers=2),
    max_operations=4,
    max_provided=2,
)

peers = st.integers(0, len(OTHERS) - 1)
values = st.sampled_from([*VALUES, b"", b"garbage", VALUES[0] + b"!"])
named = st.lists(
    st.builds(lambda n: WirePeer(OTHERS[n].peer_id, (ADDRESSES[n],)), peers)
    | st.just(WirePeer(LOCAL.peer_id)),
    max_size=30,
).map(tuple)
records = st.none() | st.builds(
    lambda key, value: KadRecord(key.encode(), value), st.sampled_from([*KEYS, "/pk/x", ""]), values
)
messages = st.builds(
    KadMessage,
    st.sampled_from(MessageType),
    st.sampled_from([b"", b"\xff", b"/pk/x", OTHERS[0].peer_id.to_bytes(), *(key.encode() for key in KEYS)]),
    records,
    named,
    named,
)


class KademliaRules(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.machine = Kademlia(LOCAL.peer_id, CONFIG, random.Random(1), {PREFIX: Notes()})
        self.machine.handle(SetMode(server=True), 0, UNIX)
        self.waiting: dict[int, SendQuery] = {}
        self.operations: dict[int, type[Event]] = {}
        self.next_op = 0

    def tell(self, event: Event) -> None:
        commands = self.machine.handle(event, self.now, UNIX + int(self.now))
        replies = [command for command in commands if isinstance(command, Reply)]
        assert len(replies) == isinstance(event, RequestReceived)
        for command in commands:
            match command:
                case SendQuery(query_id=query_id, peer=peer):
                    assert query_id not in self.waiting
                    assert peer != LOCAL.peer_id
                    self.waiting[query_id] = command
                case DropQuery(query_id=query_id):
                    del self.waiting[query_id]
                case GetDone(op=op):
                    assert self.operations.pop(op) is StartGet
                case PutDone(op=op, stored=stored, reachable=reachable):
                    assert self.operations.pop(op) in (StartPut, StartProvide)
                    assert stored <= reachable
                case FindDone(op=op):
                    assert self.operations.pop(op) is StartFind
                case ProvidersDone(op=op):
                    assert self.operations.pop(op) is StartFindProviders
                case PeerUseless(peer=peer):
                    assert peer not in self.machine.routing
                case Reply():
                    pass

    def begin(
        self, make: type[StartGet | StartPut | StartFind | StartProvide | StartFindProviders], *what: object
    ) -> None:
        self.next_op += 1
        self.operations[self.next_op] = make
        try:
            self.tell(make(self.next_op, *what))  # type: ignore[arg-type]
        except TooManyOperations:
            del self.operations[self.next_op]

    @rule(number=peers, private=st.booleans())
    def join(self, number: int, private: bool) -> None:
        prefix = None if private else f"203.0.{number % 7}.0/24"
        self.tell(PeerJoined(OTHERS[number].peer_id, (ADDRESSES[number],), prefix))

    @rule(number=peers, for_good=st.booleans())
    def leave(self, number: int, for_good: bool) -> None:
        self.tell(PeerLeft(OTHERS[number].peer_id, for_good))

    @rule(number=peers, message=messages)
    def request(self, number: int, message: KadMessage) -> None:
        self.tell(RequestReceived(1, OTHERS[number].peer_id, message))

    @rule(pick=st.randoms(use_true_random=False), closer=named, record=records, providers=named)
    def answer(
        self,
        pick: random.Random,
        closer: tuple[WirePeer, ...],
        record: KadRecord | None,
        providers: tuple[WirePeer, ...],
    ) -> None:
        if self.waiting:
            query = self.waiting.pop(pick.choice(list(self.waiting)))
            answer = KadMessage(query.message.type, query.message.key, record, closer, providers)
            self.tell(QueryAnswered(query.query_id, answer if query.expects_answer else None))

    @rule(pick=st.randoms(use_true_random=False), message=messages)
    def answer_anything(self, pick: random.Random, message: KadMessage) -> None:
        if self.waiting:
            query = self.waiting.pop(pick.choice(list(self.waiting)))
            self.tell(QueryAnswered(query.query_id, message))

    @rule(pick=st.randoms(use_true_random=False))
    def fail(self, pick: random.Random) -> None:
        if self.waiting:
            self.tell(QueryFailed(self.waiting.pop(pick.choice(list(self.waiting))).query_id))

    @rule(key=st.sampled_from(KEYS))
    def get(self, key: str) -> None:
        self.begin(StartGet, key)

    @rule(number=st.integers(0, len(KEYS) - 1), seq=st.integers(1, 9))
    def put(self, number: int, seq: int) -> None:
        expires_at = UNIX + int(self.now) + 5_000
        value = write_note(LOCAL, KEYS[number], "own", seq=seq, expires_at=expires_at)
        self.begin(StartPut, KEYS[number], value)

    @rule(number=peers)
    def find(self, number: int) -> None:
        self.begin(StartFind, OTHERS[number].peer_id)

    @rule(key=st.sampled_from([b"x", b"y", b"z"]), provide=st.booleans())
    def content(self, key: bytes, provide: bool) -> None:
        self.begin(StartProvide if provide else StartFindProviders, key)

    @rule(op=st.integers(0, 20))
    def cancel(self, op: int) -> None:
        self.operations.pop(op, None)
        self.tell(Cancel(op))

    @rule(server=st.booleans(), number=peers)
    def change(self, server: bool, number: int) -> None:
        self.tell(SetMode(server))
        self.tell(AddressesChanged((ADDRESSES[number],)))

    @rule(seconds=st.sampled_from([0.01, 0.3, 3.0, 60.0, 4_000.0]))
    def let_time_pass(self, seconds: float) -> None:
        until = self.now + seconds
        for _ in range(50):
            wakeup = self.machine.next_wakeup()
            if wakeup is None or wakeup > until:
                break
            self.now = max(self.now, wakeup)
            self.tell(TimerFired())
        self.now = until

    @invariant()
    def it_stays_bounded(self) -> None:
        assert self.machine.queries_in_flight == len(self.waiting)
        assert len(self.operations) <= CONFIG.max_operations
        assert len(self.machine.records) <= 2 + len(KEYS)
        assert len(self.machine.providers) <= 3

    def teardown(self) -> None:
        """Whatever was begun ends when every query has: with its result, and with nothing left over."""
        while self.waiting:
            query_id = next(iter(self.waiting))
            del self.waiting[query_id]
            self.tell(QueryFailed(query_id))
        assert not self.operations
        assert self.machine.operations_in_flight == self.machine.queries_in_flight == 0


TestKademliaRules = KademliaRules.TestCase
TestKademliaRules.settings = settings(max_examples=scale(1_500, least=30), stateful_step_count=40)
