"""A circuit's transport at the edges: back-pressure, half-close, abort, and every way in which it can end.

The stream under it is a real one between two nodes; no relay stands between them, for what the transport does
is the same with one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import cast

import pytest

from tests.interop.ours import until
from tests.net.mesh_node import MeshNode, node
from wws.errors import WwsError
from wws.runtime.circuit import Circuit, CircuitLimitReached, CircuitUse
from wws.runtime.connection import Connection, ConnectionLost
from wws.runtime.relay import circuit_transport
from wws.runtime.relay.circuit_transport import CircuitTransport
from wws.runtime.streams import Stream, StreamReset

pytestmark = [pytest.mark.net, pytest.mark.usefixtures("leaves_nothing")]

PIPE = "/test/pipe"
MIB = 1024 * 1024


@dataclass
class Recorder(asyncio.Protocol):
    """Notes what its transport does."""

    stays_at_eof: bool = False
    received: bytearray = field(default_factory=bytearray)
    calls: list[str] = field(default_factory=list)
    lost: list[Exception | None] = field(default_factory=list)
    transport: CircuitTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.calls.append("made")
        self.transport = cast(CircuitTransport, transport)

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> bool:
        self.calls.append("eof")
        return self.stays_at_eof

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")
        self.lost.append(exc)


@dataclass
class End:
    """One end of a circuit."""

    transport: CircuitTransport
    protocol: Recorder
    stream: Stream
    work: asyncio.Task[None]
    circuit: Circuit

    @property
    def connection(self) -> Connection:
        return self.stream.connection


def end_of(mesh: MeshNode, stream: Stream, limit_bytes: int | None = None) -> End:
    protocol = Recorder()
    circuit = Circuit(
        stream.connection.peer_id,
        stream.connection.remote_address,
        limit_bytes=limit_bytes,
        use=CircuitUse(mesh.host.clock.monotonic()),
    )
    transport = CircuitTransport(
        stream, protocol, circuit, spawn=mesh.host.spawn, clock=mesh.host.clock.monotonic
    )
    transport.start()
    return End(transport, protocol, stream, mesh.host.spawn(transport.run(), "circuit"), circuit)


@contextlib.asynccontextmanager
async def pair(limit_bytes: int | None = None) -> AsyncIterator[tuple[End, End]]:
    async with node("alice") as alice, node("bob") as bob:
        accepted: asyncio.Future[End] = asyncio.get_running_loop().create_future()

        async def accept(stream: Stream) -> None:
            end = end_of(bob, stream, limit_bytes)
            accepted.set_result(end)
            await end.work

        bob.host.serve(PIPE, accept)
        connection = await alice.join(bob)
        stream = connection.open_stream(PIPE)
        await stream.write(b"!")
        near = end_of(alice, stream, limit_bytes)
        async with asyncio.timeout(20):
            far = await accepted
        await until(lambda: far.protocol.received == b"!")
        far.protocol.received.clear()
        yield near, far


async def both_lost(*ends: End) -> None:
    """Both ends are over, each said so once, and nothing works on."""
    for end in ends:
        await until(lambda end=end: bool(end.protocol.lost))
        await until(lambda end=end: end.work.done())
        await until(lambda end=end: end.stream.closed)
        assert len(end.protocol.lost) == 1
        assert end.protocol.calls[-1] == "lost"
        assert end.transport.is_closing()
        assert end.transport.get_write_buffer_size() == 0


async def test_bytes_arrive_in_order_both_ways() -> None:
    async with pair() as (near, far):
        data = bytes(range(256)) * 4096
        near.transport.writelines([data[:1], b"", data[1:70_000], memoryview(data)[70_000:]])
        far.transport.write(b"hello")
        await until(lambda: near.protocol.received == b"hello" and far.protocol.received == data)
        assert near.circuit.use.sent == len(data)
        assert near.circuit.use.received == 5
        assert far.circuit.use.received == len(data) + 1
        assert near.transport.get_extra_info("peername") == (
            near.connection.remote_ip,
            near.connection.remote_port,
        )
        assert near.transport.get_extra_info("sockname")[1] == far.connection.remote_port
        assert near.transport.get_extra_info("socket") is None
        assert near.transport.get_extra_info("cipher", "none") == "none"


async def test_writers_are_paused_and_resumed() -> None:
    async with pair() as (near, far):
        near.transport.set_write_buffer_limits(high=100_000, low=20_000)
        assert near.transport.get_write_buffer_limits() == (20_000, 100_000)
        far.transport.pause_reading()
        assert not far.transport.is_reading()
        near.transport.write(bytes(100_000))
        assert near.protocol.calls == ["made"]
        near.transport.write(b"!")
        assert near.protocol.calls == ["made", "pause"]
        near.transport.write(bytes(4 * MIB))
        held = near.transport.get_write_buffer_size()
        await until(lambda: near.transport.get_write_buffer_size() < held)
        before = len(far.protocol.received)
        assert "resume" not in near.protocol.calls
        far.transport.resume_reading()
        await until(lambda: len(far.protocol.received) == 100_001 + 4 * MIB)
        assert before <= 64 * 1024
        await until(lambda: near.transport.get_write_buffer_size() == 0)
        assert near.protocol.calls == ["made", "pause", "resume"]


async def test_paused_reading_delivers_nothing() -> None:
    async with pair() as (near, far):
        far.transport.pause_reading()
        near.transport.write(b"later")
        near.transport.write(b"!")
        await until(lambda: near.circuit.use.sent == 6)
        await asyncio.sleep(0)
        assert far.protocol.received == b""
        far.transport.resume_reading()
        await until(lambda: far.protocol.received == b"later!")


async def test_close_sends_what_is_written() -> None:
    async with pair() as (near, far):
        near.transport.write(bytes(3 * MIB))
        near.transport.close()
        near.transport.close()
        near.transport.write(b"ignored")
        await both_lost(near, far)
        assert len(far.protocol.received) == 3 * MIB
        assert near.protocol.lost == [None]
        assert far.protocol.lost == [None]
        assert far.protocol.calls[-2:] == ["eof", "lost"]


async def test_what_comes_after_close_is_dropped() -> None:
    async with pair() as (near, far):
        far.protocol.stays_at_eof = True
        near.transport.close()
        await until(lambda: "eof" in far.protocol.calls)
        far.transport.write(bytes(MIB))
        far.transport.close()
        await both_lost(near, far)
        assert near.protocol.received == b""


async def test_a_peer_that_never_ends_its_side_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit_transport, "_LINGER", 0.05)
    async with pair() as (near, far):
        far.protocol.stays_at_eof = True
        near.transport.close()
        await both_lost(near)
        assert near.protocol.lost == [None]
        far.transport.write(b"are you there?")
        await both_lost(far)
        assert isinstance(far.protocol.lost[0], StreamReset)


async def test_a_peer_that_takes_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit_transport, "_LINGER", 0.05)
    async with pair() as (near, far):
        far.transport.pause_reading()
        near.transport.write(bytes(4 * MIB))
        near.transport.close()
        await both_lost(near)
        far.transport.abort()
        await both_lost(far)


async def test_half_close() -> None:
    async with pair() as (near, far):
        assert near.transport.can_write_eof()
        far.protocol.stays_at_eof = True
        near.transport.write(b"question")
        near.transport.write_eof()
        with pytest.raises(RuntimeError):
            near.transport.write(b"another")
        await until(lambda: far.protocol.calls == ["made", "eof"])
        assert far.protocol.received == b"question"
        far.transport.write(b"answer")
        await until(lambda: near.protocol.received == b"answer")
        far.transport.close()
        await both_lost(near, far)
        assert near.protocol.calls == ["made", "eof", "lost"]


@pytest.mark.parametrize("buffered", [0, 4 * MIB])
async def test_abort(buffered: int) -> None:
    async with pair() as (near, far):
        if buffered:
            far.transport.pause_reading()
            near.transport.write(bytes(buffered))
        near.transport.abort()
        assert near.protocol.lost == []  # not from within the call
        near.transport.abort()
        far.transport.resume_reading()
        await both_lost(near, far)
        assert near.protocol.lost == [None]
        assert isinstance(far.protocol.lost[0], StreamReset)


@pytest.mark.parametrize("buffered", [0, 4 * MIB])
async def test_the_connection_under_it_ends(buffered: int) -> None:
    async with pair() as (near, far):
        far.transport.write(bytes(buffered))
        near.transport.write(bytes(buffered))
        far.connection.abort(ConnectionLost("the power went out"))
        await both_lost(near, far)
        for end in (near, far):
            assert isinstance(end.protocol.lost[0], WwsError)
            assert not isinstance(end.protocol.lost[0], CircuitLimitReached)


async def test_its_work_is_cancelled() -> None:
    async with pair() as (near, far):
        near.work.cancel()
        await both_lost(near, far)
        assert isinstance(near.protocol.lost[0], StreamReset)


async def test_it_ends_before_its_protocol_has_begun() -> None:
    """As when the host has no room for another connection."""

    class Refusing(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            cast(CircuitTransport, transport).abort()

    async with node("alice") as alice, node("bob") as bob:
        connection = await alice.join(bob)
        stream = connection.open_stream("/test/nobody")
        protocol = Refusing()
        transport = CircuitTransport(
            stream,
            protocol,
            Circuit(connection.peer_id, connection.remote_address),
            spawn=alice.host.spawn,
            clock=alice.host.clock.monotonic,
        )
        transport.start()
        await transport.run()
        await until(lambda: protocol.lost == [None])
        assert not connection.streams


async def test_the_limit_is_named_when_it_was_used_up() -> None:
    async with pair(limit_bytes=MIB) as (near, far):
        near.transport.write(bytes(MIB // 2))
        await until(lambda: len(far.protocol.received) == MIB // 2)
        assert near.circuit.bytes_left == MIB // 2
        near.transport.write(bytes(MIB // 2 - 10))
        await until(lambda: near.circuit.bytes_left == 10)
        far.stream.reset()
        await both_lost(near, far)
        assert isinstance(near.protocol.lost[0], CircuitLimitReached)
        assert near.circuit.seconds_left(0) is None


async def test_the_limit_is_named_as_well_when_the_relay_ends_the_circuit_in_good_order() -> None:
    async with pair(limit_bytes=MIB) as (near, far):
        near.transport.write(bytes(MIB))
        await until(lambda: len(far.protocol.received) == MIB)
        far.transport.close()
        await both_lost(near, far)
        assert isinstance(near.protocol.lost[0], CircuitLimitReached)
        assert "eof" not in near.protocol.calls


async def test_another_end_is_not_blamed_on_the_limit() -> None:
    async with pair(limit_bytes=MIB) as (near, far):
        near.transport.write(bytes(MIB // 2))
        await until(lambda: len(far.protocol.received) == MIB // 2)
        far.stream.reset()
        await both_lost(near, far)
        assert not isinstance(near.protocol.lost[0], CircuitLimitReached)
