"""How fast a congestion window is sent (RFC 9002, section 7.7): in bursts that timers can keep up with.

aioquic asks for a timer for every datagram, one each 0.1 ms at a few MB/s; an event loop wakes once
a millisecond at best. So a burst here is what is due in two milliseconds, and no less than a few datagrams.
"""

from __future__ import annotations

from typing import Final

from aioquic.quic.recovery import QuicPacketPacer

_BURST_SECONDS: Final = 0.002
_LEAST_BURST: Final = 16
"""Datagrams that may always leave at once. RFC 9002 allows an initial window, which is ten of the largest."""
_HEADROOM: Final = 1.25
"""How much faster than one window a round trip: so that pacing is not what limits (RFC 9002, 7.7)."""
_SHORTEST_ROUND_TRIP: Final = 1e-6


class BurstPacer(QuicPacketPacer):
    """A bucket of bytes that fills at the pace of the window."""

    def __init__(self, *, max_datagram_size: int) -> None:
        super().__init__(max_datagram_size=max_datagram_size)
        self._rate: float | None = None
        self._burst = float(_LEAST_BURST * max_datagram_size)
        self._bytes = self._burst
        self._at = 0.0

    def use_datagram_size(self, size: int) -> None:
        """The path carries larger datagrams, or no longer does."""
        self._max_datagram_size = size

    def next_send_time(self, now: float) -> float | None:  # type: ignore[override] # theirs returns None as well
        """When the next burst may leave; `None`: now."""
        rate = self._rate
        if rate is None:
            return None
        if now > self._at:
            self._bytes = min(self._burst, self._bytes + (now - self._at) * rate)
            self._at = now
        if self._bytes > 0:
            return None
        return now + (self._burst / 2 - self._bytes) / rate

    def update_after_send(self, now: float) -> None:
        if self._rate is not None:
            self._bytes -= self._max_datagram_size

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        self._rate = _HEADROOM * congestion_window / max(smoothed_rtt, _SHORTEST_ROUND_TRIP)
        self._burst = max(self._rate * _BURST_SECONDS, float(_LEAST_BURST * self._max_datagram_size))
