"""The bounds of QUIC: one connection, and the endpoint that many of them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class QuicConfig:
    """The bounds of one connection."""

    handshake_timeout: float = 10.0
    """Seconds from the first datagram to ESTABLISHED."""
    max_handshake_message: int = 32 * 1024
    """Bytes of a TLS message of the peer; those of others have up to 2,000."""
    idle_timeout: float = 30.0
    """Seconds without a word from the peer after which the connection is lost."""
    unanswered_timeout: float = 8.0
    """Seconds for which something that was sent, and sent again, may stay without a word from the peer: then
    it is asked a last time, and the connection is lost without waiting for `idle_timeout`."""
    unanswered_probes: int = 3
    """How often at least it was sent again by then: a pause of ours is no silence of the peer."""
    last_chance: float = 2.0
    """Seconds to answer that last question. What is sent again comes ever more rarely: a path that works once
    more may not have seen anything yet."""
    keep_alive_interval: float = 15.0
    """Seconds of silence after which who dialled pings, so that NATs keep their mapping."""
    keep_alive_lag: float = 5.0
    """Seconds that who was dialled waits longer: one of the two pings is enough."""
    max_inbound_streams: int = 512
    """Streams of the peer that hold a slot at once; it is told, and one more ends the connection."""
    max_outbound_streams: int = 512
    """Our streams that hold a slot at once."""
    stream_window: int = 1024 * 1024
    """Bytes that the peer may send on one stream ahead of what was consumed."""
    connection_window: int = 4 * 1024 * 1024
    """The same for all streams together: what a connection can make us hold."""
    stream_buffer: int = 1024 * 1024
    """Bytes of one stream that may wait to be sent or acknowledged."""
    connection_buffer: int = 4 * 1024 * 1024
    """The same for all streams together."""
    max_pieces: int = 4096
    """Pieces with gaps between them that a stream may be in, received or acknowledged."""
    discarded_after_stop: int = 64 * 1024
    """Bytes that are dropped without a word on a stream that the peer has stopped reading; then `send`
    raises."""
    max_frames: int = 400
    """Frames in one datagram: more than any that carry something would fit into it, and what one may cost."""
    active_connection_ids: int = 4
    """Connection ids that each side keeps ready for the other, for changes of address."""
    datagram_size: int = 1200
    """Bytes of a datagram before the path has shown that it carries larger ones."""
    largest_datagram: int = 1452
    """Bytes of the largest that is tried: what IPv6 leaves of 1,500."""
    linger: float = 5.0
    """Seconds that a closing connection has to get rid of what was written."""


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """The bounds of what is answered before there is a connection."""

    max_half_open: int = 256
    """Inbound handshakes under way; over it, who wants to begin one is not answered."""
    retry_above: int = 32
    """Inbound handshakes under way above which a client has to show first that it is where it says."""
    retry_above_per_address: int = 8
    """The same for those from one IP address, which nobody has shown to be theirs."""
    unproven_per_second: float = 50.0
    """Handshakes a second, and as many in one burst, that may begin without that: each costs more to answer
    than to ask for, and none counts against the address that it names."""
    retries_per_second: float = 5000.0
    """Strangers a second that are asked to show where they are."""
    stateless_per_second: float = 2000.0
    """Datagrams a second that are sent to strangers otherwise, of each kind, and as many in one burst."""
    max_closed: int = 4096
    """Ids of connections that are over, but still answer a late datagram with the word that they are."""
    closed_lifetime: float = 3.0
    """Seconds that they do."""


DEFAULT_CONFIG: Final = QuicConfig()
DEFAULT_ENDPOINT_CONFIG: Final = EndpointConfig()
