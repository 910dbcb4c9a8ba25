"""What a node answers about those who may call it: agents that sign, and tokens. Part of `wws.rpc.api`.

All times are Unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AgentRegistered:
    """The agent may sign requests to this node until then."""

    registered: bool
    expires_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A secret that lets a local program call some methods. The secret itself is not kept."""

    id: str
    label: str
    methods: tuple[str, ...]
    rate: int
    """Calls a minute."""
    created_at: int
    expires_at: int
    last_used: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCreated:
    """A new token, and the only time that its secret is shown."""

    token: Token
    secret: str
    """What its holder sends as the member `token` beside `method`."""


@dataclass(frozen=True, slots=True)
class TokenRevoked:
    """The token no longer opens anything."""

    id: str
    revoked: bool
    """False when there was none of this id."""
