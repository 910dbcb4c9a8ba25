"""What the RPC server sees of a node's names, its own and those of others."""

from __future__ import annotations

from collections.abc import Sequence

from wws.codec.canonical import JsonObject
from wws.dht.events import FindDone
from wws.errors import ParseError, WwsError
from wws.identity.peer_id import PeerId
from wws.names.resolve import NameReleased as NameIsReleased
from wws.names.resolve import OwnerChanged, PeerNotFound
from wws.names.resolve import Resolved as ResolvedTarget
from wws.names.transfers import Transfer
from wws.names.uri import AddressTarget, DidTarget, NameTarget, PeerTarget, Target, TargetError, parse_target
from wws.rpc import api
from wws.runtime.held_name import HeldName, NameIsTaken, NotAccepted
from wws.runtime.node import Node

MAX_NAMED = 256
"""Peers whose names are remembered for the list of peers."""
NAME_TIMEOUT = 20.0
"""Seconds that a caller waits for a claim, renewal or release; it goes on in the background."""


class NotJoined(WwsError):
    """The node has not found a way into its network yet."""

    code = "not_joined"
    hint = "`wws status` shows what was tried; it keeps trying."


class NamesFace:
    """The part of `wws.rpc.api.NodeApi` that is about names."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._resolved: dict[PeerId, str] = {}
        """Names that were asked for here, by whose they are."""

    async def register_name(self, name: str) -> api.NameRegistered:
        target = self._name(name)
        self._require_peers()
        if not self._node.is_vouched_for():
            raise NotJoined("no entry point of the network vouches for the peers that are connected")
        try:
            held = await self._node.names.claim(target.name, target.swarm, NAME_TIMEOUT)
        except NameIsTaken as error:
            self._tell_way_back(error)
            raise
        lease = self._leased(held)
        return api.NameRegistered(
            name=target.name,
            swarm=target.swarm,
            registered=lease.state == "held",
            expires_at=lease.expires_at,
            witnessed=lease.witnessed,
        )

    async def resolve(self, target: str) -> api.Resolved:
        resolved = await self._resolve(self._parse(target))
        return api.Resolved(
            name=resolved.name,
            swarm=resolved.swarm,
            did=resolved.did,
            peer_id=str(resolved.peer_id),
            addresses=tuple(map(str, resolved.addresses)),
            expires_at=resolved.expires_at or None,
            stale=resolved.stale,
            witnessed=resolved.witnessed,
            pinned=resolved.pinned,
            owner_changed=resolved.owner_changed,
            first_pin="unwitnessed_first_pin" in resolved.warnings,
            warnings=resolved.warnings,
            looks_like=resolved.looks_like,
        )

    async def renew_name(self, name: str) -> api.NameRenewed:
        target = self._name(name)
        self._require_peers()
        before = self._node.names.expires_at(target.name, target.swarm)
        try:
            held = await self._node.names.renew(target.name, target.swarm, NAME_TIMEOUT)
        except NameIsTaken as error:
            self._tell_way_back(error)
            raise
        lease = self._leased(held)
        # A lease that is renewed twice within minutes may end when it did; one that no witness covers any
        # longer has not been renewed.
        lasts_longer = lease.expires_at is not None and lease.expires_at > (before or 0)
        return api.NameRenewed(
            name=target.name,
            renewed=not held.is_gone and (lasts_longer or not held.is_delayed),
            new_expires_at=lease.expires_at,
            witnessed=lease.witnessed,
        )

    async def names(self) -> Sequence[api.LeasedName]:
        return [self._leased(held) for held in self._node.names.names]

    async def release_name(self, name: str) -> api.NameReleased:
        target = self._name(name)
        self._require_peers()
        held = await self._node.names.release(target.name, target.swarm, NAME_TIMEOUT)
        return api.NameReleased(name=target.name, released=held.state == "released", free_at=held.free_at)

    async def transfer_name(self, name: str, new_pubkey: str) -> api.NameTransferred:
        target = self._name(name)
        to = PeerId(bytes.fromhex(new_pubkey))
        entry = await self._node.names.transfer(target.name, target.swarm, to, NAME_TIMEOUT)
        return api.NameTransferred(
            name=target.name, swarm=target.swarm, transferred=True, entry=entry.to_members(), to=to.did
        )

    async def accept_name(self, entry: JsonObject) -> api.NameAccepted:
        try:
            transfer = Transfer.parse(entry)
        except ParseError as error:
            raise NotAccepted(f"this is not the entry of a transfer: {error}") from None
        self._require_peers()
        held = await self._node.names.accept(transfer, NAME_TIMEOUT)
        lease = self._leased(held)
        return api.NameAccepted(
            name=lease.name,
            swarm=lease.swarm,
            accepted=lease.state == "held",
            expires_at=lease.expires_at,
            witnessed=lease.witnessed,
        )

    async def trust_name(self, name: str, owner: str | None) -> api.NameTrusted:
        target = self._name(name)
        if owner is None:
            self._require_peers()
        peer, before = await self._node.resolution.trust(
            target, None if owner is None else await self._peer(owner)
        )
        return api.NameTrusted(
            name=target.name,
            swarm=target.swarm,
            did=peer.did,
            peer_id=str(peer),
            before=None if before is None else before.did,
        )

    async def equivocations(self) -> Sequence[api.Equivocation]:
        return [
            api.Equivocation(
                name=proof.name,
                swarm=proof.swarm,
                peer_id=str(proof.peer_id),
                seq=proof.seq,
                found_at=proof.found_at,
            )
            for proof in self._node.resolution.equivocations()
        ]

    # Inside

    async def _peer(self, text: str) -> PeerId:
        """The key that a PeerId or a DID stands for; a DID has to be looked up."""
        target = parse_target(text)
        if isinstance(target, PeerTarget):
            return target.peer_id
        if isinstance(target, DidTarget):
            return (await self._resolve(target)).peer_id
        raise TargetError(f"{text[:80]!r} is neither a PeerId nor a DID", hint="`wws resolve` shows both")

    def _tell_way_back(self, error: NameIsTaken) -> None:
        """Say so where the holder is who this node was before."""
        way_back = self._node.former.way_back(error.holder)
        if way_back is not None:
            error.hint = f"This node was that agent before; to go on as it: {way_back}. {error.hint}"
            error.details = {**error.details, "way_back": way_back}

    def _main_name(self) -> str | None:
        held = self._node.names.names
        return held[0].lease.name if held else self._node.config.agent.wws_name

    def _require_peers(self) -> None:
        if not self._node.host.table.peer_count:
            raise NotJoined("no peer is connected: the name cannot be looked up or stored")

    def _parse(self, text: str) -> Target:
        target = parse_target(text)
        if isinstance(target, NameTarget) and "@" not in text:
            return NameTarget(target.name, self._node.config.agent.swarm)
        return target

    def _name(self, text: str) -> NameTarget:
        target = self._parse(text)
        if not isinstance(target, NameTarget):
            raise TargetError(f"{text[:80]!r} is not a name")
        return target

    async def _resolve(self, target: Target) -> ResolvedTarget:
        node = self._node
        if isinstance(target, AddressTarget):
            return ResolvedTarget(None, None, target.peer_id, (target.address,), 0)
        if isinstance(target, NameTarget) and not node.host.table.peer_count:
            raise NotJoined(f"cannot look {target} up: no peer is connected")
        try:
            found = await node.resolution.resolve(target, only_pinned=not node.is_vouched_for())
            if found.name is not None:
                self._remember(found.peer_id, found.name)
            return found
        except OwnerChanged as error:
            error.details = {"pinned": str(error.pinned), "found": str(error.found)}
            raise
        except NameIsReleased as error:
            error.details = {"free_at": error.free_at}
            raise
        except PeerNotFound:
            if not isinstance(target, PeerTarget):
                raise
            return await self._find(target)

    async def _moved(self, target: Target, dialled: ResolvedTarget) -> ResolvedTarget | None:
        """A target as it is now, where that is another place than the one dialled in vain."""
        if isinstance(target, AddressTarget):
            return None
        self._node.resolution.forget(target)
        now = await self._resolve(target)
        return now if set(now.dialled) - set(dialled.dialled) else None

    def _remember(self, peer: PeerId, name: str) -> None:
        self._resolved.pop(peer, None)
        self._resolved[peer] = name
        if len(self._resolved) > MAX_NAMED:
            del self._resolved[next(iter(self._resolved))]

    def _leased(self, held: HeldName) -> api.LeasedName:
        """How one of our names stands, and how many of the witnesses of now, or of those before, say so."""
        sets, state, record = self._node.witness_sets(), held.state, held.lease.record
        signed = {receipt.witness for receipt in record.receipts} if record is not None else set()
        return api.LeasedName(
            name=held.lease.name,
            swarm=held.lease.swarm,
            expires_at=held.expires_at if held.is_gone else held.lease.expires_at,
            witnessed=held.lease.witnessed,
            state=state,
            holder=None if held.holder is None else held.holder.did,
            problem=held.problem or None,
            receipts=max(len(signed & group) for group in sets) if held.lease.witnessed else 0,
            witnesses=len(sets[0]),
            way_back=self._node.former.way_back(held.holder),
        )

    async def _find(self, target: PeerTarget) -> ResolvedTarget:
        """A peer without a record: perhaps it is connected, or others know where it is."""
        node = self._node
        addresses = node.host.peers.addresses(target.peer_id)
        connection = node.host.connection_to(target.peer_id)
        if not addresses and connection is not None and connection.outbound:
            # Where it was reached is where it can be reached.
            addresses = (connection.remote_address,)
        if not addresses:
            found: FindDone = await node.dht.find(target.peer_id)
            addresses = next((p.addresses for p in found.peers if p.peer_id == target.peer_id), ())
        if not addresses:
            raise PeerNotFound(target)
        return ResolvedTarget(None, None, target.peer_id, addresses, 0)
