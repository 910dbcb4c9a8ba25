"""sd_notify: what reaches the service manager."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wws.runtime.systemd import READY, keep_telling, notify, reloading, status, watchdog_interval


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        yield listener, {"NOTIFY_SOCKET": str(path)}


def test_the_service_manager_is_told_in_one_datagram(manager: tuple[socket.socket, dict[str, str]]):
    listener, env = manager
    assert notify(env, READY, status("joined\nwell"))
    assert listener.recv(1000) == b"READY=1\nSTATUS=joined well"


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_an_abstract_socket(tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        name = f"wws-test-{tmp_path}"[:90]
        listener.bind("\0" + name)
        assert notify({"NOTIFY_SOCKET": "@" + name}, READY)
        assert listener.recv(1000) == b"READY=1"


@pytest.mark.parametrize("env", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "relative"}])
def test_without_a_service_manager_nothing_happens(env):
    assert not notify(env, READY)


@pytest.mark.parametrize("path", ["/nonexistent/notify", "/" + "x" * 200])
def test_a_manager_that_is_gone_is_no_reason_to_stop(path):
    assert not notify({"NOTIFY_SOCKET": path}, READY)


def test_a_reload_begins_at_a_time_of_the_kernel():
    assert reloading(12.3456789) == "RELOADING=1\nMONOTONIC_USEC=12345678"


@pytest.mark.parametrize(
    "env, seconds",
    [
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "500000"}, 0.5),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_how_often_a_sign_of_life_is_wanted(env: dict[str, str], seconds: float | None):
    assert watchdog_interval(env, 7) == seconds


async def test_signs_of_life_say_what_we_do(manager: tuple[socket.socket, dict[str, str]]):
    listener, env = manager
    said = iter(("joined, 3 connections", "draining"))
    telling = asyncio.create_task(keep_telling({**env, "WATCHDOG_USEC": "20000"}, 7, lambda: next(said)))
    for text in ("joined, 3 connections", "draining"):
        heard = await asyncio.to_thread(listener.recv, 1000)
        assert heard == b"WATCHDOG=1\nSTATUS=" + text.encode()
    telling.cancel()
    with contextlib.suppress(asyncio.CancelledError, RuntimeError):  # the words may have run out meanwhile
        await telling


async def test_without_a_watchdog_only_the_status_is_told(
    manager: tuple[socket.socket, dict[str, str]], monkeypatch: pytest.MonkeyPatch
):
    listener, env = manager
    monkeypatch.setattr("wws.runtime.systemd.STATUS_INTERVAL", 0.01)
    telling = asyncio.create_task(keep_telling(env, 7, lambda: "joined"))
    assert await asyncio.to_thread(listener.recv, 1000) == b"STATUS=joined"
    telling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await telling


async def test_without_a_service_manager_there_is_nothing_to_keep_up():
    await keep_telling({"WATCHDOG_USEC": "20000"}, 7, lambda: "joined")
