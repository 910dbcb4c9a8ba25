"""A sign of life while something takes time: on stderr, and only on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent_cli.options import Options
from agent_cli.text import printable

if TYPE_CHECKING:
    from rich.status import Status


class Progress:
    """What is being done right now; `say` changes it."""

    def say(self, what: str) -> None:
        """Nothing is shown."""

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keep out of the way while the block prints: rich would take the lines and wrap them."""
        yield


class _Shown(Progress):
    def __init__(self, status: Status) -> None:
        self._status = status

    def say(self, what: str) -> None:
        self._status.update(_plain(what))

    @contextmanager
    def paused(self) -> Iterator[None]:
        self._status.stop()
        try:
            yield
        finally:
            self._status.start()


@contextmanager
def progress(options: Options, what: str) -> Iterator[Progress]:
    """Show a spinner with these words while the block runs."""
    if not options.shows_progress:
        yield Progress()
        return
    from rich.console import Console

    console = Console(stderr=True, no_color=not options.has_colour, highlight=False)
    with console.status(_plain(what)) as status:
        yield _Shown(status)


def _plain(what: str) -> str:
    """The words as they are: rich would read square brackets as markup."""
    return printable(what).replace("[", "\\[")
