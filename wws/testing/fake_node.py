"""A node without a network: a complete `NodeApi` in memory.

For tests of what stands on the RPC interface, and for programs that want to test against it. Nodes
made with the same `FakeSwarm` see one another: names claimed at one resolve and ping at the others.
It keeps the rules that callers can see (a taken name is refused with its holder, a released one
does not resolve) and nothing else: no addresses are dialled, no time passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from wws.codec.canonical import JsonObject
from wws.errors import WwsError
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.names.transfers import Transfer
from wws.rpc import api
from wws.rpc.api import Json

LEASE = 86_400
"""Seconds that a name is given."""
NOW = 1_790_000_000
"""Unix time in the fake swarm; it stands still."""


class FakeError(WwsError):
    """An error with any word and details, as a node would raise it."""

    def __init__(self, code: str, message: str, **details: Json) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # one class stands for many errors here
        self.details = details


@dataclass(slots=True)
class FakeSwarm:
    """What the nodes of one fake swarm share."""

    nodes: dict[str, FakeNode] = field(default_factory=dict)
    """By PeerId."""
    owners: dict[str, str] = field(default_factory=dict)
    """Name → PeerId."""
    released: set[str] = field(default_factory=set)
    transfers: dict[str, JsonObject] = field(default_factory=dict)
    """Name → the entry that its owner signed and nobody has accepted."""


class FakeNode:
    """A `NodeApi`. `stopped` is set when `swarm.stop` was called; `hold` keeps pings waiting until set."""

    def __init__(self, label: str, swarm: FakeSwarm | None = None, *, path: str | None = None) -> None:
        self.label = label
        self._key = Identity.from_label(label)
        self.peer_id = str(self._key.peer_id)
        self.did = self._key.peer_id.did
        self.swarm = swarm if swarm is not None else FakeSwarm()
        self.swarm.nodes[self.peer_id] = self
        self.stopped = asyncio.Event()
        self.hold = asyncio.Event()
        self.hold.set()
        self.calls = 0
        """Pings under way."""
        self.most_calls = 0
        """The most pings that were under way at a time."""
        self.draining = False
        self.relay: api.RelayService | None = None
        self._path = path
        self._name: str | None = None
        self.join = api.JoinProgress("joined", source="pinned")
        self.trusted: dict[str, str] = {}
        """Name → PeerId."""
        self.banned: dict[str, api.Ban] = {}
        self.found_equivocations: list[api.Equivocation] = []

    @property
    def address(self) -> str:
        return f"/ip4/203.0.113.7/tcp/9000/p2p/{self.peer_id}"

    async def status(self) -> api.NodeStatus:
        names = tuple(await self.names())
        others = len(self.swarm.nodes) - 1
        return api.NodeStatus(
            agent_id=self.did,
            did=self.did,
            peer_id=self.peer_id,
            name=self._name,
            node=self.label,
            status=self.join.state,
            tier="agent",
            version="0.0.0",
            network="test",
            domain="test.example",
            joined=self.join.state == "joined",
            join=self.join,
            reachability="public",
            nat="none",
            addresses=(self.address,),
            listen=("/ip4/0.0.0.0/tcp/9000",),
            peers=others,
            connections=api.ConnectionCounts(others, 0),
            names=names,
            swarm_size=api.SwarmSize(others + 1, others + 1, others + 1, "counted"),
            draining=self.draining,
            relay_service=self.relay,
            uptime_s=1.5,
            identity_path=self._path,
        )

    async def network_stats(self) -> api.NetworkStats:
        status = await self.status()
        return api.NetworkStats(
            swarm_size=status.swarm_size,
            peers=status.peers,
            connections=status.connections,
            traffic=status.traffic,
            dht_mode="server",
            routing_table=status.peers,
            records=len(self.swarm.owners),
        )

    async def identity(self, did: str | None) -> api.IdentityInfo:
        node = self if did is None else self._find(did)
        return api.IdentityInfo(
            did=node.did,
            peer_id=node.peer_id,
            peer_id_cid=node._key.peer_id.cid,
            node_id=node._key.peer_id.node_id,
            did_key=node._key.peer_id.did_key,
            name=node._name,
            path=self._path if node is self else None,
        )

    async def peers(self) -> api.PeerList:
        others = [node for node in self.swarm.nodes.values() if node is not self]
        return api.PeerList(
            tuple(
                api.PeerConnection(
                    peer_id=node.peer_id,
                    addr=node.address,
                    transport="tcp",
                    direction="out",
                    path="direct",
                    rtt_ms=1.0,
                    agent="wws/0.0.0",
                    name=node._name,
                )
                for node in others
            )
        )

    async def connect(self, address: str) -> api.Connected:
        node = self._find(address)
        return api.Connected(peer_id=node.peer_id, addr=node.address, path="direct", already=True)

    async def ping(self, target: str, count: int, wait_direct: int = 0) -> api.PingReport:
        node = self._find(target)
        self.calls += 1
        self.most_calls = max(self.calls, self.most_calls)
        try:
            await self.hold.wait()
        finally:
            self.calls -= 1
        replies = tuple(api.PingReply(seq, 1.0, "direct") for seq in range(1, count + 1))
        return api.PingReport(
            target=target, peer_id=node.peer_id, sent=count, received=count, replies=replies
        )

    async def register_name(self, name: str) -> api.NameRegistered:
        name = _bare(name)
        owner = self.swarm.owners.setdefault(name, self.peer_id)
        if owner != self.peer_id:
            holder = self.swarm.nodes[owner].did
            raise FakeError("name_taken", f"wws:{name} belongs to {holder}.", name=name, holder=holder)
        self.swarm.released.discard(name)
        self._name = name
        return api.NameRegistered(
            name=name, swarm="public", registered=True, expires_at=NOW + LEASE, witnessed=False
        )

    async def resolve(self, target: str) -> api.Resolved:
        bare = _bare(target)
        if bare in self.swarm.released:
            raise FakeError("name_released", f"wws:{bare} was released.", name=bare)
        node = self._find(target)
        named = bare in self.swarm.owners
        return api.Resolved(
            name=bare if named else None,
            swarm="public" if named else None,
            did=node.did,
            peer_id=node.peer_id,
            addresses=(node.address,),
            expires_at=NOW + LEASE,
            pinned=named,
        )

    async def renew_name(self, name: str) -> api.NameRenewed:
        lease = self._lease(name)
        return api.NameRenewed(name=lease.name, renewed=True, new_expires_at=lease.expires_at)

    async def names(self) -> Sequence[api.LeasedName]:
        return [
            self._leased(name)
            for name, owner in self.swarm.owners.items()
            if owner == self.peer_id and name not in self.swarm.released
        ]

    async def release_name(self, name: str) -> api.NameReleased:
        lease = self._lease(name)
        self.swarm.released.add(lease.name)
        return api.NameReleased(name=lease.name, released=True, free_at=NOW + 2 * LEASE)

    async def transfer_name(self, name: str, new_pubkey: str) -> api.NameTransferred:
        lease = self._lease(name)
        taker = self._find(PeerId(bytes.fromhex(new_pubkey)).did)
        before = self.swarm.transfers.get(lease.name)
        if before is not None and before["to"] != taker.peer_id:
            message = f"wws:{lease.name} was signed over to another key before."
            raise FakeError("double_transfer", message, name=lease.name)
        entry = Transfer.sign(
            self._key, taker._key.peer_id, name=lease.name, swarm=lease.swarm, seq=NOW, at=NOW
        ).to_members()
        self.swarm.transfers[lease.name] = entry
        return api.NameTransferred(
            name=lease.name, swarm=lease.swarm, transferred=True, entry=entry, to=taker.did
        )

    async def accept_name(self, entry: JsonObject) -> api.NameAccepted:
        name = entry.get("name")
        is_ours = entry.get("to") == self.peer_id
        if not (is_ours and isinstance(name, str) and self.swarm.transfers.get(name) == entry):
            raise FakeError("transfer_refused", "The entry gives this node no name.")
        del self.swarm.transfers[name]
        self.swarm.owners[name] = self.peer_id
        self._name = name
        return api.NameAccepted(
            name=name, swarm="public", accepted=True, expires_at=NOW + LEASE, witnessed=False
        )

    async def trust_name(self, name: str, owner: str | None) -> api.NameTrusted:
        bare = _bare(name)
        node = self._find(bare if owner is None else owner)
        before = self.trusted.get(bare)
        self.trusted[bare] = node.peer_id
        return api.NameTrusted(
            name=bare,
            swarm="public",
            did=node.did,
            peer_id=node.peer_id,
            before=None if before is None else self.swarm.nodes[before].did,
        )

    async def equivocations(self) -> Sequence[api.Equivocation]:
        return list(self.found_equivocations)

    async def bans(self) -> Sequence[api.Ban]:
        return list(self.banned.values())

    async def unban(self, subject: str) -> api.Unbanned:
        return api.Unbanned(subject, self.banned.pop(subject, None) is not None)

    async def drain(self, on: bool) -> api.Draining:
        self.draining = on
        relay = self.relay
        return api.Draining(
            draining=on,
            reservations=0 if relay is None else relay.reservations,
            announced_by=0 if relay is None else relay.announced_by,
            circuits=0 if relay is None else relay.circuits,
            connections=len(self.swarm.nodes) - 1,
        )

    async def stop(self, release_name: bool) -> api.Stopping:
        released = [lease.name for lease in await self.names()] if release_name else []
        for name in released:
            await self.release_name(name)
        self.join = replace(self.join, state="stopping")
        self.stopped.set()
        return api.Stopping(stopping=True, released=tuple(released))

    def _lease(self, name: str) -> api.LeasedName:
        bare = _bare(name)
        if self.swarm.owners.get(bare) != self.peer_id or bare in self.swarm.released:
            raise FakeError("name_not_held", f"wws:{bare} is not a name of this node.", name=bare)
        return self._leased(bare)

    def _leased(self, name: str) -> api.LeasedName:
        state: api.NameState = "transferring" if name in self.swarm.transfers else "held"
        return api.LeasedName(name, "public", NOW + LEASE, witnessed=False, state=state)

    def _find(self, target: str) -> FakeNode:
        bare = _bare(target)
        for node in self.swarm.nodes.values():
            if node.peer_id in target or bare == node.did or self.swarm.owners.get(bare) == node.peer_id:
                return node
        raise FakeError("name_not_found", f"Nobody is called {target}.", target=target)


def _bare(name: str) -> str:
    return name.removeprefix("wws://").removeprefix("wws:").lower()
