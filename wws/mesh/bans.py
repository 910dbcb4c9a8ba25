"""Who is banned for what they did, and for how long: a list that ages by itself.

An offence adds points to a peer, points drain with time, and at the threshold the peer is banned: ten minutes
the first time, twice as long each further time, a day at most. Who behaves for a day starts anew. Many banned
peers of one public prefix ban the prefix, for an hour at most.

    offended --points--> SUSPECT --threshold--> BANNED --its time is over--> SUSPECT --a good day--> forgotten
                                                   '--many of one prefix--> the prefix is BANNED

Who can be made to look guilty? An offence comes from an authenticated connection, inside its encryption, so
nobody can commit one in another's name: what a relay or somebody on the path can do to the bytes (a broken
cipher, a cut or silent connection) is none, nor is anything before the handshake has ended. Being of another
network, asking for unknown protocols and being slow are none either. `OFFENCES` decides for every word.

Nor is what a peer only passes on for others, who could have it banned by asking it to (`PASSED_ON`). And
the caller spares whom we need more than they need us: entry points, and relays for how much they bring.

Who can be made to suffer with others? Behind one address of a provider (CGNAT) live many, and identities cost
nothing; so a ban of a prefix needs many peers banned at the same time, more of them than there are connected
ones of it that did nothing wrong, keeps only *new inbound* connections out, and is never laid on loopback,
link or private addresses nor on the prefix of an entry point of ours (the caller says which are none).
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from wws.identity.peer_id import PeerId

BanKind: TypeAlias = Literal["peer", "prefix"]


class Offence(StrEnum):
    """What a peer may do wrong; the `reason` of a ban."""

    MALFORMED = "malformed"
    """A message that is none, inside of a connection where nobody else can write."""
    BAD_SIGNATURE = "bad_signature"
    """Something signed whose signature is wrong: no version and no clock explains that."""
    VIOLATION = "protocol_violation"
    """Frames that the multiplexer or QUIC forbid."""
    RATE = "rate_abuse"
    """More than its share, again and again."""


OFFENCES: Final[Mapping[str, Offence | None]] = MappingProxyType(
    {
        # Messages of the protocols of streams
        "malformed": Offence.MALFORMED,
        "too_large": Offence.MALFORMED,
        "unexpected_message": Offence.MALFORMED,
        "foreign_peer_id": None,  # a relay names whoever asked it, with a key of another kind
        "dial_data_too_small": Offence.MALFORMED,
        "dial_data_too_much": Offence.MALFORMED,
        "remote_protocol_error": Offence.MALFORMED,
        "wrong_echo": None,  # our own measurement failed: no harm to anybody
        "truncated": None,  # the peer died in the middle of a message
        "address_refused": None,  # an address that is no use to us
        # Signatures
        "envelope_refused": Offence.BAD_SIGNATURE,
        "voucher_refused": None,  # of a relay, about itself: we then have no relay, nothing else
        "record_signature_wrong": Offence.BAD_SIGNATURE,
        "transfer_signature_wrong": Offence.BAD_SIGNATURE,
        # Multiplexers, within the encryption
        "yamux_error": Offence.VIOLATION,
        "yamux_invalid_frame": Offence.VIOLATION,
        "yamux_invalid_stream_id": Offence.VIOLATION,
        "yamux_unknown_stream": Offence.VIOLATION,
        "yamux_window_exceeded": Offence.VIOLATION,
        "yamux_window_overflow": Offence.VIOLATION,
        "yamux_stream_has_ended": Offence.VIOLATION,
        "yamux_frame_flood": Offence.VIOLATION,
        "quic_violation": Offence.VIOLATION,
        "quic_fragmented": None,  # datagrams get lost on the way, or are taken away there
        "quic_fault": None,  # aioquic itself gave up, for reasons that may be ours
        "keep_alive_timeout": None,
        # Before the peer has proven who it is, or on the path
        "noise_decryption_failed": None,
        "nonce_exhausted": None,
        "noise_handshake_failed": None,
        "noise_payload_malformed": None,
        "noise_signature_invalid": None,
        "peer_id_mismatch": None,
        "no_common_muxer": None,
        "certificate_invalid": None,
        "handshake_timeout": None,
        "phase_timeout": None,
        # Asking for what we do not have
        "negotiation_failed": None,  # also: the stream was given up while it was negotiated
        "protocol_not_supported": None,
        # Records in the DHT
        "forged_record": Offence.BAD_SIGNATURE,
        "bad_record": None,  # of a later version, or by a clock that is off
        "key_mismatch": Offence.MALFORMED,
        "value_too_large": Offence.MALFORMED,
        "store_refused": None,
        "unknown_namespace": None,  # of another network, or of a later version
        "expired_record": None,
        "store_full": None,
        "name_denied": None,
        "publisher_quota": None,
        "sender_quota": None,
        # Too much
        "rate_limited": Offence.RATE,
        "streams_per_peer": None,  # how long they stay open may be our slowness
        "rate_limited_prefix": None,  # by whom of the prefix nobody knows
        "streams_per_prefix": None,
        # Not of our network
        "wrong_network": None,
        "not_identified": None,
        # Ends of streams and connections
        "stream_reset": None,
        "timeout": None,
        "connection_lost": None,
    }
)
"""Every word that a peer's connection or stream may end with: which offence it is, or that it is none. A word
that is not here is none; a test sees to it that each fault of a peer is decided on."""


PASSED_ON: Final = frozenset({"/libp2p/circuit/relay/0.2.0/stop"})
"""Protocols in which a peer speaks for others: a relay that opens a circuit for each who asks it to. There is
no offence in these; what goes through a circuit is judged by the connection within."""


def offence_of(word: str, protocol: str) -> Offence | None:
    """Which offence an error or refusal is, that a stream of this protocol or a connection has ended with."""
    return None if protocol in PASSED_ON else OFFENCES.get(word)


@dataclass(frozen=True, slots=True)
class BansConfig:
    threshold: float = 100.0
    """Points at which a peer is banned."""
    forgiven_per_second: float = 0.1
    """Points that drain in a second: all of them in about a quarter of an hour."""
    points: Mapping[Offence, float] = field(
        default_factory=lambda: MappingProxyType(
            {
                Offence.MALFORMED: 10.0,
                Offence.BAD_SIGNATURE: 25.0,
                Offence.VIOLATION: 20.0,
                Offence.RATE: 1.0,
            }
        )
    )
    first_ban: float = 600.0
    """Seconds of the first ban; each further one is twice as long as the one before."""
    longest_ban: float = 86_400.0
    """Seconds of the longest."""
    longest_prefix_ban: float = 3_600.0
    """Seconds of the longest ban of a prefix: innocent people may live there."""
    clean_after: float = 86_400.0
    """Seconds after the end of a ban, without a further one, after which it is forgotten."""
    peers_per_prefix: int = 8
    """Peers of one public prefix that must be banned at the same time for the prefix to be."""
    max_suspects: int = 4_096
    """Peers whose points and former bans are remembered; the one that was quiet for longest is forgotten."""
    max_banned: int = 4_096
    """Peers banned at a time; over it the ban that ends soonest is lifted."""
    max_prefixes: int = 512
    """The same for prefixes, banned or remembered."""


@dataclass(frozen=True, slots=True)
class Ban:
    """A ban that holds."""

    subject: PeerId | str
    """Who: a peer, or a prefix in CIDR notation."""
    kind: BanKind
    reason: Offence
    """What filled the measure; of a prefix: of its last peer."""
    until: float
    """When it ends, in monotonic seconds."""
    count: int
    """How many it has been, this one included, since it was last forgiven."""


@dataclass(slots=True)
class _Suspect:
    points: float = 0.0
    counted_at: float = 0.0
    bans: int = 0
    clean_at: float = 0.0  # when `bans` are forgotten


@dataclass(slots=True)
class _Prefix:
    peers: set[PeerId] = field(default_factory=set)  # banned ones
    ban: Ban | None = None
    bans: int = 0
    clean_at: float = 0.0


class Bans:
    """The list. Pure: `now` is monotonic seconds; every call costs about the same, however many are on it."""

    def __init__(self, config: BansConfig | None = None) -> None:
        self._config = config or BansConfig()
        self._suspects: OrderedDict[PeerId, _Suspect] = OrderedDict()
        self._banned: dict[PeerId, Ban] = {}
        self._prefixes: OrderedDict[str, _Prefix] = OrderedDict()
        self._ends: list[tuple[float, int, PeerId | str]] = []
        self._entries = 0

    def __len__(self) -> int:
        """Bans that hold, as far as `expire` was told the time."""
        return len(self._banned) + sum(known.ban is not None for known in self._prefixes.values())

    @property
    def suspects(self) -> int:
        """Peers that are remembered without being banned."""
        return len(self._suspects)

    def points(self, peer: PeerId, now: float) -> float:
        """The points that a peer has now."""
        known = self._suspects.get(peer)
        return 0.0 if known is None else self._drained(known, now)

    def ban_of(self, peer: PeerId, now: float) -> Ban | None:
        """The ban of a peer, if it is banned."""
        ban = self._banned.get(peer)
        return ban if ban is not None and ban.until > now else None

    def ban_of_prefix(self, prefix: str, now: float) -> Ban | None:
        """The ban of a prefix, if it is banned."""
        known = self._prefixes.get(prefix)
        return known.ban if known is not None and known.ban is not None and known.ban.until > now else None

    def listing(self, now: float) -> list[Ban]:
        """Every ban that holds, the one that ends soonest first."""
        bans = list(self._banned.values())
        bans += [known.ban for known in self._prefixes.values() if known.ban is not None]
        return sorted((ban for ban in bans if ban.until > now), key=lambda ban: ban.until)

    def offended(self, peer: PeerId, offence: Offence, now: float) -> Ban | None:
        """A peer has done something wrong on an authenticated connection; its ban, if that was too much."""
        self.expire(now)
        if peer in self._banned:
            return None
        known = self._suspects.pop(peer, None) or _Suspect(counted_at=now)
        known.points = self._drained(known, now) + self._config.points[offence]
        known.counted_at = now
        if known.points < self._config.threshold:
            self._suspects[peer] = known
            self._forget_suspects()
            return None
        if known.clean_at <= now:
            known.bans = 0
        known.bans += 1
        until = now + self._length(known.bans, self._config.longest_ban)
        known.clean_at = until + self._config.clean_after
        ban = Ban(peer, "peer", offence, until, known.bans)
        if len(self._banned) >= self._config.max_banned:
            self._release(min(self._banned, key=lambda other: self._banned[other].until))
        self._banned[peer] = ban
        self._end_at(until, peer)
        return ban

    def blame_prefix(self, prefix: str, ban: Ban, now: float, *, innocent: int) -> Ban | None:
        """A peer was seen in this prefix when it was banned; the ban of the prefix, if it was one too many.

        Not to be called where a prefix must not be banned: below public scope, for who comes through a relay,
        where an entry point of ours is. `innocent` is how many other peers are connected from there that have
        done nothing wrong.
        """
        assert isinstance(ban.subject, PeerId)
        known = self._prefixes.pop(prefix, None) or _Prefix()
        self._prefixes[prefix] = known
        while len(self._prefixes) > self._config.max_prefixes:
            self._prefixes.popitem(last=False)
        known.peers = {peer for peer in known.peers if self.ban_of(peer, now) is not None}
        known.peers.add(ban.subject)
        enough = max(self._config.peers_per_prefix, innocent + 1)
        if known.ban is not None or len(known.peers) < enough:
            return None
        if known.clean_at <= now:
            known.bans = 0
        known.bans += 1
        until = now + self._length(known.bans, self._config.longest_prefix_ban)
        known.clean_at = until + self._config.clean_after
        known.ban = Ban(prefix, "prefix", ban.reason, until, known.bans)
        self._end_at(until, prefix)
        return known.ban

    def unban(self, subject: PeerId | str, now: float) -> bool:
        """Lift a ban and forgive everything before it; whether there was one."""
        if isinstance(subject, PeerId):
            held = self.ban_of(subject, now) is not None
            self._release(subject)
            self._suspects.pop(subject, None)
            return held
        held = self.ban_of_prefix(subject, now) is not None
        self._prefixes.pop(subject, None)
        return held

    def next_wakeup(self) -> float | None:
        """When the next ban ends. Nobody has to wake up for it: each question says what time it is."""
        return self._ends[0][0] if self._ends else None

    def expire(self, now: float) -> list[PeerId | str]:
        """Lift the bans whose time is over; whose they were."""
        free: list[PeerId | str] = []
        while self._ends and self._ends[0][0] <= now:
            _, _, subject = heapq.heappop(self._ends)
            if isinstance(subject, PeerId):
                ban = self._banned.get(subject)
                if ban is not None and ban.until <= now:
                    self._release(subject)
                    free.append(subject)
            else:
                known = self._prefixes.get(subject)
                if known is not None and known.ban is not None and known.ban.until <= now:
                    known.ban = None
                    free.append(subject)
        return free

    # Inside

    def _drained(self, known: _Suspect, now: float) -> float:
        return max(0.0, known.points - (now - known.counted_at) * self._config.forgiven_per_second)

    def _length(self, count: int, longest: float) -> float:
        # Not a float's power of anything: a count may grow for as long as somebody is stubborn.
        return min(longest, self._config.first_ban * (1 << min(count - 1, 32)))

    def _release(self, peer: PeerId) -> None:
        """End a peer's ban; that it had one is remembered, its points are not."""
        ban = self._banned.pop(peer, None)
        if ban is None:
            return
        self._suspects[peer] = _Suspect(
            counted_at=ban.until, bans=ban.count, clean_at=ban.until + self._config.clean_after
        )
        self._forget_suspects()

    def _forget_suspects(self) -> None:
        while len(self._suspects) > self._config.max_suspects:
            self._suspects.popitem(last=False)

    def _end_at(self, until: float, subject: PeerId | str) -> None:
        self._entries += 1  # so that the heap never has to compare subjects
        heapq.heappush(self._ends, (until, self._entries, subject))
        # Bans that were lifted before their time leave their entries behind.
        if len(self._ends) > 2 * (self._config.max_banned + self._config.max_prefixes):
            held: list[tuple[float, PeerId | str]] = [(ban.until, peer) for peer, ban in self._banned.items()]
            held += [
                (known.ban.until, name) for name, known in self._prefixes.items() if known.ban is not None
            ]
            self._ends = [(end, number, name) for number, (end, name) in enumerate(held)]
            heapq.heapify(self._ends)
