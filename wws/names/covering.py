"""The conversation of an owner with its witnesses: to claim a name, renew it, take up a transfer (wire.md 5).

    begin ──nothing held──> CLAIM ──m provisional──> RENEW with them ──m full──> Covered
                              └──no majority──> DROP what was granted ──> why not
    begin ──receipts held──> RENEW ──m full, or enough with older ones──> Covered
                              ├──nobody knows us, our cover is over──> CLAIM
                              └──no majority──> why not
    begin ──accepting──> TRANSFER ──m full, each with `via`──> Covered, else why not

Every member of W and W′ is asked at once; a majority of either decides, and a first claim takes one of each.
One round is one `AskWitnesses`. What a witness says counts only when it is about our question and signed by
it; anything else counts as silence. A single witness can refuse and no more: no outcome but `Unsettled` comes
about without a majority that says so, and more work is done only when it leads to a majority.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from wws.errors import LocalProtocolError
from wws.identity import proof_of_work
from wws.identity.peer_id import PeerId
from wws.names.cover import Cover, Panel, is_for
from wws.names.events import AskWitnesses
from wws.names.kinds import Witnesses
from wws.names.lease_state import LeaseState
from wws.names.receipts import Receipt
from wws.names.record import work_context
from wws.names.witness.messages import Op, Why, WitnessAnswers, WitnessRefusal, WitnessRequest

WITNESSES_AWAY = "witnesses_away"
CLAIM_AGAIN_WITHIN = 240
"""Seconds for which a claim may be made again as of the same time: witnesses take it for 300."""
MAX_SHOWN = 20
"""Receipts shown in a request, at most: a majority of sixteen witnesses is nine, and a message has 16 KiB."""

_FORGOTTEN = frozenset({Why.NOT_CLAIMED, Why.REGISTERED_AT_MISMATCH})
_OTHERS = frozenset({Why.NAME_TAKEN, Why.NAME_CONTESTED})


@dataclass(frozen=True, slots=True)
class Covered:
    """A majority has signed: `lease` has the receipts, and the `registered_at` that they are for."""

    lease: LeaseState


@dataclass(frozen=True, slots=True)
class Unsettled:
    """There is no majority for now, and nothing that rules one out. `code` says what most of those said who
    did not agree. `lease` is what was asked for, with receipts that came nevertheless."""

    lease: LeaseState
    code: str
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class HeldByOther:
    """So many say that another has the name that no majority is left for us."""

    holder: PeerId
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Contested:
    """The same, but the others have no majority either."""

    holder: PeerId | None


@dataclass(frozen=True, slots=True)
class WorkWanted:
    """With this many bits of work there would be a majority."""

    bits: int


@dataclass(frozen=True, slots=True)
class TransferRefused:
    """A majority will not let the name pass to us: `double_transfer` or `transfer_refused`."""

    code: str
    holder: PeerId | None


@dataclass(frozen=True, slots=True)
class NobodyKnows:
    """So few know the name that is to be transferred that no majority can move it: it was never witnessed."""


Outcome: TypeAlias = (
    Covered | Unsettled | HeldByOther | Contested | WorkWanted | TransferRefused | NobodyKnows
)


class Phase(enum.Enum):
    """What was asked last."""

    IDLE = "idle"
    CLAIMING = "claiming"
    SETTLING = "settling"
    """A majority has granted provisionally, and is shown that it has."""
    RENEWING = "renewing"
    TRANSFERRING = "transferring"
    DROPPING = "dropping"


class Covering:
    """One lease's conversations with its witnesses, one at a time."""

    def __init__(self, owner: PeerId, name: str, swarm: str, witnesses: Witnesses) -> None:
        self.phase = Phase.IDLE
        self._owner = owner
        self._name = name
        self._swarm = swarm
        self._witnesses = witnesses
        self._given: LeaseState | None = None
        self._asked: LeaseState | None = None
        self._provisional: tuple[Receipt, ...] = ()
        self._begun_at: int | None = None
        """The `registered_at` of a claim that has become full at a few witnesses, too few."""
        self._after_drop: Outcome | None = None

    @property
    def is_abandoned(self) -> bool:
        """Whether what is asked now only gives back what is not wanted any longer."""
        return self.phase is Phase.DROPPING and self._after_drop is None

    @property
    def panel(self) -> Panel:
        """The witnesses of this moment."""
        return Panel(*self._witnesses())

    def cover_of(self, lease: LeaseState) -> Cover:
        """What the receipts of `lease` are worth now."""
        return Cover.of(
            self.panel,
            lease.receipts,
            owner=self._owner,
            name=self._name,
            swarm=self._swarm,
            registered_at=lease.registered_at,
            via=lease.via,
        )

    def begin(
        self, lease: LeaseState, unix_now: int, *, given_by: tuple[Receipt, ...] | None = None
    ) -> AskWitnesses:
        """Ask for cover of `lease`, whose work is done. `given_by`: the receipts of who gives it to us."""
        self._given = lease
        if given_by is not None:
            return self._ask(Phase.TRANSFERRING, lease, given_by)
        if self._begun_at is not None and abs(unix_now - self._begun_at) <= CLAIM_AGAIN_WITHIN:
            # The few go on from their full entry, the others begin: together they may be a majority.
            return self._claim(lease, self._begun_at)
        self._begun_at = None
        if self._settles(unix_now):
            registered_at = self._provisional[0].registered_at
            return self._ask(Phase.SETTLING, _claimed_anew(lease, registered_at), self._provisional)
        if self.cover_of(lease).can_be_taken_over > unix_now or self._is_known(lease, unix_now):
            return self._ask(Phase.RENEWING, lease, lease.receipts)
        return self._claim(lease, unix_now)

    def answered(self, answers: WitnessAnswers, unix_now: int) -> AskWitnesses | Outcome:
        """What to ask next, or what came of it."""
        if self._given is None or self._asked is None or self.phase is Phase.IDLE:
            raise LocalProtocolError("an answer of witnesses that nobody has asked")
        round_ = _Round.of(answers, self._asked, self._owner, self.panel, unix_now)
        match self.phase:
            case Phase.CLAIMING:
                result = self._claimed(round_)
            case Phase.SETTLING:
                result = self._settled(round_)
            case Phase.TRANSFERRING:
                result = self._transferred(round_)
            case Phase.RENEWING:
                result = self._renewed(round_, unix_now)
            case _:
                assert self._after_drop is not None, "DROPPING is entered with an outcome"
                result = self._after_drop
        if not isinstance(result, AskWitnesses):
            self.phase = Phase.IDLE
        return result

    def abandon(self) -> AskWitnesses | None:
        """The name is not wanted any longer: give back what a new claim may have been granted."""
        asked, phase = self._asked, self.phase
        self.phase = Phase.IDLE
        self._provisional, self._begun_at = (), None
        self._after_drop = None
        if asked is None or phase not in (Phase.CLAIMING, Phase.SETTLING):
            return None
        return self._ask(Phase.DROPPING, asked, ())

    # The rounds

    def _claim(self, lease: LeaseState, registered_at: int) -> AskWitnesses:
        self._provisional = ()
        return self._ask(Phase.CLAIMING, _claimed_anew(lease, registered_at), ())

    def _claimed(self, round_: _Round) -> AskWitnesses | Outcome:
        asked = round_.asked
        for registered_at, ours in round_.ours.items():
            if round_.panel.is_majority(ours):  # we had lost our memory, and they had not
                self._begun_at = None
                return Covered(replace(asked, registered_at=registered_at, receipts=tuple(ours.values())))
        if agreeing := round_.panel.majorities(round_.granted):
            self._provisional = tuple(round_.granted[witness] for witness in sorted(agreeing, key=str))
            return self._ask(Phase.SETTLING, asked, self._provisional)
        assert self._given is not None, "checked by the caller"
        outcome = round_.why_not(first_claim=True) or round_.unsettled(self._given)
        return self._drop(outcome) if round_.granted else outcome

    def _settled(self, round_: _Round) -> AskWitnesses | Outcome:
        assert self._given is not None, "checked by the caller"
        if round_.panel.is_majority(round_.full):
            self._provisional, self._begun_at = (), None
            return Covered(replace(round_.asked, receipts=tuple(round_.full.values())))
        if round_.full:
            self._begun_at = round_.asked.registered_at
        if round_.panel.is_ruled_out(round_.saying(_FORGOTTEN | _OTHERS)):
            outcome = round_.why_not(first_claim=True) or round_.unsettled(self._given)
            self._provisional = ()
            return self._drop(outcome)
        return round_.unsettled(self._given)

    def _renewed(self, round_: _Round, unix_now: int) -> AskWitnesses | Outcome:
        before = self.cover_of(round_.asked).expires_at
        lease = self._with(round_.asked, round_.full.values())
        cover = self.cover_of(lease)
        if cover.expires_at > unix_now and (
            round_.panel.is_majority(round_.full) or cover.expires_at > before
        ):
            return Covered(lease)
        why_not = round_.why_not()
        forgotten = round_.panel.is_ruled_out(round_.saying(_FORGOTTEN | _OTHERS))
        if why_not is None and forgotten and cover.expires_at <= unix_now:
            return self._claim(lease, unix_now)
        return why_not if isinstance(why_not, HeldByOther | WorkWanted) else round_.unsettled(lease)

    def _transferred(self, round_: _Round) -> Outcome:
        via = round_.asked.transfers[-1].digest
        moved = {witness: receipt for witness, receipt in round_.full.items() if receipt.via == via}
        lease = self._with(round_.asked, moved.values())
        if round_.panel.is_majority(receipt.witness for receipt in self.cover_of(lease).receipts):
            return Covered(lease)
        refusing = round_.saying({Why.DOUBLE_TRANSFER, Why.TRANSFER_REFUSED})
        if round_.panel.is_ruled_out(refusing):
            words = Counter(round_.refusals[witness].error for witness in refusing)
            return TransferRefused(words.most_common(1)[0][0], round_.holder(refusing))
        if round_.panel.is_ruled_out(round_.saying({Why.NOT_CLAIMED})):
            return NobodyKnows()
        why_not = round_.why_not()
        return why_not if isinstance(why_not, HeldByOther | WorkWanted) else round_.unsettled(lease)

    def _drop(self, outcome: Outcome) -> AskWitnesses:
        assert self._asked is not None, "only what was asked for is dropped"
        self._after_drop = outcome
        return self._ask(Phase.DROPPING, self._asked, ())

    # Small parts

    def _ask(self, phase: Phase, lease: LeaseState, receipts: Iterable[Receipt]) -> AskWitnesses:
        self.phase = phase
        self._asked = lease
        return AskWitnesses(
            WitnessRequest(
                op=_OPS[phase],
                swarm=self._swarm,
                name=self._name,
                nonce=lease.nonce,
                registered_at=lease.registered_at,
                transfers=lease.transfers if phase in (Phase.RENEWING, Phase.TRANSFERRING) else (),
                receipts=tuple(receipts)[:MAX_SHOWN],
            )
        )

    def _with(self, lease: LeaseState, receipts: Iterable[Receipt]) -> LeaseState:
        merged = replace(lease, receipts=(*lease.receipts, *receipts))
        return replace(merged, receipts=self.cover_of(merged).receipts)

    def _settles(self, unix_now: int) -> bool:
        """Whether a claim that was granted provisionally by a majority is still to be made full."""
        unexpired = [receipt.witness for receipt in self._provisional if receipt.expires_at > unix_now]
        return bool(self.panel.majorities(unexpired))

    def _is_known(self, lease: LeaseState, unix_now: int) -> bool:
        """Whether at least one witness has a full entry of `lease`, which others may have forgotten."""
        return any(receipt.expires_at > unix_now for receipt in self.cover_of(lease).receipts)


def _claimed_anew(lease: LeaseState, registered_at: int) -> LeaseState:
    """A claim begins with its owner: what witnesses sign for it has no `via`, so neither has it a chain."""
    return replace(lease, registered_at=registered_at, receipts=(), transfers=())


_OPS = {
    Phase.CLAIMING: Op.CLAIM,
    Phase.SETTLING: Op.RENEW,
    Phase.RENEWING: Op.RENEW,
    Phase.TRANSFERRING: Op.TRANSFER,
    Phase.DROPPING: Op.DROP,
}


@dataclass(frozen=True, slots=True)
class _Round:
    """What one round of questions brought, as far as it counts."""

    asked: LeaseState
    panel: Panel
    ours: dict[int, dict[PeerId, Receipt]]
    """Full receipts for us by `registered_at`: a witness that knows us gives an old lease back."""
    granted: dict[PeerId, Receipt]
    """Provisional receipts, and the full ones too."""
    refusals: dict[PeerId, WitnessRefusal]
    owner: PeerId

    @classmethod
    def of(
        cls, answers: WitnessAnswers, asked: LeaseState, owner: PeerId, panel: Panel, unix_now: int
    ) -> _Round:
        ours: dict[int, dict[PeerId, Receipt]] = {}
        granted: dict[PeerId, Receipt] = {}
        refusals: dict[PeerId, WitnessRefusal] = {}
        for witness, answer in answers:
            if witness not in panel.members:
                continue
            if isinstance(answer, WitnessRefusal):
                refusals[witness] = answer
            elif isinstance(answer, Receipt) and answer.witness == witness and answer.expires_at > unix_now:
                registered_at = answer.registered_at
                if not is_for(
                    answer,
                    owner=owner,
                    name=asked.name,
                    swarm=asked.swarm,
                    registered_at=registered_at,
                    via=asked.via,
                ):
                    continue
                if registered_at == asked.registered_at:
                    granted[witness] = answer
                if not answer.provisional:
                    ours.setdefault(registered_at, {})[witness] = answer
        return cls(asked, panel, ours, granted, refusals, owner)

    @property
    def full(self) -> dict[PeerId, Receipt]:
        """The full receipts for what was asked."""
        return self.ours.get(self.asked.registered_at, {})

    def saying(self, words: Iterable[str]) -> frozenset[PeerId]:
        """Who refused with one of these words; that the name is another's counts only where it is one."""
        known = frozenset(words)
        return frozenset(
            witness
            for witness, refusal in self.refusals.items()
            if refusal.error in known and not (refusal.error in _OTHERS and refusal.holder == self.owner)
        )

    def why_not(self, *, first_claim: bool = False) -> HeldByOther | WorkWanted | Contested | None:
        """What a majority says against us; `None` when it says nothing, or nothing in common. A first claim
        needs both sets, so that a majority of either can say no."""
        taken = self.saying({Why.NAME_TAKEN})
        if (
            self.panel.is_ruled_out(taken, first_claim=first_claim)
            and (holder := self.holder(taken)) is not None
        ):
            waits = [self.refusals[witness].retry_after for witness in taken]
            return HeldByOther(holder, max((wait for wait in waits if wait is not None), default=None))
        if (bits := self._bits_wanted()) is not None:
            return WorkWanted(bits)
        rivals = self.saying(_OTHERS)
        if self.panel.is_ruled_out(rivals, first_claim=first_claim):
            return Contested(self.holder(rivals))
        return None

    def unsettled(self, lease: LeaseState) -> Unsettled:
        """That there is no majority, and what most of those say who refuse."""
        words = Counter(refusal.error for refusal in self.refusals.values())
        if not words:
            return Unsettled(lease, WITNESSES_AWAY)
        silent = len(self.panel.members) - len(self.granted) - len(self.refusals)
        word, count = words.most_common(1)[0]
        if silent > count:
            return Unsettled(lease, WITNESSES_AWAY)
        saying = self.saying({word})
        # Whoever else holds the name at some witnesses may leave sooner than those say, or not matter. And
        # one witness alone does not tell us how long to wait for the others.
        if word in _OTHERS or not self.panel.is_ruled_out(saying):
            return Unsettled(lease, word)
        waits = [self.refusals[witness].retry_after for witness in saying]
        return Unsettled(lease, word, min((wait for wait in waits if wait is not None), default=None))

    def holder(self, witnesses: Iterable[PeerId]) -> PeerId | None:
        """Whom most of `witnesses` name; the same one for the same answers."""
        named = Counter(
            refusal.holder
            for witness in witnesses
            if (refusal := self.refusals.get(witness)) is not None and refusal.holder is not None
        )
        return max(named, key=lambda one: (named[one], str(one)), default=None)

    def _bits_wanted(self) -> int | None:
        """The least work that gives us a majority, where work is what is lacking."""
        context = work_context(self.asked.name, self.asked.swarm)
        done = proof_of_work.leading_zero_bits(context, self.owner.did, self.asked.nonce)
        wanted = {
            witness: bits
            for witness, refusal in self.refusals.items()
            if refusal.error == Why.WORK_TOO_WEAK
            and (bits := refusal.required_bits) is not None
            and done < bits <= proof_of_work.MOST_BITS
        }
        for bits in sorted(set(wanted.values())):
            agreeing = {witness for witness, needed in wanted.items() if needed <= bits}
            if self.panel.is_majority(agreeing | self.granted.keys()):
                return bits
        return None
