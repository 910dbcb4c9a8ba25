"""What a node remembers over restarts: JSON files that are whole at every moment (contract section 3).

Each is one object with a schema number. A reader accepts one version newer: it ignores the members it does
not know and hands them on when it writes, so that going back a release loses nothing. A file that cannot be
read is set aside under `<file>.damaged`, with a warning, and the node starts without it: a state file only
ever saves time or remembers a floor, it is never worth a node that does not start.

    state/<node>/port         {"schema", "port"}
    state/<node>/peers.json   as `wws.discovery.peer_cache` writes it
    state/<node>/identities.json  as `wws.runtime.former_identities` writes it
    state/<node>/leases.json  as `wws.runtime.names_driver` writes it
    state/<node>/equivocations.json  as `wws.names.equivocation` writes it
    state/<node>/relay.json   as `wws.relay.budget` writes it
    state/<node>/tokens.json  as `wws.rpc.tokens` writes it
    state/<node>/agents.json  as `wws.rpc.access` writes it: agents, and what they and the node did today
    known_names.json          as `wws.names.pins` writes it
    networks/<name>.state     as `wws.discovery.bundle_state` writes it
    networks/<name>.json      the network file as it was signed: canonical JSON, no schema of ours

Everything here blocks; on the event loop it is called through a thread.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from wws.codec.canonical import JsonObject
from wws.discovery.bundle_state import BundleState
from wws.errors import LocalError, ParseError
from wws.runtime.homes import Home, NodePaths
from wws.runtime.machine_errors import reading_failed, writing_failed
from wws.runtime.whole_files import make_folder, write_whole

MAX_STATE = 16 * 1024 * 1024
"""Largest state file that is read, in bytes."""


class StateDamaged(LocalError):
    """A state file cannot be read. It has been set aside."""

    code = "state_damaged"
    exit_code = 10


class StateTooNew(LocalError):
    """A state file was written by a much newer version. It is left as it is."""

    code = "state_too_new"
    exit_code = 10


Warn = Callable[[LocalError], None]


def _log_warning(error: LocalError) -> None:
    logging.getLogger(__name__).warning("%s", error)


class StateFile:
    """One state file. `read` before the first `write`, so that what a newer version added is kept."""

    def __init__(self, path: Path, *, schema: int = 1, warn: Warn = _log_warning) -> None:
        self.path = path
        self._schema = schema
        self._warn = warn
        self._newer: JsonObject = {}
        """What a newer version wrote; members that this one does not write are kept."""

    def read(self) -> JsonObject | None:
        """The object in the file, or `None` when there is none or it was damaged (then it is set aside).

        Raises `StateTooNew`, `MachineError`.
        """
        try:
            with open(self.path, "rb") as file:
                found = os.fstat(file.fileno())
                inode = found.st_ino
                # Not the bound: as much would be set aside in memory for a file of a few bytes.
                data = file.read(min(found.st_size, MAX_STATE) + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise reading_failed(self.path, error) from error
        try:
            value = _parse(data)
            schema = value.get("schema")
            if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
                raise ValueError("it has no schema number")
        except ValueError as error:
            self._set_aside(inode, str(error))
            return None
        if schema > self._schema + 1:
            raise StateTooNew(
                f"{self.path} has schema {schema}; this version reads up to {self._schema + 1}.",
                hint="Use the newer version that wrote it, or move the file away.",
            )
        self._newer = value if schema > self._schema else {}
        return value

    def write(self, members: JsonObject, *, durable: bool = True) -> None:
        """Put `members` in place of what the file holds. Raises `MachineError`, and the old content stays."""
        schema = self._newer.get("schema", self._schema)
        value: JsonObject = {**self._newer, **members, "schema": schema}
        write_whole(self.path, json.dumps(value, indent=1).encode() + b"\n", durable=durable)

    def _set_aside(self, inode: int, reason: str) -> None:
        aside = self.path.with_name(self.path.name + ".damaged")
        outcome = f"It is kept as {aside.name}; starting without it."
        try:
            if os.stat(self.path).st_ino == inode:  # else another process has just written a good one
                os.replace(self.path, aside)
        except OSError as error:
            outcome = f"It could not be set aside ({error.strerror}); starting without it."
        self._warn(StateDamaged(f"{self.path} is damaged: {reason}. {outcome}"))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes from changing the file at `path` meanwhile: for files that nodes of a home share.

    The lock lies beside the file, because the file itself is replaced. The kernel frees it when we die.
    """
    make_folder(path.parent)
    lock = path.with_name(f".{path.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise writing_failed(lock, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class PortFile:
    """The port that an agent took at its first start and keeps (contract section 8)."""

    def __init__(self, node: NodePaths, *, warn: Warn = _log_warning) -> None:
        self._file = StateFile(node.port_file, warn=warn)

    def read(self) -> int | None:
        value = self._file.read()
        port = None if value is None else value.get("port")
        is_port = isinstance(port, int) and not isinstance(port, bool) and 0 < port <= 65535
        return port if isinstance(port, int) and is_port else None

    def write(self, port: int) -> None:
        self._file.write({"port": port})


class NetworkFiles:
    """The saved networks of a home, and what their bundles have settled; shared by all its nodes."""

    def __init__(self, home: Home, *, warn: Warn = _log_warning) -> None:
        self._home = home
        self._warn = warn

    def names(self) -> list[str]:
        """The names of the saved networks, sorted."""
        try:
            return sorted(path.stem for path in self._home.networks.glob("[!.]*.json"))
        except OSError:
            return []

    def read_file(self, name: str, *, max_bytes: int = 16 * 1024) -> bytes | None:
        """The bytes of a saved network file, at most one more than `max_bytes`; the caller verifies them."""
        path = self._home.network_file(name)
        try:
            with open(path, "rb") as file:
                return file.read(max_bytes + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise reading_failed(path, error) from error

    def write_file(self, name: str, data: bytes) -> None:
        """Save a network file, in place of an earlier one."""
        write_whole(self._home.network_file(name), data)

    def remove(self, name: str) -> bool:
        """Forget a network and its state; whether it was saved."""
        removed = False
        for path in (self._home.network_file(name), self._home.network_state(name)):
            try:
                path.unlink()
                removed = True
            except FileNotFoundError:
                continue
            except OSError as error:
                raise writing_failed(path, error) from error
        return removed

    def names_with_state(self) -> list[str]:
        """The names of the networks whose lists were accepted here, saved or not, sorted."""
        try:
            return sorted(path.stem for path in self._home.networks.glob("[!.]*.state"))
        except OSError:
            return []

    def read_state(self, name: str) -> JsonObject | None:
        """What the network's bundles have settled, for `BundleState.of`."""
        return StateFile(self._home.network_state(name), warn=self._warn).read()

    def raise_state(self, name: str, value: JsonObject) -> None:
        """Save what `BundleState.to_json` gave, unless the file holds a higher number already.

        Another node of this home may have accepted a newer bundle meanwhile, and the floor never sinks.
        """
        path = self._home.network_state(name)
        with locked(path):
            file = StateFile(path, warn=self._warn)
            if _bundle_number(file.read()) <= _bundle_number(value):
                file.write(value)


def _bundle_number(value: JsonObject | None) -> int:
    """The highest number that a state knows; -1 for none, and for a state that cannot be read."""
    try:
        seq = None if value is None else BundleState.from_json(value).seq
    except ParseError:
        return -1
    return -1 if seq is None else seq


def _parse(data: bytes) -> JsonObject:
    if len(data) > MAX_STATE:
        raise ValueError(f"it is larger than {MAX_STATE} bytes")
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError:
        raise ValueError("it is not JSON") from None
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value
