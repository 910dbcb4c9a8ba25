"""Our reader of multicast DNS beside dnspython's, and the packets that it will not work on."""

import struct

import dns.exception
import dns.message
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.discovery.test_mdns import announced, peers
from tests.unit.discovery.world import ALICE, BOB
from wws.discovery.dns_wire import PTR, TXT, DnsWireConfig, Packet, read_packet
from wws.errors import ParseError

CONFIG = DnsWireConfig()
OURS = announced(BOB, "/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/udp/1/quic-v1")
SERVICE = b"\x04_p2p\x04_udp\x05local\x00"


def packet(name: bytes, records: int, *, kind: int = PTR, data: bytes = b"\xc0\x0c") -> bytes:
    """A response whose records all point to `name`, which stands in its question."""
    head = struct.pack("!6H", 0, 0x8400, 1, records, 0, 0) + name + struct.pack("!2H", PTR, 1)
    return head + (b"\xc0\x0c" + struct.pack("!2HIH", kind, 1, 1, len(data)) + data) * records


def by_dnspython(data: bytes) -> Packet:
    message = dns.message.from_wire(data, ignore_trailing=True, one_rr_per_rrset=True)

    def labels(name: dns.name.Name) -> tuple[bytes, ...]:
        return tuple(label.lower() for label in name.labels[:-1])

    records = (*message.answer, *message.additional)
    return Packet(
        bool(message.flags & dns.flags.QR),
        tuple((labels(question.name), question.rdtype) for question in message.question),
        tuple((labels(r.name), labels(r[0].target)) for r in records if r.rdtype == PTR),
        tuple((labels(r.name), r.ttl, r[0].strings) for r in records if r.rdtype == TXT),
    )


@pytest.mark.parametrize(
    "data",
    [
        OURS,
        peers(ALICE).query(),
        packet(SERVICE, 3),
        packet(b"\x04_P2P" + SERVICE[5:], 1, kind=TXT, data=b"\x03abc\x01d"),
        packet(SERVICE, 2, kind=dns.rdatatype.A, data=b"\x0a\x00\x00\x01"),
        packet(SERVICE, 1, data=b"\x03bob\xc0\x0c"),
    ],
)
def test_it_reads_what_dnspython_reads(data: bytes) -> None:
    assert read_packet(data, CONFIG) == by_dnspython(data)


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda data: OURS[:40] + data))
def test_it_reads_or_refuses_anything(data: bytes) -> None:
    try:
        read = read_packet(data, CONFIG)
    except ParseError:
        return
    assert all(len(name) <= CONFIG.max_labels for name, _ in read.questions)


@given(st.integers(0, len(OURS) - 1), st.integers(0, 7))
def test_damage_is_refused_or_read_as_dnspython_reads_it(index: int, bit: int) -> None:
    data = bytearray(OURS)
    data[index] ^= 1 << bit
    try:
        expected = by_dnspython(bytes(data))
    except (dns.exception.DNSException, ValueError, AttributeError):
        return  # it refuses more: options, classes, and times of which we need none
    try:
        read = read_packet(bytes(data), CONFIG)
    except ParseError:
        return
    assert read.pointers == expected.pointers or data[2] & 0x78 or index < 12
    if not data[2] & 0x78:  # an opcode of its own has a form of its own
        assert read.questions == expected.questions


def test_one_long_name_is_not_read_five_hundred_times() -> None:
    """This packet kept dnspython busy for half a second, and fifty a second were read."""
    alice = peers(ALICE)
    long = b"\x01a" * 112 + SERVICE
    assert alice.receive(packet(long, 270), "192.168.1.9", 0.0) == []
    assert alice.receive(packet(long, 1), "192.168.1.9", 0.0) == []
    assert alice.refused == {"malformed": 2}


@pytest.mark.parametrize("count, accepted", [(63, True), (64, False)])
def test_records_are_bounded(count: int, accepted: bool) -> None:
    data = packet(SERVICE, count)  # and one question
    if accepted:
        assert len(read_packet(data, CONFIG).pointers) == count
    else:
        with pytest.raises(ParseError):
            read_packet(data, CONFIG)


@pytest.mark.parametrize("labels, accepted", [(40, True), (41, False)])
def test_labels_are_bounded(labels: int, accepted: bool) -> None:
    data = packet(b"\x01a" * labels + b"\x00", 1)
    if accepted:
        assert read_packet(data, CONFIG).questions == (((b"a",) * labels, PTR),)
    else:
        with pytest.raises(ParseError):
            read_packet(data, CONFIG)


@pytest.mark.parametrize("name", [b"\xc0\x0c", b"\x01a\xc0\x0c", b"\xc0\xff", b"\x41" + b"a" * 65 + b"\x00"])
def test_names_that_loop_or_lead_forward(name: bytes) -> None:
    with pytest.raises(ParseError):
        read_packet(packet(name, 0), CONFIG)
