"""The book and its file together: every request is decided, made durable, and only then answered.

    requests ──► waiting ──► [ decide, decide, … ] ──► one transaction ──► answers
                    ▲                                        │
                    └──── what comes meanwhile waits ◄───────┘

While one transaction is on its way to the disk the next batch gathers, so the busier a witness is, the more
requests share an fsync. No decision is taken between a batch and its outcome, so a batch that the disk has
refused is taken back whole, and nobody has been told anything else.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from dataclasses import dataclass

from wws.errors import WwsError
from wws.names.receipts import Receipt
from wws.names.witness.book import WitnessBook
from wws.names.witness.decision import Changes, Decision
from wws.names.witness.entry import Caller
from wws.names.witness.messages import Why, WitnessAnswer, WitnessRefusal, WitnessRequest
from wws.runtime.clock import Clock
from wws.runtime.witness.store import WitnessStore

_logger = logging.getLogger(__name__)
_NOT_NOW = WitnessRefusal(Why.RATE_LIMITED, retry_after=1)
"""Too many wait, or the node stops: it says nothing of the name, nor of the room for names."""


@dataclass(frozen=True, slots=True)
class RegisterConfig:
    max_waiting: int = 256
    """Requests that wait to be decided; further ones are refused."""
    max_batch: int = 64
    """Requests that share one transaction, at most."""
    keep_house: float = 300.0
    """Seconds between two searches for what has lapsed."""
    compact: float = 3_600.0
    """Seconds between two compactions of the log, at least."""
    retry_after: int = 60
    """Seconds after which who was refused for want of room on the disk may ask again."""


@dataclass(slots=True, eq=False)
class _Asked:
    request: WitnessRequest
    caller: Caller
    answered: asyncio.Future[WitnessAnswer]


class Register:
    """Answers requests out of a book whose every change is on disk. `start` before the first."""

    def __init__(
        self, book: WitnessBook, store: WitnessStore, clock: Clock, config: RegisterConfig | None = None
    ) -> None:
        self._book = book
        self._store = store
        self._clock = clock
        self._config = config or RegisterConfig()
        self._waiting: deque[_Asked] = deque()
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_writable = True
        self._is_closing = False
        self._compacted_at: float | None = None
        self.receipts: Counter[str] = Counter()
        """Receipts that were given since the start, by operation."""
        self.failures: Counter[str] = Counter()
        """Batches that could not be made durable, by error word."""

    @property
    def entries(self) -> int:
        """Names held now, first claims included."""
        return len(self._book.entries)

    @property
    def provisional(self) -> int:
        """First claims among them."""
        return self._book.provisional

    @property
    def is_writable(self) -> bool:
        """Whether the last batch could be made durable."""
        return self._is_writable

    def start(self) -> None:
        """Begin to answer. The book holds what is on disk."""
        self._task = asyncio.get_running_loop().create_task(self._work(), name="witness register")

    def reconfigure(self, config: RegisterConfig) -> None:
        """Let other bounds hold from now on."""
        self._config = config

    async def close(self) -> None:
        """Finish the batch that is under way; who still waits is refused."""
        if self._task is not None:
            self._is_closing = True
            self._woken.set()
            await self._task
            self._task = None
        while self._waiting:
            _tell(self._waiting.popleft(), _NOT_NOW)

    async def ask(self, request: WitnessRequest, caller: Caller) -> WitnessAnswer:
        """The answer, once all that it promises is on disk. A cancelled caller may have been given it."""
        if self._is_closing or len(self._waiting) >= self._config.max_waiting:
            return _NOT_NOW
        asked = _Asked(request, caller, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        self._woken.set()
        return await asked.answered

    async def _work(self) -> None:
        clock = self._clock
        due = clock.monotonic()
        while not self._is_closing:
            if clock.monotonic() >= due:
                await self._keep_house()
                due = clock.monotonic() + self._config.keep_house
            # Cleared before what it stands for is looked at: whoever sets it after that is not missed.
            self._woken.clear()
            if not self._waiting and not self._is_closing:
                try:
                    async with asyncio.timeout(max(0.0, due - clock.monotonic())):
                        await self._woken.wait()
                except TimeoutError:
                    continue
            await self._answer_batch()

    async def _answer_batch(self) -> None:
        batch: list[tuple[_Asked, Decision]] = []
        while self._waiting and len(batch) < self._config.max_batch:
            asked = self._waiting.popleft()
            if not asked.answered.done():  # else nobody waits for it any more
                now, unix_now = self._clock.monotonic(), self._clock.unix()
                batch.append((asked, self._book.decide(asked.request, asked.caller, now, unix_now)))
                await asyncio.sleep(0)  # each may verify a dozen signatures: others get their turn
        is_durable = await self._make_durable([decision.changes for _, decision in batch])
        for asked, decision in batch:
            answer = decision.answer
            if not is_durable and not isinstance(answer, WitnessRefusal):
                answer = WitnessRefusal(Why.WITNESS_FULL, retry_after=self._config.retry_after)
            if isinstance(answer, Receipt):
                self.receipts[asked.request.op.value] += 1
            _tell(asked, answer)

    async def _make_durable(self, batch: list[Changes]) -> bool:
        """Whether what the batch has changed is on disk; else it is taken back."""
        batch = [changes for changes in batch if changes]
        if not batch:
            return True
        try:
            await self._store.commit(batch)
        except WwsError as error:
            self._book.undo(batch)
            self.failures[error.code] += 1
            if self._is_writable:
                _logger.warning("no receipts until this is mended: %s %s", error, error.hint)
            self._is_writable = False
            return False
        if not self._is_writable:
            _logger.warning("receipts are given again: the log can be written")
        self._is_writable = True
        return True

    async def _keep_house(self) -> None:
        now = self._clock.monotonic()
        await self._make_durable([self._book.sweep(now, self._clock.unix())])
        if self._compacted_at is not None and now < self._compacted_at + self._config.compact:
            return
        self._compacted_at = now
        try:
            await self._store.compact(self._clock.unix())
        except WwsError as error:
            self.failures[error.code] += 1


def _tell(asked: _Asked, answer: WitnessAnswer) -> None:
    if not asked.answered.done():
        asked.answered.set_result(answer)
