"""`wws-bootstrap` as a process: what it prints, keeps, refuses, and how it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bootstrap_node import health
from wws.identity.keys import Identity
from wws.runtime.homes import Home

REPOSITORY = Path(__file__).parents[2]

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts programs in a folder of the test, away from the environment of whoever runs it."""
    started: list[subprocess.Popen[str]] = []
    env = {name: value for name, value in os.environ.items() if not name.startswith("WWS_")}
    env |= {"PYTHONPATH": str(REPOSITORY), "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}

    def start_one(*arguments: str, module: str = "bootstrap_node", **variables: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**env, **variables},
        )
        started.append(process)
        return process

    yield start_one
    for process in started:
        process.kill()
        process.communicate()


LOOPBACK = ("--listen", "/ip4/127.0.0.1/tcp/0", "--rpc", "", "--network", "example.org", "--allow-unsigned")


def lines(process: "subprocess.Popen[str]", count: int) -> list[str]:
    """The first lines on stdout; they are there when the node is."""
    assert process.stdout is not None
    found = [process.stdout.readline().rstrip("\n") for _ in range(count)]
    if not all(found):
        pytest.fail(process.communicate()[1])
    return found


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Exit code and stderr of a program that ends by itself."""
    _, errors = process.communicate(timeout=30)
    return process.returncode, errors


@pytest.mark.parametrize(
    "module, mode",
    [("bootstrap_node", ()), ("wws.runtime", ("--bootstrap-mode",))],
    ids=["bootstrap", "connector"],
)
def test_it_says_who_it_is_serves_and_drains(
    tmp_path: Path, start: Start, module: str, mode: tuple[str, ...]
):
    process = start(*LOOPBACK, "--http", "127.0.0.1:0", *mode, module=module)
    said = lines(process, 4)
    identity = Identity((tmp_path / "bootstrap-identity.key").read_bytes())
    node = Home(tmp_path / ".openswarm").node("bootstrap")
    ready = node.read_ready()
    assert ready is not None
    assert ready.http is not None
    (address,) = ready.listen
    assert said == [
        f"PeerId: {identity.peer_id}",
        f"DID: {identity.peer_id.did}",
        f'_openswarm._tcp.example.org. 300 IN TXT "v=1 peer={address}/p2p/{identity.peer_id}"',
        f'_dnsaddr.example.org. 300 IN TXT "dnsaddr={address}/p2p/{identity.peer_id}"',
    ]
    assert (ready.peer_id, ready.pid, ready.rpc) == (str(identity.peer_id), process.pid, None)
    assert health.main([ready.http]) == 0
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 0
    assert not node.ready_file.exists()


def test_it_keeps_its_key_over_restarts_and_a_kill(start: Start):
    process = start(*LOOPBACK, "--http", "")
    first = lines(process, 1)
    process.kill()
    process.communicate()
    assert lines(start(*LOOPBACK, "--http", ""), 1) == first


def test_a_second_node_with_its_key_is_refused(tmp_path: Path, start: Start):
    lines(start(*LOOPBACK, "--http", ""), 1)
    code, errors = ended(start(*LOOPBACK, "--http", "", "--home", str(tmp_path / "other")))
    assert code == 7
    assert "runs with the key" in errors
    told = Home(tmp_path / "other").node("bootstrap").read_error()
    assert told is not None
    assert (told.code, told.exit_code) == ("identity_in_use", 7)


def test_a_second_node_of_its_name_is_refused(tmp_path: Path, start: Start):
    lines(start(*LOOPBACK, "--http", ""), 1)
    code, _ = ended(start(*LOOPBACK, "--http", "", "--identity-path", str(tmp_path / "other.key")))
    assert code == 7


@pytest.mark.parametrize("option", ["--listen", "--http", "--rpc"])
def test_a_taken_port_is_exit_code_ten(tmp_path: Path, start: Start, option: str):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        where = f"/ip4/127.0.0.1/tcp/{port}" if option == "--listen" else f"127.0.0.1:{port}"
        options = {"--listen": "/ip4/127.0.0.1/tcp/0", "--http": "", "--rpc": "", option: where}
        given = [text for pair in options.items() for text in pair]
        code, errors = ended(start(*given, "--network", "example.org", "--allow-unsigned"))
    assert code == 10, errors
    told = Home(tmp_path / ".openswarm").node("bootstrap").read_error()
    assert told is not None
    assert told.code == "port_taken"
    assert Home(tmp_path / ".openswarm").running_nodes() == []


@pytest.mark.parametrize(
    "arguments, code, says",
    [
        (["--nope"], 2, "unrecognized arguments"),
        (["--listen", "nonsense"], 2, "flag --listen"),
        (["--config", "missing.toml"], 2, "missing.toml"),
        (["--node", "../x"], 2, "cannot be the name"),
        (["--identity-path", "short.key"], 8, "has 5 bytes"),
        (["--identity-path", "loose.key"], 8, "mode 0644"),
        (["--home", "short.key"], 10, "short.key"),
    ],
)
def test_a_start_that_cannot_work_says_why(
    tmp_path: Path, start: Start, arguments: list[str], code: int, says: str
):
    (tmp_path / "short.key").write_bytes(b"short")
    (tmp_path / "short.key").chmod(0o600)
    (tmp_path / "loose.key").write_bytes(b"\1" * 32)
    (tmp_path / "loose.key").chmod(0o644)
    options = [] if "--listen" in arguments else ["--listen", "/ip4/127.0.0.1/tcp/0"]
    program = start(
        *options, "--rpc", "", "--http", "", "--network", "example.org", "--allow-unsigned", *arguments
    )
    found, errors = ended(program)
    assert found == code, errors
    assert says in errors
    assert "Traceback" not in errors
    assert (tmp_path / "short.key").read_bytes() == b"short"


def test_the_service_manager_is_told(tmp_path: Path, start: Start):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        process = start(*LOOPBACK, "--http", "", NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert manager.recv(1000).startswith(b"READY=1\n")
        process.send_signal(signal.SIGTERM)
        assert manager.recv(1000) == b"STOPPING=1"
        assert ended(process)[0] == 0


def test_the_watchdog_is_fed_by_the_event_loop_and_a_reload_is_told(tmp_path: Path, start: Start):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        process = start(
            *LOOPBACK, "--http", "", NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000"
        )
        assert manager.recv(1000).startswith(b"READY=1\n")
        for _ in range(2):
            assert re.fullmatch(
                rb"WATCHDOG=1\nSTATUS=\w+, connections \d+, reservations 0, circuits 0", manager.recv(1000)
            )
        process.send_signal(signal.SIGHUP)
        heard = [manager.recv(1000)]
        while heard[-1] != b"READY=1":
            heard.append(manager.recv(1000))
        assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=[0-9]+", heard[-2])
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 0


def test_sighup_reads_limits_again_and_survives_a_mistake(tmp_path: Path, start: Start):
    settings = tmp_path / "config.toml"
    settings.write_text("[limits]\nrelay_circuits = 3\n")
    process = start(*LOOPBACK, "--http", "", "--config", str(settings), "--log-format", "json")
    lines(process, 1)
    assert process.stderr is not None

    def reload_with(text: str) -> dict[str, object]:
        settings.write_text(text)
        process.send_signal(signal.SIGHUP)
        for line in process.stderr or ():
            event: dict[str, object] = json.loads(line)
            if str(event["event"]).startswith("reload"):
                return event
        raise AssertionError("the node has ended")

    taken = reload_with("[limits]\nrelay_circuits = 4\ndials = 4\n[rpc]\ntcp = ''\n")
    assert taken["changed"] == ["limits.relay_circuits"]
    assert taken["needs_restart"] == ["limits.dials"]
    assert "did you mean dials?" in str(reload_with("[limits]\ndialss = 5\n")["error"])
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 0


def test_the_socket_lies_where_the_settings_say_and_replaces_nothing(tmp_path: Path, start: Start):
    settings = tmp_path / "config.toml"
    settings.write_text(f"[rpc]\nsocket = '{tmp_path}/elsewhere/rpc.sock'\n")
    lines(start(*LOOPBACK, "--http", "", "--config", str(settings)), 1)
    ready = Home(tmp_path / ".openswarm").node("bootstrap").read_ready()
    assert ready is not None
    assert ready.socket == f"{tmp_path}/elsewhere/rpc.sock"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(ready.socket)
    settings.write_text(f"[rpc]\nsocket = '{tmp_path}/bootstrap-identity.key'\n")
    other = start(
        *LOOPBACK, "--http", "", "--config", str(settings), "--node", "b", "--identity-path", "b.key"
    )
    code, errors = ended(other)
    assert code == 10
    assert "is in the way" in errors
    assert len((tmp_path / "bootstrap-identity.key").read_bytes()) == 32
