"""What an operator wants to be published: the nodes of a network, and how long it holds.

It comes from `records.toml` (`wws_dns.records_file`), from the outputs of the stack
(`wws_dns.stack_outputs`), or from a bundle that was published before. From it come, by `records`, the three
TXT record sets of wire.md section 3, and A and AAAA for hosts whose addresses are given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from wws.addresses.multiaddr import Multiaddr
from wws.discovery.bundle import MAX_ANSWER, Bundle, BundleEntry, TransportMark, answer_size
from wws.discovery.publishers import PublisherKey, host_kind, parse_domain
from wws.discovery.txt import bundle_name, dnsaddr_name, seed_name, seed_text
from wws.errors import LocalError
from wws.identity.peer_id import PeerId
from wws.rpc.codes import Exit
from wws_dns.provider import Record, RecordKind, RecordSet

DEFAULT_PORT = 9000
DEFAULT_TTL = 300
"""Seconds that resolvers may keep an answer while nothing changes."""
CHANGE_TTL = 60
"""Seconds that they may keep it around a change of the set."""
MAX_TTL = 86_400
DEFAULT_LIFETIME_DAYS = 30
MAX_LIFETIME_DAYS = 90
MAX_NODES = 16
MAX_ADDRESSES = 8
"""Most addresses of one host name."""


class DesiredMalformed(LocalError):
    """What is to be published is not described as it must be."""

    code = "records_malformed"
    exit_code = Exit.USAGE


@dataclass(frozen=True, slots=True)
class Node:
    """One way to one node: an entry of the bundle. One peer may have several, say on ports 9000 and 443."""

    peer_id: PeerId
    host: str
    """A lower-case name, a dotted IPv4 address, or an IPv6 address as RFC 5952 writes it."""
    port: int = DEFAULT_PORT
    mark: TransportMark = ""
    """`/t` TCP only, `/q` QUIC only, empty for both."""
    addresses: tuple[str, ...] = ()
    """For a host name inside the zone: the IP addresses to publish for it. Empty: somebody else does."""

    @property
    def entry(self) -> BundleEntry:
        """As it stands in the bundle."""
        return BundleEntry(self.peer_id, self.host, self.port, self.mark)


@dataclass(frozen=True, slots=True)
class Desired:
    """What is to be published under a domain. Checked when it is made: raises `DesiredMalformed`."""

    domain: str
    nodes: tuple[Node, ...]
    """None at all means that nothing is to be published any more."""
    ttl: int = DEFAULT_TTL
    lifetime_days: int = DEFAULT_LIFETIME_DAYS
    keys: tuple[PublisherKey, ...] | None = None
    """The publisher keys that hold from now on; `None` leaves them as they are."""

    def __post_init__(self) -> None:
        if host_kind(self.domain) != "name" or parse_domain(self.domain) != self.domain:
            raise DesiredMalformed(
                f"{self.domain[:80]!r} is not a domain.",
                hint="Write it in lower case, in its xn-- form, without a final dot: example.org",
            )
        if len(self.nodes) > MAX_NODES:
            raise DesiredMalformed(f"{len(self.nodes)} nodes; a bundle has at most {MAX_NODES} entries.")
        if not 1 <= self.ttl <= MAX_TTL:
            raise DesiredMalformed(f"A TTL of {self.ttl} s; it is from 1 to 86400, 300 is usual.")
        if not 1 <= self.lifetime_days <= MAX_LIFETIME_DAYS:
            raise DesiredMalformed(f"A lifetime of {self.lifetime_days} days; it is from 1 to 90.")
        if self.keys is not None and not self.keys:
            raise DesiredMalformed("A list of publisher keys with none in it: nobody could sign.")
        seen: dict[BundleEntry, Node] = {}
        for node in self.nodes:
            _check_node(node)
            if node.entry in seen:
                raise DesiredMalformed(f"{node.entry} is there twice.")
            seen[node.entry] = node

    @property
    def entries(self) -> tuple[BundleEntry, ...]:
        return tuple(node.entry for node in self.nodes)

    @property
    def peers(self) -> frozenset[PeerId]:
        """The entry points, and the witnesses of names."""
        return frozenset(node.peer_id for node in self.nodes)


def _check_node(node: Node) -> None:
    kind = host_kind(node.host)
    if kind is None or not node.entry.addresses():
        raise DesiredMalformed(
            f"Nobody can be reached at the host {node.host[:80]!r} of {node.peer_id}.",
            hint="A host is a lower-case name, an IPv4 address, or an IPv6 address in its short form.",
        )
    if not 1 <= node.port <= 65_535:
        raise DesiredMalformed(f"{node.port} is not a port (of {node.peer_id}).")
    if node.addresses and kind != "name":
        raise DesiredMalformed(f"{node.host} is an address already; it takes no further addresses.")
    if len(node.addresses) > MAX_ADDRESSES or len(set(node.addresses)) != len(node.addresses):
        raise DesiredMalformed(f"The addresses of {node.host} are distinct and at most {MAX_ADDRESSES}.")
    for address in node.addresses:
        if host_kind(address) not in ("ip4", "ip6"):
            raise DesiredMalformed(f"{address[:80]!r} of {node.host} is no IP address in its short form.")


def from_bundle(
    domain: str, bundle: Bundle, addresses: Iterable[tuple[str, str]] = (), *, ttl: int, lifetime_days: int
) -> Desired:
    """What a bundle said, as something to publish again; `addresses` are (host, IP) published with it."""
    by_host: dict[str, list[str]] = {}
    for host, address in addresses:
        by_host.setdefault(host, []).append(address)
    nodes = tuple(
        Node(entry.peer_id, entry.host, entry.port, entry.mark, tuple(by_host.get(entry.host, ())))
        for entry in bundle.entries
    )
    return Desired(domain, nodes, ttl, lifetime_days)


def txt_sets(domain: str) -> tuple[RecordSet, ...]:
    """The record sets that are ours under a domain, and nobody else's."""
    return ((bundle_name(domain), "TXT"), (seed_name(domain), "TXT"), (dnsaddr_name(domain), "TXT"))


def address_sets(hosts: Iterable[str]) -> tuple[RecordSet, ...]:
    """The record sets of host names."""
    kinds: tuple[RecordKind, ...] = ("A", "AAAA")
    return tuple((host, kind) for host in sorted(set(hosts)) for kind in kinds)


def records(desired: Desired, bundle_text: str, ttl: int) -> tuple[Record, ...]:
    """All records of `desired`, sorted: the bundle, the hints, and the addresses of its hosts."""
    name, domain = bundle_name(desired.domain), desired.domain
    wanted = {Record(name, "TXT", bundle_text, ttl)}
    seeds = [seed_text(address) for address in _one_a_peer(desired.nodes)]
    wanted |= {Record(seed_name(domain), "TXT", text, ttl) for text in fitting(domain, seeds)}
    named = [f"dnsaddr={address}" for node in desired.nodes for address in node.entry.addresses()]
    if len(fitting(domain, named)) < len(named):  # then rather every peer once than some twice
        named = [f"dnsaddr={address}" for address in _one_a_peer(desired.nodes)]
    wanted |= {Record(dnsaddr_name(domain), "TXT", text, ttl) for text in fitting(domain, named)}
    for node in desired.nodes:
        for address in node.addresses:
            kind: RecordKind = "AAAA" if ":" in address else "A"
            wanted.add(Record(node.host, kind, address, ttl))
    return tuple(sorted(wanted))


def fitting(domain: str, texts: Sequence[str]) -> list[str]:
    """The first of `texts` that fit into one answer. Hints may be left out: the bundle names everybody."""
    taken: list[str] = []
    for text in dict.fromkeys(texts):
        if answer_size(domain, [*taken, text]) > MAX_ANSWER:
            break
        taken.append(text)
    return taken


def _one_a_peer(nodes: Iterable[Node]) -> list[Multiaddr]:
    """One address a peer, over TCP where it has one: every libp2p program speaks that."""
    chosen: dict[PeerId, Multiaddr] = {}
    for node in nodes:
        for address in node.entry.addresses():
            before = chosen.get(node.peer_id)
            if before is None or (before.transport != "tcp" and address.transport == "tcp"):
                chosen[node.peer_id] = address
    return list(chosen.values())
