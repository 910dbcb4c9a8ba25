"""Which dials we make for others, and how many: the rules of the serving side of AutoNAT.

Whoever asks makes us open a connection, so we are the tool with which to hit or scan somebody else. Hence
(libp2p specifications, autonat/autonat-v2.md "Amplification Attack Prevention", autonat-v1.md "AutoNAT
Protocol"; wire.md section 2, row AutoNAT and "Scopes"):

- only TCP and QUIC addresses with an IP, never a circuit or a name, never below the scope of the mesh or of
  the requester, never ourselves, no port below 1024 but 443: mail and login servers answer there
- AutoNAT v1 dials only addresses at the IP that the requester is seen at. go and rust put that IP in place of
  any other; but js takes the answer for the address that it named, and would believe in one never dialled
- AutoNAT v2 dials the first address of the list that passes; at another IP than the requester is seen at only
  once the requester has sent more than the dial costs, and after a random wait
- nobody who comes through a relay: its own IP is not known
- requests a minute and at once are bounded for a peer, for its prefix and in total; what is refused for a
  bound uses up none of them

Peers of any network and of none are served: wire.md bars the others from the routing table, the DHT, receipts
and the relay only. Left out: hiding how long a failed dial took, as go does for v1. It would hold a slot, and
the answer, for the whole time-out; the budgets bound a scan instead.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from wws.addresses.multiaddr import Multiaddr, Transport
from wws.addresses.scope import Scope, scope_of_ip, unwrap
from wws.errors import LocalProtocolError, ParseError, RemoteProtocolError, WwsError
from wws.identity.peer_id import PeerId
from wws.nat import autonat_v1
from wws.nat.autonat_v2 import ResponseStatus

_Key = TypeVar("_Key", PeerId, str)

_WINDOW = 60.0
"""Seconds over which requests are counted."""


class Reason(StrEnum):
    """Why a request was refused; the `reason` label of `wws_refused_total`."""

    CIRCUIT = "over_circuit"
    PEER_RATE = "requests_per_peer"
    PREFIX_RATE = "requests_per_prefix"
    TOTAL_RATE = "requests_total"
    PEER_AT_ONCE = "at_once_per_peer"
    PREFIX_AT_ONCE = "at_once_per_prefix"
    TOTAL_AT_ONCE = "at_once_total"
    PAID_RATE = "paid_dials"
    OTHER_PEER = "for_another_peer"
    OTHER_IP = "other_ip"
    """Not where the requester is seen, and no way to pay for it: version 1."""
    NO_ADDRESS = "no_address"
    ADDRESS_KIND = "address_kind"
    """The address is a circuit, a name, or of a transport that we do not dial."""
    ADDRESS_REFUSED = "address_refused"
    """Nobody can be reached there: unspecified, multicast, reserved."""
    SCOPE = "scope"
    PORT = "port"
    OWN = "own_address"
    NO_ROUTE = "no_route"


_RATED = frozenset(
    {
        Reason.PEER_RATE,
        Reason.PREFIX_RATE,
        Reason.TOTAL_RATE,
        Reason.PEER_AT_ONCE,
        Reason.PREFIX_AT_ONCE,
        Reason.TOTAL_AT_ONCE,
        Reason.PAID_RATE,
    }
)


class DialBackRefused(WwsError):
    """The request is not served; the peer is told, and may ask again later."""

    code = "dial_back_refused"

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"dial-back refused: {reason.value}")
        self.reason = reason

    @property
    def is_over_limit(self) -> bool:
        """Whether it may be served later, or by another."""
        return self.reason in _RATED

    @property
    def status(self) -> ResponseStatus:
        """What AutoNAT v2 tells the requester."""
        return ResponseStatus.E_REQUEST_REJECTED if self.is_over_limit else ResponseStatus.E_DIAL_REFUSED


class DialDataTooSmall(RemoteProtocolError):
    """The requester pays in pieces so small that they cost us more than they cost it."""

    code = "dial_data_too_small"


@dataclass(frozen=True, slots=True)
class DialBackConfig:
    """Budgets, and what dialling a third party costs the requester."""

    requests_per_minute_peer: int = 30
    """Requests of one peer in any 60 seconds, v1 and v2 together."""
    requests_per_minute_prefix: int = 120
    """The same for one IPv4 /24 or IPv6 /56, where limits by prefix apply."""
    requests_per_minute: int = 600
    """The same for all."""
    at_once_peer: int = 4
    """Requests of one peer under way."""
    at_once_prefix: int = 16
    """The same for one prefix."""
    at_once: int = 128
    """The same for all; each may hold one socket."""
    paid_per_minute: int = 30
    """Requests in any 60 seconds for another IP than the requester is seen at, for all together: what third
    parties can see of us."""
    paid_per_minute_prefix: int = 10
    """The same for one prefix, or for one peer where limits by prefix do not apply: a request counts before
    it is paid for, so using them up costs nothing."""
    min_cost: int = 30_000
    """Least bytes to ask for before dialling a third party; the specification says 30k to 100k."""
    max_cost: int = 100_000
    """Most of them; the amount is drawn evenly."""
    min_piece: int = 100
    """Least bytes in one message of that data, but for the last."""
    max_wait: float = 3.0
    """Longest wait before dialling a third party, in seconds, drawn evenly: many requesters who ask at once
    shall not hit it at once."""
    first_port: int = 1024
    """Ports below it are not dialled."""
    low_ports: frozenset[int] = frozenset({443})
    """But for these."""
    max_v1_addresses: int = 4
    """Addresses dialled for one request of v1, which asks for all of its own."""


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks, as far as the connection proves it."""

    peer: PeerId
    ip: str
    """Where it is seen, as a multiaddr writes it; empty over a circuit."""
    prefix: str | None
    """The prefix it counts with; `None` where no limits by prefix apply."""
    is_circuit: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What decides about an address besides who asks; looked up for each request."""

    mesh_scope: Scope | None
    transports: frozenset[Transport]
    """Those that the dialling side speaks."""
    own: tuple[Multiaddr, ...] = ()
    """Where we are reached ourselves, wildcards written out."""
    unroutable: frozenset[Multiaddr] = frozenset()
    """Addresses of the request that this machine has no way to: no IPv6 here, for instance."""


class Budget:
    """Counts requests: in the last minute, and under way. Every `admit` is answered by one `release`."""

    def __init__(self, config: DialBackConfig) -> None:
        self._config = config
        self._recent: deque[tuple[float, Requester]] = deque()
        self._recent_peer: Counter[PeerId] = Counter()
        self._recent_prefix: Counter[str] = Counter()
        self._paid: deque[tuple[float, PeerId | str]] = deque()
        self._open_peer: Counter[PeerId] = Counter()
        self._open_prefix: Counter[str] = Counter()
        self._open = 0

    @property
    def under_way(self) -> int:
        """Requests that hold a slot."""
        return self._open

    def reconfigure(self, config: DialBackConfig) -> None:
        """Let other bounds hold from now on."""
        self._config = config

    def admit(self, requester: Requester, now: float) -> None:
        """Take a slot. Raises `DialBackRefused`, and then nothing is taken."""
        self._forget(now)
        peer, prefix, config = requester.peer, requester.prefix, self._config
        if requester.is_circuit:
            raise DialBackRefused(Reason.CIRCUIT)
        if self._open_peer[peer] >= config.at_once_peer:
            raise DialBackRefused(Reason.PEER_AT_ONCE)
        if self._recent_peer[peer] >= config.requests_per_minute_peer:
            raise DialBackRefused(Reason.PEER_RATE)
        if prefix is not None and self._open_prefix[prefix] >= config.at_once_prefix:
            raise DialBackRefused(Reason.PREFIX_AT_ONCE)
        if prefix is not None and self._recent_prefix[prefix] >= config.requests_per_minute_prefix:
            raise DialBackRefused(Reason.PREFIX_RATE)
        if self._open >= config.at_once:
            raise DialBackRefused(Reason.TOTAL_AT_ONCE)
        if len(self._recent) >= config.requests_per_minute:
            raise DialBackRefused(Reason.TOTAL_RATE)
        self._recent.append((now, requester))
        self._recent_peer[peer] += 1
        self._open_peer[peer] += 1
        self._open += 1
        if prefix is not None:
            self._recent_prefix[prefix] += 1
            self._open_prefix[prefix] += 1

    def admit_paid(self, requester: Requester, now: float) -> None:
        """Count a request for another IP than the requester's. Raises `DialBackRefused`."""
        while self._paid and self._paid[0][0] <= now - _WINDOW:
            self._paid.popleft()
        party = requester.prefix or requester.peer
        if sum(who == party for _, who in self._paid) >= self._config.paid_per_minute_prefix:
            raise DialBackRefused(Reason.PAID_RATE)
        if len(self._paid) >= self._config.paid_per_minute:
            raise DialBackRefused(Reason.PAID_RATE)
        self._paid.append((now, party))

    def release(self, requester: Requester) -> None:
        """Give the slot back."""
        if self._open_peer[requester.peer] <= 0:
            raise LocalProtocolError("a slot of AutoNAT was given back twice")
        self._open -= 1
        _decrease(self._open_peer, requester.peer)
        if requester.prefix is not None:
            _decrease(self._open_prefix, requester.prefix)

    def _forget(self, now: float) -> None:
        while self._recent and self._recent[0][0] <= now - _WINDOW:
            _, requester = self._recent.popleft()
            _decrease(self._recent_peer, requester.peer)
            if requester.prefix is not None:
                _decrease(self._recent_prefix, requester.prefix)


def refusal_of(
    address: Multiaddr, requester: Requester, around: Surroundings, config: DialBackConfig
) -> Reason | None:
    """Why we do not dial `address` for `requester`, paid or not; `None` when we do."""
    if address.peer_id not in (None, requester.peer):
        return Reason.OTHER_PEER
    if address.is_circuit or not address.is_ip or address.transport not in around.transports:
        return Reason.ADDRESS_KIND
    try:
        scope, floor = scope_of_ip(address.host), scope_of_ip(requester.ip)
    except ParseError:
        return Reason.ADDRESS_REFUSED
    # Not below the requester's own scope either: a stranger from outside has no business in our network.
    if scope < floor or (around.mesh_scope is not None and scope < around.mesh_scope):
        return Reason.SCOPE
    port = address.port or 0
    if not port or (port < config.first_port and port not in config.low_ports):
        return Reason.PORT
    if _is_own(address, requester, around):
        return Reason.OWN
    return Reason.NO_ROUTE if address.without_peer() in around.unroutable else None


def targets_of_v1(
    request: autonat_v1.Dial, requester: Requester, around: Surroundings, config: DialBackConfig
) -> tuple[Multiaddr, ...]:
    """What to dial for a request of AutoNAT v1: addresses at the IP that the requester is seen at.

    Raises `DialBackRefused` with the reason of the first address when there is none.
    """
    if request.peer_id not in (None, requester.peer):
        raise DialBackRefused(Reason.OTHER_PEER)
    targets: dict[Multiaddr, None] = {}
    reasons: list[Reason] = []
    for address in request.addresses:
        reason = refusal_of(address, requester, around, config)
        if reason is None and address.host != requester.ip:
            reason = Reason.OTHER_IP
        if reason is not None:
            reasons.append(reason)
        elif len(targets) < config.max_v1_addresses:
            targets[address.without_peer()] = None
    if not targets:
        raise DialBackRefused(reasons[0] if reasons else Reason.NO_ADDRESS)
    return tuple(targets)


def _is_own(address: Multiaddr, requester: Requester, around: Surroundings) -> bool:
    """Whether it is one of our own sockets, or any port of this machine for somebody who is not on it: what
    is closed to the outside must not be opened through us."""
    own = [known for known in around.own if known.is_ip]
    ours, theirs = unwrap(address.host), unwrap(requester.ip)
    here = [known for known in own if unwrap(known.host) == ours]
    neighbour = scope_of_ip(requester.ip) is Scope.LOOPBACK or any(
        unwrap(known.host) == theirs for known in own
    )
    if here and not neighbour:
        return True
    return any((known.port, known.transport) == (address.port, address.transport) for known in here)


def _decrease(counter: Counter[_Key], key: _Key) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
