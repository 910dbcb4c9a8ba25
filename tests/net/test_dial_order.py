"""In which order addresses are tried, and from which port a dial leaves."""

import asyncio
import socket

import pytest

from tests.net.mesh_node import node
from wws.addresses.dial_order import in_dial_order
from wws.addresses.multiaddr import Multiaddr
from wws.errors import WwsError
from wws.runtime.dialer import DialerConfig, TimedOut
from wws.runtime.host import Host
from wws.runtime.sockets import dialling_socket, listening_socket

pytestmark = [pytest.mark.net, pytest.mark.timeout(30), pytest.mark.usefixtures("leaves_nothing")]


def addresses(*texts: str) -> list[Multiaddr]:
    return [Multiaddr.parse(text) for text in texts]


@pytest.mark.parametrize(
    ("given", "tried"),
    [
        (
            addresses("/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.1/udp/1/quic-v1"),
            addresses("/ip4/192.0.2.1/udp/1/quic-v1", "/ip4/192.0.2.1/tcp/1"),
        ),
        (
            addresses("/ip4/10.0.0.1/udp/1/quic-v1", "/ip4/10.0.0.1/tcp/1"),
            addresses("/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.1/udp/1/quic-v1"),
        ),
        (
            addresses("/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.2/tcp/1", "/ip6/2001:db8::1/tcp/1"),
            addresses("/ip4/192.0.2.1/tcp/1", "/ip6/2001:db8::1/tcp/1", "/ip4/192.0.2.2/tcp/1"),
        ),
        ([], []),
    ],
)
def test_the_order_of_a_race(given: list[Multiaddr], tried: list[Multiaddr]) -> None:
    assert list(in_dial_order(given)) == tried


async def test_a_dial_leaves_from_the_port_that_we_listen_at() -> None:
    async with node("alice") as alice, node("bob") as bob:
        connection = await alice.dialer.connect(bob.peer_id, [bob.address])
        assert connection.local_address.port == alice.host.listen_addresses[0].port
        # Again, while the way from this port to that one is still being cleared up: from another port.
        connection.close()
        again = await alice.dialer.connect(bob.peer_id, [bob.address])
        assert again.is_established


async def test_a_host_that_does_not_listen_dials_from_a_fresh_port() -> None:
    async with node("alice", dialer=DialerConfig(reuse_port=False)) as alice, node("bob") as bob:
        connection = await alice.dialer.connect(bob.peer_id, [bob.address])
        assert connection.local_address.port != alice.host.listen_addresses[0].port


def test_a_port_that_we_share_with_our_dials_is_refused_to_others() -> None:
    with listening_socket("127.0.0.1", 0) as ours:  # from its making on: two nodes may start at once
        port = ours.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            listening_socket("127.0.0.1", port)
        with pytest.raises(OSError, match="in use"):
            listening_socket("0.0.0.0", port)
        own = [Multiaddr.of("127.0.0.1", port)]
        with dialling_socket("127.0.0.9", own) as dial:  # type: ignore[union-attr]
            assert dial.getsockname()[1] == port
        assert dialling_socket("192.0.2.1", own) is None  # the loopback leads nowhere
        assert dialling_socket("::1", own) is None


async def test_two_that_dial_each_other_at_once_meet() -> None:
    """From the ports that both listen at this may become one connection with two initiators."""
    async with node("alice") as alice, node("bob") as bob:
        for _ in range(10):
            there, back = await asyncio.gather(
                alice.dialer.connect(bob.peer_id, [bob.address]),
                bob.dialer.connect(alice.peer_id, [alice.address]),
            )
            assert there.peer_id == bob.peer_id
            assert back.peer_id == alice.peer_id
            for connection in (*alice.host.connections(), *bob.host.connections()):
                connection.abort(WwsError("next round"))
            while alice.host.connections() or bob.host.connections():
                await asyncio.sleep(0)


async def test_a_punch_that_nobody_meets_ends() -> None:
    async with node("alice") as alice, node("bob") as bob:
        stop_accepting(bob.host)
        until = alice.host.clock.monotonic() + 0.3
        with pytest.raises(WwsError):
            await alice.dialer.punch_tcp(bob.peer_id, bob.address, initiator=True, until=until)
        with pytest.raises(TimedOut):
            await alice.dialer.punch_tcp(bob.peer_id, bob.address, initiator=True, until=0.0)
        assert not alice.host._connections


async def test_who_waits_for_a_direct_connection_and_gives_up_leaves_nothing() -> None:
    async with node("alice") as alice, node("bob") as bob:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await alice.host.wait_direct(bob.peer_id)
        assert not alice.host._direct_waiters
        waiting = asyncio.create_task(alice.host.wait_direct(bob.peer_id))
        await bob.dialer.connect(alice.peer_id, [alice.address])
        assert (await waiting).peer_id == bob.peer_id
        assert not alice.host._direct_waiters


def stop_accepting(host: Host) -> None:
    for server in host._servers:
        for sock in server.sockets:
            assert sock.family == socket.AF_INET
        server.close()
    host._servers.clear()
