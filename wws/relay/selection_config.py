"""The bounds and the pace of the selection of relays."""

from __future__ import annotations

from dataclasses import dataclass, field

from wws.relay.reputation import ReputationConfig


@dataclass(frozen=True, slots=True)
class SelectionConfig:
    reservations: int = 2
    """Relays that are to hold a slot for us at once."""
    max_attempts: int = 4
    """Relays that are asked for a slot at once."""
    hedge_after: float = 1.0
    """Seconds after which the next candidate is asked beside one that has not answered yet."""
    probe_interval: float = 1.5
    """Seconds of silence of a relay that holds a slot, after which it is probed."""
    probe_timeout: float = 2.0
    """Seconds that it has to answer; more for one that is far away, up to twice as many."""
    stall: float = 0.5
    """Seconds by which a timer may be late; if it is later, we were away and not the relay: it is probed
    again."""
    renew_between: tuple[float, float] = (0.5, 0.66)
    """The part of a lease after which it is renewed, drawn evenly."""
    renew_retry: float = 30.0
    """Seconds to the next try when a renewal has failed, as long as the lease lasts."""
    max_lease: float = 3600.0
    """Seconds of a lease that we believe in, whatever the relay says."""
    min_lease: float = 10.0
    """Seconds below which a lease is none: the clocks differ, or the relay jokes."""
    release_grace: float = 30.0
    """Seconds for which reservations are kept when they are not wanted any more: verdicts waver."""
    seek_interval: tuple[float, float] = (5.0, 60.0)
    """Seconds between two requests for more candidates: the first, and the most after doubling."""
    worthwhile: float = 0.05
    """Seconds of round trip that another relay must gain us before we change to it when a lease is due."""
    replace_within: float = 5.0
    """Seconds for which a relay that is about to stop is announced while there is nobody for its place."""
    max_candidates: int = 64
    """Candidates known at once; further ones are left out, unless they are entry points."""
    reputation: ReputationConfig = field(default_factory=ReputationConfig)
