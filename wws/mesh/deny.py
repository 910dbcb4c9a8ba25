"""What an operator does not want to deal with: peers, networks and names, by a list of his own.

Unlike a ban it does not age and needs no offence. Names are in the DHT under hashes alone, so the list keeps
the keys of the names that it denies: a holder recognises them without ever seeing the name.

Where an entry is looked up costs the same for a list of any length: networks are kept by their length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TypeAlias

from wws.addresses.scope import unwrap
from wws.errors import ParseError
from wws.identity.peer_id import PeerId

NameKey: TypeAlias = Callable[[str, str], str]
"""From a name and its swarm to its key in the DHT (`wws.names.record.name_key`)."""
_PUBLIC = "public"


@dataclass(frozen=True, slots=True)
class DenyList:
    """A parsed list."""

    peers: frozenset[PeerId] = frozenset()
    prefixes: tuple[IPv4Network | IPv6Network, ...] = ()
    names: frozenset[tuple[str, str]] = frozenset()
    """Names, each with its swarm."""
    keys: frozenset[str] = frozenset()
    """The keys of the names."""
    _networks: dict[tuple[int, int], frozenset[int]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def parse(
        cls, peers: Iterable[str], prefixes: Iterable[str], names: Iterable[str], name_key: NameKey
    ) -> DenyList:
        """From the text of the settings. Raises `ParseError`, naming the entry that is none."""
        networks = tuple(dict.fromkeys(map(parse_prefix, prefixes)))
        pairs = frozenset(map(parse_denied_name, names))
        by_length: dict[tuple[int, int], set[int]] = {}
        for network in networks:
            bits = network.max_prefixlen - network.prefixlen
            number = int(network.network_address) >> bits
            by_length.setdefault((network.version, bits), set()).add(number)
        return cls(
            frozenset(map(parse_peer, peers)),
            networks,
            pairs,
            frozenset(name_key(name, swarm) for name, swarm in pairs),
            {length: frozenset(numbers) for length, numbers in by_length.items()},
        )

    def __bool__(self) -> bool:
        return bool(self.peers or self.prefixes or self.names)

    def denies_peer(self, peer: PeerId) -> bool:
        """Whether no connection is had with this peer."""
        return peer in self.peers

    def denies_ip(self, ip: str) -> bool:
        """Whether no connection is had with this address. What is no address is not denied."""
        if not self._networks:
            return False
        try:
            address = unwrap(ip)
        except ParseError:
            return False
        number = int(address)
        return any(
            version == address.version and number >> bits in networks
            for (version, bits), networks in self._networks.items()
        )

    def denies_name(self, name_or_key: str) -> bool:
        """Whether a name is neither stored, served, witnessed nor resolved. By its key in the DHT, or as
        text: `name` in the public swarm, `name@swarm` in another."""
        if name_or_key in self.keys:
            return True
        name, _, swarm = name_or_key.partition("@")
        return (name, swarm or _PUBLIC) in self.names


NOTHING = DenyList()
"""Denies nobody."""


def parse_peer(text: str) -> PeerId:
    """A PeerId. Raises `ParseError`."""
    try:
        return PeerId.parse(text)
    except ParseError:
        raise ParseError(f"{text[:80]!r} is not a PeerId") from None


def parse_prefix(text: str) -> IPv4Network | IPv6Network:
    """A network in CIDR notation, or one address. Raises `ParseError`, also when bits behind the mask are
    set: who writes `203.0.113.7/24` means either."""
    try:
        network = ip_network(text)
    except ValueError as error:
        raise ParseError(f"{str(error)[:160]}") from None
    if network.prefixlen == 0:
        raise ParseError(f"{text} is everybody: stop the node instead")
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ParseError(f"{text}: write it as IPv4")
    return network


def parse_denied_name(text: str) -> tuple[str, str]:
    """`name`, `name@swarm`, or either behind `wws:`; with its swarm. Raises `ParseError`.

    Lower case is meant whatever is typed; what a name may look like is checked where names are known.
    """
    name, at, swarm = text.removeprefix("wws:").lower().partition("@")
    if not name or (at and not swarm):
        raise ParseError(f"{text[:80]!r} is neither a name nor name@swarm")
    return name, swarm or _PUBLIC
