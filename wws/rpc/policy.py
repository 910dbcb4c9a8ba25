"""What a row of the method table says about callers: who, how often, of which tier, and whether it is noted.

One record a method, read in one place (`wws.rpc.access`), and printed by `rpc.discover` and docs/rpc.md: what
is documented is what is enforced. A method without a word about somebody is closed to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, Flag, IntEnum, auto
from typing import Final


class Role(Flag):
    """How a caller has shown who it is."""

    SOCKET = auto()
    """This user's process on the unix socket: the kernel vouches for it."""
    COOKIE = auto()
    """On TCP with the content of `rpc.cookie`, which this user alone can read."""
    TOKEN = auto()
    """With a token, for the methods it was made for."""
    AGENT = auto()
    """A registered agent, by the signature on its request."""
    NODE = auto()
    """A request that is signed with this node's own key."""
    NEWCOMER = auto()
    """An agent that is not registered, by a signature with the key that it brings."""


OWNER: Final = Role.SOCKET | Role.COOKIE | Role.NODE
"""This user, in each of the ways."""
LOCAL: Final = OWNER | Role.TOKEN
"""This user, and the programs that were given a token for the method."""
READERS: Final = LOCAL | Role.AGENT
"""Everybody who is known here: for what changes nothing."""


class Tier(IntEnum):
    """What kind of member of the swarm a caller is. Nobody's tier is known yet, so a method that asks for one
    is closed to all."""

    AGENT = 1
    BOOTSTRAP = 2


class Counted(Enum):
    """What a rate counts."""

    CALLS = "calls of a token or of an agent"
    """The owner has the general rate alone."""
    REGISTRATIONS = "registrations of an agent"
    NEW_NAMES = "new names of the node"
    """Malformed, refused and already owned ones do not count."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many within so many seconds: a bucket that holds `times` and fills evenly."""

    times: int
    per: float
    counted: Counted = Counted.CALLS

    def __str__(self) -> str:
        return f"{self.times} {_SPANS.get(self.per, f'in {self.per:g} s')} ({self.counted.value})"


_SPANS: Final = {60.0: "a minute", 3600.0: "an hour", 86_400.0: "a day"}

REGISTRATION_RATE: Final = Rate(1, 3600.0, Counted.REGISTRATIONS)
NEW_NAME_RATE: Final = Rate(5, 86_400.0, Counted.NEW_NAMES)


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may call a method, and what comes with it."""

    who: Role
    rate: Rate | None = None
    """On top of the general rate of each caller; None: the general rate alone."""
    tier: Tier | None = None
    """The tier that a caller needs; who has none that is known is refused."""
    audited: bool = False
    """Whether calls that go through are written to the audit log; refused ones always are."""
    about: str | None = None
    """The parameter that the audit log shows: never one that is secret."""


def role_words(who: Role) -> list[str]:
    """The roles as words, for the document."""
    return [role.name.lower() for role in who if role.name is not None]
