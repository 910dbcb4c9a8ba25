"""`wws-control`: asks and steers the bootstrap node of this machine. For operators, and for their tools.

    wws-control status
                drain [--undo] [--wait SECONDS]
                reload
                health [--live] [--http IP:PORT]
                witness-copy FILE
    with --home DIR, --node NAME and --json, before or after the command

It speaks with the node over its unix socket (contract section 6), which answers the node's own user and
nobody else: started as root, it takes that user's place for all that it does in the home or asks of the
node. Somebody may have taken the node over, and what lies there could lead root anywhere. For the same reason
nothing that the node says reaches a terminal as it is. Standard library and `wws` only, as the host has
nothing else. Exit codes and the `--json` envelope are those of `wws` (contract
section 2).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from bootstrap_node.health import DEFAULT_ADDRESS, check
from wws import __version__
from wws.client import NodeNotRunning, call_once
from wws.errors import LocalError, WwsError
from wws.rpc.codes import Exit, exit_code
from wws.runtime.homes import Home, NodePaths, Ready, choose_home
from wws.runtime.machine_errors import CannotWrite, writing_failed
from wws.runtime.witness.reading import open_for_reading, witness_of

SERVICE_HOME: Final = "/var/lib/wws"
"""The home of a node that systemd runs, taken when it is there and none was named."""
BOOTSTRAP_NODE: Final = "bootstrap"
CALL_TIMEOUT: Final = 20.0
"""Seconds that the node has to answer."""
WAIT_STEP: Final = 0.25
"""Seconds between two looks at a node that drains."""
COPY_PAGES: Final = 256
"""Pages of the witness's file that are copied at a time; the node writes on between two steps."""


class WrongUsage(LocalError):
    """The command line cannot be understood."""

    code = "wrong_usage"
    exit_code = 2


class AnswerStrange(LocalError):
    """What answers is no node of ours, or not itself any more."""

    code = "internal_error"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command found: for programs, for people, and the exit code."""

    data: Mapping[str, object]
    lines: tuple[str, ...] = ()
    code: int = Exit.DONE


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise WrongUsage(f"{message[:1].upper()}{message[1:]}.", hint=f"See: {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line, and return the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    as_json, schema = "--json" in given, "wws-control/v1"
    try:
        options = _parser().parse_args(given, argparse.Namespace(home=None, node=None))
        schema = f"wws-control.{options.command}/v1"
        answer: Answer = options.run(options)
    except WwsError as error:
        code = error.exit_code if isinstance(error, LocalError) else exit_code(error.code)
        _fail(error, schema, as_json=as_json)
        return int(code)
    except KeyboardInterrupt:
        return int(Exit.INTERRUPTED)
    if as_json:
        print(json.dumps({"schema": schema, "ok": answer.code == 0, "data": answer.data, "errors": []}))
    elif answer.lines:
        print("\n".join(map(_plain, answer.lines)))
    return answer.code


def _parser() -> argparse.ArgumentParser:
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)  # given before or after the command
    where = f"default: $WWS_HOME, {SERVICE_HOME} if it is there, ~/.openswarm"
    common.add_argument("--home", metavar="DIR", help=where)
    common.add_argument("--node", metavar="NAME", help="default: the only one")
    common.add_argument("--json", action="store_true", help="one JSON object, for programs")
    text = "Ask and steer the bootstrap node of this machine."
    parser = _Parser(prog="wws-control", description=text, parents=[common])
    parser.add_argument("--version", action="version", version=f"wws-control {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, run: Callable[[argparse.Namespace], Answer], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, parents=[common])
        added.set_defaults(run=run)
        return added

    command("status", _status, "how the node is")
    drain = command("drain", _drain, "take no new reservations, and tell agents to move to other relays")
    drain.add_argument("--undo", action="store_true", help="relay again as before")
    drain.add_argument(
        "--wait", type=_seconds, default=0.0, metavar="SECONDS", help="for the agents to have moved, at most"
    )
    command("reload", _reload, "read network and limits again, as SIGHUP does")
    health = command("health", _health, "exit 0 when the node is ready")
    health.add_argument("--live", action="store_true", help="only whether it answers")
    health.add_argument("--http", metavar="IP:PORT", help=f"default: the node's own, or {DEFAULT_ADDRESS}")
    copy = command("witness-copy", _witness_copy, "copy the witness's book, whole, while the node runs")
    copy.add_argument("file", metavar="FILE", type=Path, help="where to; 0600, in place of what is there")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError("must be between 0 and 3600")
    return value


# The commands


def _status(options: argparse.Namespace) -> Answer:
    ready, paths = _running(options)
    resources = _resources(ready.pid, paths.home)  # as who we are: it may take root
    status = _call(ready, paths, "swarm.get_status")
    relay, witness = _part(status, "relay_service"), _part(status, "witness_service")
    signed, counts = _part(status, "signed_list"), _part(status, "connections")
    data: dict[str, object] = {
        "node": status.get("node"),
        "peer_id": status.get("peer_id"),
        "did": status.get("did"),
        "version": status.get("version"),
        "network": status.get("network"),
        "status": status.get("status"),
        "draining": status.get("draining", False),
        "uptime_s": status.get("uptime_s"),
        "addresses": status.get("addresses"),
        "connections": sum(count for count in counts.values() if isinstance(count, int)),
        "reservations": relay.get("reservations"),
        "announced_by": relay.get("announced_by"),
        "circuits": relay.get("circuits"),
        "bytes_today": relay.get("bytes_today"),
        "bundle_seq": signed.get("seq"),
        "bundle_expires_at": signed.get("expires_at"),
        "witness_entries": witness.get("entries"),
        "witness_log_rows": witness.get("log_rows"),
        "witness_writable": witness.get("writable"),
        "witness_no_first_claims_until": witness.get("no_first_claims_until"),
        "swarm_size": _part(status, "swarm_size").get("estimate"),
        "bans": status.get("bans"),
        "pid": ready.pid,
        "rss_bytes": resources.memory,
        "open_files": resources.open_files,
        "http": ready.http,
        "warnings": _part(status, "join").get("warnings", []),
    }
    return Answer(data, tuple(f"{name:<18}{_shown(value)}" for name, value in data.items()))


def _drain(options: argparse.Namespace) -> Answer:
    ready, paths = _running(options)
    answer = dict(_call(ready, paths, "swarm.drain", {"on": not options.undo}))
    if options.undo:
        return Answer(answer, ("It relays again.",))
    deadline = time.monotonic() + options.wait
    while answer.get("announced_by") and time.monotonic() < deadline:
        time.sleep(WAIT_STEP)
        status = _call(ready, paths, "swarm.get_status")
        relay = _part(status, "relay_service")
        answer |= {name: relay.get(name, 0) for name in ("reservations", "announced_by", "circuits")}
    left, circuits = answer.get("announced_by"), answer.get("circuits")
    if not left:
        said = f"It drains: nobody tells others to come this way. {circuits} circuits run on."
    else:
        said = f"It drains: {left} of {answer.get('reservations')} agents have not moved yet."
    return Answer(answer, (said,))


def _reload(options: argparse.Namespace) -> Answer:
    ready, paths = _running(options)
    try:
        with _as_owner_of(paths.home):
            os.kill(ready.pid, signal.SIGHUP)
    except (ProcessLookupError, PermissionError):
        raise NodeNotRunning(f"The node {ready.node} has just ended.") from None
    said = f"The node {ready.node} reads its settings again."
    return Answer({"node": ready.node, "pid": ready.pid}, (said,))


def _health(options: argparse.Namespace) -> Answer:
    address = options.http
    if address is None:
        with _as_owner_of(_home(options)):
            ready = _paths(options).read_ready()
        address = ready.http if ready is not None and ready.http else DEFAULT_ADDRESS
    healthy, text = check(address, "/healthz" if options.live else "/readyz")
    return Answer({"healthy": healthy, "answer": text}, (text,), 0 if healthy else 1)


def _witness_copy(options: argparse.Namespace) -> Answer:
    home, target = _home(options), Path(options.file)
    with _as_owner_of(home):
        source = _paths(options).witness
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    _refuse_folder_of_others(target.parent)
    try:
        unfinished.unlink(missing_ok=True)
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        owner = _copy(home, source, unfinished)
        digest, size = _sha256(unfinished), unfinished.stat().st_size
        os.replace(unfinished, target)
    except OSError as error:
        raise writing_failed(target, error) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
    data = {"file": str(target), "witness": owner, "bytes": size, "sha256": digest}
    return Answer(data, (f"{target}: {size} bytes, SHA-256 {digest}",))


# Inside


def _copy(home: Home, source: Path, target: Path) -> str | None:
    """What the last finished transaction has left, as one file that needs no other beside it; whose it is.

    Raises `CannotRead`, also when there is no room for the copy.
    """
    with contextlib.closing(sqlite3.connect(target)) as writing:
        writing.execute("PRAGMA journal_mode = OFF")  # it is thrown away unless it becomes whole
        with _as_owner_of(home), open_for_reading(source) as reading:
            reading.backup(writing, pages=COPY_PAGES)
            owner = witness_of(reading)
        writing.execute("PRAGMA journal_mode = DELETE")
    return owner


def _refuse_folder_of_others(folder: Path) -> None:
    """As root: raises `CannotWrite` where somebody else could put a link in place of the unfinished copy."""
    try:
        found = folder.stat()
    except OSError:
        return  # nothing can be written there, which is found out soon
    if os.geteuid() == 0 and (found.st_uid != 0 or found.st_mode & 0o022):
        raise CannotWrite(
            f"{folder} is not root's alone: somebody else could choose what is written to.",
            hint="Name a file in a folder of root's, such as /root.",
        )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _home(options: argparse.Namespace) -> Home:
    chosen = options.home
    if not chosen and not os.environ.get("WWS_HOME") and os.path.isdir(SERVICE_HOME):
        chosen = SERVICE_HOME
    return choose_home(chosen, os.environ)


def _paths(options: argparse.Namespace) -> NodePaths:
    home = _home(options)
    return home.pick_node(options.node) or home.node(BOOTSTRAP_NODE)


def _running(options: argparse.Namespace) -> tuple[Ready, NodePaths]:
    with _as_owner_of(_home(options)):
        paths = _paths(options)
        ready = paths.read_ready()
    if ready is None:
        raise NodeNotRunning(
            f"No node called {paths.name} runs with the home {paths.home.root}.",
            hint="systemctl status wws-bootstrap, or name it: --home DIR, --node NAME.",
        )
    return ready, paths


def _call(
    ready: Ready, paths: NodePaths, method: str, params: Mapping[str, object] | None = None
) -> Mapping[str, object]:
    with _as_owner_of(paths.home):
        answer: object = call_once(ready, method, params, timeout=CALL_TIMEOUT)
    if not isinstance(answer, dict):
        raise AnswerStrange(f"{method}: what answers is no node.")
    return answer


@contextlib.contextmanager
def _as_owner_of(home: Home) -> Iterator[None]:
    """As root: be the user whose home it is meanwhile, whom the node's socket answers, and nothing more.

    Also the real user: signals go by that one.
    """
    try:
        found = os.stat(home.root)
    except OSError:
        yield  # there is no home, so nothing in it
        return
    if os.geteuid() != 0 or found.st_uid == 0:
        yield
        return
    user, group, groups = os.getresuid(), os.getresgid(), os.getgroups()
    os.setgroups([])
    os.setresgid(found.st_gid, found.st_gid, 0)
    os.setresuid(found.st_uid, found.st_uid, 0)
    try:
        yield
    finally:
        os.setresuid(*user)
        os.setresgid(*group)
        os.setgroups(groups)


def _part(status: Mapping[str, object], name: str) -> Mapping[str, object]:
    """An object within the status; nothing when the node is no such thing."""
    part = status.get(name)
    return part if isinstance(part, dict) else {}


def _shown(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return " ".join(str(one.get("message") if isinstance(one, dict) else one) for one in value) or "–"
    return str(value)


def _plain(text: str) -> str:
    """One line without what could steer a terminal: a node chooses some of what it says."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


@dataclass(frozen=True, slots=True)
class _Resources:
    memory: int | None
    open_files: int | None


def _resources(pid: int, home: Home) -> _Resources:
    """Memory and open files of a process of the home's owner, as the kernel tells; else `None`."""
    memory: int | None = None
    files: int | None = None
    with contextlib.suppress(OSError):
        if os.stat(f"/proc/{pid}").st_uid != os.stat(home.root).st_uid:
            return _Resources(None, None)
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        memory = pages * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError):
        files = len(os.listdir(f"/proc/{pid}/fd"))
    return _Resources(memory, files)


def _fail(error: WwsError, schema: str, *, as_json: bool) -> None:
    if as_json:
        problem = {"code": error.code, "message": str(error), "hint": error.hint}
        print(json.dumps({"schema": schema, "ok": False, "data": {}, "errors": [problem]}))
    said = (f"wws-control: {error}", *([error.hint] if error.hint else []))
    print(*map(_plain, said), sep="\n", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
