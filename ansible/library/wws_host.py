#!/usr/bin/python
"""Ansible module: all that the roles want to know of a host before they change it, in one look.

Facts of Ansible cost several runs of Python on the host, and know nothing of who comes in from where.
Standard library and Ansible only; changes nothing.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: wws_host
short_description: Looks at a host
description:
  - Says what system it is, what of packages and units is there, what time it has, and from where SSH came in.
options:
  packages: {type: list, elements: str, default: [], description: Packages that are wanted.}
  units: {type: list, elements: str, default: [], description: Units whose state is asked for.}
  tables: {type: list, elements: str, default: [], description: Tables of nftables that may be loaded.}
  files: {type: list, elements: str, default: [], description: Files whose owner and mode are asked for.}
  texts: {type: list, elements: str, default: [], description: Small files that are read. No secrets.}
author: [the WWS maintainers]
"""

EXAMPLES = r"""
- name: Look at the host
  wws_host: {packages: [nftables], units: [nftables.service]}
"""

RETURN = r"""
system: {type: str, returned: always, description: Name and version as in "Debian 12", "Ubuntu 24.04".}
missing_packages: {type: list, returned: always, description: What of the packages is not installed.}
ssh_client: {type: str, returned: always, description: Address that SSH comes from, empty when it is no SSH.}
clock: {type: float, returned: always, description: Unix time of the host.}
"""

MAX_TEXT = 1024 * 1024
ANCESTORS = 32
"""Processes looked at above this one."""


def main() -> None:
    lists = ("packages", "units", "tables", "files", "texts")
    spec = {name: {"type": "list", "elements": "str", "default": []} for name in lists}
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    wanted = module.params
    client, port = _ssh()
    module.exit_json(
        changed=False,
        system=_system(),
        machine=platform.machine(),
        is_container=_succeeds("systemd-detect-virt", "--quiet", "--container"),
        missing_packages=_missing(wanted["packages"]),
        units={unit: _unit(unit) for unit in wanted["units"]},
        loaded_tables=[
            table for table in wanted["tables"] if _succeeds("nft", "list", "table", *table.split())
        ],
        files={path: _file(path) for path in wanted["files"]},
        texts={path: _text(path) for path in wanted["texts"]},
        ssh_client=client,
        ssh_port=port,
        clock=time.time(),
    )


def _system() -> str:
    """As people say it: Debian counts whole numbers, Ubuntu years and months."""
    said: dict[str, str] = {}
    for line in (_text("/etc/os-release") or "").splitlines():
        name, _, value = line.partition("=")
        said[name] = value.strip('"')
    return f"{said.get('ID', '?').capitalize()} {said.get('VERSION_ID', '')}".strip()


def _missing(packages: list[str]) -> list[str]:
    if not packages:
        return []
    done = _run("dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *packages)
    installed = {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" installed")}
    return [package for package in packages if package not in installed]


def _unit(unit: str) -> str:
    """As in `enabled active`."""
    return " ".join(_run("systemctl", verb, unit).stdout.strip() for verb in ("is-enabled", "is-active"))


def _file(path: str) -> str:
    """Owner and mode as in `0:0 0600`, empty where there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return ""
    return f"{found.st_uid}:{found.st_gid} {found.st_mode & 0o7777:04o}"


def _text(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_TEXT).decode("utf-8", "replace")
    except OSError:
        return ""


def _ssh() -> tuple[str, int]:
    """Where SSH came from and the port it came to. sudo takes the variable away, so ancestors are asked."""
    process = os.getpid()
    for _ in range(ANCESTORS):
        try:
            environment = Path(f"/proc/{process}/environ").read_bytes()
            status = Path(f"/proc/{process}/status").read_text("utf-8", "replace")
        except OSError:
            break
        for entry in environment.split(b"\0"):
            if entry.startswith(b"SSH_CONNECTION="):
                client, _, _, port = entry.partition(b"=")[2].decode("ascii").split()
                return client, int(port)
        process = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid:"))
        if process < 1:
            break
    return "", 0


def _succeeds(*command: str) -> bool:
    return _run(*command).returncode == 0


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a tool; one that is not there has failed."""
    if shutil.which(command[0]) is None:
        return subprocess.CompletedProcess(command, 127, "", "")
    return subprocess.run(command, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    main()
