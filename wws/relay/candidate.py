"""One relay as the selection of relays sees it: where it stands, and the slot that it holds for us."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from wws.identity.peer_id import PeerId
from wws.relay.selection_events import Reservation


class State(Enum):
    """Where one relay stands."""

    IDLE = "idle"
    RESERVING = "reserving"
    HELD = "held"
    RENEWING = "renewing"
    LEAVING = "leaving"


@dataclass(slots=True)
class Lease:
    """A slot that a relay has given us."""

    reservation: Reservation
    ends_at: float
    renew_at: float
    is_sound: bool = True
    """False once a renewal has failed: somebody else is to take its place."""


@dataclass(slots=True)
class Candidate:
    """A relay that we know, with or without a slot for us."""

    relay: PeerId
    tie: float
    prefix: str | None = None
    is_entry_point: bool = False
    round_trip: float | None = None
    state: State = State.IDLE
    attempt: int = 0
    asked_at: float = 0.0
    lease: Lease | None = None
    heard_at: float = 0.0
    probed_at: float = 0.0
    answer_by: float | None = None
    leave_by: float | None = None
    """Of a leaving one: until when it is announced while others are sought."""
    is_announced: bool = True
