"""A missing prerequisite skips on a desk and fails in CI; the scale of the run is one checked setting."""

import shutil

import pytest

from tests.prerequisites import missing, require
from wws.testing import scale
from wws.testing.scale import DEFAULT_SCALE, VARIABLE, scale_factor

ABSENT = "no-such-tool-anywhere"


def test_what_is_here_is_not_missing() -> None:
    assert shutil.which("sh")
    assert missing("sh") is None
    require("sh")


def test_a_missing_tool_skips_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=f"{ABSENT} is not installed"):
        require("sh", ABSENT)


def test_a_missing_tool_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=f"{ABSENT} is not installed"):
        require(ABSENT)


def test_an_old_version_is_missing() -> None:
    assert missing("git>=1") is None
    reason = missing("git>=9999.1")
    assert reason is not None
    assert reason.endswith("9999.1 is needed")


def test_a_typing_error_is_no_skip() -> None:
    with pytest.raises(ValueError, match="not a requirement"):
        missing("node >= 22")


@pytest.mark.parametrize(
    "text, full, least, expected",
    [
        ("", 1_000, 1, round(1_000 * DEFAULT_SCALE)),
        ("1", 1_000, 1, 1_000),
        ("0.01", 50, 1, 1),
        ("0.01", 50, 7, 7),
    ],
)
def test_scale(monkeypatch: pytest.MonkeyPatch, text: str, full: int, least: int, expected: int) -> None:
    monkeypatch.setenv(VARIABLE, text)
    assert scale(full, least=least) == expected


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "101", "a tenth"])
def test_a_scale_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ValueError, match=VARIABLE):
        scale_factor()
