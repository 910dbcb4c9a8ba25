"""What the DHT must know about our two kinds of records: the validators and selectors under `/wws/`.

Both have the form of `RecordKind` in `wws.dht`. A record is parsed and its signatures are checked once; the
outcome is remembered by the SHA-256 of the value, because the same value comes back from every holder, with
every put, republish and look-up. Refusals are not remembered: each costs its sender a connection, and must
not push out what is good.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from wws.identity.peer_id import PeerId
from wws.names.equivocation import Equivocations
from wws.names.peer_record import PEER_PREFIX, PeerRecord, check_peer_at, select_peer
from wws.names.receipts import is_witnessed
from wws.names.record import KEPT_AFTER_EXPIRY, NAME_PREFIX, NameRecord, check_at
from wws.names.select import NO_WITNESSES, select

WitnessSets: TypeAlias = tuple[frozenset[PeerId], frozenset[PeerId]]
"""W and W′: the witnesses, and those before the last change while they still count (wire.md section 5)."""
Witnesses: TypeAlias = Callable[[], WitnessSets]
"""W and W′ of the moment."""

RecordT = TypeVar("RecordT")


@dataclass(frozen=True, slots=True)
class KindsConfig:
    """Bounds of a kind of records."""

    remembered: int = 1_024
    """Parsed records kept for the next time their bytes come by; the least recently used goes first."""


class ParsedRecords(Generic[RecordT]):
    """A bounded memory of parsed records by the SHA-256 of their bytes."""

    def __init__(self, parse: Callable[[bytes], RecordT], limit: int) -> None:
        self._parse = parse
        self._limit = limit
        self._records: OrderedDict[bytes, RecordT] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def parse(self, value: bytes) -> RecordT:
        """The record in `value`, from memory or parsed anew. Raises what the parser raises."""
        digest = hashlib.sha256(value).digest()
        record = self._records.get(digest)
        if record is not None:
            self._records.move_to_end(digest)
            return record
        record = self._parse(value)
        self._records[digest] = record
        if len(self._records) > self._limit:
            self._records.popitem(last=False)
        return record


class NameRecords:
    """Name records, `/wws/names/…`. `witnesses` is asked anew at each Select, because bundles change."""

    prefix = NAME_PREFIX

    def __init__(
        self,
        witnesses: Witnesses | None = None,
        config: KindsConfig | None = None,
        equivocations: Equivocations | None = None,
    ) -> None:
        """Without `witnesses` there are none, as in a network known by `--bootstrap` alone. `equivocations`
        is shown every valid record, and keeps the proofs that two of them make."""
        self.equivocations = Equivocations() if equivocations is None else equivocations
        self._witnesses = witnesses
        self._parsed = ParsedRecords(NameRecord.parse, (config or KindsConfig()).remembered)

    def read(self, key: str, value: bytes, unix_now: int) -> NameRecord:
        """The valid record in `value`, or the `RecordRefused` that says why it is none."""
        record = self._parsed.parse(value)
        check_at(record, key, unix_now)
        self.equivocations.saw(record, unix_now)
        return record

    def winner(self, records: Sequence[NameRecord], unix_now: int) -> int:
        """The index of the record that holds, by the witnesses of this moment."""
        self.equivocations.compared(records, unix_now)
        return select(records, unix_now, *self.witness_sets)

    def is_witnessed(self, record: NameRecord) -> bool:
        """Whether a majority of witnesses covers the record, by the witnesses of this moment."""
        return is_witnessed(record, *self.witness_sets)

    def validate(self, key: str, value: bytes, unix_now: int) -> None:
        """Raises `RecordRefused` unless `value` is a valid name record for `key`."""
        self.read(key, value, unix_now)

    def select(self, key: str, values: Sequence[bytes], unix_now: int) -> int:
        """The index of the winner among values that `validate` has accepted."""
        return self.winner([self._parsed.parse(value) for value in values], unix_now)

    def keep_until(self, key: str, value: bytes) -> int:
        """Unix time after which holders drop the value: when the name is free for everybody."""
        return self._parsed.parse(value).expires_at + KEPT_AFTER_EXPIRY

    def publisher(self, key: str, value: bytes) -> PeerId:
        """Whose share of a holder's room the value takes."""
        return self._parsed.parse(value).peer_id

    @property
    def witness_sets(self) -> WitnessSets:
        return self._witnesses() if self._witnesses is not None else (NO_WITNESSES, NO_WITNESSES)


class PeerRecords:
    """Peer records, `/wws/peers/…`."""

    prefix = PEER_PREFIX

    def __init__(self, config: KindsConfig | None = None) -> None:
        self._parsed = ParsedRecords(PeerRecord.parse, (config or KindsConfig()).remembered)

    def read(self, key: str, value: bytes, unix_now: int) -> PeerRecord:
        """The valid record in `value`, or the `RecordRefused` that says why it is none."""
        record = self._parsed.parse(value)
        check_peer_at(record, key, unix_now)
        return record

    def validate(self, key: str, value: bytes, unix_now: int) -> None:
        """Raises `RecordRefused` unless `value` is a valid peer record for `key`."""
        self.read(key, value, unix_now)

    def select(self, key: str, values: Sequence[bytes], unix_now: int) -> int:
        """The index of the winner among values that `validate` has accepted."""
        return select_peer([self._parsed.parse(value) for value in values])

    def keep_until(self, key: str, value: bytes) -> int:
        """Unix time after which holders drop the value."""
        return self._parsed.parse(value).keep_until

    def publisher(self, key: str, value: bytes) -> PeerId:
        """Whose share of a holder's room the value takes."""
        return self._parsed.parse(value).peer_id
