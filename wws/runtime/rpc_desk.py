"""Where a parsed request becomes an answer: judged, carried out, saved and written down.

    Access.identify ─► permit ─► save the nonce of a signature ─► Method.call ─► save what it changed ─► audit

Then it is answered. One desk a server; the connections of all clients bring their requests here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from wws.errors import WwsError
from wws.identity.peer_id import PeerId
from wws.rpc.access import Access, AccessConfig, Caller, Granted
from wws.rpc.api import Json, NodeApi
from wws.rpc.audit import DONE, Audit, AuditConfig
from wws.rpc.methods import METHODS, POLICIES, Method
from wws.rpc.policy import OWNER, Role
from wws.rpc.serving import Serving
from wws.rpc.wire import Request
from wws.runtime.homes import NodePaths
from wws.runtime.logs import logger
from wws.runtime.rpc_state import AUDIT, AuditFile, RpcState

_log = logger("rpc")


class MethodNotFound(WwsError):
    """There is no such method."""

    code = "method_not_found"
    hint = "wws call rpc.discover lists them."


class NotRemembered(WwsError):
    """This node cannot save what it must remember of the call. Its owner finds in the log what is wrong."""

    code = "cannot_write"


def unix_milliseconds() -> int:
    """Unix time in milliseconds, as this machine believes it."""
    return time.time_ns() // 1_000_000


class RpcDesk:
    """Serves requests for one node. `unix_ms` and `monotonic` are its clocks."""

    def __init__(
        self,
        node: NodeApi,
        peer_id: PeerId,
        paths: NodePaths,
        *,
        cookie: str | None,
        swarm: str,
        access: AccessConfig,
        audit: AuditConfig,
        unix_ms: Callable[[], int] = unix_milliseconds,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Reads the state of the last run. Raises `MachineError`."""
        self._node = node
        self._unix_ms = unix_ms
        self._monotonic = monotonic
        self.access = Access(
            os.getuid(),
            cookie,
            node=peer_id,
            table=POLICIES,
            started_ms=unix_ms(),
            random_bytes=os.urandom,
            swarm=swarm,
            config=access,
        )
        self._state = RpcState(paths)
        self._state.load(self.access)
        self._audit = Audit(audit)
        self._audit_file = AuditFile(paths.state / AUDIT, audit)

    def admit(self, caller: Caller) -> None:
        """Raises `Unauthorised` for another user's process on the unix socket, and writes it down."""
        try:
            self.access.judge_connection(caller)
        except WwsError as error:
            self._append(None, None, "connect", caller.user_id, error.code)
            raise

    async def serve(
        self,
        caller: Caller,
        request: Request,
        known: Callable[[Role], None],
        proving: Callable[[], AbstractContextManager[None]],
    ) -> object:
        """The answer to a request. Raises `WwsError`.

        `known` is told how the caller has shown who it is; what that costs is spent within `proving()`.
        """
        method = METHODS.get(request.method)
        now, unix_ms = self._monotonic(), self._unix_ms()
        granted: Granted | None = None
        try:
            with proving():
                granted = self.access.identify(caller, request, unix_ms=unix_ms)
            known(granted.caller.role)
            if method is None:  # said only now: who may not call anything does not learn what there is
                raise MethodNotFound(f"there is no method {request.method[:64]!r}")
            self.access.permit(granted.caller, method.name, method.policy, now=now, unix_ms=unix_ms)
            if granted.caller.signed is not None:
                # Also when this call changed nothing: it may rest on what another one has not saved yet.
                await self._save(granted.caller.role)
        except WwsError as error:
            self._write_down(granted, request, method, error.code)
            raise
        outcome = "cut_short"
        try:
            answer = await self._call(granted, method)
            outcome = DONE
            return answer
        except Exception as error:
            outcome = error.code if isinstance(error, WwsError) else "internal_error"
            raise
        finally:
            if method.policy.audited:
                self._write_down(granted, request, method, outcome)

    async def close(self) -> None:
        """Save what the last calls left. Afterwards nothing is served any more."""
        await self._state.close(self.access)
        self._audit_file.close()

    async def _call(self, granted: Granted, method: Method) -> object:
        before = self.access.version
        serving = Serving(self._node, self.access, granted.caller, self._unix_ms())
        try:
            return await method.call(serving, granted.params)
        finally:
            if self.access.version != before:
                await self._save(granted.caller.role)

    async def _save(self, role: Role) -> None:
        try:
            await self._state.save(self.access)
        except WwsError as error:
            _log.warning("rpc_state_not_saved", error=str(error))
            if role in OWNER | Role.TOKEN:
                raise
            # Another user of this machine can be an agent: paths are none of its business.
            raise NotRemembered("this node cannot save what it must remember of the call") from error

    def _write_down(
        self, granted: Granted | None, request: Request, method: Method | None, outcome: str
    ) -> None:
        who, role = (None, None) if granted is None else (granted.caller.id, granted.caller.role)
        about = None if method is None else method.about(request.params)
        self._append(who, role, request.method, about, outcome)

    def _append(self, who: str | None, role: Role | None, method: str, about: Json, outcome: str) -> None:
        now, unix_ms = self._monotonic(), self._unix_ms()
        line = self._audit.line(who, method, about, outcome, role=role, now=now, unix_ms=unix_ms)
        if line is not None:
            self._audit_file.append(line)
