"""`docs/operators/` shows only what drills print: every page has drills, every drill and step has a page."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.drills.pages import DRILLS, PAGES, ROOT, drills, shown_blocks
from tests.drills.registry import WORLDS
from tests.prerequisites import require

TEXT_ONLY = {"README.md", "costs.md", "releasing.md"}
"""Pages that show no drill: the index, figures, and releases, which tests/workflows and tests/hosts make."""
TASKS = {
    "first-deployment.md",
    "nodes.md",
    "own-hosts.md",
    "upgrade.md",
    "rollback.md",
    "publisher-key.md",
    "backup.md",
    "lost-state.md",
    "compromised-node.md",
    "dns-outage.md",
    "flood.md",
    "full-disk.md",
}
PAGES_THERE = sorted(PAGES.glob("*.md"))
SCRIPTS = sorted(DRILLS.glob("*.sh"))


def test_every_task_has_its_page() -> None:
    assert {page.name for page in PAGES_THERE} == TASKS | TEXT_ONLY


def test_every_page_shows_a_drill() -> None:
    shown = {block.page.name for block in shown_blocks()}
    assert shown == {page.name for page in PAGES_THERE} - TEXT_ONLY


@pytest.mark.parametrize("page", PAGES_THERE, ids=lambda page: page.name)
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    lines = page.read_text().splitlines()
    is_open = False
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if not is_open and line != "```text":
            before = lines[number - 1]
            wanted = r"<!-- drill: \S+ -->" if line == "```console" else r"<!-- not run: .+ -->"
            told = f"{page.name}:{number + 1}: {line} after {before!r}"
            assert re.fullmatch(wanted, before) or line in ("```toml", "```yaml"), told
        is_open = not is_open


def test_every_step_of_every_drill_is_shown_and_no_other() -> None:
    shown = {(block.drill, block.step) for block in shown_blocks()}
    assert {drill for drill, _ in shown} == set(drills())
    for drill in drills():
        steps = set(re.findall(r"^ +step ([\w-]+)$", (DRILLS / f"{drill}.sh").read_text(), re.MULTILINE))
        if (drill, None) in shown:
            continue
        assert {step for name, step in shown if name == drill} == steps, drill


def test_every_block_has_been_recorded() -> None:
    for block in shown_blocks():
        assert block.text.startswith(("$ ", "# ")), f"{block.page.name}: {block.drill}#{block.step} is empty"


def test_every_drill_has_a_world() -> None:
    assert set(drills().values()) <= set(WORLDS)


def test_every_drill_is_clean_shell() -> None:
    require("shellcheck")
    # What is typed stands in single quotes, and is expanded when it runs: no SC2016.
    command = ["shellcheck", "-x", "--exclude=SC2016", *map(str, SCRIPTS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    for script in SCRIPTS:
        if script.name != "drill.sh":
            assert script.read_text().endswith('\nmain "$@"\n'), script.name
