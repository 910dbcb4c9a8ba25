"""What is done with a look-up: find, get, put, provide, find providers.

An operation is told of answers and failures, and returns steps: `Outgoing` messages, and at its end one of
the `…Done` commands of `wws.dht.events`. It goes on after that where something useful is left to do in the
background (storing at the remaining holders, correcting entries), and is over when `finished`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from wws.addresses.multiaddr import Multiaddr
from wws.dht import lookup as lookups
from wws.dht.events import FindDone, GetDone, ProvidersDone, PutDone
from wws.dht.lookup import Lookup
from wws.dht.messages import KadMessage, KadRecord, MessageType, WirePeer
from wws.dht.positions import position_of_peer
from wws.dht.store import RecordKind
from wws.errors import ParseError
from wws.identity.peer_id import PeerId
from wws.machine import Event


@dataclass(frozen=True, slots=True)
class OperationConfig:
    k: int = 20
    """Holders that a value is stored at, and asked for."""
    quorum: int = 8
    """Confirmations after which a put is done; fewer where fewer holders can be reached."""
    enough_values: int = 3
    """Holders that must have shown a value before a get ends early."""
    widen_to: int = 40
    """As many are asked before a get ends without a value, from when k answered and none had it: who hides
    a value must crowd that many out."""
    put_patience: float = 2.5
    """Seconds after the look-up's end for which a put waits for holders that do not answer."""
    max_values: int = 16
    """Different valid values compared in one get; over it a further one takes a loser's place, or none."""
    max_providers: int = 20
    """Providers after which looking for more of them ends."""


class Purpose(Enum):
    """What an outgoing message is for."""

    ASK = auto()
    """A step of the look-up."""
    STORE = auto()
    """The value or the provider itself."""
    CORRECT = auto()
    """The winner, for a holder that returned less."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be sent as a query."""

    peer: PeerId
    addresses: tuple[Multiaddr, ...]
    message: KadMessage
    purpose: Purpose
    expects_answer: bool = True


Step: TypeAlias = Outgoing | GetDone | PutDone | FindDone | ProvidersDone


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


class Operation(ABC):
    """A look-up and what it is for. `op` is the caller's number, or `None` for work of our own."""

    def __init__(self, op: int | None, key: bytes, lookup: Lookup, config: OperationConfig) -> None:
        self.op = op
        self.key = key
        self.lookup = lookup
        self.config = config
        self.reported = False
        """Whether the caller was given the result."""
        self.complete = False
        """Whether the look-up came to its natural end."""
        self.sampled = False
        """Whether what the look-up saw went into the estimate of the swarm's size."""
        self.outstanding = 0
        """Messages on their way, of any purpose."""

    @property
    def finished(self) -> bool:
        """Nothing is left to do or to hear."""
        return self.reported and self.outstanding == 0 and self.lookup.state is lookups.State.DONE

    def start(self, seeds: Sequence[WirePeer], now: float, unix_now: int) -> list[Step]:
        """Begin from the closest peers known."""
        return self._drive(lookups.Start(seeds), now, unix_now)

    def answered(
        self, peer: PeerId, purpose: Purpose, message: KadMessage | None, now: float, unix_now: int
    ) -> list[Step]:
        """An outgoing message has its answer."""
        self.outstanding -= 1
        if purpose is not Purpose.ASK:
            return self.confirmed(peer, purpose, message, now, unix_now)
        if message is None:
            return self._drive(lookups.Failed(peer), now, unix_now)
        steps = self.learned(peer, message, now, unix_now)
        return steps + self._drive(lookups.Answered(peer, message.closer_peers), now, unix_now)

    def failed(self, peer: PeerId, purpose: Purpose, now: float, unix_now: int) -> list[Step]:
        """An outgoing message got no answer."""
        self.outstanding -= 1
        if purpose is Purpose.ASK:
            return self._drive(lookups.Failed(peer), now, unix_now)
        return self.confirmed(peer, purpose, None, now, unix_now)

    def timer(self, now: float, unix_now: int) -> list[Step]:
        """`next_wakeup()` has come."""
        steps: list[Step] = []
        due = self.lookup.next_wakeup()
        if due is not None and due <= now:
            steps = self._drive(lookups.TimerFired(), now, unix_now)
        return steps + self.tick(now, unix_now)

    def next_wakeup(self) -> float | None:
        """When something is due, or `None`."""
        return self.lookup.next_wakeup()

    @abstractmethod
    def question(self) -> KadMessage:
        """What each peer of the look-up is asked."""

    @abstractmethod
    def learned(self, peer: PeerId, message: KadMessage, now: float, unix_now: int) -> list[Step]:
        """A peer of the look-up answered; what it says besides closer peers."""

    @abstractmethod
    def arrived(self, now: float, unix_now: int) -> list[Step]:
        """The look-up ended."""

    def confirmed(
        self, peer: PeerId, purpose: Purpose, message: KadMessage | None, now: float, unix_now: int
    ) -> list[Step]:
        """A message that is no step of the look-up was answered, or (`None`) was not."""
        return []

    def tick(self, now: float, unix_now: int) -> list[Step]:
        """Time has passed."""
        return []

    def send(
        self, peer: PeerId, message: KadMessage, purpose: Purpose, *, expects_answer: bool = True
    ) -> Outgoing:
        self.outstanding += 1
        return Outgoing(peer, self.lookup.addresses_of(peer), message, purpose, expects_answer)

    def _drive(self, event: Event, now: float, unix_now: int) -> list[Step]:
        steps: list[Step] = []
        question = self.question()
        for command in self.lookup.handle(event, now):
            if isinstance(command, lookups.Ask):
                self.outstanding += 1
                steps.append(Outgoing(command.peer, command.addresses, question, Purpose.ASK))
            else:
                steps += self.arrived(now, unix_now)
        return steps


class FindOperation(Operation):
    """Finds the peers closest to another one. Ends early when that one itself answered."""

    def __init__(
        self, op: int | None, key: bytes, lookup: Lookup, config: OperationConfig, sought: PeerId | None
    ) -> None:
        super().__init__(op, key, lookup, config)
        self._sought = sought
        self._question = KadMessage(MessageType.FIND_NODE, key)

    def question(self) -> KadMessage:
        return self._question

    def learned(self, peer: PeerId, message: KadMessage, now: float, unix_now: int) -> list[Step]:
        if peer != self._sought or self.reported:
            return []
        self._drive(lookups.Stop(), now, unix_now)
        return self._report([WirePeer(peer, self.lookup.addresses_of(peer))])

    def arrived(self, now: float, unix_now: int) -> list[Step]:
        self.complete = True
        return [] if self.reported else self._report(self.lookup.closest(self.config.k))

    def _report(self, peers: list[WirePeer]) -> list[Step]:
        self.reported = True
        return [FindDone(self.op, tuple(peers))] if self.op is not None else []


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
        self._widened = False
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
        """Whether enough of the k closest known by now have shown a value. One from farther away, like our
        own store, may be left over from before the network grew together: it is compared, and no more."""
        shown = [peer for peer, value in self._returned.items() if value is not None]
        if len(shown) < self.config.enough_values:
            return False
        near = sum(1 for peer in shown if self.lookup.is_among_closest(peer, self.config.k))
        return near >= self.config.enough_values

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
        for peer, value in self._returned.items():
            if value == winner or peer in self._corrected:
                continue
            # Who holds another value gets the winner wherever it stands; who holds none, if it should.
            if value is None and not self.lookup.is_among_closest(peer, self.config.k):
                continue
            self._corrected.add(peer)
            steps.append(self.send(peer, message, Purpose.CORRECT))
        return steps


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
        late = self.complete and self.lookup.is_among_closest(peer, self.config.k)
        if late or position_of_peer(peer) ^ self.lookup.target <= self._sure_distance:
            return self._store_at(peer)
        return []

    def arrived(self, now: float, unix_now: int) -> list[Step]:
        self.complete = True
        steps: list[Step] = []
        for named in self.lookup.spread(self.config.k):
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


class FindProvidersOperation(Operation):
    """Finds who provides a key."""

    def __init__(
        self, op: int | None, key: bytes, lookup: Lookup, config: OperationConfig, known: Sequence[WirePeer]
    ) -> None:
        super().__init__(op, key, lookup, config)
        self._question = KadMessage(MessageType.GET_PROVIDERS, key)
        self._providers: dict[PeerId, WirePeer] = {peer.peer_id: peer for peer in known}

    def question(self) -> KadMessage:
        return self._question

    def learned(self, peer: PeerId, message: KadMessage, now: float, unix_now: int) -> list[Step]:
        for provider in message.provider_peers[: self.config.max_providers]:
            known = self._providers.get(provider.peer_id)
            if known is None or not known.addresses:
                self._providers[provider.peer_id] = provider
        if self.reported or len(self._providers) < self.config.max_providers:
            return []
        self._drive(lookups.Stop(), now, unix_now)
        return self._report()

    def arrived(self, now: float, unix_now: int) -> list[Step]:
        self.complete = True
        return [] if self.reported else self._report()

    def _report(self) -> list[Step]:
        self.reported = True
        providers = tuple(self._providers.values())[: self.config.max_providers]
        return [ProvidersDone(self.op, providers)] if self.op is not None else []
