"""Owners who signed two different records under one sequence number: found, and both kept as proof.

An honest owner never does: `seq` rises with each record that it signs (wire.md section 4, "equivocation").
Either somebody shows different people different things, or one key is used on two machines. Whoever holds
both records can show them to anybody; nothing else has to be believed.

Every valid record that this node sees, stored, looked up or compared, passes `saw`; the two of a pair need
not come together. The proofs are bounded by owner and in total, the oldest go first: who floods us with pairs
of its own pushes out its own first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

from wws.codec.canonical import JsonObject, JsonValue
from wws.errors import ParseError
from wws.identity.peer_id import PeerId
from wws.names.errors import RecordRefused
from wws.names.record import NameRecord
from wws.names.select import is_equivocation
from wws.names.signed import Members
from wws.names.state import StateUnreadable, state_list, state_object

SCHEMA = 1
_MEMBERS = frozenset({"found_at", "records"})
_Issue: TypeAlias = tuple[str, str, PeerId, int]
"""Swarm, name, owner, sequence number."""


@dataclass(frozen=True, slots=True)
class EquivocationsConfig:
    """Bounds of what is remembered and kept."""

    most: int = 128
    """Proofs kept. Each is two records of up to 8 KiB."""
    most_per_owner: int = 4
    """Proofs kept of one owner: the first is enough to know it by."""
    remembered: int = 1_024
    """Records remembered so that the other of a pair is noticed later; the one not seen for longest goes."""


@dataclass(frozen=True, slots=True)
class Equivocation:
    """Two valid records of one owner, name and sequence number with different bytes."""

    name: str
    swarm: str
    peer_id: PeerId
    seq: int
    found_at: int
    """Unix time."""
    records: tuple[bytes, bytes]
    """Both, the one with the lower bytes first: the proof is the same whoever finds it."""


class Equivocations:
    """The proofs of one node. `revision` grows with every change, so that the driver knows when to save."""

    def __init__(self, config: EquivocationsConfig | None = None) -> None:
        self._config = config or EquivocationsConfig()
        self._proofs: OrderedDict[_Issue, Equivocation] = OrderedDict()
        self._seen: OrderedDict[_Issue, bytes] = OrderedDict()
        self.revision = 0
        self.on_found: Callable[[Equivocation], None] | None = None
        """Told once of each new proof."""

    def __len__(self) -> int:
        return len(self._proofs)

    def saw(self, record: NameRecord, unix_now: int) -> None:
        """A valid record came by."""
        issue = _issue(record)
        known = self._seen.get(issue)
        if known is None:
            self._seen[issue] = record.value
            if len(self._seen) > self._config.remembered:
                self._seen.popitem(last=False)
            return
        self._seen.move_to_end(issue)
        if known != record.value:
            self._keep(issue, known, record.value, unix_now)

    def compared(self, records: Sequence[NameRecord], unix_now: int) -> None:
        """Valid records of one name stand side by side, some of them perhaps forgotten by now."""
        if len(records) < 2:
            return
        for one, other in combinations(records, 2):
            if is_equivocation(one, other):
                self._keep(_issue(one), one.value, other.value, unix_now)

    def concerns(self, name: str, swarm: str, owner: PeerId) -> bool:
        """Whether there is a proof against this owner of this name."""
        return any(proof.name == name and proof.swarm == swarm for proof in self.of(owner))

    def of(self, owner: PeerId) -> list[Equivocation]:
        """The proofs against one owner, oldest first."""
        return [proof for proof in self._proofs.values() if proof.peer_id == owner]

    def all(self) -> list[Equivocation]:
        """The proofs, oldest first."""
        return list(self._proofs.values())

    def to_json(self) -> JsonObject:
        """As they stand in `equivocations.json`: when, and the two records as they were signed."""
        proofs: list[JsonValue] = [
            {"found_at": proof.found_at, "records": [value.decode() for value in proof.records]}
            for proof in self._proofs.values()
        ]
        return {"schema": SCHEMA, "equivocations": proofs}

    def load(self, value: JsonValue) -> int:
        """Take in what `to_json` wrote; how many entries were no proof and left out.

        A file may have been changed by anybody, so each pair is proven again. Raises `StateUnreadable`.
        """
        known = frozenset({"schema", "equivocations"})
        state = state_object("the file of equivocations", value, SCHEMA, known)
        skipped = 0
        most = 2 * self._config.most  # a bound that was lowered must not make the old file unreadable
        for entry in state_list("the list of equivocations", state.get("equivocations"), most):
            try:
                proof = _parse(entry)
            except (StateUnreadable, RecordRefused, ParseError):
                skipped += 1
            else:
                self._add(proof)
        return skipped

    def _keep(self, issue: _Issue, one: bytes, other: bytes, unix_now: int) -> None:
        if issue in self._proofs:
            return
        proof = _proof(issue, one, other, unix_now)
        self._add(proof)
        self.revision += 1
        if self.on_found is not None:
            self.on_found(proof)

    def _add(self, proof: Equivocation) -> None:
        issue = (proof.swarm, proof.name, proof.peer_id, proof.seq)
        of_owner = [known for known in self._proofs if known[2] == proof.peer_id]
        if len(of_owner) >= self._config.most_per_owner:
            # The first one stays, as it is known longest; of the rest the oldest goes.
            del self._proofs[of_owner[min(1, len(of_owner) - 1)]]
        elif len(self._proofs) >= self._config.most:
            self._proofs.popitem(last=False)
        self._proofs[issue] = proof


def _issue(record: NameRecord) -> _Issue:
    return (record.swarm, record.name, record.peer_id, record.seq)


def _proof(issue: _Issue, one: bytes, other: bytes, found_at: int) -> Equivocation:
    swarm, name, owner, seq = issue
    low, high = sorted((one, other))
    return Equivocation(name, swarm, owner, seq, found_at, (low, high))


def _parse(entry: JsonValue) -> Equivocation:
    if not isinstance(entry, dict):
        raise StateUnreadable("an equivocation is not a JSON object")
    known = {key: member for key, member in entry.items() if key in _MEMBERS}
    members = Members("an equivocation", known, required=_MEMBERS)
    found_at = members.integer("found_at")
    texts = members.items("records")
    # A file may hold what no text is; the parser refuses the bytes.
    values = [text.encode("utf-8", "surrogatepass") for text in texts if isinstance(text, str)]
    if len(values) != 2:
        raise StateUnreadable("an equivocation has other than two records")
    one, other = (NameRecord.parse(value) for value in values)
    if not is_equivocation(one, other):
        raise StateUnreadable("two records that are no equivocation")
    return _proof(_issue(one), one.value, other.value, found_at)
