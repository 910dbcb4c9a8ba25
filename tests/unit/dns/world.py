"""A network whose records are published in memory, and the clients that read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.unit.dns.memory_provider import MemoryProvider
from wws.discovery.bundle import Bundle
from wws.discovery.bundle_state import BundleState
from wws.discovery.publishers import PublisherKey
from wws.discovery.txt import bundle_name
from wws.identity.keys import Identity
from wws_dns.desired import Desired, Node
from wws_dns.history import History
from wws_dns.plan import Plan
from wws_dns.publishing import Published, Publisher

DOMAIN = "example.org"
DAY = 86_400
START = 1_800_000_000
ADDRESSES = {"alice": "192.0.2.1", "bob": "198.51.100.2", "carol": "203.0.113.3"}
PUBLISHER = Identity.from_label("publisher")
SPARE = Identity.from_label("spare publisher")
NEW = Identity.from_label("new publisher")


def key(identity: Identity) -> PublisherKey:
    return PublisherKey(identity.public_key)


def node(label: str, port: int = 9000) -> Node:
    return Node(Identity.from_label(label).peer_id, ADDRESSES.get(label, f"{label}.example.org"), port)


def wanted(*labels: str, keys: Sequence[Identity] | None = None, ttl: int = 300, days: int = 30) -> Desired:
    chosen = None if keys is None else tuple(map(key, keys))
    return Desired(DOMAIN, tuple(map(node, labels)), ttl, days, chosen)


@dataclass
class World:
    """One operator, one zone, and a clock that only moves when told."""

    now: int = START
    provider: MemoryProvider = field(default_factory=MemoryProvider)
    history: History = field(default_factory=lambda: History(DOMAIN))

    @property
    def publisher(self) -> Publisher:
        return Publisher(self.provider, self.history, lambda: self.now, pause=self.wait)

    def wait(self, seconds: float) -> None:
        self.now += int(seconds)

    def plan(self, desired: Desired, *signers: Identity) -> Plan:
        return self.publisher.plan(desired, signers or (PUBLISHER,))

    def publish(self, desired: Desired, *signers: Identity, force: bool = False) -> Published:
        return self.publisher.publish(self.plan(desired, *signers), force_unsafe=force)

    @property
    def texts(self) -> list[str]:
        """The TXT records where the bundle stands."""
        return [record.value for record in self.provider.fetch([(bundle_name(DOMAIN), "TXT")])]

    @property
    def bundle(self) -> Bundle:
        (text,) = self.texts
        return Bundle.parse(text)

    def client(self, *known: Identity) -> BundleState:
        """A new client that knows these publishers only."""
        return BundleState(DOMAIN, [key(one) for one in known or (PUBLISHER,)])

    def codes(self, desired: Desired, *signers: Identity) -> set[str]:
        return {one.code for one in self.plan(desired, *signers).unsafe}
