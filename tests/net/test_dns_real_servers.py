"""The records of a network, served by a real DNS server and through a real resolver over HTTPS."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.lab.knot import Knot, Resolver
from tests.prerequisites import require
from wws.addresses.multiaddr import Multiaddr
from wws.discovery.bundle import Bundle, BundleEntry
from wws.discovery.network import Network
from wws.discovery.peer_cache import PeerCache
from wws.discovery.publishers import PublisherKey
from wws.discovery.race import Discovery
from wws.discovery.race_events import BundleTaken, Dial, DnsAnswered, QueryDns, Started
from wws.discovery.txt import bundle_name, dnsaddr_name, seed_name
from wws.identity.keys import Identity
from wws.machine import Command
from wws.runtime.dns_resolve import (
    DnsConfig,
    DnsError,
    DnsNetwork,
    DnsNoAnswer,
    DnsNxDomain,
    DnsRefused,
    DnsResolver,
)

pytestmark = pytest.mark.net

DOMAIN = "boot.test"
UNIX = 1_790_000_000
PUBLISHER = Identity.from_label("publisher1")
ALICE = Identity.from_label("alice").peer_id
BOB = Identity.from_label("bob").peer_id
BUNDLE = Bundle(
    UNIX,
    UNIX,
    UNIX + 86_400,
    None,
    (BundleEntry(ALICE, f"eu.{DOMAIN}", 9000), BundleEntry(BOB, "127.0.0.2", 9000, "/t")),
).sign(DOMAIN, [PUBLISHER])

RECORDS = {
    bundle_name(DOMAIN): {"TXT": [BUNDLE.text]},
    seed_name(DOMAIN): {
        "TXT": [f"v=1 peer=/dns4/eu.{DOMAIN}/tcp/9000/p2p/{ALICE}", "v=1 peer=/nonsense", "hello"]
    },
    dnsaddr_name(DOMAIN): {"TXT": [f"dnsaddr=/ip4/127.0.0.2/tcp/9000/p2p/{BOB}"]},
    f"eu.{DOMAIN}": {"A": ["127.0.0.1"], "AAAA": ["::1"]},
    f"www.{DOMAIN}": {"CNAME": [f"eu.{DOMAIN}."]},
    f"many.{DOMAIN}": {"TXT": [f"record {n} " + "x" * 60 for n in range(100)]},
}


@pytest.fixture(scope="module")
def knot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knot]:
    require("knotd")
    with Knot(tmp_path_factory.mktemp("knot"), DOMAIN, RECORDS) as server:
        yield server


async def test_every_kind_of_record(knot: Knot) -> None:
    resolver = DnsResolver(DnsConfig(servers=(knot.address,)))
    assert (await resolver.txt(bundle_name(DOMAIN))).texts == (BUNDLE.text,)
    assert len((await resolver.txt(seed_name(DOMAIN))).texts) == 3
    assert len((await resolver.txt(f"many.{DOMAIN}")).texts) == 100  # over TCP: it does not fit one datagram
    assert set(await resolver.addresses(f"eu.{DOMAIN}")) == {"127.0.0.1", "::1"}
    assert await resolver.addresses(f"www.{DOMAIN}", "dns4") == ("127.0.0.1",)
    expanded = await resolver.expand(Multiaddr.parse(f"/dnsaddr/{DOMAIN}"))
    assert [str(address) for address in expanded] == [f"/ip4/127.0.0.2/tcp/9000/p2p/{BOB}"]


@pytest.mark.parametrize(
    ("name", "error"),
    [(f"nobody.{DOMAIN}", DnsNxDomain), (f"eu.{DOMAIN}", DnsNoAnswer), ("elsewhere.test", DnsRefused)],
)
async def test_every_kind_of_no(knot: Knot, name: str, error: type[DnsError]) -> None:
    with pytest.raises(error):
        await DnsResolver(DnsConfig(servers=(knot.address,))).txt(name)


async def test_discovery_finds_the_entry_points(knot: Knot) -> None:
    resolver = DnsResolver(DnsConfig(servers=(knot.address,)))
    network = Network("boot", DOMAIN, (PublisherKey(PUBLISHER.public_key),))
    machine = Discovery(Identity.from_label("carol").peer_id, network, PeerCache(DOMAIN), random.Random(1))
    commands: list[Command] = machine.handle(Started(), 0.0, UNIX)
    for query in [command for command in commands if isinstance(command, QueryDns)]:
        answer = await resolver.txt(query.name)
        commands += machine.handle(DnsAnswered(query.kind, answer.texts), 1.0, UNIX)
    assert BundleTaken(BUNDLE) in commands
    assert {command.peer_id for command in commands if isinstance(command, Dial)} <= {ALICE, BOB}
    assert machine.witnesses(UNIX) == ({ALICE, BOB}, set())


async def test_dns_over_https_steps_in(knot: Knot, tmp_path: Path) -> None:
    require("unbound")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    pem, key, ca = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    certificate.cert_chain_pems[0].write_to_path(pem)
    certificate.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(ca)
    nowhere = tmp_path / "resolv.conf"
    nowhere.write_text("nameserver 127.0.0.1\n")
    with Resolver(tmp_path / "unbound", pem, key, DOMAIN, knot) as https:
        config = DnsConfig(doh_servers=(https.url,), doh_authorities=str(ca), resolv_conf=nowhere)
        resolver = DnsResolver(config)
        answer = await resolver.txt(bundle_name(DOMAIN))
        assert (answer.texts, answer.server) == ((BUNDLE.text,), https.url)
        assert set(await resolver.addresses(f"eu.{DOMAIN}")) == {"127.0.0.1", "::1"}
        with pytest.raises(DnsNxDomain):
            await resolver.txt(f"nobody.{DOMAIN}")
        with pytest.raises(DnsNetwork):  # a server whose certificate nobody vouches for is not believed
            await DnsResolver(DnsConfig(doh_servers=(https.url,), resolv_conf=nowhere)).txt(
                bundle_name(DOMAIN)
            )
