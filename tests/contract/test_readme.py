"""What the README shows without a run of its own is what is run elsewhere."""

import re
from pathlib import Path

import pytest

from agent_cli.app import COMMANDS

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text()
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
OF_SENTENCES = {"and", "is", "itself", "of", "or", "runs", "says", "tells", "with"}
"""Words that follow `wws` in a sentence."""


def typed_blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_stack_of_the_readme_is_the_one_of_the_drill() -> None:
    """`drills/first-deployment.sh` types the same, and answers the engine's questions by switches."""
    [stack] = [block for block in typed_blocks() if "pulumi" in block]
    drill = (REPOSITORY / "drills" / "first-deployment.sh").read_text()
    for command in stack.splitlines():
        assert command in drill, command


def test_the_one_line_is_the_one_that_is_run() -> None:
    """On a bare host (tests/hosts/test_first_minute.py), from where the dry run of a release has it."""
    [install] = [block for block in typed_blocks() if "install.sh" in block]
    line, join = install.splitlines()
    [(fetch, place)] = re.findall(r"^(curl -\w+) <releases>/(\S+) \| sh$", line)
    hosts = REPOSITORY / "tests" / "hosts"
    minute = (hosts / "minute.py").read_text() + (hosts / "test_first_minute.py").read_text()
    assert re.search(rf"{fetch} \S+/install\.sh \| sh", minute)
    assert join == "wws join --name alice"
    assert join in minute
    assert f"/{place}" in (REPOSITORY / "scripts" / "release" / "dry-run.sh").read_text()
    channel = re.search(r"channel-([a-z]+)", place)
    assert channel is not None
    installer = (REPOSITORY / "install.sh").read_text()
    assert f"(default: {channel[1]})" in installer
    for option in re.findall(r"sh -s -- (--[a-z-]+)", README):
        assert re.search(rf"^ +{option}\b", installer, re.MULTILINE), option


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_named_exists(page: Path) -> None:
    """In sentences, too: `wws self update` is typed by whoever reads it."""
    named = re.findall(r"`(?:[A-Z_]+=\S+ )*wws (?!-)([a-z]+)(?: ([a-z]+))?", page.read_text())
    for command, sub in named:
        if command in OF_SENTENCES:
            continue
        assert command in COMMANDS, f"wws {command}"
        subcommands = COMMANDS[command].subcommands
        if subcommands and command != "id":
            assert not sub or sub in subcommands, f"wws {command} {sub}"
