"""The container image of the sources as they are, and a way to run it: as an engine would, without one.

    with running(image, data, Namespace(), WWS_AGENT_NAME="alice") as container:
        container.execute("wws-control", "health", "--live")

The root folder cannot be written to, `/data` is a volume, the user is the one of the image, and its network
is a namespace of its own. Needs root.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.packages.environments import REPOSITORY, builder

FOLDER = REPOSITORY / "packaging" / "container"
RUN = """
set -eu
root=$1 data=$2 user=$3
shift 3
mount --bind "$root" "$root"
mount -o remount,ro,bind "$root"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount --bind "$data" "$root/data"
exec env -i "$@"
"""


def base_root() -> Path:
    """The root folder of the image, fetched once for each form of the script that makes it."""
    source = FOLDER / "root.py"
    recipe = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wws" / "container-root"
    base.mkdir(parents=True, exist_ok=True)
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (base / recipe).is_dir():
            part = base / f"{recipe}.{os.getpid()}"
            builder("container/root").make_root(part)
            part.rename(base / recipe)
    return base / recipe


@dataclass(frozen=True, slots=True)
class Image:
    """An OCI archive that was read as its specification says, every digest checked."""

    config: Mapping[str, Any]
    layers: Sequence[bytes]
    reference: str

    @classmethod
    def read(cls, path: Path) -> Image:
        with tarfile.open(path) as archive:
            files = {member.name: archive.extractfile(member) for member in archive.getmembers()}
            contents = {name: file.read() for name, file in files.items() if file is not None}

        def blob(pointer: Mapping[str, Any]) -> bytes:
            content = contents["blobs/" + pointer["digest"].replace(":", "/")]
            assert hashlib.sha256(content).hexdigest() == pointer["digest"].removeprefix("sha256:")
            assert len(content) == pointer["size"]
            return content

        assert json.loads(contents["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
        [pointer] = json.loads(contents["index.json"])["manifests"]
        manifest = json.loads(blob(pointer))
        reference = pointer["annotations"]["org.opencontainers.image.ref.name"]
        return cls(
            json.loads(blob(manifest["config"])), [blob(layer) for layer in manifest["layers"]], reference
        )

    def unpack(self, folder: Path) -> Path:
        """The root folder, with the owners that the image says."""
        for number, layer in enumerate(self.layers):
            packed = folder.with_name(f"layer-{number}.tar.gz")
            packed.write_bytes(layer)
            with tarfile.open(packed) as archive:
                archive.extractall(folder, numeric_owner=True, filter="fully_trusted")
            packed.unlink()
        return folder


class Namespace:
    """A network of its own, with a loopback interface."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"up\n"

    @property
    def entering(self) -> list[str]:
        """What a command begins with to run in it."""
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net"]

    def close(self) -> None:
        self._holder.communicate()


@dataclass(slots=True)
class Container:
    """A running one."""

    process: subprocess.Popen[str]
    env: Mapping[str, str]
    user: str

    @property
    def main(self) -> psutil.Process:
        """Process 1 of the container, as it is seen from here."""
        [child] = psutil.Process(self.process.pid).children()
        return child

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """What `docker exec` does."""
        uid, gid = self.user.split(":")
        nsenter = str(shutil.which("nsenter"))
        entering = [nsenter, f"--target={self.main.pid}", "--mount", "--net", "--pid", "--root", "--wd"]
        become = [f"--setuid={uid}", f"--setgid={gid}"]
        program = f"{self.env['PATH']}/{command[0]}"
        return subprocess.run(
            [*entering, *become, program, *command[1:]],
            env=dict(self.env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def stop(self, signal: int) -> tuple[int, str]:
        """Send a signal to its first process; the exit code, and what it had said since."""
        self.main.send_signal(signal)
        output, _ = self.process.communicate(timeout=30)
        return self.process.returncode, output


@contextlib.contextmanager
def running(
    root: Path,
    config: Mapping[str, Any],
    data: Path,
    namespace: Namespace,
    *arguments: str,
    user: str | None = None,
    **variables: str,
) -> Iterator[Container]:
    """Run the image's entry point until the block ends; with `user` in the place of the image's own."""
    user = user or config["User"]
    env = dict(entry.split("=", 1) for entry in config["Env"]) | variables
    chroot = ["/usr/sbin/chroot", f"--userspec={user}", "--groups=", str(root)]
    process = subprocess.Popen(
        [
            *namespace.entering,
            *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"),
            *("sh", "-c", RUN, "sh", str(root), str(data), user),
            *(f"{name}={value}" for name, value in env.items()),
            *chroot,
            *config["Entrypoint"],
            *arguments,
        ],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    container = Container(process, env, user)
    try:
        yield container
    finally:
        # Process 1 takes its whole namespace with it. It became another user, so it outlives its parent.
        for child in psutil.Process(process.pid).children() if process.poll() is None else ():
            child.kill()
        process.communicate(timeout=30)


def say(container: Container, beginning: str) -> str:
    """Read what it prints up to a line that begins so; the rest of that line."""
    assert container.process.stdout is not None
    said = []
    for line in container.process.stdout:
        said.append(line)
        if line.startswith(beginning):
            return line.removeprefix(beginning).strip()
    raise AssertionError("".join(said))
