"""Hole punching at work: from a connection through a relay to a direct one (libp2p "DCUtR").

    circuit established ──► a machine for the peer: Initiator if we accepted it, Receiver if we dialled it
    identify, streams of /libp2p/dcutr, direct connections, timers ──► machine ──► dials, datagrams, streams

The protocol is served from the making of the `HolePuncher` on, so that it is there before the first circuit
can arrive. A direct connection that comes about takes over by itself: the host opens new streams on it, and
closes the circuit once that carries none.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

from wws.errors import ParseError, WwsError
from wws.identity.peer_id import PeerId
from wws.machine import Command, Event
from wws.nat.dcutr import MAX_FRAME, PROTOCOL, HolePunch, Type
from wws.nat.punch_budget import PunchBudget, PunchBudgetConfig
from wws.nat.punch_events import (
    AddressesChanged,
    CircuitClosed,
    CircuitOpened,
    CloseExchange,
    CountRefusal,
    DialDirect,
    DialEnded,
    DirectEstablished,
    DirectLost,
    ExchangeFailed,
    ExchangeOpened,
    Identified,
    MessageReceived,
    Punch,
    Report,
    SendConnect,
    SendDatagram,
    SendSync,
    Stop,
    TimerFired,
    Yielded,
)
from wws.nat.punch_initiator import Initiator
from wws.nat.punch_receiver import Receiver
from wws.nat.punching import HolePunchConfig, Role, State
from wws.runtime.connection import Connection
from wws.runtime.dialer import Dialer
from wws.runtime.host import Host
from wws.runtime.nat.punch_dials import PunchDials, PunchDialsConfig
from wws.runtime.nat.punch_place import ObservedView, OwnPlace
from wws.runtime.streams import Stream
from wws.transport.multistream import ProtocolNotSupported


@dataclass(frozen=True, slots=True)
class HolePuncherConfig:
    enabled: bool = True
    """`enable_dcutr`."""
    relay_only: bool = False
    """Whether the user does not want our addresses shown: then nothing is offered, asked or punched."""
    punch: HolePunchConfig = field(default_factory=HolePunchConfig)
    budget: PunchBudgetConfig = field(default_factory=PunchBudgetConfig)
    stream_timeout: float = 30.0
    """Seconds that a stream may be silent, the time between two attempts included."""
    dials: PunchDialsConfig = field(default_factory=PunchDialsConfig)


class HolePuncher:
    """Punches on its own for every circuit, and can say why there is no direct connection."""

    def __init__(
        self,
        host: Host,
        dialer: Dialer,
        reachability: ObservedView,
        config: HolePuncherConfig,
        rng: random.Random,
    ) -> None:
        self._host = host
        self._dialer = dialer
        self._reachability = reachability
        self._config = config
        self._rng = rng
        self.outcomes: Counter[tuple[str, str, str]] = Counter()
        """What came of punches: role (`initiator`, `receiver`), transport or empty, and a value of
        `wws.nat.punch_events.Result`; what came through at once is `first_attempt`."""
        self._budget = PunchBudget(config.budget, host.clock.monotonic())
        self._sides: dict[tuple[PeerId, Role], _Side] = {}
        self._circuits: dict[tuple[PeerId, Role], dict[int, Connection]] = {}
        self._waiters: dict[PeerId, list[asyncio.Future[None]]] = {}
        self._place = OwnPlace(host, reachability)
        self._closing = False
        if self.is_active:
            host.serve(PROTOCOL, self._answer)
            host.listeners.connection_established.append(self._established)
            host.listeners.connection_closed.append(self._closed)
            host.listeners.peer_identified.append(self._identified)
            reachability.on_change.append(self._addresses_changed)

    @property
    def is_active(self) -> bool:
        """Whether this node punches at all."""
        return self._config.enabled and not self._config.relay_only

    @property
    def under_way(self) -> int:
        """Punches under way."""
        return self._budget.under_way

    def why_not_direct(self, peer: PeerId) -> str | None:
        """Why there is no direct connection with a peer, for people; `None` when there is one."""
        if self._host.connection_to(peer, direct=True) is not None:
            return None
        if not self._config.enabled:
            return "hole punching is off (enable_dcutr)"
        if self._config.relay_only:
            return "relay-only: this node does not show its addresses"
        sides = self._sides_of(peer)
        if not sides:
            return "there is no connection through a relay that could be made direct"
        if busy := [side.machine for side in sides if not side.machine.is_settled]:
            return busy[0].progress
        if not any(self._speaks(peer)):
            return "the peer does not speak /libp2p/dcutr"
        return next(
            (side.machine.reason for side in sides if side.machine.reason), "hole punching is going on"
        )

    async def wait_settled(self, peer: PeerId, timeout: float) -> None:
        """Wait until a punch that is under way or about to begin has ended, at most for `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while not self._is_settled(peer):
                    waiter = asyncio.get_running_loop().create_future()
                    waiters = self._waiters.setdefault(peer, [])
                    waiters.append(waiter)
                    try:
                        await waiter
                    finally:
                        waiters.remove(waiter)
                        if not waiters:
                            self._waiters.pop(peer, None)
        except TimeoutError:
            return

    async def close(self) -> None:
        """Stop everything; the protocol is not served any more."""
        self._closing = True
        self._host.stop_serving(PROTOCOL)
        for side in list(self._sides.values()):
            self._drop(side)

    # What the host tells us

    def _established(self, connection: Connection) -> None:
        peer = connection.peer_id
        if not connection.is_limited:
            for side in self._sides_of(peer):
                self._feed(side, DirectEstablished(connection.transport))
            return
        role = _role(connection)
        self._circuits.setdefault((peer, role), {})[connection.connection_id] = connection
        if self._host.connection_to(peer, direct=True) is None:
            self._watch(peer, role)

    def _closed(self, connection: Connection) -> None:
        peer = connection.peer_id
        if connection.is_limited:
            key = (peer, _role(connection))
            circuits = self._circuits.get(key, {})
            circuits.pop(connection.connection_id, None)
            if not circuits:
                self._circuits.pop(key, None)
                if (side := self._sides.get(key)) is not None:
                    self._drop(side)
        elif self._host.connection_to(peer, direct=True) is None:
            for side in self._sides_of(peer):
                self._feed(side, DirectLost())
            for role in Role:
                if (peer, role) in self._circuits:
                    self._watch(peer, role)

    def _identified(self, connection: Connection) -> None:
        if not connection.is_limited:
            return
        if (side := self._sides.get((connection.peer_id, _role(connection)))) is not None:
            self._tell_identity(side, connection)

    def _addresses_changed(self) -> None:
        """Something is new about our reachability; only what others are told of it counts here."""
        if not self._place.look_again():
            return
        for side in list(self._sides.values()):
            self._feed(side, AddressesChanged())

    # Streams

    async def _answer(self, stream: Stream) -> None:
        """A peer that accepted our circuit takes the initiative."""
        connection = stream.connection
        peer = connection.peer_id
        side = self._sides.get((peer, Role.RECEIVER))
        if not connection.is_limited or not connection.outbound or side is None:
            # Whoever may reach us directly needs no punch, and who dialled the circuit has to wait for us.
            self._host.count_refusal(PROTOCOL, "not_its_turn")
            stream.reset()
            return
        other = self._sides.get((peer, Role.INITIATOR))
        if other is not None and other.machine.is_at_work:
            # Each has dialled the other through a relay, and both took the initiative: one of them goes on.
            if self._host.identity.peer_id < peer:
                self._host.count_refusal(PROTOCOL, "already_punching")
                stream.reset()
                return
            self._feed(other, Yielded())
        exchange = side.new_exchange(stream)
        self._feed(side, ExchangeOpened(exchange))
        await self._read(side, exchange, stream)

    async def _ask(self, side: _Side, exchange: int, message: HolePunch) -> None:
        """Take the initiative: a stream for one attempt, its CONNECT first."""
        if side.machine.state is not State.CONNECTING:
            return  # given up before it began: the peer must not wait for the rest
        circuits = self._circuits.get((side.peer, side.role), {})
        circuit = next((one for one in reversed(circuits.values()) if not one.is_leaving), None)
        try:
            if circuit is None:
                raise WwsError("the circuit is about to end")
            stream = circuit.open_stream(PROTOCOL)
            side.streams[exchange] = stream
            await stream.write_frame(message.encode())
        except WwsError as error:
            self._exchange_failed(side, exchange, error)
            return
        await self._read(side, exchange, stream)

    async def _read(self, side: _Side, exchange: int, stream: Stream) -> None:
        """Hand what the peer says to the machine, until the stream ends."""
        try:
            while True:
                async with asyncio.timeout(self._config.stream_timeout):
                    data = await stream.read_frame(MAX_FRAME)
                if data is None:
                    break
                self._feed(side, MessageReceived(exchange, HolePunch.parse(data, side.peer)))
        except WwsError as error:
            if isinstance(error, ParseError):
                self._host.count_refusal(PROTOCOL, error.code)
            stream.reset()
            self._exchange_failed(side, exchange, error)
        except TimeoutError:
            stream.reset()
            self._exchange_failed(side, exchange, WwsError("the peer is silent"))
        else:
            stream.close_write()
            self._exchange_failed(side, exchange, WwsError("the peer closed the stream"))
        finally:
            if side.streams.get(exchange) is stream:
                del side.streams[exchange]

    async def _write(self, side: _Side, exchange: int, message: HolePunch) -> None:
        stream = side.streams.get(exchange)
        if stream is None:
            return
        try:
            await stream.write_frame(message.encode())
            if message.type is Type.SYNC:
                stream.close_write()
        except WwsError as error:
            self._exchange_failed(side, exchange, error)

    def _exchange_failed(self, side: _Side, exchange: int, error: WwsError) -> None:
        unsupported = isinstance(error, ProtocolNotSupported)
        self._feed(side, ExchangeFailed(exchange, str(error), unsupported))

    # The machines

    def _watch(self, peer: PeerId, role: Role) -> None:
        """Have a machine for the peer, and tell it what is known already."""
        if self._closing:
            return
        if (side := self._sides.get((peer, role))) is not None:
            self._feed(side, CircuitOpened())
            return
        kind = Initiator if role is Role.INITIATOR else Receiver
        now = self._host.clock.monotonic()
        machine = kind(peer, self._config.punch, self._budget, self._rng, now)
        side = _Side(peer, role, machine, PunchDials(self._host, self._dialer, peer, self._config.dials))
        self._sides[peer, role] = side
        self._reschedule(side)
        for circuit in self._circuits[peer, role].values():
            self._tell_identity(side, circuit)

    def _tell_identity(self, side: _Side, connection: Connection) -> None:
        said = connection.identification
        if said is not None:
            addresses = said.record.addresses if said.record is not None else said.addresses or ()
            self._feed(side, Identified(tuple(addresses), PROTOCOL in (said.protocols or ())))

    def _feed(self, side: _Side, event: Event) -> None:
        if self._sides.get((side.peer, side.role)) is not side:
            return
        for command in side.machine.handle(event, self._host.clock.monotonic(), self._place.here()):
            self._carry_out(side, command)
        self._reschedule(side)
        if self._is_settled(side.peer):
            for waiter in self._waiters.get(side.peer, ()):
                if not waiter.done():
                    waiter.set_result(None)

    def _carry_out(self, side: _Side, command: Command) -> None:
        match command:
            case SendConnect(exchange=exchange, message=message):
                if side.role is Role.INITIATOR:
                    side.exchange = exchange
                    self._host.spawn(self._ask(side, exchange, message), "hole punch exchange")
                else:
                    self._host.spawn(self._write(side, exchange, message), "hole punch exchange")
            case SendSync(exchange=exchange):
                self._host.spawn(self._write(side, exchange, HolePunch(Type.SYNC)), "hole punch exchange")
            case CloseExchange(exchange=exchange):
                if (stream := side.streams.pop(exchange, None)) is not None:
                    stream.reset()
            case DialDirect():
                failed = DialEnded(command.exchange)
                side.dials.dial(command, lambda: self._feed(side, failed))
            case Punch():
                side.dials.punch(command)
            case SendDatagram(target=target):
                if self._host.quic is None or not self._host.quic.punch(target):
                    self._host.count_refusal(PROTOCOL, "no_datagram_socket")
            case Stop():
                side.dials.stop()
            case CountRefusal(reason=reason):
                self._host.count_refusal(PROTOCOL, reason)
            case Report(result=result, transport=transport):
                self.outcomes[side.role.value, transport, result.value] += 1

    def _drop(self, side: _Side) -> None:
        """The last circuit is gone, or the node stops."""
        self._feed(side, CircuitClosed())
        if side.timer is not None:
            side.timer.cancel()
        for stream in list(side.streams.values()):
            stream.reset()
        self._sides.pop((side.peer, side.role), None)
        for waiter in self._waiters.get(side.peer, ()):
            if not waiter.done():
                waiter.set_result(None)

    def _reschedule(self, side: _Side) -> None:
        wakeup = side.machine.next_wakeup()
        if wakeup == side.timer_at:
            return
        if side.timer is not None:
            side.timer.cancel()
        side.timer_at = wakeup
        side.timer = None
        if wakeup is not None:
            delay = max(0.0, wakeup - self._host.clock.monotonic())
            side.timer = asyncio.get_running_loop().call_later(delay, self._fire, side)

    def _fire(self, side: _Side) -> None:
        side.timer = side.timer_at = None
        self._feed(side, TimerFired())

    def _is_settled(self, peer: PeerId) -> bool:
        return self._host.connection_to(peer, direct=True) is not None or all(
            side.machine.is_settled for side in self._sides_of(peer)
        )

    def _sides_of(self, peer: PeerId) -> list[_Side]:
        return [side for role in Role if (side := self._sides.get((peer, role))) is not None]

    def _speaks(self, peer: PeerId) -> list[bool]:
        """What each circuit's identify says; unknown counts as yes."""
        return [
            circuit.identification is None or PROTOCOL in (circuit.identification.protocols or ())
            for role in Role
            for circuit in self._circuits.get((peer, role), {}).values()
        ]


@dataclass(eq=False, slots=True)
class _Side:
    """One machine and what it has under way."""

    peer: PeerId
    role: Role
    machine: Initiator | Receiver
    dials: PunchDials
    exchange: int = 0
    streams: dict[int, Stream] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None
    timer_at: float | None = None

    def new_exchange(self, stream: Stream) -> int:
        self.exchange += 1
        self.streams[self.exchange] = stream
        return self.exchange


def _role(circuit: Connection) -> Role:
    return Role.RECEIVER if circuit.outbound else Role.INITIATOR
