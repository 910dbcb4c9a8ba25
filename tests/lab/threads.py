"""Runs asyncio code inside a namespace, from beginning to end."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable

import uvloop

from tests.lab.namespaces import Namespace


def inside(namespace: Namespace, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` on a loop of its own, as the programs have it, in a thread that never leaves the namespace:
    which one a socket is of goes by thread. Raises what `work` raises."""
    failures: list[BaseException] = []

    async def run() -> None:
        await work()

    def thread() -> None:
        try:
            with namespace.entered():
                uvloop.run(run())
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    running = threading.Thread(target=thread, name=namespace.label)
    running.start()
    running.join()
    if failures:
        raise failures[0]
