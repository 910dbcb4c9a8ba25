"""What the tests on real sockets share: nothing may be left, and nothing may count as a bug."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import psutil
import pytest

from tests.interop.ours import until


@pytest.fixture
async def leaves_nothing() -> AsyncIterator[None]:
    """Afterwards there are no more tasks and sockets than before, and asyncio has reported no error."""
    reported: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context))
    process = psutil.Process()
    tasks, sockets = asyncio.all_tasks(), len(process.net_connections("inet"))
    yield
    await until(lambda: asyncio.all_tasks() <= tasks | {asyncio.current_task()})
    await until(lambda: len(process.net_connections("inet")) <= sockets)
    assert not reported


Tell = Callable[[str, str], None]


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Show a text under a title at the end of the run, also when it passes."""

    def tell(title: str, text: str) -> None:
        record_property("summary", (title, text))

    return tell
