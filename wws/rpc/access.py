"""Who may call: the one place that decides.

A caller is known by how it came and what it shows; what it may do stands in the table of methods.

    on the unix socket     this user, by the word of the kernel
    with `token`           this user, by the cookie; or a program with a token of its own
    with `signature`       a registered agent, a newcomer that registers, or this node's own key
    with both              nobody: which one is meant is not for us to guess

    identify ─► permit: may that kind call this method? ─► tier? ─► rates

Nothing else in the server knows who anybody is. No I/O: books are saved by who drives this, whenever
`version` has grown.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from wws.codec.canonical import JsonObject, JsonValue
from wws.errors import WwsError
from wws.identity.peer_id import PeerId
from wws.rpc.agents import AgentBook, AgentsConfig, AgentUnknown, key_of
from wws.rpc.api import AgentRegistered, Json, Token, TokenCreated, TokenRevoked
from wws.rpc.limits import Limits, LimitsConfig
from wws.rpc.new_names import NewNames
from wws.rpc.policy import NEW_NAME_RATE, OWNER, Counted, Policy, Rate, Role
from wws.rpc.serving import Principal
from wws.rpc.signed import Signed, SignedConfig, SignedRequests, TwoCredentials
from wws.rpc.tokens import ID_BYTES, SECRET_BYTES, TokenBook, TokensConfig
from wws.rpc.turns import Standing
from wws.rpc.wire import Request

_TOKEN: Final = re.compile(rb'"token"[ \t]{0,8}:[ \t]{0,8}"([^"\\]{1,256})"')
_MOST_TOKENS: Final = 100
"""As many as there may be calls in a batch."""
SEARCHED: Final = 4096
"""Bytes at each end of a line in which a token is looked for."""
REGISTER: Final = "swarm.register_agent"


class Unauthorised(WwsError):
    """The caller has not shown that it may call this node."""

    code = "unauthorised"
    hint = "Use the unix socket, or send the content of rpc.cookie as the member `token`."


class NotAllowed(WwsError):
    """The caller is known, but this method is not open to it."""

    code = "not_allowed"


class TierTooLow(NotAllowed):
    """The method asks for a tier of callers that this one is not known to have."""

    code = "tier_too_low"


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a connection comes from."""

    user_id: int | None
    """The user at the other end of the unix socket; None on TCP."""

    @property
    def on_socket(self) -> bool:
        return self.user_id is not None


@dataclass(frozen=True, slots=True)
class Granted:
    """A call that may go on."""

    caller: Principal
    params: Json
    """What the method gets: without `node`, which a signed request may carry."""


@dataclass(frozen=True, slots=True)
class AccessConfig:
    """The bounds and rates of everybody who may call."""

    signed: SignedConfig = field(default_factory=SignedConfig)
    agents: AgentsConfig = field(default_factory=AgentsConfig)
    tokens: TokensConfig = field(default_factory=TokensConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    new_names: Rate = NEW_NAME_RATE


class Access:
    """Decides for each connection and each call of one node, whose PeerId is `node`.

    `own_user` is the user this node runs as; `cookie` the secret in `rpc.cookie`, None without TCP; `table`
    what the methods say of callers; `started_ms` the Unix time of the start. `random_bytes` gives secrets.
    """

    def __init__(
        self,
        own_user: int,
        cookie: str | None,
        *,
        node: PeerId,
        table: Mapping[str, Policy],
        started_ms: int,
        random_bytes: Callable[[int], bytes],
        swarm: str = "public",
        config: AccessConfig | None = None,
    ) -> None:
        config = config or AccessConfig()
        self._own_user = own_user
        self._cookie = cookie
        self._node = node
        self._table = table
        self._random_bytes = random_bytes
        self._config = config
        self._agents = AgentBook(config.agents, swarm)
        self._tokens = TokenBook(config.tokens)
        self._limits = Limits(config.limits)
        self._signed = SignedRequests(config.signed, str(node), started_ms)
        self.new_names = NewNames(swarm, config.new_names)

    # Judging

    def judge_connection(self, caller: Caller) -> None:
        """Raises `Unauthorised` for another user's process on the unix socket."""
        if caller.on_socket and caller.user_id != self._own_user:
            raise Unauthorised(
                f"this node belongs to user {self._own_user}, the caller is user {caller.user_id}",
                hint="Run the command as the user that the node runs as.",
            )

    def identify(self, caller: Caller, request: Request, *, unix_ms: int) -> Granted:
        """Who calls. A signed request is used up by this.

        Raises `Unauthorised`, `TokenExpired`, `AgentUnknown`, and what `SignedRequests.check` raises.
        """
        self.judge_connection(caller)
        principal, params = self._identify(caller, request, unix_ms)
        return Granted(principal, params)

    def permit(self, principal: Principal, method: str, policy: Policy, *, now: float, unix_ms: int) -> None:
        """Raises `NotAllowed` or `RateLimited` unless it may call the method, and now."""
        _permit(principal, method, policy)
        self._limits.take(self._rates(principal, method, policy), now)
        if principal.token is not None:
            self._tokens.used(principal.token.id, unix_ms // 1000)

    def shown_in(self, line: bytes) -> Standing:
        """Whether a line seems to bring the cookie or a token, before it is parsed: enough to read it.

        Only its ends are looked at, where the short members of a call stand: strangers choose what is
        searched.
        """
        if len(line) > 2 * SEARCHED:
            line = line[:SEARCHED] + b"\n" + line[-SEARCHED:]
        shown = [match[1].decode("ascii", "replace") for match in islice(_TOKEN.finditer(line), _MOST_TOKENS)]
        if any(self._cookie is not None and _same(self._cookie, text) for text in shown):
            return Standing.OWNER
        return Standing.PROGRAM if any(map(self._tokens.knows, shown)) else Standing.STRANGER

    def _identify(self, caller: Caller, request: Request, unix_ms: int) -> tuple[Principal, Json]:
        if request.signed is not None:
            if request.token is not None:
                raise TwoCredentials("a request has either a token or a signature")
            return self._signer(request, request.signed, unix_ms)
        if caller.on_socket:
            return Principal(Role.SOCKET, "owner"), request.params
        if request.token is None:
            raise Unauthorised("no valid token")
        if self._cookie is not None and _same(self._cookie, request.token):
            return Principal(Role.COOKIE, "owner by cookie"), request.params
        token = self._tokens.find(request.token, unix_ms // 1000)
        if token is None:
            raise Unauthorised(
                "the token is not known: it was revoked, has expired, or was never one",
                hint="Ask the node's owner for a new one: wws token create",
            )
        return Principal(Role.TOKEN, f"token:{token.id}", token=token), request.params

    def _signer(self, request: Request, signed: Signed, unix_ms: int) -> tuple[Principal, Json]:
        did = signed.agent_id
        agent = self._agents.find(did, unix_ms // 1000)
        if did == self._node.did:
            role, key = Role.NODE, self._node.public_key
        elif agent is not None:
            role, key = Role.AGENT, agent.public_key
        elif request.method == REGISTER:
            role, key = Role.NEWCOMER, _key_it_brings(request, did)
        else:
            raise AgentUnknown(f"{did} is not registered here")
        params = self._signed.check(signed, request.method, request.params, key, unix_ms=unix_ms)
        if role is not Role.NEWCOMER:  # that one is remembered once it is registered: those are bounded
            self._signed.remember(signed)
        return Principal(role, did, signed=signed), params

    def _rates(self, principal: Principal, method: str, policy: Policy) -> list[tuple[str, Rate]]:
        limits = self._config.limits
        match principal.role:
            case Role.TOKEN if principal.token is not None:
                general = Rate(principal.token.rate, 60.0)
            case Role.AGENT:
                general = limits.agent
            case Role.NEWCOMER:
                return [("newcomers", limits.newcomers)]
            case _:
                return [("owner", limits.owner)]
        rates = [(principal.id, general)]
        if policy.rate is not None and policy.rate.counted is Counted.CALLS:
            rates.append((f"{principal.id} {method}", policy.rate))
        return rates

    # What the methods about callers do: see `AccessApi`

    def register_agent(
        self, agent_id: str, public_key: str, work: int, *, swarm_size: int, caller: Principal, unix_ms: int
    ) -> AgentRegistered:
        """Let an agent sign requests to this node; one that signs may register itself alone."""
        if agent_id == self._node.did:
            raise NotAllowed("this node's own identity needs no registration")
        if caller.role in Role.AGENT | Role.NEWCOMER and caller.id != agent_id:
            raise NotAllowed("an agent registers itself; others are registered by the owner or with a token")
        agent = self._agents.register(
            agent_id,
            public_key,
            work,
            swarm_size=swarm_size,
            vouched=caller.signed is None or caller.role is Role.NODE,
            token=None if caller.token is None else caller.token.id,
            unix_now=unix_ms // 1000,
        )
        if caller.role is Role.NEWCOMER and caller.signed is not None:
            self._signed.remember(caller.signed)
        return AgentRegistered(registered=True, expires_at=agent.expires_at)

    def create_token(
        self, label: str, methods: Sequence[str], rate: int, expires_in: int, *, unix_ms: int
    ) -> TokenCreated:
        """A new token; this is the only time that its secret is shown."""
        return self._tokens.create(
            label,
            methods,
            rate,
            expires_in,
            table=self._table,
            entropy=self._random_bytes(ID_BYTES + SECRET_BYTES),
            unix_now=unix_ms // 1000,
        )

    def list_tokens(self) -> Sequence[Token]:
        """All tokens, without their secrets."""
        return self._tokens.shown()

    def revoke_token(self, token_id: str) -> TokenRevoked:
        """From now on the token opens nothing."""
        return self._tokens.revoke(token_id)

    # What is kept over a restart

    @property
    def version(self) -> int:
        """Grows with each change that must be on disk before the call that made it is answered."""
        books = (self._agents, self._tokens, self._signed, self.new_names)
        return sum(book.version for book in books)

    def settle(self) -> None:
        """Nothing is judged any more: what is kept may be exact."""
        self._signed.settle()

    def tokens_to_json(self) -> JsonObject:
        """The tokens, for their file."""
        return {"tokens": self._tokens.to_json()}

    def books_to_json(self) -> JsonObject:
        """Everything else, for its file."""
        return {
            "agents": self._agents.to_json(),
            "new_names": self.new_names.to_json(),
            "latest": self._signed.to_json(),
        }

    def load(self, tokens: Mapping[str, JsonValue], books: Mapping[str, JsonValue]) -> None:
        """What the two gave before the restart; done once, before the first call."""
        self._tokens.load(tokens.get("tokens"))
        self._agents.load(books.get("agents"))
        self.new_names.load(books.get("new_names"))
        self._signed.load(books.get("latest"))


def _permit(principal: Principal, method: str, policy: Policy) -> None:
    if principal.role not in policy.who:
        if policy.who in OWNER and policy.who == Role.SOCKET:
            raise NotAllowed(f"{method} is open on the unix socket only")
        raise NotAllowed(f"{method} is not open to this caller")
    if principal.token is not None and method not in principal.token.methods:
        raise NotAllowed(f"this token does not open {method}")
    if policy.tier is not None and (principal.tier is None or principal.tier < policy.tier):
        raise TierTooLow(f"{method} is for the tier {policy.tier.name.lower()} and above")


def _key_it_brings(request: Request, did: str) -> bytes:
    """The key in the params of a registration. Raises `InvalidParams` unless it is the signer's."""
    params = request.params if isinstance(request.params, dict) else {}
    key = params.get("public_key")
    if not isinstance(key, str):
        raise AgentUnknown(f"{did} is not registered here, and brings no key")
    return key_of(did, key)


def _same(secret: str, shown: str) -> bool:
    """Compared in constant time; a lone surrogate in what was shown must not raise."""
    return hmac.compare_digest(secret.encode(), shown.encode(errors="replace"))
