"""Inbound streams: from the negotiation of their protocol to the task of its handler, within bounds.

Each becomes a task once its protocol is agreed on, and is reset when that takes too long. What one peer, and
all peers of one prefix, may have in the hands of one handler is bounded, and so is how often they may begin:

    opened ─► rate of all streams ─► negotiated ─► rate of the protocol ─► streams at a time ─► handler
              `multistream`                        every protocol has one

Over a bound the stream is reset and counted once, under its protocol and the word of the bound.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from wws.errors import WwsError
from wws.identity.peer_id import PeerId
from wws.mesh.rates import Share, SharedRates
from wws.runtime.streams import Stream
from wws.transport.multistream import Negotiator

StreamHandler: TypeAlias = Callable[[Stream], Awaitable[None]]

MULTISTREAM: Final = "multistream"
"""Under this name streams are refused whose protocol is not agreed on yet."""

RATES: Final[Mapping[str, Share]] = MappingProxyType(
    {
        # One at each connection, and again when an address may have changed; so the share of a prefix has to
        # be more than the connections that it may open.
        "/ipfs/id/1.0.0": Share(2.0, 32, prefix_share=64),
        # Each costs us a signature check, and makes others think.
        "/ipfs/id/push/1.0.0": Share(0.5, 16),
        # Cheap, and who measures wants many; each of them takes a third of a millisecond.
        "/ipfs/ping/1.0.0": Share(100.0, 1_500, prefix_share=4),
        # A look-up's query has a stream of its own. Requests wait for their turn besides, at half of this.
        "/wws/kad/1.0.0": Share(200.0, 512, prefix_share=4),
    }
)
"""How often streams may be opened, by protocol; the rest of them have `HandlersConfig.rate`."""
_THE_REST: Final = Share(20.0, 200)
_ALL_STREAMS: Final = Share(500.0, 2_000, prefix_share=4)


@dataclass(frozen=True, slots=True)
class HandlersConfig:
    negotiation_timeout: float = 10.0
    """Seconds that the negotiation of a stream may take."""
    max_per_peer: int = 128
    """Inbound streams of one protocol that one peer may have open."""
    max_per_prefix: int = 512
    """The same for all peers of one IPv4 /24 or IPv6 /56, where limits by prefix apply."""
    all_streams: Share = _ALL_STREAMS
    """Streams of one peer and of its prefix, whatever becomes of them."""
    rate: Share = _THE_REST
    """Streams of one protocol that has no line of its own in `rates`."""
    rates: Mapping[str, Share] = field(default_factory=lambda: RATES)
    """By protocol."""
    max_tracked: int = 4_096
    """Peers, and prefixes, whose rate is remembered of each protocol; the longest idle are forgotten."""

    def share_of(self, protocol: str) -> Share:
        """How often streams of a protocol may be opened."""
        return self.all_streams if protocol == MULTISTREAM else self.rates.get(protocol, self.rate)


class Handlers:
    """The protocols that are served, and the streams in their hands."""

    def __init__(
        self,
        config: HandlersConfig,
        *,
        spawn: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]],
        monotonic: Callable[[], float],
        refused: Callable[[Stream, str, str], None],
    ) -> None:
        """`refused` is told of each stream that is turned down or ends in an error: its protocol, and why."""
        self._config = config
        self._spawn = spawn
        self._monotonic = monotonic
        self._refused = refused
        self._rates: dict[str, SharedRates] = {}
        self._handlers: dict[str, StreamHandler] = {}
        self._untold: set[str] = set()
        self.negotiating: OrderedDict[Stream, float] = OrderedDict()
        """Streams whose protocol is not agreed on yet, each with its deadline, the earliest first."""
        self.of_peers: Counter[tuple[PeerId, str]] = Counter()
        """Streams in the hands of handlers, by peer and protocol."""
        self.of_prefixes: Counter[tuple[str, str]] = Counter()
        """The same by prefix and protocol."""

    def reconfigure(self, config: HandlersConfig) -> None:
        """Let other bounds hold for streams that come from now on."""
        self._config = config
        for protocol, rates in self._rates.items():
            rates.reconfigure(config.share_of(protocol), config.max_tracked)

    @property
    def protocols(self) -> tuple[str, ...]:
        """What is served, and told in identify."""
        return tuple(protocol for protocol in self._handlers if protocol not in self._untold)

    def serve(self, protocol: str, handler: StreamHandler) -> None:
        """Hand inbound streams of `protocol` to `handler`."""
        self._handlers[protocol] = handler

    def stop_serving(self, protocol: str) -> None:
        """Turn new streams of `protocol` down; those that are open go on."""
        self._handlers.pop(protocol, None)

    def tell(self, protocol: str, told: bool) -> None:
        """Whether identify names `protocol` while it is served; it does unless this was said."""
        if told:
            self._untold.discard(protocol)
        else:
            self._untold.add(protocol)

    def negotiator(self) -> Negotiator:
        """For an inbound stream."""
        return Negotiator.answer(self._handlers)

    def opening(self, stream: Stream, prefix: str | None) -> None:
        """A stream has come, and its negotiation begins; or it is reset, as one too many. `prefix` as with
        `ready`."""
        if (word := self._take(MULTISTREAM, stream, prefix)) is not None:
            self._refuse(stream, MULTISTREAM, word)
            return
        self.negotiating[stream] = stream.opened_at + self._config.negotiation_timeout

    def decided(self, stream: Stream) -> None:
        """Its negotiation has ended, well or not."""
        self.negotiating.pop(stream, None)

    def overdue(self, now: float) -> list[Stream]:
        """The streams whose negotiation has taken too long; they are forgotten here."""
        late: list[Stream] = []
        while self.negotiating:
            stream, deadline = next(iter(self.negotiating.items()))
            if deadline > now:
                break
            del self.negotiating[stream]
            late.append(stream)
        return late

    def ready(self, stream: Stream, prefix: str | None) -> None:
        """The protocol is agreed on: hand the stream over, or reset it at a bound. `prefix` is the peer's;
        `None` where limits by prefix do not apply."""
        handler = self._handlers.get(stream.protocol)
        if handler is None:  # not served any more
            stream.reset()
            return
        key = (stream.connection.peer_id, stream.protocol)
        place = None if prefix is None else (prefix, stream.protocol)
        if (word := self._take(stream.protocol, stream, prefix)) is not None:
            self._refuse(stream, stream.protocol, word)
        elif self.of_peers[key] >= self._config.max_per_peer:
            self._refuse(stream, stream.protocol, "streams_per_peer")
        elif place is not None and self.of_prefixes[place] >= self._config.max_per_prefix:
            self._refuse(stream, stream.protocol, "streams_per_prefix")
        else:
            self.of_peers[key] += 1
            if place is not None:
                self.of_prefixes[place] += 1
            self._spawn(self._run(handler, stream, key, place), f"handle {stream.protocol}")

    def _take(self, protocol: str, stream: Stream, prefix: str | None) -> str | None:
        rates = self._rates.get(protocol)
        if rates is None:  # as many as are served, and one
            rates = self._rates[protocol] = SharedRates(
                self._config.share_of(protocol), self._config.max_tracked
            )
        return rates.take(stream.connection.peer_id, prefix, self._monotonic())

    def _refuse(self, stream: Stream, protocol: str, reason: str) -> None:
        stream.reset()
        self._refused(stream, protocol, reason)  # last: it may end the connection

    async def _run(
        self, handler: StreamHandler, stream: Stream, key: tuple[PeerId, str], place: tuple[str, str] | None
    ) -> None:
        word: str | None = None
        try:
            await handler(stream)
        except WwsError as error:
            word = error.code
        except TimeoutError:
            word = "timeout"
        finally:
            stream.let_go()
            if not stream.closed:
                stream.reset()
            self.of_peers[key] -= 1
            if not self.of_peers[key]:
                del self.of_peers[key]
            if place is not None:
                self.of_prefixes[place] -= 1
                if not self.of_prefixes[place]:
                    del self.of_prefixes[place]
        if word is not None:
            self._refused(stream, stream.protocol, word)
