"""Machines as they are: homes of all kinds, tools that are missing, systems that there is no release for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.installer.conftest import MakeMachine
from tests.installer.machine import NEEDED, USUAL, Machine, links, listing
from tests.installer.namespaces import mounts, tool
from tests.installer.releases import INSTALLER, PLATFORM, Releases
from wws.testing.scale import scale_factor

ODD = 'al ice\'s "home" $HOME `id` \\ é'


def test_a_home_of_an_odd_name(make_machine: MakeMachine) -> None:
    machine = make_machine(home_name=ODD)
    machine.installs()
    assert machine.version == "1.2.3"
    assert (
        found_by(["sh", "-c", '. "$HOME/.profile"; command -v wws'], machine) == f"{machine.prefix}/bin/wws"
    )
    machine.installs()
    machine.installs("--uninstall", "--purge")
    assert listing(machine.home) == {}


def test_a_prefix_of_an_odd_name(machine: Machine) -> None:
    prefix = machine.home / "a" / ODD
    machine.installs("--prefix", str(prefix))
    assert (prefix / "bin" / "wws").exists()
    machine.installs("--prefix", str(prefix), "--uninstall", "--purge")
    assert list(listing(machine.home)) == ["a"]


def found_by(command: list[str], machine: Machine) -> str:
    done = subprocess.run(
        command,
        env={"HOME": str(machine.home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.stdout.strip()


def test_no_home(machine: Machine, tmp_path: Path) -> None:
    """It is looked up; who has none is told."""
    users = tmp_path / "passwd"
    users.write_text(f"root:x:0:0::/root:/bin/sh\nalice:x:{os.getuid()}:0::{machine.home}:/bin/sh\n")
    users.write_text(users.read_text().split("\n", 1)[1])
    machine.before = mounts(("--bind", str(users), "/etc/passwd"))
    machine.installs(HOME=None)
    assert machine.version == "1.2.3"
    users.write_text("")
    machine.refuses(10, "HOME=/home/you sh install.sh", HOME=None)
    machine.refuses(10, "HOME is not set to a folder", HOME="home")


def test_a_home_that_cannot_be_written(machine: Machine) -> None:
    home = str(machine.home)
    machine.before = mounts(("--bind", home, home), ("-o", "remount,ro,bind", home))
    machine.refuses(10, f"cannot write into {machine.share}", "--prefix DIR")


def test_nothing_runs_in_tmp(machine: Machine) -> None:
    temporary = machine.folder / "tmp"
    temporary.mkdir()
    machine.before = mounts(("-t", "tmpfs", "-o", "noexec", "tmpfs", str(temporary)))
    machine.installs(TMPDIR=str(temporary))
    assert machine.version == "1.2.3"
    machine.before = mounts(("-t", "tmpfs", "-o", "ro", "tmpfs", str(temporary)))
    machine.installs("--prefix", str(machine.home / "other"), TMPDIR=str(temporary))


def test_nothing_runs_at_home(machine: Machine) -> None:
    home = str(machine.home)
    machine.before = mounts(("--bind", home, home), ("-o", "remount,noexec,bind", home))
    machine.refuses(10, "noexec")


def test_every_tool_that_is_missing(machine: Machine) -> None:
    for lost in (name for name in NEEDED if name != "printf"):
        machine.tools(*(name for name in USUAL if name != lost))
        machine.refuses(10, f"{lost} is missing on this machine")


def test_nothing_to_hash_with(machine: Machine) -> None:
    machine.tools(*(name for name in USUAL if name not in {"sha256sum", "openssl"}))
    machine.refuses(10, "nothing here computes SHA-256", "apt-get install -y coreutils")


@pytest.mark.parametrize("hasher", ["shasum", "openssl"])
def test_other_tools_to_hash_with(machine: Machine, releases: Releases, hasher: str) -> None:
    machine.tools(*(name for name in USUAL if name not in {"sha256sum", "openssl"}), hasher)
    machine.installs()
    machine.installs()
    releases.publish("1.2.4")
    releases.archive("1.2.4").write_bytes(b"other")
    machine.refuses(8, "its SHA-256 is")


def test_a_bare_debian(machine: Machine) -> None:
    """It has neither curl nor certificates, and is told what to type."""
    machine.tools(*(name for name in USUAL if name != "curl"))
    machine.refuses(10, "neither curl nor wget", "apt-get update && apt-get install -y curl ca-certificates")


@pytest.mark.parametrize(
    ("system", "machine_name", "words"),
    [
        ("Linux", "i686", "not for Linux i686"),
        ("Linux", "armv7l", "not for Linux armv7l"),
        ("Linux", "riscv64", "not for Linux riscv64"),
        ("FreeBSD", "amd64", "not for FreeBSD amd64"),
        ("MINGW64_NT-10.0", "x86_64", "wsl --install"),
        ("Darwin", "arm64", "has nothing for macos-aarch64"),
        ("Darwin", "x86_64", "has nothing for macos-x86_64"),
    ],
)
def test_systems_without_a_release(machine: Machine, system: str, machine_name: str, words: str) -> None:
    machine.stub(
        "uname",
        f"case $1 in -s) echo {system} ;; -m) echo {machine_name} ;; *) echo {system} {machine_name} ;; esac",
    )
    machine.refuses(10, words)


def test_rosetta(machine: Machine) -> None:
    machine.stub("uname", "case $1 in -s) echo Darwin ;; -m) echo x86_64 ;; esac")
    machine.stub("sysctl", "echo 1")
    machine.refuses(10, "has nothing for macos-aarch64")


@pytest.mark.parametrize(
    ("tool", "answer", "words"),
    [
        ("ldd", "musl libc (x86_64)", "this system has musl"),
        ("getconf", "glibc 2.17", "this system has glibc 2.17, and releases need glibc 2.28 or newer"),
        ("ldd", "ldd (GNU libc) 2.9", "this system has glibc 2.9"),
    ],
)
def test_another_c_library(machine: Machine, tool: str, answer: str, words: str) -> None:
    script = machine.folder / "stamped.sh"
    script.write_text(INSTALLER.read_text().replace("GLIBC=''", "GLIBC='2.28'"))
    machine.tools(*(name for name in USUAL if name != "getconf"))
    machine.stub(tool, f"echo '{answer}'")
    machine.refuses(10, words, script=script)  # type: ignore[arg-type]


def test_a_new_c_library(machine: Machine) -> None:
    script = machine.folder / "stamped.sh"
    script.write_text(INSTALLER.read_text().replace("GLIBC=''", "GLIBC='2.28'"))
    machine.stub("getconf", "echo glibc 2.100")
    machine.installs(script=script)  # type: ignore[arg-type]


def test_wsl_is_told(machine: Machine, tmp_path: Path) -> None:
    version = tmp_path / "version"
    version.write_text("Linux version 5.15.90.1-microsoft-standard-WSL2\n")
    machine.before = mounts(("--bind", str(version), "/proc/version"))
    assert "This is WSL" in machine.installs("--dry-run").said


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_only_the_user_writes_there(machine: Machine, mask: int) -> None:
    before = os.umask(mask)
    try:
        machine.installs()
    finally:
        os.umask(before)
    places = [path for path in machine.prefix.rglob("*") if not path.is_symlink()]
    assert {path.stat().st_mode & 0o022 for path in places if path.name != "lock"} == {0}
    assert all(
        path.stat().st_mode & 0o555 == 0o555 for path in places if path.is_dir() and "/trust" in str(path)
    )


class TestPath:
    """The files that set PATH: one line each, found again, and given back as they were."""

    def test_is_found_by_new_shells(self, machine: Machine) -> None:
        (machine.home / ".bashrc").write_text("# mine")
        dots = machine.folder / "dots"
        dots.mkdir()
        (dots / "zshrc").write_text("# mine\n")
        (machine.home / ".zshrc").symlink_to(dots / "zshrc")
        (machine.home / ".bash_profile").write_text("# mine\n")
        machine.installs()
        once = listing(machine.home)
        machine.installs()
        assert listing(machine.home) == once
        wanted = f"{machine.prefix}/bin/wws"
        for command in (
            ["sh", "-c", '. "$HOME/.profile"; command -v wws'],
            ["bash", "-lc", "command -v wws"],
            ["bash", "-ic", "command -v wws"],
            ["zsh", "-ic", "command -v wws"],
        ):
            assert found_by(command, machine) == wanted
        machine.installs("--uninstall", "--purge")
        assert (machine.home / ".bashrc").read_text() == "# mine\n"
        assert (dots / "zshrc").read_text() == "# mine\n"
        assert links(machine.home) == {".zshrc": f"-> {dots / 'zshrc'}"}
        assert sorted(path.name for path in machine.home.iterdir()) == [".bash_profile", ".bashrc", ".zshrc"]

    def test_files_that_were_there_stay(self, machine: Machine) -> None:
        """Empty ones, too, and where a link led nowhere it does so again."""
        dots = machine.folder / "dots"
        dots.mkdir()
        (machine.home / ".profile").touch()
        (machine.home / ".bashrc").symlink_to(dots / "bashrc")
        (dots / "bashrc").touch()
        (machine.home / ".zshrc").symlink_to(dots / "zshrc")
        before, dotted = listing(machine.home), listing(dots)
        machine.installs(SHELL="/bin/zsh")
        machine.installs(SHELL="/bin/zsh")
        assert (machine.home / ".zshrc").read_text().count("export PATH") == 1
        machine.installs("--uninstall", "--purge")
        assert (listing(machine.home), listing(dots)) == (before, dotted)

    def test_a_file_that_was_made_is_kept_for_what_was_added(self, machine: Machine) -> None:
        machine.installs()
        with (machine.home / ".profile").open("a") as profile:
            profile.write("# mine\n")
        machine.installs("--uninstall", "--purge")
        assert (machine.home / ".profile").read_text() == "# mine\n"

    def test_zsh_gets_its_file(self, machine: Machine) -> None:
        machine.installs(SHELL="/bin/zsh")
        assert found_by(["zsh", "-ic", "command -v wws"], machine) == f"{machine.prefix}/bin/wws"

    def test_is_left_alone(self, machine: Machine) -> None:
        machine.installs("--no-modify-path")
        assert not (machine.home / ".profile").exists()
        machine.installs(PATH=f"{machine.bin}:{machine.prefix}/bin")
        assert not (machine.home / ".profile").exists()
        assert "export PATH" not in machine.installs(PATH=f"{machine.bin}:{machine.prefix}/bin").said

    def test_what_cannot_be_written_is_told(self, machine: Machine) -> None:
        (machine.home / ".profile").mkdir()
        assert "warning: cannot write" in machine.installs().said
        assert machine.version == "1.2.3"


def test_another_wws_is_not_touched(machine: Machine) -> None:
    """One that pipx or a person has put there."""
    (machine.prefix / "bin").mkdir(parents=True)
    for make in (
        lambda place: place.write_text("mine"),
        lambda place: place.symlink_to("/nowhere"),
    ):
        place = machine.prefix / "bin" / "wws-connector"
        place.unlink(missing_ok=True)
        make(place)
        machine.refuses(10, f"there is another {place}", "--prefix DIR")


def test_an_identity_is_never_replaced(machine: Machine) -> None:
    key = machine.home / ".openswarm" / "identity.key"
    key.parent.mkdir()
    key.write_text("mine\n")
    assert "peer id 12D3KooWmine" in machine.installs().said
    assert key.read_text() == "mine\n"


def test_an_identity_that_is_refused_is_told(machine: Machine, releases: Releases) -> None:
    program = b"#!/bin/sh\ncase $* in id) echo 'error: Others can read it.' >&2; exit 8 ;; esac\n"
    releases.publish("1.2.4", extra={"bin/wws": program})
    said = machine.installs().said
    assert "warning: no identity: error: Others can read it." in said
    assert not (machine.home / ".openswarm").exists()


@pytest.mark.parametrize("kib", [24, 64, 100, 120, 140, 180, 240] if scale_factor() >= 1 else [24, 120, 240])
def test_a_full_disk(machine: Machine, kib: int) -> None:
    """It says so, and what is there is nothing or a whole version. With room again, the next run mends it."""
    home = str(machine.home)
    twice = (
        f'"$@" <"{INSTALLER}"; echo "ended $?"; {tool("find")} "{home}" -mindepth 1; echo then;'
        f'{tool("mount")} -o remount,size=4m "{home}"; "$@" <"{INSTALLER}"; echo "ended $?"'
    )
    machine.before = [
        *mounts(("-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", home)),
        *("/bin/sh", "-c", twice, "sh"),
    ]
    first, _, second = machine.run().output.partition("\nthen\n")
    told = "is the disk full?" in first or "No space left on device (df -h" in first
    assert "ended 0" in first or ("ended 10" in first and told), first
    left = [line for line in first.splitlines() if line.startswith(home)]
    assert not left or f"{machine.share}/current" in left, first
    assert not any("/work." in path or path.endswith((".new", ".wws")) for path in left)
    assert "ended 0" in second, second


@pytest.mark.parametrize("place", ["bin", "share/wws/versions", "share/wws/trust"])
def test_a_disk_that_is_not_full(machine: Machine, releases: Releases, place: str) -> None:
    """A folder that is read-only is called so."""
    machine.installs()
    releases.publish("1.2.4")
    folder = machine.prefix / place
    if place == "bin":
        (folder / "wws").unlink()
    machine.before = mounts(("--bind", str(folder), str(folder)), ("-o", "remount,ro,bind", str(folder)))
    said = machine.run().said
    assert f"cannot write into {folder}: Read-only file system" in said
    assert "is the disk full" not in said


def test_the_platform_of_the_tests(machine: Machine) -> None:
    assert PLATFORM in machine.installs("--dry-run").said
