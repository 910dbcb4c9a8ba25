"""The agents that may sign requests to this node (contract, section 6: `swarm.register_agent`).

An agent is known by its DID and its key. It registers with a proof of work, the context `agent:<swarm>` and
bits by the schedule on half the estimated size of the swarm (wire.md section 6), at most once an hour; it is
known for a day and renews by registering again. The proof is a speed bump; what holds is that the book is
bounded, that strangers can fill only a part of it, and that an agent may read and nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from wws.codec.canonical import JsonObject, JsonValue
from wws.errors import WwsError
from wws.identity import proof_of_work
from wws.identity.peer_id import PeerId
from wws.rpc.limits import RateLimited
from wws.rpc.params import InvalidParams
from wws.rpc.policy import REGISTRATION_RATE, Rate

_KEY: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class AgentsConfig:
    """Bounds of the book of agents."""

    max_agents: int = 256
    """Agents registered at a time; over it new ones are refused."""
    for_owner: int = 16
    """Places of these that only the owner gives."""
    by_one_token: int = 32
    """Agents that one token has registered, at a time."""
    lifetime: int = 86_400
    """Seconds that a registration holds."""
    rate: Rate = REGISTRATION_RATE
    """How often one agent may register."""
    newcomers: Rate = field(default=Rate(8, 3600.0))
    """New agents that nobody here vouched for, all together: in a day they do not fill the book."""


class AgentUnknown(WwsError):
    """No agent of this DID is registered here, or its registration has lapsed."""

    code = "agent_unknown"
    hint = "Call swarm.register_agent first, and again every day."


class WorkTooWeak(WwsError):
    """The proof of work has too few bits for the size of the swarm."""

    code = "work_too_weak"

    def __init__(self, required_bits: int) -> None:
        super().__init__(f"the proof of work must have {required_bits} bits")
        self.details = {"required_bits": required_bits}


class TooManyAgents(WwsError):
    """As many agents are registered as may be."""

    code = "too_many_agents"
    hint = "A registration that is not renewed ends after a day, and its place is free."


@dataclass(frozen=True, slots=True)
class Agent:
    """A registered agent. Times are Unix seconds."""

    did: str
    public_key: bytes
    registered_at: int
    expires_at: int
    vouched: bool
    """Whether it was registered by the owner or with a token."""
    token: str | None = None
    """The id of the token that it was first registered with."""


def key_of(agent_id: str, public_key: str) -> bytes:
    """The key in hex as bytes. Raises `InvalidParams` unless `agent_id` is its DID."""
    if not _KEY.fullmatch(public_key):
        raise InvalidParams("public_key must be 64 lower-case hex digits")
    key = bytes.fromhex(public_key)
    if PeerId(key).did != agent_id:
        raise InvalidParams("agent_id is not the DID of public_key")
    return key


class AgentBook:
    """Who is registered. `version` grows with each change that must not be lost."""

    def __init__(self, config: AgentsConfig, swarm: str) -> None:
        self._config = config
        self._context = f"agent:{swarm}"
        self._agents: dict[str, Agent] = {}
        self.version = 0

    def __len__(self) -> int:
        return len(self._agents)

    def find(self, did: str, unix_now: int) -> Agent | None:
        """The agent, while its registration holds."""
        agent = self._agents.get(did)
        return agent if agent is not None and unix_now < agent.expires_at else None

    def register(
        self,
        agent_id: str,
        public_key: str,
        work: int,
        *,
        swarm_size: int,
        vouched: bool,
        unix_now: int,
        token: str | None = None,
    ) -> Agent:
        """Register or renew. `vouched`: by the owner, or with the token of this id.

        Raises `InvalidParams`, `WorkTooWeak`, `RateLimited`, `TooManyAgents`; refused attempts do not count
        against the rate.
        """
        key = key_of(agent_id, public_key)
        bits = proof_of_work.bits_for(swarm_size // 2)
        if not proof_of_work.verify(self._context, agent_id, work, bits):
            raise WorkTooWeak(bits)
        self._forget_old(unix_now)
        before = self._agents.get(agent_id)
        if before is not None:
            self._check_rate(before, unix_now)
        else:
            self._check_room(vouched, token)
            if not vouched:
                self._check_newcomers(unix_now)
        agent = Agent(
            did=agent_id,
            public_key=key,
            registered_at=unix_now,
            expires_at=unix_now + self._config.lifetime,
            vouched=vouched or (before is not None and before.vouched),
            token=token if before is None else before.token,
        )
        self._agents[agent_id] = agent
        self.version += 1
        return agent

    def to_json(self) -> list[JsonValue]:
        return [_to_json(agent) for agent in self._agents.values()]

    def load(self, value: JsonValue) -> None:
        """What `to_json` gave. Entries that are none are left out: who is missing registers again."""
        for entry in value if isinstance(value, list) else []:
            agent = _from_json(entry)
            if agent is not None and len(self._agents) < self._config.max_agents:
                self._agents[agent.did] = agent

    def _check_room(self, vouched: bool, token: str | None) -> None:
        is_owner = vouched and token is None
        places = self._config.max_agents - (0 if is_owner else self._config.for_owner)
        if len(self._agents) >= places:
            raise TooManyAgents(f"{len(self._agents)} agents are registered, which is as many as may be")
        theirs = sum(agent.token == token for agent in self._agents.values()) if token is not None else 0
        if theirs >= self._config.by_one_token:
            raise TooManyAgents(f"this token has registered {theirs} agents, which is as many as one may")

    def _check_rate(self, before: Agent, unix_now: int) -> None:
        # A clock that was set back does not lock anybody out for longer than the rate itself.
        wait = min(before.registered_at, unix_now) + self._config.rate.per - unix_now
        if wait > 0:
            raise RateLimited(f"more than {self._config.rate}", wait)

    def _check_newcomers(self, unix_now: int) -> None:
        rate = self._config.newcomers
        lately = sorted(
            min(agent.registered_at, unix_now)
            for agent in self._agents.values()
            if not agent.vouched and min(agent.registered_at, unix_now) + rate.per > unix_now
        )
        if len(lately) >= rate.times:
            raise RateLimited("too many new agents that nobody vouched for", lately[0] + rate.per - unix_now)

    def _forget_old(self, unix_now: int) -> None:
        self._agents = {did: agent for did, agent in self._agents.items() if unix_now < agent.expires_at}


def _to_json(agent: Agent) -> JsonObject:
    return {
        "public_key": agent.public_key.hex(),
        "registered_at": agent.registered_at,
        "expires_at": agent.expires_at,
        "vouched": agent.vouched,
        "token": agent.token,
    }


def _from_json(value: JsonValue) -> Agent | None:
    match value:
        case {
            "public_key": str(key),
            "registered_at": int(registered_at),
            "expires_at": int(expires_at),
            "vouched": bool(vouched),
            **more,
        } if _KEY.fullmatch(key):
            public_key, token = bytes.fromhex(key), more.get("token")
            did = PeerId(public_key).did
            by = token if isinstance(token, str) else None
            return Agent(did, public_key, registered_at, expires_at, vouched, by)
        case _:
            return None
