"""Conversations with one Kademlia machine, and with two or three of them wired together by hand."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from wws.addresses.multiaddr import Multiaddr
from wws.dht.kademlia import (
    AddressesChanged,
    Cancel,
    DropQuery,
    EntryPointRegained,
    FindDone,
    GetDone,
    Kademlia,
    KademliaCommand,
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
from wws.dht.messages import KadMessage, KadRecord, MessageType, WirePeer
from wws.errors import LocalProtocolError, WwsError
from wws.identity.keys import Identity
from wws.machine import Event
from wws.testing.notes import Notes, note_key, text_of, write_note

ALICE, BOB, CAROL = (Identity.from_label(name) for name in ("alice", "bob", "carol"))
UNIX = 1_800_000_000
KEY = note_key("greeting")
NOTE = write_note(ALICE, KEY, "hello", seq=1, expires_at=UNIX + 86_400)
NEWER = write_note(ALICE, KEY, "hello again", seq=2, expires_at=UNIX + 86_400)


def address(number: int) -> tuple[Multiaddr, ...]:
    return (Multiaddr.of(f"203.{number >> 8}.{number & 255}.1", 9000),)


def machine(identity: Identity, *, serving: bool = True, config: KademliaConfig | None = None) -> Kademlia:
    node = Kademlia(identity.peer_id, config or KademliaConfig(), random.Random(1), {Notes.prefix: Notes()})
    node.handle(SetMode(serving), 0, UNIX)
    node.handle(AddressesChanged(address(identity.public_key[0])), 0, UNIX)
    return node


def queries(commands: list[KademliaCommand]) -> list[SendQuery]:
    return [command for command in commands if isinstance(command, SendQuery)]


class Together:
    """A few machines whose queries are answered at once, in order, by each other."""

    def __init__(self, *nodes: Kademlia) -> None:
        self.nodes = {node.local: node for node in nodes}
        self.now = 0.0
        self.done: list[KademliaCommand] = []
        self.silent: set[object] = set()

    def meet(self) -> None:
        for node in self.nodes.values():
            for other in self.nodes.values():
                if other is not node and other.serving:
                    self.tell(node, PeerJoined(other.local, other.addresses, None))

    def tell(self, node: Kademlia, event: Event) -> list[KademliaCommand]:
        self.done = []
        self._carry(node, node.handle(event, self.now, UNIX))
        return self.done

    def _carry(self, node: Kademlia, commands: list[KademliaCommand]) -> None:
        for command in commands:
            if not isinstance(command, SendQuery):
                self.done.append(command)
                continue
            other = self.nodes[command.peer]
            if command.peer in self.silent:
                answer: Event = QueryFailed(command.query_id)
            else:
                request = RequestReceived(1, node.local, command.message)
                (reply,) = other.handle(request, self.now, UNIX)
                assert isinstance(reply, Reply)
                sent = not command.expects_answer
                answer = (
                    QueryAnswered(command.query_id, reply.message)
                    if sent or reply.message is not None
                    else QueryFailed(command.query_id)
                )
            self._carry(node, node.handle(answer, self.now, UNIX))


# Small networks: what there is, is enough


def test_alone_the_own_store_is_the_holder() -> None:
    alice = machine(ALICE)
    assert alice.handle(StartPut(1, KEY, NOTE), 0, UNIX) == [PutDone(1, 1, 1)]
    assert alice.handle(StartGet(2, KEY), 0, UNIX) == [GetDone(2, KEY, NOTE, 1, 1, 0)]
    assert alice.handle(StartGet(3, note_key("other")), 0, UNIX) == [
        GetDone(3, note_key("other"), None, 0, 0, 0)
    ]
    assert alice.handle(StartFind(4, BOB.peer_id), 0, UNIX) == [FindDone(4, ())]
    assert alice.handle(StartFindProviders(5, b"key"), 0, UNIX) == [ProvidersDone(5, ())]
    assert alice.operations_in_flight == 0
    size = alice.swarm_size(0)
    assert (size.count, size.low, size.high, size.method) == (1, 1, 1, "counted")


@pytest.mark.parametrize("count", [2, 3])
def test_quorum_is_never_larger_than_the_network(count: int) -> None:
    nodes = [machine(identity) for identity in (ALICE, BOB, CAROL)[:count]]
    mesh = Together(*nodes)
    mesh.meet()
    assert mesh.tell(nodes[0], StartPut(1, KEY, NOTE)) == [PutDone(1, count, count)]
    for node in nodes:
        (done,) = mesh.tell(node, StartGet(2, KEY))
        assert isinstance(done, GetDone)
        assert (done.value, done.holders) == (NOTE, count)
        assert node.operations_in_flight == node.queries_in_flight == 0
        assert node.swarm_size(0).count == count


def test_a_dead_peer_does_not_fail_a_put() -> None:
    alice, bob, carol = machine(ALICE), machine(BOB), machine(CAROL)
    mesh = Together(alice, bob, carol)
    mesh.meet()
    mesh.silent.add(carol.local)
    assert mesh.tell(alice, StartPut(1, KEY, NOTE)) == [PutDone(1, 2, 2)]


def test_a_client_asks_and_is_not_asked() -> None:
    alice, bob = machine(ALICE, serving=False), machine(BOB)
    mesh = Together(alice, bob)
    mesh.meet()
    assert alice.local not in bob.routing
    assert mesh.tell(alice, StartPut(1, KEY, NOTE)) == [PutDone(1, 2, 2)]
    ask = KadMessage(MessageType.GET_VALUE, KEY.encode())
    assert alice.handle(RequestReceived(7, BOB.peer_id, ask), 0, UNIX) == [Reply(7, None)]
    assert alice.refusals["client_mode"] == 1


# Entry correction, and holders that disagree


def test_get_returns_the_winner_and_corrects_the_others() -> None:
    alice, bob, carol = machine(ALICE), machine(BOB), machine(CAROL)
    mesh = Together(alice, bob, carol)
    mesh.meet()
    bob.handle(RequestReceived(1, ALICE.peer_id, put_message(NOTE)), 0, UNIX)
    carol.handle(RequestReceived(1, ALICE.peer_id, put_message(NEWER)), 0, UNIX)
    (done,) = mesh.tell(alice, StartGet(1, KEY))
    assert isinstance(done, GetDone)
    assert done.value is not None
    assert text_of(done.value) == "hello again"
    assert (done.answers, done.holders, done.asked) == (2, 1, 2)
    assert bob.records.find(KEY.encode(), UNIX) == NEWER
    assert alice.records.find(KEY.encode(), UNIX) is None, "who only looks up does not become a holder"


def test_a_put_that_loses_names_the_winner() -> None:
    alice, bob = machine(ALICE), machine(BOB)
    mesh = Together(alice, bob)
    mesh.meet()
    bob.handle(RequestReceived(1, CAROL.peer_id, put_message(NEWER)), 0, UNIX)
    assert mesh.tell(alice, StartPut(1, KEY, NOTE)) == [PutDone(1, 1, 2, NEWER)]
    assert alice.records.find(KEY.encode(), UNIX) == NEWER


def put_message(value: bytes, key: str = KEY) -> KadMessage:
    return KadMessage(MessageType.PUT_VALUE, key.encode(), KadRecord(key.encode(), value))


# What a hostile peer sends


REFUSED: list[tuple[str, KadMessage]] = [
    ("unknown_namespace", put_message(NOTE, "/ipns/alice")),
    ("bad_record", put_message(NOTE[:-1] + b"x")),
    ("bad_record", put_message(NOTE, note_key("another"))),
    ("value_too_large", put_message(b"x" * 8193)),
    ("key_mismatch", KadMessage(MessageType.PUT_VALUE, KEY.encode(), KadRecord(b"/wws/test/x", NOTE))),
    ("key_mismatch", KadMessage(MessageType.PUT_VALUE, KEY.encode())),
    ("no_key", KadMessage(MessageType.FIND_NODE)),
    (
        "foreign_provider",
        KadMessage(MessageType.ADD_PROVIDER, b"k", provider_peers=(WirePeer(CAROL.peer_id),)),
    ),
]


@pytest.mark.parametrize("reason, message", REFUSED)
def test_refusals_are_silent_and_counted(reason: str, message: KadMessage) -> None:
    alice = machine(ALICE)
    assert alice.handle(RequestReceived(1, BOB.peer_id, message), 0, UNIX) == [Reply(1, None)]
    assert alice.refusals[reason] == 1
    assert len(alice.records) == len(alice.providers) == 0


def test_who_looks_for_what_we_do_not_keep_is_led_on() -> None:
    """go removes a peer that leaves a question without an answer from its routing table."""
    alice = machine(ALICE)
    for key in (b"/ipns/alice", b"/pk/\xff"):
        ask = KadMessage(MessageType.GET_VALUE, key)
        assert alice.handle(RequestReceived(1, BOB.peer_id, ask), 0, UNIX) == [Reply(1, ask)]


def test_an_answer_of_another_type_is_a_failure() -> None:
    alice = machine(ALICE)
    alice.handle(PeerJoined(BOB.peer_id, address(1), None), 0, UNIX)
    (query,) = queries(alice.handle(StartGet(1, KEY), 0, UNIX))
    commands = alice.handle(QueryAnswered(query.query_id, KadMessage(MessageType.PING)), 0.1, UNIX)
    assert commands == [GetDone(1, KEY, None, 0, 0, 0)]
    assert alice.refusals["wrong_answer"] == 1


def test_an_invalid_value_is_no_answer() -> None:
    alice = machine(ALICE)
    alice.handle(PeerJoined(BOB.peer_id, address(1), None), 0, UNIX)
    (query,) = queries(alice.handle(StartGet(1, KEY), 0, UNIX))
    forged = KadMessage(MessageType.GET_VALUE, KEY.encode(), KadRecord(KEY.encode(), NOTE[:-1] + b"!"))
    assert alice.handle(QueryAnswered(query.query_id, forged), 0.1, UNIX) == [GetDone(1, KEY, None, 0, 0, 1)]


def test_peers_of_one_prefix_fill_neither_table_nor_look_up() -> None:
    alice = machine(ALICE)
    for number in range(10):
        sybil = Identity.from_label(f"sybil {number}").peer_id
        commands = alice.handle(
            PeerJoined(sybil, (Multiaddr.of("203.0.113.9", 9000),), "203.0.113.0/24"), 0, UNIX
        )
        if number > 3:
            assert commands == [PeerUseless(sybil)]
    assert len(alice.routing) <= 3


# The driver's side


def test_slow_peers_hold_nothing_up_and_still_count() -> None:
    alice = machine(ALICE)
    others = [Identity.from_label(f"peer {number}").peer_id for number in range(12)]
    for number, peer in enumerate(others):
        alice.handle(PeerJoined(peer, address(number), None), 0, UNIX)
    sent = queries(alice.handle(StartGet(1, KEY), 0, UNIX))
    assert len(sent) == 10, "alpha"
    answer = KadMessage(MessageType.GET_VALUE, KEY.encode(), KadRecord(KEY.encode(), NOTE))
    # Nobody of the ten answers in time: the other two are asked instead.
    late = alice.next_wakeup()
    assert late is not None
    more: list[SendQuery] = []
    while len(more) < 2:
        late = alice.next_wakeup()
        assert late is not None
        fired = queries(alice.handle(TimerFired(), late, UNIX))
        more += [query for query in fired if query.message.type is MessageType.GET_VALUE]
    assert {query.peer for query in sent + more} == set(others)
    done: list[KademliaCommand] = []
    for query in (*sent[:2], more[0]):
        done += alice.handle(QueryAnswered(query.query_id, answer), late + 0.01, UNIX)
    while not any(isinstance(command, GetDone) for command in done):
        soon = alice.next_wakeup()
        assert soon is not None
        assert soon < late + 1
        done += alice.handle(TimerFired(), soon, UNIX)
    (got,) = (command for command in done if isinstance(command, GetDone))
    assert (got.value, got.holders) == (NOTE, 3)


def test_who_has_gone_is_waited_for_once() -> None:
    """Others still name a peer that has gone, and nothing says so: the first look-up waits for it."""
    alice, gone = machine(ALICE), CAROL.peer_id
    alice.handle(PeerJoined(BOB.peer_id, address(1), None), 0, UNIX)

    def get(op: int, now: float, where: int = 2) -> tuple[float, SendQuery]:
        """How long a look-up takes, and the query that nobody answers."""
        (asked,) = queries(alice.handle(StartGet(op, KEY), now, UNIX))
        closer = (WirePeer(gone, address(where)),)
        named = KadMessage(MessageType.GET_VALUE, KEY.encode(), closer_peers=closer)
        (lost,) = queries(alice.handle(QueryAnswered(asked.query_id, named), now, UNIX))
        assert lost.peer == gone
        when, done = now, list[KademliaCommand]()
        while not any(isinstance(command, GetDone) for command in done):
            when = max(when, alice.next_wakeup() or when)
            done = alice.handle(TimerFired(), when, UNIX)
        return when - now, lost

    patience = alice.config.lookup.patience
    first, lost = get(1, 10)
    assert first == patience
    again, other = get(2, 14)
    assert again < patience, "its query is on the way still"
    for query in (lost, other):
        alice.handle(QueryFailed(query.query_id), 20, UNIX)
    soon, query = get(3, 25)
    assert soon < patience
    alice.handle(QueryAnswered(query.query_id, None), 28, UNIX)
    back, query = get(4, 30)
    assert back == patience, "it has answered"
    alice.handle(QueryFailed(query.query_id), 40, UNIX)
    later = 40 + alice.config.silent_for
    back, query = get(5, later)
    assert back == patience, "it may be back by now"
    alice.handle(QueryFailed(query.query_id), later + 10, UNIX)
    elsewhere, query = get(6, later + 20, where=3)
    assert elsewhere == patience, "who lies about where it is takes it nothing at its true address"
    alice.handle(QueryFailed(query.query_id), later + 30, UNIX)
    for op, where in ((7, 2), (8, 3)):
        soon, query = get(op, later + 40, where)
        assert soon < patience, "it was looked for at both"
        alice.handle(QueryFailed(query.query_id), later + 50, UNIX)
    alice.handle(PeerJoined(gone, address(2), None), later + 60, UNIX)
    alice.handle(PeerLeft(gone, for_good=True), later + 61, UNIX)
    assert get(9, later + 70)[0] == patience, "it was there"


def test_who_loses_its_connection_is_not_taken_for_gone() -> None:
    """Connections are given up wherever there are many: that says nothing of who was at the other end."""
    alice = machine(ALICE)
    alice.handle(PeerJoined(BOB.peer_id, address(1), None), 0, UNIX)
    (query,) = queries(alice.handle(StartGet(1, KEY), 0, UNIX))
    alice.handle(PeerLeft(BOB.peer_id), 1, UNIX)
    alice.handle(QueryFailed(query.query_id), 1, UNIX)
    assert alice.peers_remembered_as_silent == 0


def test_who_has_gone_is_remembered_within_bounds() -> None:
    alice = machine(ALICE, config=KademliaConfig(max_silent=2))
    for number in range(4):
        peer = Identity.from_label(f"peer {number}").peer_id
        alice.handle(PeerJoined(peer, address(number), None), 0, UNIX)
        alice.handle(PeerLeft(peer), 0, UNIX)
    sent = queries(alice.handle(StartGet(1, KEY), 0, UNIX))
    assert len(sent) == 4
    for query in sent:
        alice.handle(QueryFailed(query.query_id), 1, UNIX)
    assert alice.peers_remembered_as_silent == 2


def test_cancel_frees_everything() -> None:
    alice = machine(ALICE)
    alice.handle(PeerJoined(BOB.peer_id, address(1), None), 0, UNIX)
    (query,) = queries(alice.handle(StartGet(1, KEY), 0, UNIX))
    assert alice.handle(Cancel(1), 0, UNIX) == [DropQuery(query.query_id)]
    assert alice.operations_in_flight == alice.queries_in_flight == 0
    assert alice.handle(Cancel(1), 0, UNIX) == []
    with pytest.raises(LocalProtocolError):
        alice.handle(QueryAnswered(query.query_id, None), 1, UNIX)


def test_operations_are_bounded() -> None:
    alice = machine(ALICE, config=KademliaConfig(max_operations=2))
    alice.handle(PeerJoined(BOB.peer_id, address(1), None), 0, UNIX)
    alice.handle(StartGet(1, KEY), 0, UNIX)
    alice.handle(StartGet(2, KEY), 0, UNIX)
    with pytest.raises(TooManyOperations):
        alice.handle(StartGet(3, KEY), 0, UNIX)
    with pytest.raises(LocalProtocolError):
        alice.handle(StartGet(1, KEY), 0, UNIX)


def test_own_bad_record_is_the_callers_error() -> None:
    alice = machine(ALICE)
    with pytest.raises(WwsError):
        alice.handle(StartPut(1, KEY, NOTE[:-1] + b"?"), 0, UNIX)
    assert alice.operations_in_flight == 0


def test_a_peer_stays_until_it_fails_and_goes_when_it_stops_serving() -> None:
    alice = machine(ALICE)
    for peer in (BOB.peer_id, CAROL.peer_id):
        alice.handle(PeerJoined(peer, address(1), None), 0, UNIX)
        alice.handle(PeerLeft(peer), 1, UNIX)
        assert peer in alice.routing
    alice.handle(PeerLeft(CAROL.peer_id, for_good=True), 2, UNIX)
    assert CAROL.peer_id not in alice.routing
    for attempt in range(3):
        (query,) = queries(alice.handle(StartFind(attempt, CAROL.peer_id), 3, UNIX))
        assert query.peer == BOB.peer_id
        assert alice.handle(QueryFailed(query.query_id), 4, UNIX) == [FindDone(attempt, ())]
    assert len(alice.routing) == 0


def test_find_ends_when_the_sought_peer_answers() -> None:
    alice, bob, carol = machine(ALICE), machine(BOB), machine(CAROL)
    mesh = Together(alice, bob, carol)
    mesh.tell(alice, PeerJoined(BOB.peer_id, bob.addresses, None))
    mesh.tell(bob, PeerJoined(CAROL.peer_id, carol.addresses, None))
    assert mesh.tell(alice, StartFind(1, CAROL.peer_id)) == [
        FindDone(1, (WirePeer(CAROL.peer_id, carol.addresses),))
    ]


def test_providers_are_announced_and_found() -> None:
    alice, bob, carol = machine(ALICE), machine(BOB), machine(CAROL)
    mesh = Together(alice, bob, carol)
    mesh.meet()
    assert mesh.tell(alice, StartProvide(1, b"\x12\x20" + b"k" * 32)) == [PutDone(1, 3, 3)]
    (done,) = mesh.tell(carol, StartFindProviders(2, b"\x12\x20" + b"k" * 32))
    assert done == ProvidersDone(2, (WirePeer(ALICE.peer_id, alice.addresses),))
    assert alice.handle(Cancel(1), 0, UNIX) == []
    assert len(alice.providers) == 0
    assert len(bob.providers) == 1


def test_the_first_peer_starts_a_look_up_of_ourselves() -> None:
    alice = machine(ALICE)
    assert alice.next_wakeup() is None
    alice.handle(PeerJoined(BOB.peer_id, address(1), None), 5, UNIX)
    assert alice.next_wakeup() == 5
    (query,) = queries(alice.handle(TimerFired(), 5, UNIX))
    assert query.message == KadMessage(MessageType.FIND_NODE, ALICE.peer_id.to_bytes())


def test_a_regained_entry_point_leads_to_the_other_half() -> None:
    alice = machine(ALICE)
    assert alice.handle(EntryPointRegained(BOB.peer_id), 0, UNIX) == [], "only one that serves is asked"
    alice.handle(PeerJoined(BOB.peer_id, address(1), None), 0, UNIX)
    (query,) = queries(alice.handle(EntryPointRegained(BOB.peer_id), 0, UNIX))
    own = ALICE.peer_id.to_bytes()
    assert query.message == KadMessage(MessageType.FIND_NODE, own)
    strangers = tuple(WirePeer(Identity.from_label(f"stranger {n}").peer_id) for n in range(5))
    answer = KadMessage(MessageType.FIND_NODE, own, None, (*strangers, WirePeer(ALICE.peer_id)))
    asked = queries(alice.handle(QueryAnswered(query.query_id, answer), 0.1, UNIX))
    assert {query.peer for query in asked} == {stranger.peer_id for stranger in strangers}
    (query,) = queries(alice.handle(EntryPointRegained(BOB.peer_id), 1, UNIX))
    assert alice.handle(QueryAnswered(query.query_id, answer), 1.1, UNIX) == [], "not again so soon"


def test_a_newcomer_is_handed_the_records_it_is_near_to() -> None:
    alice, bob = machine(ALICE), machine(BOB)
    alice.handle(StartPut(1, KEY, NOTE), 0, UNIX)
    mesh = Together(alice, bob)
    mesh.meet()
    for _ in range(4):
        wakeup = alice.next_wakeup()
        assert wakeup is not None
        mesh.now = max(mesh.now, wakeup)
        mesh.tell(alice, TimerFired())
    assert bob.records.find(KEY.encode(), UNIX) == NOTE


def test_who_was_long_away_is_handed_them_too() -> None:
    alice, bob = machine(ALICE), machine(BOB)
    mesh = Together(alice, bob)
    mesh.meet()
    for identity in (ALICE, BOB):
        (alice if identity is BOB else bob).handle(PeerLeft(identity.peer_id), 0, UNIX)
    mesh.now = 3.0
    mesh.silent.add(bob.local)
    assert mesh.tell(alice, StartPut(1, KEY, NOTE)) == [PutDone(1, 1, 1)]
    assert bob.local in alice.routing
    mesh.now, mesh.silent = 500.0, set()
    mesh.meet()
    while bob.records.find(KEY.encode(), UNIX) is None:
        wakeup = alice.next_wakeup()
        assert wakeup is not None
        assert wakeup < 520
        mesh.now = max(mesh.now, wakeup)
        mesh.tell(alice, TimerFired())


def test_holders_republish_what_nobody_else_brought() -> None:
    alice, bob = machine(ALICE), machine(BOB)
    mesh = Together(alice, bob)
    mesh.meet()
    mesh.tell(alice, StartPut(1, KEY, NOTE))
    bob.records.drop(KEY.encode())
    while bob.records.find(KEY.encode(), UNIX) is None:
        wakeup = alice.next_wakeup()
        assert wakeup is not None
        assert wakeup < 3600 * 1.3
        mesh.now = max(mesh.now, wakeup)
        mesh.tell(alice, TimerFired())
    assert mesh.now > 3600 * 0.7


def test_records_go_when_their_time_is_over() -> None:
    alice = machine(ALICE)
    alice.handle(StartPut(1, KEY, NOTE), 0, UNIX)
    (done,) = alice.handle(StartGet(2, KEY), 1, UNIX + 86_400)
    assert isinstance(done, GetDone)
    assert done.value is None


@pytest.mark.parametrize("make", [Cancel, lambda op: StartFind(op, BOB.peer_id)])
def test_unknown_numbers_do_no_harm(make: Callable[[int], Event]) -> None:
    alice = machine(ALICE)
    alice.handle(make(99), 0, UNIX)
    for event in (QueryAnswered(5, None), QueryFailed(5)):
        with pytest.raises(LocalProtocolError):
            alice.handle(event, 0, UNIX)
