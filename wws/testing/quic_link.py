"""Two QUIC machines and the path between them, on simulated time: latency, loss, and a NAT that forgets.

::

    link = QuicLink.between("alice", "bob")
    link.run_until(lambda: link.alice.phase is Phase.ESTABLISHED)
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from wws.errors import RemoteProtocolError
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.transport.muxed import ConnectionEvent, DataReceived, Phase
from wws.transport.quic.config import DEFAULT_CONFIG, QuicConfig
from wws.transport.quic.endpoint import ResetTokens
from wws.transport.quic.engine import Address, Credentials
from wws.transport.quic.machine import QuicMachine
from wws.transport.tls import make_certificate

UNIX_START = 1_760_000_000.0
"""What the wall clock says when the simulated clock says 0."""
ALICE_AT: Address = ("192.0.2.1", 1001)
BOB_AT: Address = ("192.0.2.2", 1002)


def credentials_of(label: str) -> Credentials:
    """A certificate of the identity with this label."""
    return Credentials(*make_certificate(Identity.from_label(label), UNIX_START))


TOKENS = ResetTokens(b"of both")
_TICK = 1e-6
"""Seconds between two looks at least: a timer of aioquic may be due a rounding error before it acts."""


@dataclass
class QuicLink:
    """`alice` dials `bob`, who exists once her first datagram arrives."""

    alice: QuicMachine
    bob_credentials: Credentials
    bob_config: QuicConfig = DEFAULT_CONFIG
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    latency: float = 0.01
    loss: float = 0.0
    now: float = 0.0
    alice_at: Address = ALICE_AT
    """Where alice seems to be: change it, and a NAT has rebound her."""
    is_consuming: bool = True
    """Whether what arrives is given back at once."""
    tamper: Callable[[bytes], bytes | None] | None = None
    """Changes a datagram on the way, or drops it with `None`."""
    bob: QuicMachine | None = None
    events: dict[str, list[ConnectionEvent]] = field(default_factory=lambda: {"alice": [], "bob": []})
    received: dict[tuple[str, int], bytearray] = field(default_factory=dict)
    """What has arrived on every stream, by who received it."""
    errors: dict[str, RemoteProtocolError] = field(default_factory=dict)
    carried: dict[str, int] = field(default_factory=lambda: {"alice": 0, "bob": 0})
    """Bytes of datagrams that each of them sent."""
    _on_the_way: list[tuple[float, int, str, bytes, Address]] = field(default_factory=list)
    _sent: int = 0

    @classmethod
    def between(
        cls,
        alice: str = "alice",
        bob: str = "bob",
        *,
        expected: PeerId | None = None,
        alice_config: QuicConfig = DEFAULT_CONFIG,
        bob_config: QuicConfig = DEFAULT_CONFIG,
    ) -> QuicLink:
        """A link whose dialler has sent nothing yet. `expected` is bob unless given."""
        machine = QuicMachine(
            is_initiator=True,
            credentials=credentials_of(alice),
            expected_peer=expected or Identity.from_label(bob).peer_id,
            config=alice_config,
            now=0.0,
            unix_now=UNIX_START,
            token_of=TOKENS.of,
        )
        machine.connect(BOB_AT, 0.0)
        return cls(machine, credentials_of(bob), bob_config)

    @classmethod
    def established(
        cls, *, alice_config: QuicConfig = DEFAULT_CONFIG, bob_config: QuicConfig = DEFAULT_CONFIG
    ) -> QuicLink:
        """A link on which the handshake is complete and confirmed."""
        link = cls.between(alice_config=alice_config, bob_config=bob_config)
        link.run_until(lambda: link.both is not None and link.alice.phase is Phase.ESTABLISHED)
        link.run(1.0)
        return link

    @property
    def both(self) -> tuple[QuicMachine, QuicMachine] | None:
        """Alice and bob once both are established."""
        bob = self.bob
        return (self.alice, bob) if bob is not None and bob.phase is Phase.ESTABLISHED else None

    def answering(self) -> QuicMachine:
        """Bob's machine. Only to be called once a datagram has reached him."""
        assert self.bob is not None
        return self.bob

    def run(self, seconds: float) -> None:
        """Let this much time pass."""
        self._run_to(self.now + seconds, lambda: False)

    def run_until(self, condition: Callable[[], bool], *, within: float = 60.0) -> None:
        """Let time pass until `condition` holds. Raises AssertionError when it does not in time."""
        self._run_to(self.now + within, condition)
        assert condition(), f"not within {within:g} simulated seconds"

    def taken(self, who: str, stream_id: int) -> bytes:
        """What `who` has received on a stream so far."""
        return bytes(self.received.get((who, stream_id), b""))

    def _run_to(self, end: float, condition: Callable[[], bool]) -> None:
        self._flush()
        while not condition():
            due = [at for machine in self._machines().values() if (at := machine.next_wakeup()) is not None]
            if self._on_the_way:
                due.append(self._on_the_way[0][0])
            if not due or min(due) > end:
                self.now = end
                return
            self.now = max(self.now + _TICK, min(due))
            while self._on_the_way and self._on_the_way[0][0] <= self.now:
                _, _, receiver, data, origin = heapq.heappop(self._on_the_way)
                self._deliver(receiver, data, origin)
            for name, machine in self._machines().items():
                at_machine = machine.next_wakeup()
                if at_machine is not None and at_machine <= self.now:
                    self._do(name, machine.handle_timer, self.now)
            self._flush()

    def _machines(self) -> dict[str, QuicMachine]:
        return {"alice": self.alice} if self.bob is None else {"alice": self.alice, "bob": self.bob}

    def _deliver(self, receiver: str, data: bytes, origin: Address) -> None:
        if receiver == "alice":
            self._do("alice", self.alice.receive_datagrams, [(data, origin)], self.now)
            return
        if self.bob is None:
            self.bob = QuicMachine(
                is_initiator=False,
                credentials=self.bob_credentials,
                config=self.bob_config,
                now=self.now,
                unix_now=UNIX_START + self.now,
                token_of=TOKENS.of,
                original_id=data[6 : 6 + data[5]],
            )
        self._do("bob", self.bob.receive_datagrams, [(data, origin)], self.now)

    def _do(self, name: str, call: Callable[..., list[ConnectionEvent]], *args: object) -> None:
        try:
            events = call(*args)
        except RemoteProtocolError as error:
            self.errors[name] = error
            return
        self.events[name] += events
        for event in events:
            if isinstance(event, DataReceived):
                self.received.setdefault((name, event.stream_id), bytearray()).extend(event.data)
                if self.is_consuming:
                    self._machines()[name].consumed(event.stream_id, len(event.data), self.now)

    def _flush(self) -> None:
        for name, machine in self._machines().items():
            for data, target in machine.datagrams_to_send(self.now):
                self.carried[name] += len(data)
                changed = self.tamper(data) if self.tamper is not None else data
                if changed is None or self.rng.random() < self.loss:
                    continue
                if name == "bob" and target != self.alice_at:
                    continue  # an address that is not alice's any more
                self._sent += 1
                receiver, origin = ("bob", self.alice_at) if name == "alice" else ("alice", BOB_AT)
                heapq.heappush(
                    self._on_the_way, (self.now + self.latency, self._sent, receiver, changed, origin)
                )
