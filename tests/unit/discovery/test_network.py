"""Networks: what NET means on a command line, the network file, and what identify advertises."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.discovery.world import (
    ALICE,
    BOB,
    DOMAIN,
    KEYS,
    PUBLISHER,
    SECOND_PUBLISHER,
    SIGNED,
    at,
)
from wws.addresses.multiaddr import Multiaddr
from wws.codec import base64, canonical
from wws.discovery.network import (
    BootstrapWithoutPeerId,
    Network,
    NetworkBadSignature,
    NetworkFile,
    NetworkMalformed,
    NetworkUnknown,
    SavedNetwork,
    UnsignedNetwork,
    ad_hoc_network,
    network_protocol_id,
    parse_net_argument,
    parse_network_file,
)
from wws.errors import ParseError, TooLarge, WwsError

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "name-record.json").read_text())
FILE = VECTORS["network_file"]


def changed(**members: object) -> bytes:
    return canonical.dumps({**FILE, **members})  # type: ignore[dict-item]


def test_the_vector_is_read() -> None:
    network = parse_network_file(canonical.dumps(FILE))
    assert (network.name, network.domain, network.swarm) == ("example", DOMAIN, "public")
    assert [key.hex() for key in network.publishers] == FILE["publishers"]
    assert [str(address) for address in network.peers] == FILE["peers"]
    assert network.min_seq == FILE["min_seq"]
    assert network.to_file([PUBLISHER]) == canonical.dumps(FILE)


def test_the_vector_protocol_id() -> None:
    assert network_protocol_id(DOMAIN) == VECTORS["network_protocol"]
    assert network_protocol_id("BOOT.Example.org.") == VECTORS["network_protocol"]
    assert SIGNED.protocol_id == VECTORS["network_protocol"]
    assert ad_hoc_network([at(ALICE)]).protocol_id is None


def test_every_byte_of_a_network_file_counts() -> None:
    data = canonical.dumps(FILE)
    for place in range(len(data)):
        for bit in (1, 0x20):
            with pytest.raises(ParseError):
                parse_network_file(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b"[]", b"null", b"\xff", json.dumps(FILE).encode(), canonical.dumps(FILE) + b"\n",
        changed(v=2), changed(v=True), changed(extra=1), changed(publishers="x"), changed(publishers=["00"]),
        changed(publishers=FILE["publishers"][:1] * 2), changed(domain="BOOT.example.org"),
        changed(domain="-"), changed(signatures=None), changed(signatures=[{}]),
        changed(signatures=[{"key_id": "x", "signature": ""}]),
        changed(signatures=FILE["signatures"] * 17), changed(peers=[1]),
    ],
)  # fmt: skip
def test_files_that_are_none(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_network_file(data)


@pytest.mark.parametrize(
    "member",
    [
        {"name": "../evil"}, {"name": "a..b"}, {"name": "x.json"}, {"name": ""}, {"name": "A"},
        {"swarm": "x"},
        {"swarm": "Public"}, {"min_seq": -1}, {"min_seq": True}, {"issued_at": "1"}, {"peers": [1]},
    ],
)  # fmt: skip
def test_members_are_judged_though_signed(member: dict[str, object]) -> None:
    value = {k: v for k, v in {**FILE, **member}.items() if k != "signatures"}
    signature = PUBLISHER.sign(b"wws-network-v1\x00" + canonical.dumps(value))
    value["signatures"] = [{"key_id": FILE["signatures"][0]["key_id"], "signature": base64.encode(signature)}]
    with pytest.raises(NetworkMalformed):
        parse_network_file(canonical.dumps(value))


def test_size_is_checked_first() -> None:
    with pytest.raises(TooLarge):
        parse_network_file(b"[" * (16 * 1024 + 1))


def test_a_file_needs_one_listed_signature_and_no_bad_one() -> None:
    network = parse_network_file(canonical.dumps(FILE))
    both = json.loads(network.to_file([PUBLISHER, SECOND_PUBLISHER]))
    assert parse_network_file(canonical.dumps(both)) == network
    with pytest.raises(NetworkBadSignature):
        parse_network_file(changed(signatures=[]))
    both["signatures"][1]["signature"] = both["signatures"][0]["signature"]
    with pytest.raises(NetworkBadSignature):
        parse_network_file(canonical.dumps(both))
    foreign = [{"key_id": "00000000", "signature": FILE["signatures"][0]["signature"]}]
    with pytest.raises(NetworkBadSignature):
        parse_network_file(changed(signatures=foreign))
    assert parse_network_file(changed(signatures=FILE["signatures"] + foreign)) == network


def test_without_publishers_there_are_no_signatures() -> None:
    open_network = Network("open", DOMAIN, peers=(at(ALICE),))
    assert parse_network_file(open_network.to_file()) == open_network
    with pytest.raises(NetworkMalformed):
        open_network.to_file([PUBLISHER])


def test_one_unreadable_peer_among_others_changes_nothing() -> None:
    value = {
        **SIGNED.to_json(),
        "peers": [str(at(ALICE)), "/future/thing", "/ip4/192.0.2.1/tcp/1", str(at(BOB))],
    }
    signature = base64.encode(PUBLISHER.sign(b"wws-network-v1\x00" + canonical.dumps(value)))
    value["signatures"] = [{"key_id": FILE["signatures"][0]["key_id"], "signature": signature}]
    network = parse_network_file(canonical.dumps(value))
    assert network.peers == (at(ALICE), at(BOB))
    assert len(network.skipped) == 2


def test_net_arguments() -> None:
    key = PUBLISHER.public_key
    keyed = Network(DOMAIN, DOMAIN, KEYS)
    assert parse_net_argument("home", ["home"]) == SavedNetwork("home")
    assert parse_net_argument("boot.example.org", ["boot.example.org"]) == SavedNetwork("boot.example.org")
    assert parse_net_argument("./net.json") == NetworkFile("./net.json")
    assert parse_net_argument(f"{DOMAIN}#{key.hex()}") == keyed
    assert parse_net_argument(f"Boot.Example.Org.#{base64.encode_url(key)}") == keyed
    two = parse_net_argument(f"{DOMAIN}#{key.hex()},{SECOND_PUBLISHER.public_key.hex()}")
    assert isinstance(two, Network)
    assert len(two.publishers) == 2
    assert parse_net_argument(DOMAIN, allow_unsigned=True) == Network(DOMAIN, DOMAIN)
    assert parse_net_argument(f"{DOMAIN}#{key.hex()}", allow_unsigned=True) == keyed


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (DOMAIN, UnsignedNetwork),
        ("nowhere", NetworkUnknown),
        ("", NetworkUnknown),
        (f"{DOMAIN}#", NetworkMalformed),
        (f"{DOMAIN}#00", NetworkMalformed),
        (f"{DOMAIN}#{PUBLISHER.public_key.hex()},", NetworkMalformed),
        (f"{DOMAIN}#{PUBLISHER.public_key.hex()},{PUBLISHER.public_key.hex()}", NetworkMalformed),
        (f"#{PUBLISHER.public_key.hex()}", NetworkMalformed),
        ("bücher.example", NetworkMalformed),
        ("1.2.3.4", NetworkMalformed),
        ("a..b", NetworkMalformed),
    ],
)
def test_no_net_arguments(text: str, error: type[WwsError]) -> None:
    with pytest.raises(error):
        parse_net_argument(text)


def test_the_mend_is_named() -> None:
    with pytest.raises(UnsignedNetwork) as unsigned:
        parse_net_argument(DOMAIN)
    assert "--allow-unsigned" in unsigned.value.hint
    with pytest.raises(BootstrapWithoutPeerId) as bare:
        ad_hoc_network([Multiaddr.parse("/ip4/127.0.0.1/tcp/9000")])
    assert "/p2p/" in bare.value.hint


@given(st.text(max_size=80))
def test_any_net_argument_means_something_or_is_refused(text: str) -> None:
    codes = {"network_malformed", "network_unknown", "unsigned_network"}
    assert meaning(text) in {"SavedNetwork", "NetworkFile", "Network"} | codes


def meaning(text: str) -> str:
    try:
        return type(parse_net_argument(text, ["home"])).__name__
    except WwsError as error:
        return error.code
