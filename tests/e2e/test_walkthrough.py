"""Every command that README and documents show, typed by hand as it were, with a real DNS server."""

import random
import re

import pytest

from tests.e2e.programs import REPOSITORY, Programs
from tests.e2e.walkthrough import World, blocks_of
from tests.prerequisites import require

pytestmark = [pytest.mark.net, pytest.mark.slow]

DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
RUNBOOKS = [*sorted((REPOSITORY / "docs" / "operators").glob("*.md")), REPOSITORY / "drills" / "README.md"]
"""Their blocks are run by the drills (tests/drills, tests/contract/test_operator_runbooks.py)."""

ELSEWHERE = {"install.md": REPOSITORY / "tests" / "installer" / "test_docs.py"}
"""Documents whose blocks another test runs."""


@pytest.mark.timeout(300)
def test_every_command_of_the_documents(programs: Programs) -> None:
    """The network that docs/operator.md builds, and the agents of the other documents in it."""
    require("knotd")
    world = World.make(programs, random.Random())
    try:
        for document in ("docs/operator.md", "README.md", "docs/agent.md"):
            world.run(REPOSITORY / document)
        network = f"example.org#{world.values['publisher key']}"
        world.type("erin", f"wws join --name erin --network {network}")
        world.type("frank", f"wws join --name frank --network {network}")
        assert "2 of 2 answered" in world.type("frank", "wws ping erin -c 2")
        assert "2 of 2 answered" in world.type("erin", "wws ping frank -c 2")
    finally:
        world.end()


def test_no_command_is_shown_that_is_not_run() -> None:
    run = {"README.md", "agent.md", "operator.md", *ELSEWHERE}
    for document, test in ELSEWHERE.items():
        assert document in test.read_text(), document
    for document in DOCUMENTS:
        text = document.read_text()
        assert bool(blocks_of(document)) == (document.name in run), document
        fences = re.findall(r"^```(\w+)", text, re.MULTILINE)
        others = [kind for kind in fences if kind in {"bash", "shell", "console", "python"}]
        others += re.findall(r"^```(toml) [\w.]+$", text, re.MULTILINE)
        assert len(others) == len(blocks_of(document)), f"{document}: a block without anybody to run it"


def test_every_link_leads_somewhere() -> None:
    for document in (*DOCUMENTS, *RUNBOOKS, *(REPOSITORY / "docs" / "adr").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_test_that_is_named_exists() -> None:
    """`tests/…/test_x.py::test_y`, and behind it `::test_z` of the same file."""
    for document in DOCUMENTS:
        file = REPOSITORY
        for path, name in re.findall(r"`(tests/[\w/]+(?:\.py)?)?(?:::(\w+))?`", document.read_text()):
            file = REPOSITORY / path if path else file
            assert file.exists(), f"{document.name}: {path}"
            if name:
                assert re.search(rf"def {name}\(", file.read_text()), f"{document.name}: {file.name}::{name}"
