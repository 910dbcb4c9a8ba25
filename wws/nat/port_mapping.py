"""Ports that the router opens for us: which protocol it speaks, leases that are renewed, and given back.

    IDLE --Started--> ASKING pcp --no--> ASKING nat-pmp --no--> ASKING upnp --no--> NOT_OFFERED
                         '---------- yes ---------'--------------'--> MAPPED      (asks again later)

    MAPPED   each lease is renewed at its half, and the router is asked for a sign of life between: one that
             has forgotten (its epoch, or UPnP's table, says so) or that is silent is asked from the start
    CLOSING  mappings are given back, one after the other --> CLOSED

One request is under way at a time, as the specifications ask. The driver sends, hands in what comes back, and
calls with `TimerFired` at `next_wakeup()`.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final, Literal, TypeAlias

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope, scope_of_ip
from wws.errors import LocalProtocolError, ParseError
from wws.machine import Command, Event
from wws.nat import nat_pmp, pcp
from wws.nat.gateway_requests import (
    Address,
    Answer,
    AskAddress,
    LookUp,
    Mapped,
    MapPort,
    Port,
    Refused,
    Request,
    Unmapped,
    UnmapPort,
    fits,
)
from wws.nat.port_leases import Lease, Leases
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

ProtocolName: TypeAlias = Literal["pcp", "nat-pmp", "upnp"]
MappingState: TypeAlias = Literal["none", "pcp", "nat-pmp", "upnp", "not offered"]
PROTOCOLS: Final[tuple[ProtocolName, ...]] = ("pcp", "nat-pmp", "upnp")


class State(Enum):
    IDLE = auto()
    ASKING = auto()
    MAPPED = auto()
    NOT_OFFERED = auto()
    CLOSING = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class _Find:
    """Not a request to the router, but waits in the queue like one."""


@dataclass(slots=True)
class _Exchange:
    """What is under way."""

    request: Request | _Find
    number: int
    attempt: int
    deadline: float


class PortMapping:
    """The ports of one node at one router at a time."""

    def __init__(self, rng: random.Random, config: PortMappingConfig | None = None) -> None:
        self.state = State.IDLE
        self.reason = ""
        """Why nothing is mapped, for people; empty otherwise."""
        self.counts: Counter[str] = Counter()
        """`mapped`, `renewed`, `given_back`, `forgotten` (by the router), `ignored` (answers to nothing that
        was asked), and refusals by reason."""
        self._rng = rng
        self._config = config or PortMappingConfig()
        self._protocol: ProtocolName = "pcp"
        self._granted_by: ProtocolName = "pcp"
        self._local = ""
        self._ports: tuple[Port, ...] = ()
        self._nonce = b""
        self._leases = Leases()
        self._external_ip: str | None = None
        self._queue: deque[Request | _Find] = deque()
        self._exchange: _Exchange | None = None
        self._number = 0
        self._round = 0
        self._other_ports = 0
        self._epoch: tuple[int, float] | None = None
        self._wakeup: float | None = None
        self._retry = self._config.retry_first
        self._shown: tuple[object, ...] = self._view()

    @property
    def mappings(self) -> tuple[Multiaddr, ...]:
        """Where we can be reached from outside, if the router keeps its word."""
        return self._leases.mappings

    @property
    def offered(self) -> MappingState:
        """Which protocol opened our ports, `not offered`, or `none`: nothing is asked or known yet."""
        if self._leases:
            return self._granted_by
        return "not offered" if self.reason else "none"

    def next_wakeup(self) -> float | None:
        """When `TimerFired` is due."""
        if self._exchange is not None:
            return self._exchange.deadline
        times = [self._wakeup, self._leases.next_renewal() if self.state is State.MAPPED else None]
        return min((time for time in times if time is not None), default=None)

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event. Raises `LocalProtocolError` for one that we may not have caused any more."""
        if self.state in (State.CLOSING, State.CLOSED) and isinstance(event, Started | NetworkLost | Closing):
            raise LocalProtocolError(f"{type(event).__name__} while {self.state.name}")
        commands: list[Command] = []
        match event:
            case Started(local=local, ports=ports, nonce=nonce):
                self._forget()
                self._local, self._ports = local, ports[: self._config.max_ports]
                self._nonce, self._retry = nonce, self._config.retry_first
                commands = self._begin(0, now)
            case NetworkLost():
                self._forget()
                self.state = State.IDLE
            case Closing():
                commands = self._close(now)
            case DatagramReceived(data=data):
                commands = self._received(data, now)
            case PortUnreachable():
                if self._exchange is not None and self._protocol != "upnp":
                    commands = self._unanswered(now)
            case UpnpFound(number=number, found=found) if self._is_under_way(number):
                commands = self._next(now) if found else self._unanswered(now)
            case UpnpAnswered(number=number, answer=answer) if self._is_under_way(number):
                commands = self._unanswered(now) if answer is None else self._answered(answer, now)
            case UpnpFound() | UpnpAnswered():
                self._ignore()
            case TimerFired():
                commands = self._timer(now)
            case _:
                raise LocalProtocolError(f"{type(event).__name__} is no event of a port mapping")
        # Told once all is asked, not for each port: whoever announces our addresses does so once.
        if self._exchange is None and (view := self._view()) != self._shown:
            self._shown = view
            commands.append(Changed())
        return commands

    def _view(self) -> tuple[object, ...]:
        return self.mappings, self.offered, self.reason

    def _forget(self) -> None:
        """Of another router nothing holds, and what it has mapped cannot be given back from here."""
        self._leases.clear()
        self._queue.clear()
        self._exchange, self._wakeup, self._epoch, self._external_ip = None, None, None, None
        self.reason = ""

    # Asking, one request at a time

    def _begin(self, protocol: int, now: float) -> list[Command]:
        """Ask for every port by one protocol. Leases go on until it is known what becomes of them."""
        self.state, self._protocol = State.ASKING, PROTOCOLS[protocol]
        self._round += 1
        self._other_ports = self._config.max_other_ports
        self._epoch, self._external_ip, self._wakeup = None, None, None
        self._queue.clear()
        if self._protocol == "upnp":
            self._queue.append(_Find())
        if self._protocol != "pcp":
            self._queue.append(AskAddress())
        self._queue.extend(self._map(port) for port in self._ports)
        return self._next(now)

    def _map(self, port: Port) -> MapPort:
        lease = self._leases.get(port)
        if lease is None:
            return MapPort(port, port.number, None, self._config.lifetime)
        return MapPort(port, lease.external_port, lease.external_ip, self._config.lifetime)

    def _next(self, now: float) -> list[Command]:
        self._exchange = None
        if not self._queue:
            return self._drained(now)
        self._number += 1
        self._exchange = _Exchange(self._queue.popleft(), self._number, 0, now)
        return self._send(self._exchange, now)

    def _send(self, exchange: _Exchange, now: float) -> list[Command]:
        request = exchange.request
        if isinstance(request, _Find):
            exchange.deadline = now + self._config.find_timeout
            return [FindUpnp(exchange.number)]
        if self._protocol == "upnp":
            exchange.deadline = now + self._config.upnp_timeout
            return [AskUpnp(exchange.number, request)]
        exchange.deadline = now + self._config.first_timeout * 2**exchange.attempt
        if self._protocol == "pcp":
            return [SendDatagram(pcp.encode(request, nonce=self._nonce, client=self._local))]
        return [SendDatagram(nat_pmp.encode(request))]

    def _timer(self, now: float) -> list[Command]:
        due = self.next_wakeup()
        if due is None or now < due:
            return []
        if (exchange := self._exchange) is not None:
            exchange.attempt += 1
            if self._protocol == "upnp" or exchange.attempt >= self._config.attempts:
                return self._unanswered(now)
            return self._send(exchange, now)
        if self.state is State.NOT_OFFERED:
            return self._begin(0, now)
        return self._look_after(now) if self.state is State.MAPPED else []

    def _look_after(self, now: float) -> list[Command]:
        """Renew what is due, and ask for a sign of life."""
        self._leases.expire(now)
        if not self._leases:
            return self._begin(0, now)
        check = self._wakeup is not None and now >= self._wakeup
        if check:
            self._wakeup = self._later(now)
            self._queue.append(AskAddress())
        for port in self._ports:
            known = self._leases.get(port)
            if (known is None and check) or (known is not None and now >= known.renew_at):
                self._queue.append(self._map(port))
            elif known is not None and check and self._protocol == "upnp":
                self._queue.append(LookUp(port, known.external_port))
        return self._next(now)

    def _later(self, now: float) -> float:
        config = self._config
        interval = config.upnp_check_interval if self._protocol == "upnp" else config.check_interval
        return now + interval * (1 + config.jitter * self._rng.random())

    # Answers

    def _is_under_way(self, number: int) -> bool:
        return self._exchange is not None and self._exchange.number == number

    def _received(self, data: bytes, now: float) -> list[Command]:
        if self._protocol == "upnp":
            return self._ignore()
        try:
            answer = pcp.decode(data, nonce=self._nonce) if self._protocol == "pcp" else nat_pmp.decode(data)
        except ParseError:
            return self._ignore()
        return self._answered(answer, now)

    def _ignore(self) -> list[Command]:
        self.counts["ignored"] += 1
        return []

    def _has_forgotten(self, epoch: int | None, now: float) -> bool:
        if epoch is None:
            return False
        before, self._epoch = self._epoch, (epoch, now)
        has_lost_state = pcp.has_lost_state if self._protocol == "pcp" else nat_pmp.has_lost_state
        return before is not None and has_lost_state(before[0], epoch, now - before[1])

    def _answered(self, answer: Answer, now: float) -> list[Command]:
        exchange = self._exchange
        if exchange is None or isinstance(exchange.request, _Find) or not fits(exchange.request, answer):
            return self._ignore()
        if self._has_forgotten(answer.epoch, now) and self.state is State.MAPPED:
            self.counts["forgotten"] += 1
            return self._begin(PROTOCOLS.index(self._protocol), now)
        request = exchange.request
        match answer:
            case Refused(reason=reason):
                return self._refused(request, reason, now)
            case Unmapped():
                self.counts["given_back"] += isinstance(request, UnmapPort)
            case Address(ip=ip):
                if self._protocol == "pcp":
                    return self._next(now)
                if (nothing := _why_useless(ip)) or ip is None:
                    return self._give_up(nothing, now, self._leases.requests_to_give_back)
                changed = self.state is State.MAPPED and ip != self._external_ip
                self._external_ip = ip
                if changed:
                    return self._begin(PROTOCOLS.index(self._protocol), now)
            case Mapped() if isinstance(request, MapPort):
                return self._mapped(request, answer, now)
            case Mapped():
                pass  # looked up, and there
        return self._next(now)

    def _mapped(self, request: MapPort, answer: Mapped, now: float) -> list[Command]:
        ip = answer.external_ip or self._external_ip
        if (nothing := _why_useless(ip)) or ip is None:
            made = UnmapPort(answer.port, answer.external_port)
            return self._give_up(nothing, now, [*self._leases.requests_to_give_back, made])
        config = self._config
        lifetime = min(answer.lifetime or config.lifetime, config.max_lifetime)
        if lifetime < config.min_lifetime:
            self._queue.appendleft(UnmapPort(answer.port, answer.external_port))
            self._leases.drop(answer.port)
            return self._refused(request, "lease_too_short", now)
        self.counts["renewed" if answer.port in self._leases else "mapped"] += 1
        self._granted_by = self._protocol
        half = lifetime / 2 * (1 + config.jitter * self._rng.random())
        lease = Lease(answer.external_port, ip, now + half, now + lifetime, self._round)
        self._leases.grant(answer.port, lease)
        return self._next(now)

    def _refused(self, request: Request, reason: str, now: float) -> list[Command]:
        self.counts[reason] += 1
        match request:
            case MapPort(port=port) if reason == "conflict" and self._other_ports:
                self._other_ports -= 1
                other = self._rng.randrange(1024, 65_536)
                self._queue.appendleft(replace(request, external_port=other))
                self._leases.drop(port)
            case MapPort(lifetime=lifetime) if reason == "permanent_only" and lifetime:
                self._queue.appendleft(replace(request, lifetime=0))
            case MapPort(port=port) if port in self._leases:
                self._leases.renew_later(port, now, self._config.min_lifetime / 4)
            case LookUp(port=port) if reason == "conflict":  # it leads to somebody else now
                self._leases.drop(port)
                self._queue.append(self._map(port))
            case LookUp(port=port) if reason == "no_such_mapping" and port in self._leases:
                self.counts["forgotten"] += 1
                self._queue.append(self._map(port))
                self._leases.end(port, now)
            case _ if reason == "unsupported_version" or isinstance(request, AskAddress):
                if self.state is State.ASKING:
                    return self._next_protocol(now)
            case _:
                pass  # of this port nothing comes; the others are still asked for
        return self._next(now)

    def _unanswered(self, now: float) -> list[Command]:
        """The router is silent, or what it says is of no use."""
        exchange, self._exchange = self._exchange, None
        self.counts["no_answer"] += 1
        if self.state in (State.CLOSING, State.NOT_OFFERED):  # nothing more can be given back
            self._queue.clear()
            return self._drained(now)
        if self.state is State.MAPPED:  # has it restarted, as another perhaps?
            return self._begin(0, now)
        if exchange is not None and self._leases.has_any_of(self._round):
            self._queue.clear()  # part of the ports is better than none
            return self._drained(now)
        return self._next_protocol(now)

    # Ends

    def _next_protocol(self, now: float) -> list[Command]:
        following = PROTOCOLS.index(self._protocol) + 1
        if following < len(PROTOCOLS):
            return self._begin(following, now)
        return self._give_up("the router opens no ports (no PCP, NAT-PMP or UPnP)", now)

    def _give_up(self, reason: str, now: float, back: Iterable[Request] = ()) -> list[Command]:
        """Nothing is mapped now; `back` is given back. Later we ask again."""
        self._queue = deque(back)
        if self._leases:
            self._retry = self._config.retry_first
            self._leases.clear()
        self.state, self.reason = State.NOT_OFFERED, reason
        self._wakeup = now + self._retry * (1 + self._config.jitter * self._rng.random())
        self._retry = min(2 * self._retry, self._config.retry_interval)
        return self._next(now)

    def _drained(self, now: float) -> list[Command]:
        """Nothing is left to ask for the moment."""
        match self.state:
            case State.ASKING:
                self._leases.keep(self._round)
                if not self._leases:
                    return self._next_protocol(now)
                self.state, self.reason = State.MAPPED, ""
                self._retry = self._config.retry_first
                self._wakeup = self._later(now)
            case State.MAPPED if not self._leases:
                return self._begin(0, now)
            case State.CLOSING:
                self.state = State.CLOSED
                self._leases.clear()
                return [Finished()]
            case _:
                pass
        return []

    def _close(self, now: float) -> list[Command]:
        """Also what is being asked for at this moment may come to be, and is given back."""
        back: list[Request] = [*self._leases.requests_to_give_back]
        asked = self._exchange.request if self._exchange is not None else None
        if isinstance(asked, MapPort) and asked.port not in self._leases:
            back.append(UnmapPort(asked.port, asked.external_port))
        self.state, self.reason, self._wakeup = State.CLOSING, "", None
        self._queue = deque(back)
        return self._next(now)


def _why_useless(ip: str | None) -> str:
    """Why nobody in the world reaches us at the router's address outside; empty when it might do."""
    try:
        scope = scope_of_ip(ip or "")
    except ParseError:
        return "the router has no address outside"
    return "" if scope is Scope.PUBLIC else f"the router is itself behind a NAT: its address is {ip}"
