"""What a flood may cost the node that is flooded: about what it costs to send."""

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from tests.net.mesh_node import node
from wws.identity.keys import Identity
from wws.mesh.rates import Share
from wws.runtime.dht_driver import DhtDriverConfig
from wws.runtime.ping import PROTOCOL, PingConfig
from wws.runtime.streams import Stream
from wws.testing.clock import ManualClock

pytestmark = [pytest.mark.net, pytest.mark.timeout(30), pytest.mark.usefixtures("leaves_nothing")]


async def test_a_flood_of_pings_is_echoed_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces of 32 bytes a megabyte took 0.4 s of the processor; 3 MB/s kept a node busy."""
    sizes: list[int] = []
    read = Stream.read

    async def counted(stream: Stream, limit: int = 64 * 1024) -> bytes:
        data = await read(stream, limit)
        if stream.protocol == PROTOCOL and not stream.connection.outbound:
            sizes.append(len(data))
        return data

    patient = PingConfig(share=Share(1e6, 1e6))
    async with node("alice", ping=patient) as alice, node("bob") as bob:
        connection = await bob.join(alice)
        monkeypatch.setattr(Stream, "read", counted)
        async with connection.open_stream(PROTOCOL) as stream:
            flood = bytes(range(256)) * 512
            await stream.write(flood)
            assert await stream.read_exactly(len(flood)) == flood
            await stream.finish()
        assert sum(sizes) == len(flood)
        assert max(sizes) > 1_000


PREFIXES = ("203.0.113.0/24", "198.51.100.0/24")


async def test_many_identities_of_one_prefix_share_what_the_dht_answers() -> None:
    slow = DhtDriverConfig(max_requests_per_second=0.001, prefix_share=2)
    async with node("alice", clock=ManualClock(), dht=slow) as alice:

        def wait(label: str, ip: str) -> asyncio.Task[None]:
            asking = SimpleNamespace(peer_id=Identity.from_label(label).peer_id, remote_ip=ip)
            stream = SimpleNamespace(connection=asking, pause=asyncio.sleep)
            return asyncio.create_task(alice.dht._take_turn(cast(Stream, stream)))

        sybils = [wait(f"sybil {number}", f"203.0.113.{number + 1}") for number in range(5)]
        bob, neighbours = wait("bob", "198.51.100.1"), [wait(f"{n}", "192.168.1.7") for n in range(5)]
        await asyncio.wait_for(asyncio.gather(sybils[0], bob, *neighbours), 10)
        assert not any(task.done() for task in sybils[1:])
        for task in sybils[1:]:
            task.cancel()
        assert [alice.dht._prefix_turns.take(prefix, 0) for prefix in PREFIXES] == [2500.0, 500.0]
