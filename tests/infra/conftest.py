"""What the tests of the stack share: short folders that end empty, and a place in the summary of the run."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

Tell = Callable[[str, str], None]


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Show a text under a title at the end of the run, also when it passes; titles may be used again."""

    def tell(title: str, text: str) -> None:
        record_property("summary", (title, text))

    return tell


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for a stack `local`: its path is short, as the paths of sockets must be.

    What a failed test has left running there ends with it.
    """
    folder = Path(tempfile.mkdtemp(prefix="wws-stack-", dir="/tmp"))
    yield folder
    for pid in processes_of(folder):
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()
    shutil.rmtree(folder, ignore_errors=True)


def processes_of(folder: Path) -> dict[int, str]:
    """The processes that were told of this folder on their command line, with that."""
    found = {}
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(str(folder) in word for word in words):
            found[process.pid] = " ".join(words)
    return found
