"""What two peers say to each other before they punch (libp2p "DCUtR", `/libp2p/dcutr`), and where they may.

    message HolePunch { optional Type type = 1; repeated bytes ObsAddrs = 2; optional uint64 nat = 901; }
    enum Type { CONNECT = 100; SYNC = 300; }           each behind its length as a varint, at most 4 KiB

Field 901 is ours alone, others skip it: how the sender's NAT maps ports, so that each side can tell people
why no way was found. The addresses a peer names decide where we send packets, so they are few, of the mesh's
scope, never names and never circuits; `wws.nat.punch_budget` bounds how often.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope
from wws.codec import protobuf
from wws.errors import ParseError, RemoteProtocolError, TooLarge
from wws.identity.peer_id import PeerId
from wws.mesh.reach import reaches
from wws.mesh.same_lan import FIRST_PORT, is_private
from wws.nat.kind import NatKind

PROTOCOL = "/libp2p/dcutr"
MAX_FRAME = 4096
"""Bytes of one message; the specification asks to refuse larger ones."""
MAX_ADDRESSES = 16
"""Addresses that are read of one message; further ones are left out."""

_NAT_FIELD = 901
_NAT_KINDS: tuple[NatKind, ...] = ("unknown", "none", "endpoint_independent", "address_dependent")


class UnexpectedMessage(RemoteProtocolError):
    """The peer sent a hole punching message that has no place there."""

    code = "unexpected_message"


class Type(IntEnum):
    CONNECT = 100
    SYNC = 300


@dataclass(frozen=True, slots=True)
class HolePunch:
    """One message. `addresses` are without PeerId: where the sender is seen by others."""

    type: Type
    addresses: tuple[Multiaddr, ...] = ()
    nat: NatKind = "unknown"

    def encode(self) -> bytes:
        """The protobuf, without its length."""
        message = protobuf.encode_varint(1, self.type)
        for address in self.addresses[:MAX_ADDRESSES]:
            message += protobuf.encode_bytes(2, address.without_peer().to_bytes())
        if self.nat != "unknown":
            message += protobuf.encode_varint(_NAT_FIELD, _NAT_KINDS.index(self.nat))
        return message

    @classmethod
    def parse(cls, data: bytes, sender: PeerId) -> HolePunch:
        """What `sender`, the authenticated peer, says.

        Raises `ParseError` when the message is malformed, too large, or has no type or two. Addresses that we
        do not speak or that are another peer's, circuits, and those after the sixteenth are left out.
        """
        if len(data) > MAX_FRAME:
            raise TooLarge(f"hole punching message of {len(data)} bytes")
        kind: Type | None = None
        nat: NatKind = "unknown"
        addresses: dict[Multiaddr, None] = {}
        for field in protobuf.parse(data):
            if field.number == 1:
                if kind is not None:
                    raise ParseError("hole punching message with two types")
                kind = _type(field.as_int())
            elif field.number == 2:
                address = _address(field.as_bytes(), sender)
                if address is not None and len(addresses) < MAX_ADDRESSES:
                    addresses[address] = None
            elif field.number == _NAT_FIELD:
                number = field.as_int()
                nat = _NAT_KINDS[number] if number < len(_NAT_KINDS) else "unknown"
        if kind is None:
            raise ParseError("hole punching message without a type")
        return cls(kind, tuple(addresses), nat)


@dataclass(frozen=True, slots=True)
class Here:
    """What this node knows of its own place; handed in with every event."""

    observed: tuple[Multiaddr, ...] = ()
    """Our addresses as others see them, best first."""
    private: tuple[Multiaddr, ...] = ()
    """Those of our interfaces that only our own network can reach."""
    public_ips: frozenset[str] = frozenset()
    """Our public IPs that several observers agree on."""
    nat: NatKind = "unknown"
    scope: Scope = Scope.PUBLIC
    """The scope of the mesh: nothing below it is dialled."""
    speaks_quic: bool = True
    listening: frozenset[Multiaddr] = frozenset()
    """Our own sockets: never dialled."""

    def connect(self, *, same_network: bool) -> HolePunch:
        """Our CONNECT: also with private addresses when the peer shares our public one (wire.md 2)."""
        addresses = (*self.observed, *self.private) if same_network else self.observed
        return HolePunch(Type.CONNECT, tuple(dict.fromkeys(addresses))[:MAX_ADDRESSES], self.nat)

    def shares_network(self, addresses: Iterable[Multiaddr]) -> bool:
        """Whether one who is seen at these addresses sits behind the same public address as we do."""
        return any(address.is_ip and address.host in self.public_ips for address in addresses)


@dataclass(frozen=True, slots=True)
class TargetLimits:
    """How much of what a peer names is dialled."""

    max_targets: int = 8
    """Addresses in one punch."""
    max_ips: int = 2
    """Distinct IPs among them: an IPv4 and an IPv6 address is what one node has."""
    max_ports: int = 2
    """Ports at one IP and transport."""
    max_private: int = 4
    """Addresses of our own network that a peer behind the same public address may name besides."""
    first_private_port: int = FIRST_PORT
    """Ports below it are not dialled there."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Where a peer may be, of what it named."""

    punched: tuple[Multiaddr, ...] = ()
    private: tuple[Multiaddr, ...] = ()
    """In our own network: dialled like any address, nothing needs to be punched."""
    refused: int = 0
    """How many of the addresses named were left out."""


def choose_targets(addresses: Iterable[Multiaddr], here: Here, limits: TargetLimits) -> Targets:
    """Of the addresses that a peer named those that we send packets to, in its order.

    Left out: names, circuits, port 0, what is below the scope of the mesh, transports that we do not have,
    our own addresses, and what is over the limits. Private addresses count only from a peer behind our own
    public address; loopback and link-local ones only in a mesh of that scope.
    """
    named = [address.without_peer() for address in addresses]
    same_network = here.shares_network(named)
    punched: dict[Multiaddr, None] = {}
    private: dict[Multiaddr, None] = {}
    ips: set[str] = set()
    ports: Counter[tuple[str, str | None]] = Counter()
    refused = 0
    for address in named:
        if not _is_dialable(address, here):
            refused += 1
        elif reaches(address, here.scope):
            place = (address.host, address.transport)
            if address in punched:
                continue
            if (
                len(punched) >= limits.max_targets
                or len(ips | {address.host}) > limits.max_ips
                or ports[place] >= limits.max_ports
            ):
                refused += 1
                continue
            ports[place] += 1
            ips.add(address.host)
            punched[address] = None
        elif same_network and _is_neighbour(address, limits) and len(private) < limits.max_private:
            private[address] = None
        else:
            refused += 1
    return Targets(tuple(punched), tuple(private), refused)


def _is_dialable(address: Multiaddr, here: Here) -> bool:
    return (
        address.is_ip
        and not address.is_circuit
        and bool(address.port)
        and (address.transport == "tcp" or here.speaks_quic)
        and address not in here.observed
        and address not in here.private
        and address not in here.listening
    )


def _is_neighbour(address: Multiaddr, limits: TargetLimits) -> bool:
    return is_private(address) and (address.port or 0) >= limits.first_private_port


def _type(number: int) -> Type:
    try:
        return Type(number)
    except ValueError:
        raise ParseError(f"hole punching message of unknown type {number}") from None


def _address(data: bytes, sender: PeerId) -> Multiaddr | None:
    try:
        address = Multiaddr.from_bytes(data)
    except ParseError:
        return None  # WebSocket, WebRTC and the like: nothing wrong with the peer
    if address.is_circuit or address.peer_id not in (None, sender):
        return None
    return address.without_peer()
