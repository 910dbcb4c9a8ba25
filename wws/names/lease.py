"""The lease of one name: claim it, keep it, give it back or away (wire.md sections 4 and 5).

    IDLE ──Claim──> LOOKING ──free──> SOLVING ──> ASKING ──> STORING ──> CONFIRMING ──ours wins──> HELD
                       └──another's──> TAKEN <──────┘           ^            └──another's wins──> LOST
                                                    ┌───────────┘
    HELD ──a third of its life, other witnesses──> ASKING       HELD ──other addresses──> STORING
    HELD ──hourly──> CONFIRMING      HELD ──Release──> (ASKING ──>) RELEASING ──Stored──> RELEASED
    HELD ──Transfer──> HELD ──the taker's record wins──> TRANSFERRED
    any ──Accept──> LOOKING for the giver's record ──> SOLVING ──> ASKING ──> STORING …
    anything that fails ──> WAITING ──TimerFired──> the same again

ASKING is left out where there are no witnesses. A claim first looks whether the name is free, and after
storing its record looks again: only when the own record wins is the name held. So of two honest claimants who
saw a free name, both see the same winner, and the other one is told `NameLost`.

Where there are witnesses, a record is signed with the receipts of a majority, and ends no later than they do.
While too few can be asked the receipts at hand are used up to their end, and the lease gets shorter; then the
name is renewed *uncovered*: valid, and as good as in a network without witnesses, until cover is to be had
again. It is sought with growing pauses up to five minutes: by renewal where the witnesses still know us, else
by a new claim. A name that was refused for a budget is published uncovered as well, and covered when the
budget allows. Nothing of that loses the name in between: what is published stays until its successor is.

Within the grace the owner renews as if nothing had happened; a dead lease is claimed anew, with a new
`registered_at`. A lease that another node of the same identity has moved on is adopted.

How a lease comes about is in `lease_claim`, how it changes hands in `lease_handover`, the conversation with
the witnesses in `covering`; what stands here keeps it.
"""

from __future__ import annotations

from wws.addresses.multiaddr import Multiaddr
from wws.errors import LocalProtocolError
from wws.identity import proof_of_work
from wws.machine import Command, Event
from wws.names.events import (
    Accept,
    AddressesChanged,
    AskWitnesses,
    Claim,
    LookedUp,
    LookUpFailed,
    NameReleased,
    ProofSolved,
    Release,
    Renew,
    Stored,
    StoreFailed,
    StoreRecord,
    Transfer,
    WitnessesAnswered,
    WitnessesChanged,
)
from wws.names.lease_handover import LeaseHandover
from wws.names.lease_table import ACCEPTED, ANSWERS, UNDER_WAY, State
from wws.names.schedule import Moved

__all__ = ["ACCEPTED", "Lease", "State"]


class Lease(LeaseHandover):
    """The machine for one name of one identity. Resumes from `state`, what the last `SaveState` said.

    `witnesses` are W and W′ of the moment, the same that `kind` was given; without, there are none. A state
    with an offer that is being taken up goes on with it at the next `Claim`.
    """

    def handle(self, event: Event, now: float, unix_now: int) -> list[Command]:
        """What to do about `event`. Where it cannot come: `LocalProtocolError`, and nothing changes.

        `Transfer` and `Accept` also raise `TransferImpossible` and, for an entry that breaks the rules,
        `RecordRefused`; then, too, nothing changes.
        """
        if self.state not in ACCEPTED.get(type(event), frozenset()):
            raise LocalProtocolError(f"{type(event).__name__} for {self.name!r} while {self.state.name}")
        if isinstance(event, ANSWERS) and self._wanted is not None:
            return self._change_of_mind(event, now, unix_now)
        match event:
            case Claim(bits=bits):
                return self._claim(bits, now, unix_now)
            case Renew():
                return self._renew(now, unix_now)
            case Release():
                return self._release(now, unix_now)
            case Transfer(to=to):
                return self._give_away(to, now, unix_now)
            case Accept():
                return self._accept(event, unix_now)
            case AddressesChanged(addresses=addresses):
                return self._move(addresses, now, unix_now)
            case WitnessesChanged():
                return self._witnesses_changed(now, unix_now)
            case LookedUp(value=value):
                return self._looked_up(value, now, unix_now)
            case LookUpFailed():
                return self._wait(self.state, "nobody answered the look-up", now)
            case ProofSolved(nonce=nonce):
                return self._solved(nonce, now, unix_now)
            case WitnessesAnswered(answers=answers):
                result = self._covering.answered(answers, unix_now)
                if isinstance(result, AskWitnesses):
                    return [result]
                return self._concluded(result, now, unix_now)
            case Stored():
                return self._stored()
            case StoreFailed(reason=reason):
                return self._not_stored(reason or "too few holders stored the record", now)
            case _:
                return self._timer_fired(now, unix_now)

    def _looked_up(self, value: bytes | None, now: float, unix_now: int) -> list[Command]:
        found = self._read(value, unix_now)
        if self.state is State.CONFIRMING:
            return self._judge(found, now, unix_now)
        if self._offer is not None:
            return self._take_up(found, self._offer, now, unix_now)
        return self._take(found, now, unix_now)

    def _claim(self, bits: int, now: float, unix_now: int) -> list[Command]:
        if bits > proof_of_work.MOST_BITS:
            raise LocalProtocolError(f"{bits} bits of work are not attempted")
        self._bits = max(bits, proof_of_work.LEAST_BITS)
        if self.state is State.RELEASING or self._is_giving_back or self._covering.is_abandoned:
            self._wanted = Claim(bits)
            return []
        self._wanted = None
        if self.state is State.HELD and self._confirmed is not None:
            return [self._held(self._confirmed)]
        if self.state in UNDER_WAY:
            return []
        if self.state is State.WAITING and self._retry is not State.RELEASING:
            return self._again(now, unix_now)
        return self._start(now, unix_now)

    # Keeping

    def _timer_fired(self, now: float, unix_now: int) -> list[Command]:
        record = self._record
        if self.state is State.WAITING and self._wakeup is not None and now >= self._wakeup:
            return self._again(now, unix_now)
        if self.state is not State.HELD or record is None:
            return []
        moved = self._has_moved(record)
        if record.is_dead(unix_now) or self._upkeep.is_due(now, unix_now, moved=Moved.NOT):
            return self._start(now, unix_now)
        if self._upkeep.is_due(now, unix_now, moved=moved):
            return self._publish_at_hand(now, unix_now)
        if self._ask_at is not None and now >= self._ask_at:
            return self._start(now, unix_now)
        if self._upkeep.is_check_due(now):
            return self._look_up(State.CONFIRMING)
        self._rest(record, now, unix_now)
        return []

    def _publish_at_hand(self, now: float, unix_now: int) -> list[Command]:
        """Sign anew with the receipts at hand: for other addresses no witness is asked."""
        if self._lease is None or not self._is_worked(self._lease):
            return self._start(now, unix_now)
        return self._sign(self._lease, now, unix_now)

    def _renew(self, now: float, unix_now: int) -> list[Command]:
        if self.state is State.HELD:
            return self._start(now, unix_now)
        if self.state is State.WAITING and self._retry is not State.RELEASING:
            return self._again(now, unix_now)
        return []

    def _move(self, addresses: tuple[Multiaddr, ...], now: float, unix_now: int) -> list[Command]:
        self._addresses = self._own(addresses)
        if self.state is State.HELD and self._record is not None:
            self._rest(self._record, now, unix_now)
        return []

    def _witnesses_changed(self, now: float, unix_now: int) -> list[Command]:
        """The new ones are to know the lease within ten minutes; not all owners come at once."""
        if self._covering.panel.is_empty:
            self._ask_at = None
        elif self._lease is not None:
            ask_at = now + self._rng.uniform(0, self._cover_config.renew_after_change)
            self._ask_at = ask_at if self._ask_at is None else min(self._ask_at, ask_at)
        if self.state is State.HELD and self._record is not None:
            self._rest(self._record, now, unix_now)
        return []

    # Trying again

    def _again(self, now: float, unix_now: int) -> list[Command]:
        lease, record = self._lease, self._record
        if self._retry is State.RELEASING:
            return self._give_back(now, unix_now)
        if self._retry is State.LOOKING or lease is None or unix_now >= lease.dead_at:
            return self._start(now, unix_now)
        if record is None or self._upkeep.is_due(now, unix_now, moved=Moved.NOT):
            return self._publish(lease, now, unix_now)
        if self._has_moved(record) is not Moved.NOT:
            return self._publish_at_hand(now, unix_now)
        if self._retry is State.CONFIRMING:
            return self._look_up(State.CONFIRMING)
        self._wakeup = None
        self.state = State.STORING
        return [StoreRecord(self.key, record.value)]

    # Giving back

    def _release(self, now: float, unix_now: int) -> list[Command]:
        if self.state is State.IDLE and self._lease is None and self._offer is None:
            raise LocalProtocolError(f"{self.name!r} is not ours to release")
        if self.state is State.RELEASED:
            return [NameReleased(self._lease.dead_at if self._lease is not None else unix_now)]
        if self.state is State.RELEASING or self._is_giving_back:
            self._wanted = None
            return []
        if self.state in UNDER_WAY:
            self._wanted = Release()
            return []
        self._wanted = None
        return self._give_back(now, unix_now)

    def _change_of_mind(self, event: Event, now: float, unix_now: int) -> list[Command]:
        """An answer has come for what is not wanted any longer; now the machine is free for what is."""
        if isinstance(event, WitnessesAnswered):
            drop = self._covering.abandon()
            if drop is not None:
                return [drop]
        wanted, self._wanted = self._wanted, None
        self._is_giving_back = False
        if isinstance(wanted, Claim):
            return self._start(now, unix_now)
        if isinstance(wanted, Accept):
            return self._begin_to_accept(wanted)
        return self._give_back(now, unix_now)

    def _give_back(self, now: float, unix_now: int) -> list[Command]:
        """Sign a release with cover to the end of what it releases; in the grace that is renewed first."""
        lease = self._lease
        self._offer = self._giver = None
        if lease is None or unix_now >= lease.dead_at:
            return self._end(State.RELEASED, NameReleased(unix_now))
        cover = self._covering.cover_of(lease)
        lacks_cover = cover.expires_at < max(lease.expires_at, unix_now + 1)
        if lacks_cover and cover.can_be_taken_over > unix_now and self._is_worked(lease):
            self._is_giving_back = True
            return self._ask(lease, unix_now)
        return self._sign(lease, now, unix_now, released=True)
