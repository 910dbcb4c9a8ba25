"""mDNS over real sockets, on loopback."""

import asyncio
import socket
from collections.abc import Sequence

import pytest

from tests.prerequisites import skip
from wws.addresses.multiaddr import Multiaddr
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.runtime.mdns import GROUP, Mdns

pytestmark = pytest.mark.net

ALICE = Identity.from_label("alice").peer_id
BOB = Identity.from_label("bob").peer_id


class Ear:
    """Remembers who was found, and waits for somebody."""

    def __init__(self) -> None:
        self.found: dict[PeerId, tuple[Multiaddr, ...]] = {}
        self._changed = asyncio.Event()

    def __call__(self, peer: PeerId, addresses: Sequence[Multiaddr]) -> None:
        self.found[peer] = tuple(addresses)
        self._changed.set()

    async def hears(self, peer: PeerId) -> tuple[Multiaddr, ...]:
        async with asyncio.timeout(10):
            while peer not in self.found:
                self._changed.clear()
                await self._changed.wait()
        return self.found[peer]


def _loopback() -> str:
    name = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None)
    if name is None:
        skip("no loopback interface")
    return name


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def node(peer: PeerId, ear: Ear, port: int, listen: str) -> Mdns:
    return Mdns(peer, lambda: [Multiaddr.parse(listen)], ear, interfaces=[_loopback()], port=port)


async def test_alice_and_bob_find_each_other() -> None:
    port = _free_port()
    alice_hears, bob_hears = Ear(), Ear()
    alice = node(ALICE, alice_hears, port, "/ip4/127.0.0.1/tcp/9001")
    bob = node(BOB, bob_hears, port, "/ip4/127.0.0.1/tcp/9002")
    await alice.start()
    await bob.start()
    try:
        if not alice.interfaces:
            skip("no multicast on loopback here")
        assert await alice_hears.hears(BOB) == (Multiaddr.parse(f"/ip4/127.0.0.1/tcp/9002/p2p/{BOB}"),)
        assert await bob_hears.hears(ALICE) == (Multiaddr.parse(f"/ip4/127.0.0.1/tcp/9001/p2p/{ALICE}"),)
        assert ALICE not in alice_hears.found
    finally:
        await alice.close()
        await bob.close()
        await bob.close()


async def test_rubbish_does_not_stop_it() -> None:
    port = _free_port()
    ear = Ear()
    alice = node(ALICE, ear, port, "/ip4/127.0.0.1/tcp/9001")
    await alice.start()
    bob = node(BOB, Ear(), port, "/ip4/127.0.0.1/tcp/9002")
    try:
        if not alice.interfaces:
            skip("no multicast on loopback here")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            for packet in (b"", b"\xff" * 40, b"\x00" * 5_000):
                sender.sendto(packet, (GROUP, port))
        await bob.start()
        assert await ear.hears(BOB)
        assert alice.peers.refused.get("malformed", 0) >= 1
    finally:
        await alice.close()
        await bob.close()


async def test_no_interface_is_no_error() -> None:
    mdns = Mdns(ALICE, list, Ear(), interfaces=["no such interface"], port=_free_port())
    await mdns.start()
    assert mdns.interfaces == []
    await mdns.close()
