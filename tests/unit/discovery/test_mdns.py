"""What is said and believed on the local network, packet by packet."""

import random

import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.discovery.world import ALICE, BOB, CAROL, at
from wws.addresses.multiaddr import Multiaddr
from wws.discovery.mdns import AnswerWanted, Found, LocalPeers, MdnsConfig, announced_on
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId

LAN = "192.168.1.7"


def peers(local: PeerId, **settings: int) -> LocalPeers:
    return LocalPeers(local, random.Random(1), MdnsConfig(**settings))


def announced(peer: PeerId, *addresses: str) -> bytes:
    packet = peers(peer).announcement([Multiaddr.parse(address) for address in addresses])
    assert packet is not None
    return packet


def test_alice_asks_and_bob_answers() -> None:
    alice, bob = peers(ALICE), peers(BOB)
    assert bob.receive(alice.query(), LAN, 0.0) == [AnswerWanted()]
    packet = bob.announcement([Multiaddr.parse("/ip4/192.168.1.7/tcp/9000")])
    assert packet is not None
    assert alice.receive(packet, LAN, 0.0) == [Found(BOB, (at(BOB, "192.168.1.7"),))]
    assert bob.receive(packet, LAN, 0.0) == []  # our own


def test_the_packets_are_those_of_the_specification() -> None:
    query = dns.message.from_wire(peers(ALICE).query())
    assert (query.id, int(query.flags), str(query.question[0])) == (0, 0, "_p2p._udp.local. IN PTR")
    message = dns.message.from_wire(announced(BOB, "/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/udp/1/quic-v1"))
    name = str(message.answer[0][0])
    label, rest = name.split(".", 1)
    assert (len(label), rest) == (32, "_p2p._udp.local.")
    assert str(message.answer[0].name) == "_p2p._udp.local."
    assert str(message.additional[0].name) == name
    assert message.additional[0].ttl == 120
    assert message.additional[0][0].strings == (
        f"dnsaddr=/ip4/10.0.0.1/tcp/1/p2p/{BOB}".encode(),
        f"dnsaddr=/ip4/10.0.0.2/udp/1/quic-v1/p2p/{BOB}".encode(),
    )


def test_packets_from_elsewhere_use_up_nothing_of_the_neighbours() -> None:
    alice = peers(ALICE)
    for _ in range(1_000):
        assert alice.receive(peers(BOB).query(), "203.0.113.9", 0.0) == []
    assert alice.refused == {"not_local": 1_000}
    assert alice.receive(peers(BOB).query(), LAN, 0.0) == [AnswerWanted()]


def test_answers_are_not_given_without_pause() -> None:
    bob = peers(BOB)
    query = peers(ALICE).query()
    assert [bool(bob.receive(query, LAN, now)) for now in (0.0, 0.5, 0.99, 1.0)] == [True, False, False, True]


def test_a_goodbye_reports_nobody() -> None:
    packet = peers(BOB).announcement([at(BOB, "192.168.1.7")], goodbye=True)
    assert packet is not None
    assert peers(ALICE).receive(packet, LAN, 0.0) == []


@pytest.mark.parametrize(
    "source", ["203.0.113.5", "8.8.8.8", "224.0.0.251", "0.0.0.0", "2001:db8::1", "rubbish"]
)
def test_senders_from_elsewhere_are_not_heard(source: str) -> None:
    alice = peers(ALICE)
    assert alice.receive(announced(BOB, "/ip4/192.168.1.7/tcp/9000"), source, 0.0) == []
    assert alice.refused == {"not_local": 1}


@pytest.mark.parametrize(
    ("source", "address", "believed"),
    [
        (LAN, "/ip4/192.168.1.7/tcp/9000", True),
        (LAN, "/ip4/169.254.3.4/tcp/9000", True),
        (LAN, "/ip4/127.0.0.1/tcp/22", False),
        (LAN, "/ip4/203.0.113.5/tcp/9000", False),
        (LAN, "/dns4/victim.example/tcp/80", False),
        (LAN, "/ip4/0.0.0.0/tcp/80", False),
        ("127.0.0.1", "/ip4/127.0.0.1/tcp/9000", True),
        ("127.0.0.1", "/ip4/192.168.1.7/tcp/9000", False),
        ("fe80::1%eth0", "/ip6/fd00::1/tcp/9000", True),
    ],
)
def test_nobody_points_us_elsewhere(source: str, address: str, believed: bool) -> None:
    heard = peers(ALICE).receive(announced(BOB, address), source, 0.0)
    assert [type(item) for item in heard] == ([Found] if believed else [])


def raw(*texts: str, name: str = "x._p2p._udp.local.", target: str = "x._p2p._udp.local.") -> bytes:
    message = dns.message.QueryMessage(id=0)
    message.flags = dns.flags.QR  # type: ignore[attr-defined]
    message.answer.append(dns.rrset.from_text("_p2p._udp.local.", 120, "IN", "PTR", target))
    message.additional.append(dns.rrset.from_text(name, 120, "IN", "TXT", " ".join(f'"{t}"' for t in texts)))
    return message.to_wire()


def test_one_bad_string_among_others_changes_nothing() -> None:
    good = f"dnsaddr={at(BOB, '192.168.1.7')}"
    packet = raw("rubbish", good, "dnsaddr=/nonsense", "dnsaddr=/ip4/192.168.1.7/tcp/1")
    assert peers(ALICE).receive(packet, LAN, 0.0) == [Found(BOB, (at(BOB, "192.168.1.7"),))]


def test_other_implementations_set_the_cache_flush_bit() -> None:
    packet = raw(f"dnsaddr={at(BOB, '192.168.1.7')}")
    place = packet.rfind(b"\x00\x10\x00\x01")
    flushed = packet[: place + 2] + b"\x80\x01" + packet[place + 4 :]
    assert peers(ALICE).receive(flushed, LAN, 0.0) == [Found(BOB, (at(BOB, "192.168.1.7"),))]
    query = peers(ALICE).query()
    assert peers(BOB).receive(query[:-2] + b"\x80\x01", LAN, 0.0) == [AnswerWanted()]


def test_a_text_of_another_service_is_not_read() -> None:
    text = f"dnsaddr={at(BOB, '192.168.1.7')}"
    assert peers(ALICE).receive(raw(text, name="y._p2p._udp.local."), LAN, 0.0) == []


def test_limits_at_and_over() -> None:
    config = MdnsConfig()
    many = [f"/ip4/10.0.0.{n}/tcp/{n}" for n in range(1, 40)]
    [found] = peers(ALICE).receive(announced(BOB, *many), LAN, 0.0)
    assert isinstance(found, Found)
    assert 8 <= len(found.addresses) <= config.max_addresses
    assert len(announced(BOB, *many)) <= config.max_announcement
    crowd = [f"dnsaddr={at(Identity.from_label(f'p{n}').peer_id, '10.0.0.1')}" for n in range(12)]
    assert len(peers(ALICE).receive(raw(*crowd), LAN, 0.0)) == config.max_peers_a_packet
    alice = peers(ALICE, max_packet=100)
    assert alice.receive(b"\x00" * 101, LAN, 0.0) == []
    assert alice.refused == {"too_large": 1}
    assert (
        peers(ALICE).announcement([Multiaddr.parse(f"/dns4/{'a' * 60}.{'b' * 60}.{'c' * 60}.x/tcp/1")])
        is None
    )


def test_packets_a_second_and_peers_a_minute_are_bounded() -> None:
    alice = peers(ALICE)
    for _ in range(100):
        alice.receive(b"", LAN, 0.0)
    assert alice.refused == {"malformed": 100}
    alice.receive(b"", LAN, 0.0)
    assert alice.refused["too_many"] == 1
    alice.receive(b"", LAN, 0.1)
    assert alice.refused["malformed"] == 101
    crowd = [announced(Identity.from_label(f"p{n}").peer_id, "/ip4/10.0.0.1/tcp/1") for n in range(80)]
    carol = peers(CAROL)
    assert sum(len(carol.receive(packet, LAN, 0.0)) for packet in crowd) == 60
    assert len(carol.receive(crowd[-1], LAN, 1.0)) == 1


@given(st.binary(max_size=300))
def test_any_packet_is_used_or_counted(packet: bytes) -> None:
    peers(ALICE).receive(packet, LAN, 0.0)


@given(st.integers(0, 400), st.binary(min_size=1, max_size=4))
def test_a_damaged_packet_is_used_or_counted(place: int, damage: bytes) -> None:
    packet = announced(BOB, "/ip4/192.168.1.7/tcp/9000", "/ip6/fd00::1/tcp/9000")
    peers(ALICE).receive(packet[:place] + damage + packet[place + len(damage) :], LAN, 0.0)


def test_what_is_announced_where() -> None:
    ours = [Multiaddr.parse(f"/ip4/{ip}/tcp/1") for ip in ("127.0.0.1", "10.0.0.1", "203.0.113.1", "0.0.0.0")]
    assert [address.host for address in announced_on(ours, loopback=False)] == ["10.0.0.1", "203.0.113.1"]
    assert [address.host for address in announced_on(ours, loopback=True)] == [
        "127.0.0.1",
        "10.0.0.1",
        "203.0.113.1",
    ]
