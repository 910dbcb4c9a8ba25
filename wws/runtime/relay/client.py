"""Holds reservations at relays while they are wanted: drives `wws.relay.selection` over a host's connections.

    identified peers that relay ─► CandidateSeen ─► machine ─► Reserve ─► hop stream ─► Reserved …
    pongs ─► Answered                                 ├─► Probe ─► ping; ReservationsChanged ─► on_change
    those that relay no more ─► CandidateLeaving      └─► SeekCandidates ─► dials to further entry points
    closed connections ─► CandidateLost

Nothing that a relay says is believed before it was checked: the voucher has to be this relay's and ours, the
addresses its own and of use in this mesh.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import public_prefix_of_ip
from wws.errors import ParseError, WwsError
from wws.identity.peer_id import PeerId
from wws.machine import Command, Event
from wws.mesh.reach import reaches
from wws.relay import messages
from wws.relay.messages import HOP_PROTOCOL, MAX_MESSAGE, HopMessage, HopType, Status
from wws.relay.selection import RelaySelection, SelectionConfig, State
from wws.relay.selection_events import (
    Answered,
    CandidateLeaving,
    CandidateLost,
    CandidateSeen,
    Failure,
    LetGo,
    Probe,
    Protect,
    Reservation,
    ReservationsChanged,
    Reserve,
    Reserved,
    ReserveFailed,
    SeekCandidates,
    SetWanted,
    Suspect,
    TimerFired,
)
from wws.relay.voucher import check_voucher
from wws.runtime.connection import Connection
from wws.runtime.dialer import Dialer
from wws.runtime.host import Host
from wws.runtime.streams import Stream

_PROTECTED = "relay"

_FAILURES = {
    Status.RESERVATION_REFUSED: Failure.REFUSED,
    Status.RESOURCE_LIMIT_EXCEEDED: Failure.RESOURCE_LIMIT,
    Status.PERMISSION_DENIED: Failure.PERMISSION_DENIED,
}


@dataclass(frozen=True, slots=True)
class RelayClientConfig:
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    request_timeout: float = 5.0
    """Seconds that a relay has to answer RESERVE."""
    max_addresses: int = 4
    """Addresses of one relay that we announce; further ones are left out."""
    max_dials: int = 2
    """Entry points that are dialled at once when relays are lacking."""


class RelayClient:
    """The reservations of one node. Wants none until it is told to."""

    def __init__(
        self,
        host: Host,
        dialer: Dialer,
        config: RelayClientConfig,
        rng: random.Random,
        *,
        network: str | None = None,
    ) -> None:
        """`network` is the `/wws/net/…` protocol of ours; without one anybody may be a relay."""
        self._host = host
        self._dialer = dialer
        self._config = config
        self._rng = rng
        self._network = network
        self._machine = RelaySelection(config.selection, rng)
        self._requests: dict[PeerId, asyncio.Task[None]] = {}
        self._dials: dict[PeerId, asyncio.Task[None]] = {}
        self._held: frozenset[PeerId] = frozenset()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.on_change: list[Callable[[], None]] = []
        """Called when `reservations` names other relays or addresses."""
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """What came of requests: by `reserve` or `renew`, and `done` or the reason; and `relay`, `lost`, or
        `left` when it had said so before."""
        host.listeners.peer_identified.append(self._consider)
        host.listeners.connection_closed.append(self._connection_closed)
        host.listeners.pong.append(self._pong)

    @property
    def machine(self) -> RelaySelection:
        return self._machine

    @property
    def wanted(self) -> bool:
        return self._machine.wanted

    @property
    def reservations(self) -> tuple[Reservation, ...]:
        """What is held now."""
        return self._machine.reservations

    def holds_reservation_at(self, relay: PeerId) -> bool:
        """Whether this relay may send circuits to us."""
        return self._machine.holds_reservation_at(relay)

    def set_wanted(self, wanted: bool) -> None:
        """Get reservations and keep them, or let them go after a while."""
        if wanted != self._machine.wanted:
            self._feed(SetWanted(wanted))

    def reconsider(self) -> None:
        """Look at every peer again: the entry points have changed."""
        for connection in self._host.connections():
            self._consider(connection)

    async def close(self) -> None:
        """End every request; the reservations lapse with their connections."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        tasks = [*self._requests.values(), *self._dials.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Candidates

    def _consider(self, connection: Connection) -> None:
        if connection.is_limited or connection.identification is None:
            return
        if not self._is_ours(connection):
            self._lose(connection.peer_id)
            return
        if HOP_PROTOCOL not in (connection.identification.protocols or ()):
            if self._machine.state_of(connection.peer_id) is not None:
                self._feed(CandidateLeaving(connection.peer_id))
            return
        round_trip = connection.machine.round_trip
        peer = connection.peer_id
        self._feed(CandidateSeen(peer, _prefix(connection), peer in self._host.entry_points, round_trip))
        if round_trip is None:
            connection.ping()

    def _is_ours(self, connection: Connection) -> bool:
        """Whether we would have this peer as our relay."""
        said = connection.identification
        if said is None:
            return False
        if self._network is None or said.network == self._network:
            return True
        return said.network is None and connection.peer_id in self._host.entry_points

    def _connection_closed(self, connection: Connection) -> None:
        peer = connection.peer_id
        if not connection.is_limited and self._host.connection_to(peer, direct=True) is None:
            self._lose(peer)

    def _lose(self, peer: PeerId) -> None:
        if self._machine.state_of(peer) is not None:
            self._feed(CandidateLost(peer))

    def _pong(self, connection: Connection) -> None:
        if not connection.is_limited and self._machine.state_of(connection.peer_id) is not None:
            self._feed(Answered(connection.peer_id, connection.machine.round_trip))

    # The machine

    def _feed(self, event: Event) -> None:
        if self._closed:
            return
        for relay in self._machine.holders:
            if (connection := self._host.connection_to(relay, direct=True)) is not None:
                self._machine.heard(relay, connection.machine.heard_at)
        commands = self._machine.handle(event, self._host.clock.monotonic(), self._host.clock.unix())
        for command in commands:
            self._carry_out(command)
        self._reschedule()

    def _carry_out(self, command: Command) -> None:
        match command:
            case Reserve(relay=relay):
                self._requests[relay] = self._host.spawn(self._reserve(command), "reserve")
            case Probe(relay=relay):
                if (connection := self._host.connection_to(relay, direct=True)) is not None:
                    self._host.probe(connection)
            case Suspect(relay=relay):
                self._suspect(relay)
            case Protect(relay=relay):
                self._host.table.protect(relay, _PROTECTED)
            case LetGo(relay=relay):
                self._host.table.unprotect(relay, _PROTECTED)
                if (request := self._requests.pop(relay, None)) is not None:
                    request.cancel()
            case SeekCandidates():
                self._seek()
            case ReservationsChanged():
                held = frozenset(reservation.relay for reservation in self.reservations)
                for relay in self._held - held:
                    left = self._machine.state_of(relay) is State.LEAVING
                    self.outcomes["relay", "left" if left else "lost"] += 1
                self._held = held
                for listener in self.on_change:
                    listener()
            case _:
                raise AssertionError(f"unknown command {command}")

    def _suspect(self, relay: PeerId) -> None:
        """What is under way may go on, should the relay only be slow. Whoever wants something new of it dials
        it, and does not wait for the time-outs of a connection that leads nowhere any more."""
        if (connection := self._host.connection_to(relay, direct=True)) is not None:
            self._host.table.retire(connection.connection_id)
            connection.is_leaving = True
            if not connection.streams:
                connection.close("the relay does not answer")

    def _reschedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wakeup = self._machine.next_wakeup()
        if wakeup is not None and not self._closed:
            delay = max(0.0, wakeup - self._host.clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._feed, TimerFired())

    # Asking for a slot

    async def _reserve(self, request: Reserve) -> None:
        relay = request.relay
        kind = "renew" if self._machine.holds_reservation_at(relay) else "reserve"
        try:
            async with asyncio.timeout(self._config.request_timeout):
                result = await self._ask(request)
        except TimeoutError:
            result = ReserveFailed(relay, request.attempt, Failure.TIMEOUT)
        except ParseError:
            result = ReserveFailed(relay, request.attempt, Failure.MALFORMED)
        except WwsError:
            result = ReserveFailed(relay, request.attempt, Failure.CONNECTION)
        if self._requests.get(relay) is asyncio.current_task():
            del self._requests[relay]
        self.outcomes[kind, result.reason if isinstance(result, ReserveFailed) else "done"] += 1
        self._feed(result)

    async def _ask(self, request: Reserve) -> Reserved | ReserveFailed:
        connection = self._host.connection_to(request.relay, direct=True)
        if connection is None:
            return ReserveFailed(request.relay, request.attempt, Failure.CONNECTION)
        stream = connection.open_stream(HOP_PROTOCOL)
        try:
            await stream.write_frame(HopMessage(HopType.RESERVE).encode())
            data = await stream.read_frame(MAX_MESSAGE)
            result = self._judge(request, connection, data)
        except BaseException:
            stream.reset()
            raise
        self._host.spawn(self._finish(stream), "reserve")  # in good order, but nobody waits for that
        return result

    async def _finish(self, stream: Stream) -> None:
        try:
            async with asyncio.timeout(self._config.request_timeout):
                await stream.finish()
        except TimeoutError:
            pass  # reset below
        finally:
            stream.reset()

    def _judge(
        self, request: Reserve, connection: Connection, data: bytes | None
    ) -> Reserved | ReserveFailed:
        """What the relay's answer is worth. Raises `ParseError`."""
        relay, attempt = request.relay, request.attempt
        if data is None:
            return ReserveFailed(relay, attempt, Failure.CONNECTION)
        answer = HopMessage.parse(data)
        if answer.type is not HopType.STATUS:
            return ReserveFailed(relay, attempt, Failure.MALFORMED)
        if answer.status is not Status.OK:
            return ReserveFailed(relay, attempt, _FAILURES.get(answer.status, Failure.REFUSED))
        if answer.reservation is None:
            return ReserveFailed(relay, attempt, Failure.MALFORMED)
        voucher = answer.reservation.voucher
        if voucher is not None:  # rust sends none
            try:
                check_voucher(
                    voucher,
                    relay=relay,
                    peer=self._host.identity.peer_id,
                    unix_now=self._host.clock.unix(),
                )
            except ParseError:
                return ReserveFailed(relay, attempt, Failure.VOUCHER)
        addresses = self._circuit_addresses(connection, answer.reservation)
        if not addresses:
            return ReserveFailed(relay, attempt, Failure.NO_ADDRESS)
        return Reserved(relay, attempt, answer.reservation.expire, addresses)

    def _circuit_addresses(
        self, connection: Connection, reservation: messages.Reservation
    ) -> tuple[Multiaddr, ...]:
        """Where others reach us through the relay: at the addresses it gave, else where we reached it."""
        relay = connection.peer_id
        given = [address for address in reservation.addresses if self._is_useful(address, relay)]
        if not given and connection.outbound:
            given = [address for address in (connection.remote_address,) if self._is_useful(address, relay)]
        unique = dict.fromkeys(address.with_peer(relay).circuit() for address in given)
        return tuple(unique)[: self._config.max_addresses]

    def _is_useful(self, address: Multiaddr, relay: PeerId) -> bool:
        return (
            not address.is_circuit
            and address.transport is not None
            and address.peer_id in (None, relay)
            and reaches(address, self._host.scope)
        )

    # Seeking

    def _seek(self) -> None:
        """Connect to entry points that are not connected, a few at a time."""
        missing = [
            peer
            for peer in self._host.entry_points
            if peer not in self._dials
            and peer != self._host.identity.peer_id
            and self._host.connection_to(peer, direct=True) is None
            and self._host.peers.addresses(peer)
        ]
        missing.sort(key=str)  # a set has no order of its own, and the dice are to be the only ones
        self._rng.shuffle(missing)
        for peer in missing[: max(0, self._config.max_dials - len(self._dials))]:
            self._dials[peer] = self._host.spawn(self._dial(peer), "dial relay")

    async def _dial(self, peer: PeerId) -> None:
        try:
            await self._dialer.connect(peer, direct=True)
        except WwsError:
            pass  # the machine asks again
        finally:
            del self._dials[peer]


def _prefix(connection: Connection) -> str | None:
    """The prefix that makes two relays neighbours; `None` below public scope, where it says nothing."""
    try:
        ip = connection.remote_ip
        return public_prefix_of_ip(ip)
    except ParseError:
        return None
