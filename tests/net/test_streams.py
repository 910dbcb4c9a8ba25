"""Streams between two nodes of ours over real sockets: what a program may rely on."""

import asyncio

import pytest

from tests.interop.ours import OurNode, pattern, send_all, until
from tests.interop.peer import ECHO
from wws.runtime.connection import Connection
from wws.runtime.host import HostConfig
from wws.runtime.streams import Stream
from wws.transport.connection import ConnectionConfig
from wws.transport.multistream import ProtocolNotSupported
from wws.transport.yamux_limits import YamuxConfig

pytestmark = [pytest.mark.net, pytest.mark.timeout(30)]


async def test_a_write_larger_than_the_send_buffer_goes_out_whole() -> None:
    """A full buffer is no full window: the socket takes it at once, and nobody wakes the writer."""
    small = HostConfig(connection=ConnectionConfig(yamux=YamuxConfig(max_buffered=16 * 1024)))
    async with OurNode.start("alice", small) as alice, OurNode.start("bob") as bob:
        connection = await alice.dial(bob.address)
        assert await alice.upload(connection, 200_000) == 200_000


async def test_data_waits_until_it_is_known_which_of_several_protocols_it_is_for() -> None:
    async with OurNode.start("alice") as alice, OurNode.start("bob") as bob:
        connection = await alice.dial(bob.address)
        async with connection.open_stream("/test/unknown/1", "/test/unknown/2", ECHO) as stream:
            await send_all(stream, b"hello")
            assert await stream.read_to_end(100) == b"hello"
        assert stream.protocol == ECHO
        assert bob.host.refusals.total() == 0


async def test_a_writer_learns_that_none_of_the_protocols_is_spoken() -> None:
    async with OurNode.start("alice") as alice, OurNode.start("bob") as bob:
        connection = await alice.dial(bob.address)
        async with connection.open_stream("/test/unknown/1", "/test/unknown/2") as stream:
            with pytest.raises(ProtocolNotSupported):
                await stream.write(b"hello")


async def test_what_waits_behind_a_reader_that_stopped_is_bounded() -> None:
    async with OurNode.start("alice") as alice, OurNode.start("bob") as bob:
        connection = await alice.dial(bob.address)
        data = pattern(5_000_000)
        async with connection.open_stream(ECHO) as stream, asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(send_all(stream, data))
            await until(lambda: alice.host.received_bytes > 256 * 1024 and _stuck(connection, stream))
            assert not writer.done()
            assert connection.buffered <= 2 * 1024 * 1024
            assert connection.machine.unread <= 1024 * 1024
            assert await stream.read_to_end(len(data)) == data


def _stuck(connection: Connection, stream: Stream) -> bool:
    return connection.machine.send_capacity(stream.stream_id) == 0
