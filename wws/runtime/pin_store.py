"""`known_names.json`: the pins of a home, shared by its nodes and the command line.

Read again only when another process has changed it; written under a lock, so that two nodes that pin at the
same time both keep what they pinned.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from wws.names.pins import Pins
from wws.runtime.homes import Home
from wws.runtime.state_files import StateFile, locked

_T = TypeVar("_T")


class PinStore:
    """The pins on disk, with a copy in memory."""

    def __init__(self, home: Home) -> None:
        self._file = StateFile(home.known_names)
        self._pins = Pins()
        self._seen: tuple[int, int, int] | None = None
        self._is_current = True

    def use(self, work: Callable[[Pins], _T]) -> _T:
        """Run `work` on the pins as they are now, and save them if it changed them.

        Raises what `work` raises (nothing is saved then), `StateUnreadable`, `MachineError`.
        """
        with locked(self._file.path):
            self._refresh()
            before = self._pins.revision
            try:
                result = work(self._pins)
            except BaseException:
                # What it has changed is not saved, so it must not be believed.
                self._is_current = self._pins.revision == before
                raise
            if self._pins.revision != before:
                self._file.write(self._pins.to_json())
                self._seen = self._stamp()
            return result

    def _refresh(self) -> None:
        stamp = self._stamp()
        if not self._is_current or stamp != self._seen:
            value = self._file.read()
            self._pins = Pins() if value is None else Pins.from_json(value)
            self._seen = stamp
            self._is_current = True

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._file.path)
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size
