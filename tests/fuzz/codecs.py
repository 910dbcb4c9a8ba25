"""The smallest parsers: encodings, identifiers, addresses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.fuzz.target import Form, Target, text_of
from wws.addresses.multiaddr import Multiaddr
from wws.codec import base32, base58, base64, canonical, protobuf, varint
from wws.errors import ParseError
from wws.identity import proof_of_work
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.names.uri import TargetError, parse_name, parse_target
from wws.testing.names import name_record, person, solved_work, transfer

PEER, RELAY = person("alice").peer_id, person("bob").peer_id
ADDRESSES = [
    "/ip4/203.0.113.7/tcp/9000",
    "/ip4/203.0.113.7/udp/9000/quic-v1",
    "/ip6/2001:db8::1/tcp/9000",
    "/ip6/::ffff:203.0.113.7/udp/1/quic-v1",
    "/dns/node.example.org/tcp/443",
    "/dns4/node.example.org/udp/443/quic-v1",
    "/dns6/node.example.org/tcp/443",
    "/dnsaddr/example.org",
    f"/ip4/203.0.113.7/tcp/9000/p2p/{PEER}",
    f"/ip4/203.0.113.7/tcp/9000/p2p/{RELAY}/p2p-circuit/p2p/{PEER}",
    f"/dnsaddr/example.org/p2p/{PEER}",
]


def texts(*values: str) -> Callable[[], Sequence[bytes]]:
    return lambda: [value.encode() for value in values]


def _address_text(data: bytes) -> None:
    address = Multiaddr.parse(text_of(data))
    assert Multiaddr.parse(str(address)) == address
    if not address.is_circuit or address.relay_id is not None:
        assert Multiaddr.from_bytes(address.to_bytes()) == address


def _address_bytes(data: bytes) -> None:
    address = Multiaddr.from_bytes(data)
    assert Multiaddr.parse(str(address)) == address


def _peer_id_text(data: bytes) -> None:
    peer = PeerId.parse(text_of(data))
    assert text_of(data) in (str(peer), peer.cid)


def _base58(data: bytes) -> None:
    text = text_of(data)
    assert base58.encode(base58.decode(text)) == text


def _base32(data: bytes) -> None:
    text = text_of(data)
    assert base32.encode(base32.decode(text)) == text


def _base64(data: bytes) -> None:
    text = text_of(data)
    assert base64.encode(base64.decode(text)) == text


def _base64_url(data: bytes) -> None:
    text = text_of(data)
    assert base64.encode_url(base64.decode_url(text)) == text


def _varint(data: bytes) -> None:
    value, end = varint.decode(data)
    assert varint.encode(value) == data[:end]


def _protobuf(data: bytes) -> None:
    for field in protobuf.parse(data, max_fields=1_024):
        for read in (field.as_bytes, field.as_text, field.as_int, field.as_fixed64):
            try:
                read()
            except ParseError:
                continue


def _canonical(data: bytes) -> None:
    assert canonical.dumps(canonical.loads(data, max_bytes=8_192)) == data


def _work(data: bytes) -> None:
    """The nonce as a number from a record, in whatever form JSON has for it."""
    value = canonical.loads(data, max_bytes=1_024).get("pow")
    if isinstance(value, int) and not isinstance(value, bool):
        bits = 12
        if proof_of_work.verify("name:public:alice", PEER.did, value, bits):
            assert proof_of_work.leading_zero_bits("name:public:alice", PEER.did, value) >= bits


def _label(data: bytes) -> None:
    Identity.from_label(data.decode("utf-8", "replace"))


def _target(data: bytes) -> None:
    found = parse_target(text_of(data))
    assert parse_target(str(found)) == found


def _name(data: bytes) -> None:
    name = parse_name(text_of(data))
    assert parse_name(name) == name


def _protobufs() -> list[bytes]:
    fields = [
        protobuf.encode_varint(1, 0),
        protobuf.encode_varint(2, 2**64 - 1),
        protobuf.encode_bytes(3, b"bytes"),
        protobuf.encode_bytes(4, "text"),
        protobuf.encode_fixed64(5, 7),
        protobuf.encode_bytes(6, protobuf.encode_varint(1, 1)),
        protobuf.encode_varint(2**29 - 1, 1),
        b"\x0d\x01\x02\x03\x04",
    ]
    return [b"".join(fields), *fields, *(b"".join(fields[:count]) for count in range(2, 8))]


def _json_objects() -> list[bytes]:
    record = name_record("carol", transfers=[transfer("alice", "carol", seq=1)], witnesses=["w0"])
    return [
        record.value,
        b"{}",
        b'{"a":[1,-1,0,9007199254740991],"b":{"c":null,"\xc3\xa9":true}}',
        b'{"":""}',
    ]


CODECS = (
    Target(
        "multiaddr text",
        texts(*ADDRESSES),
        _address_text,
        (ParseError,),
        (Multiaddr.parse, Multiaddr.from_bytes),
        Form.TEXT,
    ),
    Target(
        "multiaddr bytes",
        lambda: [Multiaddr.parse(text).to_bytes() for text in ADDRESSES],
        _address_bytes,
        (ParseError,),
        (Multiaddr.from_bytes,),
    ),
    Target(
        "peer id text",
        texts(str(PEER), PEER.cid, str(RELAY), "12D3KooW", "b", "1" * 60),
        _peer_id_text,
        (ParseError,),
        (PeerId.parse, base58.decode, base32.decode),
        Form.TEXT,
    ),
    Target(
        "peer id bytes",
        lambda: [PEER.to_bytes(), RELAY.cid.encode(), PEER.to_bytes()[:6]],
        PeerId.from_bytes,
        (ParseError,),
        (PeerId.from_bytes,),
    ),
    Target(
        "public key protobuf",
        lambda: [PEER.public_key_protobuf, RELAY.public_key_protobuf],
        PeerId.from_protobuf,
        (ParseError,),
        (PeerId.from_protobuf,),
        Form.PROTOBUF,
    ),
    Target(
        "base58", texts(str(PEER), "1", "11z", "z" * 200), _base58, (ParseError,), (base58.decode,), Form.TEXT
    ),
    Target(
        "base32",
        texts(PEER.cid[1:], "", "aa", "aaaa", "mzxw6ytboi"),
        _base32,
        (ParseError,),
        (base32.decode,),
        Form.TEXT,
    ),
    Target(
        "base64",
        lambda: [base64.encode(bytes(range(n))).encode() for n in range(66)],
        _base64,
        (ParseError,),
        (base64.decode,),
        Form.TEXT,
    ),
    Target(
        "base64url",
        lambda: [base64.encode_url(bytes(range(190, 190 + n))).encode() for n in range(66)],
        _base64_url,
        (ParseError,),
        (base64.decode_url,),
        Form.TEXT,
    ),
    Target(
        "varint",
        lambda: [varint.encode(value) for value in (0, 1, 127, 128, 300, 2**32, 2**63 - 1)],
        _varint,
        (ParseError,),
        (varint.decode,),
    ),
    Target("protobuf", _protobufs, _protobuf, (ParseError,), (protobuf.parse,), Form.PROTOBUF),
    Target("canonical JSON", _json_objects, _canonical, (ParseError,), (canonical.loads,), Form.JSON),
    Target(
        "proof of work",
        lambda: [b'{"pow":%d}' % nonce for nonce in (0, 1, solved_work("alice"), 2**53 - 1)],
        _work,
        (ParseError,),
        (proof_of_work.verify,),
        Form.JSON,
    ),
    Target(
        "target",
        texts(
            "alice",
            "alice@lab",
            "wws:alice",
            "wws://alice@lab",
            PEER.did,
            f"wws:{PEER.did}",
            str(PEER),
            PEER.cid,
            PEER.did_key,
            *ADDRESSES[8:],
            "WWS://ALICE",
        ),
        _target,
        (TargetError,),
        (parse_target,),
        Form.TEXT,
    ),
    Target(
        "name", texts("alice", "a-b-c", "x" * 32, "Bob-2"), _name, (TargetError,), (parse_name,), Form.TEXT
    ),
    Target("label of a key", texts("alice", "", "\u00e9"), _label, (), (Identity.from_label,), Form.TEXT),
)
