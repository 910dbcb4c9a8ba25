"""`wws-dns`: finds the command, runs it, prints its result, ends with its exit code.

As `wws` does it: the same global options, the same envelope with `--json`, the same exit codes. Only the
module of the command that is asked for is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from wws import __version__

if TYPE_CHECKING:
    from agent_cli.options import Options
    from agent_cli.result import Result

COMMANDS: Final[dict[str, str]] = {
    "keygen": "Make a publisher key, or show its public half.",
    "plan": "Show what would change in DNS, and what is unsafe about it.",
    "sign": "Sign a list of nodes, on the machine that has the key.",
    "publish": "Change DNS to what is wanted, and see that it is served.",
    "verify": "Ask authorities and resolvers whether all is as it should be.",
    "renew": "Sign what is published anew before it expires.",
    "rollback": "Publish an earlier list again, under a higher number.",
    "rotate": "Change the publisher keys so that everybody can follow.",
    "manifest": "Write the signed network file that people are given.",
}
"""The commands in the order in which help lists them; each is a module of `wws_dns.commands`."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point of `wws-dns`: runs the command line and exits."""
    try:
        code = run(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line; the exit code is returned. Prints everything it has to say."""
    if arguments == ["--version"]:
        print(f"wws-dns {__version__}")
        return 0
    from agent_cli.options import Options
    from agent_cli.report import guarded

    options = Options(json="--json" in arguments, arguments=["wws-dns", *arguments])
    return guarded(lambda: _invoke(arguments, options), schema=schema_of(arguments), options=options)


def schema_of(arguments: Sequence[str]) -> str:
    """The schema of the envelope, read off the command line: it must be known for wrong usage too."""
    name = command_of(arguments)
    return "wws-dns/v1" if name is None else f"wws-dns.{name}/v1"


def command_of(arguments: Sequence[str]) -> str | None:
    """The command that is asked for: the first word that is no option and no option's value."""
    skip = False
    for word in arguments:
        if skip:
            skip = False
        elif word in ("--config", "--home", "--node"):
            skip = True
        elif not word.startswith("-"):
            return word if word in COMMANDS else None
    return None


def _invoke(arguments: list[str], options: Options) -> Result:
    """Run the command through Typer. Raises `ExtraMissing` where its libraries were not installed."""
    try:
        from wws_dns.dispatch import invoke

        return invoke(arguments, options)
    except ModuleNotFoundError as error:
        from agent_cli.result import ExtraMissing

        if error.name not in ("cloudflare", "rich", "typer"):
            raise
        raise ExtraMissing("wws-dns", "operator") from None


if __name__ == "__main__":
    main()
