"""Who is kept out of a host: the banned and the denied, the log of them, and how a ban comes about.

error or refusal on a connection ──► offended ──► Bans ──► the peer's connections end, nobody dials it,
the operator's list ──► set_deny ────────────────────────► the routing table drops it
                                                     └───► its prefix may come in no more
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wws.addresses.scope import public_prefix_of_ip
from wws.errors import ParseError
from wws.identity.peer_id import PeerId
from wws.mesh.bans import PASSED_ON, Ban, Bans, BansConfig, Offence, offence_of
from wws.mesh.deny import NOTHING, DenyList
from wws.runtime.connection import Connection, ConnectionLost
from wws.runtime.logs import logger
from wws.runtime.refusals import BANNED, BANNED_PREFIX, DENIED, RefusalLog, RefusalLogConfig
from wws.transport.yamux_frames import FrameFlood

if TYPE_CHECKING:
    from wws.runtime.host import Host


@dataclass(frozen=True, slots=True)
class GatekeeperConfig:
    bans: BansConfig = field(default_factory=BansConfig)
    refusals: RefusalLogConfig = field(default_factory=RefusalLogConfig)


class Gatekeeper:
    """Part of a host."""

    def __init__(self, host: Host, config: GatekeeperConfig) -> None:
        self._host = host
        self.bans = Bans(config.bans)
        self.refusal_log = RefusalLog(config.refusals, host.clock.monotonic())
        self._deny = NOTHING

    # What others ask and say

    @property
    def deny(self) -> DenyList:
        """The operator's list."""
        return self._deny

    def set_deny(self, deny: DenyList) -> None:
        """Deal with those on the list no more from now on: the connections that they have are closed."""
        added = deny.peers - self._deny.peers
        self._deny = deny
        for peer in added:
            self._tell_barred(peer)
        for listener in self._host.listeners.deny_changed:
            listener()
        for connection in self._host.connections():
            if deny.denies_peer(connection.peer_id) or deny.denies_ip(connection.remote_ip):
                self.turn_out(connection, DENIED)

    def barred(self, peer: PeerId) -> str | None:
        """Why no connection with a peer is wanted, `banned` or `denied`; `None`: it is."""
        if self._deny.denies_peer(peer):
            return DENIED
        return BANNED if self.bans.ban_of(peer, self._host.clock.monotonic()) is not None else None

    @property
    def count(self) -> int:
        """Bans that hold, of peers and prefixes together."""
        self.bans.expire(self._host.clock.monotonic())
        return len(self.bans)

    def listing(self) -> list[Ban]:
        """The bans that hold; their ends are in monotonic seconds."""
        return self.bans.listing(self._host.clock.monotonic())

    def unban(self, subject: PeerId | str) -> bool:
        """Lift the ban of a peer, or of a prefix; whether there was one."""
        lifted = self.bans.unban(subject, self._host.clock.monotonic())
        if lifted:
            logger("bans").info("ban lifted", subject=str(subject))
        return lifted

    def offended(self, connection: Connection, word: str, protocol: str) -> None:
        """A peer has done something that the word of an error or refusal tells, on a connection of its own.

        Logs it, unless it was for others, and bans the peer if this is an offence and one too many
        (`wws.mesh.bans.offence_of`). The caller has counted the refusal.

        Before the handshake has ended there is neither: a first datagram of QUIC can break rules in anybody's
        name, and a web page can make its readers' browsers do so in theirs.
        """
        if not connection.was_established:
            return
        if protocol not in PASSED_ON:
            self.log(connection, protocol, word)
        offence = offence_of(word, protocol)
        if offence is None:
            return
        if self._is_spared(connection.peer_id, offence, word):
            self._host.count_refusal("bans", "spared")
            return
        now = self._host.clock.monotonic()
        ban = self.bans.offended(connection.peer_id, offence, now)
        if ban is None:
            return
        self._host.count_refusal("bans", "peer")
        _say(ban, now)
        self._bar(connection.peer_id)
        prefix = self._blamed_prefix(connection)
        if prefix is not None:
            innocent = self._innocent(prefix, now)
            of_prefix = self.bans.blame_prefix(prefix, ban, now, innocent=innocent)
            if of_prefix is not None:
                self._host.count_refusal("bans", "prefix")
                _say(of_prefix, now)

    # What the host asks

    def barred_address(self, connection: Connection, now: float) -> str | None:
        """Why no connection with this address is wanted, whoever is there. A ban of a prefix is for those who
        come: whom we choose to dial there has done nothing."""
        if self._deny.denies_ip(connection.remote_ip):
            return DENIED
        if connection.outbound or (prefix := _public_prefix(connection.remote_ip)) is None:
            return None
        return BANNED_PREFIX if self.bans.ban_of_prefix(prefix, now) is not None else None

    def moved(self, connection: Connection) -> None:
        """A peer is at another address now: not at a denied one."""
        if self._deny.denies_ip(connection.remote_ip):
            self.turn_out(connection, DENIED)

    def turn_out(self, connection: Connection, word: str) -> None:
        """End an established connection with somebody who is banned or denied."""
        self._host.count_refusal("connection", word)
        self.log(connection, "connection", word)
        if connection.connection_id in self._host.table:
            connection.close(word)
        else:  # in the same breath as it was established
            connection.abort(ConnectionLost(word))

    def log(self, connection: Connection, protocol: str, reason: str) -> None:
        """Write the line of a refusal, if its reason has one. Whom we dial in vain has done nothing."""
        if connection.outbound and not connection.was_established:
            return
        self.refusal_log.refused(
            connection.remote_ip,
            connection.remote_port,
            protocol,
            reason,
            self._host.clock.monotonic(),
            peer=connection.peer_id if connection.was_established else None,
        )

    # Inside

    def _is_spared(self, peer: PeerId, offence: Offence, word: str) -> bool:
        """Whom a ban would hurt less than us. Without entry points we are alone, and after an upgrade all of
        them may say at once what we do not know; the operator has named them, and can deny them. A relay
        brings as many streams as others ask it for: how many is not its doing."""
        is_protected = self._host.table.is_protected
        if is_protected(peer, ("entry_point",)):  # not every peer that was ever met and is remembered as one
            return True
        how_much = offence is Offence.RATE or word == FrameFlood.code
        return how_much and is_protected(peer, ("relay",))

    def _bar(self, peer: PeerId) -> None:
        self._tell_barred(peer)
        for connection in self._host.connections_of(peer):
            self.turn_out(connection, BANNED)

    def _tell_barred(self, peer: PeerId) -> None:
        for listener in self._host.listeners.peer_barred:
            listener(peer)

    def _blamed_prefix(self, connection: Connection) -> str | None:
        """The prefix that a peer's ban counts against. None through a relay, below public scope, where limits
        by prefix do not apply, and where an entry point of ours is: it must stay able to come."""
        if connection.is_limited or self._host.admission.limited_prefix(connection.remote_ip) is None:
            return None
        prefix = _public_prefix(connection.remote_ip)
        for peer in self._host.kept_entry_points:
            connection_there = self._host.connection_to(peer, direct=True)
            seen_at = [connection_there.remote_ip] if connection_there is not None else []
            known_at = [address.host for address in self._host.peers.addresses(peer) if address.is_ip]
            if prefix in map(_public_prefix, seen_at + known_at):
                return None
        return prefix

    def _innocent(self, prefix: str, now: float) -> int:
        """Peers connected from a prefix that have done nothing wrong lately."""
        return len(
            {
                connection.peer_id
                for connection in self._host.connections()
                if not connection.is_limited
                and _public_prefix(connection.remote_ip) == prefix
                and not self.bans.points(connection.peer_id, now)
                and self.bans.ban_of(connection.peer_id, now) is None
            }
        )


def _public_prefix(ip: str) -> str | None:
    try:
        return public_prefix_of_ip(ip)
    except ParseError:
        return None


def _say(ban: Ban, now: float) -> None:
    """A ban begins; it ends by itself, after the seconds that are said."""
    logger("bans").warning(
        "banned",
        subject=str(ban.subject),
        reason=ban.reason.value,
        seconds=round(ban.until - now),
        count=ban.count,
    )
