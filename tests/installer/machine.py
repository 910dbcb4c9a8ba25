"""A user's machine in tests: a home, the tools that are in PATH, a shell, and the installer piped into it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.installer.releases import INSTALLER, PROGRAMS, Releases
from tests.prerequisites import require

SHELLS: Final = {
    "dash": ["dash"],
    "bash": ["bash"],
    "busybox": ["busybox", "sh"],
    "zsh": ["zsh"],
    "mksh": ["mksh"],
}
NEEDED: Final = (
    *("awk", "cat", "cp", "cut", "date", "find", "grep", "gzip", "head", "id", "ln", "ls", "mkdir", "mktemp"),
    *("mv", "printf", "readlink", "rm", "rmdir", "sed", "sleep", "sort", "tail", "tar", "tr", "uname"),
)
"""What install.sh cannot do without."""
USUAL: Final = (*NEEDED, "sh", "getconf", "flock", "sha256sum", "curl", "ssh-keygen", "openssl", "base64")
WITHIN: Final = 60


@dataclass(frozen=True)
class Done:
    """A run of the installer that has ended."""

    code: int
    output: str
    """Both of its outputs."""

    @property
    def said(self) -> str:
        """In one line: where lines break is no matter of tests."""
        return " ".join(self.output.split())


@dataclass
class Machine:
    """Everything of one user lies below `folder`."""

    folder: Path
    arguments: list[str]
    """What every run gets: where releases are, and whose root key counts."""
    variables: dict[str, str]
    shell: str = "dash"
    home_name: str = "home"
    before: Sequence[str] = field(default=())
    """What the shell is started by, for example in a namespace of its own."""

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.tools(*USUAL)

    @property
    def home(self) -> Path:
        return self.folder / self.home_name

    @property
    def prefix(self) -> Path:
        return self.home / ".local"

    @property
    def share(self) -> Path:
        return self.prefix / "share" / "wws"

    @property
    def bin(self) -> Path:
        """The only folder in PATH."""
        return self.folder / "bin"

    def tools(self, *names: str) -> None:
        """Have these programs in PATH and no others. `wget=busybox` is BusyBox under that name."""
        shutil.rmtree(self.bin, ignore_errors=True)
        self.bin.mkdir()
        for name, _, program in (name.partition("=") for name in names):
            found = shutil.which(program or name)
            if found is None:
                require(program or name)
            self.bin.joinpath(name).symlink_to(os.path.realpath(found or name))

    def stub(self, name: str, script: str) -> None:
        """Have a program of the test's own in PATH."""
        place = self.bin / name
        place.unlink(missing_ok=True)
        place.write_text(f"#!/bin/sh\n{script}\n")
        place.chmod(0o755)

    def environment(self, variables: Mapping[str, str | None] | None = None) -> dict[str, str]:
        given: dict[str, str | None] = {
            "HOME": str(self.home),
            "PATH": str(self.bin),
            "TMPDIR": str(self.folder),
            "WWS_INSTALL_RETRIES": "0",
            **self.variables,
            **(variables or {}),
        }
        return {name: value for name, value in given.items() if value is not None}

    def command(self, *arguments: str, shell: str | None = None) -> list[str]:
        name, *rest = SHELLS[shell or self.shell]
        require(name)
        return [*self.before, shutil.which(name) or name, *rest, "-s", "--", *self.arguments, *arguments]

    def run(
        self,
        *arguments: str,
        shell: str | None = None,
        script: Path = INSTALLER,
        **variables: str | None,
    ) -> Done:
        """Pipe the installer into a shell."""
        with script.open("rb") as text:
            done = subprocess.run(
                self.command(*arguments, shell=shell),
                stdin=text,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self.environment(variables),
                timeout=WITHIN,
                check=False,
                start_new_session=True,
            )
        return Done(done.returncode, done.stdout.decode(errors="replace"))

    def start(self, *arguments: str, shell: str | None = None) -> subprocess.Popen[bytes]:
        """The same, and do not wait for it. Its process group is its own."""
        with INSTALLER.open("rb") as text:
            return subprocess.Popen(
                self.command(*arguments, shell=shell),
                stdin=text,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self.environment(),
                start_new_session=True,
            )

    def installs(self, *arguments: str, **options: str | None) -> Done:
        """Run it, and fail unless it has installed something that works."""
        done = self.run(*arguments, **options)  # type: ignore[arg-type]
        assert done.code == 0, done.output
        return done

    def refuses(self, code: int, *words: str, arguments: Iterable[str] = (), **options: str | None) -> Done:
        """Run it, and fail unless it ends so, says these words, and leaves everything as it was."""
        before = listing(self.home)
        done = self.run(*arguments, **options)  # type: ignore[arg-type]
        assert done.code == code, done.output
        for word in words:
            assert word in done.said, done.output
        assert listing(self.home) == before, "it has left something"
        return done

    def offline(self, releases: Releases, version: str = "1.2.3") -> Path:
        """Take releases from a folder from now on: half the work of a run, and what is tested is the same."""
        folder = self.folder / f"stick-{version}"
        folder.mkdir(exist_ok=True)
        for place in (releases.release(version), releases.channel()):
            for file in place.iterdir():
                shutil.copy(file, folder)
        self.arguments = ["--offline", str(folder), "--root-key", releases.signer.root_text]
        return folder

    @property
    def version(self) -> str | None:
        """What `wws --version` says here; `None` where there is none."""
        program = self.prefix / "bin" / "wws"
        if not program.exists():
            return None
        answer = subprocess.run(
            [program, "--version"], capture_output=True, text=True, env={}, timeout=WITHIN, check=True
        )
        return answer.stdout.split()[1]

    def versions(self) -> list[str]:
        """The versions that lie here."""
        return sorted(path.name for path in (self.share / "versions").iterdir())


def listing(folder: Path) -> dict[str, str]:
    """All that is below a folder: links by where they lead, files by their content, times left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_dir():
            found[name] = "folder"
        else:
            found[name] = f"{path.stat().st_mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return found


def layout(version: str, *, previous: str | None = None) -> dict[str, str]:
    """The links of an installation, below its prefix."""
    links = {f"bin/{name}": f"-> ../share/wws/current/bin/{name}" for name in PROGRAMS[:3]}
    links["share/wws/current"] = f"-> versions/{version}"
    if previous is not None:
        links["share/wws/previous"] = f"-> versions/{previous}"
    return links


def links(folder: Path) -> dict[str, str]:
    """The links below a folder."""
    return {name: what for name, what in listing(folder).items() if what.startswith("->")}
