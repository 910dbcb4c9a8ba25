"""Two honest yamux sessions under random operations and random cuts of the byte streams between them.

Whatever happens, neither accuses the other; every byte arrives in order; an end arrives after all bytes; and
when all streams are done and everything is consumed, no slot, no unread byte and no window growth is left.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wws.testing import scale
from wws.transport.muxed import (
    DataReceived,
    GoneAway,
    PongReceived,
    StreamEnded,
    StreamOpened,
    StreamRefused,
    StreamReset,
    WindowOpened,
)
from wws.transport.noise_frames import MAX_PLAINTEXT
from wws.transport.yamux import Yamux
from wws.transport.yamux_limits import YamuxConfig

PATTERN = bytes(range(251)) * 2_200


def content(stream_id: int, offset: int, length: int) -> bytes:
    """What a stream carries from `offset` on: so that a byte out of place is noticed."""
    start = (offset + stream_id * 17) % 251
    return PATTERN[start : start + length]


@dataclass
class View:
    """One side of a stream, as its application sees it."""

    sent: int = 0
    received: int = 0
    consumed: int = 0
    ended_by_us: bool = False
    ended_by_peer: bool = False
    is_reset: bool = False
    waits: bool = False
    """The peer's window was full at the last send."""


@dataclass
class Side:
    session: Yamux
    views: dict[int, View] = field(default_factory=dict)
    arriving: bytearray = field(default_factory=bytearray)
    gone_away: bool = False
    peer_gone_away: bool = False

    def usable(self) -> list[int]:
        return [stream_id for stream_id, view in self.views.items() if not view.is_reset]


SIDES = st.sampled_from([0, 1])
PICK = st.integers(0, 1_000)
SIZES = st.sampled_from([1, 12, 1_000, 65_507, 65_508, 131_072, 300_000]) | st.integers(1, 200_000)


class TwoSessions(RuleBasedStateMachine):
    @initialize(
        streams=st.sampled_from([2, 4, 100]),
        unacknowledged=st.sampled_from([2, 50]),
        growth=st.sampled_from([0, 300_000, 4_000_000]),
    )
    def start(self, streams: int, unacknowledged: int, growth: int) -> None:
        config = YamuxConfig(
            max_inbound_streams=streams,
            max_outbound_streams=streams + 1,  # one more than the other side takes
            max_unacknowledged=unacknowledged,
            max_growth=growth,
            max_window=1_000_000,
            max_buffered=400_000,
        )
        self.now = 0.0
        self.sides = (
            Side(Yamux(is_initiator=True, config=config, now=0.0)),
            Side(Yamux(is_initiator=False, config=config, now=0.0)),
        )

    def flush(self) -> None:
        for index, side in enumerate(self.sides):
            frames = side.session.frames_to_send()
            assert all(len(frame) <= MAX_PLAINTEXT for frame in frames)
            self.sides[1 - index].arriving += b"".join(frames)

    def hear(self, index: int, count: int) -> None:
        side, peer = self.sides[index], self.sides[1 - index]
        data = bytes(side.arriving[:count])
        del side.arriving[:count]
        events: list[object] = []
        side.session.receive_data(data, self.now, events)  # type: ignore[arg-type]
        for event in events:
            match event:
                case StreamOpened(stream_id):
                    assert stream_id not in side.views
                    assert not side.gone_away
                    side.views[stream_id] = View()
                case DataReceived(stream_id, data):
                    view = side.views[stream_id]
                    assert data
                    assert not view.is_reset
                    assert not view.ended_by_peer
                    assert data == content(stream_id, view.received, len(data))
                    view.received += len(data)
                    assert view.received <= peer.views[stream_id].sent
                case StreamEnded(stream_id):
                    view = side.views[stream_id]
                    assert not view.is_reset
                    assert not view.ended_by_peer
                    view.ended_by_peer = True
                    assert peer.views[stream_id].ended_by_us
                    assert view.received == peer.views[stream_id].sent
                case StreamReset(stream_id):
                    assert not side.views[stream_id].is_reset
                    side.views[stream_id].is_reset = True
                case WindowOpened(stream_id):
                    assert side.views[stream_id].waits
                    side.views[stream_id].waits = False
                    assert side.session.send_capacity(stream_id) or side.session.buffered
                case GoneAway(code):
                    assert code == 0
                    side.peer_gone_away = True
                case PongReceived(_, round_trip):
                    assert 0 <= round_trip <= self.now
                case _:
                    raise AssertionError(event)

    @rule(index=SIDES)
    def open(self, index: int) -> None:
        side = self.sides[index]
        try:
            stream_id = side.session.open_stream(self.now)
        except StreamRefused:
            config = side.session._config
            assert (
                side.gone_away
                or side.peer_gone_away
                or side.session.open_streams >= min(config.max_outbound_streams, config.max_unacknowledged)
            )
            return
        assert stream_id not in side.views
        side.views[stream_id] = View()

    @rule(index=SIDES, pick=PICK, size=SIZES)
    def send(self, index: int, pick: int, size: int) -> None:
        side = self.sides[index]
        streams = [stream_id for stream_id in side.usable() if not side.views[stream_id].ended_by_us]
        if not streams:
            return
        stream_id = streams[pick % len(streams)]
        view = side.views[stream_id]
        room = side.session.send_capacity(stream_id)
        accepted = side.session.send(stream_id, content(stream_id, view.sent, size))
        assert accepted == min(size, room)
        view.sent += accepted
        view.waits |= accepted < size

    @rule(index=SIDES, pick=PICK)
    def end(self, index: int, pick: int) -> None:
        side = self.sides[index]
        streams = [stream_id for stream_id in side.usable() if not side.views[stream_id].ended_by_us]
        if streams:
            stream_id = streams[pick % len(streams)]
            side.session.close_stream(stream_id)
            side.views[stream_id].ended_by_us = True

    @rule(index=SIDES, pick=PICK)
    def reset(self, index: int, pick: int) -> None:
        side = self.sides[index]
        if streams := side.usable():
            stream_id = streams[pick % len(streams)]
            side.session.reset_stream(stream_id)
            side.views[stream_id].is_reset = True

    @rule(index=SIDES, pick=PICK, share=st.sampled_from([1.0, 1.0, 0.5, 0.01]))
    def consume(self, index: int, pick: int, share: float) -> None:
        side = self.sides[index]
        streams = [stream_id for stream_id, view in side.views.items() if view.consumed < view.received]
        if streams:
            stream_id = streams[pick % len(streams)]
            view = side.views[stream_id]
            count = max(1, int((view.received - view.consumed) * share))
            side.session.consumed(stream_id, count, self.now)  # of a stream that is gone, too
            view.consumed += count

    @rule(index=SIDES, count=st.sampled_from([1, 5, 11, 12, 13, 1_000, 65_536, 10_000_000]))
    def deliver(self, index: int, count: int) -> None:
        self.flush()
        self.hear(index, count)

    @rule(index=SIDES)
    def ping(self, index: int) -> None:
        self.sides[index].session.ping(self.now)

    @rule(seconds=st.sampled_from([0.001, 0.1, 1.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.now > 2.0)
    @rule(index=SIDES)
    def go_away(self, index: int) -> None:
        self.sides[index].session.go_away()
        self.sides[index].gone_away = True

    @invariant()
    def sums_hold(self) -> None:
        if not hasattr(self, "sides"):
            return
        for side in self.sides:
            table = side.session._table
            assert table.unread == sum(stream.unread for stream in table.streams.values())
            assert 0 <= table.growth <= side.session._config.max_growth
            assert all(stream.credit >= 0 and stream.send_window >= 0 for stream in table.streams.values())
            assert all(stream.credit + stream.unread <= stream.window for stream in table.streams.values())

    def teardown(self) -> None:
        if not hasattr(self, "sides"):
            return
        self.settle()
        while self.end_all():
            self.settle()
        for index, side in enumerate(self.sides):
            table = side.session._table
            assert table.streams == {}
            assert (table.unread, table.growth, table._inbound) == (0, 0, 0)
            assert (table._unacknowledged_inbound, table._unacknowledged_outbound) == (0, 0)
            for stream_id, view in side.views.items():
                other = self.sides[1 - index].views.get(stream_id)
                if other is not None and not view.is_reset and not other.is_reset:
                    assert view.received == other.sent

    def end_all(self) -> bool:
        """End our sides of all streams; whether there was one."""
        ended = False
        for side in self.sides:
            for stream_id, view in side.views.items():
                if not view.is_reset and not view.ended_by_us:
                    side.session.close_stream(stream_id)
                    ended = view.ended_by_us = True
        return ended

    def settle(self) -> None:
        """Deliver and consume everything."""
        busy = True
        while busy:
            self.flush()
            busy = any(side.arriving for side in self.sides)
            for index, side in enumerate(self.sides):
                self.hear(index, 10_000_000)
                for stream_id, view in side.views.items():
                    side.session.consumed(stream_id, view.received - view.consumed, self.now)
                    view.consumed = view.received


TwoSessions.TestCase.settings = settings(
    max_examples=scale(500, least=50), stateful_step_count=60, deadline=None
)
TestTwoSessions = TwoSessions.TestCase
