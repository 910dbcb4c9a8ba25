"""What a flood may cost the node that is flooded: about what it costs to send."""

import pytest

from tests.net.mesh_node import node
from wws.runtime.ping import PROTOCOL
from wws.runtime.streams import Stream

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

    async with node("alice") as alice, node("bob") as bob:
        connection = await bob.join(alice)
        monkeypatch.setattr(Stream, "read", counted)
        async with connection.open_stream(PROTOCOL) as stream:
            flood = bytes(range(256)) * 512
            await stream.write(flood)
            assert await stream.read_exactly(len(flood)) == flood
            await stream.finish()
        assert sum(sizes) == len(flood)
        assert max(sizes) > 1_000
