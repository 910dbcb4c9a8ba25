"""What the README shows without a run of its own is what is run elsewhere."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_the_stack_of_the_readme_is_the_one_of_the_drill() -> None:
    """`drills/first-deployment.sh` types the same, and answers the engine's questions by switches."""
    blocks = re.findall(
        r"^```sh\n(.*?)^```$", (REPOSITORY / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    [stack] = [block for block in blocks if "pulumi" in block]
    drill = (REPOSITORY / "drills" / "first-deployment.sh").read_text()
    for command in stack.splitlines():
        assert command in drill, command
