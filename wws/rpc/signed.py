"""Requests that an agent signs with its own key (wire.md section 9).

Beside the members of JSON-RPC stand `agent_id`, `timestamp`, `nonce` and `signature`:

    signature = base64(Ed25519(method || JCS(params) || timestamp || nonce))

which is unambiguous because a method is `[a-z]+(.[a-z_]+)+`, params an object (absent: `{}`), a timestamp has
13 digits and a nonce 8 to 64 lower-case hex digits. What the signature does not cover cannot be believed, so
such a request has no further members.

A request is good once. Its nonce is kept until its timestamp and 5 min 1 s have passed by the highest clock
ever seen, and what that clock has passed is too old even if the clock is set back: a nonce is never forgotten
while the request could still be accepted. Windows are bounded; a full one refuses and never evicts. After a
restart the windows are empty, so nothing signed before the start is accepted, nor up to the latest timestamp
that was accepted of the agent before, whatever the clock says now. That one is saved exactly at the end, and
on the way there so far ahead that not every call costs a write: who kills the node and sets its clock back
finds it remembered.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from wws.codec import base64, canonical
from wws.codec.canonical import MAX_DEPTH, MAX_INTEGER, JsonValue
from wws.errors import ParseError, WwsError
from wws.identity.keys import SIGNATURE_LENGTH, verify
from wws.identity.peer_id import PeerId
from wws.rpc.api import Json

_AGENT_ID: Final = re.compile(r"did:swarm:[0-9a-f]{64}")
_METHOD: Final = re.compile(r"[a-z]+(\.[a-z_]+)+")
_NONCE: Final = re.compile(r"[0-9a-f]{8,64}")
_SIGNATURE_TEXT: Final = 88
"""Characters of 64 bytes in base64."""
SIGNED_MEMBERS: Final = frozenset({"agent_id", "timestamp", "nonce", "signature"})
_ALLOWED_BESIDE: Final = frozenset({"jsonrpc", "method", "params", "id"})


@dataclass(frozen=True, slots=True)
class SignedConfig:
    """Bounds of signed requests."""

    tolerance_ms: int = 300_000
    """How far a timestamp may lie from this node's clock."""
    keep_ms: int = 301_000
    """How long after its timestamp a nonce is kept."""
    max_nonces: int = 10_000
    """Nonces kept of one agent; a full window refuses."""
    max_nonces_in_all: int = 50_000
    """Nonces kept of all agents; over it each has `own_share` left. Those of the node's own key never have to
    share."""
    own_share: int = 512
    """Nonces that one agent may always have kept, whatever others do."""
    max_windows: int = 1_024
    """Agents whose nonces are kept at a time."""
    floor_slack_ms: int = 10_000
    """How far ahead a floor is put that is saved while the node runs, so that an agent costs one write in
    that time and not one a call. After a kill its requests are refused for at most as long."""


class Unproven(WwsError):
    """A signed request that does not prove what it says."""

    code = "unauthorised"


class TwoCredentials(Unproven):
    """A request carries a token and a signature: which of them is to be believed is not for us to guess."""

    code = "two_credentials"


class TimestampOff(Unproven):
    """The timestamp is too far from this node's clock, or before what it can remember."""

    code = "timestamp_off"


class NonceSeen(Unproven):
    """The agent has used this nonce already: a replay, or a mistake."""

    code = "nonce_seen"


class NonceWindowFull(WwsError):
    """The agent signs more requests than their nonces can be remembered."""

    code = "nonce_window_full"

    def __init__(self, retry_after_ms: int) -> None:
        seconds = max(1, -(-retry_after_ms // 1000))
        super().__init__(f"too many signed requests are remembered: again in {seconds} s")
        self.details = {"retry_after": seconds}


class NotCanonical(Unproven):
    """What is signed has no canonical form, or is not an object of usual size."""

    code = "not_canonical"


class OtherNode(Unproven):
    """The request was signed for another node."""

    code = "other_node"


class SignatureWrong(Unproven):
    """The signature is not that of the agent over this request."""

    code = "request_signature_wrong"


@dataclass(frozen=True, slots=True)
class Signed:
    """The members beside `method` that make a request a signed one."""

    agent_id: str
    timestamp: int
    nonce: str
    signature: bytes

    @classmethod
    def parse(cls, request: Mapping[str, Json]) -> Signed | None:
        """The signature on a request, None where there is none. Raises `ParseError`."""
        present = SIGNED_MEMBERS & request.keys()
        if not present:
            return None
        if missing := SIGNED_MEMBERS - present:
            raise ParseError(f"a signed request lacks {', '.join(sorted(missing))}")
        # A token is let through here: `Access` says what it thinks of both.
        if unknown := request.keys() - SIGNED_MEMBERS - _ALLOWED_BESIDE - {"token"}:
            raise ParseError(f"a signed request has unknown members: {', '.join(sorted(unknown))[:80]!r}")
        agent_id, timestamp = request["agent_id"], request["timestamp"]
        nonce, signature = request["nonce"], request["signature"]
        if not isinstance(agent_id, str) or not _AGENT_ID.fullmatch(agent_id):
            raise ParseError("agent_id must be a DID: did:swarm: and 64 lower-case hex digits")
        if not isinstance(timestamp, int) or isinstance(timestamp, bool) or not 10**12 <= timestamp < 10**13:
            raise ParseError("timestamp must be an integer of 13 digits: Unix time in milliseconds")
        if not isinstance(nonce, str) or not _NONCE.fullmatch(nonce):
            raise ParseError("nonce must be 8 to 64 lower-case hex digits")
        if not isinstance(signature, str) or len(signature) != _SIGNATURE_TEXT:
            raise ParseError("signature must be 64 bytes in base64")
        raw = base64.decode(signature)
        if len(raw) != SIGNATURE_LENGTH:
            raise ParseError("signature must be 64 bytes in base64")
        return cls(agent_id, timestamp, nonce, raw)


def signed_bytes(method: str, params: Json, timestamp: int, nonce: str) -> bytes:
    """What the signature covers. Raises `NotCanonical` where method or params have no canonical form."""
    if not _METHOD.fullmatch(method):
        raise NotCanonical("a method is words of a to z and _ with dots between")
    if params is None:
        params = {}
    if not isinstance(params, dict):
        raise NotCanonical("the params of a signed request are an object")
    _check_canonical(params, MAX_DEPTH)
    body = canonical.dumps(cast("JsonValue", params))
    return b"%s%s%d%s" % (method.encode(), body, timestamp, nonce.encode())


def _check_canonical(value: Json, depth: int) -> None:
    """Raises `NotCanonical` for fractions, integers beyond 2^53-1, lone surrogates and deep nesting: what two
    readers might understand differently."""
    if depth == 0:
        raise NotCanonical(f"params nested deeper than {MAX_DEPTH}")
    match value:
        case float():
            raise NotCanonical("params hold a number that is not an integer")
        case int() if abs(value) > MAX_INTEGER:
            raise NotCanonical("params hold an integer beyond 2^53-1")
        case str():
            _check_text(value)
        case list():
            for member in value:
                _check_canonical(member, depth - 1)
        case dict():
            for key, member in value.items():
                _check_text(key)
                _check_canonical(member, depth - 1)
        case _:
            return


def _check_text(text: str) -> None:
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise NotCanonical("params hold a lone surrogate")


@dataclass(slots=True)
class _Window:
    """The nonces of one agent that still matter."""

    seen: set[str] = field(default_factory=set)
    by_time: list[tuple[int, str]] = field(default_factory=list)
    """A heap: the oldest timestamp first."""


class SignedRequests:
    """Judges signed requests and remembers their nonces. `node` is this node's PeerId."""

    def __init__(self, config: SignedConfig, node: str, started_ms: int) -> None:
        self._config = config
        self._node = node
        self._own = PeerId.parse(node).did
        self._started_ms = started_ms
        self._clock_ms = started_ms
        self._windows: dict[str, _Window] = {}
        self._kept = 0
        self._floors: dict[str, int] = {}
        """The latest timestamps accepted before this start."""
        self._latest: dict[str, int] = {}
        """The latest timestamps accepted."""
        self._promised: dict[str, int] = {}
        """At least the latest ones, as they are saved while the node runs."""
        self.version = 0
        """Grows when what is to be saved must be on disk before the request is served."""

    def kept(self, agent_id: str) -> int:
        """How many nonces of an agent are remembered."""
        window = self._windows.get(agent_id)
        return 0 if window is None else len(window.seen)

    def check(self, signed: Signed, method: str, params: Json, key: bytes, *, unix_ms: int) -> Json:
        """The params that the method gets, when all is as it must be. Remembers nothing: see `remember`.

        Raises `Unproven`, `NonceWindowFull`. The signature, which costs most, is looked at last.
        """
        self._advance(unix_ms)
        self._check_time(signed, unix_ms)
        window = self._windows.get(signed.agent_id)
        if window is not None and signed.nonce in window.seen:
            raise NonceSeen(f"the nonce {signed.nonce} was used before")
        self._check_room(window, signed.agent_id == self._own, unix_ms)
        data = signed_bytes(method, params, signed.timestamp, signed.nonce)
        inner = dict(params) if isinstance(params, dict) else {}
        if "node" in inner and inner.pop("node") != self._node:
            raise OtherNode(f"the request is for another node, this one is {self._node}")
        if not verify(key, data, signed.signature):
            raise SignatureWrong(f"the signature is not that of {signed.agent_id} over this request")
        return inner

    def remember(self, signed: Signed) -> None:
        """From now on the nonce of this request, which `check` has let through, is used."""
        window = self._windows.setdefault(signed.agent_id, _Window())
        if signed.nonce in window.seen:
            return
        window.seen.add(signed.nonce)
        heapq.heappush(window.by_time, (signed.timestamp, signed.nonce))
        self._kept += 1
        self._latest[signed.agent_id] = max(self._latest.pop(signed.agent_id, 0), signed.timestamp)
        if signed.timestamp > self._promised.get(signed.agent_id, 0):
            self._promised[signed.agent_id] = signed.timestamp + self._config.floor_slack_ms
            self.version += 1
        if len(self._latest) > self._config.max_windows:
            silent = next(iter(self._latest))  # for longest
            del self._latest[silent]
            self._promised.pop(silent, None)

    def to_json(self) -> list[JsonValue]:
        """No earlier than the latest timestamps accepted, for `load` after a restart."""
        return [
            [agent_id, max(latest, self._promised.get(agent_id, 0))]
            for agent_id, latest in self._latest.items()
        ]

    def settle(self) -> None:
        """Nothing is accepted any more: from now on `to_json` is exact."""
        self._promised.clear()

    def load(self, value: JsonValue) -> None:
        """What `to_json` gave before the restart."""
        for entry in value if isinstance(value, list) else []:
            match entry:
                case [str(agent_id), int(timestamp), *_] if _AGENT_ID.fullmatch(agent_id):
                    self._floors[agent_id] = self._latest[agent_id] = self._promised[agent_id] = timestamp
                case _:
                    continue

    def _advance(self, unix_ms: int) -> None:
        """Forget the nonces of requests that no clock from now on can make acceptable."""
        if unix_ms <= self._clock_ms:
            return
        self._clock_ms = unix_ms
        for agent_id in [agent_id for agent_id, window in self._windows.items() if self._has_old(window)]:
            window = self._windows[agent_id]
            while self._has_old(window):
                window.seen.discard(heapq.heappop(window.by_time)[1])
                self._kept -= 1
            if not window.seen:
                del self._windows[agent_id]

    def _has_old(self, window: _Window) -> bool:
        return bool(window.by_time) and window.by_time[0][0] + self._config.keep_ms < self._clock_ms

    def _check_time(self, signed: Signed, unix_ms: int) -> None:
        tolerance = self._config.tolerance_ms
        if abs(unix_ms - signed.timestamp) > tolerance:
            off = (signed.timestamp - unix_ms) / 1000
            raise TimestampOff(f"the timestamp is {off:+.0f} s from this node's clock")
        if signed.timestamp < self._clock_ms - tolerance:
            raise TimestampOff(
                "this node's clock was set back, and has been past this timestamp for too long"
            )
        if signed.timestamp < self._started_ms:
            raise TimestampOff("the timestamp is before this node's start")
        if signed.timestamp <= self._floors.get(signed.agent_id, 0):
            raise TimestampOff("a later request of this agent was accepted before this node's start")

    def _check_room(self, window: _Window | None, is_own: bool, unix_ms: int) -> None:
        held = 0 if window is None else len(window.seen)
        is_full = self._kept >= self._config.max_nonces_in_all
        crowded = is_full and held >= self._config.own_share and not is_own
        if held >= self._config.max_nonces or crowded:
            oldest = unix_ms if window is None else window.by_time[0][0]
            raise NonceWindowFull(oldest + self._config.keep_ms - unix_ms)
        if window is None and len(self._windows) >= self._config.max_windows and not is_own:
            raise NonceWindowFull(self._config.keep_ms)
