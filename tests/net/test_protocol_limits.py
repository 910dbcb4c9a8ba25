"""Every protocol that a node serves has a limit, by peer and by prefix: met, and not one stream before."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.interop.ours import until
from tests.net.hostile import Hostile
from tests.net.mesh_node import MeshNode, node
from tests.net.test_fail_closed import agent
from wws.mesh import identify
from wws.mesh.admission import AdmissionConfig
from wws.mesh.rates import Share
from wws.names.witness.messages import RECEIPT_PROTOCOL
from wws.nat import autonat_v1, autonat_v2, dcutr
from wws.relay.messages import HOP_PROTOCOL, STOP_PROTOCOL
from wws.runtime import ping
from wws.runtime.dht_driver import PROTOCOL as KAD
from wws.runtime.handlers import MULTISTREAM, RATES, HandlersConfig
from wws.runtime.host import HostConfig
from wws.runtime.streams import Stream
from wws.testing.clock import ManualClock
from wws.transport.yamux_frames import DATA, FIN

pytestmark = [pytest.mark.net, pytest.mark.timeout(60), pytest.mark.usefixtures("leaves_nothing")]

PROTOCOLS = (
    identify.PROTOCOL,
    identify.PUSH_PROTOCOL,
    ping.PROTOCOL,
    KAD,
    autonat_v1.PROTOCOL,
    autonat_v2.DIAL_REQUEST_PROTOCOL,
    autonat_v2.DIAL_BACK_PROTOCOL,
    dcutr.PROTOCOL,
    HOP_PROTOCOL,
    STOP_PROTOCOL,
    RECEIPT_PROTOCOL,
)
"""All that a node ever serves; the first test sees to it."""

NO_MORE = Share(1e-9, 3, prefix_share=2)
"""Three for a peer, six for a prefix, and never another."""


async def test_the_list_is_what_nodes_serve(tmp_path: Path) -> None:
    served: set[str] = set()
    for name, arguments in (("agent", ()), ("bootstrap", ("--bootstrap-mode",))):
        async with agent(tmp_path / name, *arguments) as alice:
            alice.dht.set_mode(True)
            served |= set(alice.host.protocols)
    # Hole punching begins with the first circuit; witnesses serve where there is a network of publishers.
    assert served - set(PROTOCOLS) == set()
    assert set(PROTOCOLS) - served <= {dcutr.PROTOCOL, RECEIPT_PROTOCOL}
    assert set(RATES) <= set(PROTOCOLS)  # no line is for a protocol of another spelling


def strict(protocol: str) -> HandlersConfig:
    """One protocol has three streams for a peer, and six for a prefix; all else has no bound."""
    free = Share(1e6, 1e6)
    if protocol == MULTISTREAM:
        return HandlersConfig(all_streams=NO_MORE, rate=free, rates={})
    return HandlersConfig(all_streams=free, rate=free, rates={protocol: NO_MORE})


@contextlib.asynccontextmanager
async def one_prefix(protocol: str) -> AsyncIterator[MeshNode]:
    """A node for which loopback is a prefix like any other, and where each handler is done at once."""
    config = HostConfig(admission=AdmissionConfig(prefix_exempt=()), handlers=strict(protocol))
    alice = MeshNode("alice", config, clock=ManualClock())

    async def take(stream: Stream) -> None:
        stream.close_write()

    async with MeshNode.run(alice):
        for name in PROTOCOLS:
            alice.host.serve(name, take)
        yield alice


def opened(peer: Hostile, protocol: str, streams: range) -> None:
    for number in streams:
        peer.open(2 * number + 1, protocol)
        peer.frame(DATA, FIN, 2 * number + 1)


@pytest.mark.parametrize("protocol", [*PROTOCOLS, MULTISTREAM])
async def test_one_stream_more_than_a_peer_may_open(protocol: str) -> None:
    asked = ping.PROTOCOL if protocol == MULTISTREAM else protocol
    async with one_prefix(protocol) as alice, await Hostile.authenticated(alice.port, "mallory") as peer:
        opened(peer, asked, range(3))
        await peer.ping()
        assert alice.host.refusals.total() == 0
        opened(peer, asked, range(3, 4))
        await peer.ping()
        assert alice.host.refusals == {(protocol, "rate_limited"): 1}
        opened(peer, asked, range(4, 10))
        await peer.ping()
        assert alice.host.refusals == {(protocol, "rate_limited"): 7}
        await until(lambda: not alice.host.handlers.of_peers)


@pytest.mark.parametrize("protocol", [*PROTOCOLS, MULTISTREAM])
async def test_one_stream_more_than_a_prefix_may_open(protocol: str) -> None:
    asked = ping.PROTOCOL if protocol == MULTISTREAM else protocol
    async with contextlib.AsyncExitStack() as stack:
        alice = await stack.enter_async_context(one_prefix(protocol))
        for label in ("mallory", "mallet"):
            peer = await stack.enter_async_context(await Hostile.authenticated(alice.port, label))
            opened(peer, asked, range(3))
            await peer.ping()
        assert alice.host.refusals.total() == 0
        last = await stack.enter_async_context(await Hostile.authenticated(alice.port, "trudy"))
        opened(last, asked, range(1))
        await last.ping()
        assert alice.host.refusals == {(protocol, "rate_limited_prefix"): 1}
        # It was not of that peer's doing alone.
        assert not alice.host.gate.bans.suspects


async def test_prefixes_have_no_limit_where_they_are_exempt() -> None:
    config = HostConfig(handlers=strict(ping.PROTOCOL))
    async with contextlib.AsyncExitStack() as stack:
        alice = await stack.enter_async_context(node("alice", config, clock=ManualClock()))
        for number in range(4):
            peer = await stack.enter_async_context(await Hostile.authenticated(alice.port, f"bob {number}"))
            opened(peer, ping.PROTOCOL, range(3))
            await peer.ping()
        assert alice.host.refusals.total() == 0


async def test_a_rate_comes_back_with_time() -> None:
    clock = ManualClock()
    config = HostConfig(handlers=replace(strict(ping.PROTOCOL), rates={ping.PROTOCOL: Share(1.0, 2)}))
    async with (
        node("alice", config, clock=clock) as alice,
        await Hostile.authenticated(alice.port) as peer,
    ):
        opened(peer, ping.PROTOCOL, range(3))
        await peer.ping()
        assert alice.host.refusals[ping.PROTOCOL, "rate_limited"] == 1
        clock.advance(1.0)
        opened(peer, ping.PROTOCOL, range(3, 5))
        await peer.ping()
        assert alice.host.refusals[ping.PROTOCOL, "rate_limited"] == 2


# Within streams that live long


@pytest.mark.parametrize("bytes_more, refused", [(0, 0), (32, 1)])
async def test_one_ping_more_than_a_stream_may_carry(bytes_more: int, refused: int) -> None:
    pings = ping.PingConfig(share=Share(1e-9, 4))
    async with (
        node("alice", clock=ManualClock(), ping=pings) as alice,
        await Hostile.authenticated(alice.port) as peer,
    ):
        peer.open(1, ping.PROTOCOL, bytes(4 * 32))
        await peer.ping()
        peer.frame(DATA, 0, 1, bytes(bytes_more))
        await peer.ping()
        await peer.ping()
        assert alice.host.refusals[ping.PROTOCOL, "rate_limited"] == refused
        peer.open(3, ping.PROTOCOL, bytes(32))  # on another stream it is no better
        await until(lambda: alice.host.refusals[ping.PROTOCOL, "rate_limited"] == refused + 1)


async def test_pings_of_one_prefix_share_what_it_may() -> None:
    pings = ping.PingConfig(share=Share(1e-9, 4, prefix_share=1))
    config = HostConfig(admission=AdmissionConfig(prefix_exempt=()))
    async with (
        node("alice", config, clock=ManualClock(), ping=pings) as alice,
        await Hostile.authenticated(alice.port, "mallory") as peer,
        await Hostile.authenticated(alice.port, "mallet") as other,
    ):
        peer.open(1, ping.PROTOCOL, bytes(4 * 32))
        await peer.ping()
        other.open(1, ping.PROTOCOL, bytes(32))
        await until(lambda: alice.host.refusals[ping.PROTOCOL, "rate_limited_prefix"] == 1)
        assert alice.host.refusals[ping.PROTOCOL, "rate_limited"] == 0
