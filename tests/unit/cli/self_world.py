"""Releases whose programs are this Python, signed, and installed by the real install.sh."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.release_signing import Signer

REPOSITORY = Path(__file__).parents[3]
PLATFORM = (
    f"{'macos' if sys.platform == 'darwin' else 'linux'}-{platform.machine().replace('arm64', 'aarch64')}"
)
PROGRAM = f"""#!/bin/sh
# What the installer asks of it besides is answered at once: it is not what is tested.
case "$*" in
id) [ -e "$HOME/.openswarm/identity.key" ] || exit 4; echo "peer id  x"; exit 0 ;;
"id new") mkdir -p "$HOME/.openswarm" && : >"$HOME/.openswarm/identity.key" && echo "peer id  x"; exit 0 ;;
network*) exit 0 ;;
esac
PYTHONPATH='{REPOSITORY}' exec '{sys.executable}' -m agent_cli "$@"
"""


@dataclass
class Releases:
    """Releases as a web server has them, below `download/v<version>` and `download/channel-<name>`."""

    root: Path
    signer: Signer = field(default_factory=Signer)

    def folder(self, version: str) -> Path:
        return self.root / "download" / f"v{version}"

    def publish(self, version: str, *, channel: str = "stable", extra: dict[str, str] | None = None) -> Path:
        """Make a release, sign it, and let the channel lead to it; its folder."""
        folder = self.folder(version)
        top = self.root / "trees" / f"wws-{version}"
        files = {
            "bin/wws": PROGRAM,
            "bin/wws-connector": PROGRAM,
            "bin/wws-bootstrap": PROGRAM,
            "bin/lib/data": f"of {version}\n",
            "share/install.sh": (REPOSITORY / "install.sh").read_text(),
            "VERSION": f"{version}\n",
            **(extra or {}),
        }
        for name, content in files.items():
            path = top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            path.chmod(0o755 if name.startswith("bin/wws") else 0o644)
        lines = [
            f"{hashlib.sha256((top / name).read_bytes()).hexdigest()}  {name}\n" for name in sorted(files)
        ]
        (top / "MANIFEST").write_text("".join(lines))
        folder.mkdir(parents=True, exist_ok=True)
        name = f"wws-{version}-{PLATFORM}"
        with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as archive:
            archive.add(top, top.name)
        shutil.copy(top / "MANIFEST", folder / f"{name}.MANIFEST")
        self.signer.sign_folder(folder)
        self.lead(version, channel=channel)
        return folder

    def lead(self, version: str, *, channel: str = "stable") -> None:
        """Let the channel lead to a version."""
        folder = self.root / "download" / f"channel-{channel}"
        folder.mkdir(parents=True, exist_ok=True)
        self.signer.release_keys(folder)
        self.signer.channel(folder, version, channel=channel)

    def install(self, prefix: Path, version: str, *words: str) -> None:
        """Install a version with install.sh, as somebody does who has its files."""
        command = ["sh", str(REPOSITORY / "install.sh"), "--prefix", str(prefix), "--no-modify-path"]
        command += ["--offline", str(self.folder(version)), "--version", version, "--no-service"]
        command += ["--root-key", self.signer.root_text, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(prefix))
        assert done.returncode == 0, done.stderr + done.stdout


def environment(home: Path) -> dict[str, str]:
    """That of a user whose home this is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WWS_")}
    return {**kept, "HOME": str(home), "XDG_RUNTIME_DIR": str(home)}


def wws(prefix: Path, *words: str) -> tuple[int, dict[str, object]]:
    """Run the installed `wws` with --json: its exit code, and the object it prints."""
    done = subprocess.run(
        [str(prefix / "bin" / "wws"), "--json", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(prefix),
    )
    return done.returncode, json.loads(done.stdout)
