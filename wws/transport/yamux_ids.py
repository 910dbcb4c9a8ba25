"""Which streams of a yamux session were ever opened, and what may still arrive on those that are gone."""

from __future__ import annotations

from wws.transport.yamux_frames import MAX_WINDOW, InvalidStreamId, StreamHasEnded, UnknownStream


class RemoteStreamIds:
    """Which stream ids the peer has opened, in little memory: the highest, and the gaps below it.

    Gaps come from peers that open streams in several threads, and fill up. When there are more of them than
    `most`, the oldest are taken for opened.
    """

    __slots__ = ("_highest", "_most", "_skipped")

    def __init__(self, first: int, most: int) -> None:
        self._highest = first - 2
        self._most = most
        self._skipped: dict[int, None] | None = None

    def take(self, stream_id: int) -> bool:
        """Note that `stream_id` is opened now; whether that is for the first time."""
        highest = self._highest
        if stream_id <= highest:
            if self._skipped is None or stream_id not in self._skipped:
                return False
            del self._skipped[stream_id]
            return True
        self._highest = stream_id
        if stream_id > highest + 2:
            skipped = self._skipped = self._skipped or {}
            oldest = max(highest + 2, stream_id - 2 * self._most)
            skipped.update(dict.fromkeys(range(oldest, stream_id, 2)))
            while len(skipped) > self._most:
                del skipped[next(iter(skipped))]
        return True

    def __contains__(self, stream_id: int) -> bool:
        return stream_id <= self._highest and (self._skipped is None or stream_id not in self._skipped)


class StreamIds:
    """The ids of both sides. The initiator opens the odd ones, the responder the even ones."""

    __slots__ = ("_allowance", "_next_own", "_parity", "_remote")

    def __init__(self, *, is_initiator: bool, max_skipped: int) -> None:
        self._parity = int(is_initiator)
        self._next_own = 1 if is_initiator else 2
        self._remote = RemoteStreamIds(2 if is_initiator else 1, max_skipped)
        self._allowance = 0

    def next_own(self) -> int | None:
        """A new id of ours; `None` when all are used."""
        stream_id = self._next_own
        if stream_id > MAX_WINDOW:
            return None
        self._next_own = stream_id + 2
        return stream_id

    def opened_by_peer(self, stream_id: int) -> None:
        """Note that the peer opens `stream_id`. Raises `InvalidStreamId` when it may not, or already did."""
        if stream_id == 0 or stream_id & 1 == self._parity:
            raise InvalidStreamId(f"the peer may not open stream {stream_id}")
        if not self._remote.take(stream_id):
            raise InvalidStreamId(f"the peer opened stream {stream_id} twice")

    def check_opened(self, stream_id: int) -> None:
        """Raises `UnknownStream` when nobody ever opened `stream_id`."""
        if stream_id & 1 == self._parity:
            known = stream_id < self._next_own
        else:
            known = stream_id in self._remote
        if not known:
            raise UnknownStream(f"a frame for stream {stream_id}, which was never opened")

    def allow(self, length: int) -> None:
        """The peer had been granted `length` bytes on a stream that we reset: it may not know that yet."""
        self._allowance += length

    def take_allowed(self, stream_id: int, length: int) -> None:
        """Data came for a stream that is gone. Raises `StreamHasEnded` when it is more than was granted."""
        if length > self._allowance:
            raise StreamHasEnded(f"{length} bytes on stream {stream_id}, which is gone")
        self._allowance -= length
