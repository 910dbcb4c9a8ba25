"""Runs a playbook of ours against hosts of the inventory, and says what came of it.

Everything that a run needs lies in one private folder that is gone when it ends: the inventory, the only host
keys that are believed, variables, secrets (0600, never on a command line), sockets of SSH, and what the
playbook reports. Settings of Ansible in the environment or in the user's own `ansible.cfg` do not count: they
could switch the checks of host keys off.

A playbook reports facts by writing JSON to `{{ wws_report_dir }}/<host>.json` on the controller.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent_cli.ops.inventory import Inventory, Json, literal
from agent_cli.ops.run_lock import one_run
from wws.errors import LocalError
from wws.rpc.codes import Exit
from wws.runtime.machine_errors import CannotRead
from wws.runtime.whole_files import make_folder, write_whole

FORKS: Final = 5
"""Hosts that are worked on at a time, where a playbook does not say less."""
TIMEOUT: Final = 3_600.0
"""Seconds that a playbook may take."""
MAX_REPORT: Final = 1024 * 1024
"""Largest report of a host that is read, in bytes."""
MAX_EVENTS: Final = 16 * 1024 * 1024
MAX_LINE: Final = 2_000
"""Characters of a line of output that are handed on."""
LAST_LINES: Final = 20
"""Lines of output that an error shows when Ansible itself did not run."""
PATIENCE: Final = 20.0
"""Seconds that an interrupted playbook has to end by itself."""
LEFT_OUT: Final = ("ANSIBLE_", "AWS_", "CLOUDFLARE_", "HCLOUD_", "PULUMI_", "WWS_DNS_")
"""How variables begin that no playbook gets: a plugin or a module has no use for an operator's tokens."""
MAX_PRIVATE_PATH: Final = 48
"""Longest path above the private folder: sockets of SSH lie in it, whose paths the kernel bounds."""

_PREFIX: Final = "wws-ops-"
_SETTLED: Final = 60.0
"""Seconds after which a private folder has its lock."""
_SHORTEST: Final = "/tmp"  # noqa: S108 - mkdtemp makes a folder of ours alone in it
_REPOSITORY: Final = Path(__file__).parents[2]
"""What this package lies in."""
_CALLBACK: Final = Path(__file__).parent / "ansible_callback"


@dataclass(frozen=True, slots=True)
class HostStats:
    """What a play did on one host, counted in tasks."""

    ok: int = 0
    changed: int = 0
    failed: int = 0
    unreachable: int = 0
    rescued: int = 0


@dataclass(frozen=True, slots=True)
class PlaybookResult:
    """What came of a playbook."""

    rc: int
    hosts: Mapping[str, HostStats] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    """What the playbook reported, by host."""
    is_interrupted: bool = False

    @property
    def changed(self) -> int:
        return sum(stats.changed for stats in self.hosts.values())


class PlaybookFailed(LocalError):
    """A playbook did not come to its end on every host."""

    code = "playbook_failed"
    exit_code = Exit.REFUSED

    def __init__(self, host: str, task: str, message: str, result: PlaybookResult) -> None:
        where = f"{host}: {task}" if host else "The playbook did not run"
        super().__init__(f"{where}: {message}")
        self.host = host
        self.task = task
        self.message = message
        self.result = result
        self.details = {"host": host, "task": task}


class PlaybookUnreachable(PlaybookFailed):
    """A host could not be logged in to."""

    code = "host_unreachable"
    exit_code = Exit.UNREACHABLE


class PlaybookInterrupted(PlaybookFailed):
    """A playbook was told to end before it was through."""

    code = "interrupted"
    exit_code = Exit.INTERRUPTED
    hint = "Hosts that are not finished may be in the middle of it. Run it again: it goes on where it was."

    def __init__(self, task: str, result: PlaybookResult) -> None:
        super().__init__("", task, "interrupted", result)
        self.args = (f"Interrupted at: {task}." if task else "Interrupted.",)


class PlaybookMissing(LocalError):
    """The playbooks are not where they are looked for."""

    code = "playbook_missing"
    exit_code = Exit.MACHINE
    hint = (
        "They are the folder `ansible` of the repository. Say where it is with WWS_ANSIBLE=DIR, or install "
        "from there: pip install --editable '.[operator]'"
    )


class NotByPlaybook(LocalError):
    """A node that is a process of this machine is not looked after by SSH and playbooks."""

    code = "host_is_local"
    exit_code = Exit.USAGE


def playbook_folder(env: Mapping[str, str] = os.environ, *, beside: Path = _REPOSITORY) -> Path:
    """`$WWS_ANSIBLE`, else `ansible` beside the package. Raises `PlaybookMissing`."""
    given = env.get("WWS_ANSIBLE")
    folder = Path(given) if given else beside / "ansible"
    # Beside a package that was installed elsewhere lies Ansible's own, which is called so, too.
    if not folder.is_dir() or (not given and not (folder / "ansible.cfg").is_file()):
        raise PlaybookMissing(f"There is no folder {folder} with playbooks.")
    return folder.absolute()


def run_playbook(
    name: str,
    inventory: Inventory,
    *,
    limit: Sequence[str] = (),
    variables: Mapping[str, Json] | None = None,
    secrets: Mapping[str, Mapping[str, str]] | None = None,
    tags: Sequence[str] = (),
    check: bool = False,
    on_line: Callable[[str], None] | None = None,
    timeout: float = TIMEOUT,
    wait: bool = False,
) -> PlaybookResult:
    """Run `name` (`upgrade.yml`) against the hosts of the inventory, or those in `limit`.

    `variables` hold for all hosts, `secrets` are host → variable → value. Both are taken literally, never as
    templates. `on_line` gets each line of Ansible's output. Interrupted, by SIGTERM as by Ctrl-C, it lets the
    playbook end in good order first, as far as it does so within `PATIENCE`.

    One run at a time on a network: another one is refused, or with `wait` waited for. All runs of one process
    that wait are one.

    Raises `PlaybookFailed` (with what was done until then in `.result`), `PlaybookUnreachable`,
    `PlaybookInterrupted`, `PlaybookMissing`, `NotByPlaybook`, `RunUnderWay`, `UnknownHost`, `MachineError`.
    """
    folder = playbook_folder()
    playbook = folder / name
    if not playbook.is_file():
        raise PlaybookMissing(f"There is no playbook {playbook}.")
    chosen = inventory.choose(limit)
    local = [host.name for host in chosen if host.is_local]
    if local:
        raise NotByPlaybook(
            f"{', '.join(local)}: processes of this machine, which no playbook looks after.",
            hint="They belong to a stack of the kind `local`: pulumi up, pulumi destroy.",
        )
    with (
        _told_to_end(),
        one_run(inventory.domain or inventory.network, name, wait=wait) as hold,
        _private_folder() as (private, lock),
    ):
        reports = make_folder(private / "reports")
        hosts = inventory.write_ansible(private, extra={host: {**of} for host, of in (secrets or {}).items()})
        given: dict[str, Json] = {name: literal(value) for name, value in (variables or {}).items()}
        given["wws_report_dir"] = str(reports)
        write_whole(private / "variables.json", json.dumps(given).encode(), durable=False)
        command = [sys.executable, "-m", "ansible", "playbook", str(playbook), "--inventory", str(hosts)]
        command += ["--extra-vars", f"@{private / 'variables.json'}", "--forks", str(FORKS)]
        if limit:
            command += ["--limit", ",".join(host.name for host in chosen)]
        if tags:
            command += ["--tags", ",".join(tags)]
        if check:
            command.append("--check")
        names = [host.name for host in chosen]
        held = (lock, hold.descriptor)
        try:
            rc, last = _run(
                command, _environment(folder, private), folder, held, on_line, timeout, hold.work_by
            )
        except KeyboardInterrupt:
            raise _interrupted(private / "events", reports, names) from None
        return _judged(rc, last, private / "events", reports, names)


@contextmanager
def _told_to_end() -> Iterator[None]:
    """SIGTERM is as Ctrl-C in the block, once. Only the main thread may say so; in others nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


@contextmanager
def _private_folder() -> Iterator[tuple[Path, int]]:
    """A folder of this user's alone, in memory where the system has one; gone after the block.

    With it a descriptor that whoever works there holds open: a run that was killed leaves its folder, which
    the next one removes unless its playbook still goes on.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    parents = [runtime] if os.path.isdir(runtime) else []
    parents += [tempfile.gettempdir(), _SHORTEST]
    parent = next((one for one in parents if len(one) < MAX_PRIVATE_PATH), _SHORTEST)
    _sweep(Path(parent))
    with (
        tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent) as path,
        open(Path(path, "lock"), "wb") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield Path(path), lock.fileno()
        finally:
            for socket in Path(path, "cp").glob("*"):  # SSH would keep these connections for a minute
                with suppress(OSError, subprocess.TimeoutExpired):
                    subprocess.run(
                        ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "host"],
                        stdin=subprocess.DEVNULL,
                        capture_output=True,
                        timeout=5,
                        check=False,
                    )


def _sweep(parent: Path) -> None:
    """Remove what runs have left that were killed: there may be keys in it."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            if time.time() - found.st_mtime < _SETTLED:
                continue
            descriptor = os.open(folder / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(descriptor)


def _environment(folder: Path, private: Path) -> dict[str, str]:
    """Ours without settings of Ansible and what opens other doors, and with those that this run needs."""
    own = folder / "ansible.cfg"
    if not own.is_file():
        own = private / "ansible.cfg"
        write_whole(own, b"", durable=False)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(LEFT_OUT)},
        "ANSIBLE_CONFIG": str(own),
        "ANSIBLE_CALLBACK_PLUGINS": str(_CALLBACK),
        "ANSIBLE_CALLBACKS_ENABLED": "wws_events",
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_LOCAL_TEMP": str(private / "tmp"),
        "ANSIBLE_LOCALHOST_WARNING": "False",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(private / "cp"),
        "LC_ALL": "C.UTF-8",
        "WWS_PLAYBOOK_EVENTS": str(private / "events"),
    }


def _run(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    held: tuple[int, ...],
    on_line: Callable[[str], None] | None,
    timeout: float,
    begun: Callable[[int], None] | None = None,
) -> tuple[int, list[str]]:
    """The exit code and the last lines of what was said. `held` are descriptors that it inherits."""
    last: deque[str] = deque(maxlen=LAST_LINES)
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=dict(environment),
        process_group=0,
        pass_fds=held,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    assert process.stdout is not None
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        _signal(process, signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)

    timer = threading.Timer(timeout, end)
    timer.daemon = True
    timer.start()
    try:
        if begun is not None:
            begun(process.pid)
        for line in process.stdout:
            text = line.rstrip("\n")[:MAX_LINE]
            last.append(text)
            if on_line is not None:
                on_line(text)
        rc = process.wait()
    except BaseException:
        _signal(process, signal.SIGINT)
        raise
    finally:
        timer.cancel()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()
        _end_rest(held[0])
        process.stdout.close()
    if is_late.is_set():
        last.append(f"The playbook took more than {timeout:g} s and was ended.")
    return rc, list(last)


def _signal(process: subprocess.Popen[str], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _end_rest(lock: int) -> None:
    """End workers of Ansible that outlived it: each is a session of its own, and has inherited our lock."""
    ours = os.fstat(lock)
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            found, pid = path.stat(), int(path.parts[2])
            if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino) and pid != os.getpid():
                group = os.getpgid(pid)
                if group != os.getpgid(0):
                    os.killpg(group, signal.SIGTERM)


def _judged(rc: int, last: list[str], events: Path, reports: Path, names: list[str]) -> PlaybookResult:
    """The result, or the error that says where it failed."""
    stats, failures, _ = _told_by(events, names)
    result = PlaybookResult(rc, stats, _reported(reports, names))
    if rc == 0:
        return result
    # What was rescued has failed before: of a host that stayed failed the last word counts.
    lost = {name for name, counts in stats.items() if counts.failed or counts.unreachable}
    decisive = [failure for failure in failures if failure["host"] in lost] or failures
    if not decisive:
        raise PlaybookFailed("", "", "\n".join(last).strip() or f"exit code {rc}", result)
    worst = decisive[-1]
    kind = PlaybookUnreachable if worst["event"] == "unreachable" else PlaybookFailed
    raise kind(worst["host"], worst["task"], worst["message"], result)


def _interrupted(events: Path, reports: Path, names: list[str]) -> PlaybookInterrupted:
    stats, _, task = _told_by(events, names)
    facts = _reported(reports, names)
    return PlaybookInterrupted(task, PlaybookResult(Exit.INTERRUPTED, stats, facts, is_interrupted=True))


def _reported(reports: Path, names: list[str]) -> dict[str, dict[str, Json]]:
    return {name: facts for name in names if (facts := _report(reports, name))}


def _told_by(events: Path, names: list[str]) -> tuple[dict[str, HostStats], list[dict[str, str]], str]:
    """The counts of each host, the failures, and the last task that began."""
    stats: dict[str, HostStats] = {}
    failures: list[dict[str, str]] = []
    task = ""
    for event in _events(events):
        match event:
            case {"event": "stats", "hosts": dict(hosts)}:
                stats |= {host: _stats(counts) for host, counts in hosts.items() if host in names}
            case {"event": "failed" | "unreachable"}:
                failures.append({name: str(value) for name, value in event.items()})
            case {"event": "task", "name": str(task)}:
                pass
            case _:
                pass
    return stats, failures, task


def _events(path: Path) -> Iterator[dict[str, object]]:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_EVENTS)
    except FileNotFoundError:
        return
    for line in data.splitlines():
        with suppress(ValueError):  # the last line of a run that was killed
            event = json.loads(line)
            if isinstance(event, dict):
                yield event


def _stats(counts: object) -> HostStats:
    found = counts if isinstance(counts, dict) else {}
    return HostStats(
        ok=int(found.get("ok", 0)),
        changed=int(found.get("changed", 0)),
        failed=int(found.get("failures", 0)),
        unreachable=int(found.get("unreachable", 0)),
        rescued=int(found.get("rescued", 0)),
    )


def _report(folder: Path, name: str) -> dict[str, Json]:
    """What the playbook wrote of this host; empty when it wrote nothing. Raises `CannotRead`."""
    path = folder / f"{name}.json"
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_REPORT + 1)
        facts = json.loads(data) if len(data) <= MAX_REPORT else None
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise CannotRead(f"The report of {name} cannot be read: {error}") from error
    if not isinstance(facts, dict):
        raise CannotRead(f"The report of {name} is no JSON object of at most {MAX_REPORT} bytes")
    return facts
