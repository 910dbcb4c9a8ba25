"""Who may call: the one place that decides.

A caller is known by how it came: on the unix socket by its user id, which the kernel vouches for;
on TCP by the cookie it shows in the member `token`, a file that only the same user can read
(contract, section 6). Scoped tokens, signed requests and rates belong here too, as further ways
through `judge`; nothing else in the server knows who anybody is.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from itertools import islice
from typing import Final

from wws.errors import WwsError
from wws.rpc.methods import Method, Who

_TOKEN: Final = re.compile(rb'"token"[ \t]{0,8}:[ \t]{0,8}"([^"\\]{1,256})"')
_MOST_TOKENS: Final = 100
"""As many as there may be calls in a batch."""


class Unauthorised(WwsError):
    """The caller has not shown that it may call this node."""

    code = "unauthorised"
    hint = "Use the unix socket, or send the content of rpc.cookie as the member `token`."


class NotAllowed(WwsError):
    """The caller is known, but this method is not open to it."""

    code = "not_allowed"


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a connection comes from."""

    user_id: int | None
    """The user at the other end of the unix socket; None on TCP."""

    @property
    def on_socket(self) -> bool:
        return self.user_id is not None


class Access:
    """Decides for each connection and each call of one node.

    `own_user` is the user this node runs as; `cookie` the secret in `rpc.cookie`, None without TCP.
    """

    def __init__(self, own_user: int, cookie: str | None) -> None:
        self._own_user = own_user
        self._cookie = cookie

    def judge_connection(self, caller: Caller) -> None:
        """Raises `Unauthorised` for another user's process on the unix socket."""
        if caller.on_socket and caller.user_id != self._own_user:
            raise Unauthorised(
                f"this node belongs to user {self._own_user}, the caller is user {caller.user_id}",
                hint="Run the command as the user that the node runs as.",
            )

    def judge(self, caller: Caller, method: Method, token: str | None) -> None:
        """Raises `Unauthorised` or `NotAllowed`; returns when the call may go on."""
        self.judge_connection(caller)
        if caller.on_socket:
            return
        if self._cookie is None or token is None or not _same(self._cookie, token):
            raise Unauthorised("no valid token")
        if method.who is Who.SOCKET:
            raise NotAllowed(f"{method.name} is open on the unix socket only")

    def is_shown(self, line: bytes) -> bool:
        """Whether a line seems to bring the cookie, before it is parsed: enough to read it, not to call."""
        if self._cookie is None:
            return False
        shown = [match[1].decode("ascii", "replace") for match in islice(_TOKEN.finditer(line), _MOST_TOKENS)]
        return sum(_same(self._cookie, token) for token in shown) > 0


def _same(secret: str, shown: str) -> bool:
    """Compared in constant time; a lone surrogate in what was shown must not raise."""
    return hmac.compare_digest(secret.encode(), shown.encode(errors="replace"))
