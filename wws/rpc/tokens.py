"""Tokens: scoped access for local programs (contract, section 2: `wws token`).

A token opens the methods it was made for, at its own rate, until it expires or is revoked. Its secret is
shown once; the book keeps its SHA-256. A token never opens what only the socket opens, and no token makes
tokens. Methods given by a preset are those of today: a later version's methods are not opened by it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from wws.codec import base64
from wws.codec.canonical import JsonObject, JsonValue
from wws.errors import WwsError
from wws.rpc.api import Token, TokenCreated, TokenRevoked
from wws.rpc.params import InvalidParams
from wws.rpc.policy import Policy, Role

PREFIX: Final = "wwst_"
"""Begins every secret, so that scanners for leaked secrets can know one."""
SECRET_BYTES: Final = 32
ID_BYTES: Final = 6
_ID: Final = re.compile(r"[0-9a-f]{12}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")

PRESETS: Final[Mapping[str, tuple[str, ...]]] = {
    "read": (
        "swarm.get_status",
        "swarm.get_network_stats",
        "swarm.get_identity",
        "swarm.peers",
        "swarm.ping",
        "swarm.resolve_name",
        "swarm.my_names",
        "swarm.equivocations",
        "swarm.bans",
        "rpc.discover",
    ),
    "names": (
        "swarm.get_status",
        "swarm.resolve_name",
        "swarm.my_names",
        "swarm.register_name",
        "swarm.renew_name",
        "swarm.release_name",
        "rpc.discover",
    ),
    "agents": ("swarm.get_status", "swarm.register_agent", "rpc.discover"),
}
"""Words for sets of methods. Giving a name away is in none of them: it must be listed by name."""


@dataclass(frozen=True, slots=True)
class TokensConfig:
    """Bounds of the book of tokens."""

    max_tokens: int = 64
    """Tokens at a time."""


class TokenExpired(WwsError):
    """The token was good once; its time is over."""

    code = "token_expired"
    hint = "Make another: wws token create"


class TooManyTokens(WwsError):
    """There are as many tokens as may be."""

    code = "too_many_tokens"
    hint = "wws token list shows them, wws token revoke ID removes one."


@dataclass(frozen=True, slots=True)
class _Kept:
    """A token as it is kept: what is shown of it, and the digest of its secret."""

    token: Token
    digest: bytes


class TokenBook:
    """The tokens of one node. `version` grows with each change that must not be lost."""

    def __init__(self, config: TokensConfig) -> None:
        self._config = config
        self._tokens: dict[str, _Kept] = {}
        self.version = 0

    def create(
        self,
        label: str,
        methods: Sequence[str],
        rate: int,
        expires_in: int,
        *,
        table: Mapping[str, Policy],
        entropy: bytes,
        unix_now: int,
    ) -> TokenCreated:
        """A new token. `entropy` is `ID_BYTES + SECRET_BYTES` random bytes, `table` what each method allows.

        Raises `InvalidParams` for methods that do not exist or that no token may open, `TooManyTokens`.
        """
        opened = _expanded(methods, table)
        self._tokens = {
            token_id: kept for token_id, kept in self._tokens.items() if not _is_over(kept.token, unix_now)
        }
        token_id, secret = entropy[:ID_BYTES].hex(), PREFIX + base64.encode_url(entropy[ID_BYTES:])
        if len(self._tokens) >= self._config.max_tokens:
            raise TooManyTokens(f"{len(self._tokens)} tokens exist, which is as many as may be")
        token = Token(
            id=token_id,
            label=label,
            methods=opened,
            rate=rate,
            created_at=unix_now,
            expires_at=unix_now + expires_in,
        )
        self._tokens[token_id] = _Kept(token, _digest(secret))
        self.version += 1
        return TokenCreated(token=token, secret=secret)

    def shown(self) -> tuple[Token, ...]:
        """All of them, also those whose time is over; never a secret."""
        return tuple(kept.token for kept in self._tokens.values())

    def revoke(self, token_id: str) -> TokenRevoked:
        """From now on the token opens nothing."""
        revoked = self._tokens.pop(token_id, None) is not None
        self.version += revoked
        return TokenRevoked(token_id, revoked)

    def find(self, shown: str, unix_now: int) -> Token | None:
        """The token whose secret was shown, None when there is none. Raises `TokenExpired`.

        Every digest is compared, each in constant time.
        """
        found = self._find(shown)
        if found is not None and _is_over(found.token, unix_now):
            raise TokenExpired(f"the token {found.token.id} has expired")
        return None if found is None else found.token

    def knows(self, shown: str) -> bool:
        """Whether this is the secret of a token, its time over or not."""
        return self._find(shown) is not None

    def _find(self, shown: str) -> _Kept | None:
        digest = _digest(shown)
        found: _Kept | None = None
        for kept in self._tokens.values():
            if hmac.compare_digest(kept.digest, digest):
                found = kept
        return found

    def used(self, token_id: str, unix_now: int) -> None:
        """Note that the token was used now."""
        kept = self._tokens.get(token_id)
        if kept is not None and kept.token.last_used != unix_now:
            self._tokens[token_id] = replace(kept, token=replace(kept.token, last_used=unix_now))

    def to_json(self) -> list[JsonValue]:
        return [_to_json(kept) for kept in self._tokens.values()]

    def load(self, value: JsonValue) -> None:
        """What `to_json` gave. Entries that are none are left out: they open nothing."""
        for entry in value if isinstance(value, list) else []:
            kept = _from_json(entry)
            if kept is not None and len(self._tokens) < self._config.max_tokens:
                self._tokens[kept.token.id] = kept


def _expanded(methods: Sequence[str], table: Mapping[str, Policy]) -> tuple[str, ...]:
    """The methods, presets replaced by theirs, in the order of the table."""
    wanted: set[str] = set()
    for word in methods:
        wanted.update(PRESETS.get(word, (word,)))
    for method in sorted(wanted):
        policy = table.get(method)
        if policy is None:
            known = ", ".join(PRESETS)
            raise InvalidParams(f"there is no method {method[:64]!r}; beside methods there are: {known}")
        if Role.TOKEN not in policy.who:
            raise InvalidParams(f"no token may open {method}")
    return tuple(method for method in table if method in wanted)


def _is_over(token: Token, unix_now: int) -> bool:
    return unix_now >= token.expires_at


def _digest(secret: str) -> bytes:
    # What was shown may hold a lone surrogate: it is no secret of ours, and must not raise.
    return hashlib.sha256(secret.encode(errors="replace")).digest()


def _to_json(kept: _Kept) -> JsonObject:
    token = kept.token
    return {
        "id": token.id,
        "label": token.label,
        "methods": [*token.methods],
        "rate": token.rate,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "last_used": token.last_used,
        "sha256": kept.digest.hex(),
    }


def _from_json(value: JsonValue) -> _Kept | None:
    match value:
        case {
            "id": str(token_id),
            "label": str(label),
            "methods": [*methods],
            "rate": int(rate),
            "created_at": int(created_at),
            "expires_at": int(expires_at),
            "last_used": int() | None as last_used,
            "sha256": str(digest),
        } if _ID.fullmatch(token_id) and _DIGEST.fullmatch(digest) and rate > 0:
            token = Token(
                id=token_id,
                label=label,
                methods=tuple(method for method in methods if isinstance(method, str)),
                rate=rate,
                created_at=created_at,
                expires_at=expires_at,
                last_used=last_used,
            )
            return _Kept(token, bytes.fromhex(digest))
        case _:
            return None
