"""Drives a foreign libp2p peer, js or go, as a process of its own.

::

    async with ForeignPeer.start("go") as peer:
        await peer.dial(alice_address)
        assert await peer.echo(alice_id, b"hello") == b"hello"

The peers and their commands are described in tests/interop/peers/README.md. Nothing here needs pytest, so
that bench/ drives the same peers.
"""

import asyncio
import base64
import contextlib
import fcntl
import functools
import json
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Self

Implementation = Literal["js", "go"]

IMPLEMENTATIONS: tuple[Implementation, ...] = ("js", "go")

ECHO = "/test/echo/1"
SINK = "/test/sink/1"
"""Answers the decimal count of what it got."""
SLOW_SINK = "/test/slow/1"
"""The sink, at 64 KiB every 20 ms."""
REVERSE = "/test/reverse/1"
"""Answers, backwards, what came before the end of the stream."""
DEAF = "/test/deaf/1"
"""Reads something and then no more, says so, and answers `deaf`."""

_HERE = Path(__file__).parent
_BUILT = _HERE / "peers" / ".build"
_START_TIMEOUT = 30.0
_STOP_TIMEOUT = 5.0
_STDERR_SHOWN = 8_000


class ForeignPeerError(Exception):
    """What the peer answered instead of a result, or why it could not be started."""


@dataclass(frozen=True, slots=True)
class ForeignConnection:
    """A connection as the foreign peer sees it."""

    peer_id: str
    address: str
    direction: Literal["inbound", "outbound"]
    security: str
    muxer: str
    streams: tuple[str, ...]
    early_muxer: bool | None
    """Whether the muxer was agreed inside the Noise handshake; None: js does not say."""
    limited: bool
    """Whether it goes through a relay that limits it."""

    @classmethod
    def parse(cls, answer: Mapping[str, Any]) -> Self:
        return cls(
            peer_id=answer["peer_id"],
            address=answer["addr"],
            direction=answer["direction"],
            security=answer["security"],
            muxer=answer["muxer"],
            streams=tuple(answer["streams"]),
            early_muxer=answer.get("early_muxer"),
            limited=answer["limited"],
        )


@dataclass(frozen=True, slots=True)
class Identified:
    """What the foreign peer learnt from our newest identify or identify push."""

    agent: str
    protocol_version: str
    protocols: frozenset[str]
    addresses: tuple[str, ...]
    observed: str
    signed_record: bool
    """Whether our signed peer record came and was accepted."""
    count: int
    """Identifies and pushes of this peer so far."""


@dataclass(frozen=True, slots=True)
class FoundPeer:
    peer_id: str
    addresses: tuple[str, ...]

    @classmethod
    def parse(cls, answer: Mapping[str, Any]) -> Self:
        return cls(peer_id=answer["peer_id"], addresses=tuple(answer["addresses"]))


@dataclass(frozen=True, slots=True)
class DialRun:
    """One `dialbench`."""

    connected: int
    errors: Mapping[str, int]
    seconds: float

    @property
    def rate(self) -> float:
        """Connections a second."""
        return self.connected / self.seconds


@functools.cache
def build(implementation: Implementation) -> None:
    """Builds the peer unless it is up to date. The first time takes a minute and the package registries.

    :raises ForeignPeerError: when npm or go is missing, or the build fails.
    """
    _BUILT.mkdir(exist_ok=True)
    with (_BUILT / f"{implementation}.lock").open("w") as lock:  # test workers build it once
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = subprocess.run(
            [_HERE / "build.sh", implementation], capture_output=True, text=True, timeout=600, check=False
        )
    if run.returncode != 0:
        raise ForeignPeerError(f"the {implementation} peer did not build:\n{run.stderr[-_STDERR_SHOWN:]}")


def _command(implementation: Implementation) -> list[str]:
    if implementation == "js":
        return [str(_BUILT / "js" / "node"), "--expose-gc", str(_BUILT / "js" / "peer.mjs")]
    return [str(_BUILT / "go" / "peer")]


class ForeignPeer:
    """A running js or go peer.

    An exception that leaves the `async with` block carries the peer's stderr as a note.
    """

    def __init__(
        self, implementation: Implementation, peer_id: str, addresses: Sequence[str], control: int, pid: int
    ) -> None:
        self.implementation = implementation
        self.peer_id = peer_id
        self.addresses = tuple(addresses)
        self.pid = pid
        self._control = control

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, implementation: Implementation, **config: Any) -> AsyncIterator[Self]:
        """Starts the peer and stops it at the end of the block.

        :param config: `listen`, `seed_hex`, `agent`, `dht_protocol` (None: no DHT), `dht_mode`, and what
            peers/README.md lists more.
        :raises ForeignPeerError: when it was not built, or does not come up in 30 s.
        """
        with tempfile.TemporaryFile() as stderr, _stderr_as_note(implementation, stderr):
            try:
                process = await asyncio.create_subprocess_exec(
                    *_command(implementation),
                    "0",
                    json.dumps(config),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                )
            except FileNotFoundError:
                raise ForeignPeerError(
                    f"the {implementation} peer is not built: tests/interop/build.sh {implementation}"
                ) from None
            try:
                ready = await _ready_line(process)
                yield cls(implementation, ready["peer_id"], ready["addresses"], ready["control"], process.pid)
            finally:
                await _stop(process)

    @property
    def address(self) -> str:
        """The first listen address, with /p2p/."""
        return self.addresses[0]

    def address_of(self, transport: Literal["tcp", "quic-v1"]) -> str:
        """Where it listens by `transport`, with /p2p/."""
        return next(one for one in self.addresses if f"/{transport}/" in one and "/p2p-circuit" not in one)

    async def call(self, command: str, timeout: float = 60.0, **arguments: Any) -> Any:
        """One command of the control port.

        :raises ForeignPeerError: with what the peer says went wrong.
        :raises TimeoutError: when no answer came in `timeout` seconds.
        """
        body = json.dumps({"cmd": command, **arguments}).encode()
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._control)
            try:
                # HTTP/1.0: the answer is neither chunked nor followed by another.
                writer.write(b"POST / HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
                _, _, payload = (await reader.read()).partition(b"\r\n\r\n")
            finally:
                writer.close()
        if not payload:
            raise ForeignPeerError(f"{command}: the {self.implementation} peer closed the control connection")
        answer = json.loads(payload)
        if "error" in answer:
            raise ForeignPeerError(f"{command}: {answer['error']}")
        return answer["ok"]

    # -- connections ---------------------------------------------------------------------------

    async def dial(self, address: str) -> ForeignConnection:
        """Connects to `address`, which names the expected peer with /p2p/."""
        return ForeignConnection.parse(await self.call("dial", addr=address))

    async def hang_up(self, peer_id: str) -> None:
        await self.call("hangup", peer=peer_id)

    async def connections(self) -> list[ForeignConnection]:
        return [ForeignConnection.parse(answer) for answer in await self.call("connections")]

    async def identified(self, peer_id: str, *, count: int = 1) -> Identified:
        """Waits until `peer_id` has identified `count` times (a push counts), gives the newest."""
        answer = await self.call("identify", peer=peer_id, count=count)
        return Identified(
            agent=answer["agent"],
            protocol_version=answer["protocol_version"],
            protocols=frozenset(answer["protocols"]),
            addresses=tuple(answer["addresses"]),
            observed=answer["observed"],
            signed_record=answer["signed_record"],
            count=answer["count"],
        )

    async def serve_echo(self, protocol: str) -> None:
        """Registers a further protocol, which the peer then pushes to whom it is connected."""
        await self.call("handle", protocol=protocol)

    # -- NATs ----------------------------------------------------------------------------------

    async def reserve(self, relay: str) -> tuple[str, ...]:
        """Holds a reservation at `relay` (with /p2p/), js from now on; where it is reached through that."""
        answer = await self.call("reserve", addr=relay)
        addresses = answer["addresses"]
        if self.implementation == "go":  # it says where the relay is
            addresses = [f"{address}/p2p-circuit/p2p/{self.peer_id}" for address in addresses]
        return tuple(addresses)

    # -- streams -------------------------------------------------------------------------------

    async def ping(self, peer_id: str, count: int = 1) -> list[float]:
        """Round trips in seconds, with the implementation's own ping service (js: a stream for each)."""
        return [ms / 1000 for ms in await self.call("ping", peer=peer_id, n=count)]

    async def ping_stream(self, peer_id: str, count: int) -> list[float]:
        """Round trips in seconds on one ping stream."""
        return [ms / 1000 for ms in await self.call("ping_stream", peer=peer_id, n=count)]

    async def echo(self, peer_id: str, data: bytes, *, protocol: str = ECHO) -> bytes:
        answer = await self.call("echo", peer=peer_id, protocol=protocol, data_b64=_base64(data))
        return base64.b64decode(answer["data_b64"])

    async def echo_pattern(self, peer_id: str, size: int, *, protocol: str = ECHO) -> int:
        """Sends `size` bytes and compares what comes back, writing and reading at the same time."""
        answer = await self.call(
            "echo", peer=peer_id, protocol=protocol, bytes=size, timeout=120, timeout_ms=120_000
        )
        return int(answer["bytes"])

    async def upload(self, peer_id: str, size: int, *, protocol: str = SINK) -> tuple[int, float]:
        """The count the sink acknowledged, and the seconds it took."""
        answer = await self.call("upload", peer=peer_id, protocol=protocol, bytes=size, timeout=120)
        return answer["acknowledged"], answer["ms"] / 1000

    async def streams(self, peer_id: str, count: int, *, protocol: str = ECHO) -> int:
        """Opens `count` streams, then echoes on all at once: all came back right, or it raises."""
        return int((await self.call("streams", peer=peer_id, protocol=protocol, n=count))["verified"])

    async def half_close(self, peer_id: str, data: bytes, *, protocol: str = REVERSE) -> bytes:
        """Writes, closes the write side, then reads the answer to its end."""
        answer = await self.call("half_close", peer=peer_id, protocol=protocol, data_b64=_base64(data))
        return base64.b64decode(answer["data_b64"])

    # -- the DHT -------------------------------------------------------------------------------

    async def put(self, key: str, value: bytes) -> list[str]:
        """Stores at the closest peers; who was asked and, from js, confirmed."""
        return list((await self.call("put", key=key, value_b64=_base64(value)))["stored"])

    async def get(self, key: str) -> bytes | None:
        answer = await self.call("get", key=key)
        return None if answer["value_b64"] is None else base64.b64decode(answer["value_b64"])

    async def provide(self, multihash: bytes) -> None:
        """Announces itself under `multihash`, which js demands to be SHA-256 (34 bytes, 0x12 0x20 first)."""
        await self.call("provide", key_b64=_base64(multihash))

    async def find_providers(self, multihash: bytes) -> list[FoundPeer]:
        answer = await self.call("find_providers", key_b64=_base64(multihash))
        return [FoundPeer.parse(provider) for provider in answer["providers"]]

    async def find_peer(self, peer_id: str) -> FoundPeer | None:
        answer = await self.call("find_peer", peer=peer_id)
        return None if answer["peer"] is None else FoundPeer.parse(answer["peer"])

    async def routing_table(self) -> set[str]:
        return set(await self.call("routing_table"))

    # -- measuring -----------------------------------------------------------------------------

    async def dial_many(
        self, address: str, count: int, *, concurrency: int = 1, keep: bool = False
    ) -> DialRun:
        """Dials with `count` fresh identities; with `keep` the connections stay until `release`."""
        answer = await self.call(
            "dialbench", addr=address, n=count, concurrency=concurrency, keep=keep, timeout=300
        )
        return DialRun(answer["connected"], answer["errors"], answer["ms"] / 1000)

    async def release(self) -> int:
        return int(await self.call("release"))

    async def resident_memory(self) -> int:
        """Resident bytes, after a garbage collection."""
        return int((await self.call("mem"))["rss"])

    async def cpu_seconds(self) -> float:
        answer = await self.call("cpu")
        return float(answer["user"] + answer["system"])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def _ready_line(process: asyncio.subprocess.Process) -> Mapping[str, Any]:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_START_TIMEOUT):
            line = await process.stdout.readline()
    except TimeoutError:
        raise ForeignPeerError(f"not ready after {_START_TIMEOUT:g} s") from None
    if not line:
        raise ForeignPeerError("it ended before it was ready")
    ready: Mapping[str, Any] = json.loads(line)
    return ready


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Closes its standard input, on which the peer ends; kills it if it does not."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(_STOP_TIMEOUT):
            await process.wait()
    except TimeoutError:
        process.kill()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@contextlib.contextmanager
def _stderr_as_note(implementation: Implementation, stderr: IO[bytes]) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        stderr.seek(0)
        if text := stderr.read().decode(errors="replace").strip():
            error.add_note(f"stderr of the {implementation} peer:\n{text[-_STDERR_SHOWN:]}")
        raise
