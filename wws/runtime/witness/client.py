"""Asks the witnesses: every member of W and W′, all at once, over direct connections (wire.md section 5).

    request ──┬─► connected, or dialled ─► stream ─► answer ──┐
              ├─► …                                           ├─► answers, one a member; `None`: not asked
              └─► not reached, silent, malformed ─► None ─────┘

A round ends when all have answered, when `patience` has passed since the rest can change nothing, or at the
time-out. The rest can change nothing once a majority of each set has given what was asked for, or so many
have refused that none is left: one witness that is quick to refuse does not shorten the time of an honest one
that is slow. What an answer is worth the lease decides; here it is parsed, and looked at for that alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from wws.addresses.multiaddr import Multiaddr
from wws.errors import Truncated, WwsError
from wws.identity.peer_id import PeerId
from wws.names.kinds import Witnesses
from wws.names.receipts import Receipt, majority
from wws.names.witness.messages import (
    MAX_MESSAGE,
    RECEIPT_PROTOCOL,
    Dropped,
    Op,
    Why,
    WitnessAnswer,
    WitnessAnswers,
    WitnessRefusal,
    WitnessRequest,
    parse_answer,
)
from wws.runtime.dialer import Dialer
from wws.runtime.host import Host


@dataclass(frozen=True, slots=True)
class WitnessClientConfig:
    timeout: float = 6.0
    """Seconds for one round, dials included."""
    patience: float = 1.0
    """Seconds that the others get once they can change nothing in either set."""
    max_rounds: int = 8
    """Rounds at a time; further ones wait: one node has many names, and its witnesses have limits."""


class WitnessClient:
    """Asks on behalf of the leases of this node. `addresses_of` tells where an entry point is."""

    def __init__(
        self,
        host: Host,
        dialer: Dialer,
        witnesses: Witnesses,
        addresses_of: Callable[[PeerId], tuple[Multiaddr, ...]],
        config: WitnessClientConfig | None = None,
    ) -> None:
        self._host = host
        self._dialer = dialer
        self._witnesses = witnesses
        self._addresses_of = addresses_of
        self._config = config or WitnessClientConfig()
        self._rounds = asyncio.Semaphore(self._config.max_rounds)
        self.answers: Counter[tuple[str, str]] = Counter()
        """What came of questions, by operation and `receipt`, `dropped`, the word of a refusal, or why there
        was no answer."""

    async def ask(self, request: WitnessRequest) -> WitnessAnswers:
        """What each member says. Never raises a `WwsError`: not to be reached is an answer too."""
        async with self._rounds:
            groups = [group - {self._host.identity.peer_id} for group in self._witnesses()]
            members = sorted(frozenset().union(*groups), key=str)
            tasks = {member: asyncio.create_task(self._ask(member, request)) for member in members}
            try:
                await self._collect(tasks, [group for group in groups if group], request)
            finally:
                for task in tasks.values():
                    task.cancel()
                await asyncio.gather(*tasks.values(), return_exceptions=True)
            return tuple((member, _result(task)) for member, task in tasks.items())

    async def _collect(
        self,
        tasks: dict[PeerId, asyncio.Task[WitnessAnswer | None]],
        groups: list[frozenset[PeerId]],
        request: WitnessRequest,
    ) -> None:
        """Wait for as long as it is worth it."""
        clock = self._host.clock
        deadline = clock.monotonic() + self._config.timeout
        hurried = False
        while pending := {task for task in tasks.values() if not task.done()}:
            answers = {member: answer for member, task in tasks.items() if (answer := _result(task))}
            granting = {member for member, answer in answers.items() if self._grants(member, answer, request)}
            refusing = answers.keys() - granting
            if not hurried and all(
                len(granting & group) >= majority(group) or len(group - refusing) < majority(group)
                for group in groups
            ):
                hurried = True
                deadline = min(deadline, clock.monotonic() + self._config.patience)
            left = deadline - clock.monotonic()
            if left <= 0:
                return
            await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)

    def _grants(self, member: PeerId, answer: WitnessAnswer, request: WitnessRequest) -> bool:
        """Whether it gives what was asked for. Anything else counts as a refusal."""
        if not isinstance(answer, Receipt):
            return isinstance(answer, Dropped) and request.op is Op.DROP
        return (
            answer.witness == member
            and answer.owner == self._host.identity.peer_id
            and (answer.swarm, answer.name) == (request.swarm, request.name)
            and answer.registered_at == request.registered_at
            and (not answer.provisional or request.op is Op.CLAIM)
            and answer.is_signed_by_witness
        )

    async def _ask(self, member: PeerId, request: WitnessRequest) -> WitnessAnswer | None:
        try:
            connection = self._host.connection_to(member, direct=True) or await self._dialer.connect(
                member, self._addresses_of(member), any_scope=True, timeout=self._config.timeout, direct=True
            )
            async with connection.open_stream(RECEIPT_PROTOCOL) as stream:
                await stream.write_frame(request.to_bytes())
                stream.close_write()
                frame = await stream.read_frame(MAX_MESSAGE)
                if frame is None:
                    raise Truncated("the witness gave no answer")
                answer = parse_answer(frame)
        except WwsError as error:
            self.answers[request.op.value, error.code] += 1
            return None
        word = answer.error if isinstance(answer, WitnessRefusal) else type(answer).__name__.lower()
        self.answers[request.op.value, word if word in _KNOWN else "other"] += 1
        return answer


_KNOWN = frozenset({"receipt", "dropped"}) | frozenset(why.value for why in Why)
"""A witness may answer any word; the counters hold those that are known."""


def _result(task: asyncio.Task[WitnessAnswer | None]) -> WitnessAnswer | None:
    return task.result() if task.done() and not task.cancelled() else None
