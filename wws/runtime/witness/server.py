"""Serves `/wws/receipt/1.0.0`: who may ask, how often, and in what form; the answers are the register's.

    stream ─► request (10 s) ─► identify ─► direct? our network? not too often? ─► register ─► answer

A receipt binds a name to the key that the connection has authenticated, and counts against the prefix it
comes from. So nothing is served over a circuit, where the prefix is the relay's, and nobody but peers who
say that they belong to our network (wire.md section 2).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from wws.errors import WwsError
from wws.identity.keys import Identity
from wws.mesh.rates import Rates
from wws.names.errors import RecordRefused
from wws.names.kinds import Witnesses
from wws.names.witness.book import BookConfig, WitnessBook
from wws.names.witness.entry import Caller
from wws.names.witness.messages import (
    MAX_MESSAGE,
    RECEIPT_PROTOCOL,
    Why,
    WitnessAnswer,
    WitnessRefusal,
    WitnessRequest,
    answer_bytes,
)
from wws.runtime.connection import Connection
from wws.runtime.host import Host
from wws.runtime.streams import Stream
from wws.runtime.witness.register import Register, RegisterConfig
from wws.runtime.witness.store import WitnessStore

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WitnessServerConfig:
    book: BookConfig = field(default_factory=BookConfig)
    register: RegisterConfig = field(default_factory=RegisterConfig)
    request_timeout: float = 10.0
    """Seconds for a request to come, identify included; for its answer to be made; and to be taken."""
    max_streams_per_peer: int = 8
    """Requests of one peer that are served at a time."""
    per_second: float = 2.0
    """Requests a second of one peer."""
    burst: float = 40.0
    """Requests of one peer at once: a node has several names, and asks again when W changes."""
    per_second_prefix: float = 20.0
    """Requests a second of all peers of one prefix, where limits by prefix apply."""
    burst_prefix: float = 400.0
    max_tracked: int = 20_000
    """Peers, and prefixes, whose pace is remembered; who has been quiet for longest is forgotten first."""


class WitnessServer:
    """The witness of one node. `start` it before or after the host listens."""

    def __init__(
        self,
        host: Host,
        identity: Identity,
        store: WitnessStore,
        witnesses: Witnesses,
        swarm_size: Callable[[], int],
        network: str | None,
        denied_names: Callable[[str], bool],
        config: WitnessServerConfig | None = None,
    ) -> None:
        """`network` is our `/wws/net/…` protocol: only peers that advertise it get receipts. Without one
        everybody does. `denied_names` says of a name whether the operator refuses it."""
        self._host = host
        self._identity = identity
        self._store = store
        self._network = network
        self._config = config or WitnessServerConfig()
        self._book = WitnessBook(identity, witnesses, swarm_size, denied_names, self._config.book)
        self._register = Register(self._book, store, host.clock, self._config.register)
        settings = self._config
        self._peers = Rates(settings.per_second, settings.burst, settings.max_tracked)
        self._prefixes = Rates(settings.per_second_prefix, settings.burst_prefix, settings.max_tracked)
        self._serving: Counter[object] = Counter()

    # What status and metrics show

    @property
    def entries(self) -> int:
        """Names held now, first claims included."""
        return self._register.entries

    @property
    def provisional(self) -> int:
        """First claims among them."""
        return self._register.provisional

    @property
    def log_rows(self) -> int:
        """Receipts in the log."""
        return self._store.log_rows

    @property
    def is_writable(self) -> bool:
        """Whether what was to be written last could be."""
        return self._register.is_writable

    @property
    def receipts(self) -> Counter[str]:
        """Receipts that were given since the start, by operation: `claim`, `renew`, `transfer`."""
        return self._register.receipts

    @property
    def failures(self) -> Counter[str]:
        """Batches that could not be written since the start, by error word."""
        return self._register.failures

    @property
    def no_first_claims_until(self) -> int:
        """Unix time until which no first claims are made, because promises were lost; 0: they are made."""
        until = self._book.claims_from
        return until if until > self._host.clock.unix() else 0

    # Life

    async def start(self) -> None:
        """Read the file, and serve. Raises `MachineError`, `StateTooNew`."""
        restored = await self._store.open(self._identity.peer_id, self._host.clock.unix())
        self._book.restore(restored.entries, restored.counted, claims_from=restored.claims_from)
        if until := self.no_first_claims_until:
            _logger.warning(
                "The file of this witness was damaged: it makes no first claims until %s (Unix %d).",
                _utc(until),
                until,
            )
        self._register.start()
        self._host.serve(RECEIPT_PROTOCOL, self._serve)

    def reconfigure(self, config: WitnessServerConfig) -> None:
        """Let other bounds hold from now on. What is held stays."""
        self._config = config
        self._book.reconfigure(config.book)
        self._register.reconfigure(config.register)
        self._peers.reconfigure(config.per_second, config.burst, config.max_tracked)
        self._prefixes.reconfigure(config.per_second_prefix, config.burst_prefix, config.max_tracked)

    async def close(self) -> None:
        """Serve no more, finish what is being written, and close the file."""
        self._host.stop_serving(RECEIPT_PROTOCOL)
        await self._register.close()
        await self._store.close()

    # Requests

    async def _serve(self, stream: Stream) -> None:
        peer = stream.connection.peer_id
        if self._serving[peer] >= self._config.max_streams_per_peer:
            await self._answer(stream, WitnessRefusal(Why.RATE_LIMITED, retry_after=1))
            return
        self._serving[peer] += 1
        try:
            await self._converse(stream)
        finally:
            self._serving[peer] -= 1
            if not self._serving[peer]:
                del self._serving[peer]

    async def _converse(self, stream: Stream) -> None:
        async with asyncio.timeout(self._config.request_timeout):
            data = await stream.read_frame(MAX_MESSAGE)
            if data is None:
                return
            await stream.connection.wait_identified()
        connection = stream.connection
        limited_prefix = self._host.admission.limited_prefix
        prefix = None if connection.is_limited else limited_prefix(connection.remote_ip)
        if refusal := self._may_not_ask(connection, prefix):
            await self._answer(stream, refusal)
            return
        try:
            request = WitnessRequest.parse(data)
        except RecordRefused as error:
            await self._answer(stream, WitnessRefusal(Why.MALFORMED), error.code)
            return
        async with asyncio.timeout(self._config.request_timeout):
            answer = await self._register.ask(request, Caller(connection.peer_id, prefix))
        await self._answer(stream, answer)

    def _may_not_ask(self, connection: Connection, prefix: str | None) -> WitnessRefusal | None:
        """Why this peer gets no receipts at all, or none now."""
        if connection.is_limited:
            return WitnessRefusal(Why.LIMITED_CIRCUIT)
        said = connection.identification
        if self._network and (said is None or said.network != self._network):
            return WitnessRefusal(Why.WRONG_NETWORK)
        now = self._host.clock.monotonic()
        if not self._peers.take(connection.peer_id, now):
            return WitnessRefusal(Why.RATE_LIMITED, retry_after=_wait(self._config.per_second))
        if prefix is not None and not self._prefixes.take(prefix, now):
            return WitnessRefusal(Why.RATE_LIMITED, retry_after=_wait(self._config.per_second_prefix))
        return None

    async def _answer(self, stream: Stream, answer: WitnessAnswer, reason: str | None = None) -> None:
        """The last word on a stream. Who does not take it, or not end its side, is not waited for long."""
        if isinstance(answer, WitnessRefusal):
            self._host.count_refusal(RECEIPT_PROTOCOL, reason or str(answer.error))
        try:
            async with asyncio.timeout(self._config.request_timeout):
                await stream.write_frame(answer_bytes(answer))
                stream.close_write()
                await stream.read_to_end(MAX_MESSAGE)
        except (WwsError, TimeoutError):
            stream.reset()


def _utc(unix: int) -> str:
    try:
        return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):  # no date: somebody has written into the file
        return "a time without a date"


def _wait(per_second: float) -> int:
    """Whole seconds until there is a token again."""
    return max(1, round(1 / per_second)) if per_second > 0 else 60
