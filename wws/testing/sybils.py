"""Attackers of one key for the simulation: identities ground to stand beside it, and what they answer.

Every Sybil joins like an honest node, and then dials everybody there is: an attacker wants to be in every
routing table. A put it confirms and forgets. What it says to a look-up is its `Lie`.
"""

from __future__ import annotations

import enum
from dataclasses import replace

from wws.dht.messages import KadMessage, KadRecord, MessageType, WirePeer
from wws.identity.peer_id import PeerId
from wws.testing.simulated_node import SimulatedNode


class Lie(enum.Enum):
    """What a Sybil answers to a look-up."""

    NOTHING = "nothing"
    """No value, but the closer peers as an honest node has them."""
    CLIQUE = "clique"
    """No value, and nobody but the other Sybils."""
    OLD = "old"
    """The value that was true before the last change, and the other Sybils."""
    FORGED = "forged"
    """A value whose signature is wrong, and the other Sybils."""
    PHANTOMS = "phantoms"
    """No value, and a mass of peers still nearer to the key that do not exist."""
    SILENCE = "silence"
    """No answer at all, once it stands in the tables."""


class Sybil(SimulatedNode):
    """A node of an attacker. `lie`, `allies` and `old` are set by whoever makes it."""

    lie = Lie.NOTHING
    silent_from = float("inf")
    """When `Lie.SILENCE` begins."""
    allies: tuple[WirePeer, ...] = ()
    """Whom it names as closer peers."""
    old: bytes | None = None
    """The value that `Lie.OLD` shows, and whose last byte `Lie.FORGED` changes."""

    @property
    def named(self) -> WirePeer:
        """How the others name this one."""
        return WirePeer(self.peer_id, (self.place.address,))

    def serve(self, sender: PeerId, message: KadMessage) -> KadMessage | None:
        if self.lie is Lie.SILENCE and self._time.now >= self.silent_from:
            return None
        if message.type is MessageType.PUT_VALUE:
            return message
        answer = super().serve(sender, message)
        if answer is None:
            return None
        if self.lie is Lie.NOTHING or self.lie is Lie.SILENCE:
            return replace(answer, record=None)
        shown = self._shown(message) if message.type is MessageType.GET_VALUE else None
        return replace(answer, record=shown, closer_peers=self.named_as_closer())

    def named_as_closer(self) -> tuple[WirePeer, ...]:
        """Of many phantoms always others, so that there are more of them than one answer holds."""
        if self.lie is not Lie.PHANTOMS:
            return self.allies
        return tuple(self._rng.sample(self.allies, min(60, len(self.allies))))

    def _shown(self, message: KadMessage) -> KadRecord | None:
        if self.old is None or self.lie in (Lie.CLIQUE, Lie.PHANTOMS):
            return None
        if self.lie is Lie.OLD:
            return KadRecord(message.key, self.old)
        return KadRecord(message.key, self.old[:-1] + bytes([self.old[-1] ^ 1]))
