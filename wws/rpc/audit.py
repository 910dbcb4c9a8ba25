"""The lines of the audit log: who changed what, and who was refused.

One JSON object a line: `time`, `who`, `method`, `about` (the one parameter that its row names), `outcome`
(`ok`, or the word of the error) and, where lines were left out before it, `left_out`. Never a secret, never
another parameter; everything that comes from a caller is cut and written in ASCII, so that no line of theirs
can pass for one of ours. Who cannot show who it is could fill the log: such lines are thinned, and counted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Final

from wws.rpc.api import Json
from wws.rpc.limits import Limits, LimitsConfig, RateLimited
from wws.rpc.policy import Rate

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
    """Characters of a value that comes from a caller."""
    strangers: Rate = field(default=Rate(100, 1000.0))
    """Lines about refused strangers: a hundred at once, then one in ten seconds."""
    refused: Rate = field(default=Rate(600, 600.0))
    """Lines about refused calls of one caller that is known."""


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
        now: float,
        unix_ms: int,
    ) -> bytes | None:
        """The line for a call, None when it is left out. `who` is None for who has not shown who it is;
        `about` is left out unless it is a text or a number."""
        if outcome != DONE and not self._has_room(who, now):
            self._left_out += 1
            return None
        members: dict[str, Json] = {
            "time": unix_ms / 1000,
            "who": who if who is not None else STRANGER,
            "method": method[: self._config.text],
        }
        if isinstance(about, (str, int)):
            members["about"] = str(about)[: self._config.text]
        members["outcome"] = outcome
        if self._left_out:
            members["left_out"] = self._left_out
            self._left_out = 0
        return json.dumps(members, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"

    def _has_room(self, who: str | None, now: float) -> bool:
        rate = self._config.strangers if who is None else self._config.refused
        try:
            self._limits.take([(who or STRANGER, rate)], now)
        except RateLimited:
            return False
        return True
