"""Conversations with routers of every kind, in virtual time."""

import random
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.addresses.scope import Scope, scope_of
from wws.errors import LocalProtocolError
from wws.machine import Command, Event
from wws.nat.gateway_requests import (
    Address,
    Answer,
    LookUp,
    Mapped,
    MapPort,
    Port,
    Refused,
    Unmapped,
    UnmapPort,
)
from wws.nat.port_mapping import PortMapping, State
from wws.nat.port_mapping_events import (
    AskUpnp,
    Changed,
    Closing,
    DatagramReceived,
    FindUpnp,
    Finished,
    NetworkLost,
    PortMappingConfig,
    PortUnreachable,
    SendDatagram,
    Started,
    TimerFired,
    UpnpAnswered,
    UpnpFound,
)

ALICE = "192.168.1.2"
TCP, UDP = Port("tcp", 4001), Port("udp", 4001)
NONCE = bytes(range(12))
STARTED = Started(ALICE, (TCP, UDP), NONCE)
OUTSIDE = "198.51.100.7"
BOTH = ["/ip4/198.51.100.7/tcp/4001", "/ip4/198.51.100.7/udp/4001/quic-v1"]


@dataclass
class Router:
    """Answers as the specifications say, for the protocols it speaks, at once or never."""

    speaks: set[str]
    ip: str = OUTSIDE
    lifetime: int | None = None
    epoch_began: float = 0.0
    taken: set[int] = field(default_factory=set)
    permanent_only: bool = False
    refuses: bool = False
    silent: bool = False
    table: dict[tuple[int, int], int] = field(default_factory=dict)
    """IP protocol and internal port: the external port."""
    heard: list[tuple[float, str]] = field(default_factory=list)

    def answer(self, command: Command, now: float) -> Event | None:
        match command:
            case SendDatagram(data=data) if data[0] == 2:
                self.heard.append((now, "pcp"))
                if not self.silent and "pcp" in self.speaks:
                    return DatagramReceived(self._pcp(data, now))
                if not self.silent and "nat-pmp" in self.speaks:
                    return DatagramReceived(struct.pack("!BBHI", 0, 128 | data[1], 1, 0))
            case SendDatagram(data=data):
                self.heard.append((now, "nat-pmp"))
                if not self.silent and "nat-pmp" in self.speaks:
                    return DatagramReceived(self._nat_pmp(data, now))
            case FindUpnp(number=number):
                self.heard.append((now, "upnp"))
                if not self.silent:
                    return UpnpFound(number, "upnp" in self.speaks)
            case AskUpnp(number=number, request=request):
                self.heard.append((now, "upnp"))
                return UpnpAnswered(number, None if self.silent else self._upnp(request))
            case _:
                pass
        return None

    def restart(self, now: float) -> None:
        self.epoch_began = now
        self.table.clear()

    def _map(self, number: int, internal: int, wanted: int, lifetime: int) -> tuple[int, int]:
        if lifetime == 0:
            self.table.pop((number, internal), None)
            return 0, 0
        external = self.table.get((number, internal), wanted)
        while external in self.taken:
            external += 1
        self.table[number, internal] = external
        return external, lifetime if self.lifetime is None else self.lifetime

    def _pcp(self, data: bytes, now: float) -> bytes:
        opcode, lifetime = data[1], int.from_bytes(data[4:8], "big")
        epoch = int(now - self.epoch_began)
        if opcode == 0:
            return struct.pack("!BBBBII12x", 2, 128, 0, 0, 0, epoch)
        number, internal, wanted = struct.unpack_from("!B3xHH", data, 36)
        if self.refuses:
            return struct.pack("!BBBBII12x", 2, 129, 0, 2, 0, epoch) + data[24:]
        external, lifetime = self._map(number, internal, wanted, lifetime)
        ip = b"\0" * 10 + b"\xff\xff" + IPv4Address(self.ip).packed
        body = data[24:40] + struct.pack("!HH", internal, external) + ip
        return struct.pack("!BBBBII12x", 2, 129, 0, 0, lifetime, epoch) + body

    def _nat_pmp(self, data: bytes, now: float) -> bytes:
        epoch = int(now - self.epoch_began)
        if data[1] == 0:
            return struct.pack("!BBHI", 0, 128, 0, epoch) + IPv4Address(self.ip).packed
        internal, wanted, lifetime = struct.unpack_from("!HHI", data, 4)
        if self.refuses:
            return struct.pack("!BBHIHHI", 0, 128 | data[1], 2, epoch, internal, 0, 0)
        external, lifetime = self._map({1: 17, 2: 6}[data[1]], internal, wanted, lifetime)
        return struct.pack("!BBHIHHI", 0, 128 | data[1], 0, epoch, internal, external, lifetime)

    def _upnp(self, request: object) -> Answer:
        match request:
            case MapPort(port=port, external_port=external, lifetime=lifetime):
                number = 6 if port.transport == "tcp" else 17
                if self.refuses:
                    return Refused("not_authorized", port)
                if external in self.taken:
                    return Refused("conflict", port)
                if self.permanent_only and lifetime:
                    return Refused("permanent_only", port)
                self.table[number, port.number] = external
                return Mapped(port, external, None, lifetime)
            case UnmapPort(port=port):
                self.table.pop((6 if port.transport == "tcp" else 17, port.number), None)
                return Unmapped(port)
            case LookUp(port=port, external_port=external):
                number = 6 if port.transport == "tcp" else 17
                if (number, port.number) not in self.table:
                    return Refused("no_such_mapping", port)
                if external in self.taken:
                    return Refused("conflict", port)
                return Mapped(port, external, None, 0)
            case _:
                return Address(self.ip)


class Talk:
    """One machine and one router, and the time that goes by between them."""

    def __init__(self, router: Router, **settings: float) -> None:
        self.router = router
        self.now = 100.0
        config = PortMappingConfig(**{"jitter": 0.0, "lifetime": 7200, **settings})  # type: ignore[arg-type]
        self.machine = PortMapping(random.Random(1), config)
        self.changes = 0
        self.finished = False
        self.twist: random.Random | None = None
        """With it, a byte of each answer is not as the router meant it."""

    def _twisted(self, answer: Event) -> Event:
        if self.twist is None or not isinstance(answer, DatagramReceived):
            return answer
        data = bytearray(answer.data)
        data[self.twist.randrange(len(data))] = self.twist.randrange(256)
        return DatagramReceived(bytes(data))

    def tell(self, event: Event) -> None:
        events = [event]
        while events:
            for command in self.machine.handle(events.pop(0), self.now):
                self.changes += isinstance(command, Changed)
                self.finished |= isinstance(command, Finished)
                answer = self.router.answer(command, self.now)
                if answer is not None:
                    events.append(self._twisted(answer))

    def wait(self, seconds: float) -> None:
        end, fired = self.now + seconds, 0
        while (due := self.machine.next_wakeup()) is not None and due <= end:
            fired = fired + 1 if due <= self.now else 0
            assert fired < 10, "the timer stands still"
            self.now = max(self.now, due)
            self.tell(TimerFired())
        self.now = end

    @property
    def mapped(self) -> list[str]:
        return [str(address) for address in self.machine.mappings]


def started(*speaks: str, wait: float = 10.0, router: Router | None = None, **settings: float) -> Talk:
    talk = Talk(router or Router(set(speaks)), **settings)
    talk.tell(STARTED)
    talk.wait(wait)
    return talk


EVERY_PROTOCOL = pytest.mark.parametrize("protocol", ["pcp", "nat-pmp", "upnp"])


@EVERY_PROTOCOL
def test_a_router_opens_our_ports(protocol: str) -> None:
    talk = started(protocol)
    assert talk.mapped == BOTH
    assert talk.machine.offered == protocol
    assert talk.changes == 1
    assert talk.machine.reason == ""
    talk.tell(Closing())
    assert talk.finished
    assert talk.router.table == {}
    assert talk.mapped == []
    assert talk.machine.next_wakeup() is None
    assert talk.machine.counts["given_back"] == 2


def test_the_best_protocol_is_used() -> None:
    talk = started("pcp", "nat-pmp", "upnp", wait=0)
    assert talk.machine.offered == "pcp"
    assert [protocol for _, protocol in talk.router.heard] == ["pcp", "pcp"]


def test_a_router_with_nat_pmp_alone_says_so_at_once() -> None:
    talk = started("nat-pmp", wait=0)
    assert talk.machine.offered == "nat-pmp"
    assert [protocol for _, protocol in talk.router.heard] == ["pcp", "nat-pmp", "nat-pmp", "nat-pmp"]


def test_a_silent_router_is_asked_a_few_times() -> None:
    talk = started(wait=8)
    assert talk.router.heard == [
        (100.0, "pcp"), (100.25, "pcp"), (100.75, "pcp"),
        (101.75, "nat-pmp"), (102.0, "nat-pmp"), (102.5, "nat-pmp"),
        (103.5, "upnp"),
    ]  # fmt: skip
    assert talk.machine.offered == "not offered"
    assert "opens no ports" in talk.machine.reason
    assert talk.changes == 1


def test_a_router_that_nobody_listens_at_is_not_waited_for() -> None:
    talk = Talk(Router(set()))
    for event in (STARTED, PortUnreachable(), PortUnreachable()):
        talk.tell(event)
    assert [protocol for _, protocol in talk.router.heard] == ["pcp", "nat-pmp", "upnp"]
    assert talk.machine.offered == "not offered"
    talk.tell(PortUnreachable())  # late
    assert talk.machine.state is State.NOT_OFFERED


def test_a_router_that_offers_nothing_is_asked_ever_more_rarely() -> None:
    talk = started(wait=4 * 3600)
    times = [time for time, protocol in talk.router.heard if protocol == "upnp"]
    waits = [round(later - earlier) for earlier, later in pairwise(times)]
    assert waits[:7] == [18, 34, 64, 124, 244, 484, 604]
    assert set(waits[6:]) == {604}


@EVERY_PROTOCOL
def test_leases_are_renewed_at_their_half(protocol: str) -> None:
    talk = started(protocol, wait=3 * 7200 - 1)
    assert talk.mapped == BOTH
    assert talk.changes == 1
    assert talk.machine.counts["renewed"] == 2 * 5
    assert talk.machine.counts["mapped"] == 2


@EVERY_PROTOCOL
def test_a_router_that_has_forgotten_is_asked_again(protocol: str) -> None:
    talk = started(protocol, wait=1000)
    talk.router.restart(talk.now)
    talk.wait(301)
    assert len(talk.router.table) == 2
    assert talk.machine.counts["forgotten"] > 0
    assert talk.changes == 1  # the addresses are the same


@EVERY_PROTOCOL
def test_a_router_with_a_new_address(protocol: str) -> None:
    talk = started(protocol, wait=1000)
    talk.router.ip = "203.0.113.9"
    talk.router.restart(talk.now)  # PCP says it this way (RFC 6887, section 8.5)
    talk.wait(301)
    assert talk.mapped == ["/ip4/203.0.113.9/tcp/4001", "/ip4/203.0.113.9/udp/4001/quic-v1"]
    assert talk.changes == 2


@EVERY_PROTOCOL
@pytest.mark.parametrize("ip", ["192.168.0.3", "100.64.0.3", "10.0.0.1", "127.0.0.1", "0.0.0.0", "224.0.0.1"])
def test_behind_two_nats_nothing_is_offered_and_nothing_left(protocol: str, ip: str) -> None:
    talk = started(router=Router({protocol}, ip=ip))
    assert (talk.mapped, talk.machine.offered) == ([], "not offered")
    assert talk.router.table == {}
    assert ("behind a NAT" in talk.machine.reason) == (ip not in ("0.0.0.0", "224.0.0.1"))


def test_a_router_that_gets_behind_another_takes_its_mappings_back() -> None:
    talk = started("nat-pmp", wait=100)
    talk.router.ip = "100.64.0.3"
    talk.wait(60)
    assert (talk.mapped, talk.machine.offered) == ([], "not offered")
    assert talk.router.table == {}
    talk.router.ip = OUTSIDE
    talk.wait(60)
    assert talk.mapped == BOTH


@EVERY_PROTOCOL
def test_a_router_that_refuses(protocol: str) -> None:
    talk = started(router=Router({protocol}, refuses=True))
    assert (talk.mapped, talk.machine.offered) == ([], "not offered")
    assert talk.machine.counts["not_authorized"] == 2


@EVERY_PROTOCOL
def test_a_router_that_falls_silent(protocol: str) -> None:
    talk = started(protocol, wait=50)
    talk.router.silent = True
    talk.wait(320)
    assert (talk.mapped, talk.machine.offered) == ([], "not offered")
    assert talk.changes == 2
    talk.router.silent = False
    talk.wait(300)
    assert talk.mapped == BOTH


def test_a_router_that_speaks_another_protocol_after_a_while() -> None:
    talk = started("pcp", wait=50)
    talk.router.speaks = {"nat-pmp"}
    talk.wait(7200)
    assert talk.mapped == BOTH
    assert talk.machine.offered == "nat-pmp"


@pytest.mark.parametrize("protocol", ["pcp", "nat-pmp"])
def test_the_router_may_give_another_port(protocol: str) -> None:
    talk = started(router=Router({protocol}, taken={4001}), wait=7200)
    assert talk.mapped == ["/ip4/198.51.100.7/tcp/4002", "/ip4/198.51.100.7/udp/4002/quic-v1"]
    assert talk.changes == 1


def test_with_upnp_we_look_for_another_port() -> None:
    talk = started(router=Router({"upnp"}, taken={4001}))
    assert len(talk.mapped) == 2
    assert not any("/4001" in address for address in talk.mapped)
    assert talk.machine.counts["conflict"] == 2


def test_at_most_four_other_ports_are_tried() -> None:
    talk = started(router=Router({"upnp"}, taken=set(range(65536))))
    assert talk.machine.offered == "not offered"
    assert talk.machine.counts["conflict"] == 2 + 4


def test_a_mapping_that_somebody_else_took() -> None:
    talk = started("upnp")
    talk.router.taken = {4001}
    talk.wait(301)
    assert len(talk.mapped) == 2
    assert not any("/4001" in address for address in talk.mapped)


def test_a_router_without_leases_gets_its_mappings_back_all_the_same() -> None:
    talk = started(router=Router({"upnp"}, permanent_only=True), wait=7200)
    assert talk.mapped == BOTH
    assert talk.machine.counts["renewed"] == 2
    talk.tell(Closing())
    assert talk.router.table == {}


@pytest.mark.parametrize("protocol", ["pcp", "nat-pmp"])
@pytest.mark.parametrize(("lifetime", "offered"), [(59, False), (60, True)])
def test_leases_that_are_too_short(protocol: str, lifetime: int, offered: bool) -> None:
    talk = started(router=Router({protocol}, lifetime=lifetime))
    assert bool(talk.mapped) is offered
    assert bool(talk.router.table) is offered
    assert bool(talk.machine.counts["lease_too_short"]) is not offered


def test_a_renewal_that_is_too_short_is_given_back_and_shown_no_more() -> None:
    talk = started("pcp")
    talk.router.lifetime = 59
    talk.wait(3700)
    assert talk.router.table == {}
    assert talk.mapped == []


def test_a_lease_for_ever_is_renewed_after_half_a_day() -> None:
    talk = started(router=Router({"pcp"}, lifetime=2**32 - 1), wait=86_399)
    assert talk.machine.counts["renewed"] == 2


def test_at_most_eight_ports() -> None:
    talk = Talk(Router({"pcp"}))
    talk.tell(Started(ALICE, tuple(Port("tcp", number) for number in range(4001, 4010)), NONCE))
    assert len(talk.router.table) == 8


def test_a_renewal_that_is_refused_is_tried_again_until_the_lease_ends() -> None:
    talk = started("pcp", wait=3000)
    talk.router.refuses = True
    talk.wait(4190)
    assert talk.mapped == BOTH
    assert 10 <= talk.machine.counts["not_authorized"] <= 20
    talk.wait(100)
    assert talk.mapped == []


def test_part_of_the_ports_is_better_than_none() -> None:
    talk = Talk(Router({"pcp"}))
    commands = talk.machine.handle(STARTED, 0.0)
    answer = talk.router.answer(commands[0], 0.0)
    assert answer is not None
    talk.now = 0.0
    talk.machine.handle(answer, 0.0)
    talk.router.silent = True
    talk.wait(10)
    assert talk.mapped == BOTH[:1]
    assert talk.changes == 1
    talk.router.silent = False
    talk.wait(60)
    assert talk.mapped == BOTH


def test_answers_that_nobody_asked_for_are_counted_and_forgotten() -> None:
    talk = Talk(Router({"pcp"}))
    (asked,) = talk.machine.handle(STARTED, 100.0)
    assert isinstance(asked, SendDatagram)
    answer = talk.router.answer(asked, 100.0)
    assert isinstance(answer, DatagramReceived)
    forged = bytearray(answer.data)
    forged[24] ^= 1  # another nonce
    other_port = bytearray(answer.data)
    other_port[41] ^= 1
    for data in (b"", bytes(forged), bytes(other_port), answer.data[:40]):
        assert talk.machine.handle(DatagramReceived(data), 100.0) == []
    assert talk.machine.counts["ignored"] == 4
    assert talk.machine.handle(UpnpFound(0, True), 100.0) == []
    assert talk.machine.handle(UpnpAnswered(0, Mapped(TCP, 1, OUTSIDE, 60)), 100.0) == []
    assert talk.machine.counts["ignored"] == 6


@EVERY_PROTOCOL
def test_what_is_being_asked_for_at_the_end_is_given_back_too(protocol: str) -> None:
    talk = Talk(Router({protocol}))
    events: list[Event] = [STARTED]
    while not talk.router.table:
        for command in talk.machine.handle(events.pop(0), 100.0):
            answer = talk.router.answer(command, 100.0)
            events += [answer] if answer is not None else []
        while not events:  # nobody answers: another protocol
            talk.now = talk.machine.next_wakeup() or 0.0
            for command in talk.machine.handle(TimerFired(), talk.now):
                answer = talk.router.answer(command, talk.now)
                events += [answer] if answer is not None else []
    talk.tell(Closing())  # the answer is still on its way
    assert talk.finished
    assert talk.router.table == {}
    talk.tell(events[0])
    assert talk.machine.state is State.CLOSED


def test_giving_back_to_a_silent_router_ends() -> None:
    talk = started("pcp")
    talk.router.silent = True
    talk.tell(Closing())
    assert not talk.finished
    talk.wait(1.75)
    assert talk.finished


def test_another_network() -> None:
    talk = started("pcp")
    talk.tell(NetworkLost())
    assert (talk.mapped, talk.machine.offered, talk.machine.next_wakeup()) == ([], "none", None)
    talk.tell(Started("192.168.7.2", (TCP,), NONCE))
    assert talk.mapped == BOTH[:1]
    assert talk.changes == 3


def _in_state(state: State) -> PortMapping:
    if state is State.IDLE:
        return Talk(Router(set())).machine
    talk = Talk(Router({"pcp"} if state in (State.MAPPED, State.CLOSING, State.CLOSED) else set()))
    talk.tell(STARTED)
    if state is State.NOT_OFFERED:
        talk.wait(8)
    if state in (State.CLOSING, State.CLOSED):
        talk.router.silent = state is State.CLOSING
        talk.tell(Closing())
    assert talk.machine.state is state
    return talk.machine


EVENTS: list[Event] = [
    STARTED,
    NetworkLost(),
    DatagramReceived(b""),
    PortUnreachable(),
    UpnpFound(1, True),
    UpnpFound(2, False),
    UpnpAnswered(1, None),
    UpnpAnswered(2, Refused("conflict", TCP)),
    TimerFired(),
    Closing(),
]


@pytest.mark.parametrize(("state", "event"), list(product(State, EVENTS)))
def test_every_pair_moves_or_refuses(state: State, event: Event) -> None:
    machine = _in_state(state)
    ended = state in (State.CLOSING, State.CLOSED)
    if ended and isinstance(event, Started | NetworkLost | Closing):
        with pytest.raises(LocalProtocolError):
            machine.handle(event, 200.0)
        assert machine.state is state
        return
    machine.handle(event, 200.0)
    assert machine.state in ({State.CLOSING, State.CLOSED} if ended else set(State))


def test_what_is_no_event() -> None:
    with pytest.raises(LocalProtocolError):
        Talk(Router(set())).machine.handle(Event(), 0.0)


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 2**16)), max_size=60), st.integers(0, 7))
def test_no_router_breaks_it(steps: Iterable[tuple[int, int]], speaks: int) -> None:
    """Whatever comes: one request at a time, only public addresses, a timer that moves, an end."""
    names = [name for bit, name in enumerate(("pcp", "nat-pmp", "upnp")) if speaks >> bit & 1]
    router = Router(set(names))
    talk = Talk(router)
    talk.tell(STARTED)
    ips = [OUTSIDE, "10.0.0.1", "203.0.113.9", "0.0.0.0"]
    for what, number in steps:
        match what:
            case 0 | 1 | 2:
                talk.wait(number / 16)
            case 3:
                router.silent = not router.silent
            case 4:
                router.restart(talk.now)
            case 5:
                router.refuses = not router.refuses
            case 6:
                router.ip = ips[number % 4]
            case 7:
                router.lifetime = number % 8000
            case 8:
                talk.tell(STARTED if number % 2 else NetworkLost())
            case 9:
                talk.tell(DatagramReceived(number.to_bytes(4, "big") * (number % 20)))
            case 10:
                talk.twist = None if talk.twist is not None else random.Random(number)
            case _:
                router.taken = {4001} if number % 2 else set()
        assert all(scope_of(address) is Scope.PUBLIC for address in talk.machine.mappings)
        assert len(talk.machine.mappings) <= 2
        assert (talk.machine.offered in ("pcp", "nat-pmp", "upnp")) == bool(talk.machine.mappings)
    talk.tell(Closing())
    talk.wait(3 * 1.75 + 3 * 3)
    assert talk.finished
