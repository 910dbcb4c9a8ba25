"""The way of a connection through a relay: where it goes, what the relay allows, and how much is used up."""

from __future__ import annotations

from dataclasses import dataclass, field

from wws.addresses.multiaddr import Multiaddr
from wws.identity.peer_id import PeerId
from wws.runtime.streams import StreamReset


class CircuitLimitReached(StreamReset):
    """The circuit reached the relay's limit. What needs more goes over a direct connection, or in parts."""

    code = "relay_limit"


@dataclass(slots=True)
class CircuitUse:
    """What has gone over a circuit so far, as counted at our end."""

    since: float = 0.0
    """When it was opened, in monotonic seconds."""
    sent: int = 0
    received: int = 0


@dataclass(frozen=True, slots=True)
class Circuit:
    """The way of a relayed connection."""

    relay: PeerId
    address: Multiaddr
    """Where the relay is, with its PeerId."""
    limit_seconds: float | None = None
    """How long the relay lets the circuit live; `None`: as long as the relay itself."""
    limit_bytes: int | None = None
    """How many bytes it lets through each way; `None`: any number."""
    is_limited: bool = True
    """Whether the relay has spoken of a limit at all, whatever numbers it gave."""
    use: CircuitUse = field(default_factory=CircuitUse, compare=False)

    @property
    def bytes_left(self) -> int | None:
        """How many may still go the way on which more have gone; `None`: any number."""
        if self.limit_bytes is None:
            return None
        return max(0, self.limit_bytes - max(self.use.sent, self.use.received))

    def seconds_left(self, now: float) -> float | None:
        """How long the relay still carries this; `None`: as long as it lives."""
        if self.limit_seconds is None:
            return None
        return max(0.0, self.limit_seconds - (now - self.use.since))
