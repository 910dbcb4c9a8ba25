#!/usr/bin/python
"""Ansible module: the releases of a host, one of them in use; what an upgrade does on a host.

    /opt/wws/releases/<version>/      whole or not there: unpacked beside, checked, then renamed
    /opt/wws/releases/.pending        which version was switched to and has not passed the gate yet
    /opt/wws/current, previous        links; each switch is one rename

Each action is one process on the host: an operator's machine that is lost meanwhile leaves no half of it,
and a later run finds out how far the earlier one got. Standard library and Ansible only.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import http.client
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: wws_release
short_description: Looks at, unpacks, switches and watches releases of the bootstrap node
description:
  - C(look) says how host and node are. C(unpack) puts an archive beside the others.
  - C(switch) drains and stops the node, switches the link, starts it again and waits until it is ready.
  - C(hold) watches that it stays up and within its memory. C(confirm) removes old releases.
options:
  action: {type: str, required: true, choices: [look, unpack, switch, hold, confirm]}
  root: {type: path, default: /opt/wws, description: Where releases lie.}
  unit: {type: str, default: wws-bootstrap.service, description: The unit of the node.}
  home: {type: path, default: /var/lib/wws, description: The home of the node.}
  http: {type: str, default: "127.0.0.1:9371", description: Where the node says whether it is ready.}
  seal: {type: path, default: /etc/wws/sealed, description: A file; with it the node may not run here.}
  version: {type: str, description: Which release is meant.}
  archive: {type: path, description: The archive, on the host.}
  sha256: {type: str, description: What the archive must be.}
  controller_time: {type: float, description: Unix time there; look compares.}
  drain_wait: {type: float, default: 10, description: Seconds for clients to have moved away.}
  ready_within: {type: float, default: 20, description: Seconds for the node to be ready.}
  within: {type: float, description: Seconds for a switch to stop the node and have it ready again.}
  pid: {type: int, description: The process to watch; else the one that runs.}
  hold_for: {type: float, default: 20, description: Seconds to watch.}
  left: {type: float, description: Seconds that are left for it; if these are fewer it fails at once.}
  rss_max: {type: int, default: 700, description: Most MiB of memory.}
  rss_growth: {type: int, default: 256, description: Most MiB that it may grow by meanwhile.}
  keep: {type: int, default: 3, description: Releases that stay.}
author: [the WWS maintainers]
"""

EXAMPLES = r"""
- name: Switch to a release
  wws_release: {action: switch, version: 1.2.3}
"""

RETURN = r"""
current: {type: str, returned: always, description: The version in use, or nothing.}
previous: {type: str, returned: always, description: The version before, or nothing.}
"""

STOP_WITHIN = 30
"""Seconds; the unit has 20 by itself (TimeoutStopSec)."""
STEP = 0.25
ASK_WITHIN = 20.0
"""Seconds for systemd and its journal to say something."""
LAST_WORDS = 200
"""Characters of what a node said last that an error quotes."""
PAGE_WITHIN = 5.0
"""Seconds for a page of the node."""
CHUNK = 1024 * 1024
MAX_PAGE = 4 * 1024 * 1024
MAX_FILES = 20_000
MAX_BYTES = 1024 * 1024 * 1024


class Failed(Exception):
    """The action did not come to its end; `facts` go into the result."""

    def __init__(self, text: str, **facts: object) -> None:
        super().__init__(text)
        self.facts = facts


class Releases:
    """The folder of a host with its releases."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "releases"
        self._pending = self.folder / ".pending"

    def of(self, version: str) -> Path:
        if not version or "/" in version or version.startswith("."):
            raise Failed(f"{version!r} is no version")
        return self.folder / version

    def link(self, name: str) -> str:
        """The version that `current` or `previous` leads to, empty for none."""
        try:
            target = Path(os.readlink(self.root / name))
        except OSError:
            return ""
        return target.name if (self.folder / target.name).is_dir() else ""

    def point(self, name: str, version: str) -> None:
        """Let a link lead to a version, in one step; away with it when the version is empty."""
        link, new = self.root / name, self.root / f".{name}.new"
        new.unlink(missing_ok=True)
        if not version:
            link.unlink(missing_ok=True)
        else:
            os.symlink(f"releases/{version}", new)
            os.replace(new, link)
        self._sync(self.root)

    @property
    def pending(self) -> dict[str, str]:
        try:
            return dict(json.loads(self._pending.read_text("utf-8")))
        except (OSError, ValueError):
            return {}

    def set_pending(self, value: dict[str, str]) -> None:
        if not value:
            self._pending.unlink(missing_ok=True)
        else:
            new = self._pending.with_name(".pending.new")
            with new.open("w", encoding="utf-8") as file:
                json.dump(value, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self._pending)
        self._sync(self.folder)

    def versions(self) -> list[str]:
        """Whole releases, the newest on this host last."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
        return [path.name for path in sorted(found, key=lambda path: (path.stat().st_mtime, path.name))]

    def archive_of(self, version: str) -> str:
        """The hash of the archive that a release was unpacked from here, empty when nobody knows."""
        try:
            return (self.of(version) / ".archive-sha256").read_text("ascii").strip()
        except OSError:
            return ""

    @staticmethod
    def _sync(folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Unit:
    """The unit of the node, as systemd and the node itself see it."""

    def __init__(self, name: str, http_address: str) -> None:
        self.name = name
        self._http = http_address

    def ask(self) -> dict[str, str]:
        wanted = "ActiveState,SubState,MainPID,NRestarts,Result"
        said = _output(["systemctl", "show", "--property", wanted, self.name])
        return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)

    @property
    def is_active(self) -> bool:
        return self.ask().get("ActiveState") in {"active", "activating", "reloading"}

    def control(self, *command: str, within: float = STOP_WITHIN) -> str:
        """Run systemctl; why it failed, or nothing."""
        try:
            done = subprocess.run(
                ["systemctl", *command, self.name],
                capture_output=True,
                text=True,
                timeout=within,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"systemctl {command[0]} took more than {within:g} s"
        return done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else ""

    def is_ready(self) -> bool:
        """Whether the node says that it is ready."""
        return self._page("/readyz") is not None

    def has_metrics(self) -> bool:
        """Whether it says what it does, so that whoever watches it sees it."""
        return "\nwws_connections" in (self._page("/metrics") or "")

    def _page(self, path: str) -> str | None:
        """What the node serves there; nothing unless it is well."""
        connection = http.client.HTTPConnection(self._http, timeout=PAGE_WITHIN)
        # Each step has its time-out; all together have this one, or a page could be dripped for ever.
        end = threading.Timer(PAGE_WITHIN, _hang_up, (connection,))
        end.daemon = True
        try:
            connection.connect()
            end.start()
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read(MAX_PAGE).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            return None
        finally:
            end.cancel()
            connection.close()
        return text if answer.status == 200 else None

    def last_words(self) -> str:
        """The last line that it wrote, which is the error of one that died; the journal has all."""
        said = _output(
            ["journalctl", f"_SYSTEMD_UNIT={self.name}", "--lines", "5", "--output", "cat", "--no-pager"]
        )
        # The node chose them: they must not steer the terminal of whoever is shown them.
        line = said.strip().rpartition("\n")[2].strip()[:LAST_WORDS]
        return "".join(letter if letter.isprintable() else "?" for letter in line) or "it said nothing"


def _output(command: list[str]) -> str:
    """What a program says; nothing where it does not end, as of one that has nothing to say."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=ASK_WITHIN, check=False
        ).stdout
    except subprocess.TimeoutExpired:
        return ""


def _hang_up(connection: http.client.HTTPConnection) -> None:
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)


def look(module: AnsibleModule, releases: Releases, unit: Unit) -> dict[str, object]:
    asked = unit.ask()
    folder = next(path for path in (releases.root, *releases.root.parents) if path.is_dir())
    disk = os.statvfs(folder)
    version = module.params["version"] or ""
    given = module.params["controller_time"]
    return {
        "versions": releases.versions(),
        "pending": releases.pending.get("version", ""),
        "archive_sha256": releases.archive_of(version) if version else "",
        "active_state": asked.get("ActiveState", ""),
        "restarts": int(asked.get("NRestarts") or 0),
        "ready": unit.is_ready(),
        "sealed": os.path.exists(module.params["seal"]),
        "free_bytes": disk.f_bavail * disk.f_frsize,
        "free_files": disk.f_favail if disk.f_files else MAX_FILES * 10,
        "python": "cp{}{}".format(*sys.version_info[:2]),
        "machine": platform.machine(),
        "clock_off": 0.0 if given is None else round(time.time() - given, 1),
    }


def unpack(module: AnsibleModule, releases: Releases, _unit: Unit) -> dict[str, object]:
    """Put the release beside the others: it is there whole, or nothing of it is."""
    version, archive = module.params["version"], Path(module.params["archive"])
    wanted, target = module.params["sha256"], releases.of(version)
    if target.is_dir() and releases.archive_of(version) == wanted:
        archive.unlink(missing_ok=True)
        return {"changed": False}
    if module.check_mode:
        return {"changed": True}
    part = releases.folder / f".part-{version}"
    shutil.rmtree(part, ignore_errors=True)
    try:
        if not archive.is_file() or _sha256(archive) != wanted:
            raise Failed(
                f"the archive on the host is not the one with SHA-256 {wanted}: it was damaged on its way"
            )
        releases.folder.mkdir(parents=True, exist_ok=True)
        hashes = _extract(archive, part, f"wws-{version}")
        _check_manifest(part, hashes)
        (part / ".archive-sha256").write_text(f"{wanted}\n", "ascii")
        os.sync()
        if target.is_dir():
            if (target / "MANIFEST").read_bytes() == (part / "MANIFEST").read_bytes():
                os.replace(part / ".archive-sha256", target / ".archive-sha256")
                return {"changed": False}
            if version in {releases.link("current"), releases.link("previous")}:
                raise Failed(
                    f"version {version} is here already with other content: give the release a new number"
                )
            shutil.rmtree(target)
        os.replace(part, target)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise Failed(f"the disk is full: no room for release {version} in {releases.folder}") from error
        raise Failed(f"release {version} cannot be unpacked: {error}") from error
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise Failed(f"the archive is none of a release: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        archive.unlink(missing_ok=True)
    return {"changed": True}


def switch(module: AnsibleModule, releases: Releases, unit: Unit) -> dict[str, object]:
    """Let the node run from another release. It may be called again after any interruption."""
    version = module.params["version"]
    if not releases.of(version).is_dir():
        raise Failed(
            f"there is no release {version} on this host; there are {', '.join(releases.versions())}"
        )
    if os.path.exists(module.params["seal"]):
        raise Failed(f"the node of this host is sealed ({module.params['seal']}): it lives elsewhere now")
    before, pending = releases.link("current"), releases.pending
    if module.check_mode:
        return {"changed": before != version}
    is_back = before != version and pending.get("version") == before and pending.get("from") == version
    former = pending.get("previous", "") if is_back else before
    if is_back:
        with contextlib.suppress(OSError):  # a disk that is full keeps nobody from going back
            releases.set_pending({"version": version})
    elif before != version and (pending.get("version"), pending.get("from")) != (version, before):
        previous = releases.link("previous")
        releases.set_pending({"version": version, "from": before, "previous": previous})
    drained, since = _drain(module, releases, unit)
    down = time.monotonic()
    within = module.params["within"]
    trouble = _stop(unit, STOP_WITHIN if within is None else min(within, STOP_WITHIN))
    if trouble:
        raise Failed(f"the node cannot be stopped: {trouble}")
    if before != version:
        try:
            releases.point("previous", former)
            releases.point("current", version)
        except OSError as error:
            unit.control("start", "--no-block")  # from whichever it is: a node that stands still helps nobody
            raise Failed(f"release {version} cannot be switched to: {error}") from error
    ready_within = module.params["ready_within"]
    if within is not None:
        ready_within = min(ready_within, max(0.0, within - (time.monotonic() - down)))
    ready = _start(unit, releases.of(version), ready_within)
    return {
        "changed": True,
        "switched_from": before,
        "drained": drained,
        "drain_seconds": round(down - since, 2),
        "down_seconds": round(time.monotonic() - down, 2),
        **ready,
    }


def hold(module: AnsibleModule, _releases: Releases, unit: Unit) -> dict[str, object]:
    """Watch the node for a while: one that dies or swells soon after its start is not to be kept."""
    pid = module.params["pid"] or int(unit.ask().get("MainPID") or 0)
    most, growth = module.params["rss_max"], module.params["rss_growth"]
    hold_for, left = module.params["hold_for"], module.params["left"]
    if left is not None and left < hold_for:
        raise Failed(f"it took too long: it was to be watched for {hold_for:g} s, and {left:.1f} s are left")
    end = time.monotonic() + hold_for
    first = rss = _rss(pid)
    while True:
        asked = unit.ask()
        if asked.get("ActiveState") != "active" or int(asked.get("MainPID") or 0) != pid:
            raise Failed(f"the node did not stay up: {unit.last_words()} ({_state(asked)})")
        rss = _rss(pid)
        if rss > most:
            raise Failed(f"the node takes {rss} MiB of memory; {most} are its bound")
        if rss - first > growth:
            raise Failed(
                f"the node has grown from {first} to {rss} MiB of memory; {growth} more are its bound"
            )
        if time.monotonic() >= end:
            break
        time.sleep(min(1.0, max(0.05, end - time.monotonic())))
    if not unit.is_ready():
        raise Failed("the node is not ready any more")
    if not unit.has_metrics():
        raise Failed("the node has no metrics: nobody would see how it is")
    return {"changed": False, "rss_mib": rss, "grown_mib": rss - first}


def confirm(module: AnsibleModule, releases: Releases, _unit: Unit) -> dict[str, object]:
    """The upgrade is over. Of old releases some stay, those that links lead to among them."""
    used = {releases.link("current"), releases.link("previous")}
    others = [version for version in releases.versions() if version not in used]
    surplus = len(used - {""}) + len(others) - max(module.params["keep"], 1)
    removed = others[: max(0, surplus)]
    leftovers = list(releases.folder.glob(".part-*"))
    changed = bool(removed or leftovers or releases.pending)
    if not module.check_mode:
        if releases.pending:
            releases.set_pending({})
        for version in removed:
            shutil.rmtree(releases.of(version))
        for path in leftovers:
            shutil.rmtree(path, ignore_errors=True)
    return {"changed": changed, "removed": removed}


def _stop(unit: Unit, within: float) -> str:
    """Stop the node; why it does not, or nothing.

    A node may ask systemd for ever more time to stop (`EXTEND_TIMEOUT_USEC`). One that was taken over would
    live through every upgrade, so its patience is ours.
    """
    trouble = unit.control("stop", within=within)
    if trouble:
        unit.control("kill", "--signal=SIGKILL")
        trouble = unit.control("stop")
    return trouble


def _drain(module: AnsibleModule, releases: Releases, unit: Unit) -> tuple[bool, float]:
    """Ask clients to move before the node stops. A node that cannot be asked is stopped all the same."""
    since, wait = time.monotonic(), module.params["drain_wait"]
    program = releases.root / "current" / "bin" / "wws-control"
    if wait <= 0 or not program.exists() or not unit.is_ready():
        return False, since
    command = [str(program), "--home", module.params["home"], "drain", "--wait", f"{wait:g}"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=wait + 20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False, since
    return done.returncode == 0, since


def _start(unit: Unit, release: Path, within: float) -> dict[str, object]:
    """Start the node and wait until it is ready, from that release."""
    began = time.monotonic()
    unit.control("reset-failed")
    trouble = unit.control("start", "--no-block")
    if trouble:
        raise Failed(f"the node cannot be started: {trouble}")
    asked: dict[str, str] = {}
    while time.monotonic() - began < within:
        asked = unit.ask()
        if asked.get("ActiveState") == "failed" or int(asked.get("NRestarts") or 0) > 0:
            raise Failed(f"the node does not start: {unit.last_words()} ({_state(asked)})")
        pid = int(asked.get("MainPID") or 0)
        if asked.get("ActiveState") == "active" and unit.is_ready():
            if not _runs_from(pid, release):
                raise Failed(f"what runs as {unit.name} is not of {release}: is the unit changed?")
            return {"pid": pid, "ready_seconds": round(time.monotonic() - began, 2)}
        time.sleep(STEP)
    raise Failed(f"the node is not ready after {within:g} s: {unit.last_words()} ({_state(asked)})")


def _runs_from(pid: int, release: Path) -> bool:
    """Whether a process is of this release: its program lies there, or is Python and runs what does."""
    inside = f"{release.resolve()}/"
    with contextlib.suppress(OSError):
        if os.readlink(f"/proc/{pid}/exe").startswith(inside):
            return True
        return os.fsencode(inside) in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _rss(pid: int) -> int:
    """MiB of memory of a process, 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // (1024 * 1024)


def _state(asked: dict[str, str]) -> str:
    restarts = asked.get("NRestarts", "0")
    said = (
        f"{asked.get('ActiveState', '?')} ({asked.get('SubState', '?')}), result {asked.get('Result', '?')}"
    )
    return said if restarts == "0" else f"{said}, restarted {restarts} times"


def _extract(archive: Path, part: Path, top: str) -> dict[str, str]:
    """Unpack files and folders below `top`, which is dropped; the hash of each file by its name."""
    hashes: dict[str, str] = {}
    size = 0
    with tarfile.open(archive, "r:gz") as tar:
        for entry in tar:
            first, _, name = entry.name.partition("/")
            parts = name.split("/") if name else []
            if first != top or any(word in {"", ".", ".."} for word in parts):
                raise ValueError(f"{entry.name!r} lies outside of {top}/")
            target = part.joinpath(*parts)
            size += entry.size
            if len(hashes) >= MAX_FILES or size > MAX_BYTES:
                raise ValueError(f"it holds more than {MAX_FILES} files or {MAX_BYTES} bytes")
            if entry.isdir():
                target.mkdir(mode=0o755)
                target.chmod(0o755)
                continue
            content = tar.extractfile(entry) if entry.isreg() else None
            if content is None:
                raise ValueError(f"{entry.name!r} is neither file nor folder")
            digest = hashlib.sha256()
            with target.open("xb") as file:
                while block := content.read(CHUNK):
                    digest.update(block)
                    file.write(block)
            target.chmod(0o755 if entry.mode & 0o100 else 0o644)
            hashes[name] = digest.hexdigest()
    return hashes


def _check_manifest(part: Path, hashes: dict[str, str]) -> None:
    """What was written is what the release says of itself, neither more nor less."""
    found = hashes.pop("MANIFEST", None)
    if found is None:
        raise ValueError("it has no MANIFEST")
    listed = {}
    for line in (part / "MANIFEST").read_text("utf-8").splitlines():
        digest, _, name = line.partition("  ")
        listed[name] = digest
    if listed != hashes:
        wrong = sorted(name for name in {*listed, *hashes} if listed.get(name) != hashes.get(name))
        raise ValueError(f"{wrong[0]} is not what MANIFEST says")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def _alone(releases: Releases):
    """Nobody else changes the releases of this host meanwhile: of two operators the second waits."""
    with (releases.root / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # goes with the process that holds it, whatever ends that
        yield


CHANGING = {"unpack", "switch", "confirm"}
ACTIONS = {"look": look, "unpack": unpack, "switch": switch, "hold": hold, "confirm": confirm}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "action": {"type": "str", "required": True, "choices": list(ACTIONS)},
            "root": {"type": "path", "default": "/opt/wws"},
            "unit": {"type": "str", "default": "wws-bootstrap.service"},
            "home": {"type": "path", "default": "/var/lib/wws"},
            "http": {"type": "str", "default": "127.0.0.1:9371"},
            "seal": {"type": "path", "default": "/etc/wws/sealed"},
            "version": {"type": "str"},
            "archive": {"type": "path"},
            "sha256": {"type": "str"},
            "controller_time": {"type": "float"},
            "drain_wait": {"type": "float", "default": 10},
            "ready_within": {"type": "float", "default": 20},
            "within": {"type": "float"},
            "pid": {"type": "int"},
            "hold_for": {"type": "float", "default": 20},
            "left": {"type": "float"},
            "rss_max": {"type": "int", "default": 700},
            "rss_growth": {"type": "int", "default": 256},
            "keep": {"type": "int", "default": 3},
        },
        required_if=[
            ("action", "unpack", ("version", "archive", "sha256")),
            ("action", "switch", ("version",)),
        ],
        supports_check_mode=True,
    )
    releases = Releases(Path(module.params["root"]))
    unit = Unit(module.params["unit"], module.params["http"])
    try:
        action = module.params["action"]
        with _alone(releases) if action in CHANGING and not module.check_mode else contextlib.nullcontext():
            result = {"changed": False, **ACTIONS[action](module, releases, unit)}
    except Failed as error:
        module.fail_json(
            msg=str(error),
            current=releases.link("current"),
            previous=releases.link("previous"),
            **error.facts,
        )
    module.exit_json(current=releases.link("current"), previous=releases.link("previous"), **result)


if __name__ == "__main__":
    main()
