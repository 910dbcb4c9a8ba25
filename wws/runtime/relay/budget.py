"""Keeps the count of what a relay has carried today in a file, so that a restart does not forgive it.

    state/<node>/relay.json   {"schema", "day", "bytes"}     as `wws.relay.budget` writes it

Saved once in a while and at the end: a crash forgives what was carried since.
"""

from __future__ import annotations

import asyncio
import logging

from wws.codec.canonical import JsonObject
from wws.errors import ParseError, WwsError
from wws.relay.budget import ALERTS, DailyBudget
from wws.runtime.clock import Clock
from wws.runtime.state_files import StateFile

_logger = logging.getLogger(__name__)


class BudgetKeeper:
    """Ties a budget to its file."""

    def __init__(self, budget: DailyBudget, file: StateFile, clock: Clock, *, interval: float) -> None:
        self._budget = budget
        self._file = file
        self._clock = clock
        self._interval = interval
        self._saved: JsonObject = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Go on from what the file says, and begin to save."""
        value = await asyncio.to_thread(self._file.read)
        if value is not None:
            try:
                self._budget.restore(value)
            except ParseError as error:
                _logger.warning("%s: %s; counting from zero", self._file.path, error)
        self._saved = self._budget.to_json()
        if (percent := self._budget.percent(self._clock.unix())) >= ALERTS[0]:
            tell(self._budget, percent)
        self._task = asyncio.get_running_loop().create_task(self._keep_saving(), name="save relay budget")

    async def close(self) -> None:
        """Save for the last time."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            await self._save()

    async def _keep_saving(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self._save()

    async def _save(self) -> None:
        value = self._budget.to_json()
        if value == self._saved:
            return
        try:
            await asyncio.to_thread(self._file.write, value, durable=False)
        except WwsError as error:
            _logger.warning("the bytes that the relay has carried today are not saved: %s", error)
        else:
            self._saved = value


def tell(budget: DailyBudget, percent: int) -> None:
    """Warn the operator that so much of the budget is used."""
    outlook = "; no circuits before the day ends (UTC)" if percent >= ALERTS[-1] else ""
    _logger.warning("the relay has carried %d %% of its %d bytes for today%s", percent, budget.limit, outlook)
