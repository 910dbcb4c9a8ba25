"""What peers see of us: the addresses in their identify answers, weighed before anything is believed.

A word counts when it was said on a connection that shows one of our listening sockets (a TCP dial from the
listening port, an inbound connection, the shared QUIC socket): only then is the address it names one that a
stranger could try. It has to be of that connection's transport and family (py-libp2p once announced addresses
of the wrong transport) and must not lie below the scope of the mesh.

Whoever observes may lie, and one liar can have many keys. So an address weighs as much as the number of
distinct *parties* that name it: an IPv4 /24 or IPv6 /56 in public scope, a PeerId below it, and each observer
belongs to one party. An observer's newer word replaces its older one, so a mapping that changes is followed
as soon as peers see it. Words live as long as their connection and a little longer, and those on closed
connections count only while too few are left to agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from wws.addresses.multiaddr import Multiaddr, Transport
from wws.addresses.scope import Scope, public_prefix_of_ip, scope_of_ip, unwrap
from wws.errors import ParseError
from wws.identity.peer_id import PeerId


class Way(NamedTuple):
    """A transport over a family of IP: NATs and firewalls treat each in its own manner."""

    transport: Transport
    version: int
    """4 or 6."""

    def __str__(self) -> str:
        return f"{self.transport}/ip{self.version}"


def way_of(address: Multiaddr) -> Way | None:
    """How an address is reached; `None` for a name, a circuit, or what is no address of a host."""
    if not address.is_ip or address.is_circuit or address.transport is None:
        return None
    try:
        return Way(address.transport, unwrap(address.host).version)
    except ParseError:
        return None


Party: TypeAlias = str


@lru_cache(maxsize=2048)
def party_of(peer: PeerId, ip: str) -> Party:
    """Whom a peer's word counts for: the prefix of its public address, below public scope itself."""
    try:
        return public_prefix_of_ip(ip) or str(peer)
    except ParseError:
        return str(peer)


@dataclass(frozen=True, slots=True)
class ObservedConfig:
    agreement: int = 2
    """Parties that have to name an address before it is believed."""
    linger: float = 4000.0
    """Seconds that a word is remembered after its connection has closed: what a NAT made of us once is a good
    guess at what it will make of us again. Longer than from one survey to the next."""
    max_observers: int = 256
    """Words remembered in total; over it the oldest of those who dialled us goes first, and of these the
    oldest whose connection has closed."""
    max_per_party: int = 8
    """Words remembered of one party; over it its oldest goes."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one peer said on one connection that it sees of us."""

    connection: int
    observer: PeerId
    observer_ip: str
    outbound: bool
    """Whether we dialled: such an address is a mapping of a NAT; else it is what the peer dialled."""
    local: Multiaddr
    """Our end of the connection; its transport is the connection's."""
    seen: Multiaddr

    @property
    def party(self) -> Party:
        return party_of(self.observer, self.observer_ip)


@dataclass(frozen=True, slots=True)
class External:
    """An address of ours as others see it."""

    address: Multiaddr
    weight: int
    """Distinct parties that name it."""
    seen_at: float
    """When it was last named."""
    is_live: bool
    """Whether on a connection that is open: so long a NAT keeps the mapping."""


_Key: TypeAlias = tuple[PeerId, Way, bool, int]


@dataclass(slots=True)
class _Word:
    observation: Observation
    way: Way
    party: Party
    at: float
    ended_at: float | None = None


class ObservedAddresses:
    """The words of all observers. Pure: `now` comes in, nothing is done."""

    def __init__(self, config: ObservedConfig | None = None) -> None:
        self._config = config or ObservedConfig()
        self._words: dict[_Key, _Word] = {}  # oldest first
        self.refusals: Counter[str] = Counter()
        """Words that were not believed, by reason."""

    def __len__(self) -> int:
        return len(self._words)

    def saw(
        self, observation: Observation, listening: Iterable[Multiaddr], scope: Scope | None, now: float
    ) -> bool:
        """A peer said what it sees. Whether that is remembered; if not, `refusals` counts why."""
        refusal = _refusal(observation, listening, scope)
        if refusal is not None:
            self.refusals[refusal] += 1
            return False
        seen = _unwrapped(observation.seen)
        way = way_of(seen)
        assert way is not None  # what is no such address was refused
        key = (observation.observer, way, observation.outbound, observation.local.port or 0)
        self._words.pop(key, None)
        party = observation.party
        self._make_room(party)
        kept = replace(observation, seen=seen)
        self._words[key] = _Word(kept, way, party, now)
        return True

    def closed(self, connection: int, now: float) -> None:
        """A connection is gone: what was said on it is forgotten in a while."""
        for word in self._words.values():
            if word.observation.connection == connection and word.ended_at is None:
                word.ended_at = now

    def forget_all(self) -> None:
        """The network of this machine has changed: nothing of what was seen holds any more."""
        self._words.clear()

    def expire(self, now: float) -> bool:
        """Forget what has lingered long enough; whether there was any."""
        old = [
            key
            for key, word in self._words.items()
            if word.ended_at is not None and word.ended_at + self._config.linger <= now
        ]
        for key in old:
            del self._words[key]
        return bool(old)

    def next_wakeup(self) -> float | None:
        """When `expire` is worth calling."""
        ended = [word.ended_at for word in self._words.values() if word.ended_at is not None]
        return min(ended) + self._config.linger if ended else None

    def ways(self) -> list[Way]:
        """Every way that somebody sees us by."""
        return list(dict.fromkeys(word.way for word in self._words.values()))

    def mappings(self, way: Way) -> tuple[Observation, ...]:
        """What shows how a NAT maps our listening socket: words of peers that we dialled from it.

        With several listening ports those of the port that most parties see. Only when none were dialled the
        words of those who dialled us.
        """
        words = [word for word in self._words.values() if word.way == way]
        for outbound in (True, False):
            by_port: dict[int, list[_Word]] = {}
            for word in words:
                if word.observation.outbound is outbound:
                    by_port.setdefault(word.observation.local.port or 0, []).append(word)
            if by_port:
                most = max(by_port.values(), key=lambda found: len({word.party for word in found}))
                return tuple(word.observation for word in self._current(most))
        return ()

    def external(self, scope: Scope | None, *, weight: int | None = None) -> tuple[External, ...]:
        """Addresses that at least `weight` parties name (`agreement`, unless given), the heaviest first, then
        those named last. None below `scope`."""
        wanted = self._config.agreement if weight is None else weight
        found: list[External] = []
        for way in self.ways():
            words = self._current([word for word in self._words.values() if word.way == way])
            by_address: dict[Multiaddr, list[_Word]] = {}
            for word in words:
                by_address.setdefault(word.observation.seen, []).append(word)
            found += [
                External(
                    address,
                    weight_of(word.observation for word in named),
                    named[-1].at,
                    any(word.ended_at is None for word in named),
                )
                for address, named in by_address.items()
                if scope is None or scope_of_ip(address.host) >= scope
            ]
        found = [external for external in found if external.weight >= wanted]
        return tuple(sorted(found, key=lambda external: (-external.weight, -external.seen_at)))

    def is_agreed(self, external: External) -> bool:
        """Whether enough parties name it to be believed."""
        return external.weight >= self._config.agreement

    def public_ips(self) -> frozenset[str]:
        """Our IPs of public scope that enough parties agree on, whatever ports they see: the greater part of
        all that speak of its family.

        Who shows such an IP is taken for a neighbour, and no more for a server that sees us from outside. So
        a few liars must not be able to name the IPs of others, those of all servers for instance.
        """
        by_ip: dict[str, list[Observation]] = {}
        by_version: dict[int, list[Observation]] = {}
        for way in self.ways():
            for word in self._current([word for word in self._words.values() if word.way == way]):
                by_ip.setdefault(word.observation.seen.host, []).append(word.observation)
                by_version.setdefault(way.version, []).append(word.observation)
        parties = {version: weight_of(said) for version, said in by_version.items()}
        return frozenset(
            ip
            for ip, said in by_ip.items()
            if scope_of_ip(ip) is Scope.PUBLIC
            and (weight := weight_of(said)) >= self._config.agreement
            and 2 * weight > parties[unwrap(ip).version]
        )

    def _current(self, words: Sequence[_Word]) -> list[_Word]:
        """The words on open connections; those on closed ones too while too few are left to agree."""
        live = [word for word in words if word.ended_at is None]
        return live if len({word.party for word in live}) >= self._config.agreement else list(words)

    def _make_room(self, party: Party) -> None:
        """For one more word of `party`. Whoever comes in numbers pushes out only his like: words of his own
        party first, and words of peers that dialled us before those of peers that we chose."""
        of_party = [key for key, word in self._words.items() if word.party == party]
        if len(of_party) >= self._config.max_per_party:
            del self._words[of_party[0]]
        if len(self._words) >= self._config.max_observers:
            del self._words[min(self._words, key=lambda key: self._worth(self._words[key]))]

    @staticmethod
    def _worth(word: _Word) -> tuple[bool, bool]:
        return word.observation.outbound, word.ended_at is None


def weight_of(observations: Iterable[Observation]) -> int:
    """How many distinct parties stand behind some words; an observer seen at two places counts for one."""
    parties: dict[PeerId, Party] = {}
    for observation in observations:
        parties.setdefault(observation.observer, observation.party)
    return len(set(parties.values()))


def _refusal(observation: Observation, listening: Iterable[Multiaddr], scope: Scope | None) -> str | None:
    """Why a word is not believed; `None` when it is."""
    seen, local = observation.seen, observation.local
    way = way_of(seen)
    if way is None or not seen.port or local.is_circuit:
        return "no_address"
    if seen.transport != local.transport:
        return "wrong_transport"
    try:
        if way.version != unwrap(observation.observer_ip).version:
            return "wrong_family"
        reach = scope_of_ip(seen.host)  # also without a scope: it has to be an address of a host
        if scope is not None and reach < scope:
            return "scope"
    except ParseError:
        return "no_address"
    if not _shows(local, listening):
        return "other_socket"
    return None


def _shows(local: Multiaddr, listening: Iterable[Multiaddr]) -> bool:
    sockets: Collection[tuple[str | None, int | None]] = {(own.transport, own.port) for own in listening}
    return (local.transport, local.port) in sockets


def _unwrapped(seen: Multiaddr) -> Multiaddr:
    """The same address as everybody writes it: `::ffff:203.0.113.7` is an IPv4 address."""
    assert seen.transport is not None
    return Multiaddr.of(str(unwrap(seen.host)), seen.port or 0, seen.transport)
