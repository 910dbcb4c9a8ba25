"""Who a node was before: its identities and their key files, the last one first.

    state/<node>/identities.json   {"schema", "identities": [{"peer_id", "path"}…]}

The key file is chosen anew at each start (contract section 3), so a node that was started once with
`--identity-path P` and then without is another agent, and finds its name taken by itself. What it was is
remembered here, to say so and to name the way back.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wws.codec.canonical import JsonObject, JsonValue
from wws.errors import LocalError, ParseError
from wws.identity.peer_id import PeerId
from wws.runtime import keyfile
from wws.runtime.homes import NodePaths
from wws.runtime.keyfile import IdentityPath
from wws.runtime.logs import logger
from wws.runtime.machine_errors import MachineError
from wws.runtime.state_files import StateFile

MAX_IDENTITIES = 8
"""Identities that are remembered: the last ones."""
MAX_PATH = 4096
"""Longest path of a key file, in characters."""


@dataclass(frozen=True, slots=True)
class RanAs:
    """One identity that the node ran with, and where its key was."""

    peer_id: PeerId
    path: Path


class FormerIdentities:
    """The identities of a node before this start. `remember` once it is up."""

    def __init__(
        self, node: NodePaths, chosen: IdentityPath, peer_id: PeerId, env: Mapping[str, str]
    ) -> None:
        """Read them; what cannot be understood is logged and forgotten.

        Raises `StateTooNew`, `MachineError`.
        """
        self._node = node.name
        self._file = StateFile(node.identities)
        self._now = RanAs(peer_id, Path(os.path.abspath(chosen.path)))
        self._kept = self._read()
        before = [ran for ran in self._kept if ran.peer_id != peer_id]
        self._ways_back = {ran.peer_id: _way_back(ran, chosen, env) for ran in before}
        self.warning = self._warning()
        """That the node is another agent than the last time; `None`: it is the same, or the first."""

    def way_back(self, peer_id: PeerId | None) -> str | None:
        """How to start this node as the one that it was before, `--identity-path P`; `None` where it was
        not that one, or the key is no longer there."""
        return None if peer_id is None else self._ways_back.get(peer_id)

    def remember(self) -> None:
        """Write down who the node is now. A failure is only logged: this is not worth a node that is down."""
        kept = (self._now, *(ran for ran in self._kept if ran.peer_id != self._now.peer_id))[:MAX_IDENTITIES]
        if kept == self._kept:
            return
        try:
            self._file.write(to_json(kept))
        except MachineError as error:
            logger("node").warning("identity not remembered", error=str(error))

    def _read(self) -> tuple[RanAs, ...]:
        value = self._file.read()
        try:
            return () if value is None else parse_identities(value)
        except ParseError as error:
            logger("node").warning(
                "former identities unreadable", path=str(self._file.path), error=str(error)
            )
            return ()

    def _warning(self) -> str | None:
        if not self._kept or self._kept[0].peer_id == self._now.peer_id:
            return None
        last = self._kept[0]
        way = self._ways_back[last.peer_id]
        then = (
            f"To go on as before: {way}"
            if way is not None
            else "That key is not there any more, or cannot be used."
        )
        return (
            f"{self._node} ran as {last.peer_id} with the key {last.path} until now; "
            f"this is another agent. {then}"
        )


def parse_identities(value: JsonObject) -> tuple[RanAs, ...]:
    """What `to_json` gave, at most `MAX_IDENTITIES` of it. Raises `ParseError`."""
    entries = value.get("identities")
    if not isinstance(entries, list):
        raise ParseError("it has no list of identities")
    return tuple(_parse(entry) for entry in entries[:MAX_IDENTITIES])


def to_json(identities: tuple[RanAs, ...]) -> JsonObject:
    """The members of the state file."""
    return {"identities": [{"peer_id": str(ran.peer_id), "path": str(ran.path)} for ran in identities]}


def _parse(entry: JsonValue) -> RanAs:
    members = entry if isinstance(entry, dict) else {}
    peer_id, path = members.get("peer_id"), members.get("path")
    if not isinstance(peer_id, str) or not isinstance(path, str):
        raise ParseError("an identity without PeerId or path")
    if not path.startswith("/") or "\0" in path or len(path) > MAX_PATH:
        raise ParseError("the path of a key is not an absolute path")
    return RanAs(PeerId.parse(peer_id), Path(path))


def _way_back(ran: RanAs, chosen: IdentityPath, env: Mapping[str, str]) -> str | None:
    try:
        if keyfile.load(ran.path, env).peer_id != ran.peer_id:
            return None
    except LocalError:
        return None
    # The variable beats the option, so the option would change nothing where the variable is set.
    is_variable = chosen.source == "environment WWS_IDENTITY_PATH"
    quoted = shlex.quote(str(ran.path))
    return f"WWS_IDENTITY_PATH={quoted}" if is_variable else f"--identity-path {quoted}"
