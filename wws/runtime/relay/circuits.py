"""Connections through relays: opens circuits to others, and takes those that others open to us.

    alice ──hop: CONNECT bob──► relay ──stop: CONNECT from alice──► bob       both answers: STATUS OK, limit
    alice ◄════════ Noise, yamux, every protocol: the relay sees only ciphertext ════════► bob

Source: libp2p specifications, relay/circuit-v2.md, "Circuit Opening Flow". The relay's word on who is at the
other end counts for nothing: the handshake inside the circuit has to prove exactly that peer. A circuit is
taken only from a relay that holds a reservation of ours, for a relay without one has nobody to send.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from wws.addresses.multiaddr import Multiaddr
from wws.errors import ParseError, WwsError
from wws.identity.peer_id import PeerId
from wws.relay.messages import (
    HOP_PROTOCOL,
    MAX_MESSAGE,
    STOP_PROTOCOL,
    HopMessage,
    HopType,
    Limit,
    Status,
    StopMessage,
    StopType,
)
from wws.relay.watch import CircuitWatch, Close, GiveUp, Ping, Retire, WatchConfig
from wws.runtime.circuit import Circuit, CircuitUse
from wws.runtime.connection import Connection, ConnectionLost, HandshakeFailed
from wws.runtime.dialer import Dialer, TimedOut
from wws.runtime.host import Host
from wws.runtime.relay.circuit_transport import CircuitTransport
from wws.runtime.socket_connection import SocketConnection
from wws.runtime.streams import Stream


@dataclass(frozen=True, slots=True)
class CircuitsConfig:
    max_inbound: int = 128
    """Circuits that others may have open to us."""
    max_inbound_per_relay: int = 96
    """Of them through one relay."""
    max_inbound_per_source: int = 4
    """Of them from one peer, by the word of the relay."""
    max_outbound: int = 128
    """Circuits that we may have open to others, those being opened included."""
    relay_timeout: float = 5.0
    """Seconds for the connection to a relay."""
    request_timeout: float = 8.0
    """Seconds that a relay has to answer CONNECT: it asks the other peer before."""
    stop_timeout: float = 5.0
    """Seconds that a relay has to say what a stop stream is for."""
    watch: WatchConfig = field(default_factory=WatchConfig)


class RelayError(WwsError):
    """The way through the relay did not lead to the peer."""

    code = "relay_refused"


class RelayUnreachable(RelayError):
    """The relay that the address names cannot be reached."""

    code = "relay_unreachable"


class RelayNoReservation(RelayError):
    """The peer has no slot at this relay: its address is out of date."""

    code = "relay_no_reservation"


class RelayRefused(RelayError):
    """The relay opened no circuit: no room, not allowed, or the peer did not answer it."""

    code = "relay_refused"


class RelayAtLimit(RelayError):
    """A limit keeps further circuits from being opened, the relay's or our own. Try again later."""

    code = "relay_limit"


_REASONS = {
    Status.RESERVATION_REFUSED: "it refused",
    Status.PERMISSION_DENIED: "it says that we may not",
    Status.CONNECTION_FAILED: "the peer did not answer it",
    Status.MALFORMED_MESSAGE: "it did not understand us",
    Status.UNEXPECTED_MESSAGE: "it did not expect that",
}


class Circuits:
    """Both ends of circuits. Sets `dialer.dial_circuit` and serves the stop protocol from its making on."""

    def __init__(
        self,
        host: Host,
        dialer: Dialer,
        config: CircuitsConfig,
        *,
        accepts_from: Callable[[PeerId], bool] = lambda relay: False,
    ) -> None:
        """`accepts_from` says whether a relay holds a reservation of ours: no others may bring circuits."""
        self._host = host
        self._dialer = dialer
        self._config = config
        self._accepts_from = accepts_from
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """Circuits by direction (`in`, `out`) and what came of them: `done`, or the code of an error."""
        self._inbound: Counter[PeerId] = Counter()
        self._sources: Counter[PeerId] = Counter()
        self._outbound = 0
        self._relay_dials: dict[tuple[PeerId, Multiaddr], asyncio.Future[Connection]] = {}
        host.serve(STOP_PROTOCOL, self._serve_stop)
        dialer.dial_circuit = self.dial

    @property
    def inbound(self) -> int:
        """Circuits that others have open to us now."""
        return self._inbound.total()

    @property
    def outbound(self) -> int:
        """Circuits that we have open to others now."""
        return self._outbound

    def reconfigure(self, config: CircuitsConfig) -> None:
        """Let other bounds hold from now on; circuits that are open stay."""
        self._config = config

    # Out

    async def dial(self, peer: PeerId, target: Multiaddr) -> Connection:
        """A connection to `peer` through the relay that `target` names.

        Whether the relay's address makes sense in this mesh is the dialer's business. Raises `RelayError` and
        its kinds, and what the handshake with the peer ends with. Cancelled: nothing is left.
        """
        try:
            connection = await self._dial(peer, target)
        except WwsError as error:
            self.outcomes["out", error.code] += 1
            raise
        self.outcomes["out", "done"] += 1
        return connection

    async def _dial(self, peer: PeerId, target: Multiaddr) -> Connection:
        relay = target.relay_id
        if relay is None or relay in (peer, self._host.identity.peer_id):
            raise RelayRefused(f"{target.without_peer()} names no relay that could lead to {peer}")
        if self._outbound >= self._config.max_outbound:
            raise RelayAtLimit(f"{self._outbound} circuits are open already")
        self._outbound += 1
        runs = False
        try:
            stream, circuit = await self._ask_relay(peer, relay, target)
            connection = self._host.new_outbound(peer, circuit=circuit)
            work = self._host.spawn(self._carry(stream, connection, circuit), "circuit")
            work.add_done_callback(self._outbound_over)
            runs = True
            await self._established(connection)
            return connection
        finally:
            if not runs:
                self._outbound -= 1

    async def _ask_relay(self, peer: PeerId, relay: PeerId, target: Multiaddr) -> tuple[Stream, Circuit]:
        """A stream on which everything that follows goes to `peer` and back."""
        connection = await self._relay_connection(relay, target)
        stream: Stream | None = None
        try:
            async with asyncio.timeout(self._config.request_timeout):
                stream = connection.open_stream(HOP_PROTOCOL)
                await stream.write_frame(HopMessage(HopType.CONNECT, peer=peer).encode())
                data = await stream.read_frame(MAX_MESSAGE)
            if data is None:
                raise RelayRefused(f"the relay {relay} did not answer")
            answer = HopMessage.parse(data)
            if answer.type is not HopType.STATUS or answer.status is not Status.OK:
                raise _refusal(relay, peer, answer)
        except TimeoutError:
            _drop(stream)
            raise RelayUnreachable(
                f"the relay {relay} did not answer within {self._config.request_timeout:g} s"
            ) from None
        except RelayError:
            _drop(stream)
            raise
        except WwsError as error:
            _drop(stream)
            raise RelayUnreachable(f"the relay {relay} gave no usable answer: {error}") from error
        except BaseException:
            _drop(stream)
            raise
        return stream, self._circuit(connection, answer.limit)

    async def _relay_connection(self, relay: PeerId, target: Multiaddr) -> Connection:
        """A direct connection to the relay; attempts at one address of it that run at once are one."""
        if (connection := self._host.connection_to(relay, direct=True)) is not None:
            return connection
        address = target.relay
        assert address is not None, "the caller has checked that it is a circuit address"
        found = self._relay_dials.get((relay, address))
        if found is None:
            found = self._relay_dials[relay, address] = asyncio.get_running_loop().create_future()
            self._host.spawn(self._dial_relay(relay, address, found), "dial relay")
        try:
            return await asyncio.shield(found)
        except WwsError as error:
            raise RelayUnreachable(f"the relay is out of reach: {error}") from error

    async def _dial_relay(self, relay: PeerId, address: Multiaddr, found: asyncio.Future[Connection]) -> None:
        try:
            # Not `connect`: this runs inside of a dial, and both would wait for the same room.
            found.set_result(await self._dialer.connect_at(relay, address, self._config.relay_timeout))
        except WwsError as error:
            found.set_exception(error)
            found.exception()  # is known, should nobody be waiting any more
        finally:
            del self._relay_dials[relay, address]
            found.cancel()  # does nothing unless the host closes meanwhile

    async def _established(self, connection: SocketConnection) -> None:
        timeout = self._host.config.phase_timeout
        try:
            async with asyncio.timeout(timeout):
                await connection.established()
        except TimeoutError:
            error = TimedOut(f"the peer did not answer through the relay within {timeout:g} s")
            connection.abort(error)
            raise error from None
        except asyncio.CancelledError:
            connection.abort(HandshakeFailed("another attempt was faster"))
            raise

    def _outbound_over(self, task: asyncio.Task[None]) -> None:
        self._outbound -= 1

    # In

    async def _serve_stop(self, stream: Stream) -> None:
        relay = stream.connection
        async with asyncio.timeout(self._config.stop_timeout):
            data = await stream.read_frame(MAX_MESSAGE)
        try:
            request = None if data is None else StopMessage.parse(data)
        except ParseError:
            request = None
        if request is None or request.type is not StopType.CONNECT or request.peer is None:
            await self._refuse(stream, Status.MALFORMED_MESSAGE, "malformed")
            return
        source = request.peer
        refusal = self._why_not(relay, source)
        if refusal is not None:
            await self._refuse(stream, *refusal)
            return
        self._inbound[relay.peer_id] += 1
        self._sources[source] += 1
        try:
            async with asyncio.timeout(self._config.stop_timeout):
                await stream.write_frame(StopMessage(StopType.STATUS, status=Status.OK).encode())
            circuit = self._circuit(relay, request.limit)
            connection = self._host.new_inbound(source, circuit=circuit)
            connection.established().add_done_callback(self._count_inbound)
            await self._carry(stream, connection, circuit)
        finally:
            for counter, key in ((self._inbound, relay.peer_id), (self._sources, source)):
                counter[key] -= 1
                if not counter[key]:
                    del counter[key]

    def _count_inbound(self, established: asyncio.Future[None]) -> None:
        if not established.cancelled():
            error = established.exception()
            self.outcomes["in", error.code if isinstance(error, WwsError) else "done"] += 1

    def _why_not(self, relay: Connection, source: PeerId) -> tuple[Status, str] | None:
        config = self._config
        if relay.is_limited:
            return Status.PERMISSION_DENIED, "over_a_circuit"
        if not self._accepts_from(relay.peer_id):
            return Status.PERMISSION_DENIED, "no_reservation_there"
        if source in (relay.peer_id, self._host.identity.peer_id):
            return Status.MALFORMED_MESSAGE, "impossible_source"
        if self.inbound >= config.max_inbound:
            return Status.RESOURCE_LIMIT_EXCEEDED, "circuits_total"
        if self._inbound[relay.peer_id] >= config.max_inbound_per_relay:
            return Status.RESOURCE_LIMIT_EXCEEDED, "circuits_per_relay"
        if self._sources[source] >= config.max_inbound_per_source:
            return Status.RESOURCE_LIMIT_EXCEEDED, "circuits_per_source"
        return None

    async def _refuse(self, stream: Stream, status: Status, reason: str) -> None:
        self._host.count_refusal(STOP_PROTOCOL, reason)
        self.outcomes["in", reason] += 1
        async with asyncio.timeout(self._config.stop_timeout):
            await stream.write_frame(StopMessage(StopType.STATUS, status=status).encode())
            await stream.finish()

    # Both

    def _circuit(self, relay: Connection, limit: Limit | None) -> Circuit:
        return Circuit(
            relay.peer_id,
            relay.remote_address,
            None if limit is None else limit.max_seconds,
            None if limit is None else limit.max_bytes,
            is_limited=limit is not None,
            use=CircuitUse(since=self._host.clock.monotonic()),
        )

    async def _carry(self, stream: Stream, connection: SocketConnection, circuit: Circuit) -> None:
        """Run the connection over the stream to the end of both."""
        watcher = _Watcher(self._host, connection, circuit, self._config.watch)
        transport = CircuitTransport(
            stream,
            connection,
            circuit,
            spawn=self._host.spawn,
            clock=self._host.clock.monotonic,
            on_use=watcher.used,
        )
        try:
            transport.start()
            await transport.run()
        finally:
            watcher.stop()


class _Watcher:
    """Drives the watch of one circuit: looks when a look is due."""

    def __init__(
        self, host: Host, connection: SocketConnection, circuit: Circuit, config: WatchConfig
    ) -> None:
        self._host = host
        self._connection = connection
        self._circuit = circuit
        self._config = config
        self._watch: CircuitWatch | None = None
        self._timer: asyncio.TimerHandle | None = None
        connection.established().add_done_callback(self._begin)

    def used(self) -> None:
        left = self._circuit.bytes_left
        if self._watch is not None and left is not None and left < self._watch.retire_below:
            self._look()

    def stop(self) -> None:
        self._watch = None
        if self._timer is not None:
            self._timer.cancel()

    def _begin(self, established: asyncio.Future[None]) -> None:
        if self._connection.is_established:
            now = self._host.clock.monotonic()
            self._watch = CircuitWatch(
                self._config,
                now,
                opened_by_us=self._connection.outbound,
                limit_bytes=self._circuit.limit_bytes,
                seconds_left=self._circuit.seconds_left(now),
            )
            self._look()

    def _look(self) -> None:
        watch, connection, now = self._watch, self._connection, self._host.clock.monotonic()
        if watch is None or not connection.is_established:
            return
        commands = watch.look(
            now,
            heard_at=connection.machine.heard_at,
            idle_since=self._host.table.idle_since(connection.connection_id),
            bytes_left=self._circuit.bytes_left,
            round_trip=connection.machine.round_trip,
        )
        for command in commands:
            match command:
                case Ping():
                    self._host.probe(connection)
                case Retire(reason=reason):
                    self._retire(reason)
                case GiveUp():
                    connection.abort(ConnectionLost("nothing comes through the relay any more"))
                case Close(reason=reason):
                    connection.close(reason)
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, watch.next_look() - now)
        self._timer = asyncio.get_running_loop().call_later(delay, self._look)

    def _retire(self, reason: str) -> None:
        """Let any other circuit take precedence over this one.

        The end that dialled also begins no new streams on it, and dials another when it wants one; the other
        end may know no way back.
        """
        connection = self._connection
        self._host.table.retire(connection.connection_id)
        if connection.outbound:
            connection.is_leaving = True
            if not connection.streams:
                connection.close(reason)


def _drop(stream: Stream | None) -> None:
    if stream is not None:
        stream.reset()


def _refusal(relay: PeerId, peer: PeerId, answer: HopMessage) -> RelayError:
    if answer.type is not HopType.STATUS:
        return RelayRefused(f"the relay {relay} answered something else than was asked")
    if answer.status is Status.NO_RESERVATION:
        return RelayNoReservation(f"{peer} is not connected to the relay {relay} any more")
    if answer.status is Status.RESOURCE_LIMIT_EXCEEDED:
        return RelayAtLimit(f"the relay {relay} has no room for a further circuit")
    reason = _REASONS.get(answer.status, f"status {answer.status.name.lower()}")
    return RelayRefused(f"the relay {relay} opened no circuit to {peer}: {reason}")
