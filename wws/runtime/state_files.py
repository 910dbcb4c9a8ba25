"""What a node remembers over restarts: JSON files that are whole at every moment (contract section 3).

Each is one object with a schema number. A reader accepts one version newer: it ignores the members it does
not know and hands them on when it writes, so that going back a release loses nothing. A file that cannot be
read is set aside under `<file>.damaged`, with a warning, and the node starts without it: a state file only
ever saves time or remembers a floor, it is never worth a node that does not start.

    state/<node>/port         {"schema", "port"}
    state/<node>/peers.json   {"schema", "peers": [{"peer_id", "addresses", "network", "met_through",
                                                    "worked_at"}]}
    state/<node>/leases.json  {"schema", "leases": [{"swarm", "name", "record"}]}
    known_names.json          {"schema", "names": [{"network", "swarm", "name", "peer_id", "pinned_at"}]}
    networks/<name>.state     as `wws.discovery.bundle_state` writes it
    networks/<name>.json      the network file as it was signed: canonical JSON, no schema of ours

Everything here blocks; on the event loop it is called through a thread.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from wws.addresses.multiaddr import Multiaddr
from wws.codec.canonical import JsonObject, JsonValue
from wws.errors import LocalError, ParseError
from wws.identity.peer_id import PeerId
from wws.runtime.homes import Home, NodePaths
from wws.runtime.machine_errors import reading_failed, writing_failed
from wws.runtime.whole_files import make_folder, write_whole

MAX_STATE = 16 * 1024 * 1024
"""Largest state file that is read, in bytes."""

_T = TypeVar("_T")


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
                inode = os.fstat(file.fileno()).st_ino
                data = file.read(MAX_STATE + 1)
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


@dataclass(frozen=True, slots=True)
class CachedPeer:
    """A peer that worked before."""

    peer_id: PeerId
    addresses: tuple[Multiaddr, ...]
    network: str
    """Domain of the network it was met in; empty for an ad hoc one."""
    met_through: str
    """How it was met (`pinned`, `bundle`, `entry_point`, `hint`, `mdns`): decides whether it is trusted."""
    worked_at: int
    """Unix time of the last connection."""


class PeerCacheFile:
    """Peers that worked, over restarts."""

    def __init__(self, node: NodePaths, *, warn: Warn = _log_warning) -> None:
        self._file = StateFile(node.peer_cache, warn=warn)

    def read(self) -> list[CachedPeer]:
        """The peers, as they were written; malformed entries are left out."""
        return _entries(self._file.read(), "peers", _cached_peer)

    def write(self, peers: Iterable[CachedPeer]) -> None:
        """Replace the cache by `peers`; the caller bounds and ages them."""
        self._file.write(
            {
                "peers": [
                    {
                        "peer_id": str(peer.peer_id),
                        "addresses": [str(address) for address in peer.addresses],
                        "network": peer.network,
                        "met_through": peer.met_through,
                        "worked_at": peer.worked_at,
                    }
                    for peer in peers
                ]
            }
        )


@dataclass(frozen=True, slots=True)
class StoredLease:
    """A name that this node holds, with the record it published last."""

    swarm: str
    name: str
    record: str
    """The record as published: canonical JSON."""


class LeasesFile:
    """The names that a node holds."""

    def __init__(self, node: NodePaths, *, warn: Warn = _log_warning) -> None:
        self._file = StateFile(node.leases, warn=warn)

    def read(self) -> list[StoredLease]:
        """The leases, as they were written; malformed entries are left out."""
        return _entries(self._file.read(), "leases", _lease)

    def write(self, leases: Iterable[StoredLease]) -> None:
        """Replace the leases by `leases`."""
        self._file.write(
            {
                "leases": [
                    {"swarm": lease.swarm, "name": lease.name, "record": lease.record} for lease in leases
                ]
            }
        )


@dataclass(frozen=True, slots=True)
class StoredPin:
    """Whose a name was when this home first resolved it."""

    network: str
    """Domain of the network; empty for all ad hoc networks."""
    swarm: str
    name: str
    peer_id: PeerId
    pinned_at: int


class PinsFile:
    """`known_names.json`, shared by all nodes of a home and the command line."""

    def __init__(self, home: Home, *, warn: Warn = _log_warning) -> None:
        self._file = StateFile(home.known_names, warn=warn)

    def read(self) -> list[StoredPin]:
        """The pins, as they were written; malformed entries are left out."""
        return _entries(self._file.read(), "names", _pin)

    def set(self, pin: StoredPin) -> None:
        """Pin a name, or move its pin. What other processes have pinned meanwhile stays."""
        with locked(self._file.path):
            kept = [known for known in self.read() if _pin_key(known) != _pin_key(pin)]
            self._write([*kept, pin])

    def forget(self, network: str, swarm: str, name: str) -> bool:
        """Remove the pin of a name; whether there was one."""
        with locked(self._file.path):
            pins = self.read()
            kept = [known for known in pins if _pin_key(known) != (network, swarm, name)]
            if len(kept) != len(pins):
                self._write(kept)
            return len(kept) != len(pins)

    def _write(self, pins: list[StoredPin]) -> None:
        self._file.write(
            {
                "names": [
                    {
                        "network": pin.network,
                        "swarm": pin.swarm,
                        "name": pin.name,
                        "peer_id": str(pin.peer_id),
                        "pinned_at": pin.pinned_at,
                    }
                    for pin in pins
                ]
            }
        )


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

    def read_state(self, name: str) -> JsonObject | None:
        """What the network's bundles have settled, for `BundleState.of`."""
        return StateFile(self._home.network_state(name), warn=self._warn).read()

    def change_state(self, name: str, change: Callable[[JsonObject | None], JsonObject | None]) -> None:
        """Replace the state by what `change` makes of the present one; `None` leaves it.

        Under a lock: another node of this home may have accepted a newer bundle meanwhile, and the highest
        number must never sink, so `change` compares with what it is given.
        """
        path = self._home.network_state(name)
        with locked(path):
            file = StateFile(path, warn=self._warn)
            changed = change(file.read())
            if changed is not None:
                file.write(changed)


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


def _entries(value: JsonObject | None, member: str, parse: Callable[[JsonObject], _T]) -> list[_T]:
    listed = None if value is None else value.get(member)
    found = []
    for item in listed if isinstance(listed, list) else []:
        if isinstance(item, dict):
            try:
                found.append(parse(item))
            except (KeyError, TypeError, ParseError):
                continue
    return found


def _cached_peer(item: JsonObject) -> CachedPeer:
    addresses = item["addresses"]
    if not isinstance(addresses, list):
        raise TypeError("addresses")
    return CachedPeer(
        peer_id=PeerId.parse(_text(item["peer_id"])),
        addresses=tuple(Multiaddr.parse(_text(address)) for address in addresses),
        network=_text(item["network"]),
        met_through=_text(item["met_through"]),
        worked_at=_number(item["worked_at"]),
    )


def _lease(item: JsonObject) -> StoredLease:
    return StoredLease(_text(item["swarm"]), _text(item["name"]), _text(item["record"]))


def _pin(item: JsonObject) -> StoredPin:
    return StoredPin(
        network=_text(item["network"]),
        swarm=_text(item["swarm"]),
        name=_text(item["name"]),
        peer_id=PeerId.parse(_text(item["peer_id"])),
        pinned_at=_number(item["pinned_at"]),
    )


def _pin_key(pin: StoredPin) -> tuple[str, str, str]:
    return pin.network, pin.swarm, pin.name


def _text(value: JsonValue) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value


def _number(value: JsonValue) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not an integer")
    return value
