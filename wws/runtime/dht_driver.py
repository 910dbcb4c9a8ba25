"""Drives the Kademlia machine: queries over streams, requests from streams, one timer, results to callers.

    get(key) ─► StartGet ─► machine ─► SendQuery ─► stream ─► QueryAnswered ─► machine ─► GetDone ─► caller
                               ▲  └─────► Reply ──► the asking stream
           identified peers ───┘ PeerJoined, if they serve our DHT and belong to our network

Requests wait for identify: a peer of another network gets no answer, and is counted (`wrong_network`).
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import public_prefix_of_ip
from wws.dht.events import (
    AddressesChanged,
    Cancel,
    DropQuery,
    EntryPointRegained,
    FindDone,
    GetDone,
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
)
from wws.dht.kademlia import Kademlia
from wws.dht.messages import REQUESTS, KadMessage, MessageType
from wws.errors import ParseError, WwsError
from wws.identity.peer_id import PeerId
from wws.machine import Command, Event
from wws.mesh.reach import reaches
from wws.mesh.turns import Turns
from wws.runtime.connection import Connection
from wws.runtime.dialer import Dialer
from wws.runtime.host import Host
from wws.runtime.streams import Stream

_Start: TypeAlias = Callable[[int], Event]

PROTOCOL = "/wws/kad/1.0.0"
_PROTECTED = "dht"
_MOST_LOST = 256
"""Entry points that were lost and are remembered: more than any list has."""


@dataclass(frozen=True, slots=True)
class DhtDriverConfig:
    max_message: int = 128 * 1024
    """Bytes of one answer from a peer."""
    idle_timeout: float = 60.0
    """Seconds without a request after which a peer's stream is ended."""
    operation_timeout: float = 60.0
    """Seconds after which an operation that has not ended is given up."""
    max_requests_per_second: float = 100.0
    """Requests of one peer on all its streams; further ones wait, so that its own streams slow it down."""
    prefix_share: int = 4
    """Peers' worth of requests that one public IPv4 /24 or IPv6 /56 gets: identities cost nothing."""
    queries_per_second: float = 100.0
    """Queries of ours to one peer in the long run; further ones wait. It answers no more, and who has more
    streams open there than it takes is turned down."""
    query_burst: int = 96
    """Queries of ours to one peer at once."""
    protect_interval: float = 15.0
    """Seconds between two looks at whose connections are worth keeping."""


class DhtTimeout(WwsError):
    """The look-up did not end in time."""

    code = "timeout"


class DhtDriver:
    """Kademlia on a host. Public methods are awaited by the node; a cancelled one cancels its operation."""

    def __init__(
        self, host: Host, dialer: Dialer, kademlia: Kademlia, config: DhtDriverConfig, network: str | None
    ) -> None:
        self._host = host
        self._dialer = dialer
        self._machine = kademlia
        self._config = config
        self._network = network
        self._ids = itertools.count(1)
        self._operations: dict[int, asyncio.Future[Command]] = {}
        self._queries: dict[int, asyncio.Task[None]] = {}
        self._replies: dict[int, KadMessage | None] = {}
        self._members: set[PeerId] = set()
        self._lost_entry_points: set[PeerId] = set()
        self._turns = Turns(config.max_requests_per_second)
        self._prefix_turns = Turns(config.max_requests_per_second * config.prefix_share)
        self._query_turns = Turns(config.queries_per_second, config.query_burst)
        self._timer: asyncio.TimerHandle | None = None
        self._protect_at = 0.0
        self._server = False
        self._closed = False
        self.operations: Counter[tuple[str, str]] = Counter()
        """Operations by kind and outcome."""
        records, providers = kademlia.records, kademlia.providers
        host.memory.elsewhere["dht"] = lambda: records.bytes_in_memory + providers.bytes_held
        host.listeners.peer_identified.append(self._peer_identified)
        host.listeners.peer_disconnected.append(self._peer_disconnected)
        host.listeners.peer_barred.append(self._peer_barred)
        host.listeners.deny_changed.append(self._deny_names)
        self._deny_names()

    @property
    def machine(self) -> Kademlia:
        return self._machine

    @property
    def is_server(self) -> bool:
        return self._server

    def set_mode(self, server: bool) -> bool:
        """Serve the DHT, or only ask. Whether this changed what identify has to say."""
        if server == self._server:
            return False
        self._server = server
        if server:
            self._host.serve(PROTOCOL, self._serve)
        else:
            self._host.stop_serving(PROTOCOL)
        self._feed(SetMode(server))
        return True

    def set_addresses(self, addresses: tuple[Multiaddr, ...]) -> None:
        """What this node announces from now on."""
        self._feed(AddressesChanged(addresses))

    async def get(self, key: str, *, widely: bool = True) -> GetDone:
        """Look a value up, `widely` before saying that there is none. Raises `DhtTimeout`."""
        done = await self._operate("get", lambda op: StartGet(op, key, widely))
        assert isinstance(done, GetDone)
        return done

    async def put(self, key: str, value: bytes) -> PutDone:
        """Store a value at the peers closest to its key. Raises `DhtTimeout`."""
        done = await self._operate("put", lambda op: StartPut(op, key, value))
        assert isinstance(done, PutDone)
        return done

    async def find(self, peer: PeerId) -> FindDone:
        """The peers closest to `peer`, itself first when it was found. Raises `DhtTimeout`."""
        done = await self._operate("find", lambda op: StartFind(op, peer))
        assert isinstance(done, FindDone)
        return done

    async def provide(self, key: bytes) -> PutDone:
        """Announce this node as a provider of `key`. Raises `DhtTimeout`."""
        done = await self._operate("provide", lambda op: StartProvide(op, key), keep=True)
        assert isinstance(done, PutDone)
        return done

    async def find_providers(self, key: bytes) -> ProvidersDone:
        """Who provides `key`. Raises `DhtTimeout`."""
        done = await self._operate("find_providers", lambda op: StartFindProviders(op, key))
        assert isinstance(done, ProvidersDone)
        return done

    async def close(self) -> None:
        """End every query and operation."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        tasks = list(self._queries.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for operation in self._operations.values():
            operation.cancel()

    async def _operate(self, kind: str, start: _Start, *, keep: bool = False) -> Command:
        op = next(self._ids)
        future: asyncio.Future[Command] = asyncio.get_running_loop().create_future()
        self._operations[op] = future
        outcome = "failed"
        try:
            self._feed(start(op))
            async with asyncio.timeout(self._config.operation_timeout):
                result = await future
            outcome = "done"
            return result
        except TimeoutError:
            outcome = "timeout"
            raise DhtTimeout(f"the DHT did not end a {kind} in time") from None
        finally:
            self.operations[kind, outcome] += 1
            del self._operations[op]
            if outcome != "done" and not self._closed:
                self._feed(Cancel(op))

    # Peers

    def _peer_identified(self, connection: Connection) -> None:
        peer = connection.peer_id
        if connection.is_limited:
            return  # nobody sees the prefix of who comes through a relay, and the table counts by prefixes
        if not self.is_member(connection):
            if peer in self._members:
                self._members.discard(peer)
                self._host.table.unprotect(peer, _PROTECTED)
                self._feed(PeerLeft(peer, for_good=True))
            return
        self._members.add(peer)
        self._feed(PeerJoined(peer, self._addresses_of(connection), self._prefix(connection)))
        if peer in self._lost_entry_points and peer in self._host.entry_points:
            self._lost_entry_points.discard(peer)
            self._feed(EntryPointRegained(peer))
        if self._machine.protects(peer):
            self._host.table.protect(peer, _PROTECTED)

    def reconsider_peers(self) -> None:
        """Look at every connection again: the network or the entry points have changed."""
        for connection in self._host.connections():
            if connection.identification is not None:
                self._peer_identified(connection)

    def _protect_useful(self) -> None:
        """Keep those from trimming whom the table has places for, and nobody else: were all members kept,
        who fills our connections would hold them for good."""
        useful = self._machine.routing.useful(self._machine.config.lookup.k)
        for peer in self._members:
            if peer in useful:
                self._host.table.protect(peer, _PROTECTED)
            else:
                self._host.table.unprotect(peer, _PROTECTED)

    def _peer_disconnected(self, peer: PeerId) -> None:
        self._turns.forget(peer)
        if peer in self._members:
            self._members.discard(peer)
            self._host.table.unprotect(peer, _PROTECTED)
            self._feed(PeerLeft(peer))
        if peer in self._host.entry_points and len(self._lost_entry_points) < _MOST_LOST:
            self._lost_entry_points.add(peer)

    def _peer_barred(self, peer: PeerId) -> None:
        """A banned or denied peer is nobody to ask, nor to name to others."""
        if self._machine.routing.find(peer) is not None:
            self._feed(PeerLeft(peer, for_good=True))

    def _deny_names(self) -> None:
        """Hold no record of a name on the operator's list."""
        self._machine.records.deny(self._host.gate.deny.denies_name)

    def is_member(self, connection: Connection) -> bool:
        """Whether a peer serves our DHT and belongs to our network, so that we route through it."""
        said = connection.identification
        return said is not None and PROTOCOL in (said.protocols or ()) and self.is_of_our_network(connection)

    def is_of_our_network(self, connection: Connection) -> bool:
        """Whether a peer has said that it belongs to our network. An ad hoc network takes everybody."""
        said = connection.identification
        if said is None:
            return False
        if self._network is None:
            return True
        if said.network is None:
            return connection.peer_id in self._host.entry_points
        return said.network == self._network

    def _addresses_of(self, connection: Connection) -> tuple[Multiaddr, ...]:
        known = [a for a in self._host.peers.addresses(connection.peer_id) if reaches(a, self._host.scope)]
        if connection.outbound and not connection.is_limited:
            known.insert(0, connection.remote_address)  # it was dialled there, so it is right
        return tuple(dict.fromkeys(known))

    @staticmethod
    def _prefix(connection: Connection) -> str | None:
        ip = connection.remote_ip
        try:
            return public_prefix_of_ip(ip)
        except ParseError:
            return None

    # Requests of others

    async def _serve(self, stream: Stream) -> None:
        connection = stream.connection
        async with asyncio.timeout(self._config.idle_timeout):
            await connection.wait_identified()
        while True:
            said = connection.identification
            if said is None or (self._network and said.network and said.network != self._network):
                self._host.count_refusal(PROTOCOL, "not_identified" if said is None else "wrong_network")
                return
            async with asyncio.timeout(self._config.idle_timeout):
                data = await stream.read_frame(REQUESTS.max_message_bytes)
            if data is None:
                break
            await self._take_turn(stream)  # first: to read a request takes longer than most answers
            request = KadMessage.parse(data, REQUESTS)
            reply = self._answer(connection, request)
            if connection.is_closed:
                return  # for good: that was one bad record too many
            if reply is not None:
                async with asyncio.timeout(self._config.idle_timeout):
                    await stream.write_frame(reply.encode())
            elif request.type is not MessageType.ADD_PROVIDER:  # the one that is never answered
                return  # refused: the stream ends without an answer
        stream.close_write()

    async def _take_turn(self, stream: Stream) -> None:
        """Wait until a peer, and its prefix, may have the next request answered, whatever its stream.

        How long the peer has to wait for itself is no matter of its prefix's, and who goes away gives the
        turn back: nobody's neighbours wait for that. Raises `StreamReset` when the stream is given up.
        """
        connection, now = stream.connection, self._host.clock.monotonic()
        peer, prefix = connection.peer_id, self._host.admission.limited_prefix(connection.remote_ip)
        turn = self._turns.take(peer, now)
        if prefix is not None:
            turn = max(turn, self._prefix_turns.take(prefix, now))
        if turn <= now:
            return
        try:
            await stream.pause(turn - now)
        except BaseException:
            now = self._host.clock.monotonic()
            self._turns.give_back(peer, now)
            if prefix is not None:
                self._prefix_turns.give_back(prefix, now)
            raise

    def _answer(self, connection: Connection, message: KadMessage) -> KadMessage | None:
        request_id = next(self._ids)
        brings = message.type is MessageType.PUT_VALUE
        refused = Counter(self._machine.refusals) if brings else None
        self._feed(RequestReceived(request_id, connection.peer_id, message))
        reply = self._replies.pop(request_id, None)
        if reply is None and refused is not None:
            # Who brings a record that breaks its rules could have seen that it does. The machine counts.
            for word in self._machine.refusals - refused:
                self._host.gate.offended(connection, word, PROTOCOL)
        return reply

    # The machine

    def _feed(self, event: Event) -> None:
        if self._closed:
            return
        now, unix_now = self._host.clock.monotonic(), self._host.clock.unix()
        for command in self._machine.handle(event, now, unix_now):
            self._carry_out(command)
        self._reschedule()

    def _carry_out(self, command: Command) -> None:
        match command:
            case SendQuery(query_id=query_id):
                self._queries[query_id] = self._host.spawn(self._query(command), f"kad query {query_id}")
            case DropQuery(query_id=query_id):
                if (task := self._queries.pop(query_id, None)) is not None:
                    task.cancel()
            case Reply(request_id=request_id, message=message):
                self._replies[request_id] = message
            case PeerUseless(peer=peer):
                self._host.table.unprotect(peer, _PROTECTED)
            case GetDone(op=op) | PutDone(op=op) | FindDone(op=op) | ProvidersDone(op=op):
                future = self._operations.get(op)
                if future is not None and not future.done():
                    future.set_result(command)
            case _:
                raise AssertionError(f"unknown command {command}")

    async def _query(self, query: SendQuery) -> None:
        try:
            async with asyncio.timeout(query.timeout):
                addresses = [a for a in query.addresses if reaches(a, self._host.scope)]
                await self._take_query_turn(query.peer)
                connection = await self._dialer.connect(query.peer, addresses, direct=True)
                async with connection.open_stream(PROTOCOL) as stream:
                    await stream.write_frame(query.message.encode())
                    if query.expects_answer:
                        data = await stream.read_frame(self._config.max_message)
                        if data is not None:
                            self._conclude(query, QueryAnswered(query.query_id, KadMessage.parse(data)))
                    # Ended in good order, so that nobody counts a reset; the answer has not waited for it.
                    await stream.finish()
                    if not query.expects_answer:
                        self._conclude(query, QueryAnswered(query.query_id, None))
        except (WwsError, TimeoutError):
            pass  # what matters is said below: there is no answer
        self._conclude(query, QueryFailed(query.query_id))

    async def _take_query_turn(self, peer: PeerId) -> None:
        """Wait until we may ask a peer: in a small network every look-up asks the same few."""
        now = self._host.clock.monotonic()
        turn = self._query_turns.take(peer, now)
        if turn > now:
            try:
                await asyncio.sleep(turn - now)
            except asyncio.CancelledError:
                self._query_turns.give_back(peer, self._host.clock.monotonic())
                raise

    def _conclude(self, query: SendQuery, event: QueryAnswered | QueryFailed) -> None:
        """Tell the machine how a query ended, unless it was told or does not want to know any more."""
        if self._queries.pop(query.query_id, None) is not None:
            self._feed(event)

    def _reschedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wakeup = self._machine.next_wakeup()
        if wakeup is not None and not self._closed:
            delay = max(0.0, wakeup - self._host.clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._timer_fired)

    def _timer_fired(self) -> None:
        now = self._host.clock.monotonic()
        if now >= self._protect_at:
            self._protect_at = now + self._config.protect_interval
            self._protect_useful()
        self._feed(TimerFired())
