"""Environments that have the wheel and what is locked, and ground to test it on that has no sources of ours.

environment = with_wheel(wheel, folder / "environment", tools=TEST_TOOLS)
ground = ground_of(sdist, folder / "ground")
environment.run("-m", "pytest", "tests/contract", cwd=ground)
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import uv

REPOSITORY = Path(__file__).parents[2]
REQUIREMENTS = REPOSITORY / "requirements"
PACKAGES = ("wws", "agent_cli", "bootstrap_node", "dns/wws_dns")
"""Folders of the repository that the wheel has."""
TEST_TOOLS = ("hypothesis", "psutil", "pytest", "pytest-asyncio", "pytest-timeout", "pytest-xdist", "trustme")
INSTALL_WITHIN = 300
"""Seconds; where the libraries are not in a cache, they come over the network."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment in `folder`."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def program(self, name: str) -> Path:
        return self.folder / "bin" / name

    def run(
        self, *arguments: str, cwd: Path, timeout: float = 120, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run its Python somewhere, with nothing of the environment of this test."""
        return run(str(self.python), *arguments, cwd=cwd, timeout=timeout, **variables)


def builder(name: str) -> ModuleType:
    """A module of packaging/, or of a folder in it (`container/oci`): programs, and no packages."""
    path = REPOSITORY / "packaging" / name
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    return importlib.import_module(path.name)


def run(*command: str, cwd: Path, timeout: float = 120, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as if no environment and no checkout were near."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=clean(os.environ) | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def clean(env: Mapping[str, str]) -> dict[str, str]:
    """What of the environment a command of its own gets."""
    ours = ("WWS_", "PYTHON", "PYTEST", "VIRTUAL_ENV")
    kept = {name: value for name, value in env.items() if not name.startswith(ours)}
    beside = str(Path(sys.executable).parent)
    paths = [path for path in env.get("PATH", "").split(os.pathsep) if path != beside]
    scale = {name: env[name] for name in ("WWS_TEST_SCALE",) if name in env}
    return {**kept, **scale, "PATH": os.pathsep.join(paths)}


def with_wheel(
    wheel: Path,
    folder: Path,
    *,
    extras: Sequence[str] = ("agent",),
    tools: Sequence[str] = (),
    python: str = sys.executable,
) -> Environment:
    """A new environment with the wheel and requirements/`extras`.txt, all checked against its hash."""
    environment = Environment(folder)
    _uv("venv", "--quiet", "--no-project", "--python", python, str(folder))
    into = ("--python", str(environment.python))
    for extra in extras:
        _uv("pip", "install", "--quiet", *into, "--require-hashes", "-r", str(REQUIREMENTS / f"{extra}.txt"))
    if tools:
        locked = builder("locked")
        chosen = folder / "tools.txt"
        entries = locked.closure(locked.read(REQUIREMENTS / "dev.txt"), tools)
        chosen.write_text("".join(entry.text for entry in entries))
        _uv("pip", "install", "--quiet", *into, "--require-hashes", "-r", str(chosen))
    _uv("pip", "install", "--quiet", *into, "--no-deps", "--offline", str(wheel))
    return environment


def ground_of(sdist: Path, folder: Path) -> Path:
    """The source distribution without the packages: who imports them finds those that are installed."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    [top] = folder.iterdir()
    for package in PACKAGES:
        shutil.rmtree(top / package)
    return top


def _uv(*arguments: str) -> None:
    done = run(uv.find_uv_bin(), *arguments, cwd=REPOSITORY, timeout=INSTALL_WITHIN)
    if done.returncode:
        raise RuntimeError(f"uv {' '.join(arguments)}: {done.stderr.strip()[-2_000:]}")
