"""What the RPC server and the status page see of a node: `NodeApi` over the running parts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import ip_network

from wws import __version__
from wws.errors import ParseError, WwsError
from wws.identity.peer_id import PeerId
from wws.names.twins import in_use_warning
from wws.names.uri import AddressTarget, PeerTarget, Target
from wws.nat.punch_events import Result
from wws.rpc import api
from wws.runtime.connection import Connection
from wws.runtime.dialer import DialFailed
from wws.runtime.names_face import NAME_TIMEOUT, NamesFace
from wws.runtime.node import Node

PING_GAP = 0.2
"""Seconds between two pings of one report."""
PING_TIMEOUT = 4.0
"""Seconds for one round trip, after which the connection is taken for dead."""
MAX_MEASURED = 32
"""Connections whose round trip is measured for one list of peers; the keep-alive measures the rest."""
MEASURE_TIMEOUT = 1.0
"""Seconds that such a measurement may take."""


class NotASubject(WwsError):
    """What was given can be no subject of a ban."""

    code = "invalid_params"
    hint = "`wws call swarm.bans` lists them."


class NotABootstrapNode(WwsError):
    """Only a bootstrap node serves others in a way that it could take back."""

    code = "not_a_bootstrap_node"
    hint = "An agent is just stopped: wws leave."


class NodeFace(NamesFace):
    """Answers for one node. Implements `wws.rpc.api.NodeApi`."""

    def __init__(self, node: Node, stop: Callable[[], None]) -> None:
        super().__init__(node)
        self._stop = stop
        self.rpc: str | None = None
        self.http: str | None = None
        self.socket: str | None = None
        self.warnings: list[api.Warned] = []
        """What this process warns of besides the node: ports that its own servers could not have."""

    async def status(self) -> api.NodeStatus:
        node = self._node
        network = node.choice.network
        view = node.discovery.view
        return api.NodeStatus(
            agent_id=node.identity.peer_id.did,
            did=node.identity.peer_id.did,
            peer_id=str(node.identity.peer_id),
            name=self._main_name(),
            node=node.preparation.node.name,
            status=self._join_state(),
            tier="bootstrap" if node.is_bootstrap else "agent",
            version=__version__,
            network=None if network.is_ad_hoc else network.name,
            domain=network.domain or None,
            network_origin=node.choice.origin,
            publishers=tuple(key.hex() for key in network.publishers),
            ad_hoc=network.is_ad_hoc,
            unsigned=node.choice.is_unsigned,
            lan_only=view.lan_only,
            joined=node.is_joined(),
            join=self._progress(),
            reachability="private" if self._is_hidden() else node.nat.reachability.reachability,
            nat=node.nat.reachability.nat,
            relay_only=self._is_hidden(),
            relays=self._relays(),
            external=tuple(
                api.ExternalAddress(str(one.address.without_peer()), one.verdict, one.source)
                for one in node.nat.reachability.addresses
            ),
            port_mapping=self._port_mapping(),
            relay_service=self._relay_service(),
            witness_service=self._witness_service(),
            draining=node.is_draining,
            signed_list=self._signed_list(),
            hole_punching=self._hole_punching(),
            addresses=tuple(map(str, node.addresses)),
            listen=tuple(map(str, node.host.listen_addresses)),
            peers=node.host.table.peer_count,
            connections=self._connections(),
            names=tuple(map(self._leased, node.names.names)),
            bans=node.host.gate.count,
            equivocations=len(node.resolution.equivocations()),
            swarm_size=self._swarm_size(),
            uptime_s=round(node.clock.monotonic() - node.started_at, 3),
            traffic=api.Traffic(node.host.received_bytes, node.host.sent_bytes),
            disk=api.Disk(await asyncio.to_thread(self._state_bytes)),
            identity_path=str(node.preparation.identity.path),
            rpc=self.rpc,
            socket=self.socket,
            http=self.http,
        )

    async def network_stats(self) -> api.NetworkStats:
        node = self._node
        kademlia = node.dht.machine
        return api.NetworkStats(
            swarm_size=self._swarm_size(),
            peers=node.host.table.peer_count,
            connections=self._connections(),
            relays=self._relays(),
            traffic=api.Traffic(node.host.received_bytes, node.host.sent_bytes),
            dht_mode="server" if node.dht.is_server else "client",
            routing_table=len(kademlia.routing),
            records=len(kademlia.records),
            refused={f"{protocol}.{reason}": count for (protocol, reason), count in node.refusals().items()},
        )

    async def identity(self, did: str | None) -> api.IdentityInfo:
        own = self._node.identity.peer_id
        if did is None or did == own.did:
            return _identity(own, self._main_name(), str(self._node.preparation.identity.path))
        resolved = await self._resolve(self._parse(did))
        return _identity(resolved.peer_id, None, None)

    async def peers(self) -> api.PeerList:
        connections = self._node.host.connections()
        unmeasured = [c for c in connections if c.machine.round_trip is None][:MAX_MEASURED]
        times = dict(zip(unmeasured, await asyncio.gather(*map(self._measure, unmeasured)), strict=True))
        return api.PeerList(
            tuple(
                _peer(connection, times.get(connection), self._resolved.get(connection.peer_id))
                for connection in connections
            )
        )

    async def connect(self, address: str) -> api.Connected:
        target = self._parse(address)
        peer = _peer_of(target)
        already = peer is not None and self._node.host.connection_to(peer) is not None
        connection = await self._connect(target)
        return api.Connected(
            peer_id=str(connection.peer_id),
            addr=str(connection.remote_address),
            path=_path(connection),
            already=already,
        )

    async def ping(self, target: str, count: int, wait_direct: int = 0) -> api.PingReport:
        connection = await self._connect(self._parse(target))
        peer = connection.peer_id
        replies: list[api.PingReply] = []
        for seq in range(1, count + 1):
            if seq > 1:
                await asyncio.sleep(PING_GAP)
            relayed = self._node.host.connection_to(peer, direct=True) is None
            if wait_direct and seq == count and relayed:
                await self._node.nat.puncher.wait_settled(peer, wait_direct)
            # Which way it goes is decided for each anew: a hole may have been punched meanwhile, or the
            # connection given up that did not answer the one before.
            replies.append(await self._ping_once(seq, self._node.host.connection_to(peer), target))
        return api.PingReport(
            target=target,
            peer_id=str(peer),
            sent=count,
            received=sum(reply.rtt_ms is not None for reply in replies),
            replies=tuple(replies),
        )

    async def _ping_once(self, seq: int, connection: Connection | None, target: str) -> api.PingReply:
        try:
            connection = connection or await self._connect(self._parse(target))
            path, relay = _path(connection), _relay(connection)
            async with asyncio.timeout(PING_TIMEOUT):
                elapsed = await self._node.ping.ping(connection)
        except WwsError as error:
            return api.PingReply(seq, None, None, reason=str(error))
        except TimeoutError:
            # It may be dead, as when UDP stops to pass: what comes next tries the peer's addresses anew.
            if connection is not None:
                connection.is_leaving = True
            reason = f"no answer within {PING_TIMEOUT:g} s; the next try dials the peer anew"
            return api.PingReply(seq, None, None, reason=reason)
        why = self._node.nat.puncher.why_not_direct(connection.peer_id) if path == "relay" else None
        return api.PingReply(seq, round(elapsed * 1000, 3), path, relay, why)

    async def bans(self) -> Sequence[api.Ban]:
        clock = self._node.clock
        ends_in = clock.unix() - clock.monotonic()  # bans end by the monotonic clock
        return [
            api.Ban(
                subject=str(ban.subject),
                kind=ban.kind,
                reason=ban.reason.value,
                until=round(ban.until + ends_in),
            )
            for ban in self._node.host.gate.listing()
        ]

    async def unban(self, subject: str) -> api.Unbanned:
        try:
            banned: PeerId | str = PeerId.parse(subject)
        except ParseError:
            try:
                banned = str(ip_network(subject))  # a prefix, as the list shows it
            except ValueError:
                raise NotASubject(f"{subject[:80]!r} is neither a PeerId nor a prefix") from None
        return api.Unbanned(subject, self._node.host.gate.unban(banned))

    async def drain(self, on: bool) -> api.Draining:
        node = self._node
        if not node.is_bootstrap:
            raise NotABootstrapNode
        node.drain(on)
        relay = node.nat.relay_server
        return api.Draining(
            draining=node.is_draining,
            reservations=0 if relay is None else relay.reservations,
            announced_by=0 if relay is None else relay.announced_by,
            circuits=0 if relay is None else relay.circuits,
            connections=len(node.host.table),
        )

    async def stop(self, release_name: bool) -> api.Stopping:
        released = await self._node.names.release_all(NAME_TIMEOUT) if release_name else ()
        self._stop()
        return api.Stopping(True, released)

    # Inside

    async def _measure(self, connection: Connection) -> float | None:
        try:
            async with asyncio.timeout(MEASURE_TIMEOUT):
                return await self._node.ping.ping(connection)
        except (WwsError, TimeoutError):
            return None  # shown as not known

    async def _connect(self, target: Target) -> Connection:
        node = self._node
        peer = _peer_of(target)
        if peer is not None and (connection := node.host.connection_to(peer)) is not None:
            return connection
        resolved = await self._resolve(target)
        # An address that the user typed may be of any scope; what a record says may not.
        typed = isinstance(target, AddressTarget)
        try:
            return await node.dialer.connect(resolved.peer_id, resolved.dialled, any_scope=typed)
        except DialFailed:
            # Perhaps it was remembered, and they have moved since.
            moved = await self._moved(target, resolved)
            if moved is None:
                raise
            return await node.dialer.connect(moved.peer_id, moved.dialled)

    def _join_state(self) -> api.JoinState:
        return self._node.discovery.view.state

    def _progress(self) -> api.JoinProgress:
        view = self._node.discovery.view
        report = view.report
        tried: list[api.Tried] = []
        if report is not None and not self._node.is_joined():
            tried += [
                api.Tried(source.source, report.network, source.detail or source.code)
                for source in report.sources
                if source.code not in ("ok", "off", "waiting", "empty") or source.source == "mdns"
            ]
            tried += [
                api.Tried(str(attempt.source), attempt.address, attempt.code) for attempt in report.attempts
            ]
        warnings = [api.Warned("start", text) for text in self._node.warnings] + self.warnings
        warnings += [api.Warned(code, message) for code, message in view.warnings.items()]
        if (changed := self._node.former.warning) is not None:
            warnings.append(api.Warned("identity_changed", changed))
        if (twin := self._node.names.twin) is not None:
            warnings.append(api.Warned("identity_in_use", in_use_warning(twin)))
        if report is not None and not self._node.is_joined():
            warnings += [api.Warned("advice", text) for text in report.advice]
        retry_in = None if view.retry_at is None else max(0.0, view.retry_at - self._node.clock.monotonic())
        return api.JoinProgress(
            state=self._join_state(),
            source=view.source,
            tried=tuple(tried),
            next_retry_s=retry_in,
            warnings=tuple(warnings),
            clock_skew_s=self._node.clock_check.skew,
        )

    def _is_hidden(self) -> bool:
        """Whether nobody is told an address of ours, whatever could be dialled."""
        return self._node.config.network.relay_only

    def _connections(self) -> api.ConnectionCounts:
        table = self._node.host.table
        return api.ConnectionCounts(direct=len(table) - table.circuits, relayed=table.circuits)

    def _relays(self) -> tuple[api.Relay, ...]:
        return tuple(
            api.Relay(str(held.relay), str(held.addresses[0]), held.expires_at)
            for held in self._node.nat.relay_client.reservations
            if held.addresses
        )

    def _port_mapping(self) -> str:
        mapper = self._node.nat.port_mapper
        return "off" if mapper is None else mapper.state.replace(" ", "_")

    def _relay_service(self) -> api.RelayService | None:
        server = self._node.nat.relay_server
        if server is None or not server.is_on:
            return None
        return api.RelayService(
            reservations=server.reservations,
            announced_by=server.announced_by,
            circuits=server.circuits,
            bytes_today=server.bytes_today,
            bytes_per_day=server.budget or None,
            resets_in_s=server.seconds_to_reset,
        )

    def _witness_service(self) -> api.WitnessService | None:
        witness = self._node.witness
        if witness is None:
            return None
        return api.WitnessService(
            entries=witness.entries,
            provisional=witness.provisional,
            log_rows=witness.log_rows,
            writable=witness.is_writable,
            no_first_claims_until=witness.no_first_claims_until,
        )

    def _signed_list(self) -> api.SignedList | None:
        bundle = self._node.discovery.machine.bundle(self._node.clock.unix())
        return None if bundle is None else api.SignedList(bundle.seq, bundle.expires_at)

    def _hole_punching(self) -> api.HolePunching | None:
        puncher = self._node.nat.puncher
        if not puncher.is_active:
            return None
        results: Counter[str] = Counter()
        for (_, _, result), count in puncher.outcomes.items():
            results[result] += count
        first = results[Result.REVERSED] + results[Result.FIRST]
        succeeded = first + results[Result.SECOND] + results[Result.LATER]
        failed = results[Result.FAILED] + results[Result.NO_ADDRESS] + results[Result.NO_SYNC]
        return api.HolePunching(
            attempted=succeeded + failed, succeeded=succeeded, failed=failed, first_attempt=first
        )

    def _swarm_size(self) -> api.SwarmSize:
        size = self._node.dht.machine.swarm_size(self._node.clock.monotonic())
        seen = self._node.host.table.peer_count + 1  # who only asks the DHT is not in its estimate
        return api.SwarmSize(max(size.count, seen), max(size.low, seen), max(size.high, seen), size.method)

    def _state_bytes(self) -> int:
        folder = self._node.preparation.node.state
        return sum(entry.stat().st_size for entry in folder.iterdir() if entry.is_file())


def _path(connection: Connection) -> api.Path:
    return "relay" if connection.is_limited else "direct"


def _relay(connection: Connection) -> str | None:
    return None if connection.circuit is None else str(connection.circuit.relay)


def _peer_of(target: Target) -> PeerId | None:
    return target.peer_id if isinstance(target, (PeerTarget, AddressTarget)) else None


def _identity(peer: PeerId, name: str | None, path: str | None) -> api.IdentityInfo:
    return api.IdentityInfo(
        did=peer.did,
        peer_id=str(peer),
        peer_id_cid=peer.cid,
        node_id=peer.node_id,
        did_key=peer.did_key,
        name=name,
        path=path,
    )


def _peer(connection: Connection, measured: float | None, name: str | None) -> api.PeerConnection:
    said = connection.identification
    rtt = connection.machine.round_trip or measured
    return api.PeerConnection(
        peer_id=str(connection.peer_id),
        addr=str(connection.remote_address),
        transport=connection.transport,
        direction="out" if connection.outbound else "in",
        path=_path(connection),
        relay=_relay(connection),
        rtt_ms=None if rtt is None else round(rtt * 1000, 3),
        agent=said.agent_version if said is not None else None,
        name=name,
    )
