"""The book of a witness: who holds which name, and what an owner who asks is told (wire.md section 5).

                       claim                 renew with a majority of receipts
        (no entry) ───────────► PROVISIONAL ──────────────────────────────────► FULL ──► transfer: same lease,
            ▲  ▲     10 minutes      │                                           │  ▲      another owner
            │  └── drop, expired ────┘                                           │  └─ renew, claim again
            │                                                                    │
            ├──────── renew with full receipts of a majority (disk lost) ───────►│
            └──────────────────── last expires_at + 87,000 s ────────────────────┘

Pure: every answer is a receipt that is signed here, but not given yet. The caller makes `Decision.changes`
durable, then lets the answer out; when that fails it calls `undo`, latest decision first.

What holds whatever is asked in whatever order: no two owners have full receipts of ours that overlap, except
by a transfer (`via`) or a take-over that the log shows. Therefore dropping a *full* entry does not free it
for others before its receipts have lapsed, no table that is full ever pushes a live entry out, and a clock
that is a day off frees nothing that is live (see also `wws.names.witness.steady`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from wws.identity import proof_of_work
from wws.identity.keys import Identity
from wws.identity.proof_of_work import LEAST_BITS, bits_for
from wws.names.kinds import Witnesses
from wws.names.receipts import Receipt
from wws.names.record import work_context
from wws.names.rules import CLOCK_TOLERANCE, MAX_LEASE
from wws.names.transfers import Transfer
from wws.names.uri import PUBLIC_SWARM
from wws.names.witness.budget import Budget, BudgetConfig, Turns
from wws.names.witness.chains import leads_to, links_known, links_up_to
from wws.names.witness.decision import Changes, Decision
from wws.names.witness.entry import Caller, Counted, Entry, EntryChange, Key
from wws.names.witness.log import Kind, LogEntry
from wws.names.witness.messages import Dropped, Op, Why, WitnessAnswer, WitnessRefusal, WitnessRequest
from wws.names.witness.proofs import TakeOver, first_claim, take_over
from wws.names.witness.recent import RecentConfig, RecentReceipts
from wws.names.witness.steady import SteadyClock

PROVISIONAL_FOR = 600
"""Seconds that a first claim holds a name (wire.md section 5)."""
_BEYOND = 2 * MAX_LEASE
"""Seconds into the future: a lease that begins later was given under a clock that was far ahead. No record
can use its receipts now, and they overlap with nothing that is given before its time comes."""


@dataclass(frozen=True, slots=True)
class BookConfig:
    """Bounds of what a witness holds."""

    max_entries: int = 50_000
    """Names held, first claims included. When they are that many, new names are refused."""
    max_provisional: int = 5_000
    """First claims among them: they prove little, and must not take the room of names."""
    settled_within: int = 60
    """Seconds in which an honest first claim becomes full or is dropped. When there is no room for another,
    the one that has sat there for longest goes after these: it was no promise, and counts for nothing."""
    sweep_interval: float = 30.0
    """Seconds between two searches for room when there is none."""
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    recent: RecentConfig = field(default_factory=RecentConfig)


@dataclass(frozen=True, slots=True)
class _Question:
    request: WitnessRequest
    caller: Caller
    now: float
    unix_now: int
    changes: Changes

    @property
    def key(self) -> Key:
        return (self.request.swarm, self.request.name)


class WitnessBook:
    """Everything one witness knows. `witnesses` are W and W′ now; `swarm_size` is an estimate; `is_denied` is
    asked for `name` in the public swarm, `name@swarm` in another."""

    def __init__(
        self,
        identity: Identity,
        witnesses: Witnesses,
        swarm_size: Callable[[], int],
        is_denied: Callable[[str], bool],
        config: BookConfig | None = None,
    ) -> None:
        self._identity = identity
        self._witnesses = witnesses
        self._swarm_size = swarm_size
        self._is_denied = is_denied
        self._config = config or BookConfig()
        self._entries: dict[Key, Entry] = {}
        self._provisional: dict[Key, None] = {}
        """First claims, in the order in which they came."""
        self._wanted: set[Key] = set()
        """First claims that have kept others from the name."""
        self._recent = RecentReceipts(self._config.recent)
        self._budget = Budget(self._config.budget)
        self._turns = Turns(self._config.budget.max_turns)
        self._steady = SteadyClock()
        self._swept_at: float | None = None
        self._claims_from = 0

    def restore(self, entries: Iterable[Entry], counted: Iterable[Counted], *, claims_from: int = 0) -> None:
        """Begin with what was on disk. More than the limits allow is kept: leases are promises.

        Before `claims_from` there are no first claims: who lost what it had promised waits until it is over.
        """
        self._claims_from = claims_from
        for entry in entries:
            self._put(entry.key, entry)
        for one in counted:
            self._budget.count(one)

    def reconfigure(self, config: BookConfig) -> None:
        """Let other bounds hold from now on. Nothing that is held goes."""
        self._config = config
        self._budget.reconfigure(config.budget)

    @property
    def entries(self) -> Mapping[Key, Entry]:
        return MappingProxyType(self._entries)

    @property
    def claims_from(self) -> int:
        """Unix time before which there are no first claims; 0 where there always were."""
        return self._claims_from

    @property
    def provisional(self) -> int:
        """First claims among the entries."""
        return len(self._provisional)

    @property
    def required_bits(self) -> int:
        """The work that a new owner must show: by half the estimate, for those who see a smaller swarm."""
        return max(LEAST_BITS, bits_for(self._swarm_size() // 2))

    def decide(self, request: WitnessRequest, caller: Caller, now: float, unix_now: int) -> Decision:
        """Answer one request. What it changes holds at once for the next."""
        changes = Changes()
        question = _Question(request, caller, now, unix_now, changes)
        self._settle(question)
        return Decision(self._answer(question), changes)

    def undo(self, decisions: Iterable[Changes]) -> None:
        """Take back what could not be made durable; `decisions` in the order in which they were taken."""
        for changes in reversed(tuple(decisions)):
            for change in reversed(changes.entries):
                self._put(change.key, change.before)
                self._recent.forget(change.key)
            for counted in changes.counted:
                self._budget.uncount(counted)
            for counted in changes.uncounted:
                self._budget.count(counted)

    def sweep(self, now: float, unix_now: int) -> Changes:
        """Let go of all that has lapsed. Call it now and then: else it goes when its name is asked for."""
        changes = Changes()
        self._swept_at = now
        steady = self._steady.read(now, unix_now)
        for entry in list(self._entries.values()):
            self._let_go(entry, steady, now, unix_now, changes)
        changes.uncounted += self._budget.lapsed(unix_now, everywhere=True)
        self._turns.sweep(now)
        return changes

    # The four operations

    def _answer(self, question: _Question) -> WitnessAnswer:
        request = question.request
        if request.op is not Op.DROP:
            public = request.swarm == PUBLIC_SWARM
            if self._is_denied(request.name if public else f"{request.name}@{request.swarm}"):
                return WitnessRefusal(Why.NAME_DENIED)
            if not self._shows_work(question, LEAST_BITS):
                return WitnessRefusal(Why.WORK_TOO_WEAK, required_bits=self.required_bits)
        match request.op:
            case Op.CLAIM:
                return self._claim(question)
            case Op.RENEW:
                return self._renew(question)
            case Op.TRANSFER:
                return self._transfer(question)
            case Op.DROP:
                return self._drop(question)

    def _claim(self, question: _Question) -> WitnessAnswer:
        entry, request, unix_now = self._entry(question), question.request, question.unix_now
        if entry is not None and entry.owner != question.caller.peer:
            if entry.provisional:
                self._wanted.add(entry.key)
            return _held_by_another(entry, unix_now)
        if entry is not None and not entry.provisional and entry.chain:
            # The owner has lost the chain, without which no receipt of ours covers it: renewed now, the lease
            # would never end, and the name never be covered again.
            return WitnessRefusal(Why.REGISTERED_AT_MISMATCH)
        if entry is not None and not entry.provisional:  # lost its memory: it gets its own lease back
            return self._give(question, entry, Kind.RENEWED)
        if abs(request.registered_at - unix_now) > CLOCK_TOLERANCE:
            return WitnessRefusal(Why.REGISTERED_AT_OFF)
        if entry is not None:  # its turn goes on, and no longer than before
            return self._give_provisional(question, entry)
        if not self._shows_work(question, self.required_bits):
            return WitnessRefusal(Why.WORK_TOO_WEAK, required_bits=self.required_bits)
        if unix_now < self._claims_from:
            wait = min(self._claims_from - unix_now, MAX_LEASE)
            return WitnessRefusal(Why.NO_FIRST_CLAIMS, retry_after=wait)
        if refusal := self._has_no_turn(question) or self._has_no_room(question, provisional=True):
            return refusal
        counted = Counted(question.caller.peer, question.key, question.caller.prefix, unix_now)
        if not self._budget.is_counted(counted.owner, counted.key, unix_now):
            self._budget.count(counted)
            question.changes.counted.append(counted)
        return self._give_provisional(
            question,
            Entry(
                request.swarm, request.name, question.caller.peer, request.registered_at, unix_now,
                unix_now + PROVISIONAL_FOR, provisional=True, held_since=unix_now,
                prefix=question.caller.prefix,
            ),
        )  # fmt: skip

    def _renew(self, question: _Question) -> WitnessAnswer:
        entry, request = self._entry(question), question.request
        is_mine = entry is not None and entry.owner == question.caller.peer
        if entry is not None and not entry.provisional and self._was_missed(question, entry):
            moved = self._transfer(question)
            if isinstance(moved, Receipt) or moved.error == Why.WORK_TOO_WEAK:
                return moved
        if entry is not None and not entry.provisional and not is_mine:
            return _held_by_another(entry, question.unix_now)
        if entry is not None and is_mine and entry.registered_at == request.registered_at:
            if not entry.provisional:
                return self._give(question, entry, Kind.RENEWED)
            if self._has_first_claim(question):
                return self._give(question, entry, Kind.CLAIMED)
        shown = self._shown(question)
        if shown is not None and shown.owner == question.caller.peer:
            return self._take_over(question, shown)
        if entry is None:
            return WitnessRefusal(Why.NOT_CLAIMED)
        if not is_mine:
            return _held_by_another(entry, question.unix_now)
        if entry.registered_at != request.registered_at:
            return WitnessRefusal(Why.REGISTERED_AT_MISMATCH)
        return WitnessRefusal(Why.NOT_CLAIMED)  # a first claim, and no majority for it

    def _was_missed(self, question: _Question, entry: Entry) -> bool:
        """Whether the chain says that the name went on while we could not be asked. If we did not follow it
        now, who gave the name away would remain its owner here."""
        chain = question.request.transfers
        return bool(chain) and chain[-1].digest != entry.via

    def _transfer(self, question: _Question) -> Receipt | WitnessRefusal:
        entry, request = self._entry(question), question.request
        chain = request.transfers
        if not leads_to(chain, question.key, question.caller.peer):
            return WitnessRefusal(Why.TRANSFER_REFUSED)
        digests = tuple(link.digest for link in chain)
        evidence: tuple[Receipt, ...] = ()
        if entry is None or entry.provisional:
            shown = self._shown(question)
            if shown is None:
                is_rival = entry is not None and entry.owner != question.caller.peer
                if entry is not None and is_rival:
                    return _held_by_another(entry, question.unix_now)
                return WitnessRefusal(Why.NOT_CLAIMED)
            if entry is None and (refusal := self._has_no_room(question, provisional=False)):
                return refusal
            known = () if shown.via is None else digests[: links_up_to(digests, shown.via)]
            if shown.via is not None and not known:
                return WitnessRefusal(Why.DOUBLE_TRANSFER, holder=shown.owner)
            entry, evidence = self._entry_of(question, shown, known, is_whole=True), shown.receipts
        if entry.registered_at != request.registered_at:
            return WitnessRefusal(Why.REGISTERED_AT_MISMATCH)
        done = links_known(entry, digests)
        if done is None:
            return WitnessRefusal(Why.DOUBLE_TRANSFER, holder=entry.owner)
        if done == len(digests):  # it was moved already, and the answer got lost
            kind = Kind.TAKEN_OVER if evidence else Kind.RENEWED
            return self._give(question, entry, kind, chain if evidence else (), evidence)
        # Signed before this lease began, a link is about an earlier one: it must not be kept for later use.
        if chain[done].from_peer != entry.owner or chain[done].seq < entry.registered_at:
            return WitnessRefusal(Why.TRANSFER_REFUSED, holder=entry.owner)
        if not self._shows_work(question, self.required_bits):
            return WitnessRefusal(Why.WORK_TOO_WEAK, required_bits=self.required_bits)
        moved = replace(entry, owner=question.caller.peer, chain=digests, is_chain_whole=True, given_up=False)
        return self._give(question, moved, Kind.TRANSFERRED, chain, evidence)

    def _drop(self, question: _Question) -> WitnessAnswer:
        entry = self._entry(question)
        if entry is None:
            return WitnessRefusal(Why.NOT_CLAIMED)
        if entry.owner != question.caller.peer:
            return _held_by_another(entry, question.unix_now)
        if entry.registered_at != question.request.registered_at:
            return WitnessRefusal(Why.REGISTERED_AT_MISMATCH)
        if entry.provisional:
            self._end_turn(entry, question.now, question.unix_now)
            self._change(question.changes, entry.key, None)
        elif not entry.given_up:
            self._change(question.changes, entry.key, replace(entry, given_up=True))
        return Dropped()

    # Receipts

    def _give_provisional(self, question: _Question, entry: Entry) -> Receipt:
        entry = replace(entry, registered_at=question.request.registered_at, first_seen=question.unix_now)
        self._change(question.changes, entry.key, entry)
        return self._sign(entry, entry.expires_at)

    def _give(
        self,
        question: _Question,
        entry: Entry,
        kind: Kind,
        transfers: tuple[Transfer, ...] = (),
        evidence: tuple[Receipt, ...] = (),
    ) -> Receipt:
        """A full receipt for `entry`, which is in the book from now on."""
        if kind is Kind.RENEWED and (given := self._recent.find(entry, question.unix_now)) is not None:
            self._change(question.changes, entry.key, replace(entry, given_up=False))
            return given
        rival = self._entry(question)
        if rival is not None and rival.provisional and rival.owner != entry.owner:
            self._end_turn(rival, question.now, question.unix_now)
        expires_at = question.unix_now + MAX_LEASE
        last = 0 if entry.provisional else entry.expires_at
        entry = replace(
            entry,
            expires_at=max(expires_at, last),
            provisional=False,
            given_up=False,
            held_since=0,
            prefix=None,
        )
        self._change(question.changes, entry.key, entry)
        receipt = self._sign(entry, expires_at)
        self._recent.given(receipt)
        question.changes.log.append(LogEntry(question.unix_now, kind, receipt, transfers, evidence))
        return receipt

    def _take_over(self, question: _Question, shown: TakeOver) -> WitnessAnswer:
        before, chain = self._entry(question), question.request.transfers
        if before is None and (refusal := self._has_no_room(question, provisional=False)):
            return refusal
        digests: tuple[str, ...] = () if shown.via is None else (shown.via,)
        if chain and shown.via is not None:
            if not leads_to(chain, question.key, question.caller.peer) or chain[-1].digest != shown.via:
                return WitnessRefusal(Why.TRANSFER_REFUSED)
            digests = tuple(link.digest for link in chain)
        else:
            chain = ()
        entry = self._entry_of(question, shown, digests, is_whole=shown.via is None or bool(chain))
        if before is not None and not before.provisional:  # our own receipts of before count on
            entry = replace(entry, expires_at=before.expires_at)
        return self._give(question, entry, Kind.TAKEN_OVER, chain, shown.receipts)

    def _entry_of(
        self, question: _Question, shown: TakeOver, chain: tuple[str, ...], *, is_whole: bool
    ) -> Entry:
        swarm, name = question.key
        return Entry(
            swarm, name, shown.owner, shown.registered_at, shown.first_seen, 0,
            chain=chain, is_chain_whole=is_whole,
        )  # fmt: skip

    def _sign(self, entry: Entry, expires_at: int) -> Receipt:
        return Receipt.sign(
            self._identity,
            swarm=entry.swarm,
            name=entry.name,
            owner=entry.owner,
            registered_at=entry.registered_at,
            first_seen=entry.first_seen,
            expires_at=expires_at,
            provisional=entry.provisional,
            via=entry.via,
        )

    # What a request must show

    def _shows_work(self, question: _Question, bits: int) -> bool:
        request = question.request
        context = work_context(request.name, request.swarm)
        return proof_of_work.verify(context, question.caller.peer.did, request.nonce, bits)

    def _has_first_claim(self, question: _Question) -> bool:
        return bool(
            first_claim(
                question.request.receipts, self._witnesses(), question.key,
                question.caller.peer, question.request.registered_at, question.unix_now,
            )
        )  # fmt: skip

    def _shown(self, question: _Question) -> TakeOver | None:
        request = question.request
        return take_over(
            request.receipts, self._witnesses(), question.key, request.registered_at, question.unix_now
        )

    def _has_no_turn(self, question: _Question) -> WitnessRefusal | None:
        """Why this caller may not claim a new name now, if so."""
        caller, unix_now = question.caller, question.unix_now
        if rest := self._turns.rest(caller, question.key, question.now):
            return WitnessRefusal(Why.RATE_LIMITED, retry_after=rest)
        question.changes.uncounted.extend(self._budget.lapsed(unix_now))
        if self._budget.is_counted(caller.peer, question.key, unix_now):
            return None
        if wait := self._budget.owner_waits(caller.peer, unix_now):
            return WitnessRefusal(Why.BUDGET_OWNER, retry_after=wait)
        if wait := self._budget.prefix_waits(caller.prefix, unix_now):
            return WitnessRefusal(Why.BUDGET_PREFIX, retry_after=wait)
        return WitnessRefusal(Why.WITNESS_FULL) if self._budget.is_full else None

    def _has_no_room(self, question: _Question, *, provisional: bool) -> WitnessRefusal | None:
        if self._is_full(provisional=provisional):
            now = question.now
            if self._swept_at is None or now >= self._swept_at + self._config.sweep_interval:
                swept = self.sweep(now, question.unix_now)
                question.changes.entries.extend(swept.entries)
                question.changes.uncounted.extend(swept.uncounted)
        if self._is_full(provisional=provisional):
            self._end_longest_turn(question)
        return WitnessRefusal(Why.WITNESS_FULL) if self._is_full(provisional=provisional) else None

    def _end_longest_turn(self, question: _Question) -> None:
        """Make room among first claims. They cost little, so who has many addresses could else fill the room
        for them, over and over, and keep everybody from new names."""
        key = next(iter(self._provisional), None)
        if key is None:
            return
        entry = self._entries[key]
        if entry.held_since + self._config.settled_within <= question.unix_now:
            self._end_turn(entry, question.now, question.unix_now)
            self._change(question.changes, key, None)

    def _is_full(self, *, provisional: bool) -> bool:
        return len(self._entries) >= self._config.max_entries or (
            provisional and len(self._provisional) >= self._config.max_provisional
        )

    # Entries

    def _entry(self, question: _Question) -> Entry | None:
        return self._entries.get(question.key)

    def _settle(self, question: _Question) -> None:
        """Let go of the entry in question if its time is over."""
        steady = self._steady.read(question.now, question.unix_now)
        if (entry := self._entry(question)) is not None:
            self._let_go(entry, steady, question.now, question.unix_now, question.changes)

    def _let_go(self, entry: Entry, steady: int, now: float, unix_now: int, changes: Changes) -> None:
        if entry.provisional:
            # A first claim from what is now the future was made under a clock that has been set right.
            if entry.free_at <= unix_now or entry.held_since > unix_now + PROVISIONAL_FOR:
                self._end_turn(entry, now, unix_now)
                self._change(changes, entry.key, None)
        elif entry.free_at <= steady or entry.first_seen > unix_now + _BEYOND:
            self._change(changes, entry.key, None)

    def _end_turn(self, entry: Entry, now: float, unix_now: int) -> None:
        """The owner's turn is over without a name, now or when its time was up. It rests if others came."""
        if entry.key not in self._wanted:
            return
        end = max(entry.held_since, min(unix_now, entry.expires_at))
        over_for = min(max(0, unix_now - end), 2 * MAX_LEASE)
        self._turns.ended(entry.owner, entry.prefix, entry.key, end - entry.held_since, now - over_for)

    def _change(self, changes: Changes, key: Key, after: Entry | None) -> None:
        before = self._entries.get(key)
        if before != after:
            changes.entries.append(EntryChange(key, before, after))
            self._put(key, after)

    def _put(self, key: Key, entry: Entry | None) -> None:
        if entry is None:
            self._entries.pop(key, None)
        else:
            self._entries[key] = entry
        if entry is not None and entry.provisional:
            self._provisional[key] = None
        else:
            self._provisional.pop(key, None)
            self._wanted.discard(key)


def _held_by_another(entry: Entry, unix_now: int) -> WitnessRefusal:
    """Whose the name is, and when it is free if that owner does not come again."""
    word = Why.NAME_CONTESTED if entry.provisional else Why.NAME_TAKEN
    return WitnessRefusal(word, holder=entry.owner, retry_after=max(1, entry.free_at - unix_now))
