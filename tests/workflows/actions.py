"""Runs our workflows without GitHub: by act, on this machine, each job in a copy of a small repository.

    with Actions(tmp_path) as actions:
        ran = actions.run("push", {"ref": "refs/tags/v0.1.0"})
        assert ran.ok, ran
        assert "draft" in ran.jobs

The repository has the workflows and scripts as they are; they use the sources of this one. What other
machines do is done by stand-ins: actions of GitHub (a few lines each), `gh`, registries. What builds is the
real thing or a stand-in, as the test says. Not simulated: permissions, approvals, OIDC, concurrency,
time-outs, images of runners.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.workflows.tools import ROOT, WORKFLOWS, tool

STAND_IN = Path(__file__).parent / "stand_in"
COPIED = (".github", "scripts", "packaging", "install.sh", "CHANGELOG.md", "wws/__init__.py")
RUNNERS = ("ubuntu-22.04", "ubuntu-24.04", "ubuntu-24.04-arm", "macos-15", "macos-15-intel")
RUN_WITHIN = 300.0
DATED = "2026-01-01"
ACTION = """\
name: stand-in
description: stand-in
inputs: {{name: {{required: false}}, path: {{required: false}}}}
runs:
  using: composite
  steps:
    - shell: sh
      env: {{NAME: "${{{{ inputs.name }}}}", FILES: "${{{{ inputs.path }}}}"}}
      run: |
        {script}
"""
ACTIONS = {
    # Of a named branch alone: the commit of the event is checked out by act itself.
    "actions/checkout": 'cp -R "$REPOSITORY/." .',
    "actions/setup-python": ":",
    "actions/attest": 'echo "attest" >>"$GITHUB_STAND_IN/said"',
    "actions/upload-artifact": (
        'mkdir -p "$STORE/$NAME"; for one in $FILES; do '
        'if [ -d "$one" ]; then cp -R "$one/." "$STORE/$NAME/"; else cp "$one" "$STORE/$NAME/"; fi; done'
    ),
    "actions/download-artifact": 'mkdir -p "$FILES"; cp -R "$STORE/$NAME/." "$FILES/"',
}


@dataclass(frozen=True)
class Ran:
    """One run of a workflow."""

    returncode: int
    output: str

    @property
    def ok(self) -> bool:
        return self.returncode == 0

    @property
    def jobs(self) -> list[str]:
        """Jobs that have succeeded, by their names as shown."""
        return re.findall(r"^\[[^/\]]+/(.+?) *\] 🏁  Job succeeded", self.output, re.MULTILINE)

    def __str__(self) -> str:
        return f"exit {self.returncode}\n{self.output[-12_000:]}"


class Actions:
    """A repository with its releases, and a place where its workflows run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = folder / "repository"
        self.store = folder / "store"
        self.github = folder / "github"
        self.programs = folder / "bin"
        self.variables: dict[str, str] = {"WWS_PLATFORMS": "linux-x86_64"}
        self.secrets: dict[str, str] = {}
        for place in (folder / "home", self.store, self.programs, self.github / "served" / "download"):
            place.mkdir(parents=True)
        (self.github / "ci").write_text("completed success\n")
        (self.github / "said").touch()
        for source in COPIED:
            path = ROOT / source
            if path.is_dir():
                shutil.copytree(path, self.repository / source, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                (self.repository / source).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, self.repository / source)
        with (self.repository / "wws" / "__init__.py").open("a") as package:
            # Every job has a copy of the repository: the rest of the sources need not be in it.
            package.write(f"\n__path__.append({str(ROOT / 'wws')!r})\n")
        self._replace_changelog()
        self._make_venv()
        self._write_stand_ins()

    def __enter__(self) -> Actions:
        handler = functools.partial(_Quiet, directory=str(self.github / "served"))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.releases = f"http://127.0.0.1:{self._server.server_port}"
        self.variables["WWS_RELEASES"] = self.releases
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def said(self) -> list[str]:
        """What was said to `gh`, registries and attestations, in order."""
        return (self.github / "said").read_text().splitlines()

    def replace(self, path: str, script: Path, *words: str) -> None:
        """Let a program of the repository be this stand-in."""
        target = self.repository / path
        target.unlink(missing_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".py":
            target.write_text(
                f"import os, sys\nos.execv({sys.executable!r}, [{sys.executable!r}, {str(script)!r}, "
                f"*{list(words)!r}, *sys.argv[1:]])\n"
            )
        else:
            target.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" {" ".join(words)} "$@"\n')
        target.chmod(0o755)

    def program(self, name: str, script: Path, *words: str) -> None:
        """Put a stand-in on the PATH of the jobs."""
        path = self.programs / name
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" {" ".join(words)} "$@"\n')
        path.chmod(0o755)

    def commit(self) -> str:
        """Make what is in the folder the repository's only commit, as GitHub would check it out."""
        git = [
            "git",
            "-c",
            "user.name=alice",
            "-c",
            "user.email=alice@example.org",
            "-c",
            "init.defaultBranch=main",
        ]
        for words in (
            ["init", "--quiet"],
            ["add", "--all"],
            ["commit", "--quiet", "--allow-empty", "--message", "All of it"],
        ):
            subprocess.run([*git, *words], cwd=self.repository, check=True, capture_output=True)
        said = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=self.repository, check=True, capture_output=True, text=True
        )
        return said.stdout.strip()

    def tag(self, name: str) -> None:
        subprocess.run(["git", "tag", "--force", name], cwd=self.repository, check=True, capture_output=True)

    def run(
        self,
        workflow: str,
        event: str,
        payload: Mapping[str, object],
        *,
        matrix: Sequence[str] = (),
        jobs: Sequence[str] = (),
    ) -> Ran:
        """Run a workflow for an event, to its end."""
        event_file = self.folder / "event.json"
        event_file.write_text(json.dumps(payload))
        command = [str(tool("act")), event, "--workflows", f".github/workflows/{workflow}"]
        command += ["--eventpath", str(event_file), "--concurrent-jobs", "2"]
        for runner in RUNNERS:
            command += ["--platform", f"{runner}=-self-hosted"]
        given = {"STORE": self.store, "GITHUB_STAND_IN": self.github, "REPOSITORY": self.repository}
        command += [word for name, value in given.items() for word in ("--env", f"{name}={value}")]
        for name, value in self.variables.items():
            command += ["--var", f"{name}={value}"]
        for name in self.secrets:
            command += ["--secret", name]  # the value comes from act's environment
        for one in matrix:
            command += ["--matrix", one]
        for one in jobs:
            command += ["--job", one]
        for action, folder in self._pinned():
            command += ["--local-repository", f"{action}={folder}"]
        environment = {
            "HOME": str(self.folder / "home"),
            "PATH": os.pathsep.join([str(self.programs), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]),
            "TMPDIR": str(self.folder),
            "GITHUB_TOKEN": "a-token-of-the-job",
            **self.secrets,
        }
        command += ["--secret", "GITHUB_TOKEN"]
        done = subprocess.run(
            command,
            cwd=self.repository,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_WITHIN,
            check=False,
        )
        return Ran(done.returncode, done.stdout)

    def _pinned(self) -> list[tuple[str, Path]]:
        """Each foreign action as it is pinned, and its stand-in."""
        used = {
            found
            for path in WORKFLOWS
            for found in re.findall(r"uses: ([\w-]+/[\w-]+@[0-9a-f]{40})", path.read_text("utf-8"))
        }
        return [
            (action, self.folder / "actions" / action.partition("@")[0].partition("/")[2])
            for action in sorted(used)
        ]

    def _replace_changelog(self) -> None:
        path = self.repository / "CHANGELOG.md"
        path.write_text(
            re.sub(r"(?m)^(## \[[^\]]+\] - )unreleased$", rf"\g<1>{DATED}", path.read_text("utf-8"))
        )

    def _make_venv(self) -> None:
        """The Python of this run, and of its programs `wws` alone: jobs find no other that is not theirs."""
        programs = self.folder / "venv" / "bin"
        programs.mkdir(parents=True)
        for name in ("python", "python3"):
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (programs / "wws").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m agent_cli "$@"\n')
        for path in programs.iterdir():
            path.chmod(0o755)
        (self.repository / "Makefile").write_text(
            f".PHONY: .venv/.ready\n.venv/.ready:\n\tln -sfn {self.folder / 'venv'} .venv\n"
        )

    def _write_stand_ins(self) -> None:
        for action, script in ACTIONS.items():
            folder = self.folder / "actions" / action.partition("/")[2]
            folder.mkdir(parents=True)
            (folder / "action.yml").write_text(ACTION.format(script=script))
        self.program("gh", STAND_IN / "gh.py")
        for name in ("skopeo", "uv"):
            self.program(name, STAND_IN / "recorder.py", name)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
