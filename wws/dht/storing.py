"""Storing at the peers closest to a key: a value (put), or that this node provides something."""

from __future__ import annotations

from wws.dht.events import PutDone
from wws.dht.lookup import Lookup
from wws.dht.messages import KadMessage, MessageType
from wws.dht.operations import Operation, OperationConfig, Purpose, Step
from wws.dht.positions import position_of_peer
from wws.identity.peer_id import PeerId


class StoreOperation(Operation):
    """Brings something to the peers closest to a key: a value (put) or an announcement (provide).

    Peers within `sure_distance` are among the closest beyond doubt, and get it as soon as they answer,
    while the look-up still runs (Trautwein et al. 2024, "IPFS in the Fast Lane": optimistic provide).
    """

    def __init__(
        self,
        op: int | None,
        key: bytes,
        lookup: Lookup,
        config: OperationConfig,
        message: KadMessage,
        own: int,
        sure_distance: int,
    ) -> None:
        super().__init__(op, key, lookup, config)
        self._question = KadMessage(MessageType.FIND_NODE, key)
        self._message = message
        self._expects_answer = message.type is MessageType.PUT_VALUE
        self._stored = own
        self._refused = 0
        self._pending = 0
        self._sent: set[PeerId] = set()
        self._sure_distance = sure_distance
        self._give_up_at: float | None = None
        self.rival: bytes | None = None
        """A value that a holder kept instead of ours, not judged yet."""

    def question(self) -> KadMessage:
        return self._question

    def next_wakeup(self) -> float | None:
        inner = self.lookup.next_wakeup()
        if self._give_up_at is None or self.reported:
            return inner
        return self._give_up_at if inner is None else min(inner, self._give_up_at)

    def learned(self, peer: PeerId, message: KadMessage, now: float, unix_now: int) -> list[Step]:
        late = self.complete and self.lookup.belongs(peer)
        if late or position_of_peer(peer) ^ self.lookup.target <= self._sure_distance:
            return self._store_at(peer)
        return []

    def arrived(self, now: float, unix_now: int) -> list[Step]:
        self.complete = True
        steps: list[Step] = []
        for named in self.lookup.spread(self.lookup.k):
            steps += self._store_at(named.peer_id)
        self._give_up_at = now + self.config.put_patience
        return steps + self._report_if_done(now)

    def confirmed(
        self, peer: PeerId, purpose: Purpose, message: KadMessage | None, now: float, unix_now: int
    ) -> list[Step]:
        self._pending -= 1
        ours = self._message.record
        if not self._expects_answer:
            self._stored += 1
        elif message is not None and message.record is not None and ours is not None:
            if message.record.value == ours.value:
                self._stored += 1
            else:
                self._refused += 1
                self.rival = message.record.value
        return self._report_if_done(now)

    def failed(self, peer: PeerId, purpose: Purpose, now: float, unix_now: int) -> list[Step]:
        if purpose is Purpose.ASK:
            return super().failed(peer, purpose, now, unix_now)
        self.outstanding -= 1
        self._pending -= 1
        return self._report_if_done(now)

    def tick(self, now: float, unix_now: int) -> list[Step]:
        return self._report_if_done(now)

    def _store_at(self, peer: PeerId) -> list[Step]:
        if peer in self._sent:
            return []
        self._sent.add(peer)
        self._pending += 1
        return [self.send(peer, self._message, Purpose.STORE, expects_answer=self._expects_answer)]

    def _report_if_done(self, now: float) -> list[Step]:
        if self.reported:
            return []
        # The quorum is never larger than what can be reached: when nobody is left to confirm, it is done.
        if self._stored < self.config.quorum:
            if not self.complete:
                return []
            if self._pending and self._give_up_at is not None and now < self._give_up_at:
                return []
        self.reported = True
        if self.op is None:
            return []
        reachable = self._stored + self._refused + self._pending
        return [PutDone(self.op, self._stored, reachable, self.rival)]
