"""Drives the real Pulumi engine against our stack, as an operator would, without an account.

    engine = Engine(tmp_path, {"wws:domain": "local.wws.test", …})
    engine.up()                       # pulumi up --yes
    engine.up().changes               # {"same": 26}
    engine.outputs()["join_command"]

The program, its Pulumi.yaml and its virtual environment are the repository's own, linked into a folder of
the test, so that the stack's configuration and its salt land there. The state is a folder, the passphrase
a file.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.prerequisites import require, skip

ROOT = Path(__file__).parents[2]
BUILD = Path(__file__).parent / "pulumi" / "build.sh"
LANGUAGE_HOST = Path(__file__).parent / "pulumi" / "language_host.py"
BUILD_TIMEOUT = 1_200.0
RUN_TIMEOUT = 300.0
PASSPHRASE = "correct horse battery staple"


def pulumi_folder() -> Path:
    """The folder of a built CLI; skips, or in CI fails, where it cannot be built."""
    require("go")
    return _built()


@functools.cache
def _built() -> Path:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/go/bin"])
    built = subprocess.run(
        [str(BUILD)],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT,
        check=False,
    )
    if built.returncode:
        skip(f"pulumi cannot be built: {built.stderr.strip()[-500:]}")
    return Path(built.stdout.strip())


@dataclass(frozen=True)
class Run:
    """One run of the CLI that has ended."""

    returncode: int
    output: str
    diagnostics: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """What the engine told, one event a line, when it was run with `--json`."""
        return [json.loads(line) for line in self.output.splitlines() if line.startswith('{"')]

    @property
    def changes(self) -> dict[str, int]:
        """How many resources were made, changed, … by the engine's own count."""
        for event in self.events:
            if "summaryEvent" in event:
                counts: dict[str, int] = event["summaryEvent"]["resourceChanges"]
                return counts
        return {}

    @property
    def steps(self) -> list[tuple[str, str]]:
        """What was done to what: `("update", "LocalNode::boot2")`; what stays as it is, is left out."""
        steps = []
        for event in self.events:
            meta = event.get("resourcePreEvent", {}).get("metadata", {})
            if meta and meta["op"] not in ("same", "refresh", "read"):
                kind, name = meta["urn"].split("::")[-2:]
                steps.append((meta["op"], f"{kind.rpartition(':')[2]}::{name}"))
        return steps

    @property
    def said(self) -> str:
        """Everything for people: of events what they tell, else the output; and what went to stderr."""
        told = [
            event["diagnosticEvent"]["message"]
            for event in self.events
            if event.get("diagnosticEvent", {"severity": "debug"})["severity"] != "debug"
        ]
        return "\n".join([*told, "" if self.events else self.output, self.diagnostics])


class PulumiFailed(AssertionError):
    """The CLI ended with another exit code than expected."""


class Engine:
    """One stack, and the CLI."""

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, object],
        *,
        stack: str = "local",
        path: Sequence[Path] = (),
        environment: Mapping[str, str] | None = None,
        backend: Path | None = None,
    ) -> None:
        self.stack = stack
        self.folder = folder / "infra"
        self.backend = backend or folder / "state"
        self._config = self.folder / f"Pulumi.{stack}.yaml"
        binaries, passphrase = folder / "bin", folder / "passphrase"
        for needed in (self.folder, self.backend, binaries):
            needed.mkdir(parents=True, exist_ok=True)
        passphrase.write_text(PASSPHRASE)
        for name in ("Pulumi.yaml", "__main__.py", "wws_infra"):
            (self.folder / name).symlink_to(ROOT / "infra" / name)
        (folder / ".venv").symlink_to(sys.prefix)
        host = binaries / "pulumi-language-python"
        host.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{LANGUAGE_HOST}" "$@"\n')
        host.chmod(0o755)
        folders = [*path, binaries, pulumi_folder(), os.environ.get("PATH", "")]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PULUMI_", "WWS_"))}
        self.environment = {
            **kept,
            "PATH": os.pathsep.join(str(one) for one in folders),
            "PULUMI_BACKEND_URL": f"file://{self.backend}",
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_CONFIG_PASSPHRASE_FILE": str(passphrase),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "XDG_STATE_HOME": str(folder / "xdg"),
            **(environment or {}),
        }
        self.configure(config)
        if backend is None:
            self.run("stack", "init", stack)

    def configure(self, config: Mapping[str, object]) -> None:
        """The stack's whole configuration from now on. JSON is YAML."""
        salt = ""
        if self._config.exists():
            lines = self._config.read_text().splitlines()
            salt = next((line for line in lines if line.startswith("encryptionsalt:")), "")
        # The CLI keeps its salt beside the configuration; both in the form that it writes itself.
        body = "".join(f"  {json.dumps(key)}: {json.dumps(value)}\n" for key, value in config.items())
        self._config.write_text(f"{salt}\nconfig:\n{body}")

    def up(self, *options: str, fails: bool = False) -> Run:
        """`pulumi up`, without a preview before it."""
        return self.run("up", "--yes", "--skip-preview", "--json", *options, fails=fails)

    def refresh(self, *options: str) -> Run:
        """`pulumi refresh`."""
        return self.run("refresh", "--yes", "--skip-preview", "--json", *options)

    def destroy(self, *options: str, fails: bool = False) -> Run:
        """`pulumi destroy`."""
        return self.run("destroy", "--yes", "--skip-preview", "--json", *options, fails=fails)

    def preview(self, *options: str, fails: bool = False) -> Run:
        """`pulumi preview`, as people see it."""
        return self.run("preview", "--diff", *options, fails=fails)

    def outputs(self) -> dict[str, Any]:
        """What the stack gives out."""
        outputs: dict[str, Any] = json.loads(self.run("stack", "output", "--json").output)
        return outputs

    def resources(self) -> dict[str, dict[str, Any]]:
        """What the state holds, secrets encrypted: `LocalNode::boot2` → resource."""
        state = json.loads(self.run("stack", "export").output)
        found = {}
        for resource in state["deployment"].get("resources", []):
            kind, name = resource["urn"].split("::")[-2:]
            found[f"{kind.rpartition(':')[2]}::{name}"] = resource
        return found

    def run(self, *arguments: str, fails: bool = False) -> Run:
        """The CLI with these arguments, to its end. Raises `PulumiFailed`."""
        process = self.start(*arguments)
        try:
            output, diagnostics = process.communicate(timeout=RUN_TIMEOUT)
        except BaseException:
            end_session(process.pid)
            process.wait()
            raise
        finally:
            close(process)
        run = Run(process.returncode, output, diagnostics)
        if (run.returncode != 0) is not fails:
            raise PulumiFailed(
                f"pulumi {' '.join(arguments)}: exit code {run.returncode}\n{run.said[-8_000:]}"
            )
        return run

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The CLI with these arguments, in a session of its own."""
        command, *rest = arguments
        words = [command, *rest, "--non-interactive"]
        if command not in ("stack", "login"):
            words += ["--stack", self.stack, "--color", "never"]
        elif rest[:1] != ["init"]:
            words += ["--stack", self.stack]
        return subprocess.Popen(
            ["pulumi", *words],
            cwd=self.folder,
            env=self.environment,
            executable=str(pulumi_folder() / "pulumi"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def files(self) -> Iterator[bytes]:
        """Every file of the backend: state, checkpoints, history, locks."""
        for path in self.backend.rglob("*"):
            if path.is_file():
                yield path.read_bytes()


def close(process: subprocess.Popen[str]) -> None:
    """Close what a process has said."""
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def end_session(session: int) -> None:
    """SIGKILL to the CLI and all that it has started and that belongs to its run.

    What is meant to stay has a session of its own, and does.
    """
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            if os.getsid(process.pid) == session:
                process.kill()
