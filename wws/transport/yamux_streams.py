"""The streams of a yamux session: the state and windows of each, and the table that counts what they hold."""

from __future__ import annotations

from typing import Final

from wws.transport.yamux_frames import ACK, INITIAL_WINDOW, SYN
from wws.transport.yamux_limits import YamuxConfig

# State, as bits: a stream costs one small object, and the data path one test.
OWES_SYN: Final = 1
"""Opened by us, and the peer does not know yet."""
OWES_ACK: Final = 2
"""Opened by the peer, and we have not answered yet."""
AWAITS_ACK: Final = 4
"""Opened by us, and the peer has not answered yet."""
ENDED_BY_US: Final = 8
ENDED_BY_PEER: Final = 16
BLOCKED: Final = 32
"""The application wants to send more than the peer's window allows."""


class Stream:
    """Numbers and bits only; what they mean is `Yamux`'s business."""

    __slots__ = ("credit", "granted_at", "send_window", "state", "unread", "window")

    state: int
    send_window: int
    """Bytes that we may still send."""
    credit: int
    """Bytes that the peer may still send."""
    unread: int
    """Bytes received and not yet consumed."""
    window: int
    """What `credit` and `unread` may become together."""
    granted_at: float
    """When credit was last given."""

    def __init__(self, state: int, now: float) -> None:
        self.state = state
        self.send_window = self.credit = self.window = INITIAL_WINDOW
        self.unread = 0
        self.granted_at = now

    @property
    def is_over(self) -> bool:
        """Whether both sides have ended it and nothing waits for the application."""
        return not self.unread and self.state & (ENDED_BY_US | ENDED_BY_PEER) == ENDED_BY_US | ENDED_BY_PEER


class StreamTable:
    """All streams that hold a slot, and the sums over them. `free` is the only way out."""

    __slots__ = (
        "_config",
        "_inbound",
        "_is_initiator",
        "_unacknowledged_inbound",
        "_unacknowledged_outbound",
        "growth",
        "streams",
        "unread",
    )

    streams: dict[int, Stream]
    unread: int
    """Bytes received and not yet consumed, all streams together."""
    growth: int
    """Bytes by which all receive windows together exceed the initial ones."""

    def __init__(self, config: YamuxConfig, *, is_initiator: bool) -> None:
        self._config = config
        self._is_initiator = is_initiator
        self.clear()

    def clear(self) -> None:
        """Free all streams at once."""
        self.streams = {}
        self._inbound = self._unacknowledged_inbound = self._unacknowledged_outbound = 0
        self.unread = self.growth = 0

    def is_ours(self, stream_id: int) -> bool:
        """Whether `stream_id` is one that our side opens: odd for the initiator, even for the responder."""
        return stream_id & 1 == self._is_initiator

    def why_not_ours(self) -> str | None:
        """Why we cannot open one more stream, or `None` when we can."""
        if len(self.streams) - self._inbound >= self._config.max_outbound_streams:
            return f"{self._config.max_outbound_streams} streams are open already"
        if self._unacknowledged_outbound >= self._config.max_unacknowledged:
            return f"the peer has not yet answered on {self._config.max_unacknowledged} streams"
        return None

    @property
    def is_full(self) -> bool:
        """Whether the peer cannot open one more stream."""
        config = self._config
        return (
            self._inbound >= config.max_inbound_streams
            or self._unacknowledged_inbound >= config.max_unacknowledged
        )

    def add(self, stream_id: int, now: float) -> None:
        """Give a stream a slot; the limits are checked before."""
        if self.is_ours(stream_id):
            self.streams[stream_id] = Stream(OWES_SYN | AWAITS_ACK, now)
            self._unacknowledged_outbound += 1
        else:
            self.streams[stream_id] = Stream(OWES_ACK, now)
            self._inbound += 1
            self._unacknowledged_inbound += 1

    def free(self, stream_id: int, stream: Stream) -> None:
        """The one place where a stream leaves the table, whatever ended it."""
        del self.streams[stream_id]
        self.unread -= stream.unread
        self.growth -= stream.window - INITIAL_WINDOW
        if self.is_ours(stream_id):
            if stream.state & AWAITS_ACK:
                self._unacknowledged_outbound -= 1
        else:
            self._inbound -= 1
            if stream.state & OWES_ACK:
                self._unacknowledged_inbound -= 1

    def opening_flags(self, stream: Stream) -> int:
        """SYN or ACK for the first frame that we send on a stream, and nothing afterwards."""
        if stream.state & OWES_SYN:
            stream.state &= ~OWES_SYN
            return SYN
        if stream.state & OWES_ACK:
            stream.state &= ~OWES_ACK
            self._unacknowledged_inbound -= 1
            return ACK
        return 0

    def acknowledged(self, stream: Stream) -> bool:
        """The peer sent an ACK; whether one was due."""
        if not stream.state & AWAITS_ACK:
            return False
        stream.state &= ~AWAITS_ACK
        self._unacknowledged_outbound -= 1
        return True

    def grow(self, stream: Stream) -> int:
        """Double the receive window as far as the bounds allow: by how many bytes."""
        config = self._config
        more = min(stream.window, config.max_window - stream.window, config.max_growth - self.growth)
        if more <= 0:
            return 0
        stream.window += more
        self.growth += more
        return more
