"""The names of this node and of others: leases that are kept, the peer record, and resolution.

Each lease is a machine with a driver of its own; what it must remember goes to `leases.json` before its
record is published. A target is resolved by a look-up in the DHT, judged by the pins of this home.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from wws.addresses.multiaddr import Multiaddr
from wws.errors import WwsError
from wws.identity.peer_id import PeerId
from wws.machine import Command
from wws.names.events import (
    AddressesChanged,
    Claim,
    NameHeld,
    NameLost,
    NameReleased,
    NameTaken,
    Release,
    Renew,
    RetryScheduled,
    SaveState,
    Start,
)
from wws.names.kinds import NameRecords, PeerRecords
from wws.names.lease import Lease
from wws.names.lease_state import LeaseState
from wws.names.peer_keeper import PeerRecordKeeper
from wws.names.resolve import LookUpUnanswered, Resolved, resolve_name, resolve_peer, target_key
from wws.names.state import StateUnreadable
from wws.names.uri import DidTarget, NameTarget, PeerTarget
from wws.runtime.dht_driver import DhtDriver
from wws.runtime.homes import Home, NodePaths
from wws.runtime.host import Host
from wws.runtime.logs import logger
from wws.runtime.machine_driver import MachineDriver
from wws.runtime.pin_store import PinStore
from wws.runtime.state_files import StateFile

MAX_NAMES = 64
"""Names that one node keeps."""


class TooManyNames(WwsError):
    """This node keeps as many names as it may."""

    code = "too_many_names"


class NotOurName(WwsError):
    """This node neither holds nor claims the name."""

    code = "name_not_held"


class NameUnsettled(WwsError):
    """The claim or renewal has not come to an end yet; it goes on in the background."""

    code = "timeout"


class NameIsTaken(WwsError):
    """The name belongs to somebody else."""

    code = "name_taken"

    def __init__(self, name: str, holder: PeerId, expires_at: int) -> None:
        super().__init__(
            f"wws:{name} belongs to {holder}", hint="Choose another name, or wait until its lease lapses."
        )
        self.details = {
            "holder": holder.did,
            "holder_peer_id": str(holder),
            "expires_at": expires_at,
        }


@dataclass(slots=True)
class HeldName:
    """One name of ours, and how it stands."""

    lease: Lease
    driver: MachineDriver
    state: str = "claiming"
    """`claiming`, `held`, `taken`, `lost` or `released`. A name that was never held cannot be lost."""
    was_held: bool = False
    holder: PeerId | None = None
    expires_at: int | None = None
    free_at: int | None = None
    problem: str = ""
    waiters: list[asyncio.Future[None]] | None = None


class NamesDriver:
    """Keeps leases and the peer record, and resolves targets."""

    def __init__(
        self,
        host: Host,
        dht: DhtDriver,
        *,
        names: NameRecords,
        peers: PeerRecords,
        home: Home,
        node: NodePaths,
        domain: str,
        rng: random.Random,
    ) -> None:
        self._host = host
        self._dht = dht
        self._kind = names
        self._peer_kind = peers
        self._domain = domain
        self._rng = rng
        self._pins = PinStore(home)
        self._file = StateFile(node.leases)
        self._saved: dict[tuple[str, str], LeaseState] = self._read()
        self._names: dict[tuple[str, str], HeldName] = {}
        self._addresses: tuple[Multiaddr, ...] = ()
        self._keeper = MachineDriver(
            PeerRecordKeeper(host.identity, rng=rng), host, dht, self._peer_record_reported
        )
        self.on_change: Callable[[], None] | None = None
        """Called when a name is won or lost."""

    @property
    def names(self) -> list[HeldName]:
        """The names claimed since the start, in that order."""
        return list(self._names.values())

    def saved_names(self) -> list[tuple[str, str]]:
        """Name and swarm of the leases that the last run left behind and that were not given back."""
        return [(state.name, state.swarm) for state in self._saved.values() if not state.released]

    def start_peer_record(self) -> None:
        """Publish where this node is, from now on."""
        self._keeper.feed(Start())

    def set_addresses(self, addresses: tuple[Multiaddr, ...]) -> None:
        """What this node announces from now on."""
        self._addresses = addresses
        self._keeper.feed(AddressesChanged(addresses))
        for held in self._names.values():
            held.driver.feed(AddressesChanged(addresses))

    def begin_claim(self, name: str, swarm: str) -> HeldName:
        """Claim a name and keep it; returns at once. Raises `TooManyNames`."""
        held = self._names.get((name, swarm))
        if held is None:
            if len(self._names) >= MAX_NAMES:
                raise TooManyNames(f"a node keeps at most {MAX_NAMES} names")
            lease = Lease(
                self._host.identity,
                name,
                swarm,
                kind=self._kind,
                rng=self._rng,
                state=self._saved.get((name, swarm)),
                addresses=self._addresses,
            )
            driver = MachineDriver(
                lease, self._host, self._dht, lambda command: self._reported(name, swarm, command)
            )
            held = self._names[name, swarm] = HeldName(lease, driver)
        elif held.state == "held":
            return held
        held.state = "claiming"
        held.driver.feed(Claim())
        return held

    async def claim(self, name: str, swarm: str, timeout: float) -> HeldName:
        """Claim a name and wait until it is ours. Raises `NameIsTaken`, `NameUnsettled`, `TooManyNames`."""
        held = self.begin_claim(name, swarm)
        await self._settled(held, timeout)
        return held

    async def renew(self, name: str, swarm: str, timeout: float) -> HeldName:
        """Renew now. Raises `NotOurName`, `NameIsTaken`, `NameUnsettled`."""
        held = self._ours(name, swarm)
        held.state = "claiming"
        held.driver.feed(Renew())
        await self._settled(held, timeout)
        return held

    async def release(self, name: str, swarm: str, timeout: float) -> HeldName:
        """Give a name back. Raises `NotOurName`, `NameUnsettled`."""
        held = self._ours(name, swarm)
        held.state = "claiming"
        held.driver.feed(Release())
        await self._settled(held, timeout)
        return held

    async def release_all(self, timeout: float) -> tuple[str, ...]:
        """Give every name back, each within `timeout`; those that were. The rest lapses by itself."""
        released: list[str] = []
        for held in self.names:
            try:
                await self.release(held.lease.name, held.lease.swarm, timeout)
            except WwsError as error:
                logger("names").warning("name not released", name=held.lease.name, error=str(error))
            else:
                released.append(held.lease.name)
        return tuple(released)

    async def resolve(
        self, target: NameTarget | DidTarget | PeerTarget, *, only_pinned: bool = False
    ) -> Resolved:
        """Who a target is and where. Raises `ResolveError` and what the DHT raises."""
        found = await self._dht.get(target_key(target))
        if found.value is None and not found.asked and self._host.table.peer_count:
            raise LookUpUnanswered(target)
        unix_now = self._host.clock.unix()
        if isinstance(target, NameTarget):
            return self._pins.use(
                lambda pins: resolve_name(
                    target,
                    found.value,
                    unix_now,
                    kind=self._kind,
                    pins=pins,
                    domain=self._domain,
                    only_pinned=only_pinned,
                )
            )
        return resolve_peer(target, found.value, unix_now, kind=self._peer_kind)

    def wake(self) -> None:
        """The network is back: what was waiting for it is tried now."""
        for held in self._names.values():
            if held.problem and held.state == "claiming":
                held.problem = ""
                held.driver.feed(Claim())

    def close(self) -> None:
        self._keeper.close()
        for held in self._names.values():
            held.driver.close()

    def _ours(self, name: str, swarm: str) -> HeldName:
        held = self._names.get((name, swarm))
        if held is None or held.state in ("taken", "lost", "released"):
            raise NotOurName(
                f"wws:{name} is not a name of this node", hint=f"`wws name claim {name}` claims it"
            )
        return held

    async def _settled(self, held: HeldName, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                while held.state == "claiming":
                    waiter = asyncio.get_running_loop().create_future()
                    held.waiters = [*(held.waiters or ()), waiter]
                    await waiter
        except TimeoutError:
            raise NameUnsettled(
                f"wws:{held.lease.name} is not settled after {timeout:g} s: "
                f"{held.problem or 'the DHT has not answered'}",
                hint="It goes on in the background; `wws name list` shows how it stands.",
            ) from None
        if held.state in ("taken", "lost") and held.holder is not None:
            raise NameIsTaken(held.lease.name, held.holder, held.expires_at or 0)

    def _reported(self, name: str, swarm: str, command: Command) -> None:
        held = self._names[name, swarm]
        log = logger("names")
        match command:
            case SaveState(state=state):
                self._save(name, swarm, state)
                return
            case NameHeld(expires_at=expires_at):
                if held.state != "held":
                    log.info("name held", name=name, swarm=swarm, expires_at=expires_at)
                held.state, held.holder, held.expires_at, held.problem = "held", None, expires_at, ""
                held.was_held = True
            case NameTaken(holder=holder, expires_at=expires_at, free_at=free_at):
                log.warning("name taken", name=name, swarm=swarm, holder=str(holder))
                held.state, held.holder = "taken", holder
                held.expires_at, held.free_at = expires_at, free_at
            case NameLost(holder=holder, expires_at=expires_at):
                log.warning("name lost", name=name, swarm=swarm, holder=str(holder))
                # A claim that came second is told of it by the look-up that was to confirm it.
                held.state = "lost" if held.was_held else "taken"
                held.holder, held.expires_at = holder, expires_at
            case NameReleased(free_at=free_at):
                log.info("name released", name=name, swarm=swarm)
                held.state, held.free_at, held.expires_at = "released", free_at, None
            case RetryScheduled(reason=reason, delay=delay):
                log.info("name retried", name=name, swarm=swarm, reason=reason, delay=round(delay, 1))
                held.problem = reason
                return
            case _:
                raise AssertionError(f"unknown command {command}")
        for waiter in held.waiters or ():
            if not waiter.done():
                waiter.set_result(None)
        held.waiters = None
        if self.on_change is not None:
            self.on_change()

    def _peer_record_reported(self, command: Command) -> None:
        if isinstance(command, RetryScheduled):
            logger("names").info("peer record retried", reason=command.reason, delay=round(command.delay, 1))

    def _save(self, name: str, swarm: str, state: LeaseState | None) -> None:
        if state is None:
            self._saved.pop((name, swarm), None)
        else:
            self._saved[name, swarm] = state
        self._file.write({"leases": [saved.to_json() for saved in self._saved.values()]})

    def _read(self) -> dict[tuple[str, str], LeaseState]:
        value = self._file.read() or {}
        entries = value.get("leases")
        result: dict[tuple[str, str], LeaseState] = {}
        for entry in entries if isinstance(entries, list) else []:
            try:
                state = LeaseState.from_json(entry)
            except StateUnreadable as error:
                logger("names").warning("lease unreadable", error=str(error))
                continue
            result[state.name, state.swarm] = state
        return result
