"""Nobody is banned, rated or kept out by a firewall for what somebody else does, or for what we do slowly."""

import socket

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from tests.interop.ours import until
from tests.net.hostile import Hostile
from tests.net.mesh_node import node
from tests.net.test_quic import node as quic_node
from wws.runtime.host import HostConfig
from wws.runtime.refusals import ABUSE

pytestmark = [pytest.mark.net, pytest.mark.timeout(60), pytest.mark.usefixtures("leaves_nothing")]


async def test_a_datagram_in_anothers_name_writes_no_line_of_him() -> None:
    """A first datagram alone can break rules, and comes from wherever it says: no firewall may hear of it."""
    async with quic_node("alice") as alice:
        (address,) = alice.host.listen_addresses
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(3):
                configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"])
                browser = QuicConnection(configuration=configuration)
                browser.connect((address.host, address.port), now=0.0)
                for data, _ in browser.datagrams_to_send(now=0.0):
                    sock.sendto(data, (address.host, address.port or 0))
        await until(lambda: alice.host.refusals["connection", "quic_violation"] == 3)
        assert alice.host.gate.refusal_log.written == 0


async def test_a_silent_socket_is_nothing_for_a_firewall() -> None:
    """A web page may open some in each of its readers' browsers, and ours may be the slow end."""
    async with node("alice", HostConfig(phase_timeout=0.1)) as alice:
        async with await Hostile.connect(alice.port) as peer:
            await peer.gone()
        assert alice.host.refusals["connection", "phase_timeout"] == 1
        assert "phase_timeout" not in ABUSE
