"""`systemctl` and `loginctl` for tests of `wws service`: units are started and stopped, and nothing restarts.

What the real ones do is tested on a host with systemd (tests/hosts/test_first_minute.py); here it is what
`wws` makes of their answers. They lie in a folder that is put before the PATH; `calls` has what was asked.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

_SYSTEMCTL = """\
#!{python} -IS
import os, pathlib, signal, sys, time

state = pathlib.Path({state!r})
units = pathlib.Path(os.environ["HOME"], ".config", "systemd", "user")
words = [word for word in sys.argv[1:] if word not in ("--user", "--no-pager", "--quiet", "--no-block")]
with (state / "calls").open("a") as calls:
    calls.write(" ".join(words) + "\\n")
verb, name = words[0], words[-1]
wanted = units / "default.target.wants" / name
pid_file = state / f"{{name}}.pid"


def pid():
    try:
        number = int(pid_file.read_text())
        os.kill(number, 0)
    except (OSError, ValueError):
        return 0
    stat = pathlib.Path(f"/proc/{{number}}/stat")
    return 0 if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z" else number


def stop():
    if pid():
        os.kill(pid(), signal.SIGTERM)
        end = time.monotonic() + 20
        while pid() and time.monotonic() < end:
            time.sleep(0.02)


if (state / "unreachable").exists() and verb != "--version":
    sys.exit("Failed to connect to bus: No medium found")
elif verb == "--version":
    print("systemd 252 (252.1)")
elif verb == "show" and name == "--value":
    print(f"/run/user/1/systemd/user.control /run/user/1/systemd/user {{units}} /etc/systemd/user")
elif verb == "show" and name.endswith(".service"):
    running = pid()
    print("ActiveState=" + ("active" if running else "inactive"))
    print("SubState=" + ("running" if running else "dead"))
    print("UnitFileState=" + ("enabled" if wanted.is_symlink() else "disabled"))
    print(f"MainPID={{running}}\\nNRestarts=0\\nResult=success\\nExecMainStatus=0\\nNeedDaemonReload=no")
elif verb == "enable":
    wanted.parent.mkdir(exist_ok=True)
    wanted.symlink_to(units / name) if not wanted.is_symlink() else None
elif verb == "disable":
    wanted.unlink(missing_ok=True)
elif verb == "stop":
    stop()
elif verb in ("start", "restart"):
    import shlex, subprocess
    if verb == "restart":
        stop()
    text = (units / name).read_text()
    line = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    command = shlex.split(line.partition("=")[2].replace("%%", "%").replace("$$", "$"))
    if not pid():
        null = subprocess.DEVNULL
        process = subprocess.Popen(command, stdin=null, stdout=null, stderr=null, start_new_session=True)
        pid_file.write_text(str(process.pid))
"""
_LOGINCTL = """\
#!/bin/sh
case "$*" in
*enable-linger*) [ -e '{state}/may-linger' ] && touch '{state}/lingers' ;;
*) if [ -e '{state}/lingers' ]; then echo yes; else echo no; fi ;;
esac
"""


@dataclass
class UserSystemd:
    """The two programs, and what they remember."""

    folder: Path

    def __post_init__(self) -> None:
        self.state.mkdir(parents=True)
        for name, text in (("systemctl", _SYSTEMCTL), ("loginctl", _LOGINCTL)):
            program = self.folder / name
            program.write_text(text.format(python=sys.executable, state=str(self.state)))
            program.chmod(0o755)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def calls(self) -> list[str]:
        """What systemctl was asked to change."""
        told = self.state / "calls"
        lines = told.read_text().splitlines() if told.exists() else []
        return [line for line in lines if not line.startswith(("show", "--version"))]

    def let(self, what: str) -> None:
        """`may-linger`, or `unreachable`."""
        (self.state / what).touch()
