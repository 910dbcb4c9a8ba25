"""QUIC for a host: UDP sockets that listen and dial, and the connections whose datagrams they carry.

    socket ──► connection id known? ──► its connection
                 │ no
                 ▼
               Endpoint: accept ──► admission of the host ──► connection
                         answer ──► socket          (and nothing is kept)
                         drop

One socket a family does both: the address that a NAT gives to our dials is then that of our listener, which
is what hole punching needs. A host without listeners dials from a fresh socket each time.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
import socket
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope, scope_of_ip
from wws.errors import ParseError
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.runtime.clock import Clock
from wws.runtime.connection import Connection, ConnectionHost, ConnectionLost, HandshakeFailed
from wws.runtime.dialer import TimedOut, Unroutable
from wws.runtime.host import ListenFailed
from wws.runtime.quic_backlog import Backlog, BacklogConfig
from wws.runtime.quic_connection import QuicConnection
from wws.runtime.udp_socket import UdpSocket
from wws.transport.quic.config import EndpointConfig, QuicConfig
from wws.transport.quic.endpoint import Accept, Answer, Endpoint, ResetTokens, destination_id
from wws.transport.quic.engine import Address, Credentials
from wws.transport.quic.machine import QuicHandshakeTimeout, QuicMachine
from wws.transport.tls import make_certificate

_PUNCH_LENGTH = 64
"""Bytes of a datagram that only opens a NAT: too few for anybody to answer."""

_TURNED_AWAY_FOR = 0.1
"""Seconds for which an IP address that the host did not admit is not looked at again: a client repeats its
first datagram after 0.2 and more, who floods does not wait."""
_MAX_TURNED_AWAY = 4096


@dataclass(frozen=True, slots=True)
class QuicTransportConfig:
    connection: QuicConfig = field(default_factory=QuicConfig)
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    backlog: BacklogConfig = field(default_factory=BacklogConfig)


class QuicHost(ConnectionHost, Protocol):
    """What QUIC needs of the host."""

    clock: Clock
    rng: random.Random

    def new_connection_id(self) -> int: ...


class QuicTransport:
    """The UDP sockets of one host, and everything that goes through them."""

    def __init__(self, host: QuicHost, identity: Identity, config: QuicTransportConfig | None = None) -> None:
        self.config = config or QuicTransportConfig()
        self.linger = self.config.connection.linger
        """Seconds that a closing connection has to get rid of what was written."""
        self._host = host
        unix_now = host.clock.unix()
        self._credentials = Credentials(*make_certificate(identity, unix_now))
        self._tokens = ResetTokens(hmac.digest(identity.seed, b"wws quic stateless reset", hashlib.sha256))
        start = f"wws quic noise {unix_now!r} ".encode() + host.rng.randbytes(16)
        noise_key = hmac.digest(identity.seed, start, hashlib.sha256)
        now = host.clock.monotonic()
        self.endpoint = Endpoint(self._tokens, self.config.endpoint, noise_key=noise_key, now=now)
        """Who is answered without a connection; counts those and what is dropped."""
        self._listening: list[UdpSocket] = []
        self._accepts = True
        self._by_id: dict[bytes, QuicConnection] = {}
        self._by_reset_token: dict[bytes, QuicConnection] = {}
        self._connections: set[QuicConnection] = set()
        self._dialling: set[QuicConnection] = set()
        self._half_open: set[QuicConnection] = set()
        self._half_open_there: Counter[str] = Counter()
        self._turned_away: dict[str, float] = {}
        self._waiting: dict[UdpSocket, set[QuicConnection]] = {}
        self._backlog: Backlog[QuicConnection] = Backlog(self.config.backlog)
        self._works_on = False

    # Listening and dialling

    async def listen(self, address: Multiaddr) -> Multiaddr:
        """Open the socket of an address, for listening and dialling; the address with the bound port.

        Raises `ListenFailed`, naming the reason of the operating system.
        """
        family = _family(address.host)
        try:
            sock = self._open((address.host, address.port or 0), family)
        except OSError as error:
            raise ListenFailed(address, error) from error
        self._listening.append(sock)
        self._accepts = True
        return address.with_port(sock.port)

    async def dial(self, expected: PeerId, target: Multiaddr) -> Connection:
        """An established connection with `expected` at `target`.

        Raises `TimedOut`, `Unroutable`, `HandshakeFailed`, `PeerIdMismatch`, or what else ends a handshake.
        A cancelled caller leaves nothing behind.
        """
        sock = self._socket_towards(target.host)
        own_socket = sock is None
        try:
            address = _normal(target.host, target.port or 0)
            sock = sock or self._open(None, _family(target.host))
        except OSError as error:
            raise Unroutable(f"no way there from this machine: {error.strerror or error}") from None
        sock.dialled.add(address)
        connection = self._connection(None, sock, address, expected=expected, own_socket=own_socket)
        timeout = self.config.connection.handshake_timeout
        try:
            established = connection.established()
            if self._host.connection_made(connection):
                self._connections.add(connection)
                self._dialling.add(connection)
                connection.machine.connect(address, self._host.monotonic())
                connection.flush()
            async with asyncio.timeout(timeout):
                await established
            self._dialling.discard(connection)
        except (TimeoutError, QuicHandshakeTimeout):
            connection.abort(TimedOut())
            raise TimedOut(f"no answer within {timeout:g} s") from None
        except HandshakeFailed:
            if isinstance(connection.error, Unroutable):
                raise connection.error from None
            raise
        except asyncio.CancelledError:
            connection.abort(HandshakeFailed("another attempt was faster"))
            raise
        return connection

    def punch(self, target: Multiaddr) -> bool:
        """Send one datagram that means nothing from our listening socket: a NAT before us then lets through
        what comes from `target`. `False`: there is no such socket."""
        sock = self._socket_towards(target.host)
        if sock is None or not target.port or not _is_of_one_machine(target.host):
            return False
        sock.send_one(self._host.rng.randbytes(_PUNCH_LENGTH), _normal(target.host, target.port))
        return True

    def stop_listening(self) -> None:
        """Take no new connections; those that are open go on, and dials do."""
        self._accepts = False

    async def close(self) -> None:
        """End every connection and close every socket."""
        for connection in list(self._connections):
            connection.abort(ConnectionLost("this node is stopping"))
        await asyncio.sleep(0)  # the ends of connections are told in a turn of their own
        for sock in self._listening:
            sock.close()
        self._listening.clear()

    @property
    def half_open(self) -> int:
        """Inbound handshakes under way."""
        return len(self._half_open)

    @property
    def known_ids(self) -> int:
        """Connection ids that lead to a connection."""
        return len(self._by_id)

    # What connections call

    def proven(self, connection: QuicConnection) -> bool:
        """The peer of a connection has shown where it is; whether it may stay."""
        if connection in self._half_open:
            self._forget_unproven(connection)
        if self._host.address_proven(connection):
            return True
        self._turn_away(connection.first_address[0])
        return False

    def lead(self, connection_ids: list[bytes], connection: QuicConnection) -> None:
        for connection_id in connection_ids:
            self._by_id[connection_id] = connection
            connection.connection_ids.add(connection_id)

    def forget(self, connection_ids: list[bytes], connection: QuicConnection) -> None:
        for connection_id in connection_ids:
            if connection_id in connection.connection_ids:
                connection.connection_ids.discard(connection_id)
                self._by_id.pop(connection_id, None)

    def watch_reset(self, old: bytes | None, new: bytes | None, connection: QuicConnection) -> None:
        if old is not None and self._by_reset_token.get(old) is connection:
            del self._by_reset_token[old]
        if new is not None:
            self._by_reset_token[new] = connection

    def wait_writable(self, sock: UdpSocket, connection: QuicConnection) -> None:
        self._waiting.setdefault(sock, set()).add(connection)

    def finished(self, connection: QuicConnection, last_word: bytes) -> None:
        ids = [known for known in connection.connection_ids if self._by_id.pop(known, None) is not None]
        connection.connection_ids.clear()
        self._backlog.forget(connection)
        self._handshake_over(connection)
        self._connections.discard(connection)
        if (waiting := self._waiting.get(connection.sock)) is not None:
            waiting.discard(connection)
        self._dialling.discard(connection)
        if connection.outbound:
            connection.sock.dialled.discard(connection.first_address)
        if connection.own_socket:
            self._waiting.pop(connection.sock, None)
            connection.sock.close()
        elif last_word and ids:
            self.endpoint.remember_closed(ids, last_word, self._host.monotonic())

    # Inside

    def _open(self, bind: tuple[str, int] | None, family: socket.AddressFamily) -> UdpSocket:
        sock = UdpSocket(family, bind, received=self._received, writable=self._writable)
        sock.refused = self._refused
        return sock

    def _socket_towards(self, target: str) -> UdpSocket | None:
        """The listening socket that has a way to `target`."""
        family = _family(target)
        for sock in self._listening:
            if sock.family == family and (
                sock.host in ("0.0.0.0", "::") or _same_side(sock.host, target)  # noqa: S104 - compared with
            ):
                return sock
        return None

    def _connection(
        self,
        accept: Accept | None,
        sock: UdpSocket,
        address: Address,
        *,
        expected: PeerId | None = None,
        own_socket: bool = False,
    ) -> QuicConnection:
        clock = self._host.clock
        machine = QuicMachine(
            is_initiator=accept is None,
            credentials=self._credentials,
            expected_peer=expected,
            config=self.config.connection,
            now=clock.monotonic(),
            unix_now=clock.unix(),
            token_of=self._tokens.of,
            original_id=accept.original_id if accept is not None else None,
            retry_id=accept.retry_id if accept is not None else None,
        )
        return QuicConnection(
            self._host,
            machine,
            self._host.new_connection_id(),
            outbound=accept is None,
            sock=sock,
            address=address,
            demultiplexer=self,
            own_socket=own_socket,
        )

    def _received(self, sock: UdpSocket, datagrams: list[tuple[bytes, Address]]) -> None:
        self._host.count_traffic(sum([len(data) for data, _ in datagrams]), 0)
        by_id, backlog = self._by_id, self._backlog
        kept: Address | None = None
        for item in datagrams:
            data = item[0]
            connection_id = destination_id(data)
            connection = by_id.get(connection_id) if connection_id is not None else None
            if connection is None:
                connection = self._stranger(sock, data, item[1])
                if connection is None:
                    continue
            if item[1] is not kept:
                kept = item[1]
                sock.keep(kept)
            if not backlog.put(connection, item):
                self.endpoint.dropped["backlog"] += 1
        if not self._works_on:
            self._work()

    def _work(self) -> None:
        """Let connections have what waits for them; when it is much, go on in the next turn of the event
        loop."""
        self._works_on = False
        backlog = self._backlog
        began = self._host.monotonic()
        until = began + self.config.backlog.turn_seconds
        while backlog:
            connection, datagrams = backlog.take()
            self._serve(connection, datagrams)
            now = self._host.monotonic()
            backlog.took(connection, len(datagrams), now - began)
            if now >= until and backlog:
                self._works_on = True
                asyncio.get_running_loop().call_soon(self._work)
                return
            began = now

    def _serve(self, connection: QuicConnection, datagrams: list[tuple[bytes, Address]]) -> None:
        try:
            connection.datagrams_received(datagrams)
            if not connection.outbound and connection in self._half_open:
                self._look_at_handshake(connection)
        except Exception as error:  # noqa: BLE001 - a bug may cost one connection, not all of the socket
            connection.abort(ConnectionLost("a bug of ours"))
            asyncio.get_running_loop().call_exception_handler(
                {"message": "bug in a QUIC connection", "exception": error}
            )

    def _stranger(self, sock: UdpSocket, data: bytes, address: Address) -> QuicConnection | None:
        if (lost := self._by_reset_token.get(data[-16:])) is not None:
            lost.lost_by_peer()
            return None
        if not self._accepts or sock not in self._listening:
            return None
        now = self._host.monotonic()
        if self._turned_away.get(address[0], 0.0) > now:
            self.endpoint.dropped["turned_away"] += 1
            return None
        verdict = self.endpoint.judge(
            data,
            address,
            now,
            half_open=len(self._half_open),
            half_open_there=self._half_open_there[address[0]],
        )
        if isinstance(verdict, Answer):
            self._host.count_traffic(0, len(verdict.data))
            sock.send_one(verdict.data, address)
            return None
        if verdict is None:
            return None
        connection = self._connection(verdict, sock, address)
        connection.is_proven = verdict.retry_id is not None
        if not self._host.connection_made(connection, proven=connection.is_proven):
            self._turn_away(address[0])
            return None
        self._connections.add(connection)
        self._half_open.add(connection)
        if not connection.is_proven:
            self._half_open_there[address[0]] += 1
        self.lead([verdict.retry_id or verdict.original_id, *connection.machine.issued], connection)
        connection.machine.issued.clear()
        return connection

    def _look_at_handshake(self, connection: QuicConnection) -> None:
        """After each batch for a connection that was not established before it."""
        if connection.machine.remote_address is None:
            # Its first datagram was not one of QUIC after all: nothing to keep a place for.
            connection.turn_away()
        elif connection.is_established:
            self._handshake_over(connection)

    def _handshake_over(self, connection: QuicConnection) -> None:
        if connection in self._half_open:
            self._half_open.discard(connection)
            if not connection.is_proven:
                self._forget_unproven(connection)

    def _forget_unproven(self, connection: QuicConnection) -> None:
        there = connection.first_address[0]
        self._half_open_there[there] -= 1
        if not self._half_open_there[there]:
            del self._half_open_there[there]

    def _turn_away(self, ip: str) -> None:
        self._turned_away[ip] = self._host.monotonic() + _TURNED_AWAY_FOR
        if len(self._turned_away) > _MAX_TURNED_AWAY:
            del self._turned_away[next(iter(self._turned_away))]

    def _writable(self, sock: UdpSocket) -> None:
        for connection in self._waiting.pop(sock, set()):
            connection.flush()

    def _refused(self, address: Address, error: OSError) -> None:
        """This machine has no way to `address`: whoever is being dialled there cannot be reached."""
        for connection in [one for one in self._dialling if one.first_address == address]:
            connection.unreachable(Unroutable(f"no way there from this machine: {error.strerror or error}"))


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _normal(host: str, port: int) -> Address:
    """The address as the operating system will name it when it answers."""
    family = _family(host)
    host = socket.inet_ntop(family, socket.inet_pton(family, host))
    return (host, port, 0, 0) if family == socket.AF_INET6 else (host, port)


def _is_of_one_machine(host: str) -> bool:
    """Whether it is an IP address, and neither of a group nor of nobody."""
    try:
        scope_of_ip(host)
    except ParseError:
        return False
    return True


def _same_side(own: str, target: str) -> bool:
    """Whether a socket bound to `own` has a way to `target`: not from the loopback into the world."""
    try:
        return (scope_of_ip(own) is Scope.LOOPBACK) == (scope_of_ip(target) is Scope.LOOPBACK)
    except ParseError:
        return False
