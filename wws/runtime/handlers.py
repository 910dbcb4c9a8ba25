"""Inbound streams: from the negotiation of their protocol to the task of its handler, within bounds.

Each becomes a task once its protocol is agreed on, and is reset when that takes too long. What one peer, and
all peers of one prefix, may have in the hands of one handler is bounded.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias

from wws.errors import WwsError
from wws.identity.peer_id import PeerId
from wws.runtime.streams import Stream
from wws.transport.multistream import Negotiator

StreamHandler: TypeAlias = Callable[[Stream], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class HandlersConfig:
    negotiation_timeout: float = 10.0
    """Seconds that the negotiation of a stream may take."""
    max_per_peer: int = 128
    """Inbound streams of one protocol that one peer may have open."""
    max_per_prefix: int = 512
    """The same for all peers of one IPv4 /24 or IPv6 /56, where limits by prefix apply."""


class Handlers:
    """The protocols that are served, and the streams in their hands."""

    def __init__(
        self,
        config: HandlersConfig,
        *,
        spawn: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]],
        count_refusal: Callable[[str, str], None],
    ) -> None:
        self._config = config
        self._spawn = spawn
        self._count_refusal = count_refusal
        self._handlers: dict[str, StreamHandler] = {}
        self.negotiating: OrderedDict[Stream, float] = OrderedDict()
        """Streams whose protocol is not agreed on yet, each with its deadline, the earliest first."""
        self.of_peers: Counter[tuple[PeerId, str]] = Counter()
        """Streams in the hands of handlers, by peer and protocol."""
        self.of_prefixes: Counter[tuple[str, str]] = Counter()
        """The same by prefix and protocol."""

    def reconfigure(self, config: HandlersConfig) -> None:
        """Let other bounds hold for streams that come from now on."""
        self._config = config

    @property
    def protocols(self) -> tuple[str, ...]:
        """What is served."""
        return tuple(self._handlers)

    def serve(self, protocol: str, handler: StreamHandler) -> None:
        """Hand inbound streams of `protocol` to `handler`."""
        self._handlers[protocol] = handler

    def stop_serving(self, protocol: str) -> None:
        """Turn new streams of `protocol` down; those that are open go on."""
        self._handlers.pop(protocol, None)

    def negotiator(self) -> Negotiator:
        """For an inbound stream."""
        return Negotiator.answer(self._handlers)

    def opening(self, stream: Stream) -> None:
        """A stream has come, and its negotiation begins."""
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
        if self.of_peers[key] >= self._config.max_per_peer:
            self._refuse(stream, "streams_per_peer")
        elif place is not None and self.of_prefixes[place] >= self._config.max_per_prefix:
            self._refuse(stream, "streams_per_prefix")
        else:
            self.of_peers[key] += 1
            if place is not None:
                self.of_prefixes[place] += 1
            self._spawn(self._run(handler, stream, key, place), f"handle {stream.protocol}")

    def _refuse(self, stream: Stream, reason: str) -> None:
        self._count_refusal(stream.protocol, reason)
        stream.reset()

    async def _run(
        self, handler: StreamHandler, stream: Stream, key: tuple[PeerId, str], place: tuple[str, str] | None
    ) -> None:
        try:
            await handler(stream)
        except WwsError as error:
            self._count_refusal(stream.protocol, error.code)
        except TimeoutError:
            self._count_refusal(stream.protocol, "timeout")
        finally:
            if not stream.closed:
                stream.reset()
            self.of_peers[key] -= 1
            if not self.of_peers[key]:
                del self.of_peers[key]
            if place is not None:
                self.of_prefixes[place] -= 1
                if not self.of_prefixes[place]:
                    del self.of_prefixes[place]
