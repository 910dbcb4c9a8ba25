"""A connection over QUIC: a machine that speaks in datagrams, on a socket that many connections share.

socket ──datagrams by connection id──► machine ──events──► streams
socket ◄──datagrams_to_send─────────── machine

Its timers are those of loss recovery and run in the event loop by themselves: half a second, the tick of the
host, would be long.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol

from wws.addresses.multiaddr import Multiaddr, Transport
from wws.errors import RemoteProtocolError, WwsError
from wws.runtime.connection import Connection, ConnectionHost, ConnectionLost
from wws.runtime.udp_socket import UdpSocket
from wws.transport.muxed import Phase
from wws.transport.quic.engine import Address
from wws.transport.quic.machine import QuicMachine


class QuicDemultiplexer(Protocol):
    """What a QUIC connection needs of the transport that its datagrams go through."""

    linger: float

    def proven(self, connection: QuicConnection) -> bool: ...
    def lead(self, connection_ids: list[bytes], connection: QuicConnection) -> None: ...
    def forget(self, connection_ids: list[bytes], connection: QuicConnection) -> None: ...
    def watch_reset(self, old: bytes | None, new: bytes | None, connection: QuicConnection) -> None: ...
    def wait_writable(self, sock: UdpSocket, connection: QuicConnection) -> None: ...
    def finished(self, connection: QuicConnection, last_word: bytes) -> None: ...


class QuicConnection(Connection):
    """One connection over QUIC, from its first datagram to its last."""

    __slots__ = (
        "_address",
        "_closes_at",
        "_demultiplexer",
        "_gone",
        "_quic",
        "_reset_token",
        "_timer",
        "_timer_at",
        "_told",
        "_wakeup",
        "connection_ids",
        "datagram_cost",
        "first_address",
        "is_proven",
        "own_socket",
        "sock",
    )

    def __init__(
        self,
        host: ConnectionHost,
        machine: QuicMachine,
        connection_id: int,
        *,
        outbound: bool,
        sock: UdpSocket,
        address: Address,
        demultiplexer: QuicDemultiplexer,
        own_socket: bool = False,
    ) -> None:
        super().__init__(host, machine, connection_id, outbound=outbound)
        self.sock = sock
        self.own_socket = own_socket
        """Whether the socket was opened for this connection and closes with it."""
        self.is_proven = outbound
        """Whether the peer has shown that its first address is its own."""
        self.first_address = address
        """Where its first datagram came from or went to."""
        self.connection_ids: set[bytes] = set()
        """What leads to this connection."""
        self.datagram_cost = 0.0001
        """Seconds that a datagram of the peer takes, about."""
        self._quic = machine
        self._address = address
        self._demultiplexer = demultiplexer
        self._reset_token: bytes | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._wakeup = 0.0
        self._closes_at: float | None = None
        self._gone = False
        self._told = False
        self._seen_at(address[0].partition("%")[0], address[1])

    @property
    def machine(self) -> QuicMachine:
        return self._quic

    @property
    def transport(self) -> Transport:
        return "quic-v1"

    @property
    def local_address(self) -> Multiaddr:
        """The address of our end: for a socket on every interface, the one that leads to the peer."""
        host = self.sock.host
        if host in ("0.0.0.0", "::"):  # noqa: S104 - compared with, not bound to
            seen = self.sock.reached_at(self._address)
            host = seen or _source_towards(self.sock.family, self._address) or host
        return Multiaddr.of(host.partition("%")[0], self.sock.port, "quic-v1")

    @property
    def error(self) -> WwsError | None:
        """Why this has ended; `None` while it has not."""
        return self._error

    @property
    def written(self) -> int:
        return 0  # datagrams wait in the socket of all, which drops what is too much

    # Datagrams

    def datagrams_received(self, datagrams: list[tuple[bytes, Address]]) -> None:
        """What a turn of the event loop brought for this connection."""
        if not self._gone:
            self._take(datagrams)
            self._tell()

    def _take(self, datagrams: list[tuple[bytes, Address]]) -> None:
        try:
            events = self._quic.receive_datagrams(datagrams, self._host.monotonic())
        except RemoteProtocolError as error:
            if self._error is None:
                self._protocol_error(error)
            else:
                self._finish()
            return
        if not self.is_proven and self._quic.proven_address is not None:
            self.is_proven = True
            if self._error is None and not self._demultiplexer.proven(self):
                return
        if self._error is None:
            if events:
                self._handle(events)
            address = self._quic.proven_address
            if address is not None and address != self._address:
                self._moved(address)
            self._check_ended()
        elif self._quic.phase is Phase.CLOSED or self._quic.all_acknowledged:
            self._finish()
        self.flush()

    def lost_by_peer(self) -> None:
        """The peer has proven that it knows nothing of this connection any more, as after a restart."""
        if not self._gone:
            self._quic.abort()
            self._fail(ConnectionLost("the peer has lost the connection's state"))
            self._tell()

    def unreachable(self, error: WwsError) -> None:
        """This machine has no way to the peer. Only news while there is no connection: later ways change."""
        if not self._opened:
            self.abort(error)

    def flush(self) -> None:
        self._flush_planned = False
        if self._gone:
            return
        if self.sock.is_full:
            self._demultiplexer.wait_writable(self.sock, self)
            return
        try:
            datagrams = self._quic.datagrams_to_send(self._host.monotonic())
        except RemoteProtocolError as error:
            if self._error is None:
                self._host.protocol_broken(self, error)
            self._fail(error)
            return
        if datagrams:
            self._host.count_traffic(0, sum([len(data) for data, _ in datagrams]))
            self.sock.send(datagrams)
        self._keep_up()

    def _keep_up(self) -> None:
        """What follows when everything is sent, unless there proved to be no way to the peer."""
        if not self._gone:
            self._note_ids()
            self._arm()
            self._host.weigh(self)

    def handle_timer(self, now: float) -> float | None:
        if self._gone:
            return None
        if self._error is not None:
            self._linger_on(now)
            return None
        try:
            events = self._quic.handle_timer(now)
        except RemoteProtocolError as error:
            self._protocol_error(error)
            return None
        if events:
            self._handle(events)
        self._check_ended()
        self.flush()
        return self._wakeup

    # Life

    def turn_away(self) -> None:
        """End this without a word: whoever sends first datagrams by the thousand is not worth an answer."""
        if self._error is None:
            self._error = ConnectionLost("turned away")
            self._quic.abort()
            self._fail(self._error)

    def abort(self, error: WwsError) -> None:
        """Close at once, with a word to the peer but without waiting for what was written to arrive."""
        if self._error is None:
            self._error = error
            self._quic.close("aborted")
        self._finish()

    def _end(self, error: WwsError) -> None:
        self._error = error
        if self._quic.phase is Phase.ESTABLISHED and not self._quic.all_acknowledged:
            self._closes_at = self._host.monotonic() + self._demultiplexer.linger
            self.flush()
            return
        self._finish()

    def _cut(self) -> None:
        self._finish()

    # Inside

    def _linger_on(self, now: float) -> None:
        """Our side is over; what was written is still on its way."""
        assert self._closes_at is not None
        try:
            self._quic.handle_timer(now)
        except RemoteProtocolError:
            self._finish()
            return
        if self._quic.phase is Phase.CLOSED or now >= self._closes_at or self._quic.all_acknowledged:
            self._finish()
        else:
            self.flush()

    def _check_ended(self) -> None:
        ending = self._quic.ending
        if ending is not None and self._error is None:
            self._fail(ConnectionLost(f"the peer closed it: {ending.reason or f'code {ending.code}'}"))

    def _finish(self) -> None:
        """Say the last word and let go."""
        if self._gone:
            return
        assert self._error is not None
        self._quic.close(str(self._error)[:60] if isinstance(self._error, ConnectionLost) else "")
        datagrams = self._quic.datagrams_to_send(self._host.monotonic())
        if datagrams:
            self._host.count_traffic(0, sum([len(data) for data, _ in datagrams]))
            self.sock.send(datagrams)
        self._fail(self._error, datagrams[-1][0] if datagrams else b"")

    def _fail(self, error: WwsError, last_word: bytes = b"") -> None:
        """It is over: nothing leads here any more. `_lost` follows."""
        if self._gone:
            return
        self._gone = True
        self._error = self._error or error
        self._quic.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._demultiplexer.watch_reset(self._reset_token, None, self)
        self._demultiplexer.finished(self, last_word)
        asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        """Tell whoever has a stream, and the host, that this is over. At once where nobody of them called: a
        writer is to hear that its stream was reset, not that there is no connection to write to."""
        if self._gone and not self._told:
            self._told = True
            assert self._error is not None
            self._lost(self._error)

    def _moved(self, address: Address) -> None:
        """The peer is somewhere else, and has shown it."""
        self._address = address
        self._seen_at(address[0].partition("%")[0], address[1])

    def _note_ids(self) -> None:
        machine = self._quic
        if machine.issued:
            self._demultiplexer.lead(machine.issued, self)
            machine.issued.clear()
        if machine.retired:
            self._demultiplexer.forget(machine.retired, self)
            machine.retired.clear()
        if machine.peer_reset_token != self._reset_token:
            self._demultiplexer.watch_reset(self._reset_token, machine.peer_reset_token, self)
            self._reset_token = machine.peer_reset_token

    def _arm(self) -> None:
        """See to it that the timer fires when the machine wants it. One that is early looks again: most are
        put off before they are due."""
        wakeup = self._quic.next_wakeup()
        if wakeup is None or self._gone:
            return
        if self._closes_at is not None:
            wakeup = min(wakeup, self._closes_at)
        self._wakeup = wakeup
        if self._timer is not None:
            if self._timer_at <= wakeup:
                return
            self._timer.cancel()
        self._start_timer(self._host.monotonic())

    def _start_timer(self, now: float) -> None:
        self._timer_at = self._wakeup
        delay = max(0.0, self._wakeup - now)
        self._timer = asyncio.get_running_loop().call_later(delay, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        if self._gone:
            return
        now = self._host.monotonic()
        if now < self._wakeup:
            self._start_timer(now)
        else:
            self.handle_timer(now)  # which flushes, and that starts the timer again
            self._tell()


def _source_towards(family: socket.AddressFamily, address: Address) -> str | None:
    """The address of this machine that datagrams to `address` leave from."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(address)
        except OSError:
            return None
        name: str = probe.getsockname()[0]
        return name
