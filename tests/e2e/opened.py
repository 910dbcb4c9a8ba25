"""Whom a process asks: a hook of the interpreter writes down each address that it opens or looks up.

A folder with this `sitecustomize` is put on `PYTHONPATH`; every Python process below writes into one file.
uvloop would connect without telling the interpreter, so it is kept out: asyncio's own loop does the same.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HOOK = '''\
"""Writes down whom this process asks."""

import json
import os
import socket
import sys

sys.modules["uvloop"] = None
_file = os.open(os.environ["OPENED_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
_EVENTS = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1, "socket.getaddrinfo": 0}
_EVENTS |= {"socket.gethostbyname": 0, "socket.gethostbyaddr": 0}


def _tell(event, arguments):
    if event in _EVENTS:
        target = arguments[_EVENTS[event]]
        if event == "socket.connect" and arguments[0].type == socket.SOCK_DGRAM:
            event = "route"
        if isinstance(target, tuple):
            target = str(target[0])
        elif isinstance(target, bytes):
            target = os.fsdecode(target)
        if target is not None:
            line = json.dumps([sys.argv[:2], event, str(target)])
            os.write(_file, line.encode() + b"\\n")


sys.addaudithook(_tell)
'''


@dataclass(frozen=True)
class Opened:
    """One address that a process asked for."""

    program: str
    event: str
    target: str

    @property
    def is_local(self) -> bool:
        """A unix socket, this machine by its loopback address, or no packet at all.

        Connecting a UDP socket sends nothing; a node does it towards documentation addresses, where nobody
        is, to be told by the kernel which address of its own it would use.
        """
        if self.event == "route" and self.target in {"192.0.2.1", "2001:db8::1"}:
            return True
        return self.target.startswith(("/", "127.")) or self.target in {"", "::1"}


class Witnessing:
    """The file into which the hook writes, below a folder."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "opened"
        self._file.touch(mode=0o600)
        hook = folder / "hook"
        hook.mkdir()
        (hook / "sitecustomize.py").write_text(_HOOK)
        self._hook = str(hook)

    def env(self, python_path: str) -> dict[str, str]:
        """The variables under which processes are watched."""
        return {"PYTHONPATH": os.pathsep.join((self._hook, python_path)), "OPENED_FILE": str(self._file)}

    def take(self) -> list[Opened]:
        """What was opened since the last time."""
        found = list(self._read())
        self._file.write_text("")
        return found

    def _read(self) -> Iterator[Opened]:
        for line in self._file.read_text().splitlines():
            program, event, target = json.loads(line)
            yield Opened(" ".join(program), event, target)
