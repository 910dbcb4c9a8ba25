"""Holes punched between us and foreign peers through real routers (DCUtR), or why there are none.

go punches as we do, in both roles, over TCP and QUIC. js talks about it and then dials from other ports than
it listens at: it gets through to who is open to its IP, and through two NATs that look at ports never.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import pytest

from tests.interop.conftest import over_transports
from tests.interop.lab import PORT, Lab, listening
from tests.interop.ours import until_true
from tests.interop.peer import ForeignPeer, Implementation
from tests.lab.namespaces import Namespace
from tests.lab.nat import Kind
from tests.prerequisites import require
from wws.addresses.multiaddr import Multiaddr, Transport
from wws.identity.peer_id import PeerId
from wws.nat.dcutr import PROTOCOL
from wws.nat.punching import HolePunchConfig

pytestmark = [
    pytest.mark.interop,
    pytest.mark.root,
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("built"),
    pytest.mark.xdist_group("interop-punching"),
]

Role = Literal["initiator", "receiver"]

OUR_RELAY, GO_RELAY = "5.9.0.1", "5.8.0.1"
INSIDE = "192.168.1.11"
"""Of the first machine behind any router of the lab."""

DEFAULT = HolePunchConfig()
HURRIED = HolePunchConfig(attempts=1, punch_timeout=2.0, reversal_timeout=0.5)

each_role = pytest.mark.parametrize("role", ["initiator", "receiver"])
"""What the foreign peer is: the initiator has accepted the circuit, the receiver has dialled it."""


class Relays:
    """The lab with its relays; every test brings two homes."""

    def __init__(self, lab: Lab) -> None:
        self._ours = lab.ours("relay", lab.host(OUR_RELAY), OUR_RELAY)
        self._go = lab.foreign("go", lab.host(GO_RELAY), listen=listening(GO_RELAY), relay={})

    def address_of(self, whose: str, transport: Transport) -> str:
        if whose == "ours":
            return self._ours.address_of(transport)
        peer = PeerId.parse(self._go.peer.peer_id)
        return str(Multiaddr.of(GO_RELAY, PORT, transport).with_peer(peer))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    require("root", "nft", "conntrack", "ip", "setpriv")
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def relays(lab: Lab) -> Relays:
    return Relays(lab)


class Pair:
    """Alice is ours and bob is not; both are connected to a relay by one transport, and have no other."""

    def __init__(self, lab: Lab, relay: str, transport: Transport) -> None:
        self._lab = lab
        self._relay = relay
        self._transport = transport

    def alice_at(self, machine: Namespace, ip: str = "0.0.0.0", punch: HolePunchConfig = DEFAULT) -> None:
        self.alice = self._lab.ours(f"alice {id(self)}", machine, ip, [self._transport], punch)
        self.alice.dial(self._relay)

    def bob_at(
        self,
        implementation: Implementation,
        machine: Namespace,
        ip: str,
        *,
        announce: str | None = None,
        static_relays: Sequence[str] = (),
    ) -> None:
        announced = {"announce": listening(announce, [self._transport])} if announce else {}
        self.bob = self._lab.foreign(
            implementation,
            machine,
            listen=listening(ip, [self._transport]),
            relay_client=True,
            hole_punching=True,
            static_relays=list(static_relays),
            **announced,
        )
        self.bob.do(lambda peer: peer.dial(self._relay))
        self.bob.do(lambda peer: until_true(lambda: _speaks(peer)))

    def connect(self, role: Role) -> None:
        """Through the relay; bob takes the initiative when the circuit came to him."""
        if role == "initiator":
            self.bob.do(lambda peer: peer.reserve(self._relay))
            through = f"{self._relay}/p2p-circuit/p2p/{self.bob.peer.peer_id}"
            self.alice.call(self.alice.mesh.dial(Multiaddr.parse(through)))
        else:
            address = self.alice.reserve(self._relay)
            self.bob.do(lambda peer: peer.dial(address))

    def settle(self) -> str | None:
        """Let the punch end: by what there is a direct connection, if so."""
        peer = PeerId.parse(self.bob.peer.peer_id)
        alice = self.alice
        alice.call(alice.mesh.connection_with(peer))
        alice.call(alice.puncher.wait_settled(peer, 25))
        direct = alice.host.connection_to(peer, direct=True)
        return None if direct is None else direct.transport

    def expect_direct(self, *, alone: bool = True) -> None:
        assert self.settle() == self._transport, self.why_not
        self.talk()
        if alone:
            self.wait_direct_alone()

    @property
    def why_not(self) -> str | None:
        return self.alice.puncher.why_not_direct(PeerId.parse(self.bob.peer.peer_id))

    def talk(self) -> None:
        """Both ways, over whatever there is."""
        us = self.alice.peer_id
        assert self.bob.do(lambda peer: peer.half_close(us, b"abc")) == b"cba"
        connection = self.alice.host.connection_to(PeerId.parse(self.bob.peer.peer_id))
        assert connection is not None
        self.alice.call(self.alice.mesh.ping.ping(connection))

    def wait_direct_alone(self) -> None:
        """The circuit is closed once nothing needs it."""
        us = self.alice.peer_id

        async def only_direct(peer: ForeignPeer) -> bool:
            limited = [one.limited for one in await peer.connections() if one.peer_id == us]
            return bool(limited) and not any(limited)

        self.bob.do(lambda peer: until_true(lambda: only_direct(peer)))

    def __enter__(self) -> "Pair":
        return self

    def __exit__(self, *_: object) -> None:
        self.bob.close()
        self.alice.close()


async def _speaks(peer: ForeignPeer) -> bool:
    """go begins once it knows where it is seen."""
    return PROTOCOL in (await peer.call("info"))["protocols"]


@pytest.mark.parametrize(
    ("role", "transport", "relay"),
    [
        ("initiator", "tcp", "ours"),
        ("initiator", "quic-v1", "ours"),
        ("receiver", "tcp", "ours"),
        ("receiver", "quic-v1", "ours"),
        ("initiator", "quic-v1", "go"),
        ("receiver", "tcp", "go"),
    ],
)
def test_go_and_we_punch(lab: Lab, relays: Relays, role: Role, transport: Transport, relay: str) -> None:
    """Two NATs that look at addresses and ports."""
    with Pair(lab, relays.address_of(relay, transport), transport) as pair:
        pair.bob_at("go", lab.home(lab.address()), INSIDE)
        pair.alice_at(lab.home(lab.address()))
        pair.connect(role)
        pair.expect_direct()
        ours = "receiver" if role == "initiator" else "initiator"
        assert pair.alice.puncher.outcomes == {(ours, transport, "first_attempt"): 1}


@over_transports
@each_role
def test_js_comes_through_a_nat_that_lets_its_ip_in(
    lab: Lab, relays: Relays, role: Role, transport: Transport
) -> None:
    """What we send to js's NAT opens ours for everything of that IP, and so for the port js dials from."""
    with Pair(lab, relays.address_of("ours", transport), transport) as pair:
        home = lab.address()
        pair.bob_at("js", lab.home(home), INSIDE, announce=home)
        pair.alice_at(lab.home(lab.address(), Kind.ADDRESS_RESTRICTED), punch=HURRIED)
        pair.connect(role)
        pair.expect_direct()


@over_transports
@each_role
def test_js_behind_a_nat_dials_us_who_are_public(
    lab: Lab, relays: Relays, role: Role, transport: Transport
) -> None:
    with Pair(lab, relays.address_of("ours", transport), transport) as pair:
        pair.bob_at("js", lab.home(lab.address()), INSIDE)
        public = lab.address()
        pair.alice_at(lab.host(public), public)
        pair.connect(role)
        pair.expect_direct()


@over_transports
@each_role
def test_we_behind_a_nat_dial_js_who_is_public(
    lab: Lab, relays: Relays, role: Role, transport: Transport
) -> None:
    """js goes on dialling us for five seconds, and keeps the circuit for so long."""
    with Pair(lab, relays.address_of("ours", transport), transport) as pair:
        public = lab.address()
        pair.bob_at("js", lab.host(public), public, announce=public)
        pair.alice_at(lab.home(lab.address()))
        pair.connect(role)
        pair.expect_direct(alone=role == "receiver")


@pytest.mark.parametrize(("role", "transport"), [("initiator", "tcp"), ("receiver", "quic-v1")])
def test_js_does_not_punch_two_nats_that_look_at_ports(
    lab: Lab, relays: Relays, role: Role, transport: Transport
) -> None:
    """It dials from a port of its own, which neither NAT has let anything out to. The circuit stays."""
    with Pair(lab, relays.address_of("ours", transport), transport) as pair:
        home = lab.address()
        pair.bob_at("js", lab.home(home), INSIDE, announce=home)
        pair.alice_at(lab.home(lab.address()), punch=HURRIED)
        pair.connect(role)
        assert pair.settle() is None
        ours = "receiver" if role == "initiator" else "initiator"
        assert pair.alice.puncher.outcomes == {(ours, "", "failed"): 1}
        assert "nothing came through" in (pair.why_not or "")
        pair.talk()


@over_transports
def test_go_keeps_a_slot_by_itself_and_is_reached(lab: Lab, relays: Relays, transport: Transport) -> None:
    """As most nodes of go behind a NAT are configured. We know no more of it than what it says."""
    relay = relays.address_of("ours", transport)
    with Pair(lab, relay, transport) as pair:
        pair.bob_at("go", lab.home(lab.address()), INSIDE, static_relays=[relay])
        pair.alice_at(lab.home(lab.address()))
        through: list[str] = []

        async def is_relayed(peer: ForeignPeer) -> bool:
            addresses = (await peer.call("info"))["addresses"]
            through[:] = [one for one in addresses if f"/{transport}/" in one and "/p2p-circuit" in one]
            return bool(through)

        pair.bob.do(lambda peer: until_true(lambda: is_relayed(peer)))
        pair.alice.call(pair.alice.mesh.dial(Multiaddr.parse(through[0])))
        pair.expect_direct()
