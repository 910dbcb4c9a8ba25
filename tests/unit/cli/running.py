"""`wws` in a home of its own, with a real process behind it that keeps a node's promises."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent_cli.app import run
from wws.runtime.homes import Home

RUN = """
import agent_cli.connector
from wws.programs import command_of_module
agent_cli.connector.command_of = lambda _: command_of_module("wws.testing.fake_connector")
from agent_cli.app import main
main()
"""


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        lines = self.out.splitlines()
        assert len(lines) == 1, self.out
        return json.loads(lines[0])

    @property
    def data(self) -> dict:
        return self.json["data"]

    @property
    def error(self) -> dict:
        (error,) = self.json["errors"]
        return error


@dataclass
class Cli:
    """`wws` in a home of its own, with a fake node process behind it."""

    root: Path
    capfd: pytest.CaptureFixture[str]

    def env(self, **join: object) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WWS_")}
        return {
            **kept,
            "HOME": str(self.root),
            "XDG_RUNTIME_DIR": str(self.root),
            "FAKE_JOIN": json.dumps(join),
        }

    def start(self, *arguments: str, **join: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", RUN, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.env(**join),
            cwd=Path(__file__).parents[3],
        )

    def __call__(self, *arguments: str, **join: object) -> Outcome:
        """Run a command line: joins as processes, for they leave a child behind; the rest in this one."""
        if "join" in arguments:
            process = self.start(*arguments, **join)
            out, err = process.communicate(timeout=60)
            return Outcome(process.returncode, out, err)
        self.capfd.readouterr()
        code = run(list(arguments))
        return Outcome(code, *self.capfd.readouterr())

    def know(self, *names: str, owner: str = "12D3KooWSomebodyElse", domain: str = "test") -> None:
        """Let these be the names that were used here before."""
        self.home.root.mkdir(mode=0o700, exist_ok=True)
        pin = {"domain": domain, "swarm": "public", "owner": owner, "first_seen": 1, "last_seen": 1}
        pins = [{**pin, "name": name} for name in names]
        self.home.known_names.write_text(json.dumps({"schema": 1, "pins": pins}))

    @property
    def home(self) -> Home:
        return Home(self.root / ".openswarm")
