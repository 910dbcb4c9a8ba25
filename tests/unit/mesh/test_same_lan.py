"""Which private addresses peers behind one public address tell, and believe."""

from wws.addresses.multiaddr import Multiaddr
from wws.identity.keys import Identity
from wws.mesh.same_lan import MAX_ADDRESSES, private_addresses, same_lan_addresses

ALICE, BOB = (Identity.from_label(name).peer_id for name in ("alice", "bob"))
HOME = "203.0.113.7"
LAN = Multiaddr.parse("/ip4/192.168.1.7/tcp/9000")
OF_ALL_KINDS = tuple(
    map(
        Multiaddr.parse,
        (
            "/ip4/192.168.1.7/tcp/9000",
            "/ip6/fd00::7/udp/9000/quic-v1",
            f"/ip4/10.0.0.7/tcp/9000/p2p/{ALICE}",
            f"/ip4/10.0.0.8/tcp/9000/p2p/{BOB}",
            "/ip4/127.0.0.1/tcp/9000",
            "/ip4/169.254.1.1/tcp/9000",
            "/ip4/203.0.113.7/tcp/9000",
            "/ip4/0.0.0.0/tcp/9000",
            "/ip4/224.0.0.1/tcp/9000",
            "/ip4/192.168.1.8/tcp/0",
            "/dns4/router.example/tcp/9000",
            f"/ip4/192.168.1.9/tcp/9000/p2p/{BOB}/p2p-circuit",
        ),
    )
)


def test_only_private_ones_at_an_ip_and_of_that_peer() -> None:
    assert private_addresses(OF_ALL_KINDS) == OF_ALL_KINDS[:4]
    assert same_lan_addresses(ALICE, OF_ALL_KINDS, [HOME], {HOME}) == OF_ALL_KINDS[:3]


def test_nothing_of_who_is_elsewhere() -> None:
    assert same_lan_addresses(ALICE, [LAN], ["198.51.100.1"], {HOME}) == ()
    assert same_lan_addresses(ALICE, [LAN], [], {HOME}) == ()
    assert same_lan_addresses(ALICE, [LAN], [HOME], frozenset()) == ()


def test_no_more_than_the_bound() -> None:
    many = [LAN.with_port(9000 + number) for number in range(MAX_ADDRESSES + 1)]
    assert private_addresses([*many, *many]) == tuple(many[:MAX_ADDRESSES])


def test_a_neighbour_does_not_send_us_to_the_services_of_our_network() -> None:
    said = [Multiaddr.parse(f"/ip4/192.168.1.1/tcp/{port}") for port in (22, 80, 443, 1023, 1024)]
    assert same_lan_addresses(ALICE, said, ["203.0.113.7"], {"203.0.113.7"}) == (said[-1],)
