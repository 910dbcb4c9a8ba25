"""What a bootstrap node prints for its operator."""

import pytest

from wws.addresses.multiaddr import Multiaddr
from wws.identity.keys import Identity
from wws.runtime.announcement import identity_lines, txt_lines

ALICE = Identity.from_label("alice").peer_id


def lines(*addresses: str, domain: str | None = "example.org") -> list[str]:
    return txt_lines(ALICE, [Multiaddr.parse(address) for address in addresses], domain)


def test_the_identity():
    assert identity_lines(ALICE) == [f"PeerId: {ALICE}", f"DID: {ALICE.did}"]


def test_both_records_for_each_address():
    assert lines("/ip4/203.0.113.4/tcp/9000", "/dns4/b.example.org/tcp/443") == [
        f'_openswarm._tcp.example.org. 300 IN TXT "v=1 peer=/ip4/203.0.113.4/tcp/9000/p2p/{ALICE}"',
        f'_openswarm._tcp.example.org. 300 IN TXT "v=1 peer=/dns4/b.example.org/tcp/443/p2p/{ALICE}"',
        f'_dnsaddr.example.org. 300 IN TXT "dnsaddr=/ip4/203.0.113.4/tcp/9000/p2p/{ALICE}"',
        f'_dnsaddr.example.org. 300 IN TXT "dnsaddr=/dns4/b.example.org/tcp/443/p2p/{ALICE}"',
    ]


@pytest.mark.parametrize(
    "addresses, kept",
    [
        (["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip4/203.0.113.4/tcp/1"], ["203.0.113.4"]),
        (["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1"], ["10.0.0.1"]),
        (["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.2/tcp/1"], ["127.0.0.1", "127.0.0.2"]),
        (["/ip4/0.0.0.0/tcp/1", "/ip6/::/tcp/1"], []),
        ([f"/ip4/203.0.113.9/tcp/1/p2p/{ALICE}/p2p-circuit"], []),
        ([], []),
    ],
)
def test_addresses_of_the_widest_scope_only(addresses, kept):
    found = [line.split("peer=/ip4/")[1].split("/")[0] for line in lines(*addresses) if "peer=" in line]
    assert found == kept


def test_without_a_domain_a_placeholder_stands_there():
    assert lines("/ip4/203.0.113.4/tcp/9000", domain=None)[0].startswith("_openswarm._tcp.example.org. ")
    assert lines("/ip4/203.0.113.4/tcp/9000", domain="a.example.")[0].startswith(
        "_openswarm._tcp.a.example. "
    )
