"""`docs/security.md` promises nothing without a proof: each row names tests, and these exist and run.

Whoever adds a row adds its proof; whoever renames, deletes or skips a test that stands for one is told here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
HEAD = ("could", "what stops it", "proof")
DEFENDED, NOT_DEFENDED = "## Who can try, and what stops them", "## Not defended"
WITHOUT_ROWS: set[str] = set()
"""Attackers that there is nothing against, for there is nothing yet that they could attack."""

_NAMED = re.compile(r"`(?P<path>tests/[\w/]+(?:\.py|/)?)?(?:::(?P<name>\w+))?`")
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Claim:
    """One row of the tables."""

    attacker: str
    could: str
    stopped_by: str
    proof: str

    @property
    def proofs(self) -> list[tuple[str, str]]:
        """Each file that is named, with a test in it; '' for all of the file."""
        found, path = [], ""
        for match in _NAMED.finditer(self.proof):
            if match["path"]:
                path = match["path"]
            found.append((path, match["name"] or ""))
        return found


def sections(text: str, mark: str) -> Iterator[tuple[str, str]]:
    """Each heading with what stands below it."""
    for part in re.split(rf"^{mark} ", text, flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        yield head.strip(), body


def rows_of(body: str) -> list[tuple[str, ...]]:
    lines = [line for line in body.splitlines() if line.startswith("|")]
    return [tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]) for line in lines]


def defended() -> list[tuple[str, str]]:
    body = PAGE[PAGE.index(DEFENDED) : PAGE.index(NOT_DEFENDED)]
    return list(sections(body, "###"))


def claims() -> list[Claim]:
    found = []
    for attacker, body in defended():
        before = ""
        for row in rows_of(body)[2:]:
            could, stopped_by, proof = row
            before = could or before  # an empty cell stands for the one above it
            found.append(Claim(attacker, before, stopped_by, proof))
    return found


@cache
def found_in(path: str) -> dict[str, bool]:
    """The tests of a file, or of all files in a folder: name → whether it is skipped whatever happens."""
    place = ROOT / path
    files = sorted(place.rglob("test_*.py")) if place.is_dir() else [place]
    found: dict[str, bool] = {}
    for file in files:
        tree = ast.parse(file.read_text())
        is_module_skipped = any(_skips(node) for node in tree.body if not isinstance(node, ast.ClassDef))
        for node in ast.walk(tree):
            if isinstance(node, _FUNCTION) and node.name.startswith("test"):
                found[node.name] = is_module_skipped or any(
                    _is_skip(decorator) for decorator in node.decorator_list
                )
                found[node.name] |= bool(node.body) and any(_skips(statement) for statement in node.body)
            elif isinstance(node, ast.ClassDef):
                found.update(_tests_of_state_machines(node))
            elif isinstance(node, ast.Assign):
                found.update(_tests_by_assignment(node))
    return found


def _is_skip(node: ast.expr) -> bool:
    """Whether a mark skips without a condition, or lets a test fail."""
    text = ast.unparse(node)
    return re.fullmatch(r"pytest\.mark\.(skip|xfail)(\(.*\))?", text, re.DOTALL) is not None


def _skips(statement: ast.stmt) -> bool:
    """Whether a statement that is always reached skips: a call of pytest.skip, or a mark for the file."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return ast.unparse(statement.value.func) == "pytest.skip"
    if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "pytestmark":
        marks = statement.value.elts if isinstance(statement.value, ast.List) else [statement.value]
        return any(_is_skip(mark) for mark in marks)
    return False


def _tests_of_state_machines(node: ast.ClassDef) -> dict[str, bool]:
    return {node.name: False} if node.name.startswith("Test") else {}


def _tests_by_assignment(node: ast.Assign) -> dict[str, bool]:
    """`TestAnyHistory = History.TestCase`: how Hypothesis' machines become tests."""
    target = ast.unparse(node.targets[0])
    return {target: False} if re.fullmatch(r"[Tt]est\w+", target) else {}


def test_every_attacker_has_a_table_of_three_columns() -> None:
    for attacker, body in defended():
        rows = rows_of(body)
        if attacker in WITHOUT_ROWS:
            assert not rows, attacker
            continue
        assert rows, f"{attacker}: no table"
        assert rows[0] == HEAD, attacker
        assert len(rows) > 2, f"{attacker}: an empty table"
        assert {len(row) for row in rows} == {3}, attacker
        assert rows[2][0], f"{attacker}: the first row says what somebody could"


def test_who_can_lie_or_press_is_all_there() -> None:
    """The list of whom this project has thought of: nobody drops out of the page unnoticed."""
    listed = " ".join(attacker for attacker, _ in defended()).lower()
    words = ["dns", "path", "bootstrap node", "witness", "relay", "autonat", "holder", "sybils", "a peer"]
    words += ["former owner", "another user", "web page", "token", "registered agent", "publisher key"]
    words += ["key of an identity", "release server"]
    assert [word for word in words if word not in listed] == []


@pytest.mark.parametrize("claim", claims(), ids=lambda claim: f"{claim.attacker}-{claim.could}"[:80])
def test_every_claim_has_a_proof_that_runs(claim: Claim) -> None:
    assert claim.could
    assert claim.stopped_by
    assert claim.proofs, "no test is named"
    rest = _NAMED.sub("", claim.proof)
    assert re.fullmatch(r"[\s,;]*", rest), f"what is this: {rest!r}"
    for path, name in claim.proofs:
        assert path, "a test without its file"
        assert (ROOT / path).exists(), path
        tests = found_in(path)
        if name:
            assert name in tests, f"{path} has no {name}"
            assert not tests[name], f"{path}::{name} is skipped"
        else:
            assert tests, f"{path} has no tests"
            assert not all(tests.values()), f"all of {path} is skipped"


def test_what_is_not_defended_is_said() -> None:
    body = PAGE[PAGE.index(NOT_DEFENDED) : PAGE.index("## Rules for the code")]
    parts = dict(sections(body, "###"))
    assert all(part.strip().startswith("**") for part in parts.values())
    assert len(re.findall(r"^\*\*", body, re.MULTILINE)) >= 20


@pytest.mark.parametrize(
    "source, skipped",
    [
        ("def test_x(): pass", False),
        ("@pytest.mark.skipif(True, reason='x')\ndef test_x(): pass", False),
        ("@pytest.mark.parametrize('a', [1])\nasync def test_x(a): pass", False),
        ("@pytest.mark.skip\ndef test_x(): pass", True),
        ("@pytest.mark.skip(reason='x')\ndef test_x(): pass", True),
        ("@pytest.mark.xfail(reason='x')\ndef test_x(): pass", True),
        ("def test_x():\n    pytest.skip('x')", True),
        ("pytestmark = [pytest.mark.net, pytest.mark.skip]\ndef test_x(): pass", True),
        ("pytestmark = pytest.mark.net\ndef test_x(): pass", False),
    ],
)
def test_a_test_that_is_always_skipped_is_seen(tmp_path: Path, source: str, skipped: bool) -> None:
    file = tmp_path / "test_file.py"
    file.write_text(source)
    assert found_in(str(file)) == {"test_x": skipped}
