"""Is our clock right? Peers tell theirs in identify, and most of them agree (contract section 2, "join").

Leases and signatures live by Unix time, so a clock that is minutes off makes records look expired or not yet
valid, and the reason would be hard to guess. The median over peers decides, so one liar changes nothing.
"""

from __future__ import annotations

import statistics
from collections import OrderedDict

from wws.identity.peer_id import PeerId

TOLERANCE = 60
"""Seconds of difference that are not worth a word."""
MAX_PEERS = 64
"""Peers whose clocks are remembered, those heard last."""


class ClockCheck:
    """Compares our clock with those of the peers."""

    def __init__(self) -> None:
        self._ahead: OrderedDict[PeerId, int] = OrderedDict()

    def heard(self, peer: PeerId, theirs: int, ours: int) -> None:
        """A peer's clock showed `theirs` when ours showed `ours`, Unix seconds both."""
        self._ahead.pop(peer, None)
        self._ahead[peer] = ours - theirs
        while len(self._ahead) > MAX_PEERS:
            self._ahead.popitem(last=False)

    @property
    def skew(self) -> float | None:
        """By how many seconds our clock is ahead of the peers' median; `None` before one was heard."""
        return statistics.median(self._ahead.values()) if self._ahead else None

    @property
    def is_off(self) -> bool:
        """Whether our clock is the odd one out."""
        skew = self.skew
        return skew is not None and abs(skew) > TOLERANCE
