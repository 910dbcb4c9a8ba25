"""Whose turn it is: nodes that run are changed one after the other, and after those that do not run.

The engine starts all changes of a run at about the same time. A node that is down has nothing to lose: it is
mended at once, whatever became of others. One that does its work is touched only while nobody is being
mended, all others are well, and nothing has failed yet.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from wws.errors import LocalError

AGAIN = 2.0
"""Seconds between two looks at nodes that are down."""


class NodesLeftAlone(LocalError):
    """Another node could not be changed, so this one was not touched."""

    code = "nodes_left_alone"


class OtherNodeDown(LocalError):
    """Another node is down, so this one was not taken away."""

    code = "other_node_down"
    hint = (
        "Mend that one first: pulumi up --refresh. If you must go on without it, set wws:variables "
        "{wws_others_may_be_down: true}."
    )


class Turns:
    """The line of the nodes that one run changes."""

    def __init__(self) -> None:
        self._moved = threading.Condition()
        self._mending: set[str] = set()
        self._is_taken = False
        self._failed = ""
        self._last_mended = 0.0

    @contextmanager
    def beside_others(self, name: str) -> Iterator[None]:
        """A node is made where there was none: nodes that run wait for it, others do not."""
        with self._moved:
            self._mending.add(name)
        try:
            yield
        finally:
            self._ends_mending(name)

    @contextmanager
    def of_one_that_is_down(self, name: str) -> Iterator[None]:
        """Nodes that are down go first, one after the other. A failure of others does not stop them."""
        with self.beside_others(name):
            self._take(lambda: not self._is_taken)
            with self._released(name):
                yield

    @contextmanager
    def of_one_that_runs(
        self, name: str, down: Callable[[], Sequence[str]] = tuple, patience: float = 0.0
    ) -> Iterator[None]:
        """The others come first that are down, as `down` tells, if their turn begins within `patience`.

        Raises `NodesLeftAlone`, and `OtherNodeDown` where nobody mends one.
        """
        since = time.monotonic()
        while True:
            self._take(lambda: not self._is_taken and (bool(self._failed) or not self._mending))
            with self._released(name):
                if self._failed:
                    raise NodesLeftAlone(
                        f"{name} was left as it is, because {self._failed} could not be changed."
                    )
                found = down()
                if not found:
                    yield
                    return
                if time.monotonic() >= max(since, self._last_mended) + patience:
                    raise OtherNodeDown(f"{name} was left as it is, because of {', '.join(found)}.")
            time.sleep(AGAIN)

    def _take(self, may: Callable[[], bool]) -> None:
        with self._moved:
            self._moved.wait_for(may)
            self._is_taken = True

    @contextmanager
    def _released(self, name: str) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._failed = self._failed or name
            raise
        finally:
            with self._moved:
                self._is_taken = False
                self._moved.notify_all()

    def _ends_mending(self, name: str) -> None:
        with self._moved:
            self._mending.discard(name)
            self._last_mended = time.monotonic()
            self._moved.notify_all()
