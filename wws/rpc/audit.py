"""The lines of the audit log: who changed what, and who was refused.

One JSON object a line: `time`, `who`, `method`, `about` (the one parameter that its row names), `outcome`
(`ok`, or the word of the error) and, where lines were left out before it, `left_out`. Never a secret, never
another parameter; everything that comes from a caller is written in ASCII and cut, so that no line of theirs
can pass for one of ours.

The log is bounded, so whoever writes much of it pushes out what others did, and his own traces. That is for
the owner alone: of everybody else the same is told a hundred times, then once a minute; what is left out is
counted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Final

from wws.rpc.api import Json
from wws.rpc.limits import Limits, LimitsConfig, RateLimited
from wws.rpc.policy import OWNER, Rate, Role

STRANGER: Final = "stranger"
"""Who is said to call when it has not shown who it is."""
DONE: Final = "ok"


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """Bounds of the audit log."""

    file_bytes: int = 1024 * 1024
    """Bytes of a file, after which a new one begins."""
    files: int = 5
    """Files that are kept, the one being written included."""
    text: int = 128
    """Characters of a value that comes from a caller, escapes counted as they are written."""
    strangers: Rate = field(default=Rate(100, 6000.0))
    """Lines about strangers, and about agents: a hundred at once, then one a minute."""
    refused: Rate = field(default=Rate(100, 6000.0))
    """Lines about refused calls of one caller that is known."""
    done: Rate = field(default=Rate(100, 6000.0))
    """Lines about calls of one method that one token, or all agents, had carried out."""


class Audit:
    """Makes the lines. No I/O; `now` is monotonic."""

    def __init__(self, config: AuditConfig) -> None:
        self._config = config
        self._limits = Limits(LimitsConfig())
        self._left_out = 0

    def line(
        self,
        who: str | None,
        method: str,
        about: Json,
        outcome: str,
        *,
        role: Role | None,
        now: float,
        unix_ms: int,
    ) -> bytes | None:
        """The line for a call, None when it is left out. `who` and `role` are None for who has not shown who
        it is; `about` is left out unless it is a text or a number."""
        if not self._has_room(who, role, method, outcome, now):
            self._left_out += 1
            return None
        members: dict[str, Json] = {
            "time": unix_ms / 1000,
            "who": who if who is not None else STRANGER,
            "method": self._cut(method),
        }
        if isinstance(about, (str, int)):
            members["about"] = self._cut(str(about))
        members["outcome"] = outcome
        if self._left_out:
            members["left_out"] = self._left_out
            self._left_out = 0
        return json.dumps(members, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"

    def _cut(self, text: str) -> str:
        """As much of the text as has the length when it is written."""
        kept = text[: self._config.text]
        while (length := len(json.dumps(kept)) - 2) > self._config.text:
            kept = kept[: len(kept) * self._config.text // length]
        return kept

    def _has_room(self, who: str | None, role: Role | None, method: str, outcome: str, now: float) -> bool:
        is_owner = role is not None and role in OWNER
        if outcome == DONE and is_owner:
            return True
        if outcome == DONE:  # then the method is one of the table
            key, rate = f"{_crowd(who, role)} {method}", self._config.done
        else:
            key = _crowd(who, role)
            rate = self._config.refused if is_owner or role is Role.TOKEN else self._config.strangers
        try:
            self._limits.take([(key, rate)], now)
        except RateLimited:
            return False
        return True


def _crowd(who: str | None, role: Role | None) -> str:
    """With whom a caller shares its lines: anybody on this machine can become several agents."""
    if who is None or role is None:
        return STRANGER
    return "agents" if role in Role.AGENT | Role.NEWCOMER else who
