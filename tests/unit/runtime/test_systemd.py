"""sd_notify: what reaches the service manager."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wws.runtime.systemd import READY, notify, status


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
