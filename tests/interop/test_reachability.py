"""Foreign peers as servers of AutoNAT v2 for our node: their word is as good as that of our own."""

import pytest

from tests.interop.conftest import over_transports
from tests.interop.ours import until
from tests.interop.peer import ForeignPeer
from tests.net.test_reachability import SLOW, alice
from wws.addresses.multiaddr import Multiaddr, Transport
from wws.runtime.quic_transport import QuicTransport

pytestmark = [
    pytest.mark.interop,
    pytest.mark.net,
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("built"),
]


@over_transports
async def test_two_servers_of_go_make_us_public(transport: Transport) -> None:
    listen = [str(Multiaddr.of("127.0.0.1", 0, transport))]
    async with (
        ForeignPeer.start("go", autonat=True, quic=True, listen=listen) as bob,
        ForeignPeer.start("go", autonat=True, quic=True, listen=listen) as carol,
        alice(SLOW, network=None) as node,
    ):
        node.host.quic = QuicTransport(node.host, node.host.identity)
        await node.host.listen(Multiaddr.of("127.0.0.1", 0, "quic-v1"))
        for peer in (bob, carol):
            connection = await node.dial(Multiaddr.parse(peer.address))
            assert await connection.wait_identified() is not None
        await until(lambda: set(node.verdicts().values()) == {"public"} and len(node.verdicts()) == 2)
        assert node.reach.nat == "none"
        assert node.reach.dialled_back["expected"] >= 4


async def test_a_server_of_js_refuses_addresses_of_loopback_and_that_is_no_evidence() -> None:
    async with ForeignPeer.start("js", autonat=True) as bob, alice(SLOW, network=None) as node:
        await node.dial(Multiaddr.parse(bob.address))
        await until(lambda: sum(node.reach.results.values()) >= 1)
        assert not {"reached", "not_reached"} & {result for _, result in node.reach.results}
        assert node.reach.reachability == "unknown"
