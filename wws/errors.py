"""The errors of WWS: each says what happened, carries a stable code, and may name the mend.

`str(error)` is written for people. `code` is a stable snake_case word that programs may match on;
it appears in `--json` output and in JSON-RPC errors. `hint` is what to do next, or empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar


class WwsError(Exception):
    """Anything that WWS reports on purpose. What is not a `WwsError` is a bug."""

    code: ClassVar[str] = "error"
    hint: str = ""
    details: Mapping[str, object] = MappingProxyType({})
    """JSON values that say more, such as the holder of a taken name."""

    def __init__(self, message: str = "", *, hint: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or self.code).strip().split("\n")[0])
        if hint is not None:
            self.hint = hint


class LocalProtocolError(WwsError):
    """Our own code asked for something that the protocol's state does not allow: a bug of ours."""

    code = "local_protocol_error"


class LocalError(WwsError):
    """Something at this end keeps the program from going on: files, settings, ports, keys.

    Carries the exit code of the programs (contract, section 2), so that they need no table for it.
    """

    code = "local_error"
    exit_code: ClassVar[int] = 1


class RemoteProtocolError(WwsError):
    """A peer broke the protocol. The connection or stream it did so on is closed; nothing else is."""

    code = "remote_protocol_error"


class ParseError(RemoteProtocolError):
    """Bytes or text from outside do not have the form they must have."""

    code = "malformed"


class Truncated(ParseError):
    """The input ends before the value does; with more bytes it might be well formed."""

    code = "truncated"


class TooLarge(ParseError):
    """The input is larger than the bound that was set for it."""

    code = "too_large"
