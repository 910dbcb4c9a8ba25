"""The unit of a service: its text, and what is read from it again."""

import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_cli.user_unit import (
    MAX_UNIT,
    UserUnit,
    link_of,
    node_of_unit,
    parse_unit,
    unit_in_cgroup,
    unit_name,
)

ALICE = UserUnit("alice", ("/users/alice/.local/bin/wws-connector",), ("--node=alice", "--name=alice"))
WORDS = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=30)


def test_a_node_has_a_unit_of_its_name() -> None:
    assert (unit_name("default"), unit_name("alice")) == ("wws.service", "wws-alice.service")
    assert (node_of_unit("wws.service"), node_of_unit("wws-alice.service")) == ("default", "alice")
    for other in (
        "wws-.service",
        "wws-bootstrap.timer",
        "wwsx.service",
        "wws-alice@1.service",
        "my-wws.service",
    ):
        assert node_of_unit(other) is None, other


def test_what_it_runs_and_how_it_comes_back() -> None:
    lines = ALICE.text(252).splitlines()
    assert "ExecStart=/users/alice/.local/bin/wws-connector --node=alice --name=alice" in lines
    for line in (
        "Type=notify",
        "Restart=always",
        "WatchdogSec=30",
        "WantedBy=default.target",
        "RestartSec=5",
    ):
        assert line in lines
    assert "RestartSteps" not in ALICE.text(253), "it would be warned of at each login"
    assert "RestartMaxDelaySec=5min" in ALICE.text(254)
    assert ALICE.text(None) == ALICE.text(252)


def test_words_mean_themselves() -> None:
    """`%` begins a specifier, `$` a variable, and a lone `;` a second command."""
    unit = UserUnit("x", ("/a b/c",), ("a%h", "$HOME", ";", 'say "hi"', "back\\slash", "two\nlines", "é"))
    line = next(line for line in unit.text(252).splitlines() if line.startswith("ExecStart="))
    assert line == (
        'ExecStart="/a b/c" "a%%h" "$$HOME" ";" "say \\"hi\\"" "back\\\\slash" "two\\x0alines" "é"'
    )
    assert '"/\\xff"' in UserUnit("x", ("/\udcff",)).text(252), "a path is bytes"
    shown = UserUnit("x", ("/c",), environment=(("WWS_LOG_LEVEL", "a b%"),)).text(252)
    assert 'Environment="WWS_LOG_LEVEL=a b%%"\n' in shown


@given(
    arguments=st.lists(WORDS, max_size=5),
    environment=st.dictionaries(st.from_regex(r"WWS_[A-Z]{1,9}", fullmatch=True), WORDS, max_size=3),
)
def test_what_was_written_is_read_again(arguments: list[str], environment: dict[str, str]) -> None:
    unit = UserUnit("alice", ("/bin/x", *arguments), tuple(arguments), tuple(sorted(environment.items())))
    text = unit.text(254)
    assert parse_unit(text) == unit
    assert parse_unit(text.replace("Restart=always", "Restart=no")) == unit, "a reader adds nothing"
    assert sum(line.startswith("ExecStart=") for line in text.split("\n")) == 1, "no word begins a line"


@given(st.text(max_size=200))
def test_units_of_others_are_not_ours(text: str) -> None:
    assert parse_unit(text) is None
    assert parse_unit(f"[Unit]\nX-WWS-Unit={text}") is None


def test_a_newer_unit_is_left_alone() -> None:
    assert parse_unit(ALICE.text(252).replace('"schema": 1', '"schema": 2')) is None
    assert len(ALICE.text(252)) < MAX_UNIT


@pytest.mark.parametrize(
    "executable, link",
    [
        ("/users/a/.local/share/wws/versions/1.0.0/bin/wws-connector", "/users/a/.local/bin/wws-connector"),
        ("/opt/x/share/wws/versions/1.2.0rc1/bin/lib/x", "/opt/x/bin/wws-connector"),
        ("/users/a/share/wws/versions", None),
        ("/users/a/venv/bin/python3", None),
        ("/share/wws/versions/1/bin/x", "/bin/wws-connector"),
    ],
)
def test_the_link_that_outlives_an_upgrade(executable: str, link: str | None) -> None:
    found = link_of(PurePosixPath(executable), "wws-connector")
    assert found == (None if link is None else PurePosixPath(link))


USER = "/user.slice/user-1000.slice/user@1000.service/app.slice"


@pytest.mark.parametrize(
    "text, found",
    [
        (f"0::{USER}/wws-alice.service\n", ("wws-alice.service", True)),
        (f"9:name=systemd:/\n8:pids:/\n0::{USER}/wws.service\n", ("wws.service", True)),
        ("0::/system.slice/wws.service\n", ("wws.service", False)),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", None),
        ("0::/user.slice/user-1000.slice/user@1000.service\n", None),
        (f"0::{USER}/gnome-terminal.service/x.scope\n", None),
        ("", None),
    ],
)
def test_whose_service_a_process_is(text: str, found: tuple[str, bool] | None) -> None:
    assert unit_in_cgroup(text) == found


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_it(tmp_path: Path) -> None:
    program = tmp_path / "a program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = UserUnit("alice", (str(program),), ("100%", "$x"), (("WWS_LOG_LEVEL", "in fo"),))
    path = tmp_path / unit.name
    path.write_text(unit.text(252))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if unit.name in line]
    assert not complaints, done.stderr
