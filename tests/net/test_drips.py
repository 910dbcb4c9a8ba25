"""A node that was taken over keeps whoever asks for its health waiting: an answer in drips, for ever."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import pytest

from agent_cli.ops import probing
from bootstrap_node import health
from tests.unit.playbooks.modules import load

wws_release = load("wws_release")
BEGINNINGS = [
    pytest.param(b"", id="the first line"),
    pytest.param(b"HTTP/1.1 200 OK\r\n", id="the head"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", id="the content"),
]

pytestmark = pytest.mark.net


@pytest.fixture
def dripping() -> Iterator[Callable[[bytes], str]]:
    """Begins an answer, and goes on with it byte by byte; at which address."""
    gone = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))

    def begin(beginning: bytes) -> str:
        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                try:
                    connection.sendall(beginning)
                    while not gone.wait(0.02):
                        connection.sendall(b"x")
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{listening.getsockname()[1]}"

    with closing(listening):
        yield begin
        gone.set()


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_the_health_check_ends(
    dripping: Callable[[bytes], str], beginning: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "TIMEOUT", 0.3)
    assert isinstance(health.check(dripping(beginning), "/readyz")[1], str)


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_a_probe_ends(dripping: Callable[[bytes], str], beginning: bytes) -> None:
    url, config = f"http://{dripping(beginning)}/metrics", probing.ProbeConfig(request_timeout=0.3)
    with suppress(probing.CheckFailed):
        assert probing._read_metrics(url, config)[0] == 200


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_an_upgrade_goes_on(
    dripping: Callable[[bytes], str], beginning: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wws_release, "PAGE_WITHIN", 0.3)
    unit = wws_release.Unit("wws-bootstrap.service", dripping(beginning))
    assert unit.is_ready() is (b"200" in beginning)  # what it says counts; that it says so is no surprise
