"""Witnesses in memory, for tests: books that hear each other's receipts, and one clock."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from wws.identity.peer_id import PeerId
from wws.names.receipts import Receipt
from wws.names.transfers import Transfer
from wws.names.witness.book import BookConfig, WitnessBook
from wws.names.witness.entry import Caller
from wws.names.witness.log import LogEntry
from wws.names.witness.messages import Op, WitnessAnswer, WitnessRequest
from wws.testing.names import NOW, person, solved_work

THREE: Final = ("first witness", "second witness", "third witness")


class WitnessGroup:
    """W and its books. `log` holds every full receipt that each has given, as its file would."""

    def __init__(
        self,
        labels: Collection[str] = THREE,
        config: BookConfig | None = None,
        *,
        swarm_size: int = 1,
        denied: Collection[str] = (),
        before: Collection[str] = (),
    ) -> None:
        """`before` is W′."""
        self.labels = tuple(labels)
        self.now = 0.0
        self.unix_now = NOW
        self.swarm_size = swarm_size
        self.members = (_peers(labels), _peers(before))
        self._config = config
        self._denied = frozenset(denied)
        self.books = {label: self._book(label) for label in (*labels, *before)}
        self.log: dict[str, list[LogEntry]] = {label: [] for label in self.books}

    def _book(self, label: str) -> WitnessBook:
        return WitnessBook(
            person(label),
            lambda: self.members,
            lambda: self.swarm_size,
            lambda name: name in self._denied,
            self._config,
        )

    def forget(self, label: str) -> None:
        """The witness loses its disk."""
        self.books[label] = self._book(label)

    def advance(self, seconds: float) -> None:
        """Time passes for all of them."""
        self.now += seconds
        self.unix_now += int(seconds)

    def tell(
        self, label: str, request: WitnessRequest, owner: str, *, prefix: str | None = None
    ) -> WitnessAnswer:
        """The answer of one witness, taken as written."""
        caller = Caller(person(owner).peer_id, prefix)
        decision = self.books[label].decide(request, caller, self.now, self.unix_now)
        self.log[label] += decision.changes.log
        return decision.answer

    def ask(
        self,
        op: Op,
        owner: str,
        *,
        name: str = "alice",
        registered_at: int | None = None,
        transfers: Iterable[Transfer] = (),
        receipts: Iterable[Receipt] = (),
        only: Collection[str] | None = None,
        prefix: str | None = None,
    ) -> dict[str, WitnessAnswer]:
        """The answers of all, or of `only` some, to one request."""
        request = WitnessRequest(
            op=op,
            swarm="public",
            name=name,
            nonce=solved_work(owner, name),
            registered_at=self.unix_now if registered_at is None else registered_at,
            transfers=tuple(transfers),
            receipts=tuple(receipts),
        )
        return {
            label: self.tell(label, request, owner, prefix=prefix)
            for label in (self.books if only is None else only)
        }

    def claim(self, owner: str, **more: object) -> dict[str, Receipt]:
        """Claim at all of them and make it full; the full receipts. For tests in which this goes well."""
        provisional = receipts_in(self.ask(Op.CLAIM, owner, **more))  # type: ignore[arg-type]
        at = {receipt.registered_at for receipt in provisional.values()}.pop()
        renewed = self.ask(
            Op.RENEW,
            owner,
            **{**more, "registered_at": at, "receipts": provisional.values()},  # type: ignore[arg-type]
        )
        return receipts_in(renewed)


def receipts_in(answers: dict[str, WitnessAnswer]) -> dict[str, Receipt]:
    """The receipts among the answers."""
    return {label: answer for label, answer in answers.items() if isinstance(answer, Receipt)}


def _peers(labels: Iterable[str]) -> frozenset[PeerId]:
    return frozenset(person(label).peer_id for label in labels)
