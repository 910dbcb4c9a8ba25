"""AutoNAT's serving side over real sockets: what peers are told, and whom they cannot make us dial."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import pytest

from tests.interop.ours import until
from tests.net.mesh_node import MeshNode, node
from wws.addresses.multiaddr import Multiaddr
from wws.codec import varint
from wws.errors import WwsError
from wws.identity.keys import Identity
from wws.nat import autonat_v1, autonat_v2
from wws.nat.autonat_v2 import (
    DialBack,
    DialBackResponse,
    DialDataRequest,
    DialDataResponse,
    DialRequest,
    DialResponse,
    DialStatus,
    ResponseStatus,
)
from wws.nat.dial_back_rules import DialBackConfig
from wws.runtime.circuit import Circuit
from wws.runtime.clock import SystemClock
from wws.runtime.connection import Connection, ConnectionLost
from wws.runtime.host import Host, HostConfig
from wws.runtime.nat.autonat_server import AutonatServer, AutonatServerConfig
from wws.runtime.quic_transport import QuicTransport
from wws.runtime.streams import Stream, StreamReset
from wws.transport.multistream import ProtocolNotSupported

pytestmark = [pytest.mark.net, pytest.mark.timeout(60), pytest.mark.usefixtures("leaves_nothing")]

NONCE = 0xFEDCBA9876543210
V1, V2 = autonat_v1.PROTOCOL, autonat_v2.DIAL_REQUEST_PROTOCOL
CONFIG = AutonatServerConfig(
    rules=DialBackConfig(max_wait=0.01), request_timeout=5, data_timeout=5, dial_timeout=5, call_timeout=2
)
REACHED = DialResponse(ResponseStatus.OK, 0, DialStatus.OK)
NOT_REACHED = DialResponse(ResponseStatus.OK, 0, DialStatus.E_DIAL_ERROR)
NOT_CALLED = DialResponse(ResponseStatus.OK, 0, DialStatus.E_DIAL_BACK_ERROR)
REFUSED = DialResponse(ResponseStatus.E_DIAL_REFUSED)
REJECTED = DialResponse(ResponseStatus.E_REQUEST_REJECTED)


class Server:
    """A node that serves AutoNAT, and the hosts that it has dialled with."""

    def __init__(self, mesh: MeshNode, config: AutonatServerConfig) -> None:
        self.mesh = mesh
        self.dial_hosts: list[Host] = []
        self.autonat = AutonatServer(mesh.host, self._make_dial_host, config)

    @property
    def refusals(self) -> dict[str, int]:
        """Refusals of AutoNAT by reason."""
        counted: Counter[str] = Counter()
        for (protocol, reason), count in self.mesh.host.refusals.items():
            if protocol in (V1, V2):
                counted[reason] += count
        return dict(counted)

    @property
    def requests(self) -> dict[tuple[str, str], int]:
        return dict(self.autonat.requests)

    def _make_dial_host(self) -> Host:
        identity = Identity.from_label(f"dial host {len(self.dial_hosts)}")
        host = Host(identity, HostConfig(tick=0.01), clock=SystemClock(), rng=random.Random(1))
        if self.mesh.host.quic is not None:
            host.quic = QuicTransport(host, identity)
        self.dial_hosts.append(host)
        return host


@asynccontextmanager
async def server(config: AutonatServerConfig = CONFIG) -> AsyncIterator[Server]:
    """A server; at the end every slot has to be free, and every connection that it dialled gone."""
    async with node("bob") as mesh:
        bob = Server(mesh, config)
        yield bob
        await until(lambda: bob.autonat.under_way == 0)
        assert all(host.connections() == [] and host.admission.total == 0 for host in bob.dial_hosts)


class Mailbox:
    """What arrives at a peer's dial-back protocol."""

    def __init__(
        self, mesh: MeshNode, answer: bytes | None = varint.frame(DialBackResponse().encode())
    ) -> None:
        self.nonces: list[int] = []
        self.connections: list[Connection] = []
        self._answer = answer
        mesh.host.serve(autonat_v2.DIAL_BACK_PROTOCOL, self._take)

    async def _take(self, stream: Stream) -> None:
        frame = await stream.read_frame(autonat_v2.MAX_DIAL_BACK_BYTES)
        assert frame is not None
        self.connections.append(stream.connection)
        self.nonces.append(DialBack.parse(frame).nonce)
        if self._answer is None:
            return  # the host resets what is left open
        await stream.write(self._answer)
        await stream.finish()


async def ask(connection: Connection, *addresses: Multiaddr, nonce: int = NONCE) -> DialResponse:
    """One request of version 2 that costs nothing."""
    async with connection.open_stream(V2) as stream:
        await stream.write_frame(DialRequest(addresses, nonce).encode())
        answer = await read_v2(stream)
        assert isinstance(answer, DialResponse)
        await stream.finish()
        return answer


async def ask_to_pay(stream: Stream, *addresses: Multiaddr) -> DialDataRequest:
    """One request of version 2 that costs something; how much."""
    await stream.write_frame(DialRequest(addresses, NONCE).encode())
    cost = await read_v2(stream)
    assert isinstance(cost, DialDataRequest)
    return cost


async def read_v2(stream: Stream) -> autonat_v2.Message:
    frame = await stream.read_frame(8192)
    assert frame is not None
    return autonat_v2.parse(frame)


async def ask_v1(connection: Connection, message: bytes) -> autonat_v1.DialResponse:
    """One request of version 1."""
    async with connection.open_stream(V1) as stream:
        await stream.write_frame(message)
        frame = await stream.read_frame(8192)
        assert frame is not None
        answer = autonat_v1.parse(frame)
        assert isinstance(answer, autonat_v1.DialResponse)
        await stream.finish()
        return answer


@contextmanager
def listening(ip: str) -> Iterator[tuple[Multiaddr, socket.socket]]:
    """A socket of somebody else that listens, and its address."""
    with socket.create_server((ip, 0)) as sock:
        sock.setblocking(False)
        yield Multiaddr.of(ip, sock.getsockname()[1]), sock


@contextmanager
def closed_port() -> Iterator[Multiaddr]:
    """An address that is taken, and where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield Multiaddr.of("127.0.0.1", sock.getsockname()[1])


def saw_nobody(sock: socket.socket) -> bool:
    """Whether nobody has connected. The kernel answers for the socket: a SYN that came is in its queue."""
    try:
        sock.accept()[0].close()
    except BlockingIOError:
        return True
    return False


def at(mesh: MeshNode) -> Multiaddr:
    return mesh.address.without_peer()


# Version 2: what is dialled


async def test_who_is_reachable_gets_its_nonce_and_is_told() -> None:
    async with server() as bob, node("alice") as alice:
        inbox = Mailbox(alice)
        connection = await alice.join(bob.mesh)
        assert await ask(connection, at(alice)) == REACHED
        assert inbox.nonces == [NONCE]
        assert bob.requests == {("v2", "ok"): 1}
        assert bob.refusals == {}


async def test_the_dial_comes_from_a_new_socket_with_a_key_of_its_own_and_is_closed() -> None:
    async with server() as bob, node("alice") as alice:
        inbox = Mailbox(alice)
        connection = await alice.join(bob.mesh)
        for _ in range(2):
            assert await ask(connection, at(alice)) == REACHED
        first, second = inbox.connections
        assert len({bob.mesh.port, connection.remote_port, first.remote_port, second.remote_port}) == 3
        assert len({bob.mesh.peer_id, first.peer_id, second.peer_id}) == 3
        await until(lambda: first.is_closed and second.is_closed)
        assert alice.host.connections() == [connection]


async def test_the_first_address_that_can_be_dialled_is_dialled_and_no_other() -> None:
    async with server() as bob, node("alice") as alice:
        inbox = Mailbox(alice)
        connection = await alice.join(bob.mesh)
        with listening("127.0.0.1") as (later, sock):
            addresses = (
                Multiaddr.parse(f"/dns4/localhost/tcp/{alice.port}"),
                Multiaddr.parse(f"{bob.mesh.address}/p2p-circuit"),
                at(alice).with_port(22),
                alice.address,
                later,
            )
            assert await ask(connection, *addresses) == replace(REACHED, index=3)
            assert saw_nobody(sock)
        assert inbox.nonces == [NONCE]


async def test_requests_at_once_get_each_their_own_nonce() -> None:
    async with server() as bob, node("alice") as alice, node("carol") as carol:
        inboxes = [Mailbox(alice), Mailbox(carol)]
        connections = [await alice.join(bob.mesh), await carol.join(bob.mesh)]
        answers = await asyncio.gather(
            *[ask(connections[0], at(alice), nonce=1) for _ in range(2)],
            *[ask(connections[1], at(carol), nonce=2) for _ in range(2)],
        )
        assert answers == [REACHED] * 4
        assert [inbox.nonces for inbox in inboxes] == [[1, 1], [2, 2]]


async def test_where_nobody_listens_is_a_dial_error() -> None:
    async with server() as bob, node("alice") as alice:
        connection = await alice.join(bob.mesh)
        with closed_port() as address:
            assert await ask(connection, address) == NOT_REACHED
        assert bob.requests == {("v2", "dial_error"): 1}


async def test_somebody_else_at_the_address_is_a_dial_error() -> None:
    async with server() as bob, node("alice") as alice, node("carol") as carol:
        inbox = Mailbox(carol)
        connection = await alice.join(bob.mesh)
        assert await ask(connection, at(carol)) == NOT_REACHED
        assert inbox.nonces == []


async def test_who_listens_and_says_nothing_is_a_dial_error() -> None:
    async with server(replace(CONFIG, dial_timeout=0.2)) as bob, node("alice") as alice:
        connection = await alice.join(bob.mesh)
        with listening("127.0.0.1") as (silent, _):
            assert await ask(connection, silent) == NOT_REACHED


async def test_a_peer_that_resets_the_stream_of_the_nonce_has_taken_it() -> None:
    """go always does, and over QUIC its answer is lost by it."""
    async with server() as bob, node("alice") as alice:
        inbox = Mailbox(alice, None)
        connection = await alice.join(bob.mesh)
        assert await ask(connection, at(alice)) == REACHED
        assert inbox.nonces == [NONCE]


async def test_a_peer_that_closes_the_connection_of_the_nonce_has_not() -> None:
    async with server() as bob, node("alice") as alice:

        async def hang_up(stream: Stream) -> None:
            stream.connection.abort(ConnectionLost("enough"))

        alice.host.serve(autonat_v2.DIAL_BACK_PROTOCOL, hang_up)
        connection = await alice.join(bob.mesh)
        assert await ask(connection, at(alice)) == NOT_CALLED


@pytest.mark.parametrize("answer", [b"", b"\x02\x08\x01", b"\x0a" + b"\xff" * 10, b"\x64"])
async def test_a_nonce_that_is_not_confirmed_is_a_dial_back_error(answer: bytes) -> None:
    async with server() as bob, node("alice") as alice:
        inbox = Mailbox(alice, answer)
        connection = await alice.join(bob.mesh)
        assert await ask(connection, at(alice)) == NOT_CALLED
        assert inbox.nonces == [NONCE]
        assert bob.requests == {("v2", "dial_back_error"): 1}


async def test_a_peer_that_does_not_take_nonces_is_a_dial_back_error() -> None:
    async with server() as bob, node("alice") as alice:
        connection = await alice.join(bob.mesh)
        assert await ask(connection, at(alice)) == NOT_CALLED


async def test_a_peer_that_takes_the_nonce_and_stays_silent_is_a_dial_back_error() -> None:
    async with server(replace(CONFIG, call_timeout=0.2)) as bob, node("alice") as alice:
        done = asyncio.Event()

        async def wait(stream: Stream) -> None:
            await done.wait()

        alice.host.serve(autonat_v2.DIAL_BACK_PROTOCOL, wait)
        connection = await alice.join(bob.mesh)
        assert await ask(connection, at(alice)) == NOT_CALLED
        done.set()


async def listen_quic(mesh: MeshNode) -> Multiaddr:
    """Let a node speak QUIC too; where."""
    mesh.host.quic = QuicTransport(mesh.host, mesh.host.identity)
    return await mesh.host.listen(Multiaddr.parse("/ip4/127.0.0.1/udp/0/quic-v1"))


async def test_quic_is_dialled_from_a_new_socket_too() -> None:
    """From the socket that listens, everybody would look public."""
    async with server() as bob, node("alice") as alice:
        inbox = Mailbox(alice)
        listening_at = await listen_quic(bob.mesh)
        address = await listen_quic(alice)
        connection = await alice.join(bob.mesh)
        for _ in range(2):
            assert await ask(connection, address) == REACHED
        answer = await ask_v1(connection, autonat_v1.Dial(None, (address,)).encode())
        assert answer == autonat_v1.DialResponse(autonat_v1.ResponseStatus.OK, "", address)
        first, second = inbox.connections
        assert first.transport == second.transport == "quic-v1"
        assert len({listening_at.port, first.remote_port, second.remote_port}) == 3
        await until(lambda: alice.host.connections() == [connection])


async def test_quic_where_nobody_answers_is_a_dial_error() -> None:
    async with server(replace(CONFIG, dial_timeout=0.3)) as bob, node("alice") as alice:
        await listen_quic(bob.mesh)
        connection = await alice.join(bob.mesh)
        with socket.socket(type=socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            address = Multiaddr.of("127.0.0.1", silent.getsockname()[1], "quic-v1")
            assert await ask(connection, address) == NOT_REACHED


# Version 2: what is not


@pytest.mark.parametrize(
    "address, reason",
    [
        ("/ip4/127.0.0.1/tcp/25", "port"),
        ("/ip4/0.0.0.0/tcp/9000", "address_refused"),
        ("/ip4/224.0.0.1/tcp/9000", "address_refused"),
        ("/ip6/::ffff:0.0.0.0/tcp/9000", "address_refused"),
        ("/dns4/localhost/tcp/9000", "address_kind"),
        ("/ip4/127.0.0.1/udp/9000/quic-v1", "address_kind"),
    ],
)
async def test_addresses_that_nobody_should_dial_are_refused(address: str, reason: str) -> None:
    async with server() as bob, node("alice") as alice:
        connection = await alice.join(bob.mesh)
        assert await ask(connection, Multiaddr.parse(address)) == REFUSED
        assert bob.refusals == {reason: 1}
        assert bob.requests == {("v2", "refused"): 1}
        assert bob.dial_hosts == []


async def test_we_do_not_dial_ourselves() -> None:
    async with server() as bob, node("alice") as alice:
        connection = await alice.join(bob.mesh)
        assert await ask(connection, at(bob.mesh)) == REFUSED
        assert bob.refusals == {"own_address": 1}


async def test_a_request_without_addresses_is_refused() -> None:
    async with server() as bob, node("alice") as alice:
        connection = await alice.join(bob.mesh)
        assert await ask(connection) == REFUSED
        assert bob.refusals == {"no_address": 1}


async def test_nobody_is_served_over_a_circuit() -> None:
    """The observed address of such a peer is the relay's."""
    async with server() as bob, node("alice") as alice, node("carol") as carol:
        relay = Circuit(carol.peer_id, carol.address)
        listener = await asyncio.get_running_loop().create_server(
            lambda: bob.mesh.host.new_inbound(circuit=relay), "127.0.0.1", 0
        )
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            connection = await alice.dial(Multiaddr.of("127.0.0.1", port).with_peer(bob.mesh.peer_id))
            seen = await bob.mesh.connection_with(alice.peer_id)
            assert seen.is_limited
            assert await ask(connection, at(alice)) == REFUSED
            status = autonat_v1.ResponseStatus.E_DIAL_REFUSED
            request = autonat_v1.Dial(alice.peer_id, (at(alice),))
            assert (await ask_v1(connection, request.encode())).status is status
        assert bob.refusals == {"over_circuit": 2}
        assert bob.dial_hosts == []


# Third parties


async def test_a_third_party_is_not_dialled_by_who_does_not_pay() -> None:
    async with server() as bob, node("alice") as alice:
        connection = await alice.join(bob.mesh)
        with listening("127.0.0.2") as (victim, sock):
            async with connection.open_stream(V2) as stream:
                cost = await ask_to_pay(stream, victim)
                assert 30_000 <= cost.byte_count <= 100_000
                stream.reset()
            await until(lambda: bob.autonat.under_way == 0)
            assert saw_nobody(sock)
        assert bob.requests == {("v2", "aborted"): 1}
        assert bob.dial_hosts == []


async def test_a_third_party_is_not_dialled_by_who_pays_one_byte_too_little() -> None:
    async with server() as bob, node("alice") as alice:
        connection = await alice.join(bob.mesh)
        with listening("127.0.0.2") as (victim, sock):
            async with connection.open_stream(V2) as stream:
                cost = await ask_to_pay(stream, victim)
                await pay(stream, cost.byte_count - 1)
                stream.close_write()
                with pytest.raises(StreamReset):
                    await stream.read()
            await until(lambda: bob.autonat.under_way == 0)
            assert saw_nobody(sock)
        assert bob.requests == {("v2", "aborted"): 1}
        assert bob.refusals == {"truncated": 1}
        assert bob.dial_hosts == []


async def test_who_pays_too_slowly_is_cut_off() -> None:
    async with server(replace(CONFIG, data_timeout=0.2)) as bob, node("alice") as alice:
        connection = await alice.join(bob.mesh)
        with listening("127.0.0.2") as (victim, sock):
            async with connection.open_stream(V2) as stream:
                await pay(stream, (await ask_to_pay(stream, victim)).byte_count // 2)
                with pytest.raises(StreamReset):
                    await stream.read()
            assert saw_nobody(sock)
        assert bob.refusals == {"timeout": 1}


async def test_who_pays_in_crumbs_is_cut_off() -> None:
    async with server() as bob, node("alice") as alice:
        connection = await alice.join(bob.mesh)
        with listening("127.0.0.2") as (victim, sock):
            async with connection.open_stream(V2) as stream:
                await ask_to_pay(stream, victim)
                await stream.write_frame(DialDataResponse(bytes(99)).encode())
                with pytest.raises(StreamReset):
                    await stream.read()
            assert saw_nobody(sock)
        assert bob.refusals == {"dial_data_too_small": 1}


async def test_who_has_paid_is_dialled_at_another_ip() -> None:
    async with server() as bob, node("alice") as alice:
        inbox = Mailbox(alice)
        connection = await alice.join(bob.mesh)
        elsewhere = (await alice.host.listen(Multiaddr.parse("/ip4/127.0.0.3/tcp/0"))).without_peer()
        async with connection.open_stream(V2) as stream:
            cost = await ask_to_pay(stream, Multiaddr.parse("/dns4/localhost/tcp/9000"), elsewhere)
            assert cost.index == 1
            await pay(stream, cost.byte_count + 1000)  # the last piece may be larger than what is owed
            assert await read_v2(stream) == replace(REACHED, index=1)
            await stream.finish()
        assert inbox.nonces == [NONCE]
        assert inbox.connections[0].local_address == elsewhere


async def test_paid_dials_have_a_budget_of_their_own() -> None:
    config = replace(CONFIG, rules=replace(CONFIG.rules, paid_per_minute=1))
    async with server(config) as bob, node("alice") as alice:
        Mailbox(alice)
        connection = await alice.join(bob.mesh)
        with listening("127.0.0.2") as (victim, sock):
            async with connection.open_stream(V2) as stream:
                await ask_to_pay(stream, victim)
                stream.reset()
            assert await ask(connection, victim) == REJECTED
            assert saw_nobody(sock)
        assert await ask(connection, at(alice)) == REACHED
        assert bob.refusals == {"stream_reset": 1, "paid_dials": 1}


async def pay(stream: Stream, byte_count: int) -> None:
    """Send that many bytes of dial data, in pieces of 4096."""
    while byte_count > 0:
        await stream.write_frame(DialDataResponse(bytes(min(4096, byte_count))).encode())
        byte_count -= 4096


# Floods and bad input


async def test_a_flood_is_bounded_and_counted_and_leaves_every_slot_free() -> None:
    rules = replace(CONFIG.rules, at_once_peer=2, requests_per_minute_peer=6)
    async with server(replace(CONFIG, rules=rules)) as bob, node("alice") as alice, node("carol") as carol:
        Mailbox(alice)
        Mailbox(carol)
        connection = await alice.join(bob.mesh)
        answers = await asyncio.gather(*[ask(connection, at(alice)) for _ in range(60)])
        served = answers.count(REACHED)
        assert 2 <= served <= 6
        assert answers.count(REJECTED) == 60 - served
        assert sum(bob.refusals.values()) == 60 - served
        assert set(bob.refusals) <= {"at_once_per_peer", "requests_per_peer"}
        assert bob.autonat.under_way == 0
        for _ in range(6 - served):
            assert await ask(connection, at(alice)) == REACHED
        assert await ask(connection, at(alice)) == REJECTED
        assert await ask(await carol.join(bob.mesh), at(carol)) == REACHED


async def test_peers_that_vanish_while_they_should_pay_leave_no_slot_taken() -> None:
    async with server() as bob:
        with listening("127.0.0.2") as (victim, sock):
            for label in ("alice", "carol", "alice"):
                async with node(label) as peer:
                    connection = await peer.join(bob.mesh)
                    stream = connection.open_stream(V2)
                    await ask_to_pay(stream, victim)
                    assert bob.autonat.under_way == 1
                await until(lambda: bob.autonat.under_way == 0)
            assert saw_nobody(sock)
        assert bob.requests == {("v2", "aborted"): 3}


async def test_closing_the_node_ends_requests_under_way() -> None:
    async with node("alice") as alice:
        with listening("127.0.0.1") as (silent, _):
            async with node("bob") as mesh:
                bob = Server(mesh, CONFIG)
                connection = await alice.join(mesh)
                asking = asyncio.create_task(ask(connection, silent))
                await until(lambda: len(bob.dial_hosts) == 1 and bob.dial_hosts[0].admission.total == 1)
            with pytest.raises(WwsError):
                await asking
            assert bob.autonat.under_way == 0
            assert bob.dial_hosts[0].admission.total == 0


async def test_other_limits_hold_from_the_next_request_on() -> None:
    async with server() as bob, node("alice") as alice:
        Mailbox(alice)
        connection = await alice.join(bob.mesh)
        assert await ask(connection, at(alice)) == REACHED
        rules = replace(CONFIG.rules, requests_per_minute_peer=1)
        bob.autonat.reconfigure(replace(CONFIG, rules=rules))
        assert await ask(connection, at(alice)) == REJECTED


async def test_who_stops_serving_takes_no_more_requests() -> None:
    async with server() as bob, node("alice") as alice:
        connection = await alice.join(bob.mesh)
        bob.autonat.stop()
        for protocol in (V1, V2):
            async with connection.open_stream(protocol) as stream:
                await stream.write_frame(b"")
                with pytest.raises(ProtocolNotSupported):
                    await stream.read()
        assert bob.requests == {}


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "truncated"),
        (varint.frame(b""), "malformed"),
        (varint.frame(b"\xff" * 20), "malformed"),
        (varint.frame(REACHED.encode()), "remote_protocol_error"),
        (varint.frame(DialDataResponse(b"x").encode()), "remote_protocol_error"),
        (varint.encode(8193), "too_large"),
        (varint.encode(20) + b"short", "truncated"),
    ],
)
async def test_malformed_requests_are_cut_off(data: bytes, reason: str) -> None:
    async with server() as bob, node("alice") as alice:
        connection = await alice.join(bob.mesh)
        async with connection.open_stream(V2) as stream:
            await stream.write(data)
            stream.close_write()
            with pytest.raises(StreamReset):
                await stream.read()
        assert bob.refusals == {reason: 1}
        assert bob.requests == {("v2", "aborted"): 1}
        assert not connection.is_closed


async def test_who_opens_a_stream_and_says_nothing_is_cut_off() -> None:
    async with server(replace(CONFIG, request_timeout=0.2)) as bob, node("alice") as alice:
        connection = await alice.join(bob.mesh)
        for protocol in (V1, V2):
            async with connection.open_stream(protocol) as stream:
                await stream.write(b"\x7f")
                with pytest.raises(StreamReset):
                    await stream.read()
        assert bob.refusals == {"timeout": 2}


# Version 1


async def test_version_1_dials_the_addresses_at_the_observed_ip() -> None:
    async with server() as bob, node("alice") as alice:
        connection = await alice.join(bob.mesh)
        with closed_port() as closed, listening("127.0.0.2") as (victim, sock):
            named = (victim, closed, at(alice))
            answer = await ask_v1(connection, autonat_v1.Dial(alice.peer_id, named).encode())
            assert saw_nobody(sock)
        assert answer == autonat_v1.DialResponse(autonat_v1.ResponseStatus.OK, "", at(alice))
        assert bob.requests == {("v1", "ok"): 1}
        await until(lambda: alice.host.connections() == [connection])


async def test_version_1_says_when_no_address_was_reached() -> None:
    async with server() as bob, node("alice") as alice, node("carol") as carol:
        connection = await alice.join(bob.mesh)
        with closed_port() as closed:
            answer = await ask_v1(connection, autonat_v1.Dial(None, (closed, at(carol))).encode())
        assert answer.status is autonat_v1.ResponseStatus.E_DIAL_ERROR
        assert bob.requests == {("v1", "dial_error"): 1}


async def test_version_1_refuses_what_it_must_not_dial() -> None:
    async with server() as bob, node("alice") as alice, node("carol") as carol:
        connection = await alice.join(bob.mesh)
        requests = (
            autonat_v1.Dial(alice.peer_id, (Multiaddr.parse("/dns4/localhost/tcp/9000"),)),
            autonat_v1.Dial(alice.peer_id, ()),
            autonat_v1.Dial(carol.peer_id, (at(carol),)),
            autonat_v1.Dial(alice.peer_id, (at(bob.mesh),)),
            autonat_v1.Dial(alice.peer_id, (at(alice).with_host("127.0.0.2"),)),
        )
        for request in requests:
            answer = await ask_v1(connection, request.encode())
            assert answer.status is autonat_v1.ResponseStatus.E_DIAL_REFUSED
        reasons = ("address_kind", "no_address", "for_another_peer", "own_address", "other_ip")
        assert bob.refusals == dict.fromkeys(reasons, 1)
        assert bob.dial_hosts == []


async def test_version_1_tells_who_asks_wrongly() -> None:
    async with server() as bob, node("alice") as alice:
        connection = await alice.join(bob.mesh)
        answer = autonat_v1.DialResponse(autonat_v1.ResponseStatus.OK)
        for message in (b"", b"\xff" * 9, answer.encode()):
            said = await ask_v1(connection, message)
            assert said.status is autonat_v1.ResponseStatus.E_BAD_REQUEST
        assert bob.requests == {("v1", "bad_request"): 3}


async def test_both_versions_share_one_budget() -> None:
    rules = replace(CONFIG.rules, requests_per_minute_peer=2)
    async with server(replace(CONFIG, rules=rules)) as bob, node("alice") as alice:
        Mailbox(alice)
        connection = await alice.join(bob.mesh)
        assert await ask(connection, at(alice)) == REACHED
        request = autonat_v1.Dial(alice.peer_id, (at(alice),)).encode()
        assert (await ask_v1(connection, request)).status is autonat_v1.ResponseStatus.OK
        assert (await ask_v1(connection, request)).status is autonat_v1.ResponseStatus.E_DIAL_REFUSED
        assert await ask(connection, at(alice)) == REJECTED
        assert bob.refusals == {"requests_per_peer": 2}
        assert bob.requests[("v1", "rejected")] == bob.requests[("v2", "rejected")] == 1


async def test_peers_of_another_network_are_served() -> None:
    async with server() as bob, node("alice", network="/wws/net/fedcba9876543210") as alice:
        Mailbox(alice)
        assert await ask(await alice.join(bob.mesh), at(alice)) == REACHED
