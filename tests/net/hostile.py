"""A peer that keeps to no rule: raw bytes at every layer, up to hand-written yamux frames.

::

    bob = await Hostile.connect(alice.port)          # only a socket
    await bob.secure("bob")                          # multistream, Noise, early muxer: authenticated
    bob.frame(DATA, SYN, 1, b"...")                  # whatever frame
"""

import asyncio
import contextlib
from typing import Self

from wws.identity.keys import Identity
from wws.mesh import identify
from wws.mesh.identify import Identification
from wws.transport.multistream import encode_line
from wws.transport.noise import PROTOCOL as NOISE
from wws.transport.noise import YAMUX, NoiseHandshake, NoiseStatic
from wws.transport.noise_frames import CipherPair
from wws.transport.yamux_frames import ACK, DATA, FIN, HEADER, PING, SYN

HEADER_LINE = encode_line("/multistream/1.0.0")
PROPOSAL = HEADER_LINE + encode_line(NOISE)


class Hostile:
    """One socket to a node."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.ciphers: CipherPair | None = None

    @classmethod
    async def connect(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    @classmethod
    async def authenticated(cls, port: int, label: str = "mallory") -> Self:
        """A connection that is established as far as the node can tell."""
        self = await cls.connect(port)
        await self.secure(label)
        return self

    def say(self, data: bytes) -> None:
        """Write raw bytes; a socket that is gone is no matter."""
        if not self.writer.is_closing():
            self.writer.write(data)

    async def drain(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def noise_message(self) -> bytes:
        length = int.from_bytes(await self.reader.readexactly(2), "big")
        return await self.reader.readexactly(length)

    async def secure(self, label: str, *, early_muxer: bool = True, stop_after: str = "") -> None:
        """The handshake as the initiator, or up to a step of it: `proposal`, `first`, `second`, `third`."""
        handshake = NoiseHandshake(
            is_initiator=True,
            static=NoiseStatic(Identity.from_label(label), muxers=(YAMUX,) if early_muxer else ()),
        )
        self.say(PROPOSAL)
        await self.reader.readexactly(len(PROPOSAL))
        if stop_after == "proposal":
            return
        self.say(framed(handshake.start()))
        if stop_after == "first":
            return
        answer = handshake.receive_message(await self.noise_message())
        if stop_after == "second":
            return
        self.say(framed(answer))
        self.ciphers = handshake.ciphers

    def sealed(self, plaintext: bytes) -> bytes:
        """The bytes on the wire for bytes of the session."""
        assert self.ciphers is not None
        return b"".join(self.ciphers.encrypt([plaintext]))

    def frame(
        self, kind: int, flags: int, stream: int, data: bytes = b"", *, length: int | None = None
    ) -> None:
        """Send one yamux frame, its length right or wrong."""
        size = len(data) if length is None else length
        self.say(self.sealed(HEADER.pack(0, kind, flags, stream, size) + data))

    def frames(self, *frames: tuple[int, int, int, bytes]) -> None:
        """Send several frames in one Noise message, so that they arrive together."""
        plain = b"".join(
            HEADER.pack(0, kind, flags, stream, len(data)) + data for kind, flags, stream, data in frames
        )
        self.say(self.sealed(plain))

    def open(self, stream: int, protocol: str, data: bytes = b"") -> None:
        """Open a stream for a protocol, with its first bytes."""
        self.frame(DATA, SYN, stream, HEADER_LINE + encode_line(protocol) + data)

    async def ping(self, token: int = 7) -> None:
        """Return when the node has handled everything sent before."""
        self.frame(PING, SYN, 0, length=token)
        await self.drain()
        async with asyncio.timeout(20):
            while (frame := await self.next_frame())[:2] != (PING, 2) or frame[3] != token:
                pass

    async def next_frame(self) -> tuple[int, int, int, int, bytes]:
        """Kind, flags, stream, length and data of the next frame from the node."""
        kind, flags, stream, length = HEADER.unpack(await self._plain(HEADER.size))[1:]
        return kind, flags, stream, length, await self._plain(length) if kind == DATA else b""

    async def answer_identify(self, label: str) -> None:
        """Wait for the node's question who we are, and answer it."""
        said = Identification(peer_id=Identity.from_label(label).peer_id, addresses=(), protocols=()).encode()
        async with asyncio.timeout(20):
            while True:
                kind, flags, stream, _, data = await self.next_frame()
                if kind == DATA and flags & SYN and identify.PROTOCOL.encode() in data:
                    break
        self.frame(DATA, ACK, stream, HEADER_LINE + encode_line(identify.PROTOCOL) + said)
        self.frame(DATA, FIN, stream)
        await self.drain()

    _pending = b""

    async def _plain(self, count: int) -> bytes:
        assert self.ciphers is not None
        while len(self._pending) < count:
            data = await self.reader.read(65536)
            if not data:
                raise asyncio.IncompleteReadError(self._pending, count)
            self._pending += b"".join(self.ciphers.decrypt(data))
        result, self._pending = self._pending[:count], self._pending[count:]
        return result

    async def gone(self) -> None:
        """Return when the node has closed or reset the socket, whatever it said before."""
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                while await self.reader.read(65536):
                    pass

    async def close(self) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def framed(message: bytes) -> bytes:
    """A Noise handshake message behind its length."""
    return len(message).to_bytes(2, "big") + message
