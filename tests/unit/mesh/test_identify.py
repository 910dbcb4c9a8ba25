"""Identify and the signed peer record, as honest and other peers send them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope
from wws.codec import protobuf, varint
from wws.errors import ParseError
from wws.identity.keys import Identity
from wws.mesh import identify
from wws.mesh.clock_check import ClockCheck
from wws.mesh.envelope import EnvelopeRefused, open_envelope, seal
from wws.mesh.identify import Identification
from wws.mesh.peers import PeerStore, PeerStoreConfig
from wws.mesh.reach import mesh_scope, reaches

ALICE, BOB = Identity.from_label("alice"), Identity.from_label("bob")
ADDRESS = Multiaddr.parse("/ip4/203.0.113.7/tcp/9000")
RECORD = seal(ALICE, 7, (ADDRESS,))
FULL = Identification(
    protocol_version="/wws/1.0.0",
    agent_version="wws/0.1.0",
    peer_id=ALICE.peer_id,
    addresses=(ADDRESS,),
    observed=Multiaddr.parse("/ip4/198.51.100.1/tcp/4242"),
    protocols=("/ipfs/ping/1.0.0", "/wws/net/6e85e2aebd09d57f"),
    record=RECORD,
    clock=1_790_000_000,
)


def test_round_trip() -> None:
    assert identify.parse(FULL.encode(), ALICE.peer_id) == FULL
    assert FULL.network == "/wws/net/6e85e2aebd09d57f"


def test_several_messages_are_merged() -> None:
    parts = (
        Identification(protocols=("/a",), addresses=(ADDRESS,)),
        Identification(protocols=("/b",), record=RECORD),
    )
    merged = identify.parse(b"".join(part.encode() for part in parts), ALICE.peer_id)
    assert merged.protocols == ("/a", "/b")
    assert merged.addresses == (ADDRESS,)
    assert merged.record == RECORD


def test_a_push_changes_only_what_it_says() -> None:
    push = identify.parse(Identification(protocols=("/new",)).encode(), ALICE.peer_id)
    assert FULL.updated_by(push) == replace(FULL, protocols=("/new",))


def test_another_key_is_refused_and_anothers_record_is_absent() -> None:
    with pytest.raises(ParseError):
        identify.parse(FULL.encode(), BOB.peer_id)
    foreign = replace(FULL, peer_id=None)
    assert identify.parse(foreign.encode(), BOB.peer_id).record is None


def test_a_record_that_does_not_verify_is_absent_and_the_rest_is_kept() -> None:
    broken = bytearray(RECORD.envelope)
    broken[-1] ^= 1
    said = identify.parse(
        replace(FULL, record=replace(RECORD, envelope=bytes(broken))).encode(), ALICE.peer_id
    )
    assert said.record is None
    assert said.addresses == FULL.addresses


def test_addresses_and_protocols_are_bounded_and_unknown_kinds_skipped() -> None:
    websocket = bytes.fromhex("04cb007107061f90dd03")  # /ip4/203.0.113.7/tcp/8080/ws
    message = protobuf.encode_bytes(2, websocket)
    message += b"".join(
        protobuf.encode_bytes(2, Multiaddr.of("203.0.113.7", port).to_bytes()) for port in range(1, 100)
    )
    message += b"".join(protobuf.encode_bytes(3, f"/p/{n}") for n in range(400))
    message += protobuf.encode_bytes(3, "/" + "x" * 300)
    said = identify.parse(varint.frame(message), ALICE.peer_id)
    assert len(said.addresses or ()) == identify.MAX_ADDRESSES
    assert len(said.protocols or ()) == identify.MAX_PROTOCOLS


def test_versions_are_cut_and_cleaned_for_people() -> None:
    said = identify.parse(Identification(agent_version="evil\x1b[2J" + "x" * 999).encode(), ALICE.peer_id)
    assert said.agent_version is not None
    assert said.agent_version.startswith("evil[2J")
    assert len(said.agent_version) <= identify.MAX_TEXT


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x05abc",
        FULL.encode() * 20,
        b"\x00" * 17,
        varint.frame(b"\x0a\x05abc"),
        b"x" * (identify.MAX_BYTES + 1),
    ],
    ids=["empty", "cut", "too many", "too many empty", "malformed", "too large"],
)
def test_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        identify.parse(data, ALICE.peer_id)


@given(st.binary(max_size=200) | st.integers(0, len(FULL.encode())).map(lambda n: FULL.encode()[:n]))
def test_anything_is_an_identification_or_a_parse_error(data: bytes) -> None:
    try:
        identify.parse(data, ALICE.peer_id)
    except ParseError:
        pass


@given(st.integers(0, len(RECORD.envelope) * 8 - 1))
def test_every_bit_of_an_envelope_counts(bit: int) -> None:
    broken = bytearray(RECORD.envelope)
    broken[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ParseError):
        open_envelope(bytes(broken))


def test_envelope_of_another_owner_domain_or_type_is_refused() -> None:
    record = open_envelope(RECORD.envelope)
    assert (record.peer_id, record.seq, record.addresses) == (ALICE.peer_id, 7, (ADDRESS,))
    inner = protobuf.parse(RECORD.envelope)[2].as_bytes()
    legacy = b"".join(
        varint.frame(part) for part in (b"libp2p-routing-state", b"/libp2p/routing-state-record", inner)
    )
    envelope = (
        protobuf.encode_bytes(1, ALICE.peer_id.public_key_protobuf)
        + protobuf.encode_bytes(2, b"/libp2p/routing-state-record")
        + protobuf.encode_bytes(3, inner)
        + protobuf.encode_bytes(5, ALICE.sign(legacy))
    )
    with pytest.raises(EnvelopeRefused):
        open_envelope(envelope)
    signed = b"".join(varint.frame(part) for part in (b"libp2p-peer-record", b"\x03\x01", inner))
    stolen = (
        protobuf.encode_bytes(1, BOB.peer_id.public_key_protobuf)
        + protobuf.encode_bytes(2, b"\x03\x01")
        + protobuf.encode_bytes(3, inner)
        + protobuf.encode_bytes(5, BOB.sign(signed))
    )
    with pytest.raises(EnvelopeRefused):
        open_envelope(stolen)


def test_peer_store_is_bounded_and_keeps_the_connected() -> None:
    store = PeerStore(PeerStoreConfig(max_peers=3, max_addresses=2))
    peers = [Identity.from_label(f"peer {n}").peer_id for n in range(6)]
    store.set_connected(peers[0], True)
    for peer in peers[1:]:
        store.learn(peer, tuple(Multiaddr.of("203.0.113.7", port) for port in range(1, 6)))
    assert len(store) == 3
    assert store.find(peers[0]) is not None
    assert store.find(peers[1]) is None
    assert [address.port for address in store.addresses(peers[5])] == [1, 2]
    store.learn(peers[5], (Multiaddr.of("203.0.113.7", 9),))
    assert [address.port for address in store.addresses(peers[5])] == [9, 1]
    store.forget_address(peers[5], Multiaddr.of("203.0.113.7", 9))
    assert [address.port for address in store.addresses(peers[5])] == [1]


def test_the_peer_store_is_bounded_in_bytes_and_gives_them_back() -> None:
    store = PeerStore(PeerStoreConfig(max_bytes=100_000))
    names = tuple(
        Multiaddr.parse(f"/dns4/{'a' * 60}.{'b' * 60}.example.org/tcp/{port}") for port in range(1, 17)
    )
    peers = [Identity.from_label(f"peer {n}").peer_id for n in range(40)]
    store.set_connected(peers[0], True)
    for peer in peers:
        store.learn(peer, names)
        assert store.bytes_held <= 100_000
    assert 2 < len(store) < 20
    assert store.find(peers[0]) is not None  # it is connected
    assert store.find(peers[-1]) is not None
    for peer in peers:
        for address in store.addresses(peer):
            store.forget_address(peer, address)
    assert store.bytes_held == 0


def test_what_a_peer_said_of_itself_is_kept_while_it_is_connected() -> None:
    store = PeerStore(PeerStoreConfig())
    store.identified(ALICE.peer_id, FULL)
    assert store.find(ALICE.peer_id) is None
    store.set_connected(ALICE.peer_id, True)
    store.identified(ALICE.peer_id, FULL)
    info = store.find(ALICE.peer_id)
    assert info is not None
    assert info.identification is FULL
    store.set_connected(ALICE.peer_id, False)
    assert info.identification is None


def test_an_identification_costs_about_what_was_sent() -> None:
    assert len(FULL.encode()) < FULL.cost < 10 * len(FULL.encode())
    assert Identification().cost < 200


def test_the_scope_of_the_mesh_is_that_of_its_entry_points() -> None:
    assert mesh_scope([], []) is None
    assert mesh_scope([], [Scope.LOOPBACK, Scope.PRIVATE]) is Scope.PRIVATE
    assert mesh_scope([Scope.LOOPBACK], [Scope.PUBLIC]) is Scope.LOOPBACK
    assert mesh_scope([None], [Scope.PUBLIC]) is Scope.PUBLIC


@pytest.mark.parametrize(
    ("text", "scope", "expected"),
    [
        ("/ip4/127.0.0.1/tcp/1", Scope.LOOPBACK, True),
        ("/ip4/127.0.0.1/tcp/1", Scope.PUBLIC, False),
        ("/ip4/10.0.0.1/tcp/1", Scope.PUBLIC, False),
        ("/ip4/203.0.113.1/tcp/1", Scope.LOOPBACK, True),
        ("/ip4/10.0.0.1/tcp/1", None, True),
        ("/dns4/example.org/tcp/1", Scope.PUBLIC, True),
        ("/ip4/0.0.0.0/tcp/1", None, False),
        ("/ip4/203.0.113.1/tcp/0", None, False),
    ],
)
def test_what_reaches_less_far_than_the_mesh_is_left_out(
    text: str, scope: Scope | None, expected: bool
) -> None:
    assert reaches(Multiaddr.parse(text), scope) is expected


def test_the_median_clock_decides() -> None:
    check = ClockCheck()
    assert check.skew is None
    assert not check.is_off
    for n, theirs in enumerate((1000, 1001, 999_999)):
        check.heard(Identity.from_label(f"peer {n}").peer_id, theirs, 1000)
    assert check.skew == -1
    assert not check.is_off
    for n in range(100):
        check.heard(Identity.from_label(f"peer {n}").peer_id, 1000, 1100)
    assert check.skew == 100
    assert check.is_off
