"""Our node and the foreign peers over QUIC: what TCP does not have."""

import asyncio
import ssl
from contextlib import suppress

import pytest
from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent

from tests.interop.conftest import Link, over_quic
from tests.interop.ours import CHUNK, OurNode
from tests.interop.peer import DEAF, ForeignPeer, ForeignPeerError
from wws.addresses.multiaddr import Multiaddr
from wws.runtime.streams import Stream
from wws.transport.muxed import StreamClosed
from wws.transport.tls import ALPN

pytestmark = [
    pytest.mark.interop,
    pytest.mark.net,
    pytest.mark.timeout(120),
    pytest.mark.asyncio(loop_scope="module"),
]

LARGE = 10_000_000
CERTIFICATE_REQUIRED = 0x100 + 116
"""QUIC's number for the TLS alert (RFC 9001, section 4.8)."""


@over_quic
async def test_a_peer_that_reads_no_more_is_told_no_more(link: Link) -> None:
    """go says so by STOP_SENDING, js takes the bytes and drops them; the answer arrives all the same."""
    async with link.connection.open_stream(DEAF) as stream:
        told = await _write_until_told(stream) < LARGE
        assert told == (link.foreign.implementation == "go")
        assert await stream.read_to_end(100) == b"deaf"
    assert await link.ours.half_close(link.connection, b"abc") == b"cba"
    assert await link.foreign.half_close(link.us, b"abc") == b"cba"


@over_quic
async def test_an_end_and_the_wish_to_hear_no_more_may_cross(link: Link) -> None:
    """STOP_SENDING comes for a stream that we have ended already."""
    for _ in range(20):
        async with link.connection.open_stream(DEAF) as stream:
            await stream.write(b"abc")
            stream.close_write()
            assert await stream.read_to_end(100) == b"deaf"
    assert await link.ours.half_close(link.connection, b"abc") == b"cba"


@over_quic
async def test_we_stop_it_while_it_sends(link: Link) -> None:
    protocol = f"/test/enough/{link.us}"

    async def read_some_and_answer(stream: Stream) -> None:
        await stream.read_exactly(100_000)
        stream.reset()

    link.ours.host.serve(protocol, read_some_and_answer)
    for _ in range(5):
        with pytest.raises(ForeignPeerError):
            await link.foreign.upload(link.us, LARGE, protocol=protocol)
    assert await link.foreign.half_close(link.us, b"abc") == b"cba"
    assert link.connection.machine.unread == 0


@over_quic
async def test_nobody_lets_a_client_in_that_has_no_certificate(ours: OurNode, foreign: ForeignPeer) -> None:
    for address in (ours.address, foreign.address):
        assert await _end_of_nameless_client(Multiaddr.parse(address)) in (CERTIFICATE_REQUIRED, None)
    assert ours.host.connections() == []
    assert ours.host.refusals.total() >= 1
    assert await foreign.connections() == []


async def _write_until_told(stream: Stream) -> int:
    """Write until the stream takes no more; how much it took."""
    written = 0
    with suppress(StreamClosed):
        while written < LARGE:
            await stream.write(bytes(CHUNK))
            written += CHUNK
            await asyncio.sleep(0)
    return written


class _Nameless(QuicConnectionProtocol):
    """A client of aioquic that shows no certificate."""

    ended: ConnectionTerminated | None = None

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated):
            self.ended = event


async def _end_of_nameless_client(address: Multiaddr) -> int | None:
    """The code that the server ends the connection with."""
    configuration = QuicConfiguration(is_client=True, alpn_protocols=[ALPN], verify_mode=ssl.CERT_NONE)
    async with connect(
        address.host,
        address.port or 0,
        configuration=configuration,
        create_protocol=_Nameless,
        wait_connected=False,
    ) as client:
        assert isinstance(client, _Nameless)
        client.transmit()
        async with asyncio.timeout(20):
            await client.wait_closed()
        return None if client.ended is None else client.ended.error_code
