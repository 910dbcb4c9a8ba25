"""Commands over SSH, against a real sshd: who is believed, what is bounded, and what a failure is called."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent_cli.ops.inventory import HostEntry
from agent_cli.remote import (
    CommandTimedOut,
    HostKeyUnknown,
    HostKeyWrong,
    HostUnreachable,
    LoginRefused,
    OutputTooLarge,
    Ran,
    Remote,
    RemoteConfig,
    connected,
)
from tests.net.ssh_server import SshServer
from tests.prerequisites import require


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    require("sshd", "ssh-keygen")
    with SshServer(tmp_path_factory.mktemp("ssh")) as running:
        yield running


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that would have SSH believe anybody, were they read."""
    ssh = tmp_path / ".ssh"
    ssh.mkdir(mode=0o700)
    (ssh / "config").write_text("Host *\n  StrictHostKeyChecking no\n  User nobody\n  Port 1\n")
    (tmp_path / ".fabric.yaml").write_text("user: nobody\nforward_agent: true\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


def test_a_command_gets_its_words_and_input_as_they_are(server: SshServer) -> None:
    with connected(server.host(), key_file=server.key_file) as remote:
        assert remote.run(["printf", "%s|", "a b", "$HOME", "'", "*"]) == Ran(0, "a b|$HOME|'|*|")
        assert remote.run(["cat"], given=b"x" * 100_000).output == "x" * 100_000
        assert remote.run(["sh", "-c", "echo no >&2; exit 3"]) == Ran(3, "", "no\n")
        assert remote.run(["sh", "-c", "echo ${SSH_AUTH_SOCK:-none}"]).output == "none\n"


def test_another_key_than_the_known_one_is_not_talked_to(server: SshServer) -> None:
    with (
        pytest.raises(HostKeyWrong, match=r"knows the key SHA256:.* has SHA256:") as caught,
        connected(server.host(key="other_key"), key_file=server.key_file),
    ):
        pytest.fail("it was believed")
    assert (caught.value.code, caught.value.exit_code) == ("host_key_changed", 8)


def test_a_key_of_another_kind_than_the_known_one_is_not_talked_to(server: SshServer) -> None:
    host = server.host(key="ecdsa_key")
    with pytest.raises(HostKeyWrong), connected(host, key_file=server.key_file):
        pytest.fail("it was believed")


def test_a_host_without_a_known_key_is_not_even_dialled() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        host = HostEntry("one", "127.0.0.1", "", (), ssh_port=listener.getsockname()[1])
        with pytest.raises(HostKeyUnknown), connected(host):
            pytest.fail("it was believed")
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_user_without_the_key_is_not_let_in(server: SshServer) -> None:
    other = str(server.folder / "other_key")
    with pytest.raises(LoginRefused, match="is not let in"), connected(server.host(), key_file=other):
        pytest.fail("it was let in")
    with pytest.raises(LoginRefused, match="is not there"), connected(server.host(), key_file="/nowhere"):
        pytest.fail("it was let in")
    with pytest.raises(LoginRefused), connected(server.host()):  # neither agent nor ~/.ssh has one
        pytest.fail("it was let in")


def test_nobody_there(server: SshServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        host = replace(server.host(), ssh_port=taken.getsockname()[1])
        with pytest.raises(HostUnreachable, match="refused") as caught, connected(host):
            pytest.fail("it was there")
        assert caught.value.exit_code == 5
        taken.listen()  # takes the connection, and never says a word
        config = RemoteConfig(connect_timeout=0.3)
        with pytest.raises(HostUnreachable), connected(host, config=config):
            pytest.fail("it was there")


def test_a_command_that_hangs_is_ended_at_both_ends(server: SshServer, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    with connected(server.host(), key_file=server.key_file) as remote:
        with pytest.raises(CommandTimedOut, match="not done within 1 s"):
            remote.run(["sh", "-c", f"echo $$ >{mark}; exec sleep 600"], timeout=1)
        assert remote.run(["echo", "next"]).output == "next\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


def test_one_that_ignores_the_end_is_killed(server: SshServer) -> None:
    config = RemoteConfig(timeout_grace=0.5)
    with (
        connected(server.host(), key_file=server.key_file, config=config) as remote,
        pytest.raises(CommandTimedOut),
    ):
        remote.run(["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"], timeout=0.5)


def test_output_without_end_is_cut_and_its_beginning_kept(server: SshServer) -> None:
    config = RemoteConfig(max_output=10_000)
    with connected(server.host(), key_file=server.key_file, config=config) as remote:
        assert len(remote.run(["head", "-c", "10000", "/dev/zero"]).output) == 10_000
        with pytest.raises(OutputTooLarge, match="more than 10000 bytes") as caught:
            remote.run(["yes"])
        assert caught.value.output == "y\n" * 5_000
        with pytest.raises(OutputTooLarge):
            remote.run(["sh", "-c", "yes >&2"])
        assert remote.run(["echo", "next"]).output == "next\n"


def test_lines_are_handed_on_as_they_come_until_we_hang_up(server: SshServer, tmp_path: Path) -> None:
    lines: list[str] = []
    enough = threading.Event()

    def take(line: str) -> None:
        lines.append(line)
        if line == "three":
            enough.set()

    mark = tmp_path / "pid"
    with connected(server.host(), key_file=server.key_file) as remote:
        script = f"echo $$ >{mark}; echo one; printf '%200000s\\n' x; echo three; exec sleep 600"
        following = threading.Thread(target=_follow, args=(remote, script, take), daemon=True)
        following.start()
        assert enough.wait(30)
        remote.close()
        following.join(30)
        assert not following.is_alive()
    assert lines[0] == "one"
    assert len(lines) > 3  # one of them was longer than a line may be, so it came in parts
    assert sum(map(len, lines[1:-1])) == 200_000
    pid = int(mark.read_text())
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def _follow(remote: Remote, script: str, take: Callable[[str], None]) -> None:
    with contextlib.suppress(HostUnreachable):
        remote.follow(["sh", "-c", script], take)
