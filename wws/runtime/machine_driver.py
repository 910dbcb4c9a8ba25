"""Runs one machine of names: its look-ups, stores, proofs, witnesses and timer; reports go to a callback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeAlias

from wws.errors import WwsError
from wws.identity import proof_of_work
from wws.machine import Command, Event
from wws.names.events import (
    AskWitnesses,
    LookedUp,
    LookUp,
    LookUpFailed,
    ProofSolved,
    SolveProofOfWork,
    Stored,
    StoreFailed,
    StoreRecord,
    TimerFired,
    WitnessesAnswered,
)
from wws.names.witness.messages import WitnessRequest
from wws.runtime.dht_driver import DhtDriver
from wws.runtime.host import Host
from wws.runtime.witness.client import WitnessClient

_Work: TypeAlias = Coroutine[Any, Any, None]


class NameMachine(Protocol):
    """A lease, or the keeper of a peer record."""

    def handle(self, event: Event, now: float, unix_now: int) -> list[Command]: ...
    def next_wakeup(self) -> float | None: ...


class MachineDriver:
    """Owns one machine. `report` gets every command that asks for nothing, in order."""

    def __init__(
        self,
        machine: NameMachine,
        host: Host,
        dht: DhtDriver,
        witnesses: WitnessClient,
        report: Callable[[Command], None],
    ) -> None:
        self._machine = machine
        self._witnesses = witnesses
        self._host = host
        self._dht = dht
        self._report = report
        self._timer: asyncio.TimerHandle | None = None
        self._work: asyncio.Task[None] | None = None
        self._closed = False

    def feed(self, event: Event) -> None:
        """Hand the machine an event and carry out what it wants."""
        if self._closed:
            return
        commands = self._machine.handle(event, self._host.clock.monotonic(), self._host.clock.unix())
        for command in commands:
            match command:
                case LookUp(key=key, widely=widely):
                    self._start(self._look_up(key, widely))
                case StoreRecord(key=key, value=value):
                    self._start(self._store(key, value))
                case SolveProofOfWork(context=context, did=did, bits=bits):
                    self._start(self._solve(context, did, bits))
                case AskWitnesses(request=request):
                    self._start(self._ask(request))
                case _:
                    self._report(command)
        self._reschedule()

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._work is not None:
            self._work.cancel()

    def _start(self, work: _Work) -> None:
        self._work = self._host.spawn(work, type(self._machine).__name__)

    async def _look_up(self, key: str, widely: bool) -> None:
        try:
            if not self._host.table.peer_count:
                self.feed(LookUpFailed())
                return
            found = await self._dht.get(key, widely=widely)
        except WwsError:
            self.feed(LookUpFailed())
        else:
            # Nobody's silence says that a name is free, or that a record is gone.
            self.feed(LookedUp(found.value) if found.asked else LookUpFailed())

    async def _store(self, key: str, value: bytes) -> None:
        # With nobody connected the own store would be the only holder, and the machine would rest content.
        if not self._host.table.peer_count:
            self.feed(StoreFailed("no peer is connected"))
            return
        try:
            done = await self._dht.put(key, value)
        except WwsError as error:
            self.feed(StoreFailed(str(error)))
            return
        if done.stored:
            self.feed(Stored(done.stored))
        else:
            self.feed(StoreFailed(f"none of {done.reachable} peers keeps it"))

    async def _solve(self, context: str, did: str, bits: int) -> None:
        nonce = await asyncio.to_thread(proof_of_work.solve, context, did, bits)
        self.feed(ProofSolved(nonce))

    async def _ask(self, request: WitnessRequest) -> None:
        self.feed(WitnessesAnswered(await self._witnesses.ask(request)))

    def _reschedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wakeup = self._machine.next_wakeup()
        if wakeup is not None and not self._closed:
            delay = max(0.0, wakeup - self._host.clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self.feed, TimerFired())
