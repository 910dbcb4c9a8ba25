"""How a lease goes to another key, and how it comes from one (wire.md section 4).

    giver   HELD ──Transfer──> HELD, with a signed entry ──the taker's record wins──> TRANSFERRED
    taker   ──Accept──> LOOKING for the giver's record ──> SOLVING ──> ASKING ──m with `via`──> STORING …
                           └────────<──── WAITING <─── not there, no majority ──┘

The giver goes on renewing until it sees that the taker has the name, so that it never belongs to nobody; the
taker's record wins as soon as a majority of witnesses has moved the name, or at once where there are none.
"""

from __future__ import annotations

from dataclasses import replace

from wws.identity import proof_of_work
from wws.identity.peer_id import PeerId
from wws.machine import Command
from wws.names.errors import NotHeldHere, TransferImpossible
from wws.names.events import Accept, AcceptRefused, NameTaken, SaveState, TransferSigned
from wws.names.handover import check_offer, sign_away, take_up
from wws.names.lease_claim import LeaseClaim
from wws.names.lease_state import LeaseState
from wws.names.lease_table import UNDER_WAY, State
from wws.names.record import NameRecord
from wws.names.transfers import Transfer


class LeaseHandover(LeaseClaim):
    """Giving away and taking up."""

    def _give_away(self, to: PeerId, now: float, unix_now: int) -> list[Command]:
        lease = self._lease
        if lease is None or self._confirmed is None or lease.released:
            raise NotHeldHere(f"{self.name!r} is not held, so it cannot be given away")
        entry = sign_away(self._identity, lease, to, unix_now)
        if entry is lease.given:
            return [TransferSigned(entry)]
        self._lease = replace(lease, given=entry)
        self._upkeep.checked(now, again_after=self._config.settle_after)
        if self.state is State.HELD:
            self._rest(self._confirmed, now, unix_now)
        return [SaveState(self._lease), TransferSigned(entry)]

    def _accept(self, accept: Accept, unix_now: int) -> list[Command]:
        """Begin to take up a name, or go on with it. Raises when it is not offered to us, or ours already."""
        entry, lease = accept.entry, self._lease
        check_offer(entry, name=self.name, swarm=self.swarm, taker=self._identity.peer_id)
        if accept.bits > proof_of_work.MOST_BITS:
            raise TransferImpossible(f"{accept.bits} bits of work are not attempted")
        if entry == self._offer:
            return []
        if lease is not None and self._is_alive(unix_now) and not lease.released:
            if entry in lease.transfers:
                return [self._held(self._confirmed)] if self._confirmed is not None else []
            raise TransferImpossible(f"{self.name!r} is ours already, by another way than this transfer")
        if self.state in UNDER_WAY or self.state is State.RELEASING:
            self._wanted = accept
            return []
        return self._begin_to_accept(accept)

    def _begin_to_accept(self, accept: Accept) -> list[Command]:
        self._bits = max(accept.bits, proof_of_work.LEAST_BITS)
        self._offer = accept.entry
        self._lease = self._record = self._confirmed = self._candidate = None
        self._searches = 0
        return [SaveState(LeaseState.wish(accept.entry, self._last_seq)), *self._look_up(State.LOOKING)]

    def _take_up(self, found: NameRecord | None, offer: Transfer, now: float, unix_now: int) -> list[Command]:
        """Go on from the giver's record, where it is the one that was found."""
        ours = self._identity.peer_id
        if found is None or found.is_dead(unix_now):
            self._searches += 1
            if self._searches < self._cover_config.searches:
                return self._wait(State.LOOKING, "the record of who gives the name was not found", now)
            reason = f"no record of {self.name!r} was found that the transfer could go on from"
            return self._end(State.TAKEN, AcceptRefused(TransferImpossible.code, reason))
        if found.peer_id == ours and offer in found.transfers:
            self._offer = None
            self._lease = self._adopted(found)
            return self._publish(self._lease, now, unix_now)
        if found.peer_id != offer.from_peer:
            return self._end(
                State.TAKEN, NameTaken(found.peer_id, found.expires_at, found.dead_at, found.released)
            )
        try:
            lease = take_up(found, offer, ours)
        except TransferImpossible as refusal:
            return self._end(State.TAKEN, AcceptRefused(refusal.code, str(refusal)))
        before = self._candidate
        if before is not None and before.transfers == lease.transfers:
            lease = replace(lease, nonce=before.nonce, receipts=before.receipts)
        self._giver = found
        return self._publish(lease, now, unix_now)
