"""How results are printed, and how the global options are read."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_cli import text
from agent_cli.options import Options, quick_options
from agent_cli.result import Problem, Result, emit, envelope, exit_code_of, failed
from wws.client import RpcError
from wws.errors import LocalError, WwsError
from wws.rpc.codes import Exit


class Odd(WwsError):
    code = "name_taken"

    def __init__(self) -> None:
        super().__init__("Taken.", hint="Choose another.")
        self.details = {"holder": "did:swarm:bob"}


def test_nothing_in_the_envelope_steers_a_terminal() -> None:
    """JSON escapes what stands below the space, and none of what a terminal also obeys."""
    said = "\x1b[31m \x9b31m \x7f \u202e \u2028 \U000e0041 bj\u00f6rk"
    text = envelope("wws.test/v1", Result({"agent": said}))
    assert text.isprintable()
    assert "bj\u00f6rk" in text
    assert json.loads(text)["data"] == {"agent": said}


def test_the_envelope_has_its_four_members(capsys: pytest.CaptureFixture[str]) -> None:
    assert emit(failed(Odd()), "wws.join/v1", Options(json=True)) is Exit.REFUSED
    assert json.loads(capsys.readouterr().out) == {
        "schema": "wws.join/v1",
        "ok": False,
        "data": {"holder": "did:swarm:bob"},
        "errors": [{"code": "name_taken", "message": "Taken.", "hint": "Choose another."}],
    }


def test_quiet_keeps_results_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    result = Result({}, "text", notes=("note",), errors=(Problem("x", "message"),), exit_code=Exit.REFUSED)
    emit(result, "s", Options(quiet=True))
    assert capsys.readouterr() == ("text\n", "error: message\n")
    emit(result, "s", Options())
    assert capsys.readouterr() == ("text\n", "note\nerror: message\n")


def test_an_error_brings_its_own_exit_code_or_that_of_its_word() -> None:
    class Own(LocalError):
        code = "never_heard_of"
        exit_code = 8

    assert exit_code_of(Own()) is Exit.INTEGRITY
    assert exit_code_of(Odd()) is Exit.REFUSED
    assert exit_code_of(RpcError(-32002, "m", {"code": "a_new_word"})) is Exit.NOT_FOUND


def test_the_further_lines_of_a_value_stand_below_its_first() -> None:
    assert text.pairs([("names", "alice\nbob"), ("addresses", 1)]) == (
        "names      alice\n           bob\naddresses  1"
    )


def test_hints_name_the_same_home_and_node() -> None:
    far = Options(home="/srv/a b", node="kim")
    assert far.exact("Start it: wws join, or: wws --help") == (
        "Start it: wws --home '/srv/a b' --node kim join, or: wws --help"
    )
    assert far.exact("wws leave --node bob") == "wws --home '/srv/a b' leave --node bob"
    assert Options().exact("wws join") == "wws join"


@given(st.text())
def test_nothing_printable_steers_a_terminal(shown: str) -> None:
    assert all(character.isprintable() or character in "\n\t" for character in text.printable(shown))


@given(st.lists(st.tuples(st.text(), st.none() | st.text() | st.integers())))
def test_pairs_and_tables_take_anything(rows: list[tuple[str, object]]) -> None:
    assert isinstance(text.pairs(rows), str)
    assert isinstance(text.table(("a", "b"), rows), str)


@pytest.mark.parametrize(
    "seconds, words",
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (12_000, "3 h 20 min"), (187_200, "2 d 4 h"), (None, "-")],
)
def test_durations(seconds: object, words: str) -> None:
    assert text.duration(seconds) == words


@pytest.mark.parametrize(
    "count, words", [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (10**15, "1000.0 TB")]
)
def test_sizes(count: int, words: str) -> None:
    assert text.size(count) == words


@pytest.mark.parametrize(
    "line, members",
    [
        ("status", {}),
        ("status --json", {"json": True}),
        ("-q status -v --no-color", {"quiet": True, "verbose": True, "no_color": True}),
        ("--home a status --node=b --config c", {"home": "a", "node": "b", "config": "c"}),
        ("status --home status", {"home": "status"}),
        ("status extra", None),
        ("status status", None),
        ("status --help", None),
        ("status --home", None),
        ("status --home --json", None),
        ("--json", None),
        ("peers", None),
    ],
)
def test_quick_options(line: str, members: dict[str, object] | None) -> None:
    found = quick_options(line.split(), "status")
    if members is None:
        assert found is None
    else:
        assert found == Options(arguments=line.split(), **members)  # type: ignore[arg-type]


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert Options().has_colour
    assert not Options(no_color=True).has_colour
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Options().has_colour
    assert Options().red("x") == "x"
