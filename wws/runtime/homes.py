"""Where everything lies: the paths under `~/.openswarm` (contract section 3), and who is running there.

    <home>/ identity.key  <name>.key  config.toml  known_names.json
            networks/<name>.json  networks/<name>.state
            state/<node>/  port  peers.json  leases.json  inbox.sqlite  witness.sqlite  log
            run/<node>/    ready.json  error.json  rpc.sock  rpc.cookie  lock

Standard library only: `wws status` and `wws --help` import this and must start at once. Nothing is created
by naming a path; folders are made (0700) by `make_folder` when something is about to be written there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from wws.errors import LocalError, WwsError
from wws.runtime.machine_errors import CannotWrite
from wws.runtime.whole_files import make_folder as make_folder  # part of what this module offers
from wws.runtime.whole_files import write_whole

MAX_SOCKET_PATH = 100
"""Longest path of a unix socket, in bytes: the kernels' limit is 104 (BSD) or 108 (Linux), with its zero."""
MAX_STATUS_FILE = 64 * 1024
"""Largest `ready.json` or `error.json` that is read."""

MAX_NETWORK_NAME = 200
"""Longest name of a network: it may be a domain, and becomes the name of a file."""

_NODE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
_NETWORK_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*\Z")


class BadNodeName(LocalError):
    """The name cannot be that of a node or a saved network: it becomes part of paths."""

    code = "bad_node_name"
    exit_code = 2


class SeveralNodes(LocalError):
    """Several nodes could be meant."""

    code = "several_nodes"
    exit_code = 2


def parse_node_name(text: str) -> str:
    """The name of a node, in lower case. Raises `BadNodeName`: it becomes part of paths, so it is strict."""
    name = text.lower()
    if not text.isascii() or not _NODE_NAME.match(name) or ".." in name:
        raise BadNodeName(
            f"{text[:80]!r} cannot be the name of a node.",
            hint="Use letters, digits, '-', '_' and '.', at most 63, beginning with a letter or digit.",
        )
    return name


@dataclass(frozen=True, slots=True)
class Ready:
    """What a running node says of itself (`ready.json`)."""

    node: str
    pid: int
    peer_id: str
    did: str
    listen: tuple[str, ...]
    rpc: str | None
    """`IP:PORT` of the RPC server on TCP, if it runs."""
    http: str | None
    socket: str
    """Path of the RPC unix socket."""
    cookie: str
    started: int | None = None
    """When the process began, as the kernel counts: tells it from a later process with its number."""


@dataclass(frozen=True, slots=True)
class StartError:
    """Why the last start of a node failed (`error.json`), for the command that started it."""

    code: str
    message: str
    hint: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Home:
    """One home of WWS. All its paths; see the module's drawing."""

    root: Path
    is_fallback: bool = False
    """Whether this is `./data` because the user has no home folder (containers)."""

    @property
    def identity_key(self) -> Path:
        return self.root / "identity.key"

    def named_key(self, name: str) -> Path:
        """The key that goes with `--name`."""
        return self.root / f"{parse_node_name(name)}.key"

    @property
    def config_file(self) -> Path:
        return self.root / "config.toml"

    @property
    def known_names(self) -> Path:
        return self.root / "known_names.json"

    @property
    def networks(self) -> Path:
        return self.root / "networks"

    def network_file(self, name: str) -> Path:
        return self.networks / f"{_network_name(name)}.json"

    def network_state(self, name: str) -> Path:
        return self.networks / f"{_network_name(name)}.state"

    def node(self, name: str) -> NodePaths:
        """The paths of one node. Raises `BadNodeName`."""
        return NodePaths(self, parse_node_name(name))

    def nodes_with_state(self) -> list[str]:
        """Names of the nodes that have run here, sorted."""
        return _folders(self.root / "state")

    def running_nodes(self) -> list[Ready]:
        """The nodes that are up and running here, sorted by name."""
        found = (self.node(name).read_ready() for name in _folders(self.root / "run"))
        return [ready for ready in found if ready is not None]

    def pick_running(self, asked: str | None) -> NodePaths | None:
        """The node that is asked something (contract section 2): it must run to answer.

        `asked` is `--node`, returned whether it runs or not; without it the only running node, or `None`.
        Raises `SeveralNodes` with the list when several run.
        """
        if asked is not None:
            return self.node(asked)
        return self._only([ready.node for ready in self.running_nodes()], "running")

    def pick_node(self, asked: str | None) -> NodePaths | None:
        """The node that a command is about which needs no running one, or `None` when there is none at all.

        As `pick_running`, and where none runs the only one with state.
        Raises `SeveralNodes` with the list when several could be meant.
        """
        return self.pick_running(asked) or self._only(self.nodes_with_state(), "known")

    def _only(self, names: list[str], what: str) -> NodePaths | None:
        if len(names) > 1:
            raise SeveralNodes(
                f"{len(names)} nodes are {what} here: {', '.join(names)}.",
                hint=f"Say which one: {' or '.join(f'--node {name}' for name in names)}",
            )
        return self.node(names[0]) if names else None


@dataclass(frozen=True, slots=True)
class NodePaths:
    """The paths of one node, and the files by which it tells that it runs."""

    home: Home
    name: str

    @property
    def state(self) -> Path:
        return self.home.root / "state" / self.name

    @property
    def run(self) -> Path:
        return self.home.root / "run" / self.name

    @property
    def port_file(self) -> Path:
        return self.state / "port"

    @property
    def peer_cache(self) -> Path:
        return self.state / "peers.json"

    @property
    def relay(self) -> Path:
        """What this node carried today for others."""
        return self.state / "relay.json"

    @property
    def witness(self) -> Path:
        """What this node has promised as a witness of names."""
        return self.state / "witness.sqlite"

    @property
    def identities(self) -> Path:
        """Who this node was, and with which key file."""
        return self.state / "identities.json"

    @property
    def leases(self) -> Path:
        return self.state / "leases.json"

    @property
    def equivocations(self) -> Path:
        """Proofs against owners who signed two records under one number."""
        return self.state / "equivocations.json"

    @property
    def inbox(self) -> Path:
        return self.state / "inbox.sqlite"

    @property
    def log(self) -> Path:
        return self.state / "log"

    @property
    def ready_file(self) -> Path:
        return self.run / "ready.json"

    @property
    def error_file(self) -> Path:
        return self.run / "error.json"

    @property
    def cookie(self) -> Path:
        return self.run / "rpc.cookie"

    @property
    def lock(self) -> Path:
        return self.run / "lock"

    def socket(self, env: Mapping[str, str]) -> Path:
        """Where the RPC socket lies: beside `ready.json`; in the runtime folder when that is too long,
        and in one of ours below `/tmp` when even that one is."""
        path = self.run / "rpc.sock"
        if len(os.fsencode(path.absolute())) <= MAX_SOCKET_PATH:
            return path
        digest = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:16]
        short = runtime_folder(env) / f"{digest}.sock"
        if len(os.fsencode(short)) <= MAX_SOCKET_PATH:
            return short
        return private_folder(Path("/tmp", f"wws-{os.getuid()}")) / f"{digest}.sock"  # noqa: S108 - checked

    def read_ready(self) -> Ready | None:
        """What the node says of itself, or `None` unless it is running now, as a process of this user."""
        members = _read_object(self.ready_file)
        if members is None:
            return None
        try:
            ready = _ready_from(members)
        except (KeyError, TypeError, ValueError):
            return None
        return ready if ready.node == self.name and _is_alive(ready) else None

    def write_ready(self, ready: Ready) -> None:
        """Tell that the node is up. Whole or not at all, 0600. Raises `MachineError`."""
        _write_object(self.ready_file, asdict(ready))

    def clear(self) -> None:
        """Remove `ready.json` and `error.json`: the first thing at start and at exit."""
        for path in (self.ready_file, self.error_file):
            path.unlink(missing_ok=True)

    def read_error(self) -> StartError | None:
        """Why the last start failed, if it did."""
        members = _read_object(self.error_file)
        if members is None:
            return None
        try:
            return StartError(
                code=_text(members["code"]),
                message=_text(members["message"]),
                hint=_text(members["hint"]),
                exit_code=_number(members["exit_code"]),
            )
        except (KeyError, TypeError):
            return None

    def write_error(self, error: WwsError) -> None:
        """Leave word of why the start failed. Raises `MachineError` where even that cannot be written."""
        exit_code = error.exit_code if isinstance(error, LocalError) else 1
        record = StartError(error.code, str(error), error.hint, exit_code)
        _write_object(self.error_file, asdict(record))


def choose_home(flag: str | None, env: Mapping[str, str]) -> Home:
    """The home that applies: `--home`, `$WWS_HOME`, `~/.openswarm`; `./data` where users have no home."""
    if flag:
        return Home(expand(flag, env))
    if env.get("WWS_HOME"):
        return Home(expand(env["WWS_HOME"], env))
    user_home = env.get("HOME", "")
    if user_home in ("", "/") or not os.path.isdir(user_home):
        return Home(Path("data"), is_fallback=True)
    return Home(Path(user_home) / ".openswarm")


def expand(text: str, env: Mapping[str, str]) -> Path:
    """`text` as a path, with a leading `~/` meaning `$HOME`."""
    if (text == "~" or text.startswith("~/")) and env.get("HOME"):
        return Path(env["HOME"], text[2:])
    return Path(text)


def runtime_folder(env: Mapping[str, str]) -> Path:
    """A folder of this user's for sockets and locks, made when missing. Raises `MachineError`.

    `$XDG_RUNTIME_DIR/wws`, else `wws-<uid>` in the folder for temporary files. Others may write in the
    latter, so what stands there under our name is used only if it is a real folder that is ours alone.
    """
    base = env.get("XDG_RUNTIME_DIR", "")
    usable = base != "" and os.path.isdir(base) and os.access(base, os.W_OK)
    return private_folder(Path(base, "wws") if usable else temporary_folder(env))


def temporary_folder(env: Mapping[str, str]) -> Path:
    """`wws-<uid>` in the folder for temporary files; not made."""
    return Path(env.get("TMPDIR") or tempfile.gettempdir()) / f"wws-{os.getuid()}"


def private_folder(folder: Path) -> Path:
    """Make `folder` 0700, or check that it is ours alone. Raises `CannotWrite` when another user made it."""
    make_folder(folder)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise CannotWrite(
            f"{folder} is not a folder that only you can use.",
            hint=f"Look at it (ls -ld {folder}); remove it, or set XDG_RUNTIME_DIR to a folder of yours.",
        )
    return folder


def process_start(pid: int) -> int | None:
    """When process `pid` began, in the kernel's ticks since boot, or `None` where that cannot be read."""
    try:
        return int(_process_fields(pid)[19])
    except (IndexError, ValueError):
        return None


def _process_fields(pid: int) -> list[bytes]:
    """What Linux tells of a process, from its state (field 3) on; nothing elsewhere."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The second field is the command in parentheses, which may hold spaces; field 22 is the start.
            return file.read(4096).rpartition(b")")[2].split()
    except OSError:
        return []


def _network_name(text: str) -> str:
    name = text.lower()
    if not text.isascii() or not _NETWORK_NAME.match(name) or len(name) > MAX_NETWORK_NAME or ".." in name:
        raise BadNodeName(f"{text[:80]!r} cannot be the name of a saved network.")
    return name


def _is_alive(ready: Ready) -> bool:
    if ready.pid <= 0:
        return False
    try:
        os.kill(ready.pid, 0)
    except (OSError, OverflowError):
        return False  # gone, or another user's process that has taken the number
    if _process_fields(ready.pid)[:1] == [b"Z"]:
        return False  # dead; its parent has not heard of it yet
    start = process_start(ready.pid)
    return ready.started is None or start is None or start == ready.started


def _folders(parent: Path) -> list[str]:
    try:
        with os.scandir(parent) as entries:
            return sorted(entry.name for entry in entries if _NODE_NAME.match(entry.name) and entry.is_dir())
    except OSError:
        return []


def _read_object(path: Path) -> dict[str, object] | None:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_STATUS_FILE + 1)
        value = json.loads(data)
    except (OSError, ValueError, RecursionError):
        return None
    return value if len(data) <= MAX_STATUS_FILE and isinstance(value, dict) else None


def _write_object(path: Path, members: Mapping[str, object]) -> None:
    write_whole(path, json.dumps(members, indent=1).encode() + b"\n", durable=False)


def _ready_from(members: dict[str, object]) -> Ready:
    listen = members["listen"]
    if not isinstance(listen, list):
        raise TypeError("listen")
    started = members.get("started")
    return Ready(
        node=_text(members["node"]),
        pid=_number(members["pid"]),
        peer_id=_text(members["peer_id"]),
        did=_text(members["did"]),
        listen=tuple(_text(item) for item in listen),
        rpc=None if members["rpc"] is None else _text(members["rpc"]),
        http=None if members["http"] is None else _text(members["http"]),
        socket=_text(members["socket"]),
        cookie=_text(members["cookie"]),
        started=None if started is None else _number(started),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not an integer")
    return value
