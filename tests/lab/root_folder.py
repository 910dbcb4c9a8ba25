"""The root folder of a Debian 12 host: built once with mmdebstrap, kept in the user's cache.

    base = root_folder()        # ~/.cache/wws/hosts/<hash of the recipe>/root

The name carries a hash of what it is made of, so a changed recipe is a new folder, and one that is there is
never touched again: hosts put a writable layer over it. Whoever comes first builds, others wait for the lock.
A build that was cut off lies beside it under another name and is removed by the next.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

SUITE = "bookworm"
PACKAGES = (
    # what makes it a host that can be reached and run by Ansible
    *(
        "systemd",
        "systemd-sysv",
        "libpam-systemd",
        "dbus",
        "openssh-server",
        "sudo",
        "python3",
        "python3-apt",
    ),
    *("iproute2", "iputils-ping", "procps", "ca-certificates", "curl"),
    # what the roles install: a host of the lab has no way to a package mirror
    *("nftables", "unattended-upgrades", "chrony", "age"),
    # what only tests want: a host whose clock is wrong
    "libfaketime",
)
MASKED = (
    # they would wait for devices or networks that a container has not, or start downloads by themselves
    *("systemd-networkd.service", "systemd-networkd.socket", "systemd-resolved.service"),
    *("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service"),
    *("getty.target", "console-getty.service"),
)
_OPTIONS = (
    *("--quiet", "--variant=minbase", "--mode=root", f"--include={','.join(PACKAGES)}"),
    *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("man", "locale", "doc", "info")),
    '--aptopt=Acquire::Languages "none"',
    # every host gets host keys of its own, which are known before it is reached
    '--customize-hook=rm -f "$1"/etc/ssh/ssh_host_*',
    *(f'--customize-hook=ln -sf /dev/null "$1/etc/systemd/system/{unit}"' for unit in MASKED),
)
_SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
_BUILD_WITHIN = 600


def root_folder() -> Path:
    """The folder; builds it when it is not there (20 to 60 s, 230 MB). Raises `RuntimeError`."""
    recipe = hashlib.sha256("\n".join((SUITE, *_OPTIONS)).encode()).hexdigest()[:16]
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wws" / "hosts"
    done = base / recipe / "root"
    if done.is_dir():
        return done
    base.mkdir(parents=True, exist_ok=True)
    with _locked(base / "lock"):
        if not done.is_dir():
            _build(done)
    return done


def _build(done: Path) -> None:
    part = done.with_name("part")
    shutil.rmtree(part, ignore_errors=True)
    done.parent.mkdir(exist_ok=True)
    # The sources of this machine, where it runs the same suite: it may have a mirror of its own.
    ours = [str(_SOURCES)] if _SOURCES.exists() and SUITE in _SOURCES.read_text() else []
    command = ["mmdebstrap", *_OPTIONS, SUITE, str(part), *ours]
    built = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_BUILD_WITHIN,
        check=False,
    )
    if built.returncode:
        raise RuntimeError(f"the root folder was not built: {built.stdout.strip()[-2_000:]}")
    part.rename(done)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
