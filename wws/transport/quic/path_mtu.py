"""How large a datagram the path carries: found by trying (RFC 8899, DPLPMTUD, in its simplest form).

Every path carries 1,200 bytes. A connection that sends much tries the largest size, then one in between: a
datagram of that size with nothing in it. If it is acknowledged, that is the size from then on. Should large
datagrams get lost later, or the path change, it goes back to where it began.
"""

from __future__ import annotations

from typing import Final

_BUSY_AFTER: Final = 100
"""Packets sent before it is worth knowing."""
_TRIES: Final = 2
"""Datagrams of one size that may get lost by chance."""
_BLACK_HOLE: Final = 3
"""Probe time-outs in a row after which large datagrams are to blame."""


class PathMtu:
    """What is known of one connection's path."""

    __slots__ = ("_address", "_base", "_candidates", "_is_asking", "_sizes", "_tries", "size")

    def __init__(self, base: int, largest: int) -> None:
        self.size = base
        """Bytes of a datagram that may be sent now."""
        self._base = base
        self._sizes = tuple(dict.fromkeys(size for size in (largest, (base + largest) // 2) if size > base))
        self._candidates = list(self._sizes)
        self._tries = 0
        self._is_asking = False
        self._address: object = None

    def next_probe(self, address: object, *, packets_sent: int, timeouts: int) -> int | None:
        """The size of a probe to send now, if any. Looks first whether the path still is what it was."""
        if address != self._address:
            if self._address is not None:
                self._start_again()
            self._address = address
        if timeouts >= _BLACK_HOLE and self.size > self._base:
            self.size = self._base
            self._candidates.clear()
        if not self._candidates or self._is_asking or packets_sent < _BUSY_AFTER:
            return None
        self._is_asking = True
        return self._candidates[0]

    def answered(self, size: int, *, arrived: bool) -> None:
        """A probe was acknowledged, or is lost."""
        self._is_asking = False
        if size not in self._candidates:
            return  # of another path, or from before a black hole
        if arrived:
            self.size = size
            self._candidates.clear()
            return
        self._tries += 1
        if self._tries >= _TRIES:
            self._tries = 0
            self._candidates.remove(size)

    def _start_again(self) -> None:
        self.size = self._base
        self._candidates = list(self._sizes)
        self._tries = 0
        self._is_asking = False
