"""A verdict from the words of servers that were asked to dial: who said what, and what the majority says.

`public` and `private` each take two servers of different parties and a majority of all parties heard. A
server's newer word replaces its older one, so one contrary answer lowers the confidence and changes nothing;
a second one from elsewhere does.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, TypeAlias

from wws.addresses.multiaddr import Multiaddr
from wws.nat.observed import Party

Verdict: TypeAlias = Literal["public", "private", "unknown"]
Source: TypeAlias = Literal["interface", "observed", "mapped", "configured"]


@dataclass(frozen=True, slots=True)
class AddressVerdict:
    """What is known of one address of ours."""

    address: Multiaddr
    verdict: Verdict
    source: Source
    confidence: int = 0
    """Servers that say so, less those that say otherwise; 0 to `max_confidence`."""


@dataclass(frozen=True, slots=True)
class JudgementConfig:
    agreement: int = 2
    """Parties that it takes for a verdict."""
    lifetime: float = 3600.0
    """Seconds that a server's word holds: longer than between two checks."""
    max_parties: int = 8
    """Parties whose word is kept; over it the oldest word goes."""
    max_confidence: int = 3
    """As confident as we get."""


class Judgement:
    """The words on one question, and the verdict that holds. Starts as `unknown`."""

    def __init__(self, config: JudgementConfig) -> None:
        self._config = config
        self._words: OrderedDict[Party, tuple[bool, float]] = OrderedDict()  # the oldest first
        self.verdict: Verdict = "unknown"

    def heard(self, party: Party, reached: bool, now: float) -> bool:
        """A server has dialled, or could not get through. Whether the verdict changes by it."""
        self._words.pop(party, None)
        self._words[party] = (reached, now)
        while len(self._words) > self._config.max_parties:
            self._words.popitem(last=False)
        for old in [one for one, (_, at) in self._words.items() if at + self._config.lifetime <= now]:
            del self._words[old]
        before = self.verdict
        yes, no = self._count()
        if yes >= self._config.agreement and yes > no:
            self.verdict = "public"
        elif no >= self._config.agreement and no > yes:
            self.verdict = "private"
        return self.verdict != before

    @property
    def confidence(self) -> int:
        """How many more say what the verdict is than say otherwise; 0 while there is none."""
        yes, no = self._count()
        margin = {"public": yes - no, "private": no - yes, "unknown": 0}[self.verdict]
        return max(0, min(margin, self._config.max_confidence))

    @property
    def is_disputed(self) -> bool:
        """Whether a word contradicts the verdict, or those without a verdict contradict each other."""
        yes, no = self._count()
        return {"public": no, "private": yes, "unknown": min(yes, no)}[self.verdict] > 0

    def _count(self) -> tuple[int, int]:
        yes = sum(reached for reached, _ in self._words.values())
        return yes, len(self._words) - yes
