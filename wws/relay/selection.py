"""Which relays hold a slot for us: two, near and apart, renewed ahead, replaced within seconds.

Source: libp2p specifications, relay/circuit-v2.md, "Reservation"; wire.md section 2. Every relay that is
connected directly and offers to relay is a candidate; each goes its own way:

                    .---ReserveFailed (rests)----------------------------------.
                    v                                                          |
    CandidateSeen ► IDLE ──chosen──► RESERVING ──Reserved──► HELD ──ahead of its end──► RENEWING
                    ^                     '─────────────────► ^ ──────Reserved/ReserveFailed──'
                    '──a probe unanswered, expired, surplus, not wanted any more── HELD, RENEWING
    HELD, RENEWING ──CandidateLeaving──► LEAVING (kept while it is there, CandidateSeen: HELD again)
    any ──CandidateLost──► gone, with its reservation; IDLE and RESERVING with CandidateLeaving, too

A relay that holds a slot is probed every two seconds. One that does not answer has no place in what we
announce from that moment on, and its place goes to the next candidate; so the time from the death of a relay
to its replacement is bounded by `probe_interval + probe_timeout` and one exchange with the next one. A
candidate that is slow to answer is overtaken by another (`hedge_after`), not waited for.

A relay that says it is about to stop is replaced before it does. It is announced until its place is taken;
for `replace_within` where nobody can take it; for good where it is the only one. Then it is told to nobody
any more, and who has heard of it before still gets to us: the slot is ours until the connection ends.

What a relay did to us outlives its connection: `wws.relay.reputation`. There is no word in the protocol to
give a slot back; it lapses by itself, or with the connection.
"""

from __future__ import annotations

import random

from wws.addresses.multiaddr import Multiaddr
from wws.identity.peer_id import PeerId
from wws.machine import Command, Event
from wws.relay.candidate import Candidate, Lease
from wws.relay.candidate import State as State
from wws.relay.reputation import DISTRUSTED, Reputation
from wws.relay.selection_config import SelectionConfig as SelectionConfig
from wws.relay.selection_events import (
    Answered,
    CandidateLeaving,
    CandidateLost,
    CandidateSeen,
    Failure,
    LetGo,
    Probe,
    Protect,
    Reservation,
    ReservationsChanged,
    Reserve,
    Reserved,
    ReserveFailed,
    SeekCandidates,
    SetWanted,
    Suspect,
)

_ASKED = frozenset({State.RESERVING, State.RENEWING})


class RelaySelection:
    """All relays of one node. Raises nothing: what comes late, or of a relay that is gone, has no effect."""

    def __init__(self, config: SelectionConfig, rng: random.Random) -> None:
        self._config = config
        self._rng = rng
        self._wanted = False
        self._let_go_at: float | None = None
        self._relays: dict[PeerId, Candidate] = {}
        self._reputation = Reputation(config.reputation, rng)
        self._attempts = 0
        self._announced: tuple[tuple[PeerId, tuple[Multiaddr, ...]], ...] = ()
        self._seek_at = 0.0
        self._seek_wait = config.seek_interval[0]

    @property
    def wanted(self) -> bool:
        return self._wanted

    @property
    def reservations(self) -> tuple[Reservation, ...]:
        """What is held now and worth telling, in the order in which it was given."""
        held = [
            relay.lease.reservation
            for relay in self._relays.values()
            if relay.lease is not None and relay.is_announced
        ]
        order = {relay: place for place, (relay, _) in enumerate(self._announced)}
        held.sort(key=lambda reservation: order.get(reservation.relay, len(order)))
        return tuple(held)

    def state_of(self, relay: PeerId) -> State | None:
        """Where a relay stands; `None` for one that is no candidate."""
        known = self._relays.get(relay)
        return None if known is None else known.state

    def holds_reservation_at(self, relay: PeerId) -> bool:
        """Whether a relay may send circuits to us: also one that is about to stop and not told any more."""
        known = self._relays.get(relay)
        return known is not None and known.lease is not None

    @property
    def holders(self) -> tuple[PeerId, ...]:
        """The relays that hold a slot for us, announced or not."""
        return tuple(relay.relay for relay in self._relays.values() if relay.lease is not None)

    def heard(self, relay: PeerId, at: float) -> None:
        """Bytes of a relay came at `at`, so that it lived then. To be said before `handle`, which acts on it:
        much data can hold up the answer to a probe for longer than we wait for it."""
        known = self._relays.get(relay)
        if known is not None:
            known.heard_at = max(known.heard_at, at)
            if known.heard_at >= known.probed_at:
                known.answer_by = None

    def handle(self, event: Event, now: float, unix_now: int) -> list[Command]:
        commands: list[Command] = []
        match event:
            case SetWanted(wanted=wanted):
                if self._wanted and not wanted:
                    self._let_go_at = now + self._config.release_grace
                elif wanted:
                    self._let_go_at = None
                self._wanted = wanted
            case CandidateSeen():
                self._seen(event)
            case CandidateLost(relay=relay):
                if (lost := self._relays.pop(relay, None)) is not None and lost.state is not State.IDLE:
                    self._reputation.disappointed(relay)
                    self._seek_soon(now)
                    commands.append(LetGo(relay))
            case CandidateLeaving(relay=relay):
                commands += self._leaving(relay, now)
            case Answered(relay=relay, round_trip=round_trip):
                self._answered(relay, round_trip, now)
            case Reserved():
                commands += self._reserved(event, now, unix_now)
            case ReserveFailed():
                commands += self._failed(event, now)
            case _:
                pass  # TimerFired: what is due is done below
        return commands + self._advance(now, unix_now)

    def next_wakeup(self) -> float | None:
        """When something is due, if nothing happens before."""
        times: list[float] = []
        if self._let_go_at is not None:
            times.append(self._let_go_at)
        for relay in self._relays.values():
            if relay.lease is not None:
                times.append(self._silence_ends(relay))
                times.append(relay.lease.ends_at)
                if relay.state is State.HELD and self._wanted:
                    times.append(relay.lease.renew_at)
                if relay.leave_by is not None:
                    times.append(relay.leave_by)
        if self._wanted and self._missing() > 0:
            times += self._attempt_times()
        return min(times, default=None)

    # Events

    def _seen(self, event: CandidateSeen) -> None:
        known = self._relays.get(event.relay)
        if known is None:
            if len(self._relays) >= self._config.max_candidates and not self._make_room(event):
                return
            known = self._relays[event.relay] = Candidate(event.relay, self._rng.random())
            self._seek_wait = self._config.seek_interval[0]
        elif known.state is State.LEAVING:
            self._stays(known)
        known.prefix, known.is_entry_point = event.prefix, event.is_entry_point
        if event.round_trip is not None:
            known.round_trip = event.round_trip

    def _make_room(self, event: CandidateSeen) -> bool:
        """Whoever floods us with relays must not keep out the entry points."""
        if event.is_entry_point:
            for known in self._relays.values():
                if known.state is State.IDLE and not known.is_entry_point:
                    del self._relays[known.relay]
                    return True
        return False

    def _leaving(self, relay: PeerId, now: float) -> list[Command]:
        known = self._relays.get(relay)
        if known is None or known.state is State.LEAVING:
            return []
        if known.lease is None:
            del self._relays[relay]
            return self._release(known)
        known.state, known.leave_by = State.LEAVING, now + self._config.replace_within
        known.lease.is_sound = False
        self._seek_soon(now)
        return []

    def _seek_soon(self, now: float) -> None:
        """We need one more than a moment ago, and who was away then may be back."""
        self._seek_wait = self._config.seek_interval[0]
        self._seek_at = min(self._seek_at, now + self._seek_wait)

    def _stays(self, relay: Candidate) -> None:
        """It relays on. If its place is taken by now, it goes as any that is not needed."""
        assert relay.lease is not None
        relay.state, relay.leave_by, relay.is_announced = State.HELD, None, self._missing() > 0
        relay.lease.is_sound = relay.is_announced

    def _answered(self, relay: PeerId, round_trip: float | None, now: float) -> None:
        known = self._relays.get(relay)
        if known is None:
            return
        if round_trip is not None:
            known.round_trip = round_trip
        self.heard(relay, now)

    def _reserved(self, event: Reserved, now: float, unix_now: int) -> list[Command]:
        known = self._relays.get(event.relay)
        if known is None or known.attempt != event.attempt or known.state not in _ASKED:
            return []
        lease = min(float(event.expires_at - unix_now), self._config.max_lease)
        if lease < self._config.min_lease:
            return self._failed(ReserveFailed(event.relay, event.attempt, Failure.LEASE), now)
        if known.state is State.RENEWING:
            self._reputation.redeemed(event.relay)
        else:
            known.answer_by = None
        self.heard(event.relay, now)
        known.state = State.HELD
        known.lease = Lease(
            Reservation(event.relay, event.addresses, unix_now + int(lease)),
            ends_at=now + lease,
            renew_at=now + lease * self._rng.uniform(*self._config.renew_between),
        )
        return []

    def _failed(self, event: ReserveFailed, now: float) -> list[Command]:
        known = self._relays.get(event.relay)
        if known is None or known.attempt != event.attempt or known.state not in _ASKED:
            return []
        if known.state is State.RENEWING and event.reason not in DISTRUSTED:
            assert known.lease is not None
            known.state = State.HELD
            known.lease.is_sound = False
            known.lease.renew_at = now + self._config.renew_retry * self._rng.uniform(0.75, 1.25)
            return []
        suspicion = [Suspect(event.relay)] if event.reason is Failure.TIMEOUT else []
        return [*suspicion, *self._give_up(known, event.reason, now)]

    # What is due

    def _advance(self, now: float, unix_now: int) -> list[Command]:
        commands: list[Command] = []
        if self._let_go_at is not None and self._let_go_at <= now:
            self._let_go_at = None
            for relay in self._relays.values():
                commands += self._release(relay)
        for relay in self._relays.values():
            commands += self._look_after(relay, now, unix_now)
        self._relays = {
            peer: relay
            for peer, relay in self._relays.items()
            if relay.state is not State.LEAVING or relay.lease is not None
        }
        commands += self._drop_surplus(now)
        if self._wanted:
            self._make_way(now)
            commands += self._choose(now)
        self._pass_over(now)
        announced = tuple((held.relay, held.addresses) for held in self.reservations)
        if announced != self._announced:
            self._announced = announced
            commands.append(ReservationsChanged())
        return commands

    def _look_after(self, relay: Candidate, now: float, unix_now: int) -> list[Command]:
        """Expiry, probes and renewal of one relay that holds a slot."""
        lease = relay.lease
        if lease is None:
            return []
        # By either clock: the monotonic one stands still while a laptop sleeps.
        if lease.ends_at <= now or lease.reservation.expires_at <= unix_now:
            return self._release(relay)
        if relay.answer_by is not None and relay.answer_by <= now < relay.answer_by + self._config.stall:
            return [Suspect(relay.relay), *self._give_up(relay, Failure.TIMEOUT, now)]
        if now >= self._silence_ends(relay):
            relay.probed_at, relay.answer_by = now, now + self._patience(relay)
            return [Probe(relay.relay), *self._renew(relay, lease, now)]
        return self._renew(relay, lease, now)

    def _renew(self, relay: Candidate, lease: Lease, now: float) -> list[Command]:
        if relay.state is not State.HELD or lease.renew_at > now or not self._wanted:
            return []
        if lease.is_sound and self._is_outdone(relay, now):
            lease.is_sound = False
            lease.renew_at = now + self._config.renew_retry
            return []
        return [self._ask(relay, State.RENEWING, now)]

    def _is_outdone(self, relay: Candidate, now: float) -> bool:
        """Whether there is a better relay by now: an entry point, one apart from the other, a nearer one."""
        beside = [other for other in self._relays.values() if other.lease is not None and other is not relay]
        own = self._rank(relay, beside)
        gained = (*own[:3], own[3] - self._config.worthwhile)
        return any(
            self._rank(other, beside)[:4] < gained
            for other in self._relays.values()
            if self._may_ask(other, now)
        )

    def _silence_ends(self, relay: Candidate) -> float:
        """When something is done about not having heard of a relay."""
        return relay.heard_at + self._config.probe_interval if relay.answer_by is None else relay.answer_by

    def _patience(self, relay: Candidate) -> float:
        timeout = self._config.probe_timeout
        return min(max(timeout, 4 * (relay.round_trip or 0.0)), 2 * timeout)

    def _drop_surplus(self, now: float) -> list[Command]:
        """Once there are enough, nobody waits for slow ones, and those whose renewal failed may go."""
        if self._missing() > 0:
            return []
        commands: list[Command] = []
        for relay in self._relays.values():
            if relay.state is State.RESERVING:
                if now >= relay.asked_at + self._config.hedge_after:
                    self._reputation.disappointed(relay.relay)
                commands += self._release(relay)
            elif relay.lease is not None and not relay.lease.is_sound and relay.state is not State.LEAVING:
                commands += self._release(relay)
        return commands

    def _pass_over(self, now: float) -> None:
        """Which of those that are about to stop are still worth telling."""
        missing = self._missing()
        for relay in self._relays.values():
            if relay.state is State.LEAVING:
                if relay.leave_by is not None and (missing <= 0 or relay.leave_by <= now):
                    relay.leave_by = None
                relay.is_announced = relay.leave_by is not None or missing == self._config.reservations

    def _make_way(self, now: float) -> None:
        """Strangers hold the places of entry points only as long as there are none, whatever their lease."""
        back = sum(relay.is_entry_point and self._may_ask(relay, now) for relay in self._relays.values())
        strangers = [
            relay.lease
            for relay in self._relays.values()
            if relay.lease is not None and relay.lease.is_sound and not relay.is_entry_point
        ]
        for lease in strangers[:back]:
            lease.is_sound = False

    def _choose(self, now: float) -> list[Command]:
        commands: list[Command] = []
        missing = self._missing()
        while missing > self._fresh_attempts(now) and self._asked() < self._config.max_attempts:
            taken = [relay for relay in self._relays.values() if relay.state is not State.IDLE]
            free = [relay for relay in self._relays.values() if self._may_ask(relay, now)]
            if not free:
                break
            best = min(free, key=lambda relay: self._rank(relay, taken))
            commands += [Protect(best.relay), self._ask(best, State.RESERVING, now)]
        if missing > self._fresh_attempts(now) and now >= self._seek_at:
            self._seek_at = now + self._seek_wait
            self._seek_wait = min(2 * self._seek_wait, self._config.seek_interval[1])
            commands.append(SeekCandidates())
        return commands

    def _attempt_times(self) -> list[float]:
        """When another relay may be asked, or more are to be sought."""
        slow_at = sorted(
            relay.asked_at + self._config.hedge_after
            for relay in self._relays.values()
            if relay.state is State.RESERVING
        )
        # From then on fewer attempts are fresh than slots are missing.
        due = max([0.0, *slow_at[: max(0, len(slow_at) - self._missing() + 1)]])
        times = [max(due, self._seek_at)]
        if len(slow_at) < self._config.max_attempts:
            idle = [relay.relay for relay in self._relays.values() if relay.state is State.IDLE]
            times += [max(due, min(map(self._reputation.rest_until, idle)))] if idle else []
        return times

    # Helpers

    def _missing(self) -> int:
        sound = sum(relay.lease is not None and relay.lease.is_sound for relay in self._relays.values())
        return self._config.reservations - sound

    def _asked(self) -> int:
        return sum(relay.state is State.RESERVING for relay in self._relays.values())

    def _fresh_attempts(self, now: float) -> int:
        """Attempts that are not yet slow."""
        return sum(
            relay.state is State.RESERVING and now < relay.asked_at + self._config.hedge_after
            for relay in self._relays.values()
        )

    def _may_ask(self, relay: Candidate, now: float) -> bool:
        return relay.state is State.IDLE and self._reputation.rest_until(relay.relay) <= now

    def _rank(self, relay: Candidate, beside: list[Candidate]) -> tuple[bool, bool, bool, float, float]:
        """The smallest is the best: an entry point, no troubles, apart from those we have, near.

        What we know of an entry point counts before what it did: whoever waits for the connections of all of
        them to break once, as they do when our network changes, must not become our relay for that.
        """
        apart = relay.prefix is None or all(
            relay.prefix != other.prefix for other in beside if other is not relay
        )
        near = float("inf") if relay.round_trip is None else relay.round_trip
        troubled = self._reputation.is_troubled(relay.relay)
        return not relay.is_entry_point, troubled, not apart, near, relay.tie

    def _ask(self, relay: Candidate, state: State, now: float) -> Command:
        self._attempts += 1
        relay.state, relay.attempt, relay.asked_at = state, self._attempts, now
        return Reserve(relay.relay, self._attempts)

    def _release(self, relay: Candidate) -> list[Command]:
        """Back to IDLE, without blame."""
        if relay.state is State.IDLE:
            return []
        if relay.state is not State.LEAVING:  # a leaving one is a candidate no more
            relay.state = State.IDLE
        relay.lease, relay.answer_by, relay.leave_by, relay.is_announced = None, None, None, True
        return [LetGo(relay.relay)]

    def _give_up(self, relay: Candidate, reason: Failure, now: float) -> list[Command]:
        """Back to IDLE, to rest for as long as the reason asks for."""
        self._reputation.failed(relay.relay, reason, now)
        return self._release(relay)
