"""What is done with a look-up: here find and find providers; `getting` and `storing` have the others.

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
from wws.dht.messages import KadMessage, MessageType, WirePeer
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
    max_corrections: int = 40
    """Holders of less that one get brings the winner to; those with another value come first. More than hold
    a value in a dense region, so that liars who always have less use up none of the others' share."""
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
