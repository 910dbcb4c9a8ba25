"""What holds for every test: Hypothesis profiles, and the scale of the run in pytest's header."""

import os
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.database import DirectoryBasedExampleDatabase
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.prerequisites import running_in_ci
from wws.testing.scale import scale, scale_factor

FULL_EXAMPLES = 1_000
"""Examples a property gets at scale 1."""

LEAST_EXAMPLES = 20


def _cache_directory() -> Path:
    """Outside the checkout: a failing example is kept for the next run, never committed by accident."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "wws" / "hypothesis"


def _load_hypothesis_profile() -> str:
    home = _cache_directory()
    set_hypothesis_home_dir(home)
    common = hypothesis.settings(
        max_examples=scale(FULL_EXAMPLES, least=LEAST_EXAMPLES),
        deadline=None,  # a busy machine is no failure
        suppress_health_check=[HealthCheck.too_slow],
        print_blob=True,
    )
    examples = DirectoryBasedExampleDatabase(home / "examples")
    hypothesis.settings.register_profile("dev", common, database=examples)
    # The same examples on every run: red in CI means the change, not the dice.
    hypothesis.settings.register_profile("ci", common, database=None, derandomize=True)
    hypothesis.settings.register_profile("full", common, database=examples, phases=list(Phase))
    chosen = os.environ.get("HYPOTHESIS_PROFILE") or (
        "ci" if running_in_ci() else "full" if scale_factor() >= 1 else "dev"
    )
    hypothesis.settings.load_profile(chosen)
    return chosen


_PROFILE = _load_hypothesis_profile()


class _LabsWhole(LoadScopeScheduling):
    """Gives tests one by one to whichever worker is free, but those of one file of tests/lab or tests/drills
    (and of the container image and the installed wheel) to one: they share what takes a while to build. All
    tests on systemd hosts go to one and share the hosts.

    xdist's own groups do nothing with pytest 9.2: they are a suffix of node ids that pytest no longer takes.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        if path.startswith(("tests/hosts/", "tests/infra/test_hosts", "tests/drills/test_hosts")):
            return "hosts"
        whole = (
            "tests/lab/",
            "tests/drills/",
            "tests/packages/test_container",
            "tests/packages/test_installed",
        )
        return path if path.startswith(whole) else nodeid


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """What a program sets for its whole process, and ends with, must not reach the next test."""
    mask = os.umask(0o022)
    os.umask(mask)
    try:
        return (yield)
    finally:
        os.umask(mask)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    return _LabsWhole(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests measured (their property "summary"), also of those that passed, and under xdist."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    measured: dict[str, list[str]] = {}
    for report in reports:
        if getattr(report, "when", None) == "teardown":  # the last, which has all
            for name, (title, text) in report.user_properties:
                if name == "summary":
                    measured.setdefault(title, []).append(text)
    if measured:
        terminalreporter.section("measured")
        for title, texts in measured.items():
            terminalreporter.write_line("\n".join([title, "", *texts, ""]))


def pytest_report_header(config: pytest.Config) -> str:
    examples = hypothesis.settings.get_profile(_PROFILE).max_examples
    return f"scale: {scale_factor():g} (WWS_TEST_SCALE), hypothesis profile {_PROFILE}, {examples} examples"
