"""What a look-up knows of each peer that it may ask: how far, where, who named it, and how it stands."""

from __future__ import annotations

from enum import Enum, auto
from functools import lru_cache

from wws.addresses.multiaddr import Multiaddr
from wws.dht.messages import WirePeer
from wws.dht.positions import public_prefix_of
from wws.identity.peer_id import PeerId


class Standing(Enum):
    HEARD = auto()
    ASKED = auto()
    SLOW = auto()
    LATE = auto()
    ANSWERED = auto()
    FAILED = auto()


class Candidate:
    __slots__ = (
        "addresses",
        "distance",
        "given_up_at",
        "late_at",
        "namers",
        "path",
        "paths",
        "peer",
        "prefixes",
        "standing",
    )

    def __init__(self, named: WirePeer, distance: int, paths: int) -> None:
        self.peer = named.peer_id
        self.distance = distance
        self.addresses = named.addresses
        self.prefixes = prefixes_of(named.addresses)
        self.standing = Standing.HEARD
        self.paths = paths
        """The paths that heard of this peer, a bit each."""
        self.path = 0
        """The path that asked it, as its bit: what it answers belongs there."""
        self.late_at = 0.0
        self.given_up_at = 0.0
        self.namers: list[PeerId] | None = None
        """Who told us of it; `None`: we knew it."""


class Hearsay:
    """How far peers are believed in what they name: whoever names peers that do not answer, less and less.

    `believed` peers without an answer are put down to whoever named them; each that answers makes up for two.
    Those named by somebody else as well, or known to ourselves, are believed on that account.
    """

    def __init__(self, believed: int) -> None:
        self._believed = believed
        self._owing: dict[PeerId, int] = {}
        self.doubts = False
        """Whether anybody was not believed yet."""

    def missed(self, candidate: Candidate) -> None:
        """It failed, or is slow: that is put down to those who named it."""
        self._charge(candidate, 1)

    def answered(self, candidate: Candidate) -> None:
        """It answered, so it exists; what was put down while it was slow is taken back."""
        self._charge(candidate, -2 if candidate.standing is Standing.ASKED else -3)

    def believes(self, candidate: Candidate) -> bool:
        """Whether anybody who named it is still believed."""
        if candidate.namers is None:
            return True
        return any(self._owing.get(namer, 0) < self._believed for namer in candidate.namers)

    def _charge(self, candidate: Candidate, change: int) -> None:
        for namer in candidate.namers or ():
            owing = self._owing[namer] = self._owing.get(namer, 0) + change
            if owing >= self._believed:
                self.doubts = True


@lru_cache(maxsize=2_048)  # a hostile entry holds sixteen long addresses, 7 kB
def prefixes_of(addresses: tuple[Multiaddr, ...]) -> tuple[str, ...]:
    """The public prefixes that a peer counts for."""
    # Any of its addresses may be the real one, so a peer counts for each prefix that it names.
    found = {public_prefix_of(address) for address in addresses}
    found.discard(None)
    return tuple(sorted(prefix for prefix in found if prefix is not None))
