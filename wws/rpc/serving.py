"""What a row of the method table works with: the node, the books of those who may call, and who calls now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from wws.rpc.api import AgentRegistered, NodeApi, Token, TokenCreated, TokenRevoked
from wws.rpc.new_names import NewNames
from wws.rpc.policy import Role, Tier
from wws.rpc.signed import Signed


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller that has shown who it is."""

    role: Role
    id: str
    """Who it is, for the audit log: `owner`, `token:<id>`, an agent's DID."""
    tier: Tier | None = None
    """None: not known, which closes every method that asks for a tier."""
    token: Token | None = None
    """The token, when it came with one."""
    signed: Signed | None = None
    """The signature, when it came with one."""


class AccessApi(Protocol):
    """The books that the methods about callers work on."""

    @property
    def new_names(self) -> NewNames:
        """How many new names there were today."""
        ...

    def register_agent(
        self, agent_id: str, public_key: str, work: int, *, swarm_size: int, caller: Principal, unix_ms: int
    ) -> AgentRegistered:
        """Let an agent sign requests to this node. Raises `work_too_weak`, `rate_limited`, `not_allowed`."""
        ...

    def create_token(
        self, label: str, methods: Sequence[str], rate: int, expires_in: int, *, unix_ms: int
    ) -> TokenCreated:
        """A new token. Raises `invalid_params`, `too_many_tokens`."""
        ...

    def list_tokens(self) -> Sequence[Token]: ...

    def revoke_token(self, token_id: str) -> TokenRevoked: ...


@dataclass(frozen=True, slots=True)
class Serving:
    """One call: by whom, of which node, and when."""

    node: NodeApi
    access: AccessApi
    caller: Principal
    unix_ms: int
    """Unix time in milliseconds, when the call was judged."""

    @property
    def unix_now(self) -> int:
        return self.unix_ms // 1000
