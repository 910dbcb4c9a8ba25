"""How a lease comes about: look, work, ask the witnesses, store, look again (wire.md sections 4 and 5).

    LOOKING ──free──> SOLVING ──> ASKING ──a majority, or none to be had──> STORING ──> CONFIRMING ──> HELD
       └──another's──> TAKEN        ├──another has it──> TAKEN
                                    ├──several want it──> WAITING, 1 to 10 s ──> LOOKING
                                    └──more work wanted──> SOLVING

Where there are witnesses they decide who has a name: a record of another that they do not cover does not stop
a claim, unless no cover is to be had for us either. A name whose witnesses are away, or whose owner has
claimed too many today, is published uncovered: it is ours as far as Select says so, and is covered later by
itself.
"""

from __future__ import annotations

from dataclasses import replace

from wws.errors import LocalProtocolError
from wws.identity.peer_id import PeerId
from wws.machine import Command
from wws.names.covering import (
    WITNESSES_AWAY,
    Contested,
    Covered,
    HeldByOther,
    NobodyKnows,
    Outcome,
    TransferRefused,
    Unsettled,
    WorkWanted,
)
from wws.names.events import (
    AcceptRefused,
    CoverDelayed,
    NameContested,
    NameLost,
    NameReleased,
    NameTaken,
    NameTransferred,
    RetryScheduled,
    SaveState,
    SolveProofOfWork,
)
from wws.names.handover import passed_on
from wws.names.lease_parts import LeaseParts
from wws.names.lease_state import LeaseState
from wws.names.lease_table import State
from wws.names.record import KEPT_AFTER_EXPIRY, NameRecord
from wws.names.rules import MAX_LEASE
from wws.names.schedule import Moved
from wws.names.witness.messages import Why

_NO_NONCE = -1
_SOON = 30
"""Seconds: a witness that asks us to come back within these is waited for."""


class LeaseClaim(LeaseParts):
    """From the wish for a name to its lease, and from a lease to its next record."""

    def _start(self, now: float, unix_now: int) -> list[Command]:
        """Renew what is ours until it is dead; otherwise look whether the name is free."""
        if self._lease is not None and self._is_alive(unix_now):
            return self._publish(self._lease, now, unix_now)
        self._record = self._confirmed = None
        return self._look_up(State.LOOKING)

    def _take(self, found: NameRecord | None, now: float, unix_now: int) -> list[Command]:
        """Claim the name if it is free, go on with it if it is ours."""
        is_ours = found is not None and found.peer_id == self._identity.peer_id
        self._rival = None
        if found is not None and not found.is_dead(unix_now):
            if is_ours:
                self._lease = self._adopted(found)
                return self._publish(self._lease, now, unix_now)
            if self._covering.panel.is_empty or self._kind.is_witnessed(found):
                return self._taken_by(found)
            self._rival = found
        seq = self._lease.seq if self._lease is not None else 0
        nonce = self._lease.nonce if self._lease is not None else _NO_NONCE
        if found is not None and is_ours:
            seq, nonce = max(seq, found.seq), found.nonce
        claim = LeaseState(self.name, self.swarm, unix_now, seq, nonce, expires_at=unix_now)
        return self._publish(claim, now, unix_now)

    def _publish(self, lease: LeaseState, now: float, unix_now: int) -> list[Command]:
        """Get cover for `lease`, sign its next record and store it; do the work where there is no proof."""
        self._candidate = lease
        if not self._is_worked(lease):
            self._wakeup = None
            self.state = State.SOLVING
            return [SolveProofOfWork(self._context, self._did, self._bits)]
        if self._covering.panel.is_empty:
            self._giver = self._offer = None
            return self._sign(lease, now, unix_now, released=self._is_giving_back)
        return self._ask(lease, unix_now)

    def _solved(self, nonce: int, now: float, unix_now: int) -> list[Command]:
        assert self._candidate is not None, "SOLVING is entered with a lease that lacks its proof"
        lease = replace(self._candidate, nonce=nonce)
        if not self._is_worked(lease):
            raise LocalProtocolError(f"{nonce} is no proof of {self._bits} bits for {self.name!r}")
        return self._publish(lease, now, unix_now)

    # What the witnesses say

    def _ask(self, lease: LeaseState, unix_now: int) -> list[Command]:
        self._candidate = lease
        self._ask_at = self._wakeup = None
        self.state = State.ASKING
        receipts = self._giver.receipts if self._giver is not None else ()
        given_by = receipts if self._offer is not None else None
        return [self._covering.begin(lease, unix_now, given_by=given_by)]

    def _concluded(self, outcome: Outcome, now: float, unix_now: int) -> list[Command]:
        """What a conversation with the witnesses came to."""
        match outcome:
            case Covered(lease=lease):
                return self._covered(lease, now, unix_now)
            case HeldByOther(holder=holder, retry_after=retry_after):
                return self._held_by(holder, retry_after, now, unix_now)
            case Contested(holder=holder) if not self._goes_on(unix_now):
                return self._contested(holder, now)
            case Contested():
                return self._not_covered(self._candidate_lease(), Why.NAME_CONTESTED, None, now, unix_now)
            case WorkWanted(bits=bits) if self._work_rounds < self._cover_config.work_rounds:
                self._work_rounds += 1
                self._bits = max(self._bits, bits)
                return self._publish(self._candidate_lease(), now, unix_now)
            case WorkWanted():
                return self._not_covered(self._candidate_lease(), Why.WORK_TOO_WEAK, None, now, unix_now)
            case Unsettled(lease=lease, code=code, retry_after=retry_after):
                return self._not_covered(lease, code, retry_after, now, unix_now)
            case TransferRefused(code=code, holder=holder):
                whose = f": they know it as {holder}'s" if holder is not None else ""
                reason = f"the witnesses do not let {self.name!r} pass to us{whose}"
                return self._end(State.TAKEN, AcceptRefused(code, reason))
            case NobodyKnows():
                return self._never_covered(now, unix_now)

    def _covered(self, lease: LeaseState, now: float, unix_now: int) -> list[Command]:
        self._cover_backoff.reset()
        self._rival = self._giver = self._offer = None
        self._contests = self._work_rounds = self._searches = 0
        return self._sign(lease, now, unix_now, released=self._is_giving_back)

    def _not_covered(
        self, lease: LeaseState, code: str, retry_after: int | None, now: float, unix_now: int
    ) -> list[Command]:
        """No majority for now: go on with what there is, and ask again later."""
        self._work_rounds = 0
        reason = _REASONS.get(code, f"the witnesses refuse: {code}")
        if self._is_giving_back:
            return self._sign(lease, now, unix_now, released=True)
        if self._offer is not None:
            self._candidate = lease
            return self._wait(State.LOOKING, reason, now)
        if not self._goes_on(unix_now):
            is_soon = code == Why.RATE_LIMITED and (retry_after or _SOON) <= _SOON
            if is_soon and self._contests < self._cover_config.contests:
                self._contests += 1
                self._wait_for(State.LOOKING, delay := self._pause(), now)
                return [RetryScheduled(reason, delay)]
            if self._rival is not None and not self._rival.is_dead(unix_now):
                return self._taken_by(self._rival)
        delay = max(self._cover_backoff.next_delay(), float(retry_after or 0))
        delay = min(delay, self._cover_config.longest_delay)
        self._ask_at = now + delay
        return [CoverDelayed(code, reason, delay), *self._go_on(lease, delay, now, unix_now)]

    def _go_on(self, lease: LeaseState, delay: float, now: float, unix_now: int) -> list[Command]:
        """With the record that is out, while it does; otherwise with another, covered as long as may be."""
        record = self._record
        if record is None or record is not self._confirmed or self._has_moved(record) is not Moved.NOT:
            return self._sign(lease, now, unix_now)
        is_covered = self._kind.is_witnessed(record)
        if not record.is_live(unix_now) or (
            not is_covered
            and (
                self._upkeep.is_due(now, unix_now, moved=Moved.NOT)
                or self._covering.cover_of(lease).expires_at > unix_now
            )
        ):
            return self._sign(lease, now, unix_now)
        commands: list[Command] = []
        if is_covered:
            self._upkeep.postponed(unix_now, min(delay, record.expires_at - unix_now))
        if self._lease is not None and lease.receipts != self._lease.receipts:
            self._lease = replace(self._lease, receipts=lease.receipts)
            commands.append(SaveState(self._lease))
        self._candidate = None
        self._rest(record, now, unix_now)
        return [*commands, self._held(record)]

    def _contested(self, holder: PeerId | None, now: float) -> list[Command]:
        """Several want the name at once: it is tried again at random, and one of us comes first."""
        self._contests += 1
        if self._contests > self._cover_config.contests:
            return self._end(State.TAKEN, NameContested(holder, None))
        delay = self._pause()
        self._wait_for(State.LOOKING, delay, now)
        return [NameContested(holder, delay)]

    def _held_by(self, holder: PeerId, retry_after: int | None, now: float, unix_now: int) -> list[Command]:
        """The witnesses say that the name is another's."""
        lease = self._lease
        if self._goes_on(unix_now) and lease is not None:
            if self._record is not None and self._covering.cover_of(lease).expires_at > unix_now:
                # Our receipts still hold: whether the other's record wins is to be seen in the DHT.
                self._ask_at = now + self._cover_backoff.next_delay()
                self._upkeep.postponed(unix_now, self._ask_at - now)
                self._is_giving_back = False
                return self._look_up(State.CONFIRMING)
            if lease.given is not None and lease.given.to_peer == holder:
                return self._end(State.TRANSFERRED, NameTransferred(holder))
        at_most = MAX_LEASE + KEPT_AFTER_EXPIRY
        free_at = unix_now + (at_most if retry_after is None else min(retry_after, at_most))
        expires_at = max(unix_now, free_at - KEPT_AFTER_EXPIRY)
        if self._goes_on(unix_now):
            return self._end(State.LOST, NameLost(holder, expires_at))
        return self._end(State.TAKEN, NameTaken(holder, expires_at, free_at, released=False))

    def _never_covered(self, now: float, unix_now: int) -> list[Command]:
        """No witness knows the name that is given to us: as without witnesses, the longer chain wins."""
        if self._giver is not None and self._kind.is_witnessed(self._giver):
            return self._not_covered(self._candidate_lease(), Why.NOT_CLAIMED, None, now, unix_now)
        self._giver = self._offer = None
        return self._not_covered(self._candidate_lease(), Why.NOT_CLAIMED, None, now, unix_now)

    # Confirming

    def _stored(self) -> list[Command]:
        self._backoff.reset()
        if self.state is State.RELEASING and self._lease is not None:
            return self._end(State.RELEASED, NameReleased(self._lease.dead_at), self._lease)
        return self._look_up(State.CONFIRMING)

    def _not_stored(self, reason: str, now: float) -> list[Command]:
        # Holders that keep a better record refuse ours; whose that is only a look-up tells.
        look = self.state is State.STORING and not self._covering.panel.is_empty
        return self._wait(State.CONFIRMING if look else self.state, reason, now)

    def _judge(self, found: NameRecord | None, now: float, unix_now: int) -> list[Command]:
        """Whose the name is, after a look-up that was to find our record."""
        ours = self._record
        assert ours is not None, "CONFIRMING is entered with a record"
        if found is None:
            return self._wait(State.STORING, "our record was not found", now)
        is_ours = found.peer_id == self._identity.peer_id
        if self._kind.winner((ours, found), unix_now) == 0:
            if is_ours and not found.is_dead(unix_now):
                return self._hold(ours, now, unix_now)
            return self._wait(State.STORING, "a record that loses to ours was found in its place", now)
        if not is_ours:
            taker = passed_on(found, self._identity.peer_id)
            given = self._lease.given if self._lease is not None else None
            if taker is None and given is not None and given.to_peer == found.peer_id:
                taker = found.peer_id  # who has claimed anew what no witness had covered
            if taker is not None:
                return self._end(State.TRANSFERRED, NameTransferred(taker))
            is_uncovered = not self._covering.panel.is_empty and not self._kind.is_witnessed(found)
            if self._confirmed is not None and (is_uncovered or self._had_it_before(found.peer_id, unix_now)):
                return self._disputed(ours, found, now, unix_now)
            return self._end(State.LOST, NameLost(found.peer_id, found.expires_at))
        if found.seq < ours.seq and self._kind.is_witnessed(found):
            return self._overshadowed(ours, found, now, unix_now)
        # Another node of this identity, or we ourselves before our state was lost.
        if found.released:
            return self._end(State.RELEASED, NameReleased(found.dead_at), self._adopted(found))
        self._lease, self._record = self._adopted(found), None
        return self._wait(State.STORING, "another record of this identity was found", now)

    def _disputed(self, ours: NameRecord, found: NameRecord, now: float, unix_now: int) -> list[Command]:
        """Another's record wins, but it is for the witnesses to say that the name is not ours: somebody who
        had it before uses receipts of then, which end, or dates back while no witness can be asked. To give
        up now would give it to that one for good."""
        commands = self._hold(ours, now, unix_now)
        reason = f"a record of {found.peer_id} wins until the witnesses cover ours, or its own receipts end"
        return [*commands, CoverDelayed(Why.NAME_CONTESTED, reason, self._config.check_interval)]

    def _had_it_before(self, peer: PeerId, unix_now: int) -> bool:
        """Whether the name came to us from this peer, and the witnesses cover us still."""
        lease = self._lease
        return (
            lease is not None
            and any(entry.from_peer == peer for entry in lease.transfers)
            and self._covering.cover_of(lease).expires_at > unix_now
        )

    def _overshadowed(self, ours: NameRecord, found: NameRecord, now: float, unix_now: int) -> list[Command]:
        """An older record of ours is covered and wins over the newer one: it resolves until it is dead."""
        if found.released:
            return self._wait(State.LOOKING, "our own release still holds, and no witness can be asked", now)
        if found.is_live(unix_now) and not self._kind.is_witnessed(ours):
            self._lease, self._record = self._adopted(found), None
            return self._wait(State.STORING, "an older record of ours was found, with cover", now)
        commands = self._hold(ours, now, unix_now)
        # When it dies, ours must be there: nothing else would bring it to those who kept the older one.
        self._upkeep.checked_until(now + max(1, found.dead_at - unix_now))
        self._rest(ours, now, unix_now)
        return commands

    # Small parts

    def _goes_on(self, unix_now: int) -> bool:
        """Whether the name is ours already, as far as we know, and this was about keeping it."""
        return self._is_alive(unix_now) and self._offer is None

    def _taken_by(self, found: NameRecord) -> list[Command]:
        taken = NameTaken(found.peer_id, found.expires_at, found.dead_at, found.released)
        return self._end(State.TAKEN, taken)

    def _candidate_lease(self) -> LeaseState:
        assert self._candidate is not None, "ASKING is entered with a lease"
        return self._candidate

    def _pause(self) -> float:
        return self._rng.uniform(*self._cover_config.contest_pause)


_REASONS: dict[str, str] = {
    WITNESSES_AWAY: "too few witnesses can be asked",
    Why.NAME_CONTESTED: "another has come for the name too, and nobody has a majority of the witnesses",
    Why.WORK_TOO_WEAK: "the witnesses want more work than we do",
    Why.REGISTERED_AT_OFF: "the witnesses have another time than we: one of the clocks is wrong",
    Why.BUDGET_OWNER: "this identity has claimed as many new names today as the witnesses let it",
    Why.BUDGET_PREFIX: "as many new names were claimed from our network today as the witnesses let it",
    Why.WITNESS_FULL: "the witnesses have no room for new names",
    Why.NO_FIRST_CLAIMS: "a witness has lost what it had promised and takes no new names for a while",
    Why.RATE_LIMITED: "the witnesses are asked too often",
    Why.LIMITED_CIRCUIT: "the witnesses can only be reached over relays, and do not serve those",
    Why.WRONG_NETWORK: "the witnesses serve another network than ours",
    Why.NAME_DENIED: "the operators of the witnesses do not want the name",
    Why.NOT_CLAIMED: "too few witnesses know the name as ours",
}
