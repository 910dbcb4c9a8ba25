"""Runs tests against the installed wheel: python -m tests.packages [--python PYTHON] [PYTEST ARGUMENTS…]

    python -m tests.packages                                    # a short selection
    python -m tests.packages --python python3.13 tests/unit
    python -m tests.packages --everything tests/unit tests/contract tests/e2e

Builds wheel and sdist, installs the wheel with what requirements/*.txt lock into a new environment, and runs
the tests of the sdist there, without its packages. `--everything` installs the operator's libraries as well,
without which his commands do not start. Exits as pytest does.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.packages.environments import TEST_TOOLS, Environment, builder, clean, ground_of, with_wheel

SHORT = (
    "tests/unit/foundation",
    "tests/unit/identity",
    "tests/contract/test_rpc.py",
    "tests/contract/test_readme.py",
)
"""Parsers and keys, and what programmers were promised. Not all that is short: it runs in every CI."""
OF_THE_SOURCES = (
    "tests/contract/test_cli.py::test_without_the_extra_it_says_what_to_install",
    "tests/contract/test_no_placeholders.py",
    "tests/contract/test_operator_page.py",
    "tests/e2e/test_release.py",
    "tests/e2e/test_walkthrough.py::test_every_link_leads_somewhere",
    "tests/unit/cli/test_missing_extra.py::test_a_checkout_gets_it_from_itself",
    "tests/unit/cli/test_self.py::test_who_installed_it",
    "tests/unit/test_repository.py",
)
"""Tests that read sources of ours, build from them, or are of a checkout: nothing about a wheel."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.packages", description="Test the installed wheel.")
    parser.add_argument("--python", default=sys.executable, help="default: the one that runs this")
    parser.add_argument("--everything", action="store_true", help="with the operator's libraries")
    options, chosen = parser.parse_known_args(arguments)
    with tempfile.TemporaryDirectory(prefix="wws-wheel-") as temporary:
        folder = Path(temporary)
        wheel, sdist = builder("packages").build(folder / "dist")
        extras = ("agent", "operator") if options.everything else ("agent",)
        made = with_wheel(
            wheel.path, folder / "environment", extras=extras, tools=TEST_TOOLS, python=options.python
        )
        ground = ground_of(sdist.path, folder / "ground")
        return subprocess.run(
            command(made, chosen), cwd=ground, env=environment_on(ground), check=False
        ).returncode


def command(environment: Environment, chosen: Sequence[str]) -> list[str]:
    """How pytest is called on such ground."""
    paths = () if any(not argument.startswith("-") for argument in chosen) else SHORT
    ignored = [f"--deselect={test}" for test in OF_THE_SOURCES]
    plugins = ["-p", "tests.packages.only_installed", "-p", "no:cacheprovider"]
    return [str(environment.python), "-m", "pytest", "-q", *plugins, *ignored, *chosen, *paths]


def environment_on(ground: Path) -> dict[str, str]:
    """The playbooks are no part of the wheel; who works with it says where they are."""
    return {**clean(os.environ), "WWS_ANSIBLE": str(ground / "ansible")}


if __name__ == "__main__":
    raise SystemExit(main())
