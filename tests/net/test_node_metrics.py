"""What a node counts, as Prometheus reads it."""

from pathlib import Path

import pytest

from tests.interop.ours import until
from tests.net.hostile import Hostile
from tests.net.mesh_node import node
from tests.net.test_fail_closed import agent, introduce, protocol
from wws.runtime.dht_driver import PROTOCOL as KAD
from wws.runtime.node_metrics import NodeMetrics

pytestmark = [pytest.mark.net, pytest.mark.usefixtures("leaves_nothing")]


def series(metrics: NodeMetrics) -> dict[str, float]:
    lines = metrics.render().decode().splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")
    }


async def test_what_happens_is_counted_once(tmp_path: Path) -> None:
    async with agent(tmp_path) as alice:
        metrics = NodeMetrics(alice)
        assert series(metrics)["wws_connections"] == 0
        async with node("bob", network=protocol()) as bob:
            await introduce(bob, alice)
            async with await Hostile.connect(alice.host.listen_addresses[0].port or 0) as peer:
                peer.say(b"GET / HTTP/1.1\r\n\r\n")
                await peer.gone()
            async with node("carol", network="/wws/net/0000000000000000") as carol:
                connection = await carol.dial(
                    alice.host.listen_addresses[0].with_peer(alice.identity.peer_id)
                )
                await connection.wait_identified()
                async with connection.open_stream(KAD) as stream:
                    await stream.write_frame(b"\x08\x05")
                    await until(lambda: alice.host.refusals[KAD, "wrong_network"] > 0)
                for found in (series(metrics), series(metrics)):  # reading it changes nothing
                    assert found["wws_connections"] == found["wws_peers"] == 2
                    assert found["wws_dht_routing_peers"] == 1
                    assert found['wws_handshakes_total{direction="in",result="done"}'] == 2
                    assert found['wws_handshakes_total{direction="in",result="failed"}'] == 1
                    key = 'wws_refused_total{protocol="connection",reason="negotiation_failed"}'
                    assert found[key] == 1
                    key = f'wws_refused_total{{protocol="{KAD}",reason="wrong_network"}}'
                    assert found[key] == alice.host.refusals[KAD, "wrong_network"]
                    assert found["wws_transport_received_bytes_total"] <= alice.host.received_bytes
        await until(lambda: series(metrics)["wws_connections"] == 0)
        assert series(metrics)["wws_transport_received_bytes_total"] == alice.host.received_bytes > 0
