"""The systemd unit that keeps a node running for one user: its text, and what can be read from it again.

    UserUnit ──text──► ~/.config/systemd/user/wws-alice.service ──parse_unit──► UserUnit

It is the unit of a bootstrap host (ansible, role bootstrap_node) with as much of its hardening as a user's
own service manager can apply: what the kernel does for a process without rights. Left out is what needs a
mount namespace or capabilities (ProtectSystem=, PrivateTmp=, CapabilityBoundingSet=): where users may make no
namespaces, a unit with it does not start at all. What a unit means is in systemd.service(5), systemd.exec(5).
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

DEFAULT_NODE: Final = "default"
BACKS_OFF_SINCE: Final = 254
"""The version of systemd that knows RestartSteps= and RestartMaxDelaySec=; older ones warn of them."""
MAX_UNIT: Final = 64 * 1024
"""Largest unit file that is read, in bytes."""

_MARK: Final = "X-WWS-Unit="
"""Sections and options that begin with X- are for others than systemd."""
_SCHEMA: Final = 1
_BARE: Final = re.compile(r"[A-Za-z0-9_@.,:/=+-]+\Z")
_UNIT: Final = re.compile(r"wws(?:-(?P<node>[a-z0-9][a-z0-9._-]*))?\.service\Z")


@dataclass(frozen=True, slots=True)
class UserUnit:
    """One node as a service."""

    node: str
    program: tuple[str, ...]
    """What runs the node; its first word is an absolute path."""
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    """`WWS_*` variables, sorted."""

    @property
    def name(self) -> str:
        return unit_name(self.node)

    def text(self, systemd: int | None) -> str:
        """The unit file, for this version of systemd."""
        again = _BACK_OFF if systemd is not None and systemd >= BACKS_OFF_SINCE else "RestartSec=5\n"
        variables = "".join(f"Environment={_word(f'{name}={value}')}\n" for name, value in self.environment)
        command = " ".join(_word(word).replace("$", "$$") for word in (*self.program, *self.arguments))
        return (
            "# Made by `wws service install`, which writes it anew. What you want otherwise goes beside it:\n"
            f"# systemctl --user edit {self.name}\n"
            "[Unit]\n"
            f"Description=WWS node {self.node}\n"
            "StartLimitIntervalSec=0\n"
            f"{_MARK}{self._record()}\n"
            "\n[Service]\n"
            "Type=notify\n"
            "NotifyAccess=main\n"
            f"ExecStart={command}\n"
            "ExecReload=/bin/kill -HUP $MAINPID\n"
            f"Environment=PYTHONUNBUFFERED=1\n{variables}"
            f"{_RESTARTS}{again}{_LIMITS}"
            "\n[Install]\n"
            "WantedBy=default.target\n"
        )

    def _record(self) -> str:
        """This value, on one line; JSON never ends in a backslash, which would join it with the next."""
        members = {
            "schema": _SCHEMA,
            "node": self.node,
            "program": list(self.program),
            "arguments": list(self.arguments),
            "environment": dict(self.environment),
        }
        return json.dumps(members)


_RESTARTS: Final = """\

# It comes back after whatever happens to it. Wrong settings (2), and a key that must not be used as it stands
# (8), do not mend themselves.
Restart=always
RestartPreventExitStatus=2 8
TimeoutStartSec=60
TimeoutStopSec=30
WatchdogSec=30
"""
_BACK_OFF: Final = "RestartSec=2\nRestartSteps=8\nRestartMaxDelaySec=5min\n"
_LIMITS: Final = """\

# What it may do.
NoNewPrivileges=true
LimitCORE=0
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
LockPersonality=true
MemoryDenyWriteExecute=true
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
UMask=0077
"""


def unit_name(node: str) -> str:
    """`wws.service` for the node `default`, `wws-<node>.service` for another."""
    return "wws.service" if node == DEFAULT_NODE else f"wws-{node}.service"


def node_of_unit(name: str) -> str | None:
    """The node whose unit has this name, or `None`: no unit of ours is called so."""
    found = _UNIT.match(name)
    return None if found is None else found["node"] or DEFAULT_NODE


def parse_unit(text: str) -> UserUnit | None:
    """What a unit of ours was made from, or `None`: somebody else wrote it, or a newer version."""
    line = next((line for line in text.splitlines() if line.startswith(_MARK)), None)
    if line is None:
        return None
    try:
        members = json.loads(line.removeprefix(_MARK))
        if members["schema"] != _SCHEMA:
            return None
        node, environment = members["node"], members["environment"]
        program, arguments = _texts(members["program"]), _texts(members["arguments"])
        variables = tuple(sorted(zip(environment.keys(), _texts(list(environment.values())), strict=True)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not isinstance(node, str) or not program:
        return None
    return UserUnit(node, program, arguments, variables)


def link_of(executable: PurePath, program: str) -> PurePath | None:
    """The link that leads to this program of whichever version is installed, or `None` where none does.

    `PREFIX/share/wws/versions/<v>/…` is gone after two upgrades; `PREFIX/bin/<program>` leads to the
    current one always.
    """
    parts = executable.parts
    for at in range(len(parts) - 4, 0, -1):
        if parts[at : at + 3] == ("share", "wws", "versions"):
            return PurePath(*parts[:at], "bin", program)
    return None


def unit_in_cgroup(text: str) -> tuple[str, bool] | None:
    """The service that a process belongs to, from its /proc/PID/cgroup, and whether it is a user's own."""
    for line in text.splitlines():
        path = line.rpartition(":")[2]
        last = path.rpartition("/")[2]
        if last.endswith(".service") and not last.startswith("user@"):
            return last, "/user@" in path
    return None


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise TypeError("not a list of texts")
    return tuple(value)


def _word(text: str) -> str:
    """One word as systemd.syntax(7) quotes it; `%` begins one of its specifiers."""
    if _BARE.match(text):
        return text
    return '"' + "".join(map(_letter, text)).replace("%", "%%") + '"'


def _letter(letter: str) -> str:
    if letter in '\\"':
        return f"\\{letter}"
    return letter if letter.isprintable() else "".join(f"\\x{byte:02x}" for byte in os.fsencode(letter))
