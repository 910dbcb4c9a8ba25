"""Signals that end the demo, but never between starting a process and noting it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a polite kill, a terminal that was closed: all end the demo alike."""


class Interrupts:
    """Entered, it turns the first signal into a `KeyboardInterrupt`; while held, that waits for `release`.

    Begins held. A handler of our own also gives our children the default one, where we were started with
    SIGINT ignored.
    """

    def __init__(self) -> None:
        self._held = True
        self._pending = False
        self._before: list[signal._HANDLER] = []

    def __enter__(self) -> Interrupts:
        self._before = [signal.signal(number, self._handle) for number in SIGNALS]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in zip(SIGNALS, self._before, strict=True):
            signal.signal(number, handler)

    def hold(self) -> None:
        """From now on a signal waits."""
        self._held = True

    def release(self) -> None:
        """From now on a signal interrupts. Raises `KeyboardInterrupt` when one has waited."""
        self._held = False
        if self._pending:
            self._pending, self._held = False, True
            raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold signals back for a block that must be done whole."""
        was_held = self._held
        self._held = True
        try:
            yield
        finally:
            self._held = was_held
        if not was_held:
            self.release()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._held:
            self._pending = True
        else:
            self._held = True  # one is enough: what ends the demo is not interrupted again
            raise KeyboardInterrupt
