"""Peers that break the protocol, at each layer: they are gone, counted, and nobody else notices."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TypeAlias

import pytest

from tests.interop.ours import until
from tests.interop.peer import ECHO
from tests.net.hostile import HEADER_LINE, PROPOSAL, Hostile
from tests.net.mesh_node import MeshNode, node
from wws.codec import varint
from wws.dht.messages import KadMessage, KadRecord, MessageType
from wws.identity.keys import Identity
from wws.mesh import identify
from wws.mesh.bans import BansConfig
from wws.mesh.identify import Identification
from wws.mesh.rates import Share
from wws.runtime.connection import Connection
from wws.runtime.dht_driver import PROTOCOL as KAD
from wws.runtime.dht_driver import DhtDriverConfig
from wws.runtime.gatekeeper import GatekeeperConfig
from wws.runtime.handlers import HandlersConfig
from wws.runtime.host import HostConfig
from wws.runtime.identify_service import IdentifyConfig
from wws.runtime.ping import PROTOCOL as PING_PROTOCOL
from wws.testing.clock import ManualClock
from wws.testing.scale import scale
from wws.transport.multistream import encode_line
from wws.transport.yamux_frames import ACK, DATA, FIN, GO_AWAY, INITIAL_WINDOW, PING, RST, SYN, WINDOW_UPDATE

pytestmark = [pytest.mark.net, pytest.mark.timeout(60), pytest.mark.usefixtures("leaves_nothing")]

Frames: TypeAlias = list[tuple[int, int, int, bytes, int]]
"""Kind, flags, stream, data, and the length in the header."""

MALLORY = Identity.from_label("mallory").peer_id
PATIENT = HostConfig(
    gate=GatekeeperConfig(bans=BansConfig(threshold=1e9)),
    handlers=HandlersConfig(rates={KAD: Share(1e6, 1e6)}, rate=Share(1e6, 1e6)),
)
"""Bans nobody, and has no rates: for what else stops a peer."""
CLIENT_HELLO = bytes.fromhex("160301007a010000760303") + bytes(111)
HTTP = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextlib.asynccontextmanager
async def honest_pair(alice: MeshNode) -> AsyncIterator[Connection]:
    """Bob is connected to alice all the time, and both are well afterwards."""
    async with node("bob") as bob:
        connection = await bob.join(alice)
        yield connection
        assert connection.is_established
        assert await bob.ping.ping(connection) >= 0


# Before anybody is authenticated


@pytest.mark.parametrize("step", ["nothing", "proposal", "first", "second"])
async def test_a_handshake_that_stalls_is_gone_after_the_time_of_its_phase(step: str) -> None:
    clock = ManualClock()
    async with (
        node("alice", clock=clock) as alice,
        honest_pair(alice),
        await Hostile.connect(alice.port) as peer,
    ):
        if step != "nothing":
            await peer.secure("mallory", stop_after=step)
        await until(lambda: alice.slots() == (2, 1, 1))
        clock.advance(9.9)
        alice.host._tick(clock.monotonic())
        assert alice.slots() == (2, 1, 1)
        clock.advance(0.2)
        await peer.gone()
        await until(lambda: alice.slots() == (1, 1, 0))
        assert alice.host.refusals["connection", "phase_timeout"] == 1


async def test_a_muxer_that_is_never_agreed_on() -> None:
    clock = ManualClock()
    async with node("alice", clock=clock) as alice, await Hostile.connect(alice.port) as peer:
        await peer.secure("mallory", early_muxer=False)
        await until(lambda: alice.slots() == (1, 0, 1))
        clock.advance(10.1)
        await peer.gone()
        assert alice.host.refusals["connection", "phase_timeout"] == 1
        assert alice.slots() == (0, 0, 0)


async def test_dribbling_does_not_lengthen_the_time() -> None:
    clock = ManualClock()
    async with node("alice", clock=clock) as alice, await Hostile.connect(alice.port) as peer:
        for byte in PROPOSAL[:20]:
            peer.say(bytes([byte]))
            await peer.drain()
            before = alice.host.received_bytes
            clock.advance(0.45)
            await until(lambda before=before: alice.host.received_bytes >= before)  # type: ignore[misc]
        assert alice.slots() == (1, 0, 1)
        clock.advance(1.1)
        await peer.gone()
        assert alice.host.refusals["connection", "phase_timeout"] == 1


@pytest.mark.parametrize(
    "data, reason",
    [
        (CLIENT_HELLO, "negotiation_failed"),
        (HTTP, "negotiation_failed"),
        (bytes(range(256)) * 8, "negotiation_failed"),
        (b"\xff" * 4096, "negotiation_failed"),
        (varint.encode(100_000), "negotiation_failed"),
        (HEADER_LINE + encode_line("/tls/1.0.0") * 33, "negotiation_failed"),
        (PROPOSAL + b"\xff\xff" + bytes(70_000), "noise_handshake_failed"),
        (PROPOSAL + b"\x00\x00", "noise_handshake_failed"),
        (PROPOSAL + b"\x00\x20" + bytes(32), "noise_handshake_failed"),
    ],
    ids=[
        "tls",
        "http",
        "bytes",
        "ones",
        "oversized line",
        "many proposals",
        "oversized noise",
        "empty",
        "zero key",
    ],
)
async def test_what_is_no_handshake_is_refused(data: bytes, reason: str) -> None:
    async with node("alice") as alice, honest_pair(alice), await Hostile.connect(alice.port) as peer:
        peer.say(data)
        await peer.gone()
        await until(lambda: alice.slots() == (1, 1, 0))
        assert alice.host.refusals["connection", reason] == 1


@pytest.mark.parametrize("cut", range(0, len(PROPOSAL) + 40, 7))
async def test_a_handshake_cut_anywhere(cut: int) -> None:
    async with node("alice") as alice:
        async with await Hostile.connect(alice.port) as peer:
            peer.say((PROPOSAL + b"\x00\x20" + bytes(range(1, 33)))[:cut])
            await peer.drain()
            await until(lambda: alice.host.received_bytes >= min(cut, len(PROPOSAL)))
        await until(lambda: alice.slots() == (0, 0, 0))


async def test_a_wrong_third_message() -> None:
    async with node("alice") as alice, await Hostile.connect(alice.port) as peer:
        await peer.secure("mallory", stop_after="second")
        peer.say(b"\x00\x80" + bytes(128))
        await peer.gone()
        assert alice.host.refusals["connection", "noise_handshake_failed"] == 1
        await until(lambda: alice.slots() == (0, 0, 0))


# Authenticated, and against the rules of the session


@pytest.mark.parametrize(
    "frames, reason",
    [
        ([(7, 0, 0, b"", 0)], "yamux_invalid_frame"),
        ([(DATA, 0x100, 1, b"", 0)], "yamux_invalid_frame"),
        ([(DATA, 0, 9, b"", 4)], "yamux_unknown_stream"),
        ([(WINDOW_UPDATE, 0, 9, b"", 4)], "yamux_unknown_stream"),
        ([(DATA, SYN, 2, b"", 0)], "yamux_invalid_stream_id"),
        ([(DATA, SYN, 0, b"", 0)], "yamux_invalid_stream_id"),
        ([(DATA, SYN, 1, b"", 0), (DATA, SYN, 1, b"", 0)], "yamux_invalid_stream_id"),
        ([(DATA, SYN, 1, b"", INITIAL_WINDOW + 1)], "yamux_window_exceeded"),
        ([(DATA, SYN, 1, b"", 2**32 - 1)], "yamux_window_exceeded"),
        ([(DATA, SYN, 1, b"", 0), (WINDOW_UPDATE, 0, 1, b"", 2**32 - 1)], "yamux_window_overflow"),
        ([(DATA, SYN | FIN, 1, b"", 0), (DATA, 0, 1, b"", 4)], "yamux_stream_has_ended"),
        ([(PING, SYN, 5, b"", 0)], "yamux_invalid_frame"),
        ([(GO_AWAY, SYN, 0, b"", 0)], "yamux_invalid_frame"),
        ([(PING, SYN, 0, b"", 1)] * 4100, "yamux_frame_flood"),
        ([(PING, ACK, 0, b"", 1)] * 4100, "yamux_frame_flood"),
    ],
)
async def test_a_session_against_the_rules(frames: Frames, reason: str) -> None:
    async with node("alice") as alice, honest_pair(alice), await Hostile.authenticated(alice.port) as peer:
        for kind, flags, stream, data, length in frames:
            peer.frame(kind, flags, stream, data, length=length)
        await peer.drain()
        await peer.gone()
        await until(lambda: alice.slots() == (1, 1, 0))
        assert alice.host.refusals["connection", reason] == 1


async def test_bytes_that_do_not_decrypt() -> None:
    async with node("alice") as alice, honest_pair(alice), await Hostile.authenticated(alice.port) as peer:
        peer.say(b"\x00\x20" + bytes(32))
        await peer.gone()
        await until(lambda: alice.slots() == (1, 1, 0))
        assert alice.host.refusals["connection", "noise_decryption_failed"] == 1


async def test_a_flood_of_openings() -> None:
    async with node("alice") as alice, honest_pair(alice), await Hostile.authenticated(alice.port) as peer:
        for number in range(6000):
            peer.frame(DATA, SYN, 2 * number + 1)
        await peer.drain()
        await peer.gone()
        await until(lambda: alice.slots() == (1, 1, 0))
        assert alice.host.refusals["connection", "yamux_frame_flood"] == 1
        assert not alice.host.handlers.negotiating


async def test_rapid_reset() -> None:
    """Streams that are opened, negotiated and reset in one packet: no handler outlives them."""
    async with node("alice") as alice, honest_pair(alice), await Hostile.authenticated(alice.port) as peer:
        negotiation = HEADER_LINE + encode_line(ECHO)
        for number in range(scale(1500)):
            stream = 2 * number + 1
            peer.frames((DATA, SYN, stream, negotiation), (DATA, RST, stream, b""))
        await peer.ping()
        connection = alice.host.connection_to(MALLORY)
        assert connection is not None
        assert connection.machine.open_streams <= 1  # our own identify
        await until(lambda: not alice.host.handlers.of_peers[MALLORY, ECHO])
        assert not alice.host.handlers.negotiating
        for number in range(6000):
            peer.frames(
                (DATA, SYN, 100_001 + 2 * number, negotiation), (DATA, RST, 100_001 + 2 * number, b"")
            )
        await peer.gone()
        assert alice.host.refusals["connection", "yamux_frame_flood"] == 1


async def test_a_reset_behind_the_answer_to_our_proposal() -> None:
    """Our own stream, agreed to and reset in one packet, while our end of stream waits for the answer."""
    async with node("alice") as alice, await Hostile.authenticated(alice.port) as peer:
        kind, flags, stream, _, _ = await peer.next_frame()  # alice asks who we are
        assert (kind, flags & SYN) == (DATA, SYN)
        peer.frames(
            (DATA, ACK, stream, HEADER_LINE + encode_line(identify.PROTOCOL)),
            (DATA, RST, stream, b""),
        )
        await peer.ping()
        assert alice.slots() == (1, 1, 0)
        await until(lambda: alice.host.refusals[identify.PROTOCOL, "stream_reset"] == 1)


async def test_streams_whose_protocol_is_never_said() -> None:
    """They go after the time of their phase, also behind one that was quick."""
    clock = ManualClock()
    async with node("alice", clock=clock) as alice, await Hostile.authenticated(alice.port) as peer:
        peer.frame(DATA, SYN, 1)
        peer.frame(DATA, SYN, 3, HEADER_LINE)
        peer.open(5, ECHO)
        peer.frame(DATA, SYN, 7)
        await peer.ping()
        assert len(alice.host.handlers.negotiating) == 3
        clock.advance(10.1)
        await until(lambda: alice.host.refusals["multistream", "phase_timeout"] == 3)
        assert not alice.host.handlers.negotiating
        assert alice.host.handlers.of_peers[MALLORY, ECHO] == 1


@pytest.mark.parametrize(
    "data",
    [HTTP, CLIENT_HELLO, b"\xff" * 2000, HEADER_LINE + encode_line("/nope/1") * 40],
)
async def test_garbage_instead_of_a_protocol_ends_that_stream(data: bytes) -> None:
    async with node("alice") as alice, await Hostile.authenticated(alice.port) as peer:
        peer.frame(DATA, SYN, 1, data)
        await until(lambda: alice.host.refusals["multistream", "negotiation_failed"] == 1)
        await peer.ping()  # the connection goes on
        assert alice.slots() == (1, 1, 0)
        assert not alice.host.handlers.negotiating


async def test_names_of_protocols_that_a_peer_makes_up_are_not_counted_one_by_one() -> None:
    async with node("alice") as alice, await Hostile.authenticated(alice.port) as peer:
        for number in range(200):
            peer.open(2 * number + 1, f"/mallory/{number}")
            peer.frame(DATA, RST, 2 * number + 1)
        await peer.ping()
        assert len(alice.host.refusals) < 5


# Identify


def identified(peer: Hostile, protocols: tuple[str, ...]) -> bytes:
    """What mallory says of herself."""
    return Identification(
        protocol_version="x", agent_version="mallory/1", peer_id=MALLORY, addresses=(), protocols=protocols
    ).encode()


async def answer_identify(peer: Hostile, answer: bytes, *, end: bool = True) -> None:
    """Wait for alice's question who we are, and answer it."""
    async with asyncio.timeout(20):
        while True:
            kind, flags, stream, _, data = await peer.next_frame()
            if kind == DATA and flags & SYN and identify.PROTOCOL.encode() in data:
                break
    peer.frame(DATA, ACK, stream, HEADER_LINE + encode_line(identify.PROTOCOL))
    for offset in range(0, len(answer), 60_000):
        peer.frame(DATA, 0, stream, answer[offset : offset + 60_000])
    if end:
        peer.frame(DATA, FIN, stream)
    await peer.drain()


@pytest.mark.parametrize(
    "answer, reason",
    [
        (bytes(100_000), "too_large"),
        (varint.frame(b"\x32\x01x") * 17, "too_large"),
        (b"", "malformed"),
        (b"\xff" * 100, "malformed"),
        (varint.encode(1000) + b"short", "malformed"),
        (Identification(peer_id=Identity.from_label("carol").peer_id).encode(), "malformed"),
    ],
    ids=["huge", "many messages", "empty", "garbage", "cut", "another key"],
)
async def test_identify_that_is_refused(answer: bytes, reason: str) -> None:
    async with node("alice") as alice, honest_pair(alice), await Hostile.authenticated(alice.port) as peer:
        await answer_identify(peer, answer)
        await until(lambda: alice.host.refusals[identify.PROTOCOL, reason] == 1)
        connection = await alice.connection_with(MALLORY)
        assert await connection.wait_identified() is None
        assert MALLORY not in alice.dht.machine.routing


@pytest.mark.parametrize("answer", [b"", varint.encode(60_000) + bytes(100)], ids=["silence", "no end"])
async def test_identify_that_never_ends(answer: bytes) -> None:
    quick = IdentifyConfig(timeout=0.1)
    async with node("alice", identify=quick) as alice, await Hostile.authenticated(alice.port) as peer:
        await answer_identify(peer, answer, end=False)
        await until(lambda: alice.host.refusals[identify.PROTOCOL, "timeout"] == 1)
        connection = await alice.connection_with(MALLORY)
        assert await connection.wait_identified() is None
        await until(lambda: not connection.streams)


async def test_what_identify_makes_us_remember_is_bounded() -> None:
    """The largest answer that is read at all leaves little behind, and nothing when the peer is gone."""
    async with node("alice") as alice:
        async with await Hostile.authenticated(alice.port) as peer:
            names = tuple(f"/mallory/{number:03}/" + "\U0001f41d" * 50 for number in range(250))
            await answer_identify(peer, identified(peer, names))
            said = await (await alice.connection_with(MALLORY)).wait_identified()
            assert said is not None
            assert said.protocols is not None
            assert 0 < sum(len(name.encode()) for name in said.protocols) <= identify.MAX_PROTOCOL_TEXT
        await until(lambda: alice.slots() == (0, 0, 0))
        info = alice.host.peers.find(MALLORY)
        assert info is None or info.identification is None


async def test_a_storm_of_pushes() -> None:
    quick = HostConfig(handlers=HandlersConfig(rates={identify.PUSH_PROTOCOL: Share(0.001, 3)}))
    async with node("alice", quick) as alice, await Hostile.authenticated(alice.port) as peer:
        heard = 0

        def hear(_: Connection) -> None:
            nonlocal heard
            heard += 1

        await answer_identify(peer, identified(peer, ()))
        await (await alice.connection_with(MALLORY)).wait_identified()
        alice.host.listeners.peer_identified.append(hear)
        for number in range(50):
            stream = 2 * number + 1
            peer.open(stream, identify.PUSH_PROTOCOL, identified(peer, (f"/x/{number}",)))
            peer.frame(DATA, FIN, stream)
        await until(lambda: alice.host.refusals[identify.PUSH_PROTOCOL, "rate_limited"] == 47)
        assert heard == 3
        await until(lambda: not alice.host.handlers.of_peers)


async def test_a_push_before_the_answer_takes_nothing_away_from_it() -> None:
    async with node("alice") as alice, await Hostile.authenticated(alice.port) as peer:
        push = Identification(agent_version="pushed").encode()
        peer.open(1, identify.PUSH_PROTOCOL, push)
        peer.frame(DATA, FIN, 1)
        connection = await alice.connection_with(MALLORY)
        await until(lambda: connection.identification is not None)
        await answer_identify(peer, identified(peer, (KAD,)))
        await until(lambda: connection.identification.protocols == (KAD,))  # type: ignore[union-attr]
        assert connection.identification is not None
        assert connection.identification.agent_version == "pushed"


async def test_a_storm_of_questions_who_we_are() -> None:
    async with node("alice") as alice, honest_pair(alice), await Hostile.authenticated(alice.port) as peer:
        for number in range(scale(1000, least=200)):
            peer.open(2 * number + 1, identify.PROTOCOL)  # and never an end
        await until(lambda: alice.host.refusals[identify.PROTOCOL, "rate_limited"] > 0)
        assert alice.host.handlers.of_peers[MALLORY, identify.PROTOCOL] <= 32
    assert not alice.host.handlers.of_peers


# Ping and Kademlia


async def test_a_flood_of_pings_on_one_stream() -> None:
    async with node("alice") as alice, honest_pair(alice), await Hostile.authenticated(alice.port) as peer:
        peer.open(1, PING_PROTOCOL)
        before = alice.host.sent_bytes
        for _ in range(6):
            peer.frame(DATA, 0, 1, bytes(32 * 1024))
        await peer.drain()
        await until(lambda: alice.host.refusals[PING_PROTOCOL, "rate_limited"] == 1)
        assert alice.host.sent_bytes < before + 3 * 32 * 1024  # two are within the burst, and have headers
        await until(lambda: not alice.host.handlers.of_peers[MALLORY, PING_PROTOCOL])


@contextlib.asynccontextmanager
async def kad_peer(alice: MeshNode, protocols: tuple[str, ...] = ()) -> AsyncIterator[Hostile]:
    """A hostile peer that has answered identify."""
    async with await Hostile.authenticated(alice.port) as peer:
        await answer_identify(peer, identified(peer, protocols))
        yield peer


@pytest.mark.parametrize(
    "data, reason",
    [
        (varint.encode(16 * 1024 + 1), "too_large"),
        (b"\xff" * 10, "malformed"),
        (varint.frame(b"\xff" * 50), "malformed"),
        (varint.frame(b"\x08\x63"), "malformed"),
    ],
    ids=["oversized", "endless length", "garbage", "unknown type"],
)
async def test_what_is_no_request_of_kademlia(data: bytes, reason: str) -> None:
    async with node("alice") as alice, honest_pair(alice), kad_peer(alice) as peer:
        peer.open(1, KAD, data)
        await until(lambda: alice.host.refusals[KAD, reason] == 1)
        await until(lambda: not alice.host.handlers.of_peers)
        await peer.ping()


async def test_a_request_that_is_cut_short() -> None:
    async with node("alice") as alice, kad_peer(alice) as peer:
        peer.open(1, KAD, varint.encode(100) + b"short")
        peer.frame(DATA, FIN, 1)
        await until(lambda: alice.host.refusals[KAD, "truncated"] == 1)
        await until(lambda: not alice.host.handlers.of_peers)


async def test_a_request_that_never_comes_to_its_end() -> None:
    quick = DhtDriverConfig(idle_timeout=0.1)
    async with node("alice", dht=quick) as alice, kad_peer(alice) as peer:
        peer.open(1, KAD, varint.encode(100) + b"slow")
        await until(lambda: alice.host.refusals[KAD, "timeout"] == 1)
        await until(lambda: not alice.host.handlers.of_peers)


async def test_bad_records_are_refused_counted_and_leave_no_slot() -> None:
    count = scale(1000)
    quick = DhtDriverConfig(max_requests_per_second=100_000)
    async with node("alice", PATIENT, dht=quick) as alice, honest_pair(alice), kad_peer(alice) as peer:
        for number in range(count):
            key = f"/wws/names/public/n{number}".encode()
            message = KadMessage(MessageType.PUT_VALUE, key, KadRecord(key, b"{}"), ())
            peer.open(2 * number + 1, KAD, varint.frame(message.encode()))
            peer.frame(DATA, FIN, 2 * number + 1)
            if number % 50 == 49:
                await peer.ping()
        await until(lambda: alice.dht.machine.refusals.total() == count)
        assert len(alice.dht.machine.records) == 0
        await until(lambda: not alice.host.handlers.of_peers)
        connection = await alice.connection_with(MALLORY)
        await until(lambda: connection.machine.open_streams == 0)
        assert connection.is_established


async def test_requests_on_many_streams_come_no_faster_than_on_one() -> None:
    clock = ManualClock()
    slow = DhtDriverConfig(max_requests_per_second=0.001)
    request = varint.frame(KadMessage(MessageType.PING, b"", None, ()).encode())
    async with node("alice", clock=clock, dht=slow) as alice, kad_peer(alice) as peer:
        answered = 0
        answer = alice.dht._answer

        def count(*args: object) -> KadMessage | None:
            nonlocal answered
            answered += 1
            return answer(*args)  # type: ignore[arg-type]

        alice.dht._answer = count  # type: ignore[assignment, method-assign]
        for stream in range(1, 61, 2):
            peer.open(stream, KAD, request * 5)
        await peer.ping()
        await until(lambda: answered >= 1)
        await peer.ping()
        assert answered == 1
        assert alice.host.handlers.of_peers[MALLORY, KAD] == 30
    assert not len(alice.dht._turns)
    assert not alice.host.handlers.of_peers


async def test_random_bytes_to_every_protocol_are_no_bug() -> None:
    """The fixture fails when any handler raises something that is not meant for a peer."""
    import random

    dice = random.Random(1)
    async with node("alice", PATIENT) as alice, honest_pair(alice), kad_peer(alice) as peer:
        served = [name for name in alice.host.protocols if not name.startswith("/test/")]
        for number in range(scale(400, least=100)):
            stream = 2 * number + 1
            body = dice.randbytes(dice.randrange(80))
            peer.open(stream, dice.choice(served), varint.frame(body) if dice.random() < 0.7 else body)
            peer.frame(DATA, dice.choice([FIN, RST]), stream)
            if number % 50 == 49:
                await peer.ping()
        await peer.ping()
        await until(lambda: not alice.host.handlers.of_peers[MALLORY, KAD])
