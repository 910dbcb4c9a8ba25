"""The host: sockets that listen, connections, streams handed to their handlers, time-outs.

Everything that has a slot gets it here and gives it back in one place, `connection_gone`:

    accept ─► admission (rate, prefix, total) ─► half-open (10 s, oldest goes first) ─► established
                                                                    │
              table (duplicates, trimming) ◄────────────────────────┤
              identify, listeners                                   ▼
                                             inbound streams ─► handler tasks, bounded a protocol and peer
"""

from __future__ import annotations

import asyncio
import errno
import heapq
import itertools
import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope
from wws.errors import RemoteProtocolError, WwsError
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.machine import Command
from wws.mesh.admission import Admission, AdmissionConfig
from wws.mesh.connections import Close, ConnectionTable, ConnectionTableConfig, Probe
from wws.mesh.memory import MemoryConfig
from wws.mesh.peers import PeerStore, PeerStoreConfig
from wws.mesh.reach import mesh_scope
from wws.runtime.circuit import Circuit
from wws.runtime.clock import Clock
from wws.runtime.connection import Connection, ConnectionLost
from wws.runtime.gatekeeper import Gatekeeper, GatekeeperConfig
from wws.runtime.handlers import MULTISTREAM, Handlers, HandlersConfig, StreamHandler
from wws.runtime.kept_memory import KeptMemory
from wws.runtime.socket_connection import SocketConnection
from wws.runtime.sockets import listening_socket
from wws.runtime.streams import Stream
from wws.transport.connection import ConnectionConfig, SecureConnection
from wws.transport.multistream import Negotiator
from wws.transport.noise import YAMUX, NoiseStatic

_WEIGH_EVERYWHERE = 20
"""Ticks between two looks at what is kept for every connection, idle ones included."""
_INDISPENSABLE = ("entry_point", "relay")
"""Why a peer is protected whose connection is closed last when memory is short."""
_CLOSE_TIMEOUT = 2.0
"""Seconds that peers get to take our last words when the host closes."""


class QuicSockets(Protocol):
    """What carries QUIC: one UDP socket a family that listens and dials (`wws.runtime.quic_transport`)."""

    async def listen(self, address: Multiaddr) -> Multiaddr: ...
    async def dial(self, expected: PeerId, target: Multiaddr) -> Connection: ...
    def punch(self, target: Multiaddr) -> bool: ...
    def stop_listening(self) -> None: ...
    async def close(self) -> None: ...


class ListenFailed(WwsError):
    """A listen address cannot be used on this machine."""

    code = "cannot_listen"

    def __init__(self, address: Multiaddr, error: OSError) -> None:
        super().__init__(f"cannot listen on {address}: {error.strerror or error}")
        self.in_use = error.errno == errno.EADDRINUSE


class PhaseTimeout(WwsError):
    """The peer was silent for too long in a phase of the handshake."""

    code = "phase_timeout"


@dataclass(frozen=True, slots=True)
class HostConfig:
    admission: AdmissionConfig = field(default_factory=AdmissionConfig)
    table: ConnectionTableConfig = field(default_factory=ConnectionTableConfig)
    peers: PeerStoreConfig = field(default_factory=PeerStoreConfig)
    connection: ConnectionConfig = field(default_factory=ConnectionConfig)
    phase_timeout: float = 10.0
    """Seconds that a handshake may take."""
    max_half_open: int = 128
    """Inbound connections that have not proven who they are; over it the oldest of them is reset."""
    handlers: HandlersConfig = field(default_factory=HandlersConfig)
    max_circuits: int = 256
    """Connections through relays, in either direction."""
    backlog: int = 1024
    """Connections that the kernel queues before we accept them."""
    tick: float = 0.5
    """Seconds between two looks at what is due: no time-out here needs to be finer."""
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    early_muxer: bool = True
    """Offer the multiplexer inside the Noise handshake: this saves a round trip where the peer does too."""
    gate: GatekeeperConfig = field(default_factory=GatekeeperConfig)


@dataclass(slots=True)
class Listeners:
    """Whom the host tells. Called in order, synchronously; they must not block."""

    peer_connected: list[Callable[[PeerId], None]] = field(default_factory=list)
    """The first connection of a peer is established."""
    peer_identified: list[Callable[[Connection], None]] = field(default_factory=list)
    """Identify has ended, or a push has changed what the peer says; `connection.identification` has it."""
    peer_disconnected: list[Callable[[PeerId], None]] = field(default_factory=list)
    """The last connection of a peer is gone."""
    connection_established: list[Callable[[Connection], None]] = field(default_factory=list)
    """Any connection is established, direct or not."""
    connection_closed: list[Callable[[Connection], None]] = field(default_factory=list)
    """A connection that was established is gone."""
    connection_moved: list[Callable[[Connection], None]] = field(default_factory=list)
    """The peer at the other end has another address now: QUIC lives on when it changes."""
    pong: list[Callable[[Connection], None]] = field(default_factory=list)
    """A peer has answered `Connection.ping`; `connection.machine.round_trip` is new."""
    met_ourselves: list[Callable[[Connection], None]] = field(default_factory=list)
    """The other end of a connection has proven that it has our own key; it is about to be closed. Either we
    have dialled ourselves, or the key is used on another machine."""
    peer_barred: list[Callable[[PeerId], None]] = field(default_factory=list)
    """A peer is banned or denied from now on; its connections are about to be closed."""
    deny_changed: list[Callable[[], None]] = field(default_factory=list)
    """The operator's list is another one."""


class Host:
    """The sockets and connections of one node. Made and used inside one running event loop."""

    def __init__(self, identity: Identity, config: HostConfig, *, clock: Clock, rng: random.Random) -> None:
        self.identity = identity
        self.config = config
        self.clock = clock
        self.rng = rng
        self.listeners = Listeners()
        self.peers = PeerStore(config.peers)
        self.table = ConnectionTable(identity.peer_id, config.table)
        self.admission = Admission(config.admission, clock.monotonic())
        self.refusals: Counter[tuple[str, str]] = Counter()
        """What was refused, by protocol and reason."""
        self.received_bytes = 0
        self.sent_bytes = 0
        self.handshakes: Counter[tuple[str, str]] = Counter()
        """Handshakes since the start, by direction (`in`, `out`) and result (`done`, `failed`)."""
        self.opened: Counter[tuple[str, str]] = Counter()
        """Connections established since the start, by direction (`in`, `out`) and transport (`circuit` for
        those through a relay)."""
        self.entry_points: set[PeerId] = set()
        """Peers whose address decides the scope of the mesh."""
        self._kept: set[PeerId] = set()
        self.quic: QuicSockets | None = None
        """Set by whoever puts the node together, before it listens; without it there is no QUIC."""
        self.listen_addresses: list[Multiaddr] = []
        """Where our sockets are, with the ports that were really bound."""
        self._static = NoiseStatic(identity, muxers=(YAMUX,) if config.early_muxer else ())
        self._ids = itertools.count(1)
        self._connections: dict[int, Connection] = {}
        self.memory = KeptMemory(
            config.memory,
            connection=self._connections.get,
            is_spared=lambda peer: self.table.is_protected(peer, _INDISPENSABLE),
            refused=self._too_heavy,
        )
        self.memory.elsewhere["addresses"] = lambda: self.peers.bytes_held
        self.weigh = self.memory.weigh
        self._circuits: set[int] = set()
        self._direct_waiters: dict[PeerId, list[asyncio.Future[Connection]]] = {}
        self._admitted: dict[int, str] = {}
        self._half_open: OrderedDict[int, float] = OrderedDict()
        self._timers: list[tuple[float, int]] = []
        self._due: dict[int, float] = {}
        self._scopes: Counter[Scope] = Counter()
        self._scope_of: dict[int, Scope] = {}
        self.handlers = Handlers(
            config.handlers, spawn=self.spawn, monotonic=clock.monotonic, refused=self._stream_refused
        )
        self.gate = Gatekeeper(self, config.gate)
        """Who is banned or denied."""
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._housekeeping: asyncio.Task[None] | None = None
        self._ticks = 0
        self._closing = False
        self._emptied = asyncio.Event()
        self._scope: Scope | None = None
        self._scope_dirty = True

    # Life

    async def start(self) -> None:
        self._housekeeping = asyncio.create_task(self._keep_house())

    async def listen(self, address: Multiaddr) -> Multiaddr:
        """Accept connections on a TCP or QUIC address; the address with the port that was bound.

        Raises `ListenFailed`, naming the reason of the operating system.
        """
        if address.transport == "quic-v1":
            assert self.quic is not None, "who listens for QUIC has set `quic`"
            bound = await self.quic.listen(address)
        else:
            bound = await self._listen_tcp(address)
        self.listen_addresses.append(bound)
        return bound

    async def _listen_tcp(self, address: Multiaddr) -> Multiaddr:
        try:
            sock = listening_socket(address.host, address.port or 0)
            server = await asyncio.get_running_loop().create_server(
                lambda: self._new_connection(None, outbound=False), sock=sock, backlog=self.config.backlog
            )
        except OSError as error:
            raise ListenFailed(address, error) from error
        self._servers.append(server)
        return address.with_port(sock.getsockname()[1])

    def stop_listening(self) -> None:
        """Take no new connections; those that are open go on."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self.quic is not None:
            self.quic.stop_listening()

    async def close(self) -> None:
        """Say goodbye to every peer, close every socket, end every task: nothing is left afterwards."""
        self._closing = True
        self.stop_listening()
        if self._housekeeping is not None:
            self._housekeeping.cancel()
            await asyncio.gather(self._housekeeping, return_exceptions=True)
        for connection in list(self._connections.values()):
            if connection.is_established:
                connection.close("this node is stopping")
            else:
                connection.abort(ConnectionLost("this node is stopping"))
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._connections:
            try:
                async with asyncio.timeout(_CLOSE_TIMEOUT):
                    await self._emptied.wait()
            except TimeoutError:
                for connection in list(self._connections.values()):
                    connection.abort(ConnectionLost("this node is stopping"))
        if self.quic is not None:
            await self.quic.close()

    def reconfigure(self, config: HostConfig) -> None:
        """Let other limits hold from now on; connections over a lowered one go when the table trims."""
        self.config = config
        self.admission.reconfigure(config.admission)
        self.handlers.reconfigure(config.handlers)
        self.table.reconfigure(config.table)
        self.memory.ledger.reconfigure(config.memory)

    # Protocols

    def serve(self, protocol: str, handler: StreamHandler) -> None:
        """Hand inbound streams of `protocol` to `handler`.

        Register before listening: rust remembers that a peer once answered `na`.
        """
        self.handlers.serve(protocol, handler)

    def stop_serving(self, protocol: str) -> None:
        """Turn new streams of `protocol` down; those that are open go on."""
        self.handlers.stop_serving(protocol)

    @property
    def protocols(self) -> tuple[str, ...]:
        """The stream protocols that are served."""
        return self.handlers.protocols

    # Connections

    def connection_to(self, peer: PeerId, *, direct: bool = False) -> Connection | None:
        """The connection to use for a peer, if there is one: a circuit only when no direct one is there, and
        never with `direct`."""
        for connection_id in self.table.of_peer(peer):
            connection = self._connections.get(connection_id)
            if connection is not None and connection.is_established and not connection.is_leaving:
                return None if direct and connection.is_limited else connection
        return None

    def connections_of(self, peer: PeerId) -> list[Connection]:
        """All established connections with a peer."""
        found = [self._connections.get(connection_id) for connection_id in self.table.of_peer(peer)]
        return [one for one in found if one is not None and one.is_established]

    async def wait_direct(self, peer: PeerId) -> Connection:
        """The direct connection with a peer, as soon as there is one. Waits for ever: give it a time-out."""
        if (connection := self.connection_to(peer, direct=True)) is not None:
            return connection
        waiter: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        waiters = self._direct_waiters.setdefault(peer, [])
        waiters.append(waiter)
        try:
            return await waiter
        finally:
            waiters.remove(waiter)
            if not waiters and self._direct_waiters.get(peer) is waiters:
                del self._direct_waiters[peer]

    def connections(self) -> list[Connection]:
        """All established connections."""
        return [connection for connection in self._connections.values() if connection.is_established]

    def new_outbound(
        self, expected: PeerId, *, initiator: bool = True, circuit: Circuit | None = None
    ) -> SocketConnection:
        """The protocol object for a byte stream that is about to be dialled.

        `initiator=False`: the peer speaks first although both have dialled (TCP hole punching).
        """
        return self._new_connection(expected, outbound=True, initiator=initiator, circuit=circuit)

    def new_inbound(self, expected: PeerId | None = None, *, circuit: Circuit) -> SocketConnection:
        """The protocol object for a circuit that a peer, by the relay's word `expected`, has opened to us."""
        return self._new_connection(expected, outbound=False, circuit=circuit)

    def probe(self, connection: Connection) -> None:
        """Find out whether a connection is alive: it ends by itself when the peer stays silent."""
        connection.ping()
        self._schedule(connection)

    def new_connection_id(self) -> int:
        """For a connection that is made elsewhere."""
        return next(self._ids)

    @property
    def scope(self) -> Scope | None:
        """The scope of the mesh as it is seen now, or was when the last peer left: who leaves after naming
        addresses of our own network must not thereby make them worth dialling."""
        if self._scope_dirty:
            self._scope_dirty = False
            entry_points = [
                connection.scope
                for peer in self.entry_points
                if (connection := self.connection_to(peer)) is not None
            ]
            scope = mesh_scope(entry_points, self._scopes)
            self._scope = self._scope if scope is None else scope
        return self._scope

    @property
    def kept_entry_points(self) -> frozenset[PeerId]:
        """Those of the entry points that are protected from trimming: who was named by somebody we trust."""
        return frozenset(self._kept)

    def set_entry_points(self, peers: set[PeerId], *, kept: set[PeerId] | None = None) -> None:
        """Name the peers that decide the scope of the mesh; those of them in `kept` (all, unless given) are
        protected from trimming."""
        kept = peers if kept is None else kept & peers
        for peer in self._kept - kept:
            self.table.unprotect(peer, "entry_point")
        for peer in kept - self._kept:
            self.table.protect(peer, "entry_point")
        self._kept = set(kept)
        self.entry_points = set(peers)
        self._scope_dirty = True

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a piece of work that ends with the host. What it raises is a bug, and is logged as one."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    # ConnectionHost: what connections call

    def monotonic(self) -> float:
        return self.clock.monotonic()

    def connection_made(self, connection: Connection, *, proven: bool = True) -> bool:
        """Take a connection in, or turn it away. One that is not `proven` to come from the address that it
        names gets its slot with `address_proven`: anybody can name any address in a datagram, and must not
        use up what is there for it, nor keep those out who come over TCP."""
        now = self.clock.monotonic()
        self._connections[connection.connection_id] = connection
        if self._closing:
            connection.turn_away()
            return False
        if connection.circuit is not None:
            if len(self._circuits) >= self.config.max_circuits:
                self.count_refusal("connection", "circuits")
                connection.turn_away()
                return False
            self._circuits.add(connection.connection_id)
        else:
            if (word := self.gate.barred_address(connection, now)) is not None:
                self.count_refusal("connection", word)
                if proven:
                    self.gate.log(connection, "connection", word)
                connection.turn_away()
                return False
            if proven:
                refusal = self.admission.admit(connection.remote_ip, now, outbound=connection.outbound)
            else:
                refusal = self.admission.full(connection.remote_ip)
            if refusal is not None:
                self.count_refusal("connection", refusal.value)
                if proven:
                    self.gate.log(connection, "connection", refusal.value)
                connection.turn_away()
                return False
            if proven:
                self._admitted[connection.connection_id] = connection.remote_ip
        if not self.memory.open(connection, self._group_of(connection) if proven else None):
            return False
        if not connection.outbound:  # who dials has a time-out of its own
            self._half_open[connection.connection_id] = now + self.config.phase_timeout
            if len(self._half_open) > self.config.max_half_open:
                oldest, _ = self._half_open.popitem(last=False)
                self.count_refusal("connection", "half_open")
                if oldest in self._admitted:
                    self.gate.log(self._connections[oldest], "connection", "half_open")
                self._connections[oldest].turn_away()
        return True

    def address_proven(self, connection: Connection) -> bool:
        """The peer has shown that its address is its own: only now it gets a slot, or is told that it does
        not."""
        refusal = self.admission.admit(connection.remote_ip, self.clock.monotonic())
        if refusal is not None:
            self.count_refusal("connection", refusal.value)
            self.gate.log(connection, "connection", refusal.value)
            connection.abort(ConnectionLost("no room"))
            return False
        self._admitted[connection.connection_id] = connection.remote_ip
        self.memory.move(connection, self._group_of(connection))
        return not connection.is_closed

    def connection_established(self, connection: Connection, peer: PeerId) -> None:
        self._half_open.pop(connection.connection_id, None)
        if peer == self.identity.peer_id:
            for listener in self.listeners.met_ourselves:
                listener(connection)
            connection.abort(ConnectionLost("that is ourselves"))
            return
        if (word := self.gate.barred(peer)) is not None:
            self.gate.turn_out(connection, word)
            return
        self.memory.belongs(connection, peer)
        if connection.is_closed:
            return
        now = self.clock.monotonic()
        direction = "out" if connection.outbound else "in"
        self.handshakes[direction, "done"] += 1
        self.opened[direction, "circuit" if connection.is_limited else connection.transport] += 1
        first = not self.table.of_peer(peer)
        commands = self.table.opened(
            connection.connection_id,
            peer,
            now,
            outbound=connection.outbound,
            is_circuit=connection.is_limited,
        )
        self._count_scope(connection.connection_id, connection.scope)
        self.peers.set_connected(peer, True)
        self._schedule(connection)
        for listener in self.listeners.connection_established:
            listener(connection)
        if first:
            for peer_listener in self.listeners.peer_connected:
                peer_listener(peer)
        else:
            oldest = self._connections.get(self.table.of_peer(peer)[0])
            if oldest is not None and oldest is not connection:
                # Is the peer here again because the old one is dead? Streams go over it until we know.
                self.probe(oldest)
        if not connection.is_limited:
            for waiter in self._direct_waiters.get(peer, ()):
                if not waiter.done():
                    waiter.set_result(connection)
        self._carry_out(commands)

    def connection_moved(self, connection: Connection) -> None:
        if connection.connection_id in self.table:
            self._count_scope(connection.connection_id, connection.scope)
            self.memory.move(connection, self._group_of(connection))
            for listener in self.listeners.connection_moved:
                listener(connection)
            self.gate.moved(connection)

    def connection_gone(self, connection: Connection, error: WwsError) -> None:
        connection_id = connection.connection_id
        self._connections.pop(connection_id, None)
        self.memory.close(connection)
        if self._half_open.pop(connection_id, None) is not None:
            self.count_refusal("connection", "handshake_incomplete")
        if not connection.was_established:
            self.handshakes["out" if connection.outbound else "in", "failed"] += 1
        self._circuits.discard(connection_id)
        ip = self._admitted.pop(connection_id, None)
        if ip is not None:
            self.admission.release(ip)
        if self._closing and not self._connections:
            self._emptied.set()
        counted = connection_id in self.table
        peer = self.table.closed(connection_id)
        self._count_scope(connection_id, None)
        self._due.pop(connection_id, None)
        if counted:
            for closed_listener in self.listeners.connection_closed:
                closed_listener(connection)
        if peer is not None:
            self.peers.set_connected(peer, False)
            for listener in self.listeners.peer_disconnected:
                listener(peer)

    def streams_changed(self, connection: Connection) -> None:
        self.table.streams_changed(connection.connection_id, len(connection.streams), self.clock.monotonic())

    def negotiator_for_inbound(self) -> Negotiator:
        return self.handlers.negotiator()

    def stream_opening(self, stream: Stream) -> None:
        self.handlers.opening(stream, self.admission.limited_prefix(stream.connection.remote_ip))

    def stream_decided(self, stream: Stream) -> None:
        self.handlers.decided(stream)

    def stream_ready(self, stream: Stream) -> None:
        self.handlers.ready(stream, self.admission.limited_prefix(stream.connection.remote_ip))

    def protocol_broken(self, connection: Connection, error: RemoteProtocolError) -> None:
        """The peer broke the rules of the connection itself, which is over."""
        self.count_refusal("connection", error.code)
        self.gate.offended(connection, error.code, "connection")

    def count_refusal(self, protocol: str, reason: str) -> None:
        self.refusals[protocol, reason] += 1

    def count_traffic(self, received: int, sent: int) -> None:
        self.received_bytes += received
        self.sent_bytes += sent

    def may_slow(self, connection: Connection) -> bool:
        """Whether a connection may be read more slowly, and counts that. Not one with a relay of ours: others
        cut what it brings, and it is the way of many."""
        if connection.was_established and self.table.is_protected(connection.peer_id, ("relay",)):
            return False
        self.count_refusal("connection", "tiny_frames")
        return True

    def pong(self, connection: Connection) -> None:
        self._carry_out(self.table.probe_answered(connection.connection_id, self.clock.monotonic()))
        for listener in self.listeners.pong:
            listener(connection)

    # Inside

    def _new_connection(
        self,
        expected: PeerId | None,
        *,
        outbound: bool,
        initiator: bool | None = None,
        circuit: Circuit | None = None,
    ) -> SocketConnection:
        machine = SecureConnection(
            is_initiator=outbound if initiator is None else initiator,
            static=self._static,
            expected_peer=expected,
            config=self.config.connection,
            now=self.clock.monotonic(),
            room=self.memory.has_room,
        )
        return SocketConnection(self, machine, self.new_connection_id(), outbound=outbound, circuit=circuit)

    def _count_scope(self, connection_id: int, scope: Scope | None) -> None:
        """Count an established connection in the scope that its peer has now; `None`: in none."""
        self._scope_dirty = True
        before = self._scope_of.pop(connection_id, None)
        if before is not None:
            self._scopes[before] -= 1
            if not self._scopes[before]:
                del self._scopes[before]
        if scope is not None:
            self._scope_of[connection_id] = scope
            self._scopes[scope] += 1

    def _stream_refused(self, stream: Stream, protocol: str, reason: str) -> None:
        self.count_refusal(protocol, reason)
        self.gate.offended(stream.connection, reason, protocol)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"bug in {task.get_name()}", "exception": error, "task": task}
            )

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Close(connection=connection_id, reason=reason):
                    if (connection := self._connections.get(connection_id)) is not None:
                        self.count_refusal("connection", reason)
                        self.gate.log(connection, "connection", reason)
                        connection.close(reason)
                case Probe(connection=connection_id):
                    if (connection := self._connections.get(connection_id)) is not None:
                        self.probe(connection)

    def _schedule(self, connection: Connection, not_before: float = 0.0) -> None:
        """Note when a connection wants to be called; a later entry in the heap is void from then on."""
        wakeup = connection.machine.next_wakeup()
        if wakeup is None or connection.is_closed:
            return
        wakeup = max(wakeup, not_before)
        known = self._due.get(connection.connection_id)
        if known is None or wakeup < known:
            self._due[connection.connection_id] = wakeup
            heapq.heappush(self._timers, (wakeup, connection.connection_id))

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(self.config.tick)
            self._tick(self.clock.monotonic())

    def _tick(self, now: float) -> None:
        while self._half_open:
            connection_id, deadline = next(iter(self._half_open.items()))
            if deadline > now:
                break
            del self._half_open[connection_id]
            self.count_refusal("connection", PhaseTimeout.code)
            timeout = self.config.phase_timeout
            if connection_id in self._admitted:
                self.gate.log(self._connections[connection_id], "connection", PhaseTimeout.code)
            self._connections[connection_id].abort(PhaseTimeout(f"no handshake within {timeout:g} s"))
        for stream in self.handlers.overdue(now):
            stream.reset()
            self._stream_refused(stream, MULTISTREAM, PhaseTimeout.code)
        while self._timers and self._timers[0][0] <= now:
            due, connection_id = heapq.heappop(self._timers)
            if self._due.get(connection_id) != due:
                continue
            del self._due[connection_id]
            timed = self._connections.get(connection_id)
            if timed is not None and timed.is_established:
                timed.handle_timer(now)
                self._schedule(timed, now + self.config.tick)
        self.memory.look_elsewhere()
        self._ticks += 1
        if self._ticks % _WEIGH_EVERYWHERE == 0:
            self.memory.weigh_idle(list(self._connections.values()))
        if (settle_at := self.table.next_wakeup()) is not None and settle_at <= now:
            self._carry_out(self.table.timer_fired(now))

    def _group_of(self, connection: Connection) -> str | None:
        """Whose memory a connection counts to beside its peer's: all of one prefix, or of one relay."""
        if connection.circuit is not None:
            return f"relay {connection.circuit.relay}"
        return self.admission.limited_prefix(connection.remote_ip)

    def _too_heavy(self, connection: Connection) -> None:
        self.count_refusal("connection", "memory")
        self.gate.log(connection, "connection", "memory")
