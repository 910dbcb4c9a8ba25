"""What every end-to-end test has: programs in an environment of their own."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.programs import Programs


@pytest.fixture
def programs() -> Iterator[Programs]:
    """Runs programs of this repository; what they started and left running is ended after the test.

    Their folder has a short path, as real homes have: that of a unix socket is limited.
    """
    folder = Path(tempfile.mkdtemp(prefix="wws-e2e-", dir="/tmp"))
    found = Programs(folder)
    yield found
    left = found.running()
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=10)
    shutil.rmtree(folder)
