"""Others on the operator's machine, and what is left over there: only the stack's own is touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wws.runtime.homes import process_start
from wws.runtime.whole_files import CannotWrite, FolderLoose
from wws_dns.provider import Changes, Record, Unavailable
from wws_dns.zone_file import ZoneFileProvider
from wws_infra.dynamic import processes
from wws_infra.dynamic.processes import Running
from wws_infra.providers.local.dns import PROCESS_FILE, DnsProvider
from wws_infra.providers.local.host import MACHINE_FILE, FolderTaken, HostProvider

RECORD = Record("_dnsaddr.example.org", "TXT", "dnsaddr=/ip4/192.0.2.1", 60)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the same user that has nothing to do with the stack. Any signal ends it."""
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_pid_without_a_beginning_is_nobodys(bystander: subprocess.Popen[bytes]) -> None:
    running = Running(bystander.pid, None)
    assert not running.is_there
    running.send(signal.SIGTERM)
    running.stop()
    assert bystander.poll() is None


@pytest.mark.parametrize(
    "content",
    [
        b'{"pid": %d}',
        b'{"pid": %d, "started": null}',
        b'{"pid": %d, "started": 1}',
        b"[%d]",
        b'{"pid": "%d", "started": 1}',
        b'{"pid": -%d, "started": 1}',
        b"%d",
        b'{"pid": 1e400, "started": %d}',
    ],
)
def test_what_lies_in_the_folder_of_the_dns_server_stops_nobody(
    tmp_path: Path, bystander: subprocess.Popen[bytes], content: bytes
) -> None:
    (tmp_path / PROCESS_FILE).write_bytes(content % bystander.pid)
    provider = DnsProvider()
    _, made = provider.made({"folder": str(tmp_path)})
    try:
        assert bystander.poll() is None
    finally:
        provider.removed(str(tmp_path), made)


def publish(tmp_path: Path, pid_file: str, *, age: float = 0) -> None:
    path = tmp_path / "pid"
    path.write_text(pid_file)
    found = path.stat()
    os.utime(path, (found.st_atime, found.st_mtime - age))
    ZoneFileProvider("example.org", tmp_path / "zone.json", pid_file=path).apply(Changes(add=(RECORD,)))


def test_a_server_that_began_after_its_pid_file_is_another_program(
    tmp_path: Path, bystander: subprocess.Popen[bytes]
) -> None:
    with pytest.raises(Unavailable, match="another one"):  # not in silence: a clock that was set looks alike
        publish(tmp_path, f"{bystander.pid}\n", age=3_600)
    with pytest.raises(subprocess.TimeoutExpired):
        bystander.wait(0.2)


def test_a_server_that_wrote_its_number_is_told(tmp_path: Path, bystander: subprocess.Popen[bytes]) -> None:
    publish(tmp_path, f"{bystander.pid}\n", age=-5)
    assert bystander.wait(10) == -signal.SIGHUP


def test_a_server_that_says_when_it_began_is_told(tmp_path: Path, bystander: subprocess.Popen[bytes]) -> None:
    publish(tmp_path, f"{bystander.pid} {process_start(bystander.pid)}\n", age=3_600)
    assert bystander.wait(10) == -signal.SIGHUP


def test_processes_that_stay_get_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = (
        "CLOUDFLARE_API_TOKEN",
        "HCLOUD_TOKEN",
        "PULUMI_CONFIG_PASSPHRASE",
        "WWS_DNS_TSIG",
        "AWS_SECRET_ACCESS_KEY",
        "GITHUB_TOKEN",
        "SSH_AUTH_SOCK",
    )
    for name in secrets:
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    given = processes._environment(tmp_path)
    assert "secret" not in given.values()
    assert given["PATH"] == os.environ["PATH"]
    assert given["LC_ALL"] == "C.UTF-8"


def test_a_folder_that_everybody_writes_to_holds_no_key(tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    loose.chmod(0o777)
    for home in (loose, loose / "boot1"):
        with pytest.raises(FolderLoose):
            HostProvider().made({"home": str(home)})
    assert not any(loose.iterdir())


def test_a_folder_of_somebody_else_holds_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.getuid() == 0:
        os.chown(tmp_path, 65_534, 65_534)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(FolderTaken):
        HostProvider().made({"home": str(tmp_path)})


@pytest.mark.parametrize("is_ours", [False, True])
def test_a_link_is_no_home(tmp_path: Path, is_ours: bool) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if is_ours:
        (elsewhere / MACHINE_FILE).write_text("0123456789abcdef")
    home = tmp_path / "boot1"
    home.symlink_to(elsewhere)
    with pytest.raises((FolderTaken, CannotWrite)):
        HostProvider().made({"home": str(home)})
    HostProvider().removed("0123456789abcdef", {"home": str(home)})
    assert elsewhere.is_dir()


def test_a_log_that_is_a_link_leads_nowhere(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "log").symlink_to(precious)
    with pytest.raises((OSError, processes.ProcessFailed)):
        processes.start(
            ["this_module_is_none"],
            folder=tmp_path,
            log=tmp_path / "log",
            is_up=lambda _: False,
            what="Nothing",
        )
    assert precious.read_text() == "mine"


def test_state_that_names_another_folder_removes_nothing(tmp_path: Path) -> None:
    """Only what a DNS server of ours has left is removed, not a folder that happens to hold a zone."""
    (tmp_path / "zone.json").write_text("{}")
    (tmp_path / "precious").write_text("mine")
    DnsProvider().removed(str(tmp_path), {"pid": 0, "started": None, "folder": str(tmp_path)})
    assert (tmp_path / "precious").read_text() == "mine"
    assert json.loads((tmp_path / "zone.json").read_text()) == {}
