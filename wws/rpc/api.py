"""What a node can be asked, and what it answers: the contract between the node and its RPC server.

`NodeApi` is written down here and implemented by the node (and by the fake node in `wws.testing`).
Each method takes parsed arguments, returns a frozen record, and raises a `WwsError` for what it
reports on purpose. The JSON that callers see is the record, member by member (contract, section 6):
a member added here is an addition to the contract, a member renamed breaks it. Records about names stand in
`name_answers`, those about callers in `caller_answers`, those for operators in `operator_answers`; all of
them are offered here.

An error may carry `details`, a mapping of JSON values: they travel beside `code` and `hint` in the
JSON-RPC error's `data`, so that a caller can name the holder of a taken name.

All times are Unix seconds; `*_s` are durations in seconds, `*_ms` in milliseconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from wws.rpc.caller_answers import AgentRegistered as AgentRegistered
from wws.rpc.caller_answers import Token as Token
from wws.rpc.caller_answers import TokenCreated as TokenCreated
from wws.rpc.caller_answers import TokenRevoked as TokenRevoked
from wws.rpc.name_answers import Equivocation as Equivocation
from wws.rpc.name_answers import LeasedName as LeasedName
from wws.rpc.name_answers import NameAccepted as NameAccepted
from wws.rpc.name_answers import NameRegistered as NameRegistered
from wws.rpc.name_answers import NameReleased as NameReleased
from wws.rpc.name_answers import NameRenewed as NameRenewed
from wws.rpc.name_answers import NameState as NameState
from wws.rpc.name_answers import NameTransferred as NameTransferred
from wws.rpc.name_answers import NameTrusted as NameTrusted
from wws.rpc.name_answers import Resolved as Resolved
from wws.rpc.operator_answers import Draining as Draining
from wws.rpc.operator_answers import RelayService as RelayService
from wws.rpc.operator_answers import SignedList as SignedList
from wws.rpc.operator_answers import WitnessService as WitnessService

if TYPE_CHECKING:
    from wws.codec.canonical import JsonObject

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"
"""A value of JSON."""

JoinState: TypeAlias = Literal["starting", "discovering", "joined", "failed_retrying", "lost", "stopping"]
Reachability: TypeAlias = Literal["public", "private", "unknown"]
Nat: TypeAlias = Literal["none", "endpoint_independent", "address_dependent", "unknown"]
Path: TypeAlias = Literal["direct", "relay"]
Direction: TypeAlias = Literal["in", "out"]
BanKind: TypeAlias = Literal["peer", "prefix"]


@dataclass(frozen=True, slots=True)
class SwarmSize:
    """How many nodes the swarm seems to have; the true number lies in `low`..`high`, most likely."""

    estimate: int
    low: int
    high: int
    method: str
    """How it was estimated: `counted` (small swarm), `density` (of the closest peers), `none`."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes moved over the mesh since the node started."""

    in_bytes: int
    out_bytes: int


@dataclass(frozen=True, slots=True)
class Disk:
    """What the node keeps on disk."""

    state_bytes: int


@dataclass(frozen=True, slots=True)
class ConnectionCounts:
    """Open connections to peers, by path."""

    direct: int
    relayed: int


@dataclass(frozen=True, slots=True)
class Relay:
    """A relay on which this node holds a reservation."""

    peer_id: str
    addr: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class ExternalAddress:
    """An address at which this node may be reachable, and what others found when they tried."""

    addr: str
    verdict: Reachability
    source: str
    """`interface`, `observed` (peers see us there), `mapped` (by the router) or `configured`."""


@dataclass(frozen=True, slots=True)
class HolePunching:
    """Attempts to get from a relayed to a direct connection, since the start."""

    attempted: int
    succeeded: int
    failed: int
    first_attempt: int
    """How many of those that succeeded did so at the first attempt."""


@dataclass(frozen=True, slots=True)
class Warned:
    """Something the user should know although the node goes on."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Tried:
    """One way into the network that was tried and failed."""

    source: str
    """`cache`, `pinned`, `bootstrap`, `bundle`, `dns`, `dnsaddr` or `mdns`."""
    target: str
    """The address, or the DNS name that was asked."""
    error: str


@dataclass(frozen=True, slots=True)
class JoinProgress:
    """How far the node has come on its way into the network."""

    state: JoinState
    source: str | None = None
    """Where the peer that let it in came from; None before."""
    tried: tuple[Tried, ...] = ()
    next_retry_s: float | None = None
    """Seconds until the next attempt, while there is one planned."""
    warnings: tuple[Warned, ...] = ()
    clock_skew_s: float | None = None
    """By how much this machine's clock is ahead of its peers', when they were asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """Everything that `wws status` and `wws join` show."""

    agent_id: str
    """The DID: how agents are named on the RPC interface."""
    did: str
    peer_id: str
    name: str | None
    """The name this node claims or holds, without `wws:`."""
    node: str
    status: JoinState
    tier: str
    """`agent` or `bootstrap`."""
    version: str
    network: str | None
    """The network's name; None for an ad hoc network."""
    domain: str | None
    network_origin: str = "argument"
    """What named the network: `argument`, `settings`, `saved`, `bootstrap`, `remembered` or `build`."""
    publishers: tuple[str, ...] = ()
    """The keys, in hex, whose signatures on the network's entry points are believed."""
    ad_hoc: bool = False
    unsigned: bool = False
    lan_only: bool = False
    joined: bool
    join: JoinProgress
    reachability: Reachability = "unknown"
    nat: Nat = "unknown"
    relays: tuple[Relay, ...] = ()
    external: tuple[ExternalAddress, ...] = ()
    relay_only: bool = False
    """Whether no address of its own is announced, by the user's wish."""
    port_mapping: str = "off"
    """How the router opened our port: `pcp`, `nat-pmp`, `upnp`; or `none`, `not_offered`, `off`."""
    relay_service: RelayService | None = None
    """None on a node that is no relay."""
    witness_service: WitnessService | None = None
    """None on a node that is no witness."""
    draining: bool = False
    """Whether it gets ready to be stopped, and sends away those it relays for."""
    signed_list: SignedList | None = None
    """None before there was one, and in a network without publishers."""
    hole_punching: HolePunching | None = None
    """None when it is off."""
    addresses: tuple[str, ...] = ()
    """What the node announces."""
    listen: tuple[str, ...] = ()
    """Where its sockets are."""
    peers: int = 0
    connections: ConnectionCounts = ConnectionCounts(0, 0)
    names: tuple[LeasedName, ...] = ()
    bans: int = 0
    """Peers and prefixes that are banned now: `swarm.bans` lists them."""
    equivocations: int = 0
    """Peers found to contradict themselves: `swarm.equivocations` lists them."""
    swarm_size: SwarmSize = SwarmSize(1, 1, 1, "none")
    uptime_s: float = 0.0
    traffic: Traffic = Traffic(0, 0)
    disk: Disk = Disk(0)
    identity_path: str | None = None
    rpc: str | None = None
    socket: str | None = None
    http: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkStats:
    """What the node knows of the swarm around it."""

    swarm_size: SwarmSize
    peers: int
    connections: ConnectionCounts
    relays: tuple[Relay, ...] = ()
    traffic: Traffic
    dht_mode: Literal["client", "server"]
    routing_table: int
    """Peers in the Kademlia routing table."""
    records: int
    """Records held for others."""
    refused: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """What was refused since the start, counted by `protocol.reason`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityInfo:
    """An identity in each of its forms; `name` and `path` are known for the node's own only."""

    did: str
    peer_id: str
    peer_id_cid: str
    node_id: str
    """The public key, 64 hex digits."""
    did_key: str
    name: str | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConnection:
    """One open connection to a peer."""

    peer_id: str
    addr: str
    transport: str
    direction: Direction
    path: Path
    relay: str | None = None
    """The PeerId of the relay when the path goes through one."""
    rtt_ms: float | None = None
    agent: str | None = None
    """The agent version that the peer told in identify."""
    name: str | None = None


@dataclass(frozen=True, slots=True)
class PeerList:
    """The peers this node is connected to."""

    peers: tuple[PeerConnection, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """The peer is connected now, or was before."""

    peer_id: str
    addr: str
    path: Path
    already: bool = False


@dataclass(frozen=True, slots=True)
class PingReply:
    """One round trip, or why there was none."""

    seq: int
    rtt_ms: float | None
    path: Path | None
    relay: str | None = None
    reason: str | None = None
    """Why it went through a relay, or why no answer came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PingReport:
    """What came of `count` pings."""

    target: str
    peer_id: str
    sent: int
    received: int
    replies: tuple[PingReply, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ban:
    """A peer or a prefix that this node does not talk to for a while."""

    subject: str
    """A PeerId, or a prefix such as `203.0.113.0/24`."""
    kind: BanKind
    reason: str
    until: int


@dataclass(frozen=True, slots=True)
class Unbanned:
    """The ban on the subject is lifted."""

    subject: str
    unbanned: bool
    """False when there was none."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The node answers this, then drains and exits."""

    stopping: bool
    released: tuple[str, ...] = ()
    """The names that were given up on the way."""


class NodeApi(Protocol):
    """The node as its RPC server sees it. Every method may raise `WwsError`; none may hang for ever."""

    async def status(self) -> NodeStatus:
        """Answers at once, in every state of the node, also before it has joined."""
        ...

    async def network_stats(self) -> NetworkStats: ...

    async def identity(self, did: str | None) -> IdentityInfo:
        """The node's own identity, or that of a DID it can find (`not_found` when it cannot)."""
        ...

    async def peers(self) -> PeerList: ...

    async def connect(self, address: str) -> Connected:
        """`address` is any TARGET or a multiaddr with `/p2p/`. Raises `peer_unreachable`."""
        ...

    async def ping(self, target: str, count: int, wait_direct: int = 0) -> PingReport:
        """Raises `peer_unreachable` when no connection came about; lost replies are in the report.

        A hole punch under way gets up to `wait_direct` seconds to end before the last round trip.
        """
        ...

    async def register_name(self, name: str) -> NameRegistered:
        """Claims the name and keeps renewing it. Raises `name_taken` with `holder` in `details`."""
        ...

    async def resolve(self, target: str) -> Resolved:
        """Raises `name_not_found`, `name_released`, or `owner_changed` (`pinned`, `found` in details)."""
        ...

    async def renew_name(self, name: str) -> NameRenewed: ...

    async def names(self) -> Sequence[LeasedName]: ...

    async def release_name(self, name: str) -> NameReleased: ...

    async def transfer_name(self, name: str, new_pubkey: str) -> NameTransferred:
        """Signs the name over to the key (64 hex digits). Raises `name_not_held`, `double_transfer`."""
        ...

    async def accept_name(self, entry: JsonObject) -> NameAccepted:
        """Takes up a name by the entry that its owner signed. Raises `transfer_refused`, `not_joined`."""
        ...

    async def trust_name(self, name: str, owner: str | None) -> NameTrusted:
        """Pins the name to `owner` (a DID or PeerId), or to who holds it now. Raises `name_not_found`."""
        ...

    async def equivocations(self) -> Sequence[Equivocation]:
        """What was found of peers that contradict themselves, newest last."""
        ...

    async def bans(self) -> Sequence[Ban]: ...

    async def unban(self, subject: str) -> Unbanned: ...

    async def drain(self, on: bool) -> Draining:
        """Sends those it relays for to other relays and takes no new ones, or relays again; answers at once.

        Again while it does shows how far it has come. Raises `not_a_bootstrap_node`.
        """
        ...

    async def stop(self, release_name: bool) -> Stopping:
        """Gives the names up if asked, begins the shutdown, and returns before it is complete."""
        ...


def to_json(value: object) -> Json:
    """A record, or a collection of them, as JSON: members by their names, tuples as arrays."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): to_json(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(member) for member in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} has no JSON form")
