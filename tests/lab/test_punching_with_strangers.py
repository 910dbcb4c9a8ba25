"""Holes punched together with go-libp2p and js-libp2p, in both roles.

The addresses are of real networks, which never leave the lab: go takes those for documentation for
unreachable, and punches none of them. js dials from fresh ports and knows no address of its own that it was
not told: it stands on the open internet, and reaches us where our router lets it in.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.interop.peer import Implementation
from tests.lab.internet import Internet
from tests.lab.nat import Kind, Router
from tests.lab.probing import eventually
from tests.lab.punching import How, Inside, LabRelay, Puncher
from tests.lab.strangers import Stranger
from tests.prerequisites import require
from wws.addresses.multiaddr import Multiaddr, Transport

pytestmark = [
    pytest.mark.root,
    pytest.mark.interop,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("lab-strangers"),
]

PAIRS: list[tuple[Implementation, Transport]] = [("go", "quic-v1"), ("go", "tcp"), ("js", "tcp")]
NEEDS: dict[Implementation, tuple[str, ...]] = {"go": ("go>=1.21",), "js": ("npm",)}
WITHIN = 30.0


class Meeting:
    """Alice, who is ours, a stranger, and a relay of ours between them."""

    def __init__(self, stack: ExitStack, implementation: Implementation, transport: Transport) -> None:
        internet = stack.enter_context(Internet())
        relay_at = internet.host("relay", "5.5.5.5").namespace
        self.relay = LabRelay(stack.enter_context(Inside(relay_at)), "5.5.5.5")
        stack.callback(self.relay.close)
        [self.way] = [address for address in self.relay.addresses if address.transport == transport]
        if implementation == "js":
            theirs = internet.host("stranger", "8.8.1.2").namespace
            ours = Router(internet, "home-a", Kind.FULL_CONE, "8.8.2.2").host("alice")
            config: dict[str, object] = {"relay": True, "dcutr": True}
        else:
            theirs = Router(internet, "home-b", Kind.PORT_RESTRICTED, "8.8.1.2").host("stranger")
            ours = Router(internet, "home-a", Kind.PORT_RESTRICTED, "8.8.2.2").host("alice")
            config = {"static_relays": [str(self.way)], "quic": transport == "quic-v1"}
        listen = "/ip4/0.0.0.0/tcp/0" if transport == "tcp" else "/ip4/0.0.0.0/udp/0/quic-v1"
        self.stranger = stack.enter_context(
            Stranger.run(
                implementation,
                theirs,
                listen=[listen],
                dht_protocol=None,
                relay_client=True,
                hole_punching=True,
                **config,
            )
        )
        self.alice = Puncher(
            "alice",
            stack.enter_context(Inside(ours)),
            self.relay.addresses,
            "endpoint_independent",
            How(transports=(transport,)),
        )
        stack.callback(self.alice.close)
        self.stranger.command("dial", addr=str(self.way))


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[Implementation, Transport]:
    chosen: tuple[Implementation, Transport] = request.param
    require(*NEEDS[chosen[0]])
    return chosen


@pytest.fixture
def meeting(pair: tuple[Implementation, Transport]) -> Iterator[Meeting]:
    with ExitStack() as stack:
        yield Meeting(stack, *pair)


def test_a_stranger_that_comes_to_us_through_a_relay(
    meeting: Meeting, pair: tuple[Implementation, Transport]
) -> None:
    alice, stranger = meeting.alice, meeting.stranger
    stranger.command("dial", addr=str(alice.reserve()))
    eventually(lambda: bool(alice.puncher.outcomes), WITHIN)
    assert alice.puncher.outcomes == {("initiator", pair[1], "first_attempt"): 1}, stranger.said()


def test_a_stranger_that_we_come_to_through_a_relay(
    meeting: Meeting, pair: tuple[Implementation, Transport]
) -> None:
    alice, stranger = meeting.alice, meeting.stranger
    if pair[0] == "js":
        stranger.command("reserve", addr=str(meeting.way))
    circuit = f"{meeting.way}/p2p-circuit/p2p/{stranger.peer_id}"

    def announced() -> bool:
        return any("p2p-circuit" in address for address in stranger.command("info")["addresses"])

    eventually(announced, WITHIN)
    path, why_not = alice.reach(Multiaddr.parse(circuit))
    assert path == pair[1], (why_not, stranger.said())
    assert alice.puncher.outcomes == {("receiver", pair[1], "first_attempt"): 1}
