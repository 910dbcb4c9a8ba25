"""QUIC between hosts of ours on real sockets: dialling, listening, streams, moves, floods, ends."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import cast

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection as PlainConnection
from aioquic.quic.packet import QuicPacketType, pull_quic_header

from tests.interop.ours import echo, pattern, reverse, sink, until
from tests.interop.peer import ECHO, REVERSE, SINK
from wws.addresses.multiaddr import Multiaddr
from wws.errors import WwsError
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.mesh.admission import AdmissionConfig
from wws.runtime.clock import SystemClock
from wws.runtime.connection import Connection, ConnectionLost, HandshakeFailed
from wws.runtime.dialer import TimedOut, Unroutable
from wws.runtime.host import Host, HostConfig, ListenFailed
from wws.runtime.quic_connection import QuicConnection
from wws.runtime.quic_transport import QuicTransport, QuicTransportConfig
from wws.runtime.streams import Stream, StreamReset
from wws.testing.scale import scale
from wws.transport.noise import PeerIdMismatch
from wws.transport.quic.config import EndpointConfig, QuicConfig
from wws.transport.quic.engine import Address
from wws.transport.tls import ALPN, make_certificate

pytestmark = [pytest.mark.net, pytest.mark.usefixtures("leaves_nothing")]

LOOPBACK = Multiaddr.parse("/ip4/127.0.0.1/udp/0/quic-v1")
LOOPBACK_6 = Multiaddr.parse("/ip6/::1/udp/0/quic-v1")


class QuicNode:
    """A host that speaks QUIC and three test protocols."""

    def __init__(
        self,
        label: str,
        config: QuicTransportConfig | None = None,
        host_config: HostConfig | None = None,
    ) -> None:
        self.host = Host(
            Identity.from_label(label),
            replace(host_config or HostConfig(), tick=0.01),
            clock=SystemClock(),
            rng=random.Random(label),
        )
        self.quic = QuicTransport(self.host, self.host.identity, config)
        self.host.quic = self.quic
        for protocol, handler in ((ECHO, echo), (SINK, sink), (REVERSE, reverse)):
            self.host.serve(protocol, handler)

    @property
    def peer_id(self) -> PeerId:
        return self.host.identity.peer_id

    @property
    def address(self) -> Multiaddr:
        return self.host.listen_addresses[0]

    async def dial(self, other: QuicNode) -> Connection:
        return await self.quic.dial(other.peer_id, other.address)

    async def inbound(self) -> QuicConnection:
        """The one connection that somebody opened to this node; waits for it."""
        await until(lambda: len(self.host.connections()) == 1)
        [connection] = self.host.connections()
        assert isinstance(connection, QuicConnection)
        return connection

    def held(self) -> tuple[int, int, int, int]:
        """What is kept of connections: slots, connections, ids, half-open handshakes."""
        return (
            self.host.admission.total,
            len(self.quic._connections),
            self.quic.known_ids,
            self.quic.half_open,
        )


@contextlib.asynccontextmanager
async def node(
    label: str,
    *,
    listen: Multiaddr | None = LOOPBACK,
    quic: QuicConfig | None = None,
    endpoint: EndpointConfig | None = None,
    host_config: HostConfig | None = None,
) -> AsyncIterator[QuicNode]:
    config = QuicTransportConfig(quic or QuicConfig(), endpoint or EndpointConfig())
    made = QuicNode(label, config, host_config)
    await made.host.start()
    try:
        if listen is not None:
            await made.host.listen(listen)
        yield made
    finally:
        await made.host.close()


async def ask(connection: Connection, protocol: str, data: bytes) -> bytes:
    """Send `data`, end, and read the answer to its end."""
    stream = connection.open_stream(protocol)

    async def write() -> None:
        await stream.write(data)
        stream.close_write()

    writing = asyncio.create_task(write())
    try:
        return await stream.read_to_end(len(data) + 1000)
    finally:
        await writing


# Connecting


@pytest.mark.parametrize("address", [LOOPBACK, LOOPBACK_6], ids=["ip4", "ip6"])
@pytest.mark.parametrize("listens", [True, False], ids=["from the listener", "from a fresh socket"])
async def test_two_hosts_connect_and_talk(address: Multiaddr, listens: bool) -> None:
    async with (
        node("alice", listen=address if listens else None) as alice,
        node("bob", listen=address) as bob,
    ):
        connection = await alice.dial(bob)
        assert connection.peer_id == bob.peer_id
        assert connection.transport == "quic-v1"
        assert connection.remote_address == bob.address.with_peer(bob.peer_id)
        assert await ask(connection, ECHO, b"hello") == b"hello"
        there = await bob.inbound()
        assert there.peer_id == alice.peer_id
        assert there.remote_address.without_peer() == connection.local_address
        assert (connection.local_address == alice.host.listen_addresses[0]) if listens else True
        assert await ask(there, REVERSE, b"abc") == b"cba"
        connection.ping()
        await until(lambda: connection.machine.round_trip is not None)
    assert alice.held() == bob.held() == (0, 0, 0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="127/8 is one address elsewhere")
async def test_answers_come_from_the_address_that_was_dialled() -> None:
    """A client takes nothing from another address, and the kernel would answer from 127.0.0.1."""
    everywhere = Multiaddr.parse("/ip4/0.0.0.0/udp/0/quic-v1")
    async with node("alice") as alice, node("bob", listen=everywhere) as bob:
        target = Multiaddr.of("127.0.0.2", bob.address.port or 0, "quic-v1")
        connection = await alice.quic.dial(bob.peer_id, target)
        assert await ask(connection, ECHO, pattern(300_000)) == pattern(300_000)
        assert (await bob.inbound()).local_address == target


@pytest.mark.skipif(sys.platform != "linux", reason="127/8 is one address elsewhere")
async def test_strangers_do_not_change_where_peers_are_answered_from() -> None:
    everywhere = Multiaddr.parse("/ip4/0.0.0.0/udp/0/quic-v1")
    async with node("alice") as alice, node("bob", listen=everywhere) as bob:
        port = bob.address.port or 0
        connection = await alice.quic.dial(bob.peer_id, Multiaddr.of("127.0.0.2", port, "quic-v1"))
        there = await bob.inbound()
        assert isinstance(connection, QuicConnection)
        async with Stranger(Multiaddr.of("127.0.0.3", port, "quic-v1")) as stranger:
            connection.sock._sock.sendto(bytes(50), ("127.0.0.3", port))  # as if a stranger had forged it
            for _ in range(10):
                stranger.say(bytes(50))
            await stranger.heard()
        assert list(there.sock._reached_at) == [("127.0.0.1", alice.address.port)]
        assert await ask(there, ECHO, b"still from there") == b"still from there"


async def test_nor_do_they_together_with_a_packet_of_the_peer() -> None:
    """In one turn of the event loop nobody can say which of the two was forged."""
    everywhere = Multiaddr.parse("/ip4/0.0.0.0/udp/0/quic-v1")
    async with node("alice") as alice, node("bob", listen=everywhere) as bob:
        port = bob.address.port or 0
        connection = await alice.quic.dial(bob.peer_id, Multiaddr.of("127.0.0.2", port, "quic-v1"))
        there = await bob.inbound()
        assert isinstance(connection, QuicConnection)
        assert await ask(there, ECHO, b"from here") == b"from here"
        for _ in range(5):
            connection.ping()
            connection.sock._sock.sendto(bytes(50), ("127.0.0.3", port))
            await asyncio.sleep(0)
            assert there.local_address.host == "127.0.0.2"
        assert await ask(there, ECHO, b"still from there") == b"still from there"
        assert there.local_address.host == "127.0.0.2"


async def test_large_answers_both_ways_at_once() -> None:
    data = pattern(scale(10_000_000, least=1_000_000))
    async with node("alice") as alice, node("bob") as bob:
        connection = await alice.dial(bob)
        there = await bob.inbound()
        answers = await asyncio.gather(
            ask(connection, ECHO, data), ask(there, ECHO, data), ask(connection, SINK, data)
        )
        assert answers == [data, data, str(len(data)).encode()]


async def test_many_streams_at_once() -> None:
    async with node("alice") as alice, node("bob") as bob:
        connection = await alice.dial(bob)
        answers = await asyncio.gather(*[ask(connection, ECHO, bytes([n % 256]) * n) for n in range(100)])
        assert answers == [bytes([n % 256]) * n for n in range(100)]
        there = await bob.inbound()
        await until(lambda: there.machine.open_streams == connection.machine.open_streams == 0)


async def test_the_wrong_peer_answers() -> None:
    carol = Identity.from_label("carol").peer_id
    async with node("alice") as alice, node("bob") as bob:
        with pytest.raises(PeerIdMismatch):
            await alice.quic.dial(carol, bob.address)
        await until(lambda: alice.held() == bob.held() == (0, 0, 0, 0))


async def test_nobody_answers() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        target = Multiaddr.of("127.0.0.1", silent.getsockname()[1], "quic-v1")
        async with node("alice", quic=QuicConfig(handshake_timeout=0.3)) as alice:
            with pytest.raises(TimedOut):
                await alice.quic.dial(Identity.from_label("bob").peer_id, target)
            await until(lambda: alice.held() == (0, 0, 0, 0))


async def test_no_way_there_from_this_machine() -> None:
    """The socket says so while the first datagram is being sent: nothing may lead to the connection then."""
    nowhere = LOOPBACK  # nobody has port 0: EINVAL
    for listen in (None, LOOPBACK):
        async with node("alice", listen=listen) as alice:
            with pytest.raises(Unroutable):
                await alice.quic.dial(Identity.from_label("bob").peer_id, nowhere)
            with pytest.raises(Unroutable):
                await alice.quic.dial(
                    Identity.from_label("bob").peer_id, Multiaddr.parse("/dns4/localhost/udp/9/quic-v1")
                )
            await until(lambda alice=alice: alice.held() == (0, 0, 0, 0))


@pytest.mark.parametrize("listens", [True, False])
async def test_a_cancelled_dial_leaves_nothing(listens: bool) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        target = Multiaddr.of("127.0.0.1", silent.getsockname()[1], "quic-v1")
        async with node("alice", listen=LOOPBACK if listens else None) as alice:
            dial = asyncio.create_task(alice.quic.dial(Identity.from_label("bob").peer_id, target))
            await until(lambda: alice.quic.known_ids > 0)
            dial.cancel()
            with pytest.raises(asyncio.CancelledError):
                await dial
            await until(lambda: alice.held() == (0, 0, 0, 0))


async def test_over_our_own_limit_is_said_at_once() -> None:
    config = HostConfig(admission=AdmissionConfig(max_connections=0))
    async with node("alice", host_config=config) as alice, node("bob") as bob:
        with pytest.raises(HandshakeFailed):
            await alice.dial(bob)
        assert alice.host.refusals["connection", "connections_total"] == 1
        assert alice.held() == (0, 0, 0, 0)


async def test_who_is_over_the_limit_of_the_other_side_gets_no_connection() -> None:
    config = HostConfig(admission=AdmissionConfig(max_connections=0))
    async with (
        node("alice", quic=QuicConfig(handshake_timeout=0.3)) as alice,
        node("bob", host_config=config) as bob,
    ):
        with pytest.raises(TimedOut):
            await alice.dial(bob)
        assert bob.host.refusals["connection", "connections_total"] >= 1
        assert bob.held() == (0, 0, 0, 0)


async def test_a_port_that_is_taken() -> None:
    async with node("alice") as alice, node("bob", listen=None) as bob:
        with pytest.raises(ListenFailed) as refused:
            await bob.host.listen(alice.address)
        assert refused.value.in_use


async def test_who_stopped_listening_takes_nobody_new_and_keeps_the_others() -> None:
    async with (
        node("alice") as alice,
        node("bob") as bob,
        node("carol", quic=QuicConfig(handshake_timeout=0.3)) as carol,
    ):
        connection = await alice.dial(bob)
        bob.host.stop_listening()
        with pytest.raises(TimedOut):
            await carol.dial(bob)
        assert await ask(connection, ECHO, b"still here") == b"still here"


async def test_punching_comes_from_the_listening_socket() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(5)
        target = Multiaddr.of("127.0.0.1", peer.getsockname()[1], "quic-v1")
        async with node("alice", listen=None) as alice:
            assert not alice.quic.punch(target)
        async with node("alice") as alice:
            assert alice.quic.punch(target)
            data, origin = await asyncio.to_thread(peer.recvfrom, 2000)
            assert origin == ("127.0.0.1", alice.address.port)
            assert len(data) < 200


@pytest.mark.parametrize("host", ["ip4/224.0.0.1", "ip4/255.255.255.255", "ip4/0.0.0.0", "dns4/localhost"])
async def test_groups_and_names_are_not_punched(host: str) -> None:
    async with node("alice", listen=Multiaddr.parse("/ip4/0.0.0.0/udp/0/quic-v1")) as alice:
        assert not alice.quic.punch(Multiaddr.parse(f"/{host}/udp/4001/quic-v1"))


# Ends


async def test_a_close_is_heard_at_once_and_frees_everything() -> None:
    async with node("alice") as alice, node("bob") as bob:
        connection = await alice.dial(bob)
        there = await bob.inbound()
        stream = there.open_stream(ECHO)
        await stream.write(b"x")
        connection.close("enough")
        await until(lambda: there.is_closed)
        with pytest.raises(StreamReset, match="enough"):
            await stream.read_to_end(100)
        with pytest.raises(ConnectionLost):
            connection.open_stream(ECHO)
        await until(lambda: alice.held() == bob.held() == (0, 0, 0, 0))


async def test_what_was_written_before_a_close_arrives() -> None:
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def collect(stream: Stream) -> None:
        got.set_result(await stream.read_to_end(10_000_000))
        stream.close_write()

    async with node("alice") as alice, node("bob") as bob:
        bob.host.serve("/test/collect", collect)
        connection = await alice.dial(bob)
        stream = connection.open_stream("/test/collect")
        data = pattern(500_000)
        await stream.write(data)
        stream.close_write()
        assert (await stream.read()) == b""
        connection.close()
        assert await got == data


async def test_a_host_that_closes_says_so() -> None:
    async with node("alice") as alice:
        async with node("bob") as bob:
            connection = await alice.dial(bob)
        await until(lambda: connection.is_closed)
        await until(lambda: alice.held() == (0, 0, 0, 0))


async def test_a_bug_costs_one_connection_and_not_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    async with node("alice") as alice, node("carol") as carol, node("bob") as bob:
        connection = await alice.dial(bob)
        there = await bob.inbound()
        works = QuicConnection.datagrams_received

        def fails(self: QuicConnection, datagrams: list[tuple[bytes, Address]]) -> None:
            if self is there:
                raise RuntimeError("a bug")
            works(self, datagrams)

        monkeypatch.setattr(QuicConnection, "datagrams_received", fails)
        connection.ping()
        await until(lambda: connection.is_closed)
        assert await ask(await carol.dial(bob), ECHO, b"hello") == b"hello"
        assert [str(report["exception"]) for report in reports] == ["a bug"]
    assert bob.held() == (0, 0, 0, 0)


async def test_a_peer_that_restarts_is_missed_at_once() -> None:
    """Its key makes the same reset tokens: who goes on with the old connection is told (RFC 9000, 10.3)."""
    async with node("alice") as alice:
        async with node("bob") as bob:
            port = bob.address
            connection = await alice.dial(bob)
            there = await bob.inbound()
            # Dies without a word: nothing of what it still would say gets out.
            there._fail(ConnectionLost("gone"))
        async with node("bob", listen=port):
            connection.ping()
            await until(lambda: connection.is_closed)
        await until(lambda: alice.held() == (0, 0, 0, 0))


async def test_a_late_datagram_to_a_closed_connection_is_told_again() -> None:
    async with node("alice") as alice, node("bob") as bob:
        connection = await alice.dial(bob)
        there = await bob.inbound()
        assert isinstance(connection, QuicConnection)
        lost: list[object] = []
        bob_socket = there.sock
        send, bob_socket.send = bob_socket.send, lost.append  # type: ignore[method-assign]
        there.abort(ConnectionLost("not heard"))
        bob_socket.send = send  # type: ignore[method-assign]
        assert lost
        assert not connection.is_closed
        connection.ping()
        await until(lambda: connection.is_closed)
        assert bob.quic.endpoint.answered["closed"] >= 1


# Moves


class Rebinder(asyncio.DatagramProtocol):
    """A NAT before alice: everything of hers reaches bob from a port that can change."""

    def __init__(self, target: int) -> None:
        self._target = ("127.0.0.1", target)
        self._inside: tuple[str, int] | None = None
        self.outside: list[asyncio.DatagramTransport] = []
        self.port = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def before(cls, target: int) -> AsyncIterator[Rebinder]:
        nat = cls(target)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: nat, local_addr=("127.0.0.1", 0))
        await nat.rebind()
        try:
            yield nat
        finally:
            transport.close()
            for outside in nat.outside:
                outside.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        self.port = transport.get_extra_info("sockname")[1]

    async def rebind(self) -> None:
        nat = self

        class Outside(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
                if nat._inside is not None:
                    nat._transport.sendto(data, nat._inside)

        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            Outside, local_addr=("127.0.0.1", 0)
        )
        if self.outside:
            self.outside[-1].close()
        self.outside.append(transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._inside = addr
        self.outside[-1].sendto(data, self._target)


async def test_a_nat_that_forgets_in_the_middle_of_an_upload() -> None:
    async with node("alice") as alice, node("bob") as bob, Rebinder.before(bob.address.port or 0) as nat:
        connection = await alice.quic.dial(bob.peer_id, Multiaddr.of("127.0.0.1", nat.port, "quic-v1"))
        there = await bob.inbound()
        first = there.remote_address
        data = pattern(8_000_000)
        upload = asyncio.create_task(ask(connection, ECHO, data))
        await until(lambda: there.machine._streams._credit > 4_300_000)
        await nat.rebind()
        assert not upload.done()
        assert await upload == data
        await until(lambda: there.remote_port == nat.outside[-1].get_extra_info("sockname")[1])
        assert there.remote_address != first
        assert await ask(there, ECHO, b"the other way") == b"the other way"
        connection.close()
        await until(lambda: there.is_closed)


async def test_ids_that_are_given_up_lead_nowhere_any_more() -> None:
    async with node("alice") as alice, node("bob") as bob:
        connection = await alice.dial(bob)
        there = await bob.inbound()
        for _ in range(30):
            connection.machine._engine.change_connection_id()
            assert await ask(connection, ECHO, b"still you") == b"still you"
        limit = QuicConfig().active_connection_ids
        await until(lambda: bob.quic.known_ids <= limit + 1)  # and the one that the client chose at first
        assert there.connection_ids >= {one.cid for one in there.machine._engine._host_cids}


# Floods


class Stranger:
    """A UDP socket that says whatever it likes to a node."""

    def __init__(self, target: Multiaddr) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._sock.bind(("127.0.0.1", 0))
        self._sock.connect((target.host, target.port))
        self.sent = 0
        self.answers: list[bytes] = []

    async def __aenter__(self) -> Stranger:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sock.close()

    def say(self, data: bytes) -> None:
        self._sock.send(data)
        self.sent += len(data)

    def hear(self) -> list[bytes]:
        with contextlib.suppress(BlockingIOError):
            while True:
                self.answers.append(self._sock.recv(2000))
        return self.answers

    async def heard(self, count: int = 1) -> list[bytes]:
        await until(lambda: len(self.hear()) >= count)
        return self.answers


def client_of(label: str = "alice") -> PlainConnection:
    certificate, key = make_certificate(Identity.from_label(label), SystemClock().unix())
    return PlainConnection(
        configuration=QuicConfiguration(
            is_client=True,
            alpn_protocols=[ALPN],
            certificate=certificate,
            private_key=key,
            supported_versions=[1],
            verify_mode=0,
        )
    )


def first_datagram() -> bytes:
    client = client_of()
    client.connect(("127.0.0.1", 1), 0.0)
    [(data, _)] = client.datagrams_to_send(0.0)
    return data


async def test_garbage_costs_nothing_and_is_counted() -> None:
    rng = random.Random(5)
    async with node("alice") as alice, node("bob") as bob:
        connection = await alice.dial(bob)
        assert await ask(connection, ECHO, b"hello") == b"hello"
        held = bob.held()
        async with Stranger(bob.address) as stranger:
            for _ in range(scale(10_000, least=1_000)):
                stranger.say(rng.randbytes(rng.randrange(1, 1400)))
                if rng.random() < 0.05:
                    await asyncio.sleep(0)
            assert await ask(connection, ECHO, b"hello") == b"hello"
            await until(lambda: bob.quic.endpoint.dropped.total() > 0)
            assert sum(map(len, stranger.hear())) <= stranger.sent
        assert bob.held() == held


async def test_another_version_is_answered_with_ours() -> None:
    async with node("bob") as bob, Stranger(bob.address) as stranger:
        first = bytearray(first_datagram())
        first[1:5] = bytes.fromhex("1a2a3a4a")
        stranger.say(bytes(first))
        [answer] = await stranger.heard()
        header = pull_quic_header(Buffer(data=answer), host_cid_length=8)
        assert header.packet_type is QuicPacketType.VERSION_NEGOTIATION
        assert header.supported_versions == [1]
        stranger.say(bytes(first[:1199]))  # too small to be answered
        stranger.say(answer + bytes(1200))  # a list of versions is none
        await until(lambda: bob.quic.endpoint.dropped["too_small"] == 1)
        await until(lambda: bob.quic.endpoint.dropped["unexpected"] == 1)
        assert bob.held() == (0, 0, 0, 0)
        assert stranger.hear() == [answer]


async def test_handshakes_that_are_never_finished_get_thrice_what_they_sent() -> None:
    async with (
        node("bob", quic=QuicConfig(handshake_timeout=0.5)) as bob,
        Stranger(bob.address) as stranger,
    ):
        stranger.say(first_datagram())
        await until(lambda: bob.quic.half_open == 1)
        await until(lambda: bob.held() == (0, 0, 0, 0))
        answered = sum(map(len, stranger.hear()))
        assert 1200 <= answered <= 3 * stranger.sent


async def test_ten_thousand_half_open_handshakes() -> None:
    """Few get a place; the others are asked for a token; and who is honest gets in meanwhile."""
    count = scale(10_000, least=1_000)
    config = HostConfig(max_half_open=10_000)
    endpoint = EndpointConfig(stateless_per_second=1e6)
    async with node("alice") as alice, node("bob", host_config=config, endpoint=endpoint) as bob:
        first = first_datagram()
        async with Stranger(bob.address) as stranger:
            for number in range(count):
                # Another connection id makes it another handshake. It is not sealed for that id, but who has
                # to come with a token is not looked at any closer.
                stranger.say(first if not number else _with_id(first, number))
                if number % 50 == 0:
                    await asyncio.sleep(0)
                    stranger.hear()
            for _ in range(40):
                stranger.say(first_datagram())
            connection = await alice.dial(bob)
            assert await ask(connection, ECHO, b"hello") == b"hello"
            await until(lambda: bob.quic.endpoint.answered["retry"] >= 32)
            assert bob.quic.half_open <= EndpointConfig().retry_above
            assert len(bob.quic._connections) <= EndpointConfig().retry_above + 1
            stranger.hear()


async def test_what_is_sent_in_the_name_of_others_takes_nothing_from_them() -> None:
    """Here strangers at the address of an honest peer; in the world, whoever forges its /24, or all others.
    What they send must count neither against the slots nor against the rates, which TCP shares."""
    admission = AdmissionConfig(
        prefix_exempt=(), max_per_prefix=3, accepts_per_second_prefix=2.0, accepts_per_second=2.0
    )
    async with (
        node("alice") as alice,
        node("bob", host_config=HostConfig(admission=admission)) as bob,
        Stranger(bob.address) as stranger,
    ):
        first = first_datagram()
        for number in range(100):
            stranger.say(_with_id(first, number) if number % 2 else first_datagram())
        await until(lambda: bob.quic.half_open >= EndpointConfig().retry_above_per_address)
        assert bob.host.admission.total == 0
        connection = await alice.dial(bob)
        assert await ask(connection, ECHO, b"hello") == b"hello"
        assert bob.host.admission.total == 1
        assert bob.host.admission.held("127.0.0.1") == 1


async def test_who_shows_where_it_is_counts_and_is_told_when_there_is_no_room() -> None:
    admission = AdmissionConfig(prefix_exempt=(), accepts_per_second_prefix=1.0)
    async with (
        node("alice") as alice,
        node("carol") as carol,
        node("bob", host_config=HostConfig(admission=admission)) as bob,
    ):
        await alice.dial(bob)
        with contextlib.suppress(WwsError):  # the client of QUIC is done with the handshake first
            connection = await carol.dial(bob)
            await until(lambda: connection.is_closed)
        assert bob.host.refusals["connection", "accept_rate_prefix"] == 1
        assert bob.host.admission.total == 1
        await until(lambda: carol.held() == (0, 0, 0, 0))
        assert bob.quic.half_open == 0
        assert not bob.quic._half_open_there


def _with_id(first: bytes, number: int) -> bytes:
    return first[:6] + number.to_bytes(8, "big") + first[14:]


async def test_a_client_that_comes_back_with_its_token_gets_in() -> None:
    endpoint = EndpointConfig(retry_above=0)
    async with node("alice") as alice, node("bob", endpoint=endpoint) as bob:
        connection = await alice.dial(bob)
        assert await ask(connection, ECHO, b"hello") == b"hello"
        assert bob.quic.endpoint.answered == Counter(retry=1)
        assert (await bob.inbound()).is_proven


async def test_one_address_alone_has_to_show_where_it_is_first() -> None:
    async with (
        node("bob", endpoint=EndpointConfig(retry_above_per_address=2)) as bob,
        Stranger(bob.address) as one,
        Stranger(bob.address) as other,
    ):
        for stranger in (one, one, other):
            stranger.say(first_datagram())
        await until(lambda: bob.quic.endpoint.answered["retry"] == 1)
        assert bob.quic.half_open == 2


async def test_with_all_places_taken_nobody_is_answered() -> None:
    async with (
        node("bob", endpoint=EndpointConfig(max_half_open=1)) as bob,
        Stranger(bob.address) as stranger,
    ):
        stranger.say(first_datagram())
        stranger.say(first_datagram())
        await until(lambda: bob.quic.endpoint.dropped["half_open"] == 1)
        assert bob.quic.half_open == 1


async def test_a_thousand_connections_leave_nothing() -> None:
    async with node("alice") as alice, node("bob") as bob:
        for _ in range(scale(1_000, least=50)):
            connection = await alice.dial(bob)
            await until(lambda: len(bob.host.connections()) == 1)
            connection.close()
            await until(lambda: alice.held() == bob.held() == (0, 0, 0, 0))
            bob.host.admission._rate._tokens = 100.0
        assert not bob.quic._by_reset_token
        assert not alice.quic._by_reset_token
        assert not bob.quic._half_open_there


async def test_a_token_of_another_address_or_of_nobody_is_none() -> None:
    async with node("bob", endpoint=EndpointConfig(retry_above=0)) as bob:
        client = client_of()
        client.connect(("127.0.0.1", bob.address.port), 0.0)
        async with Stranger(bob.address) as one, Stranger(bob.address) as other:
            one.say(client.datagrams_to_send(0.0)[0][0])
            [retry] = await one.heard()
            client.receive_datagram(retry, ("127.0.0.1", bob.address.port), 0.1)
            with_token = client.datagrams_to_send(0.1)[0][0]
            other.say(with_token)
            await until(lambda: bob.quic.endpoint.dropped["token"] == 1)
            assert bob.quic.half_open == 0
            one.say(with_token)
            await until(lambda: bob.quic.half_open == 1)


async def test_what_is_not_a_wws_error_never_gets_out() -> None:
    async with node("alice", quic=QuicConfig(handshake_timeout=0.2)) as alice:
        for target in ("/ip4/192.0.2.1/udp/9/quic-v1", "/ip6/2001:db8::1/udp/9/quic-v1"):
            with pytest.raises(WwsError):
                await alice.quic.dial(Identity.from_label("bob").peer_id, Multiaddr.parse(target))
        await until(lambda: alice.held() == (0, 0, 0, 0))
