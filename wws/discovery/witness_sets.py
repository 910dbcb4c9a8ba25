"""Who the witnesses of names are: W, and W′ for a while after a change (wire.md section 5).

    network with publishers      W: the peers of the last accepted bundle, also past its time; before the
                                 first one, the peers of the network file, which the same publishers signed
    network without              W: the peers of the network file
    ad hoc network               none

    a bundle with other peers ──► W′ = the set before ──(48 h from its signing)──► none

A bundle past its time still names the witnesses: with none at all, whoever dates his record back could take
any name, which is worse than to trust, a little longer, whom the publishers chose. The 48 hours count from
when the bundle was signed, which its number tells, not from when this node heard of it: who has slept
for a week must not believe for two days more those who were removed a week ago.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wws.codec.canonical import MAX_INTEGER, JsonObject, JsonValue
from wws.errors import ParseError
from wws.identity.peer_id import PeerId

if TYPE_CHECKING:
    from wws.discovery.bundle import Bundle
    from wws.discovery.network import Network

CHANGE_LASTS = 48 * 3600
"""Seconds after a change of the set during which a majority of the set before it counts too."""
MAX_WITNESSES = 16
"""As many as a bundle has entries."""

_NONE: frozenset[PeerId] = frozenset()


@dataclass(frozen=True, slots=True)
class WitnessesBefore:
    """The set that the last change replaced."""

    peers: frozenset[PeerId] = _NONE
    changed_at: int = 0
    """Unix time at which the bundle that replaced it was signed."""

    def after(self, last: Bundle | None, bundle: Bundle, unix_now: int) -> WitnessesBefore:
        """What holds when `bundle` follows `last`: a change of the peers makes the older set W′."""
        if last is None or last.peers == bundle.peers:
            return self
        return WitnessesBefore(last.peers, min(unix_now, bundle.seq))

    def in_force(self, unix_now: int) -> frozenset[PeerId]:
        """W′ now."""
        return self.peers if unix_now < self.changed_at + CHANGE_LASTS else _NONE

    def to_json(self) -> JsonObject:
        """As it stands in the state of a network."""
        peers: list[JsonValue] = [*sorted(map(str, self.peers))]
        return {"peers": peers, "changed_at": self.changed_at}

    @classmethod
    def from_json(cls, value: JsonValue) -> WitnessesBefore:
        """From the state of a network; what an older version wrote has none. Raises `ParseError`."""
        if value is None:
            return cls()
        peers = value.get("peers") if isinstance(value, dict) else None
        changed_at = value.get("changed_at") if isinstance(value, dict) else None
        if not isinstance(peers, list) or len(peers) > MAX_WITNESSES:
            raise ParseError("the witnesses before are not a short list")
        if not isinstance(changed_at, int) or isinstance(changed_at, bool):
            raise ParseError("the time of the change of witnesses is not a number")
        if not 0 <= changed_at <= MAX_INTEGER:
            raise ParseError("the time of the change of witnesses is no time")
        texts = [peer for peer in peers if isinstance(peer, str)]
        if len(texts) != len(peers):
            raise ParseError("a witness is not a text")
        return cls(frozenset(map(PeerId.parse, texts)), changed_at)


def witness_sets(
    network: Network, last: Bundle | None, before: WitnessesBefore, unix_now: int
) -> tuple[frozenset[PeerId], frozenset[PeerId]]:
    """W and W′ of `network` now; `last` is the bundle accepted last, where there are bundles."""
    if network.is_ad_hoc:
        return _NONE, _NONE
    if network.publishers and last is not None:
        return last.peers, before.in_force(unix_now)
    return frozenset(address.peer_id for address in network.peers if address.peer_id is not None), _NONE
