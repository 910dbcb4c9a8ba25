"""AutoNAT between us, js and go: who dials whom back, and what is said about it (versions 2 and 1)."""

from collections.abc import Iterator

import pytest

from tests.interop.conftest import over_transports
from tests.interop.lab import PORT, Lab, OurLabNode, listening
from tests.interop.ours import until_true
from tests.interop.peer import IMPLEMENTATIONS, ForeignPeer, ForeignPeerError, Implementation
from tests.lab.nat import Kind
from tests.prerequisites import require
from wws.addresses.multiaddr import Multiaddr, Transport
from wws.identity.peer_id import PeerId
from wws.nat import autonat_v1
from wws.nat.autonat_v1 import ResponseStatus

pytestmark = [
    pytest.mark.interop,
    pytest.mark.root,
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("built"),
    pytest.mark.xdist_group("interop-autonat"),
]

OURS, OURS_TOO = "5.9.0.1", "5.9.0.2"
HOMES: dict[Implementation, tuple[str, str]] = {"js": ("5.2.0.1", "5.2.0.2"), "go": ("5.1.0.1", "5.1.0.2")}
GO_ASKS, GO_ASKS_TOO = "5.4.0.1", "5.4.0.2"
JS_ASKS: dict[Transport, str] = {"tcp": "5.5.0.1", "quic-v1": "5.6.0.1"}
JS_BEHIND: dict[Transport, str] = {"tcp": "5.5.1.1", "quic-v1": "5.6.1.1"}
NOBODY_LISTENS = 9999
FIREWALL = """
table inet firewall {
  chain input {
    type filter hook input priority filter; policy drop;
    iif lo accept
    ct state established,related accept
    meta l4proto tcp reject with tcp reset
  }
}
"""

each = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


class Town:
    """Our node and both foreign ones, all public, all serving AutoNAT."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.ours = lab.ours("alice", lab.host(OURS, OURS_TOO), OURS)
        self.foreign = {
            implementation: lab.foreign(
                implementation, lab.host(*ips), listen=listening("0.0.0.0"), autonat=True
            )
            for implementation, ips in HOMES.items()
        }
        self.go_asks = lab.host(GO_ASKS, GO_ASKS_TOO)
        for implementation in IMPLEMENTATIONS:
            self.ours.dial(self.address_of(implementation))

    def address_of(self, implementation: Implementation, transport: Transport = "tcp") -> str:
        ip, peer = HOMES[implementation][0], self.foreign[implementation].peer
        return str(Multiaddr.of(ip, PORT, transport).with_peer(PeerId.parse(peer.peer_id)))

    def peer_id(self, implementation: Implementation) -> PeerId:
        return PeerId.parse(self.foreign[implementation].peer.peer_id)


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    require("root", "nft", "conntrack", "ip", "setpriv")
    with Lab() as lab:
        yield Town(lab)


# They dial us


@over_transports
@each
def test_they_reach_us_where_we_are(town: Town, implementation: Implementation, transport: Transport) -> None:
    assert _ask(town, implementation, Multiaddr.of(OURS, PORT, transport)) == (True, "")


@pytest.mark.parametrize(("implementation", "transport"), [("js", "tcp"), ("go", "tcp"), ("go", "quic-v1")])
def test_they_do_not_reach_us_where_we_are_not(
    town: Town, implementation: Implementation, transport: Transport
) -> None:
    assert _ask(town, implementation, Multiaddr.of(OURS, NOBODY_LISTENS, transport)) == (False, "")


@each
def test_they_dial_another_address_of_ours_for_data(town: Town, implementation: Implementation) -> None:
    """Nobody listens there: only the price shows that it was tried."""
    paid = sum(count for _, count in town.ours.autonat._paid)
    assert _ask(town, implementation, Multiaddr.of(OURS_TOO, PORT)) == (False, "")
    assert sum(count for _, count in town.ours.autonat._paid) >= paid + 30_000


@each
def test_they_dial_nothing_private(town: Town, implementation: Implementation) -> None:
    reached, reason = _ask(town, implementation, Multiaddr.of("192.168.1.5", PORT))
    assert reached is None if implementation == "js" else not reached, reason


def _ask(town: Town, implementation: Implementation, address: Multiaddr) -> tuple[bool | None, str]:
    ours = town.ours
    return ours.call(ours.autonat.ask(town.peer_id(implementation), address, ours.host))


def test_by_their_word_we_know_that_we_are_public(town: Town) -> None:
    """Behind a NAT that lets everything in; two strangers are all the servers there are."""
    home = town.lab.address()
    bob = town.lab.ours("bob", town.lab.home(home, Kind.FULL_CONE))
    for implementation in IMPLEMENTATIONS:
        bob.dial(town.address_of(implementation, "quic-v1"))
    bob.wait(lambda: bob.reachability.reachability == "public")
    assert bob.reachability.nat == "endpoint_independent"
    assert {address.host for address in bob.reachability.observed()} == {home}


def test_by_their_word_we_know_that_we_are_not(town: Town) -> None:
    """Behind a firewall that says no, so that nobody waits for long."""
    machine = town.lab.host(town.lab.address())
    machine.run("nft", "-f", "-", given=FIREWALL)
    carol = town.lab.ours("carol", machine, transports=["tcp"])
    for implementation in IMPLEMENTATIONS:
        carol.dial(town.address_of(implementation))
    carol.wait(lambda: carol.reachability.reachability == "private")
    assert carol.reachability.nat == "none"


# We dial them, version 2


@over_transports
def test_go_is_told_that_it_is_reached(town: Town, transport: Transport) -> None:
    assert _go_asks(town, Multiaddr.of(GO_ASKS, PORT, transport)) == "Public"


@over_transports
def test_go_is_told_that_it_is_not_reached(town: Town, transport: Transport) -> None:
    assert _go_asks(town, Multiaddr.of(GO_ASKS, NOBODY_LISTENS, transport)) == "Private"


def test_go_pays_for_another_address_of_its_own(town: Town) -> None:
    assert _go_asks(town, Multiaddr.of(GO_ASKS_TOO, PORT)) == "Public"


def test_go_is_refused_a_private_address(town: Town) -> None:
    assert _go_asks(town, Multiaddr.of("192.168.1.5", PORT)) == "refused"


def _go_asks(town: Town, address: Multiaddr) -> str:
    """What a new go peer learns from us: one asks the same server no two things in two minutes."""
    carol = town.lab.foreign("go", town.go_asks, listen=listening("0.0.0.0"), autonat=True)
    try:
        carol.do(lambda peer: peer.dial(town.ours.address_of("tcp")))
        carol.do(lambda peer: peer.identified(town.ours.peer_id))
        answer = carol.do(lambda peer: peer.call("autonat_v2", addr=str(address), keep=True))
    finally:
        carol.close()
    return "refused" if answer["refused"] else str(answer["reachability"])


@over_transports
def test_js_finds_itself_public(town: Town, transport: Transport) -> None:
    """By either version: js asks both by itself."""
    ip = JS_ASKS[transport]
    server = town.ours.autonat_server
    assert server is not None
    before = server.requests.copy()
    carol = town.lab.foreign("js", town.lab.host(ip), listen=listening(ip, [transport]), autonat=True)

    async def is_verified(peer: ForeignPeer) -> bool:
        [known] = [one for one in await peer.call("reachability") if one["type"] == "transport"]
        return bool(known["verified"])

    assert not carol.do(is_verified)
    carol.do(lambda peer: peer.dial(town.ours.address_of(transport)))
    carol.do(lambda peer: until_true(lambda: is_verified(peer)))
    town.ours.wait(lambda: (server.requests - before) == {("v2", "ok"): 1, ("v1", "ok"): 1})
    carol.close()


@over_transports
def test_js_finds_itself_unreachable(town: Town, transport: Transport) -> None:
    server = town.ours.autonat_server
    assert server is not None
    before = server.requests.copy()
    machine = town.lab.host(JS_BEHIND[transport])
    machine.run("nft", "-f", "-", given=FIREWALL)
    carol = town.lab.foreign("js", machine, listen=listening(JS_BEHIND[transport], [transport]), autonat=True)
    carol.do(lambda peer: peer.dial(town.ours.address_of(transport)))
    town.ours.wait(lambda: (server.requests - before) == {("v2", "dial_error"): 1, ("v1", "dial_error"): 1})
    known = carol.do(lambda peer: peer.call("reachability"))
    assert not any(one["verified"] for one in known)
    carol.close()


# Version 1


def test_go_understands_our_question_of_version_1(town: Town) -> None:
    """js cannot be asked: it takes the connection that there is for the dial-back, and closes it then."""
    ours = town.ours
    for address in (Multiaddr.of(OURS, PORT), Multiaddr.of("192.168.1.5", PORT)):
        # Where it sees us, it dials in any case, and from our port we are seen.
        answer = ours.call(_ask_v1(ours, town.peer_id("go"), address))
        assert (answer.status, answer.address) == (ResponseStatus.OK, Multiaddr.of(OURS, PORT))


async def _ask_v1(ours: OurLabNode, server: PeerId, address: Multiaddr) -> autonat_v1.DialResponse:
    connection = ours.host.connection_to(server, direct=True)
    assert connection is not None
    async with connection.open_stream(autonat_v1.PROTOCOL) as stream:
        await stream.write_frame(autonat_v1.Dial(ours.mesh.peer_id, (address,)).encode())
        frame = await stream.read_frame(8192)
        assert frame is not None
        answer = autonat_v1.parse(frame)
        assert isinstance(answer, autonat_v1.DialResponse)
        return answer


def test_go_is_dialled_back_by_version_1(town: Town) -> None:
    reached = town.foreign["go"].do(
        lambda peer: peer.call("autonat_v1", peer=town.ours.peer_id, addr=f"/ip4/{HOMES['go'][0]}/tcp/{PORT}")
    )
    assert reached is True
    with pytest.raises(ForeignPeerError, match="E_DIAL_ERROR"):
        town.foreign["go"].do(
            lambda peer: peer.call(
                "autonat_v1", peer=town.ours.peer_id, addr=f"/ip4/{HOMES['go'][0]}/tcp/{NOBODY_LISTENS}"
            )
        )
    with pytest.raises(ForeignPeerError, match="E_DIAL_REFUSED"):
        town.foreign["go"].do(
            lambda peer: peer.call("autonat_v1", peer=town.ours.peer_id, addr=f"/ip4/5.2.0.1/tcp/{PORT}")
        )
