"""The service manager of the user who runs this: `systemctl --user`; `loginctl` for what outlives a login.

    manager = find_manager(os.environ)          NoUserManager where there is none
    manager.state("wws.service").active

systemd is asked by its programs, which speak over its private socket: that needs no message bus.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_cli.user_unit import MAX_UNIT, UserUnit, node_of_unit, parse_unit, unit_in_cgroup, unit_name
from wws.errors import LocalError
from wws.rpc.codes import Exit
from wws.runtime.homes import Home, NodePaths, Ready, choose_home

BOOTED: Final = Path("/run/systemd/system")
"""There only where systemd runs the machine, see sd_booted(3)."""
RUNTIME: Final = Path("/run/user")
ANSWERS_WITHIN: Final = 15.0
STOPS_WITHIN: Final = 60.0
"""Seconds for what waits until a node has drained."""
WANTED_BY: Final = "default.target.wants"


class NoUserManager(LocalError):
    """No systemd looks after programs of this user here."""

    code = "no_systemd"
    exit_code = Exit.MACHINE


class ManagerFailed(LocalError):
    """systemd refuses what it was asked for."""

    code = "service_failed"
    exit_code = Exit.MACHINE


@dataclass(frozen=True, slots=True)
class Installed:
    """A unit file of ours."""

    path: Path
    unit: UserUnit
    text: str


@dataclass(frozen=True, slots=True)
class UnitState:
    """What systemd knows of a unit."""

    active: str
    """`active`, `activating`, `inactive`, `failed`, …"""
    sub: str
    enabled: bool
    pid: int
    restarts: int
    result: str
    exit_code: int
    """Of its process that ended last."""
    needs_reload: bool

    @property
    def is_down(self) -> bool:
        return self.active in ("inactive", "failed")


class UserManager:
    """systemd as this user's own service manager."""

    def __init__(self, env: Mapping[str, str], version: int) -> None:
        self._env = dict(env)
        self.version = version

    def control(self, *arguments: str, within: float = ANSWERS_WITHIN) -> str:
        """What `systemctl --user` prints. Raises `ManagerFailed`."""
        done = _run(["systemctl", "--user", "--no-pager", "--quiet", *arguments], self._env, within)
        if done.returncode:
            said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            raise ManagerFailed(
                f"systemctl --user {' '.join(arguments)}: {said}", hint="Look at: systemctl --user status"
            )
        return done.stdout

    def state(self, unit: str) -> UnitState:
        names = "ActiveState,SubState,UnitFileState,MainPID,NRestarts,Result,ExecMainStatus,NeedDaemonReload"
        lines = (
            line.partition("=") for line in self.control("show", f"--property={names}", unit).splitlines()
        )
        found = {name: value for name, _, value in lines}
        return UnitState(
            active=found.get("ActiveState", "unknown"),
            sub=found.get("SubState", "unknown"),
            enabled=found.get("UnitFileState") == "enabled",
            pid=_number(found.get("MainPID")),
            restarts=_number(found.get("NRestarts")),
            result=found.get("Result", "unknown"),
            exit_code=_number(found.get("ExecMainStatus")),
            needs_reload=found.get("NeedDaemonReload") == "yes",
        )

    def folder(self) -> Path:
        """Where the manager looks for units of its user's own."""
        for text in self.control("show", "--property=UnitPath", "--value").split():
            if text.endswith("/systemd/user") and not text.startswith(("/run/", "/etc/", "/usr/", "/lib/")):
                return Path(text)
        return unit_folder(self._env)


def find_manager(env: Mapping[str, str]) -> UserManager:
    """The manager of this user. Raises `NoUserManager`, which names what to do without."""
    if sys.platform != "linux" or not BOOTED.is_dir() or shutil.which("systemctl") is None:
        raise NoUserManager(
            "This machine is not run by systemd, which is what looks after the service.",
            hint=f"Start the node yourself: wws join. In a container, or under another service manager, "
            f"run: wws join --foreground.{_wsl()}",
        )
    runtime = env.get("XDG_RUNTIME_DIR") or str(RUNTIME / str(os.getuid()))  # su and cron do not set it
    asked = {**env, "XDG_RUNTIME_DIR": runtime, "LC_ALL": "C"}
    done = _run(["systemctl", "--user", "--version"], asked, ANSWERS_WITHIN)
    reached = _run(["systemctl", "--user", "show", "--property=Version"], asked, ANSWERS_WITHIN)
    if reached.returncode:
        raise NoUserManager(
            f"systemd runs no service manager for {user_name()}: it begins with a login.",
            hint=f"Log in as {user_name()} (by ssh or at the console, not with su or sudo), "
            f"or let root run: loginctl enable-linger {user_name()}. Without a service: wws join",
        )
    found = re.match(r"systemd (\d+)", done.stdout)
    return UserManager(asked, int(found[1]) if found else 0)


def unit_folder(env: Mapping[str, str]) -> Path:
    """Where units of a user lie unless the manager says otherwise."""
    return Path(env.get("HOME") or str(Path.home()), ".config", "systemd", "user")


def read_unit(path: Path) -> Installed | None:
    """The unit file of ours at `path`; `None` where there is none, or somebody else's."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_UNIT).decode()
    except (OSError, UnicodeDecodeError):
        return None
    unit = parse_unit(text)
    return None if unit is None or unit.name != path.name else Installed(path, unit, text)


def installed_units(folder: Path, home: Home) -> list[Installed]:
    """The services of the nodes of this home, by name."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return []
    found = (read_unit(folder / name) for name in names if node_of_unit(name) is not None)
    return [one for one in found if one is not None and is_of_home(one.unit, home)]


def installed_service(node: NodePaths, env: Mapping[str, str]) -> Installed | None:
    """The service of this node, if it has one."""
    found = read_unit(unit_folder(env) / unit_name(node.name))
    return found if found is not None and is_of_home(found.unit, node.home) else None


def is_of_home(unit: UserUnit, home: Home) -> bool:
    """Whether the service is one of this home: nodes of two homes may have the same name."""
    return unit_home(unit) == home.root.absolute()


def unit_home(unit: UserUnit) -> Path:
    flag = next((word for word in unit.arguments if word.startswith("--home=")), "")
    return choose_home(flag.removeprefix("--home="), {}).root.absolute()


def remove_by_hand(found: Installed) -> None:
    """Remove a unit where no manager is there that could have it loaded."""
    (found.path.parent / WANTED_BY / found.path.name).unlink(missing_ok=True)
    found.path.unlink(missing_ok=True)


def service_of_process(pid: int) -> tuple[str, bool] | None:
    """The service that a process belongs to, and whether it is a user's own; `None`: to none."""
    try:
        return unit_in_cgroup(Path(f"/proc/{pid}/cgroup").read_text())
    except OSError:
        return None


def service_of_node(ready: Ready) -> str | None:
    """The unit of ours that this running node is, or `None`."""
    name = unit_name(ready.node)
    return name if service_of_process(ready.pid) == (name, True) else None


def lingers(env: Mapping[str, str]) -> bool | None:
    """Whether the user's services run without a login; `None`: nobody knows."""
    if shutil.which("loginctl") is None:
        return None
    done = _run(
        ["loginctl", "show-user", str(os.getuid()), "--property=Linger", "--value"], env, ANSWERS_WITHIN
    )
    return {"yes": True, "no": False}.get(done.stdout.strip()) if done.returncode == 0 else None


def let_linger(env: Mapping[str, str]) -> bool:
    """Ask that the user's services run without a login; whether that is allowed without a password."""
    done = _run(["loginctl", "--no-ask-password", "enable-linger"], env, ANSWERS_WITHIN)
    return done.returncode == 0 and lingers(env) is True


def user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _run(command: list[str], env: Mapping[str, str], within: float) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=env,
            timeout=within,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]}: {error}")


def _wsl() -> str:
    """What WSL needs to have systemd."""
    try:
        release = Path("/proc/sys/kernel/osrelease").read_text().lower()
    except OSError:
        return ""
    if "microsoft" not in release:
        return ""
    return " WSL has systemd once /etc/wsl.conf says systemd=true under [boot]; then: wsl --shutdown"


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0
