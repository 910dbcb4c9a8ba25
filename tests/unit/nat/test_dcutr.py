"""The messages of /libp2p/dcutr, and where a peer may make us send packets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope
from wws.codec import protobuf
from wws.errors import ParseError, TooLarge, WwsError
from wws.identity.keys import Identity
from wws.nat.dcutr import (
    MAX_ADDRESSES,
    MAX_FRAME,
    Here,
    HolePunch,
    TargetLimits,
    Type,
    choose_targets,
)

ALICE = Identity.from_label("alice").peer_id
BOB = Identity.from_label("bob").peer_id
LIMITS = TargetLimits()


def addresses(*texts: str) -> tuple[Multiaddr, ...]:
    return tuple(map(Multiaddr.parse, texts))


ADDRESSES = addresses(
    "/ip4/198.51.100.7/tcp/4001", "/ip4/198.51.100.7/udp/4001/quic-v1", "/ip6/2001:db8::7/tcp/9000"
)


def connect(*encoded: bytes) -> bytes:
    return protobuf.encode_varint(1, 100) + b"".join(protobuf.encode_bytes(2, data) for data in encoded)


# The messages


def test_a_connect_is_as_the_specification_draws_it() -> None:
    # type = 100 in field 1; field 2: /ip4/198.51.100.7/tcp/4001
    assert HolePunch(Type.CONNECT, ADDRESSES[:1]).encode() == bytes.fromhex("0864120804c6336407060fa1")
    assert HolePunch(Type.SYNC).encode() == bytes.fromhex("08ac02")


@pytest.mark.parametrize("nat", ["unknown", "none", "endpoint_independent", "address_dependent"])
def test_what_is_written_is_read(nat: str) -> None:
    message = HolePunch(Type.CONNECT, ADDRESSES, nat)  # type: ignore[arg-type]
    assert HolePunch.parse(message.encode(), BOB) == message


def test_peer_ids_are_left_out_of_addresses() -> None:
    message = HolePunch(Type.CONNECT, (ADDRESSES[0].with_peer(BOB),))
    assert HolePunch.parse(message.encode(), BOB).addresses == ADDRESSES[:1]
    with_own = connect(ADDRESSES[0].with_peer(BOB).to_bytes())
    assert HolePunch.parse(with_own, BOB).addresses == ADDRESSES[:1]


def test_a_kind_of_nat_that_we_do_not_know_counts_as_unknown() -> None:
    assert HolePunch.parse(connect() + protobuf.encode_varint(901, 77), BOB).nat == "unknown"


def test_unknown_fields_are_skipped() -> None:
    assert HolePunch.parse(connect() + protobuf.encode_bytes(77, b"x"), BOB) == HolePunch(Type.CONNECT)


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"\xff\xff",
        Multiaddr.parse(f"/ip4/198.51.100.7/tcp/1/p2p/{ALICE}").to_bytes(),  # another peer's
        Multiaddr.parse(f"/ip4/198.51.100.7/tcp/1/p2p/{ALICE}/p2p-circuit").to_bytes(),
        bytes.fromhex("04c633640791020300"),  # no transport of ours
    ],
)
def test_junk_among_the_addresses_is_skipped(junk: bytes) -> None:
    data = connect(junk, ADDRESSES[0].to_bytes(), junk)
    assert HolePunch.parse(data, BOB).addresses == ADDRESSES[:1]


def test_sixteen_addresses_are_read_and_no_more() -> None:
    many = [Multiaddr.of("198.51.100.7", port) for port in range(1, MAX_ADDRESSES + 2)]
    data = connect(*(address.to_bytes() for address in many))
    assert HolePunch.parse(data, BOB).addresses == tuple(many[:MAX_ADDRESSES])
    assert HolePunch.parse(HolePunch(Type.CONNECT, tuple(many)).encode(), BOB).addresses == tuple(many[:16])


@pytest.mark.parametrize(
    "data",
    [
        b"",  # no type
        protobuf.encode_bytes(2, ADDRESSES[0].to_bytes()),
        protobuf.encode_varint(1, 200),
        protobuf.encode_varint(1, 0),
        protobuf.encode_varint(1, 100) * 2,
        protobuf.encode_bytes(1, b"\x64"),
        protobuf.encode_varint(1, 100) + protobuf.encode_varint(2, 5),
        protobuf.encode_varint(1, 100) + protobuf.encode_bytes(901, b"x"),
        b"\x08",
    ],
)
def test_malformed_messages_are_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        HolePunch.parse(data, BOB)


def test_4096_bytes_are_read_and_one_more_is_not() -> None:
    start = connect()
    padding = MAX_FRAME - len(start) - 4
    fitting = start + protobuf.encode_bytes(77, bytes(padding))
    assert len(fitting) == MAX_FRAME
    assert HolePunch.parse(fitting, BOB).type is Type.CONNECT
    with pytest.raises(TooLarge):
        HolePunch.parse(start + protobuf.encode_bytes(77, bytes(padding + 1)), BOB)


@given(st.binary(max_size=MAX_FRAME + 8))
def test_any_bytes_are_a_message_or_an_error(data: bytes) -> None:
    try:
        message = HolePunch.parse(data, BOB)
    except WwsError:
        return
    assert len(message.addresses) <= MAX_ADDRESSES
    assert HolePunch.parse(message.encode(), BOB) == message


# Where packets go


HERE = Here(
    observed=addresses("/ip4/203.0.113.5/tcp/9000", "/ip4/203.0.113.5/udp/9000/quic-v1"),
    private=addresses("/ip4/192.168.1.5/tcp/9000"),
    public_ips=frozenset({"203.0.113.5"}),
)


def chosen(*texts: str, here: Here = HERE) -> tuple[str, ...]:
    return tuple(map(str, choose_targets(addresses(*texts), here, LIMITS).punched))


def test_public_addresses_are_dialled_in_their_order() -> None:
    named = ("/ip4/198.51.100.7/udp/4001/quic-v1", "/ip4/198.51.100.7/tcp/4001", "/ip6/2001:db8::7/tcp/9000")
    assert chosen(*named) == named


@pytest.mark.parametrize(
    "hostile",
    [
        "/ip4/127.0.0.1/tcp/22",
        "/ip6/::1/tcp/22",
        "/ip4/192.168.1.1/tcp/80",
        "/ip4/10.0.0.1/udp/53/quic-v1",
        "/ip4/169.254.169.254/tcp/80",
        "/ip4/100.64.0.1/tcp/80",
        "/ip6/fe80::1/tcp/80",
        "/ip6/::ffff:10.0.0.1/tcp/80",
        "/ip6/64:ff9b::7f00:1/tcp/80",
        "/ip4/0.0.0.0/tcp/80",
        "/ip4/224.0.0.1/udp/5353/quic-v1",
        "/ip4/255.255.255.255/udp/9/quic-v1",
        "/ip4/198.51.100.7/tcp/0",
        "/dns4/victim.example/tcp/443",
        "/dnsaddr/victim.example",
        f"/ip4/198.51.100.7/tcp/4001/p2p/{ALICE}/p2p-circuit",
        "/ip4/203.0.113.5/tcp/9000",  # ourselves
    ],
)
def test_hostile_addresses_are_never_dialled(hostile: str) -> None:
    targets = choose_targets(addresses(hostile), HERE, LIMITS)
    assert targets.punched == ()
    assert targets.private == ()
    assert targets.refused == 1


def test_at_most_two_ips_and_two_ports_of_each() -> None:
    named = [f"/ip4/198.51.100.{host}/tcp/{port}" for host in (1, 2, 3) for port in (1, 2, 3)]
    assert chosen(*named) == (named[0], named[1], named[3], named[4])
    assert choose_targets(addresses(*named), HERE, LIMITS).refused == 5


def test_at_most_eight_targets() -> None:
    limits = TargetLimits(max_ports=20)
    named = addresses(*(f"/ip4/198.51.100.7/tcp/{port}" for port in range(1, 11)))
    assert len(choose_targets(named, HERE, limits).punched) == 8


def test_without_quic_its_addresses_are_left_out() -> None:
    here = Here(speaks_quic=False)
    assert chosen("/ip4/198.51.100.7/udp/1/quic-v1", "/ip4/198.51.100.7/tcp/1", here=here) == (
        "/ip4/198.51.100.7/tcp/1",
    )


def test_in_a_mesh_on_loopback_loopback_is_dialled() -> None:
    assert chosen("/ip4/127.0.0.2/tcp/1", here=Here(scope=Scope.LOOPBACK)) == ("/ip4/127.0.0.2/tcp/1",)


def test_private_addresses_of_a_peer_behind_our_own_public_address_are_dialled() -> None:
    named = addresses("/ip4/203.0.113.5/tcp/7777", "/ip4/192.168.1.9/tcp/9000", "/ip4/127.0.0.1/tcp/1")
    targets = choose_targets(named, HERE, LIMITS)
    assert targets.punched == named[:1]
    assert targets.private == named[1:2]
    assert targets.refused == 1


def test_private_addresses_of_anybody_else_are_not() -> None:
    named = addresses("/ip4/198.51.100.7/tcp/7777", "/ip4/192.168.1.9/tcp/9000")
    assert choose_targets(named, HERE, LIMITS).private == ()


def test_private_addresses_at_the_ports_of_other_services_are_not_dialled() -> None:
    named = (*addresses("/ip4/192.168.1.1/tcp/443", "/ip4/192.168.1.7/tcp/1023"), *HERE.observed[:1])
    assert choose_targets(named, HERE, LIMITS).private == ()


def test_at_most_four_private_addresses() -> None:
    near = [f"/ip4/192.168.1.{host}/tcp/9000" for host in range(10, 16)]
    targets = choose_targets(addresses("/ip4/203.0.113.5/tcp/7", *near), HERE, LIMITS)
    assert len(targets.private) == 4
    assert targets.refused == 2


def test_private_addresses_are_told_only_to_a_peer_behind_our_own_public_address() -> None:
    assert HERE.connect(same_network=False).addresses == HERE.observed
    assert HERE.connect(same_network=True).addresses == (*HERE.observed, *HERE.private)


_HOSTS = st.sampled_from(
    [
        "198.51.100.7",
        "198.51.100.8",
        "203.0.113.5",
        "192.168.1.9",
        "10.0.0.1",
        "127.0.0.1",
        "169.254.0.1",
        "224.0.0.1",
    ]
)
_ADDRESSES = st.builds(Multiaddr.of, _HOSTS, st.integers(0, 65535), st.sampled_from(["tcp", "quic-v1"]))


@given(st.lists(_ADDRESSES, max_size=30), st.sampled_from(Scope))
def test_whatever_is_named_the_limits_hold(named: list[Multiaddr], scope: Scope) -> None:
    here = Here(HERE.observed, HERE.private, HERE.public_ips, scope=scope)
    targets = choose_targets(named, here, LIMITS)
    assert len(targets.punched) <= 8
    assert len({target.host for target in targets.punched}) <= 2
    assert len(targets.private) <= 4
    assert len(targets.punched) + len(targets.private) + targets.refused <= len(named)
    assert not {*targets.punched, *targets.private} & {*HERE.observed, *HERE.private}
