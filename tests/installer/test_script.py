"""The script itself, as text."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.installer.machine import SHELLS, Machine
from tests.installer.releases import INSTALLER
from tests.prerequisites import find_tool, require

TEXT = INSTALLER.read_text()
LINES = TEXT.splitlines()
MOST_LINES = 400


def test_is_short_enough_to_be_read() -> None:
    assert len(LINES) <= MOST_LINES


def test_does_nothing_before_its_last_line() -> None:
    assert TEXT.endswith('\n\nmain "$@"\n')
    indented = [line for line in LINES if line.startswith((" ", "\t"))]
    outside = [line for line in LINES if line and line not in indented and not line.startswith("#")]
    said = {
        "set -eu",
        'set -- whole "$@"',
    }
    usage = TEXT[TEXT.index("<<'END'\n") : TEXT.index("\nEND\n") + 5].splitlines()
    for line in outside:
        if line in usage or line.partition(" # ")[0] in said or line == LINES[-1]:
            continue
        assert re.match(r"[a-z_0-9]+\(\) \{|\}$|[a-zA-Z_]+='", line), line


def test_the_lines_that_a_release_fills_in_are_there_once() -> None:
    for line in ("RELEASES=''", "ROOTS=''", "GLIBC=''"):
        assert LINES.count(line) == 1


def test_never_asks_for_another_user() -> None:
    assert re.search(r"\b(sudo|su|doas|pkexec)\b", TEXT) is None


def test_shellcheck() -> None:
    require("shellcheck")
    done = subprocess.run(["shellcheck", "--shell=sh", INSTALLER], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_takes_the_syntax(shell: str) -> None:
    require(SHELLS[shell][0])
    program = find_tool(SHELLS[shell][0])
    assert program is not None
    subprocess.run([program, *SHELLS[shell][1:], "-n", INSTALLER], check=True, timeout=60)


@pytest.mark.parametrize("shell", SHELLS)
def test_help_names_every_option(machine: Machine, shell: str) -> None:
    said = machine.refuses(0, "Example: ", arguments=["--help"], shell=shell).output
    parsed = TEXT[TEXT.index("\nparse() {") : TEXT.index("\nsay() {")]
    for option in set(re.findall(r"--[a-z][a-z-]+(?= \||\))", parsed)) - {"--help"}:
        assert option in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--frobnicate"], "there is no option --frobnicate"),
        (["frobnicate"], "there is no option frobnicate"),
        (["--prefix"], "--prefix needs a value"),
        (["--version", ""], "--version needs a value"),
        (["--version", "latest"], "'latest' is not a version"),
        (["--version", "1.2"], "'1.2' is not a version"),
        (["--version", "../../x"], "is not a version"),
        (["--version", "1.2.3\n1.2.4"], "is not a version"),
        (["--channel", "stable\n../stable"], "is not the name of a channel"),
        (["--channel", "../stable"], "is not the name of a channel"),
        (["--from", "http://releases.example.org"], "--from takes an https:// URL"),
        (["--from", "http://127.0.0.1:80@releases.example.org/"], "--from takes an https:// URL"),
        (["--from", "http://localhost.example.org/"], "--from takes an https:// URL"),
        (["--from", "file:///etc"], "--from takes an https:// URL"),
        (["--from", "https://example.org/'$(id)'"], "--from takes an https:// URL"),
        (["--root-key", "ssh-rsa AAAA"], "a root key looks so"),
        (["--root-key", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"], "a root key looks so"),
        (["--purge"], "--purge goes with --uninstall"),
    ],
)
def test_wrong_usage(machine: Machine, arguments: list[str], words: str) -> None:
    machine.refuses(2, words, "See --help", arguments=arguments)


@pytest.mark.parametrize("shell", ["dash", "zsh"])
@pytest.mark.parametrize("value", ["0.5", "08", "-1", "a[$(id)]", "1\n2"])
@pytest.mark.parametrize("name", ["WWS_INSTALL_TIMEOUT", "WWS_INSTALL_RETRIES"])
def test_settings_are_numbers(machine: Machine, shell: str, value: str, name: str) -> None:
    """Shells compute with what they are given."""
    machine.refuses(2, "are whole numbers, like 30 and 3", shell=shell, **{name: value})


def test_runs_as_a_file_too(machine: Machine) -> None:
    done = subprocess.run(
        ["sh", INSTALLER, *machine.arguments, "--prefix=tools"],
        cwd=machine.home,
        env=machine.environment({"PATH": f"{machine.bin}:/usr/bin:/bin"}),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert Path(machine.home, "tools", "bin", "wws").exists()
