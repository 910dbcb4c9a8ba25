"""`wws join --foreground`: one program on the outside, whatever signal comes and whenever it comes.

The handlers stand before the node is started, so that no signal can end us and leave the node behind.
The node gets a process group of its own (`connector.spawn`): a Ctrl-C reaches us alone, and we pass it
on when the node can take it.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from typing import Final

from agent_cli.options import Options
from agent_cli.result import Problem, Result, emit
from wws.rpc.codes import Exit

STOPPING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What ends a program in the foreground; SIGHUP is a closed terminal."""
_BY_SIGNAL: Final = (-signal.SIGTERM, -signal.SIGINT, Exit.DONE, Exit.INTERRUPTED)
"""How a node ends that was told to stop, the first two before it has handlers of its own."""


class Foreground:
    """Holds the signals of this program for the node it is about to start."""

    def __init__(self) -> None:
        """Put the handlers in place; from here on no signal ends us before the node."""
        self.stopped_by: int | None = None
        """The first signal that told us to stop."""
        self._process: subprocess.Popen[bytes] | None = None
        self._is_starting = False
        for number in STOPPING:
            signal.signal(number, self._handle)

    def start(self, spawn: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        """Start the node. A signal that comes in between is kept for it."""
        self._is_starting = True
        self._process = spawn()
        if self.stopped_by is not None:
            self._process.terminate()
        return self._process

    def stay(self, result: Result, options: Options) -> Result:
        """Print what came of the join, then wait with the node."""
        emit(result, "wws.join/v1", options)
        assert self._process is not None
        returned = self._process.wait()
        if returned in _BY_SIGNAL:
            return Result(is_printed=True)
        return Result(is_printed=True, exit_code=Exit(returned) if returned in set(Exit) else Exit.MACHINE)

    def stopped_early(self, node: str) -> Result:
        """Wait for the end of a node that was stopped before it had joined; what it means for us."""
        if self._process is not None:
            self._process.wait()
        data, message = (
            {"node": node, "joined": False},
            f"The node {node!r} was stopped before it had joined.",
        )
        if self.stopped_by == signal.SIGTERM:
            return Result(data, message)
        return Result(data, errors=(Problem("interrupted", message),), exit_code=Exit.INTERRUPTED)

    def _handle(self, number: int, _: object) -> None:
        self.stopped_by = self.stopped_by or number
        if self._process is not None:
            self._process.terminate()
        elif not self._is_starting:
            raise KeyboardInterrupt  # there is nothing yet that could be left behind
