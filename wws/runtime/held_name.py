"""One name of this node: its lease, how it stands, and who waits for that to be settled.

claiming ──► held ◄──► transferring ──► transferred        (given away, taken up by the new owner)
   │  ▲        ├──► lost                                   (another's record wins)
   │  └────────┴──► released
   ├──► contested ──► held, taken                          (rivals; nobody has a majority of the witnesses)
   └──► taken
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from wws.errors import WwsError
from wws.identity.peer_id import PeerId
from wws.machine import Command, Event
from wws.names.events import (
    AcceptRefused,
    CoverDelayed,
    NameContested,
    NameHeld,
    NameLost,
    NameReleased,
    NameTaken,
    NameTransferred,
    RetryScheduled,
    TransferSigned,
)
from wws.names.lease import Lease
from wws.names.transfers import Transfer
from wws.rpc.api import NameState
from wws.runtime.logs import logger
from wws.runtime.machine_driver import MachineDriver

GONE: frozenset[NameState] = frozenset({"taken", "lost", "released", "transferred"})
"""States in which the name is none of ours."""


class NotOurName(WwsError):
    """This node neither holds nor claims the name."""

    code = "name_not_held"


class NameUnsettled(WwsError):
    """The claim or renewal has not come to an end yet; it goes on in the background."""

    code = "timeout"


class NameIsTaken(WwsError):
    """The name belongs to somebody else."""

    code = "name_taken"

    def __init__(
        self,
        name: str,
        holder: PeerId,
        expires_at: int,
        free_at: int | None = None,
        *,
        released: bool = False,
    ) -> None:
        what = (
            f"was given back by {holder.did}, and is not free yet" if released else f"belongs to {holder.did}"
        )
        free = "" if free_at is None else f" (not before {_utc(free_at)})"
        super().__init__(f"wws:{name} {what}", hint=f"Choose another name, or wait until it is free{free}.")
        self.holder = holder
        self.details = {
            "holder": holder.did,
            "holder_peer_id": str(holder),
            "expires_at": expires_at,
            "free_at": free_at,
            "released": released,
        }


class NameIsContested(WwsError):
    """Somebody else came for the name at the same time, and neither has a majority of the witnesses."""

    code = "name_contested"

    def __init__(self, name: str, holder: PeerId | None, retry_after: float | None) -> None:
        rival = f" by {holder}" if holder is not None else ""
        retried = (
            "It is tried again in the background" if retry_after is not None else "The claim is given up"
        )
        super().__init__(
            f"wws:{name} is contested{rival}", hint=f"{retried}; `wws name list` shows how it stands."
        )
        self.details = {
            "holder": None if holder is None else holder.did,
            "holder_peer_id": None if holder is None else str(holder),
            "retry_after": retry_after,
        }


class NotAccepted(WwsError):
    """A transfer to this node cannot be taken up."""

    code = "transfer_refused"

    def __init__(self, reason: str, why: str = "malformed") -> None:
        super().__init__(reason, hint="Ask who gives the name for a new entry.")
        self.details = {"why": why}


class HeldName:
    """One name of ours, and how it stands. `driver` runs the lease; `on_change` is told of each change."""

    def __init__(self, lease: Lease, on_change: Callable[[], None]) -> None:
        self.lease = lease
        self.driver: MachineDriver | None = None
        self.was_held = False
        self.holder: PeerId | None = None
        """Whose it is, where it is not ours, or who claims it too."""
        self.expires_at: int | None = None
        self.free_at: int | None = None
        self.problem = ""
        """Why it is not as it should be, for people."""
        self._state: NameState = "claiming"
        self._is_covered = False
        self._why_uncovered = ""
        self._is_given_back = False
        self._is_delayed = False
        self._retry_after: float | None = None
        self._refused: AcceptRefused | None = None
        self._on_change = on_change
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def state(self) -> NameState:
        """How it stands."""
        return "transferring" if self._state == "held" and self.lease.given is not None else self._state

    @property
    def is_delayed(self) -> bool:
        """Whether the witnesses could not be had for what was asked for last."""
        return self._is_delayed

    @property
    def is_ours(self) -> bool:
        """Whether we have it: also what is given away, until it is taken up."""
        return self._state == "held"

    @property
    def is_gone(self) -> bool:
        """Whether it is none of ours, as far as is known, and nothing is tried any more."""
        is_given_up = self._state == "contested" and self._retry_after is None
        return self.state in GONE or is_given_up

    def feed(self, event: Event) -> None:
        """Tell the lease. Raises what it refuses with; then nothing has changed."""
        assert self.driver is not None, "a name has its driver from the moment on that it is kept"
        self.driver.feed(event)

    def begin(self, event: Event) -> None:
        """Tell the lease what is wanted, the outcome of which is awaited (`settled`). Raises as `feed`."""
        before, self._state = self._state, "claiming"
        self._refused, self._is_delayed = None, False
        try:
            self.feed(event)
        except WwsError:
            self._state = before
            raise

    def close(self) -> None:
        """Stop keeping it."""
        if self.driver is not None:
            self.driver.close()

    async def settled(self, timeout: float) -> None:
        """Wait until it is ours, or is not. Raises `NameIsTaken`, `NameIsContested`, `NotAccepted`, and
        `NameUnsettled` when that takes longer than `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while self._is_open():
                    await self._change()
        except TimeoutError:
            if self._state == "contested":
                raise NameIsContested(self.lease.name, self.holder, self._retry_after) from None
            raise NameUnsettled(
                f"wws:{self.lease.name} is not settled after {timeout:g} s: "
                f"{self.problem or 'the DHT has not answered'}",
                hint="It goes on in the background; `wws name list` shows how it stands.",
            ) from None
        if self._refused is not None:
            raise NotAccepted(self._refused.reason, self._refused.code)
        if self._state == "contested":
            raise NameIsContested(self.lease.name, self.holder, None)
        if self._state in ("taken", "lost") and self.holder is not None:
            free_at = self.free_at if self._state == "taken" else None
            raise NameIsTaken(
                self.lease.name, self.holder, self.expires_at or 0, free_at, released=self._is_given_back
            )

    async def signed_away(self, timeout: float) -> Transfer:
        """Wait for the entry that gives it away. Raises `NameUnsettled`."""
        try:
            async with asyncio.timeout(timeout):
                while self.lease.given is None and not self.is_gone:
                    await self._change()
        except TimeoutError:
            raise NameUnsettled(
                f"wws:{self.lease.name} is not signed over after {timeout:g} s: "
                f"{self.problem or 'a renewal of it is under way'}",
                hint="Try again; the same target gets the same entry.",
            ) from None
        if self.lease.given is None:
            raise NotOurName(f"wws:{self.lease.name} is not a name of this node any more")
        return self.lease.given

    def reported(self, command: Command) -> None:
        """Take what the lease says about itself."""
        name, swarm = self.lease.name, self.lease.swarm
        log = logger("names")
        match command:
            case NameHeld(expires_at=expires_at, witnessed=witnessed):
                if self._state != "held" or witnessed != self._is_covered:
                    log.info("name held", name=name, swarm=swarm, expires_at=expires_at, witnessed=witnessed)
                self._is_covered = witnessed
                self._state, self.holder, self.expires_at, self.free_at = "held", None, expires_at, None
                self.was_held = True
                if witnessed:
                    self._why_uncovered = ""
                if self.lease.given is None:  # what had to be tried again has succeeded now
                    self.problem = self._why_uncovered
            case NameTaken(holder=holder, expires_at=expires_at, free_at=free_at, released=released):
                log.warning("name taken", name=name, swarm=swarm, holder=str(holder))
                self._state, self.holder, self._is_given_back = "taken", holder, released
                self.expires_at, self.free_at = expires_at, free_at
            case NameContested(holder=holder, retry_after=retry_after):
                log.warning("name contested", name=name, swarm=swarm, holder=str(holder or "unknown"))
                self._state, self.holder, self._retry_after = "contested", holder, retry_after
                self.problem = f"contested by {holder}" if holder is not None else "contested"
            case NameLost(holder=holder, expires_at=expires_at):
                log.warning("name lost", name=name, swarm=swarm, holder=str(holder))
                # A claim that came second is told of it by the look-up that was to confirm it.
                self._state = "lost" if self.was_held else "taken"
                self.holder, self.expires_at = holder, expires_at
            case NameReleased(free_at=free_at):
                log.info("name released", name=name, swarm=swarm)
                self._state, self.free_at, self.expires_at, self.problem = "released", free_at, None, ""
            case TransferSigned(entry=entry):
                log.info("name signed over", name=name, swarm=swarm, to=str(entry.to_peer))
                self.problem = f"given to {entry.to_peer}, who has not taken it up yet"
            case NameTransferred(to=to):
                log.info("name transferred", name=name, swarm=swarm, to=str(to))
                self._state, self.holder, self.problem = "transferred", to, ""
                self.expires_at = None
            case AcceptRefused(code=code, reason=reason):
                log.warning("transfer refused", name=name, swarm=swarm, code=code)
                self._state, self._refused, self.problem = "taken", command, reason
            case CoverDelayed(code=code, reason=reason, delay=delay):
                log.info("name uncovered", name=name, swarm=swarm, code=code, retried_in=round(delay, 1))
                self.problem = self._why_uncovered = reason
                self._is_delayed = True
            case RetryScheduled(reason=reason, delay=delay):
                log.info("name retried", name=name, swarm=swarm, reason=reason, delay=round(delay, 1))
                self.problem = reason
                return
            case _:
                raise AssertionError(f"unknown command {command}")
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._on_change()

    def _is_open(self) -> bool:
        return self._state == "claiming" or (self._state == "contested" and self._retry_after is not None)

    async def _change(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter


def _utc(unix: int) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M UTC")
