"""Getting a value: ask the holders, compare what they show, and bring those with less up to the winner."""

from __future__ import annotations

from collections.abc import Sequence

from wws.dht import lookup as lookups
from wws.dht.events import GetDone
from wws.dht.lookup import Lookup
from wws.dht.messages import KadMessage, KadRecord, MessageType
from wws.dht.operations import Operation, OperationConfig, Purpose, Step
from wws.dht.store import RecordKind
from wws.errors import ParseError
from wws.identity.peer_id import PeerId


class Judge:
    """One key's rules, with what was judged already: twenty holders return the same bytes."""

    def __init__(self, kind: RecordKind, key: str, max_value_bytes: int) -> None:
        self.key = key
        self._kind = kind
        self._max_value_bytes = max_value_bytes
        self._valid: dict[bytes, bool] = {}
        """Bounded by the number of peers that one look-up asks: each shows one value."""

    def accepts(self, value: bytes, unix_now: int) -> bool:
        """Whether the value may stand under the key now."""
        known = self._valid.get(value)
        if known is not None:
            return known
        if len(value) > self._max_value_bytes:
            return False
        try:
            self._kind.validate(self.key, value, unix_now)
        except ParseError:
            self._valid[value] = False
        else:
            self._valid[value] = self._kind.keep_until(self.key, value) > unix_now
        return self._valid[value]

    def best(self, values: Sequence[bytes], unix_now: int) -> bytes:
        """The winner among accepted values."""
        if len(values) == 1:
            return values[0]
        return values[self._kind.select(self.key, values, unix_now)]


class GetOperation(Operation):
    """Finds the winning value of a key, and brings holders of less up to it (entry correction).

    Ends when `enough_values` holders have shown one and the same value and one round trip more has passed
    for the rest (wire.md section 4), or when the look-up ends. Holders that disagree are all waited for:
    only the whole neighbourhood says which value wins.
    """

    def __init__(
        self,
        op: int | None,
        key: bytes,
        lookup: Lookup,
        config: OperationConfig,
        judge: Judge,
        own_value: bytes | None,
        round_trip: float,
        *,
        widely: bool = True,
    ) -> None:
        super().__init__(op, key, lookup, config)
        self._judge = judge
        self._question = KadMessage(MessageType.GET_VALUE, key)
        self._round_trip = round_trip
        self._returned: dict[PeerId, bytes | None] = {}
        """What each peer that answered has: the value, or `None`."""
        self._values: dict[bytes, int] = {}
        """How many holders have each valid value, this node included."""
        self._corrected: set[PeerId] = set()
        self._early_at: float | None = None
        self._widened = not widely
        self.invalid = 0
        """Answers with a value that is not valid."""
        self.winner: bytes | None = None
        """The winning value, from the report on; late answers may still change it."""
        if own_value is not None:
            self._values[own_value] = 1

    def question(self) -> KadMessage:
        return self._question

    def next_wakeup(self) -> float | None:
        inner = self.lookup.next_wakeup()
        if self._early_at is None or self.reported:
            return inner
        return self._early_at if inner is None else min(inner, self._early_at)

    def learned(self, peer: PeerId, message: KadMessage, now: float, unix_now: int) -> list[Step]:
        value = message.record.value if message.record is not None else None
        if value is not None and not self._judge.accepts(value, unix_now):
            self.invalid += 1
            value = None
        self._returned[peer] = value
        if value is not None:
            self._count(value, unix_now)
        if self.reported:
            return self._correct(unix_now)
        if not self._values and self.lookup.answered + 1 >= self.config.k:
            return self._widen(now, unix_now)
        if self._early_at is None and self._enough_shown():
            self._early_at = now + self._round_trip
        return []

    def arrived(self, now: float, unix_now: int) -> list[Step]:
        if self.reported:
            return self._correct(unix_now)
        if not self._values and not self._widened:
            return self._widen(now, unix_now)
        self.complete = True
        return self._report(unix_now)

    def tick(self, now: float, unix_now: int) -> list[Step]:
        if self.reported or self._early_at is None or now < self._early_at:
            return []
        if len(self._values) != 1 or not self._enough_shown():
            self._early_at = None
            return []
        # Stopped, not dropped: those asked may answer yet, and are corrected then.
        self._drive(lookups.Stop(), now, unix_now)
        return self._report(unix_now)

    def _count(self, value: bytes, unix_now: int) -> None:
        """One more holder has `value`. However many values liars make up, the winner stays among them."""
        if value not in self._values and len(self._values) >= self.config.max_values:
            winner = self._judge.best(list(self._values), unix_now)
            if self._judge.best([winner, value], unix_now) == winner:
                return
            del self._values[next(known for known in self._values if known != winner)]
        self._values[value] = self._values.get(value, 0) + 1

    def _enough_shown(self) -> bool:
        """Whether enough of those who should hold the value have shown one, at different prefixes. One from
        farther away, like our own store, may be left over from before the network grew together: it is
        compared, and no more. Where a crowd stands beside the key, only the whole region is enough."""
        shown = [peer for peer, value in self._returned.items() if value is not None]
        if len(shown) < self.config.enough_values or self.lookup.is_dense:
            return False
        near = [peer for peer in shown if self.lookup.belongs(peer)]
        return self.lookup.diversity(near) >= self.config.enough_values

    def _widen(self, now: float, unix_now: int) -> list[Step]:
        if self._widened:
            return []
        self._widened = True
        return self._drive(lookups.Widen(self.config.widen_to), now, unix_now)

    def _report(self, unix_now: int) -> list[Step]:
        self.reported = True
        steps: list[Step] = []
        winner = self._best(unix_now)
        if self.op is not None:
            holders = self._values.get(winner, 0) if winner is not None else 0
            answers = sum(self._values.values())
            steps.append(GetDone(self.op, self._judge.key, winner, answers, holders, len(self._returned)))
        return steps + self._correct(unix_now)

    def _best(self, unix_now: int) -> bytes | None:
        self.winner = self._judge.best(list(self._values), unix_now) if self._values else None
        return self.winner

    def _correct(self, unix_now: int) -> list[Step]:
        winner = self._best(unix_now)
        if winner is None:
            return []
        steps: list[Step] = []
        message = KadMessage(MessageType.PUT_VALUE, self.key, KadRecord(self.key, winner))
        for peer, value in sorted(self._returned.items(), key=lambda item: item[1] is None):
            if value == winner or peer in self._corrected:
                continue
            if len(self._corrected) >= self.config.max_corrections:
                break
            # Who holds another value gets the winner wherever it stands; who holds none, if it should.
            if value is None and not self.lookup.belongs(peer):
                continue
            self._corrected.add(peer)
            steps.append(self.send(peer, message, Purpose.CORRECT))
        return steps
