"""Relays for others: serves `hop`, asks destinations over `stop`, and carries the bytes between the two.

    source ──hop: CONNECT──► us ──stop: CONNECT──► destination
           ◄──── OK ───────     ◄────── OK ───────
           ◄═══════════ bytes, counted ═══════════►

All decisions are those of `wws.relay.server`. The task that serves a hop stream is the circuit's: when it
ends, for whatever reason, both streams are over and the circuit's place is free.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import unwrap
from wws.errors import ParseError, WwsError
from wws.identity.peer_id import PeerId
from wws.machine import Command, Event
from wws.mesh.reach import reaches
from wws.relay.budget import ALERTS, DAY
from wws.relay.messages import (
    HOP_PROTOCOL,
    MAX_ADDRESSES,
    MAX_MESSAGE,
    STOP_PROTOCOL,
    ForeignPeerId,
    HopMessage,
    HopType,
    Reservation,
    Status,
    StopMessage,
    StopType,
)
from wws.relay.server import (
    SHARE_USED,
    Accepted,
    Alert,
    Asker,
    Bridge,
    CircuitEnded,
    ConnectAsked,
    Declined,
    Drained,
    End,
    Grant,
    LetGo,
    OpenStop,
    PeerGone,
    Refuse,
    RelayConfig,
    Relayed,
    RelayMachine,
    ReserveAsked,
    Switched,
    TimerFired,
)
from wws.relay.voucher import make_voucher
from wws.runtime.connection import Connection
from wws.runtime.host import Host
from wws.runtime.relay.budget import BudgetKeeper, tell
from wws.runtime.relay.splice import splice
from wws.runtime.state_files import StateFile
from wws.runtime.streams import Stream
from wws.transport.multistream import ProtocolNotSupported

_PROTECTED = "relayed"
_MOST_TOLD = 256
"""Prefixes a day that the operator is told of."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RelayServerConfig:
    relay: RelayConfig = field(default_factory=RelayConfig)
    request_timeout: float = 10.0
    """Seconds until a hop stream must have asked for something, identify included, and taken its answer."""
    stop_timeout: float = 6.0
    """Seconds that a destination gets to accept a circuit."""
    save_interval: float = 60.0
    """Seconds between two savings of the bytes carried today, when there are new ones."""


class RelayServer:
    """The relay of one node. Made switched off; `enable` after the host listens or before, as you like."""

    def __init__(
        self,
        host: Host,
        announced: Callable[[], tuple[Multiaddr, ...]],
        config: RelayServerConfig,
        network: str | None = None,
        state: StateFile | None = None,
    ) -> None:
        """`announced` gives the node's addresses for reservations; `state` keeps the budget over restarts.

        `network` is our `/wws/net/…` protocol: its peers are served, and those that name none; without one
        everybody is.
        """
        self._host = host
        self._announced = announced
        self._config = config
        self._network = network
        self._keeper: BudgetKeeper | None = None
        self._machine = RelayMachine(config.relay)
        if state is not None:
            interval = config.save_interval
            self._keeper = BudgetKeeper(self._machine.budget, state, host.clock, interval=interval)
        self._reserved_over: dict[PeerId, Connection] = {}
        """Where each holder of a slot has asked for it last: another connection of it may be dead by now."""
        self._streams: dict[int, list[Stream]] = {}
        """What is reset when a circuit has to end: while it is being opened, not the stream that will be told
        why it was not."""
        self._told: set[str] = set()
        self._told_on = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self.relayed_bytes: Counter[str] = Counter()
        """Bytes carried since the start, by direction: `to_destination`, `to_source`."""
        self.ended: Counter[str] = Counter()
        """Circuits that were open and have ended, by reason: `done`, `reset`, `circuit_bytes`,
        `circuit_time`, `daily_budget`, `daily_budget_prefix`, `switched_off`."""
        self.served: Counter[str] = Counter()
        """Requests that were granted since the start: `reservation`, `circuit`."""
        host.listeners.connection_closed.append(self._connection_closed)

    # What status and metrics show

    @property
    def is_on(self) -> bool:
        return self._machine.is_on

    @property
    def is_draining(self) -> bool:
        return self._machine.is_draining

    @property
    def reservations(self) -> int:
        """Slots held now."""
        return len(self._machine.reservations)

    @property
    def circuits(self) -> int:
        """Circuits now, those included that are just being opened or ended."""
        return len(self._machine.circuits)

    @property
    def bytes_today(self) -> int:
        return self._machine.budget.used(self._host.clock.unix())

    @property
    def budget(self) -> int:
        """Bytes that may be carried in a day; 0: no bound."""
        return self._machine.budget.limit

    @property
    def seconds_to_reset(self) -> int:
        """Seconds until the count of the day begins anew."""
        return self._machine.budget.seconds_to_reset(self._host.clock.unix())

    # Life

    async def start(self) -> None:
        """Read what was carried today before a restart, and begin to save it."""
        if self._keeper is not None:
            await self._keeper.start()

    def enable(self, on: bool) -> bool:
        """Serve as a relay, or stop: then every slot and circuit ends. Whether this changed what identify has
        to say."""
        if on == self._machine.is_on:
            return False
        if on:
            self._host.serve(HOP_PROTOCOL, self._serve)
            self._host.handlers.tell(HOP_PROTOCOL, True)
        else:
            self._host.stop_serving(HOP_PROTOCOL)
        self._feed(Switched(on))
        return True

    def drain(self, on: bool) -> bool:
        """Give no slots and refresh none, as who is about to stop; or be a relay again. Whether this changed
        what identify has to say: those who hold a slot here are to be told, and find another relay."""
        if on == self._machine.is_draining or not self.is_on:
            return False
        self._host.handlers.tell(HOP_PROTOCOL, not on)
        self._feed(Drained(on))
        return True

    def is_holder(self, connection: Connection) -> bool:
        """Whether the peer holds a slot here."""
        return connection.peer_id in self._machine.reservations

    @property
    def announced_by(self) -> int:
        """Peers with a slot that still tell others to come this way, by what they said of themselves last."""
        return sum(map(self._announces_us, self._machine.reservations))

    def _announces_us(self, peer: PeerId) -> bool:
        connection = self._host.connection_to(peer, direct=True)
        said = None if connection is None else connection.identification
        if said is None:
            return False
        addresses = said.record.addresses if said.record is not None else said.addresses or ()
        return any(address.relay_id == self._host.identity.peer_id for address in addresses)

    def reconfigure(self, config: RelayServerConfig) -> None:
        """Let other limits hold from now on."""
        self._config = config
        self._machine.reconfigure(config.relay)
        budget = self._machine.budget
        if (percent := budget.percent(self._host.clock.unix())) >= ALERTS[0]:
            tell(budget, percent)  # carrying more would not cross that mark any more

    async def close(self) -> None:
        """End every slot and circuit, and save."""
        self.enable(False)
        if self._timer is not None:
            self._timer.cancel()
        if self._keeper is not None:
            await self._keeper.close()

    # Requests

    async def _serve(self, stream: Stream) -> None:
        async with asyncio.timeout(self._config.request_timeout):
            data = await stream.read_frame(MAX_MESSAGE)
            if data is None:
                return
            await stream.connection.wait_identified()
        try:
            request = HopMessage.parse(data)
        except ForeignPeerId as error:
            await self._refuse(stream, Refuse(Status.NO_RESERVATION, error.code))
            return
        except ParseError as error:
            await self._refuse(stream, Refuse(Status.MALFORMED_MESSAGE, error.code))
            return
        asker = self._asker(stream.connection)
        if not stream.connection.is_established:
            return  # it left while we waited: nobody would free a slot that it was given now
        if asker is None:
            await self._refuse(stream, Refuse(Status.PERMISSION_DENIED, "not_identified"))
        elif request.type is HopType.RESERVE:
            await self._reserve(stream, asker)
        elif request.type is HopType.STATUS:
            await self._refuse(stream, Refuse(Status.UNEXPECTED_MESSAGE, "unexpected_message"))
        elif request.peer is None:
            await self._refuse(stream, Refuse(Status.MALFORMED_MESSAGE, "no_peer"))
        else:
            await self._connect(stream, asker, request.peer)

    async def _reserve(self, stream: Stream, asker: Asker) -> None:
        connection, peer = stream.connection, asker.peer
        match self._feed(ReserveAsked(asker)):
            case [Grant(expires_at=expires_at, limit=limit)]:
                self.served["reservation"] += 1
                # Only as many as leave others room: slots must not be a way to fill all connections for good.
                if self.reservations <= self._host.config.table.high_water // 2:
                    self._host.table.protect(peer, _PROTECTED)
                self._reserved_over[peer] = connection
                voucher = make_voucher(self._host.identity, peer, expires_at)
                reservation = Reservation(expires_at, self._addresses(connection), voucher)
                await self._answer(
                    stream,
                    HopMessage(HopType.STATUS, reservation=reservation, limit=limit, status=Status.OK),
                )
            case [Refuse() as refusal]:
                await self._refuse(stream, refusal)

    async def _connect(self, hop: Stream, asker: Asker, destination: PeerId) -> None:
        match self._feed(ConnectAsked(asker, destination)):
            case [OpenStop(circuit=circuit) as opening]:
                self._streams[circuit] = []
                try:
                    await self._run_circuit(hop, opening)
                finally:
                    for stream in self._streams.pop(circuit):
                        stream.reset()  # does nothing where it ended in good order
                    self._feed(CircuitEnded(circuit))
            case [Refuse() as refusal]:
                if refusal.reason == SHARE_USED and asker.prefix is not None:
                    self._tell_share(asker.prefix)
                await self._refuse(hop, refusal)

    async def _run_circuit(self, hop: Stream, opening: OpenStop) -> None:
        circuit = opening.circuit
        match self._feed(await self._ask_destination(hop, opening)):
            case [Refuse() as refusal]:
                await self._refuse(hop, refusal)
            case [Bridge(limit=limit)]:
                self.served["circuit"] += 1
                self._streams[circuit].append(hop)
                outcome = "reset"
                try:
                    answer = HopMessage(HopType.STATUS, limit=limit, status=Status.OK)
                    async with asyncio.timeout(self._config.request_timeout):
                        await hop.write_frame(answer.encode())
                    if await self._splice(circuit):
                        outcome = "done"
                finally:
                    self.ended[self._machine.circuits[circuit].reason or outcome] += 1

    async def _splice(self, circuit: int) -> bool:
        """Carry the bytes of a circuit until it ends; whether it did so in good order."""
        stop, hop = self._streams[circuit]
        clock, machine, directions = self._host.clock, self._machine, ("to_source", "to_destination")

        def passes(count: int, to_destination: bool) -> bool:
            commands = machine.handle(
                Relayed(circuit, count, to_destination), clock.monotonic(), clock.unix()
            )
            if commands:
                self._carry_out(commands)
                if machine.circuits[circuit].reason:
                    return False
            self.relayed_bytes[directions[to_destination]] += count
            return True

        return await splice(hop, stop, passes)

    async def _ask_destination(self, hop: Stream, opening: OpenStop) -> Accepted | Declined:
        circuit = opening.circuit
        connection = self._reserved_over.get(opening.destination)
        if connection is None or not connection.is_established or connection.is_leaving:
            connection = self._host.connection_to(opening.destination, direct=True)
        if connection is None:
            return Declined(circuit, "destination_leaving")
        if not self._reaches_as_far_as_the_mesh(connection):  # it did when it asked for its slot
            return Declined(circuit, "destination_below_scope", Status.PERMISSION_DENIED)
        ask = StopMessage(StopType.CONNECT, peer=hop.connection.peer_id, limit=opening.limit)
        try:
            async with asyncio.timeout(self._config.stop_timeout):
                stop = connection.open_stream(STOP_PROTOCOL)
                self._streams[circuit].append(stop)
                await stop.write_frame(ask.encode())
                data = await stop.read_frame(MAX_MESSAGE)
                answer = None if data is None else StopMessage.parse(data)
        except TimeoutError:
            return Declined(circuit, "stop_timeout")
        except ProtocolNotSupported:
            return Declined(circuit, "stop_not_supported")
        except ParseError:
            return Declined(circuit, "stop_malformed")
        except WwsError:
            return Declined(circuit, "stop_failed")
        if answer is None or answer.type is not StopType.STATUS:
            return Declined(circuit, "stop_malformed")
        if answer.status is not Status.OK:
            return Declined(circuit, "stop_refused", answer.status)
        return Accepted(circuit)

    async def _refuse(self, stream: Stream, refusal: Refuse) -> None:
        self._host.count_refusal(HOP_PROTOCOL, refusal.reason)
        await self._answer(stream, HopMessage(HopType.STATUS, status=refusal.status))

    def _tell_share(self, prefix: str) -> None:
        """Warn the operator, once a day for each, that the peers of one prefix are turned away."""
        day = self._host.clock.unix() // DAY
        if day != self._told_on:
            self._told_on = day
            self._told.clear()
        if prefix not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(prefix)
            _logger.warning("%s has used its share of the relay's bytes for today", prefix)

    async def _answer(self, stream: Stream, answer: HopMessage) -> None:
        """The last word on a stream. Who does not take it, or not end its side, is not waited for long."""
        try:
            async with asyncio.timeout(self._config.request_timeout):
                await stream.write_frame(answer.encode())
                stream.close_write()
                await stream.read_to_end(MAX_MESSAGE)
        except (WwsError, TimeoutError):
            stream.reset()

    def _asker(self, connection: Connection) -> Asker | None:
        """Who is at the other end; `None` when it does not say which network it belongs to."""
        said = connection.identification
        if said is None:
            return None
        direct = not connection.is_limited
        return Asker(
            connection.peer_id,
            str(unwrap(connection.remote_ip)) if direct else "",
            self._host.admission.limited_prefix(connection.remote_ip) if direct else None,
            is_direct=direct,
            is_of_network=not self._network or said.network in (None, self._network),
            is_in_scope=self._reaches_as_far_as_the_mesh(connection),
        )

    def _reaches_as_far_as_the_mesh(self, connection: Connection) -> bool:
        scope = self._host.scope
        return scope is None or (connection.scope is not None and connection.scope >= scope)

    def _addresses(self, connection: Connection) -> tuple[Multiaddr, ...]:
        """Where we are reached, for a reservation: what we announce in the scope of the mesh, or else where
        this peer has found us. rust refuses a reservation without an address."""
        scope, ourselves = self._host.scope, self._host.identity.peer_id
        known = [one for one in self._announced() if not one.is_circuit and reaches(one, scope)]
        if not known and not connection.outbound and reaches(connection.local_address, scope):
            known = [connection.local_address]
        return tuple(dict.fromkeys(one.with_peer(ourselves) for one in known))[:MAX_ADDRESSES]

    # The machine

    def _connection_closed(self, connection: Connection) -> None:
        peer = connection.peer_id
        if peer in self._machine.reservations and self._host.connection_to(peer, direct=True) is None:
            self._feed(PeerGone(peer))

    def _feed(self, event: Event) -> list[Command]:
        """Hand the machine an event, and carry out all but the answer, which is the caller's."""
        now = self._host.clock.monotonic()
        commands = self._machine.handle(event, now, self._host.clock.unix())
        self._reschedule(now)
        return self._carry_out(commands)

    def _carry_out(self, commands: list[Command]) -> list[Command]:
        """Do what can be done at once; what is left is an answer."""
        answers: list[Command] = []
        for command in commands:
            match command:
                case End(circuit=circuit):
                    for stream in self._streams.get(circuit, ()):
                        stream.reset()
                case LetGo(peer=peer):
                    self._host.table.unprotect(peer, _PROTECTED)
                    self._reserved_over.pop(peer, None)
                case Alert(percent=percent):
                    tell(self._machine.budget, percent)
                case _:
                    answers.append(command)
        return answers

    def _reschedule(self, now: float) -> None:
        wakeup = self._machine.next_wakeup()
        if wakeup == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = wakeup
        if wakeup is not None:
            delay = max(0.0, wakeup - now)
            self._timer = asyncio.get_running_loop().call_later(delay, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer_at = None
        self._feed(TimerFired())
