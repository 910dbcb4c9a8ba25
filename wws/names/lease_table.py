"""The states of a lease, and which events it takes in each of them."""

from __future__ import annotations

import enum

from wws.machine import Event
from wws.names.events import (
    Accept,
    AddressesChanged,
    Claim,
    LookedUp,
    LookUpFailed,
    ProofSolved,
    Release,
    Renew,
    Stored,
    StoreFailed,
    TimerFired,
    Transfer,
    WitnessesAnswered,
    WitnessesChanged,
)


class State(enum.Enum):
    """Where a lease stands."""

    IDLE = "idle"
    LOOKING = "looking"
    SOLVING = "solving"
    ASKING = "asking"
    STORING = "storing"
    CONFIRMING = "confirming"
    HELD = "held"
    WAITING = "waiting"
    RELEASING = "releasing"
    RELEASED = "released"
    TAKEN = "taken"
    LOST = "lost"
    TRANSFERRED = "transferred"


UNDER_WAY = frozenset({State.LOOKING, State.SOLVING, State.ASKING, State.STORING, State.CONFIRMING})
"""An answer is awaited, and the name is to be ours in the end (or, in ASKING, given back)."""

ACCEPTED: dict[type[Event], frozenset[State]] = {
    Claim: frozenset(State),
    Renew: UNDER_WAY | {State.HELD, State.WAITING, State.RELEASING},
    Release: frozenset(State) - {State.TAKEN, State.LOST, State.TRANSFERRED},
    Transfer: frozenset(State),
    Accept: frozenset(State),
    AddressesChanged: frozenset(State),
    WitnessesChanged: frozenset(State),
    TimerFired: frozenset(State),
    LookedUp: frozenset({State.LOOKING, State.CONFIRMING}),
    LookUpFailed: frozenset({State.LOOKING, State.CONFIRMING}),
    ProofSolved: frozenset({State.SOLVING}),
    WitnessesAnswered: frozenset({State.ASKING}),
    Stored: frozenset({State.STORING, State.RELEASING}),
    StoreFailed: frozenset({State.STORING, State.RELEASING}),
}
"""In which states an event may come; anywhere else it is a `LocalProtocolError` and nothing changes.

A `Transfer` of what is not held, a second one to another key, and an `Accept` of what is not offered to us or
is ours already are refused with an error that says so; they change nothing either.
"""

ANSWERS = (LookedUp, LookUpFailed, ProofSolved, WitnessesAnswered, Stored, StoreFailed)
"""What drivers owe: each answers one command."""
