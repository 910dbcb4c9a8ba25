"""Our node as a server to be measured: host, identify, ping and a sink, as `wws-bootstrap` composes them.

    python -m bench.serve [tcp|quic-v1]

Prints one line, `{"address", "peer_id"}`, and runs until its standard input ends.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys

import uvloop

from wws.addresses.multiaddr import Multiaddr, Transport
from wws.dht.kademlia import Kademlia, KademliaConfig
from wws.identity.keys import Identity
from wws.mesh.admission import AdmissionConfig
from wws.mesh.connections import ConnectionTableConfig
from wws.names.kinds import NameRecords, PeerRecords
from wws.runtime.clock import SystemClock
from wws.runtime.dht_driver import DhtDriver, DhtDriverConfig
from wws.runtime.dialer import Dialer, DialerConfig
from wws.runtime.host import Host, HostConfig
from wws.runtime.identify_service import IdentifyConfig, IdentifyService
from wws.runtime.ping import PingConfig, PingService
from wws.runtime.quic_transport import QuicTransport, QuicTransportConfig
from wws.runtime.streams import Stream
from wws.transport.quic.config import EndpointConfig

SINK = "/test/sink/1"
MANY = 20_000

OPEN_DOORS = HostConfig(
    admission=AdmissionConfig(max_connections=MANY, accepts_per_second=1e9),
    table=ConnectionTableConfig(high_water=MANY, low_water=MANY),
    max_half_open=MANY,
)
"""A bootstrap node's bounds without the rate of accepts, which is what is being measured."""
OPEN_QUIC = QuicTransportConfig(endpoint=EndpointConfig(max_half_open=MANY))


async def _sink(stream: Stream) -> None:
    count = 0
    while data := await stream.read(1 << 20):
        count += len(data)
    await stream.write(str(count).encode())
    stream.close_write()


async def _main() -> None:
    identity = Identity.generate()
    rng = random.Random()
    host = Host(identity, OPEN_DOORS, clock=SystemClock(), rng=rng)

    async def no_names(address: Multiaddr) -> list[Multiaddr]:
        return []

    dialer = Dialer(host, no_names, DialerConfig())
    IdentifyService(host, IdentifyConfig(agent_suffix=" bootstrap"), lambda: tuple(host.listen_addresses))
    PingService(host, PingConfig(), rng)
    kinds = {kind.prefix: kind for kind in (NameRecords(), PeerRecords())}
    dht = DhtDriver(
        host, dialer, Kademlia(identity.peer_id, KademliaConfig(), rng, kinds), DhtDriverConfig(), None
    )
    dht.set_mode(True)
    host.serve(SINK, _sink)
    await host.start()
    transport: Transport = "quic-v1" if sys.argv[1:] == ["quic-v1"] else "tcp"
    host.quic = QuicTransport(host, identity, OPEN_QUIC)
    bound = await host.listen(Multiaddr.of("127.0.0.1", 0, transport))
    print(json.dumps({"address": str(bound), "peer_id": str(identity.peer_id)}), flush=True)
    gc.freeze()
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(_main())
