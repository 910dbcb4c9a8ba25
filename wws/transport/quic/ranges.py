"""Sets of numbers as ranges, in a time that does not grow with how a peer cuts its data.

aioquic looks through all ranges of a stream for each frame. A peer that sends every other byte of a window
would keep us busy for seconds a datagram; here the place is found by bisection, and ranges are bounded.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import overload

from aioquic.quic.rangeset import RangeSet


class TooFragmented(ValueError):
    """There are more ranges than are kept."""


class Ranges(RangeSet):
    """What `aioquic.quic.rangeset.RangeSet` does: disjoint half-open ranges in order, none touching."""

    def __init__(self, most: int) -> None:
        # Not theirs: it makes a list that nothing here looks at.
        self._most = most
        self._starts: list[int] = []
        self._stops: list[int] = []

    def add(self, start: int, stop: int | None = None) -> None:
        """Add a range, joined with those that it touches. Raises `TooFragmented` when it is one too many."""
        if stop is None:
            stop = start + 1
        starts, stops = self._starts, self._stops
        first = bisect_left(stops, start)  # the first range that ends at or behind the start: it touches
        last = bisect_right(starts, stop)  # the first one that begins behind the stop: it does not
        if first < last:
            start, stop = min(start, starts[first]), max(stop, stops[last - 1])
        elif len(starts) >= self._most:
            raise TooFragmented(f"more than {self._most} pieces")
        starts[first:last] = [start]
        stops[first:last] = [stop]

    def subtract(self, start: int, stop: int) -> None:
        """Remove a range."""
        starts, stops = self._starts, self._stops
        first = bisect_right(stops, start)  # the first range that ends behind the start
        last = bisect_left(starts, stop)  # the first one that begins at or behind the stop
        if first >= last:
            return
        left, right = starts[first], stops[last - 1]
        new_starts: list[int] = []
        new_stops: list[int] = []
        if left < start:
            new_starts.append(left)
            new_stops.append(start)
        if right > stop:
            new_starts.append(stop)
            new_stops.append(right)
        starts[first:last] = new_starts
        stops[first:last] = new_stops

    def shift(self) -> range:
        """Take the first range out."""
        return range(self._starts.pop(0), self._stops.pop(0))

    def bounds(self) -> range:
        return range(self._starts[0], self._stops[-1])

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int):
            return False
        at = bisect_right(self._stops, value)
        return at < len(self._starts) and self._starts[at] <= value

    @overload
    def __getitem__(self, key: int) -> range: ...
    @overload
    def __getitem__(self, key: slice) -> list[range]: ...
    def __getitem__(self, key: int | slice) -> range | list[range]:
        if isinstance(key, slice):
            return list(map(range, self._starts[key], self._stops[key]))
        return range(self._starts[key], self._stops[key])

    def __iter__(self) -> Iterator[range]:
        return map(range, self._starts, self._stops)

    def __len__(self) -> int:
        return len(self._starts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeSet) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment] # as every set that changes

    def __repr__(self) -> str:
        return f"Ranges({list(self)!r})"
