"""Our node and the foreign peers: streams, many at once, large, half-closed, stalled and reset; ping."""

import asyncio

import pytest

from tests.interop.conftest import Link, connect
from tests.interop.ours import CHUNK, OurNode, pattern, send_all, until
from tests.interop.peer import ECHO, SINK, SLOW_SINK, ForeignPeer, ForeignPeerError
from wws.addresses.multiaddr import Transport
from wws.runtime.ping import PROTOCOL as PING
from wws.runtime.streams import Stream, StreamReset
from wws.transport.multistream import ProtocolNotSupported

pytestmark = [
    pytest.mark.interop,
    pytest.mark.net,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
]

LARGE = 10_000_000
WINDOWS: dict[Transport, int] = {"tcp": 256 * 1024, "quic-v1": 1024 * 1024}
"""What we grant, and what a yamux receiver grants at first."""
ENOUGH: dict[Transport, int] = {"tcp": 1, "quic-v1": 256 * 1024}
"""The room that a writer who had to wait is woken for."""
MOST_BUFFERED = 2 * 1024 * 1024
"""Our bound on what waits for the socket, in its buffer and before it."""


async def test_ping(link: Link) -> None:
    assert len([await link.ours.ping.ping(link.connection) for _ in range(30)]) == 30
    assert len(await link.foreign.ping(link.us, 30)) == 30
    assert len(await link.foreign.ping_stream(link.us, 100)) == 100
    async with link.connection.open_stream(PING) as stream:
        for number in range(100):
            sent = bytes([number]) * 32
            await stream.write(sent)
            assert await stream.read_exactly(32) == sent
        await stream.finish()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):  # js takes no more ping streams of one connection
            tasks.create_task(link.ours.ping.ping(link.connection))
        tasks.create_task(link.foreign.ping(link.us, 20))
    await until(lambda: not _open(link, PING))


async def test_a_hundred_streams_at_once(link: Link) -> None:
    await link.connection.wait_identified()  # js resets more than ten streams that come before it is ready
    streams = [link.connection.open_stream(ECHO) for _ in range(100)]

    async def use(number: int, stream: Stream) -> None:
        data = bytes([number]) * 1000
        async with stream:
            await send_all(stream, data)
            assert await stream.read_to_end(1000) == data

    async with asyncio.TaskGroup() as tasks:
        for number, stream in enumerate(streams):
            tasks.create_task(use(number, stream))
        theirs = tasks.create_task(link.foreign.streams(link.us, 100))
    assert theirs.result() == 100
    await until(lambda: not _open(link, ECHO))
    assert link.ours.host.refusals.total() == 0


async def test_a_large_echo(link: Link) -> None:
    assert await link.ours.echo_pattern(link.connection, LARGE, on_the_way=_most_on_the_way(link)) == LARGE
    assert await link.foreign.echo_pattern(link.us, LARGE) == LARGE
    assert await link.ours.upload(link.connection, LARGE // 4) == LARGE // 4
    assert (await link.foreign.upload(link.us, LARGE // 4))[0] == LARGE // 4


async def test_a_slow_reader(link: Link) -> None:
    size = 2_000_001
    assert (await link.foreign.upload(link.us, size, protocol=SLOW_SINK))[0] == size
    data = pattern(size)
    async with link.connection.open_stream(SLOW_SINK) as stream:
        for offset in range(0, size, CHUNK):
            await stream.write(data[offset : offset + CHUNK])
            assert link.connection.buffered <= MOST_BUFFERED
        stream.close_write()
        assert await stream.read_to_end(100) == b"%d" % size


async def test_a_reader_that_stopped_stops_us_and_nothing_else(link: Link) -> None:
    """We do not read the echo: so the peer stops reading, and we stop writing."""
    size = min(LARGE, _most_on_the_way(link))
    data = pattern(size)
    written = 0
    async with link.connection.open_stream(ECHO) as stream, asyncio.TaskGroup() as tasks:

        async def write() -> None:
            nonlocal written
            for offset in range(0, size, CHUNK):
                await stream.write(data[offset : offset + CHUNK])
                written += CHUNK
                assert link.connection.buffered <= MOST_BUFFERED
            stream.close_write()

        writer = tasks.create_task(write())
        machine = link.connection.machine
        window, enough = WINDOWS[link.transport], ENOUGH[link.transport]
        await until(lambda: written > window and machine.send_capacity(stream.stream_id) < enough)
        await until(lambda: machine.unread > WINDOWS[link.transport] - 100)
        assert await link.ours.half_close(link.connection, b"abc") == b"cba"
        await link.ours.ping.ping(link.connection)
        assert machine.unread <= WINDOWS[link.transport]
        if link.transport == "tcp":  # what QUIC takes from us, it keeps until it is acknowledged
            assert machine.buffered_to_send == 0
        if size == LARGE:
            assert not writer.done()
        assert await stream.read_to_end(size) == data


async def test_what_we_hold_for_a_handler_that_does_not_read_is_bounded(link: Link) -> None:
    go_on = asyncio.Event()
    protocol = f"/test/held/{link.us}"

    async def hold(stream: Stream) -> None:
        await go_on.wait()
        count = 0
        while data := await stream.read():
            count += len(data)
        await stream.write(b"%d" % count)
        stream.close_write()

    link.ours.host.serve(protocol, hold)
    async with asyncio.TaskGroup() as tasks:
        theirs = tasks.create_task(link.foreign.upload(link.us, LARGE, protocol=protocol))
        # The negotiation itself took a few bytes of the window, and those were given back unused.
        await until(lambda: link.connection.machine.unread > WINDOWS[link.transport] - 100)
        assert await link.ours.half_close(link.connection, b"abc") == b"cba"
        assert await link.foreign.echo(link.us, b"hello") == b"hello"
        assert link.connection.machine.unread <= WINDOWS[link.transport]
        go_on.set()
    assert theirs.result()[0] == LARGE


async def test_half_close_in_either_order(link: Link) -> None:
    assert await link.ours.half_close(link.connection, b"") == b""
    assert await link.ours.half_close(link.connection, pattern(300_000)) == pattern(300_000)[::-1]
    assert await link.foreign.half_close(link.us, pattern(300_000)) == pattern(300_000)[::-1]
    assert await link.foreign.half_close(link.us, b"") == b""
    # The peer ends its side first: identify is said and done while ours is still open.
    async with link.connection.open_stream("/ipfs/id/1.0.0") as stream:
        assert await stream.read_to_end(64 * 1024)
        stream.close_write()
    # And we end ours first, in one flight with the answer to the proposal.
    greeting = f"/test/greeting/{link.us}"
    heard: list[bytes] = []

    async def greet(stream: Stream) -> None:
        await stream.write(b"hello")
        stream.close_write()
        heard.append(await stream.read_to_end(LARGE))

    link.ours.host.serve(greeting, greet)
    assert await link.foreign.half_close(link.us, pattern(300_000), protocol=greeting) == b"hello"
    await until(lambda: heard == [pattern(300_000)])
    await until(lambda: not _open(link, ECHO, "/test/reverse/1", greeting))
    assert link.ours.host.refusals.total() == 0


async def test_a_protocol_that_is_not_served(link: Link) -> None:
    with pytest.raises(ProtocolNotSupported):
        await link.ours.half_close(link.connection, b"abc", protocol="/test/unknown/1")
    with pytest.raises(ForeignPeerError):
        await link.foreign.half_close(link.us, b"abc", protocol="/test/unknown/1")
    async with link.connection.open_stream("/test/unknown/1", ECHO) as stream:
        await send_all(stream, b"hello")
        assert await stream.read_to_end(100) == b"hello"
    assert stream.protocol == ECHO
    assert await link.foreign.half_close(link.us, b"abc") == b"cba"


async def test_it_resets_while_we_send(link: Link) -> None:
    async with link.connection.open_stream("/test/reset/1") as stream:
        writing = asyncio.create_task(stream.write(pattern(LARGE)))
        with pytest.raises(StreamReset):
            await stream.read()
        with pytest.raises(StreamReset):
            await writing
    assert await link.ours.upload(link.connection, 100_000) == 100_000
    assert await link.foreign.half_close(link.us, b"abc") == b"cba"


async def test_we_reset_while_it_sends(link: Link) -> None:
    protocol = f"/test/reset/{link.us}"

    async def read_some_and_reset(stream: Stream) -> None:
        await stream.read_exactly(100_000)
        stream.reset()

    link.ours.host.serve(protocol, read_some_and_reset)
    with pytest.raises(ForeignPeerError):
        await link.foreign.upload(link.us, LARGE, protocol=protocol)
    assert await link.foreign.upload(link.us, 100_000)
    assert await link.ours.half_close(link.connection, b"abc") == b"cba"
    assert link.connection.machine.unread == 0


async def test_the_connection_breaks_while_both_send(link: Link) -> None:
    async def send_for_ever() -> None:
        async with link.connection.open_stream(SINK) as stream:
            while True:
                await stream.write(bytes(CHUNK))

    sending = asyncio.create_task(send_for_ever())
    theirs = asyncio.create_task(link.foreign.upload(link.us, 1_000_000_000))
    await until(lambda: link.ours.host.sent_bytes > LARGE and link.ours.host.received_bytes > LARGE)
    await link.foreign.hang_up(link.us)
    with pytest.raises(StreamReset):
        await sending
    with pytest.raises(ForeignPeerError):
        await theirs
    await until(lambda: not link.ours.host.connections())
    assert link.ours.host.admission.total == 0


@pytest.mark.usefixtures("built")
async def test_streams_over_a_limit_of_the_peer_cost_only_themselves() -> None:
    """A go node in the wild bounds the streams of a protocol and peer; what is over it, it resets."""
    async with OurNode.start("alice") as alice, ForeignPeer.start("go", default_limits=True) as bob:
        link = await connect(alice, bob, "we-dial")

        async def use(stream: Stream) -> None:
            async with stream:
                await send_all(stream, b"hello")
                assert await stream.read_to_end(100) == b"hello"

        streams = [link.connection.open_stream(ECHO) for _ in range(250)]
        outcomes = await asyncio.gather(*map(use, streams), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} <= {type(None), StreamReset}
        assert await link.ours.half_close(link.connection, b"abc") == b"cba"
        assert len([await link.ours.ping.ping(link.connection) for _ in range(100)]) == 100
        assert await link.ours.upload(link.connection, LARGE) == LARGE


def _most_on_the_way(link: Link) -> int:
    """js grants windows of 16 MB, but resets a stream of which more than 4 MB wait while it is paused."""
    return LARGE if link.foreign.implementation == "go" else 3_000_000


def _open(link: Link, *protocols: str) -> set[str]:
    return {stream.protocol for stream in link.connection.streams.values()} & set(protocols)
