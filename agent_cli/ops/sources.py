"""Where the inventory comes from: a file, the outputs of a stack, or `$WWS_INVENTORY`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Annotated, Final

import typer

from agent_cli.ops.inventory import Inventory
from agent_cli.result import WrongUsage
from wws.errors import LocalError
from wws.rpc.codes import Exit

PULUMI_TIMEOUT: Final = 120.0
"""Seconds that Pulumi has to print outputs."""

WITHOUT_STACK: Final = "The nodes do not need the stack; take an inventory that was kept: --inventory FILE"
"""What is done where the stack does not answer."""

InventoryFile = Annotated[
    str | None, typer.Option("--inventory", metavar="FILE", help="The inventory ($WWS_INVENTORY).")
]
Stack = Annotated[
    str | None, typer.Option("--stack", metavar="NAME", help="Take the inventory from this stack's outputs.")
]
Infra = Annotated[
    str | None, typer.Option("--infra", metavar="DIR", help="Where the stack's program is (infra/).")
]
Hosts = Annotated[list[str] | None, typer.Argument(metavar="HOST", help="These hosts only.")]


class StackFailed(LocalError):
    """Pulumi does not do what was asked of it."""

    code = "stack_failed"
    exit_code = Exit.MACHINE


class PulumiMissing(LocalError):
    """The program `pulumi` is not here."""

    code = "pulumi_missing"
    exit_code = Exit.MACHINE
    hint = "Put it on the PATH, or save the inventory where it is: pulumi stack output inventory --json."


def load_inventory(inventory: str | None, stack: str | None, infra: str | None) -> Inventory:
    """The inventory that was named.

    Raises `WrongUsage`, `InventoryMalformed`, `StackFailed`, `PulumiMissing`, `MachineError`.
    """
    if inventory is not None and stack is not None:
        raise WrongUsage("--inventory and --stack are two sources; give one.")
    if stack is not None:
        return Inventory.parse(stack_output(stack, infra))
    path = inventory or os.environ.get("WWS_INVENTORY")
    if not path:
        raise WrongUsage(
            "Which nodes is not said.", hint="Say it: --stack NAME, or --inventory FILE, or $WWS_INVENTORY."
        )
    return Inventory.read(Path(path))


def stack_output(stack: str, infra: str | None) -> str:
    """The output `inventory` of a stack, as JSON text."""
    words = ["stack", "output", "inventory", "--show-secrets=false", "--json", "--stack", stack]
    try:
        answer = run_pulumi(words, infra)
    except StackFailed as error:
        raise StackFailed(str(error), hint=WITHOUT_STACK) from None
    try:
        value = json.loads(answer)
    except ValueError:
        raise StackFailed(f"The stack {stack} gives no inventory.", hint=WITHOUT_STACK) from None
    return value if isinstance(value, str) else json.dumps(value)


def run_pulumi(arguments: list[str], infra: str | None, *, timeout: float = PULUMI_TIMEOUT) -> str:
    """What `pulumi` prints. Raises `PulumiMissing`, `StackFailed` with what it says."""
    command = pulumi_command(arguments, infra)
    try:
        answer = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise StackFailed(f"pulumi {arguments[0]} took more than {timeout:g} s.") from None
    if answer.returncode != 0:
        said = "\n".join((answer.stderr or answer.stdout).strip().splitlines()[-10:])
        raise StackFailed(f"pulumi {' '.join(arguments[:2])}: {said}")
    return answer.stdout


def pulumi_command(arguments: list[str], infra: str | None) -> list[str]:
    """The command line that asks nobody. Raises `PulumiMissing`, `WrongUsage`."""
    folder, program = infra_folder(infra), shutil.which("pulumi")
    if program is None:
        raise PulumiMissing("There is no program `pulumi` on the PATH.")
    return [program, *arguments, "--cwd", str(folder), "--non-interactive"]


def infra_folder(given: str | None) -> Path:
    """`--infra`, else the folder here that has a stack's program, else that of the repository."""
    places = [Path(given)] if given else [Path(), Path("infra"), Path(__file__).parents[2] / "infra"]
    found = next((place for place in places if (place / "Pulumi.yaml").is_file()), None)
    if found is None:
        raise WrongUsage(
            f"There is no Pulumi.yaml in {places[-1]}.", hint="Say where the stack's program is: --infra DIR"
        )
    return found.absolute()
