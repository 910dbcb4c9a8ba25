"""What a yamux session may cost: its bounds, and the budget of control frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from wws.transport.yamux_frames import FrameFlood


@dataclass(frozen=True, slots=True)
class YamuxConfig:
    """The bounds of one connection."""

    max_inbound_streams: int = 512
    """Streams that the peer may have open; one more is reset."""
    max_outbound_streams: int = 256
    """Streams that we open at once. rust-libp2p closes a connection with more than 512 of both sides."""
    max_unacknowledged: int = 256
    """Streams of one side that wait for the other's first frame (the specification's ACK backlog)."""
    max_window: int = 16 * 1024 * 1024
    """How far the receive window of one stream may grow."""
    max_growth: int = 16 * 1024 * 1024
    """Bytes by which all receive windows of the connection together may exceed the initial 256 KiB."""
    max_unread: int = 32 * 1024 * 1024
    """Received bytes that may wait for the application; a stream that brings more is reset."""
    max_buffered: int = 1024 * 1024
    """Frame bytes that wait for `frames_to_send` before `send` takes no more. A peer that makes us answer
    twice as much without reading is cut off."""
    control_frames_per_second: float = 1_000.0
    """Control frames (pings, openings, resets, needless updates) that a peer may send in the long run."""
    control_frames_burst: int = 4_000
    """Control frames that a peer may send at once."""
    small_update: int = 1024
    """A window update of fewer bytes counts as a control frame, unless data of ours called for it."""
    updates_per_frame: int = 4
    """Small window updates that one data frame of ours may be answered with: js grants what it reads piece by
    piece, however small the piece."""
    max_updates_owed: int = 4_096
    """How many of those may add up."""
    decent_frame: int = 256
    """Bytes of data that a frame has which costs little more than its bytes. The peer of smaller ones owes us
    time: what they lack is written up."""
    lacking_per_second: float = 2_000.0 * 256
    """Bytes that a peer's frames may lack in the long run: two thousand frames of a byte or two."""
    lacking_burst: float = 4_000.0 * 256
    """Bytes that they may lack at once. Over it the driver reads more slowly (`Yamux.pause`)."""
    max_skipped_ids: int = 1_024
    """Stream ids that are remembered because higher ones were opened before them."""
    keep_alive_interval: float = 30.0
    """Seconds without a byte from the peer after which it is pinged."""
    ping_timeout: float = 10.0
    """Seconds that a pinged peer may stay silent."""
    growth_round_trips: float = 4.0
    """A window consumed within this many round trips is too small, and doubles."""
    least_round_trip: float = 0.005
    """Seconds; a shorter round trip counts as this. On a fast link a peer waits longer for its turn on the
    processor than for the way."""


DEFAULT_CONFIG: Final = YamuxConfig()


class ControlBudget:
    """A token bucket: how many control frames the peer may still send."""

    __slots__ = (
        "_burst",
        "_lacked",
        "_lacking_at",
        "_lacking_burst",
        "_lacking_rate",
        "_max_owed",
        "_owed",
        "_per_frame",
        "_rate",
        "_tokens",
        "_updated_at",
        "lacking",
    )

    def __init__(self, config: YamuxConfig, now: float) -> None:
        self._rate = config.control_frames_per_second
        self._burst = self._tokens = float(config.control_frames_burst)
        self._updated_at = now
        self._per_frame = config.updates_per_frame
        self._max_owed = config.max_updates_owed
        self._owed = 0
        self.lacking = 0
        """Bytes that data frames had too few since `pause` was asked last."""
        self._lacked = 0.0
        self._lacking_at = now
        self._lacking_rate = config.lacking_per_second
        self._lacking_burst = config.lacking_burst

    def pause(self, now: float) -> float:
        """Seconds for which the peer has kept us busy beyond its due with small frames."""
        earned = max(0.0, now - self._lacking_at) * self._lacking_rate
        self._lacking_at = max(now, self._lacking_at)
        self._lacked = max(0.0, self._lacked - earned) + self.lacking
        self.lacking = 0
        return max(0.0, (self._lacked - self._lacking_burst) / self._lacking_rate)

    def sent_data(self) -> None:
        """We sent a data frame: the peer owes us window updates."""
        self._owed = min(self._max_owed, self._owed + self._per_frame)

    def charge_update(self, now: float) -> None:
        """A small window update came: free while it is owed, else as `charge`."""
        if self._owed:
            self._owed -= 1
        else:
            self.charge(now)

    def charge(self, now: float) -> None:
        """Take one token. Raises `FrameFlood` when there is none."""
        earned = max(0.0, now - self._updated_at) * self._rate
        self._tokens = min(self._burst, self._tokens + earned) - 1.0
        self._updated_at = now
        if self._tokens < 0.0:
            raise FrameFlood("the peer sends control frames faster than any honest use does")
