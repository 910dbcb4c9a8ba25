"""Peers of the local network by multicast DNS (libp2p "mDNS" specification; RFC 6762, RFC 6763).

    query    PTR? _p2p._udp.local
    answer   _p2p._udp.local PTR <name>._p2p._udp.local
             <name>._p2p._udp.local TXT "dnsaddr=<multiaddr with /p2p/>" …

`<name>` is 32 random letters and digits, new at each start. Our own on dnspython's messages and not the
`zeroconf` package: that one announces a host name, SRV and address records which the specification does not
want, keeps one value a TXT key where `dnsaddr` repeats, and shows neither the sender of a packet nor a bound
on packets. This half is pure; the sockets are `wws.runtime.mdns`. What is found is a hint like any other:
whether it is dialled is for `entry_points` to say.
"""

from __future__ import annotations

import random
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rdtypes.ANY.PTR import PTR as PtrRecord  # noqa: N811 - PTR alone is the number of the type
from dns.rdtypes.ANY.TXT import TXT as TxtRecord  # noqa: N811

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import AddressRefused, Scope, scope_of, scope_of_ip
from wws.discovery.dns_wire import ANY, PTR, DnsWireConfig, Packet, read_packet
from wws.discovery.txt import parse_dnsaddr
from wws.errors import ParseError
from wws.identity.peer_id import PeerId

SERVICE = dns.name.from_text("_p2p._udp.local.")
_SERVICE = SERVICE.labels[:-1]


@dataclass(frozen=True, slots=True)
class MdnsConfig:
    """The bounds of what strangers on the local network can make us do; times in seconds."""

    ttl: int = 120
    """How long our records hold."""
    max_packet: int = 4_096
    """Largest packet that is read."""
    wire: DnsWireConfig = field(default_factory=DnsWireConfig)
    """The bounds inside a packet."""
    max_announcement: int = 1_400
    """Largest packet that is sent: it passes any local network in one piece."""
    packets_per_second: float = 50.0
    """Packets read, on average; twice as many at once."""
    peers_per_minute: int = 60
    """Most peers that are reported."""
    max_peers_a_packet: int = 8
    """Most peers that are read from one packet."""
    max_addresses: int = 12
    """Most addresses that are announced, and that are read of a peer."""
    answer_interval: float = 1.0
    """Least time between two answers (RFC 6762 section 6)."""
    query_times: tuple[float, ...] = (0.0, 1.0, 4.0)
    """When questions are asked after the start."""
    query_interval: float = 60.0
    """Between the later questions."""
    query_jitter: float = 0.2
    """Each such wait is longer by a random share of at most this."""


@dataclass(frozen=True, slots=True)
class Found:
    """A peer says that it is at these addresses."""

    peer_id: PeerId
    addresses: tuple[Multiaddr, ...]


@dataclass(frozen=True, slots=True)
class AnswerWanted:
    """Somebody asks who is there: announce ourselves."""


Heard: TypeAlias = Found | AnswerWanted


class LocalPeers:
    """What one node says and hears on one local network."""

    def __init__(self, local: PeerId, rng: random.Random, config: MdnsConfig | None = None) -> None:
        self._local = local
        self._config = config or MdnsConfig()
        label = "".join(rng.choices(string.ascii_lowercase + string.digits, k=32))
        self._name = dns.name.Name((label.encode("ascii"), *SERVICE.labels))
        self._packets = _Bucket(self._config.packets_per_second, self._config.packets_per_second * 2)
        self._peers = _Bucket(self._config.peers_per_minute / 60, float(self._config.peers_per_minute))
        self._answered_at = float("-inf")
        self.refused: dict[str, int] = {}
        """Packets that were not used, by reason: `malformed`, `too_large`, `not_local`, `too_many`."""

    def query(self) -> bytes:
        """The question that every peer answers."""
        message = dns.message.QueryMessage(id=0)
        message.flags = dns.flags.Flag(0)
        message.question.append(dns.rrset.RRset(SERVICE, dns.rdataclass.IN, dns.rdatatype.PTR))
        return message.to_wire()

    def announcement(self, addresses: Iterable[Multiaddr], *, goodbye: bool = False) -> bytes | None:
        """Our answer, or its withdrawal with `goodbye`; `None` when there is nothing to announce."""
        ttl = 0 if goodbye else self._config.ttl
        texts: list[bytes] = []
        size = 12 + 2 * 255
        for address in addresses:
            text = f"dnsaddr={address.with_peer(self._local)}".encode("ascii")
            if len(text) > 255 or len(texts) >= self._config.max_addresses:
                continue
            size += len(text) + 1
            if size > self._config.max_announcement:
                break
            texts.append(text)
        if not texts:
            return None
        message = dns.message.QueryMessage(id=0)
        message.flags = dns.flags.QR | dns.flags.AA
        pointer = PtrRecord(dns.rdataclass.IN, dns.rdatatype.PTR, self._name)  # type: ignore[no-untyped-call]
        text_record = TxtRecord(dns.rdataclass.IN, dns.rdatatype.TXT, texts)
        message.answer.append(dns.rrset.from_rdata(SERVICE, ttl, pointer))
        message.additional.append(dns.rrset.from_rdata(self._name, ttl, text_record))
        return message.to_wire()

    def receive(self, packet: bytes, source: str, now: float) -> list[Heard]:
        """What a packet from the IP `source` says. Never raises: strangers' packets are used or counted."""
        scope = _local_scope(source)
        if scope is None:  # before it counts: the world must not use up what the neighbours may send
            return self._refuse("not_local")
        if not self._packets.take(now):
            return self._refuse("too_many")
        if len(packet) > self._config.max_packet:
            return self._refuse("too_large")
        try:
            read = read_packet(packet, self._config.wire)
        except ParseError:
            return self._refuse("malformed")
        return self._answered(read, scope, now) if read.is_response else self._asked(read, now)

    def _asked(self, packet: Packet, now: float) -> list[Heard]:
        wanted = any(name == _SERVICE and kind in (PTR, ANY) for name, kind in packet.questions)
        if not wanted or now - self._answered_at < self._config.answer_interval:
            return []
        self._answered_at = now
        return [AnswerWanted()]

    def _answered(self, packet: Packet, scope: Scope, now: float) -> list[Heard]:
        named = {target for name, target in packet.pointers if name == _SERVICE}
        found: dict[PeerId, list[Multiaddr]] = {}
        for name, ttl, parts in packet.texts:
            if name not in named or ttl == 0:
                continue
            strings = [part.decode("ascii", errors="replace") for part in parts]
            for address in parse_dnsaddr(strings).addresses:
                peer = address.peer_id
                if peer is None or peer == self._local or not _is_near(address, scope):
                    continue
                if peer not in found and len(found) >= self._config.max_peers_a_packet:
                    continue
                addresses = found.setdefault(peer, [])
                if len(addresses) < self._config.max_addresses:
                    addresses.append(address)
        heard: list[Heard] = []
        for peer, addresses in found.items():
            if not self._peers.take(now):
                return heard + self._refuse("too_many")
            heard.append(Found(peer, tuple(addresses)))
        return heard

    def _refuse(self, reason: str) -> list[Heard]:
        self.refused[reason] = self.refused.get(reason, 0) + 1
        return []


class _Bucket:
    """A token bucket: `rate` a second, `burst` at once."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst, self._left = rate, burst, burst
        self._at: float | None = None

    def take(self, now: float) -> bool:
        if self._at is not None:
            self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def announced_on(addresses: Sequence[Multiaddr], *, loopback: bool) -> list[Multiaddr]:
    """Which of our addresses are of use to those who hear us on an interface."""
    chosen: list[Multiaddr] = []
    for address in addresses:
        try:
            scope = scope_of(address)
        except AddressRefused:
            continue
        if scope is not None and not address.is_circuit and (loopback or scope is not Scope.LOOPBACK):
            chosen.append(address)
    return chosen


def _local_scope(source: str) -> Scope | None:
    """The scope of a sender on this machine or this network; `None` for one that is neither."""
    try:
        scope = scope_of_ip(source.partition("%")[0])
    except (AddressRefused, ParseError):
        return None
    return scope if scope <= Scope.PRIVATE else None


def _is_near(address: Multiaddr, sender: Scope) -> bool:
    """Whether an address can belong to a peer of this network: no stranger points us at the world with it."""
    try:
        scope = scope_of(address)
    except AddressRefused:
        return False
    if scope is None or address.is_circuit:
        return False
    return scope is Scope.LOOPBACK if sender is Scope.LOOPBACK else Scope.LOOPBACK < scope <= Scope.PRIVATE
