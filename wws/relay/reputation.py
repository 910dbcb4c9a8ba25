"""What relays have done to us: who fails rests for a while, and longer each time, and comes after the others.

It outlives the connection with a relay: else whoever refuses us, or lies, would be asked again at once by
coming back.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from dataclasses import dataclass

from wws.identity.peer_id import PeerId
from wws.relay.selection_events import Failure

DISTRUSTED = frozenset({Failure.MALFORMED, Failure.VOUCHER})
"""Failures of a relay that lies or makes no sense."""
_REFUSALS = frozenset({Failure.REFUSED, Failure.RESOURCE_LIMIT, Failure.LEASE, Failure.NO_ADDRESS})


@dataclass(frozen=True, slots=True)
class ReputationConfig:
    retry_soon: float = 5.0
    """Seconds that a relay rests when it did not answer; doubled each time."""
    retry_refused: float = 60.0
    """The same for one that had no room."""
    retry_denied: float = 600.0
    """The same for one that says we may not."""
    retry_distrusted: float = 86_400.0
    """The same for one that lies or makes no sense."""
    max_rest: float = 3600.0
    """Longest rest but for those that lie."""
    max_remembered: int = 256
    """Relays whose past is remembered; the one that was troublesome longest ago is forgotten first."""


@dataclass(slots=True)
class _Past:
    failures: int = 0
    rest_until: float = 0.0


class Reputation:
    """The past of all relays that were troublesome."""

    def __init__(self, config: ReputationConfig, rng: random.Random) -> None:
        self._config = config
        self._rng = rng
        self._past: OrderedDict[PeerId, _Past] = OrderedDict()

    def __len__(self) -> int:
        return len(self._past)

    def failed(self, relay: PeerId, reason: Failure, now: float) -> None:
        """A relay rests for as long as the reason asks for."""
        config, past = self._config, self._past_of(relay)
        if reason in DISTRUSTED:
            rest = config.retry_distrusted
        else:
            rest = config.retry_soon
            if reason in _REFUSALS:
                rest = config.retry_refused
            elif reason is Failure.PERMISSION_DENIED:
                rest = config.retry_denied
            rest = min(rest * 2 ** min(past.failures, 16), config.max_rest)
        past.failures += 1
        past.rest_until = now + rest * self._rng.uniform(0.75, 1.25)

    def disappointed(self, relay: PeerId) -> None:
        """A relay was slow, or left: it need not rest, but others are asked first next time."""
        self._past_of(relay).failures += 1

    def redeemed(self, relay: PeerId) -> None:
        """A relay has lasted: old troubles are over."""
        self._past.pop(relay, None)

    def is_troubled(self, relay: PeerId) -> bool:
        """Whether others come before it."""
        past = self._past.get(relay)
        return past is not None and past.failures > 0

    def rest_until(self, relay: PeerId) -> float:
        """When it may be asked again; 0 for one that need not rest."""
        past = self._past.get(relay)
        return 0.0 if past is None else past.rest_until

    def _past_of(self, relay: PeerId) -> _Past:
        past = self._past.setdefault(relay, _Past())
        self._past.move_to_end(relay)
        if len(self._past) > self._config.max_remembered:
            self._past.popitem(last=False)
        return past
