"""Witnesses of a simulation: the shipped book of each, with the faults that they have.

    witnesses = SimulatedWitnesses(["w1", "w2", "w3"])
    kind = NameRecords(witnesses.sets)
    witnesses.ask(request, owner, now, unix_now)      what `WitnessesAnswered` carries

What is asked and answered goes through its bytes, as on the wire. A witness that has a `place` is asked over
the simulated network (`wws.testing.simulated_names`), at its distance and only where it can be reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.names.kinds import WitnessSets
from wws.names.receipts import Receipt
from wws.names.rules import MAX_LEASE
from wws.names.witness.book import BookConfig, WitnessBook
from wws.names.witness.entry import Caller
from wws.names.witness.log import Kind, LogEntry
from wws.names.witness.messages import (
    Op,
    WitnessAnswer,
    WitnessAnswers,
    WitnessRequest,
    answer_bytes,
    parse_answer,
)
from wws.testing.names import person
from wws.testing.simulated_network import Place


class SimulatedWitness:
    """One witness, and what may be wrong with it.

    `is_away`: it cannot be reached. `loses_answers`: it does as asked, and nobody hears of it. `ahead`:
    seconds by which its clock is ahead. `lies`: whoever asks for a name gets a full receipt, as if nobody had
    ever come for it before.
    """

    def __init__(self, identity: Identity, witnesses: SimulatedWitnesses, config: BookConfig | None) -> None:
        self.identity = identity
        self.peer_id = identity.peer_id
        self.is_away = False
        self.loses_answers = False
        self.ahead = 0
        self.lies = False
        self.place: Place | None = None
        """Where it stands in the simulated network; without, it is asked by a call."""
        self.log: list[LogEntry] = []
        """Every full receipt that it has given, whether it still knows of it or not."""
        self._witnesses = witnesses
        self._config = config
        self.book = self._new_book()

    def lose_disk(self, *, claims_from: int = 0) -> None:
        """Everything it knew is gone. Before `claims_from` it takes no first claims."""
        self.book = self._new_book()
        self.book.restore((), (), claims_from=claims_from)

    def answer(
        self, request: WitnessRequest, owner: PeerId, now: float, unix_now: int
    ) -> WitnessAnswer | None:
        """What it says to `owner`, who is alone in a prefix."""
        if self.is_away:
            return None
        asked = WitnessRequest.parse(request.to_bytes())
        answer: WitnessAnswer | None = self._lie(asked, owner, unix_now) if self.lies else None
        if answer is None:
            decision = self.book.decide(asked, Caller(owner, str(owner)), now, unix_now + self.ahead)
            answer = decision.answer
            self._given(decision.changes.log)
        return None if self.loses_answers else parse_answer(answer_bytes(answer))

    def _lie(self, asked: WitnessRequest, owner: PeerId, unix_now: int) -> Receipt | None:
        """A receipt for anyone: seen when the owner says, good for a day."""
        if asked.op is Op.DROP:
            return None
        receipt = Receipt.sign(
            self.identity,
            swarm=asked.swarm,
            name=asked.name,
            owner=owner,
            registered_at=asked.registered_at,
            first_seen=asked.registered_at,
            expires_at=unix_now + MAX_LEASE,
            via=asked.transfers[-1].digest if asked.transfers else None,
        )
        self._given([LogEntry(unix_now, Kind.CLAIMED, receipt)])
        return receipt

    def _given(self, entries: Iterable[LogEntry]) -> None:
        for entry in entries:
            self.log.append(entry)
            if self._witnesses.on_receipt is not None:
                self._witnesses.on_receipt(entry.receipt)

    def _new_book(self) -> WitnessBook:
        return WitnessBook(
            self.identity,
            self._witnesses.sets,
            lambda: self._witnesses.swarm_size,
            lambda name: name in self._witnesses.denied,
            self._config,
        )


class SimulatedWitnesses:
    """W and W′ of a network, by labels."""

    def __init__(
        self, labels: Iterable[str] = (), *, swarm_size: int = 10, config: BookConfig | None = None
    ) -> None:
        self.swarm_size = swarm_size
        self.denied: set[str] = set()
        self.on_receipt: Callable[[Receipt], None] | None = None
        """Told of each full receipt before it leaves."""
        self._config = config
        self._known: dict[PeerId, SimulatedWitness] = {}
        self._now: frozenset[PeerId] = frozenset()
        self._before: frozenset[PeerId] = frozenset()
        self.change(labels)

    def sets(self) -> WitnessSets:
        """W and W′, as `Witnesses` wants them."""
        return self._now, self._before

    @property
    def all(self) -> Sequence[SimulatedWitness]:
        """The members of W and W′, by label where they were made in that order."""
        return [witness for witness in self._known.values() if witness.peer_id in self._now | self._before]

    def __getitem__(self, label: str) -> SimulatedWitness:
        return self._known[person(label).peer_id]

    def change(self, labels: Iterable[str]) -> None:
        """Another W; the one of before is W′."""
        self._before = self._now
        identities = [person(label) for label in labels]
        for identity in identities:
            if identity.peer_id not in self._known:
                self._known[identity.peer_id] = SimulatedWitness(identity, self, self._config)
        self._now = frozenset(identity.peer_id for identity in identities)

    def settle(self, places: Iterable[Place]) -> None:
        """Let the members of W stand at these places, in the order of their labels."""
        members = (witness for witness in self._known.values() if witness.peer_id in self._now)
        for witness, place in zip(members, places, strict=False):
            witness.place = place

    def forget_before(self) -> None:
        """The 48 hours are over: W′ counts no longer."""
        self._before = frozenset()

    def ask(self, request: WitnessRequest, owner: PeerId, now: float, unix_now: int) -> WitnessAnswers:
        """Ask every member of both sets, in the order of their PeerIds."""
        members = sorted(self.all, key=lambda witness: str(witness.peer_id))
        return tuple((one.peer_id, one.answer(request, owner, now, unix_now)) for one in members)
