"""How a network is found: hints, bundles, network files, DNS, mDNS."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import cache

import dns.message
import dns.rrset

from tests.fuzz.codecs import ADDRESSES, texts
from tests.fuzz.target import Form, Target, text_of
from wws.addresses.multiaddr import Multiaddr
from wws.discovery import publishers
from wws.discovery.bundle import Bundle, BundleEntry, BundleError
from wws.discovery.bundle_state import BundleState
from wws.discovery.dns_wire import DnsWireConfig, read_packet
from wws.discovery.mdns import LocalPeers
from wws.discovery.network import (
    Network,
    NetworkMalformed,
    UnsignedNetwork,
    parse_net_argument,
    parse_network_file,
)
from wws.discovery.publishers import PublisherKey, parse_domain, parse_publisher_key
from wws.discovery.txt import parse_dnsaddr, parse_seed
from wws.errors import ParseError, WwsError
from wws.runtime import dns_exchange
from wws.runtime.default_network import DefaultNetworkRefused, default_network
from wws.runtime.dns_exchange import parse_server
from wws.stamp import StampMalformed, parse_stamp
from wws.testing.names import NOW, person

DOMAIN = "example.org"
PUBLISHER = person("publisher")
ROOT_KEY = "ssh-ed25519 " + "A" * 68
PUBLISHER_KEY = PublisherKey(PUBLISHER.public_key)
PEERS = [person(label).peer_id for label in ("w0", "w1", "w2")]


@cache
def bundles() -> list[bytes]:
    entries = (
        BundleEntry(PEERS[0], "a.example.org", 9000),
        BundleEntry(PEERS[1], "203.0.113.7", 443, "/t"),
        BundleEntry(PEERS[2], "2001:db8::1", 9000, "/q"),
    )
    plain = Bundle(NOW, NOW, NOW + 86_400, None, entries)
    keys = Bundle(
        NOW + 1, NOW, NOW + 86_400, (PUBLISHER_KEY, PublisherKey(person("second").public_key)), entries[:1]
    )
    return [
        plain.sign(DOMAIN, [PUBLISHER]).text.encode(),
        plain.sign(DOMAIN, [PUBLISHER, person("second")]).text.encode(),
        keys.sign(DOMAIN, [PUBLISHER]).text.encode(),
    ]


def _bundle(data: bytes) -> None:
    text = text_of(data)
    bundle = Bundle.parse(text)
    assert bundle.text == text
    for peer in bundle.peers:
        bundle.addresses_of(peer)
    BundleState(DOMAIN, [PUBLISHER_KEY]).accept(text, NOW)


def _answer_of_bundles(data: bytes) -> None:
    parts = [text_of(part) for part in data.split(b"\n")]
    BundleState(DOMAIN, [PUBLISHER_KEY]).choose(parts, NOW)


@cache
def network_files() -> list[bytes]:
    peers = tuple(Multiaddr.parse(text) for text in ADDRESSES if "/p2p/" in text)
    return [
        Network("demo", DOMAIN, (PUBLISHER_KEY,), peers, NOW, "public", NOW).to_file([PUBLISHER]),
        Network("demo", DOMAIN, (), peers[:1]).to_file(),
    ]


def _stamps() -> list[bytes]:
    stamps = [
        {"version": "1.2.3", "commit": "0" * 40, "releases": "https://example.org/r", "roots": [ROOT_KEY]},
        {"version": "1.2.3rc1", "commit": None, "releases": None, "roots": []},
    ]
    networks = [json.loads(file) for file in network_files()]
    return [
        json.dumps({"schema": 1, **stamp, "network": network}).encode()
        for stamp, network in zip(stamps, (networks[0], None), strict=True)
    ]


def _stamp(data: bytes) -> None:
    default_network(parse_stamp(data))


def _hints(data: bytes) -> None:
    lines = text_of(data).split("\n")
    parse_seed(lines)
    parse_dnsaddr(lines)
    parse_dnsaddr(lines, any_peer=True)


def _server(data: bytes) -> None:
    host, port = parse_server(text_of(data))
    assert 1 <= port <= 65535
    assert host


def _network_argument(data: bytes) -> None:
    text = text_of(data)
    parse_net_argument(text, saved=("demo",))
    parse_net_argument(text, allow_unsigned=True)


def _domain(data: bytes) -> None:
    domain = parse_domain(text_of(data))
    assert parse_domain(domain) == domain


def _names() -> list[bytes]:
    kinds = (("TXT", '"v=1" "x"'), ("A", "203.0.113.7"), ("AAAA", "2001:db8::1"), ("CNAME", "b.example.org."))
    found: list[bytes] = []
    for kind, value in kinds:
        query = dns.message.make_query("a.example.org.", kind, use_edns=0, id=7)
        response = dns.message.make_response(query)
        response.answer.append(dns.rrset.from_text("a.example.org.", 60, "IN", kind, value))
        found += [query.to_wire(), response.to_wire()]
    return found


@cache
def mdns_packets() -> list[bytes]:
    local = LocalPeers(person("bob").peer_id, random.Random(1))
    near = [Multiaddr.parse(f"/ip4/192.168.0.{host}/tcp/9000") for host in range(1, 4)]
    packets = [local.query(), local.announcement(near), local.announcement(near, goodbye=True)]
    return [packet for packet in packets if packet is not None] + _names()


def _mdns() -> Callable[[bytes], None]:
    now = 0.0
    local = LocalPeers(person("alice").peer_id, random.Random(1))

    def receive(data: bytes) -> None:
        nonlocal now
        now += 1.0
        local.receive(data, "192.168.0.7", now)

    return receive


NETWORKS = (
    Target(
        "TXT hint",
        texts(*(f"v=1 peer={a}" for a in ADDRESSES), *(f"dnsaddr={a}" for a in ADDRESSES), "v=1 x=y"),
        _hints,
        (),
        (parse_seed, parse_dnsaddr),
        Form.TEXT,
    ),
    Target("bundle", bundles, _bundle, (BundleError,), (Bundle.parse, BundleState.accept), Form.TEXT),
    Target(
        "answer of bundles",
        lambda: [b"\n".join([*bundles()[:2], b"v=spf1"]), bundles()[2]],
        _answer_of_bundles,
        (BundleError,),
        (BundleState.choose,),
        Form.TEXT,
    ),
    Target(
        "network.json", network_files, parse_network_file, (ParseError,), (parse_network_file,), Form.JSON
    ),
    Target(
        "network of a build",
        _stamps,
        _stamp,
        (StampMalformed, DefaultNetworkRefused),
        (default_network,),
        Form.JSON,
    ),
    Target(
        "network argument",
        texts(
            DOMAIN, "demo", "net.json", f"{DOMAIN}#{PUBLISHER.public_key.hex()}", f"a.{DOMAIN}#" + "A" * 43
        ),
        _network_argument,
        (NetworkMalformed, UnsignedNetwork, WwsError),
        (parse_net_argument,),
        Form.TEXT,
    ),
    Target(
        "publisher key",
        texts(PUBLISHER.public_key.hex(), "A" * 43, "a" * 64),
        lambda data: parse_publisher_key(text_of(data)),
        (ParseError,),
        (publishers.parse_publisher_key,),
        Form.TEXT,
    ),
    Target(
        "domain",
        texts(DOMAIN, "EXAMPLE.org.", "xn--bcher-kva.example"),
        _domain,
        (ParseError,),
        (parse_domain,),
        Form.TEXT,
    ),
    Target(
        "DNS answer",
        _names,
        dns_exchange._read,
        (),
        (dns_exchange._read,),
    ),
    Target(
        "DNS server",
        texts("127.0.0.1", "127.0.0.1:53", "[::1]:53", "::1", "fe80::1%eth0", "1.1.1.1:00053"),
        _server,
        (ParseError,),
        (parse_server,),
        Form.TEXT,
    ),
    Target(
        "DNS packet",
        mdns_packets,
        lambda data: read_packet(data, DnsWireConfig()),
        (ParseError,),
        (read_packet,),
    ),
    Target("mDNS packet", mdns_packets, _mdns(), (), (LocalPeers.receive,), largest=9_000, is_stateful=True),
)
