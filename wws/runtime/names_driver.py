"""The names of this node: leases that are kept, and its peer record.

Each lease is a machine with a driver of its own; what it must remember goes to `leases.json` before its
record is published.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from wws.addresses.multiaddr import Multiaddr
from wws.errors import WwsError
from wws.identity.peer_id import PeerId
from wws.machine import Command
from wws.names.errors import RecordRefused
from wws.names.events import (
    Accept,
    AddressesChanged,
    Claim,
    IdentityAlone,
    IdentityInUse,
    MetOurselves,
    Release,
    Renew,
    RetryScheduled,
    SaveState,
    Start,
    WitnessesChanged,
)
from wws.names.events import Transfer as Give
from wws.names.kinds import NameRecords
from wws.names.lease import Lease
from wws.names.lease_state import LeaseState
from wws.names.peer_keeper import PeerRecordKeeper
from wws.names.state import StateUnreadable
from wws.names.transfers import Transfer
from wws.names.twins import in_use_warning, is_elsewhere
from wws.names.uri import NameTarget
from wws.runtime.connection import Connection
from wws.runtime.dht_driver import DhtDriver
from wws.runtime.held_name import HeldName, NotAccepted, NotOurName
from wws.runtime.homes import NodePaths
from wws.runtime.host import Host
from wws.runtime.logs import logger
from wws.runtime.machine_driver import MachineDriver
from wws.runtime.resolution import NameResolver
from wws.runtime.state_files import StateFile
from wws.runtime.witness.client import WitnessClient

MAX_NAMES = 64
"""Names that one node keeps. Those that are none of ours any more are shown for as long as there is room."""


class TooManyNames(WwsError):
    """This node keeps as many names as it may."""

    code = "too_many_names"
    hint = "Give one up first: wws name release NAME"


class NamesDriver:
    """Keeps leases and the peer record."""

    def __init__(
        self,
        host: Host,
        dht: DhtDriver,
        witnesses: WitnessClient,
        *,
        names: NameRecords,
        resolver: NameResolver,
        node: NodePaths,
        rng: random.Random,
    ) -> None:
        self._host = host
        self._dht = dht
        self._witnesses = witnesses
        self._kind = names
        self._resolver = resolver
        self._rng = rng
        self._file = StateFile(node.leases)
        self._saved: dict[tuple[str, str], LeaseState] = self._read()
        self._names: dict[tuple[str, str], HeldName] = {}
        self._addresses: tuple[Multiaddr, ...] = ()
        self._keeper = MachineDriver(
            PeerRecordKeeper(host.identity, rng=rng), host, dht, witnesses, self._peer_record_reported
        )
        self.on_change: Callable[[], None] | None = None
        """Called when a name is won or lost."""
        self.twin: tuple[Multiaddr, ...] | None = None
        """Where another machine says it is that uses our key; `None`: nothing was seen of one."""

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
            held.feed(AddressesChanged(addresses))

    def met_ourselves(self, connection: Connection) -> None:
        """A connection has our own key at its other end: our own other address, or another machine."""
        remote = connection.remote_address
        if is_elsewhere(remote, self._addresses):
            self._keeper.feed(MetOurselves((remote,)))

    def witnesses_changed(self) -> None:
        """The network has other witnesses: they are to hear of our names soon."""
        for held in self._names.values():
            held.feed(WitnessesChanged())

    def begin_claim(self, name: str, swarm: str) -> HeldName:
        """Claim a name and keep it; returns at once. Raises `TooManyNames`."""
        held = self._kept(name, swarm)
        if not held.is_ours:
            held.begin(Claim())
        return held

    async def claim(self, name: str, swarm: str, timeout: float) -> HeldName:
        """Claim a name and wait until it is ours. Raises `NameIsTaken`, `NameIsContested`, `NameUnsettled`,
        `TooManyNames`."""
        held = self.begin_claim(name, swarm)
        await held.settled(timeout)
        return held

    def expires_at(self, name: str, swarm: str) -> int | None:
        """When the lease of one of our names ends; `None`: there is none."""
        held = self._names.get((name, swarm))
        return None if held is None else held.lease.expires_at

    async def renew(self, name: str, swarm: str, timeout: float) -> HeldName:
        """Renew now. Raises `NotOurName`, `NameIsTaken`, `NameUnsettled`."""
        held = self._ours(name, swarm)
        held.begin(Renew())
        await held.settled(timeout)
        return held

    async def release(self, name: str, swarm: str, timeout: float) -> HeldName:
        """Give a name back. Raises `NotOurName`, `NameUnsettled`."""
        held = self._ours(name, swarm)
        held.begin(Release())
        await held.settled(timeout)
        return held

    async def transfer(self, name: str, swarm: str, to: PeerId, timeout: float) -> Transfer:
        """Sign a name over to another key; the name stays ours until that key has taken it up.

        Raises `NotOurName`, `NameUnsettled`, and what the lease refuses with, such as `double_transfer`.
        """
        held = self._ours(name, swarm)
        held.feed(Give(to))
        return await held.signed_away(timeout)

    async def accept(self, entry: Transfer, timeout: float) -> HeldName:
        """Take up the name that `entry` gives to us, and keep it. Raises `NotAccepted`, `NameIsTaken`,
        `NameUnsettled`, `TooManyNames`."""
        is_new = (entry.name, entry.swarm) not in self._names
        held = self._kept(entry.name, entry.swarm)
        try:
            held.begin(Accept(entry))
        except WwsError as error:
            if is_new:
                self._names.pop((entry.name, entry.swarm)).close()
            if isinstance(error, RecordRefused):
                raise NotAccepted(f"the entry gives nothing to this node: {error}", error.code) from None
            raise
        await held.settled(timeout)
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

    def wake(self) -> None:
        """The network is back: what was waiting for it is tried now."""
        for held in self._names.values():
            if held.problem and held.state == "claiming":
                held.problem = ""
                held.feed(Claim())
            elif held.is_ours and not held.lease.witnessed and any(self._kind.witness_sets):
                held.feed(Renew())

    def close(self) -> None:
        self._keeper.close()
        for held in self._names.values():
            held.close()

    def _kept(self, name: str, swarm: str) -> HeldName:
        """The name among ours; it is taken up as one where it was none."""
        held = self._names.get((name, swarm))
        if held is not None:
            return held
        if len(self._names) >= MAX_NAMES:
            self._forget_one()
        lease = Lease(
            self._host.identity,
            name,
            swarm,
            kind=self._kind,
            rng=self._rng,
            state=self._saved.get((name, swarm)),
            addresses=self._addresses,
            witnesses=lambda: self._kind.witness_sets,
        )
        held = self._names[name, swarm] = HeldName(lease, lambda: self._changed(lease))

        def report(command: Command) -> None:
            if isinstance(command, SaveState):
                self._save(name, swarm, command.state)
            else:
                held.reported(command)

        held.driver = MachineDriver(lease, self._host, self._dht, self._witnesses, report)
        return held

    def _forget_one(self) -> None:
        """Make room for a name: who tried many that were taken must not have to restart. Raises
        `TooManyNames` when all are ours, or are being claimed."""
        gone = next((key for key, held in self._names.items() if held.is_gone), None)
        if gone is None:
            raise TooManyNames(f"a node keeps at most {MAX_NAMES} names")
        self._names.pop(gone).close()

    def _ours(self, name: str, swarm: str) -> HeldName:
        held = self._names.get((name, swarm))
        if held is None or held.is_gone:
            raise NotOurName(
                f"wws:{name} is not a name of this node", hint=f"`wws name claim {name}` claims it"
            )
        return held

    def _changed(self, lease: Lease) -> None:
        # What is remembered of it, from before, is not true any more.
        self._resolver.forget(NameTarget(lease.name, lease.swarm))
        if self.on_change is not None:
            self.on_change()

    def _peer_record_reported(self, command: Command) -> None:
        log = logger("names")
        match command:
            case RetryScheduled(reason=reason, delay=delay):
                log.info("peer record retried", reason=reason, delay=round(delay, 1))
            case IdentityInUse(addresses=addresses):
                self.twin = addresses
                log.warning(in_use_warning(addresses), code="identity_in_use")
            case IdentityAlone():
                self.twin = None
                log.info("identity no longer in use elsewhere")
            case _:
                raise AssertionError(f"unknown command {command}")

    def _save(self, name: str, swarm: str, state: LeaseState | None) -> None:
        if state is None:
            self._saved.pop((name, swarm), None)
        else:
            self._saved[name, swarm] = state
        # Of what was given back nothing is worth remembering once it is free: the file must not grow.
        unix_now = self._host.clock.unix()
        over = [key for key, kept in self._saved.items() if kept.released and unix_now >= kept.dead_at]
        for key in over:
            del self._saved[key]
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
