"""A network of alice, bob and carol as bootstrap nodes, with one publisher, for the tests of discovery."""

import random
from collections.abc import Sequence

from wws.addresses.multiaddr import Multiaddr
from wws.discovery.bundle import Bundle, BundleEntry
from wws.discovery.bundle_state import BundleState
from wws.discovery.network import Network
from wws.discovery.peer_cache import PeerCache
from wws.discovery.publishers import PublisherKey
from wws.discovery.race import Discovery, DiscoveryConfig
from wws.discovery.race_events import Dial
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.machine import Command, Event

DOMAIN = "boot.example.org"
UNIX = 1_790_000_000
PUBLISHER = Identity.from_label("publisher1")
SECOND_PUBLISHER = Identity.from_label("publisher2")
KEYS = (PublisherKey(PUBLISHER.public_key),)

ME = Identity.from_label("me").peer_id
ALICE = Identity.from_label("alice").peer_id
BOB = Identity.from_label("bob").peer_id
CAROL = Identity.from_label("carol").peer_id
DAVE = Identity.from_label("dave").peer_id
MALLORY = Identity.from_label("mallory").peer_id

SIGNED = Network("example", DOMAIN, KEYS)
UNSIGNED = Network("example", DOMAIN)


def at(peer: PeerId, ip: str = "203.0.113.1", port: int = 9000) -> Multiaddr:
    return Multiaddr.of(ip, port, "tcp", peer)


def entry(peer: PeerId, host: str = "203.0.113.1", port: int = 9000) -> BundleEntry:
    return BundleEntry(peer, host, port, "/t")


def bundle(
    *entries: BundleEntry,
    seq: int = UNIX,
    nbf: int = UNIX,
    exp: int = UNIX + 86_400,
    keys: Sequence[PublisherKey] | None = None,
    signers: Sequence[Identity] = (PUBLISHER,),
    domain: str = DOMAIN,
) -> Bundle:
    made = Bundle(seq, nbf, exp, None if keys is None else tuple(keys), entries or (entry(ALICE),))
    return made.sign(domain, signers)


class Search:
    """A `Discovery` with a clock: `step` moves the clock and hands the event over."""

    def __init__(
        self,
        network: Network = SIGNED,
        *,
        typed: Sequence[Multiaddr] = (),
        cache: PeerCache | None = None,
        last: Bundle | None = None,
        config: DiscoveryConfig | None = None,
        local: PeerId = ME,
        seed: int = 1,
    ) -> None:
        bundles = BundleState(network.domain, network.publishers, last=last) if network.publishers else None
        self.now = 1_000.0
        self.unix_now = UNIX + 10
        self.machine = Discovery(
            local,
            network,
            cache or PeerCache(network.domain),
            random.Random(seed),
            typed=typed,
            bundles=bundles,
            config=config,
        )

    def step(self, event: Event, after: float = 0.0) -> list[Command]:
        self.now += after
        self.unix_now += round(after)
        return self.machine.handle(event, self.now, self.unix_now)

    @property
    def wakes_in(self) -> float | None:
        wakeup = self.machine.next_wakeup()
        return None if wakeup is None else wakeup - self.now


def dialled(commands: Sequence[Command]) -> list[PeerId]:
    return [command.peer_id for command in commands if isinstance(command, Dial)]


def only(commands: Sequence[Command], kind: type[Command]) -> list[Command]:
    return [command for command in commands if isinstance(command, kind)]
