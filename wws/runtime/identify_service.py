"""Identify on every connection, and identify push when we change (libp2p "identify").

Both sides ask as soon as a connection is established. What a peer says goes to its connection and to the
peer store, its addresses from the signed record when there is one that verifies. Peers that show the same
public address as we also tell each other their private ones, outside the record (`wws.mesh.same_lan`).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from wws import __version__
from wws.addresses.multiaddr import Multiaddr
from wws.codec import varint
from wws.errors import WwsError
from wws.identity.peer_id import PeerId
from wws.mesh import identify
from wws.mesh.envelope import seal
from wws.mesh.identify import Identification
from wws.mesh.reach import reaches
from wws.mesh.same_lan import private_addresses, same_lan_addresses
from wws.runtime.connection import Connection
from wws.runtime.host import Host
from wws.runtime.own_addresses import expand
from wws.runtime.streams import Stream


@dataclass(frozen=True, slots=True)
class IdentifyConfig:
    timeout: float = 10.0
    """Seconds for one exchange."""
    agent_suffix: str = ""
    """Behind the agent version: ` bootstrap` on a bootstrap node."""
    max_pushes_at_once: int = 64
    """Peers that are told of a change at the same time."""
    move_wait: float = 1.0
    """Seconds after which a peer that has moved is told where it is seen now: by then it has arrived."""
    tell_private: bool = True
    """Tell peers at our own public address our private addresses. Off with `relay_only`."""
    max_neighbours: int = 256
    """Peers at our own public address whose private addresses are remembered, those heard last."""


class IdentifyService:
    """Asks, answers, pushes."""

    def __init__(
        self, host: Host, config: IdentifyConfig, announced: Callable[[], tuple[Multiaddr, ...]]
    ) -> None:
        self._host = host
        self._config = config
        self._announced = announced
        self.public_ips: Callable[[], frozenset[str]] = frozenset
        """At which IPs others see us; set by whoever knows (`wws.runtime.nat.reachability`)."""
        self._neighbours: OrderedDict[PeerId, tuple[Multiaddr, ...]] = OrderedDict()
        self._extra_protocols: tuple[str, ...] = ()
        self._said: Identification | None = None
        self._said_bytes = b""
        """What is the same on every connection, encoded."""
        self._seq = 0
        self._moving: set[int] = set()
        self._owed: set[int] = set()
        """Connections whose peer has not said yet whether it speaks push, and was told of us what has changed
        since."""
        host.serve(identify.PROTOCOL, self._answer)
        host.serve(identify.PUSH_PROTOCOL, self._receive_push)
        host.listeners.connection_established.append(self._ask_soon)
        host.listeners.connection_moved.append(self._tell_where)

    def set_network(self, protocol: str | None) -> None:
        """Advertise the network's `/wws/net/…` protocol, or none (an ad hoc network)."""
        self._extra_protocols = () if protocol is None else (protocol,)

    @property
    def network(self) -> str | None:
        """The `/wws/net/…` protocol that we advertise."""
        return next(iter(self._extra_protocols), None)

    def answer_for(self, host: Host) -> None:
        """Let another host of this node, such as a probe of its NAT, answer in the same words."""
        host.serve(identify.PROTOCOL, self._answer)

    def neighbour_addresses(self, peer: PeerId) -> tuple[Multiaddr, ...]:
        """Private addresses at which a peer behind our own public address is worth dialling."""
        return self._neighbours.get(peer, ())

    def ours(self, connection: Connection) -> bytes:
        """What we say of ourselves on a connection: one length-prefixed message."""
        addresses, protocols = self._announced(), (*self._host.protocols, *self._extra_protocols)
        if self._said is None or self._said.addresses != addresses or self._said.protocols != protocols:
            # From the Unix time in milliseconds, so that it is higher after every restart.
            self._seq = max(self._seq + 1, self._host.clock.unix() * 1000)
            self._said = Identification(
                protocol_version=identify.PROTOCOL_VERSION,
                agent_version=f"wws/{__version__}{self._config.agent_suffix}",
                peer_id=self._host.identity.peer_id,
                addresses=addresses,
                protocols=protocols,
                record=seal(self._host.identity, self._seq, addresses),
            )
            self._said_bytes = self._said.message()
        here = Identification(
            # Over a circuit nobody sees an address of the peer.
            observed=None if connection.is_limited else connection.remote_address.without_peer(),
            addresses=self._for_neighbours() if self._is_neighbour(connection) else None,
            clock=self._host.clock.unix(),
        )
        return varint.frame(self._said_bytes + here.message())

    async def push_all(self, first: Callable[[Connection], bool] = lambda _: False) -> None:
        """Tell every peer that speaks push what we say of ourselves now, beginning with those of `first`."""
        room = asyncio.Semaphore(self._config.max_pushes_at_once)

        async def push(connection: Connection) -> None:
            async with room:
                await self._push(connection)

        self._owed |= {one.connection_id for one in self._host.connections() if not one.identify_done}
        told = sorted(filter(_speaks_push, self._host.connections()), key=lambda one: not first(one))
        await asyncio.gather(*map(push, told))

    async def ask_again(self, connection: Connection) -> None:
        """Ask a peer that was asked before: it may see us elsewhere by now. A failure is only counted."""
        try:
            said = await self.ask(connection)
        except WwsError as error:
            self._host.count_refusal(identify.PROTOCOL, error.code)
        except TimeoutError:
            self._host.count_refusal(identify.PROTOCOL, "timeout")
        else:
            connection.set_identified((connection.identification or Identification()).updated_by(said))
            self._learn(connection, said)

    async def _push(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(self._config.timeout):
                async with connection.open_stream(identify.PUSH_PROTOCOL) as stream:
                    await stream.write(self.ours(connection))
                    stream.close_write()
                    await stream.read_to_end(1)
        except (WwsError, TimeoutError):
            self._host.count_refusal(identify.PUSH_PROTOCOL, "push_failed")

    def _tell_where(self, connection: Connection) -> None:
        """A peer whose NAT has changed cannot know it by itself: tell it, once a move, where it is seen."""
        if _speaks_push(connection) and connection.connection_id not in self._moving:
            self._moving.add(connection.connection_id)
            self._host.spawn(self._tell_where_soon(connection), "identify push to who moved")

    async def _tell_where_soon(self, connection: Connection) -> None:
        await asyncio.sleep(self._config.move_wait)
        self._moving.discard(connection.connection_id)
        if connection.is_established:
            await self._push(connection)

    def _ask_soon(self, connection: Connection) -> None:
        self._host.spawn(self._ask(connection), "identify")

    async def ask(self, connection: Connection) -> Identification:
        """What the peer says of itself, and learn nothing from it. Raises `WwsError`, `TimeoutError`."""
        async with asyncio.timeout(self._config.timeout):
            async with connection.open_stream(identify.PROTOCOL) as stream:
                stream.close_write()
                return identify.parse(await stream.read_to_end(identify.MAX_BYTES), connection.peer_id)

    async def _ask(self, connection: Connection) -> None:
        said: Identification | None = None
        try:
            said = await self.ask(connection)
        except WwsError as error:
            self._host.count_refusal(identify.PROTOCOL, error.code)
        except TimeoutError:
            self._host.count_refusal(identify.PROTOCOL, "timeout")
        finally:
            if said is not None and connection.identification is not None:
                said = said.updated_by(connection.identification)  # a push was faster
            if said is not None or not connection.identify_done:
                connection.set_identified(said)
        if said is not None:
            self._learn(connection, said)
        if connection.connection_id in self._owed:
            self._owed.discard(connection.connection_id)
            if _speaks_push(connection):
                await self._push(connection)

    async def _answer(self, stream: Stream) -> None:
        async with asyncio.timeout(self._config.timeout):
            await stream.write(self.ours(stream.connection))
            stream.close_write()
            await stream.read_to_end(1)

    async def _receive_push(self, stream: Stream) -> None:
        async with asyncio.timeout(self._config.timeout):
            data = await stream.read_to_end(identify.MAX_BYTES)
        stream.close_write()
        connection = stream.connection
        pushed = identify.parse(data, connection.peer_id)
        said = (connection.identification or Identification()).updated_by(pushed)
        connection.set_identified(said)
        self._learn(connection, said)

    def _learn(self, connection: Connection, said: Identification) -> None:
        addresses = said.record.addresses if said.record is not None else said.addresses or ()
        useful = tuple(address for address in addresses if reaches(address, self._host.scope))
        # The store keeps its own copy without what only this connection needs.
        self._host.peers.identified(connection.peer_id, replace(said, record=None, observed=None))
        if useful:
            self._host.peers.learn(connection.peer_id, useful)
        self._learn_private(connection, said)
        for listener in self._host.listeners.peer_identified:
            listener(connection)

    def _is_neighbour(self, connection: Connection) -> bool:
        return not connection.is_limited and connection.remote_ip in self.public_ips()

    def _for_neighbours(self) -> tuple[Multiaddr, ...]:
        return private_addresses(expand(self._host.listen_addresses)) if self._config.tell_private else ()

    def _learn_private(self, connection: Connection, said: Identification) -> None:
        """Of a peer at our own public address: what it said outside its record, and to nobody else."""
        if not self._is_neighbour(connection):
            return
        peer = connection.peer_id
        near = same_lan_addresses(peer, said.addresses or (), (connection.remote_ip,), self.public_ips())
        if near:
            self._neighbours.pop(peer, None)
            self._neighbours[peer] = near
            while len(self._neighbours) > self._config.max_neighbours:
                self._neighbours.popitem(last=False)
            self._host.peers.learn(peer, near)


def _speaks_push(connection: Connection) -> bool:
    said = connection.identification
    return said is not None and identify.PUSH_PROTOCOL in (said.protocols or ())
