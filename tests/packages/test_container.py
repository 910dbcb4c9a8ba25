"""The container image: what it promises, and that it runs with only its user, a volume and a network."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.artefact.built import artefact
from tests.full_scale import only_in_full
from tests.packages.containers import FOLDER, Image, Namespace, base_root, running, say
from tests.packages.environments import REPOSITORY, clean, run
from tests.prerequisites import require

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

USER = 65_532


def build(archive: Path, *options: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, str(FOLDER / "image.py"), "--artefact", str(archive)]
    return run(*program, "--root", str(base_root()), *options, cwd=REPOSITORY, timeout=250)


@pytest.fixture(scope="module")
def packed() -> Path:
    """The self-contained artefact of the sources as they are."""
    return artefact()


@pytest.fixture(scope="module")
def archive(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image of it."""
    require("mmdebstrap")
    out = tmp_path_factory.mktemp("image") / "image.tar"
    built = build(packed, "--out", str(out), "--commit", "0123abcd")
    assert built.returncode == 0, built.stderr
    return out


@pytest.fixture(scope="module")
def image(archive: Path) -> Image:
    return Image.read(archive)


@pytest.fixture(scope="module")
def root(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("root")
    return image.unpack(tmp_path_factory.mktemp("unpacked") / "root")


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    require("root", "ip", "unshare", "nsenter")
    made = Namespace()
    yield made
    made.close()


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A folder that is the user's, and has a short path in the container."""
    folder = tmp_path / "volume"
    folder.mkdir(mode=0o700)
    os.chown(folder, USER, USER)
    return folder


def test_it_is_what_is_promised(image: Image) -> None:
    config = image.config["config"]
    assert config["User"] == f"{USER}:{USER}"
    assert config["Entrypoint"] == ["wws-connector"]
    assert config["ExposedPorts"] == {"9000/tcp": {}, "9000/udp": {}}
    assert config["Volumes"] == {"/data": {}}
    assert config["WorkingDir"] == "/data"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "wws-control", "health", "--live"]
    env = dict(entry.split("=", 1) for entry in config["Env"])
    assert env["WWS_IDENTITY_PATH"] == "/data/identity.key"
    assert "WWS_AGENT_NAME" not in env  # for whoever runs it
    assert (image.config["os"], image.config["architecture"]) == ("linux", "amd64")
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == image.reference
    assert labels["org.opencontainers.image.revision"] == "0123abcd"


def test_nothing_in_it_helps_somebody_who_broke_in(root: Path, image: Image) -> None:
    for path in root.rglob("*"):
        mode = path.lstat().st_mode
        assert not mode & (stat.S_ISUID | stat.S_ISGID), path
        assert stat.S_ISLNK(mode) or not mode & 0o022, f"{path} can be written by others"
        assert path.lstat().st_uid == (USER if path == root / "data" else 0), path
    programs = {path.name for path in root.rglob("*") if path.is_file() and os.access(path, os.X_OK)}
    own = {"wws", "wws-connector", "wws-bootstrap", "wws-control", "install.sh"}
    assert {name for name in programs - own if ".so" not in name} == set()
    assert not {"sh", "bash", "busybox", "python3", "apt", "dpkg", "perl"} & programs
    assert len((root / "etc/ssl/certs/ca-certificates.crt").read_text().split("BEGIN CERTIFICATE")) > 50
    assert "Version: " in (root / "var/lib/dpkg/status.d/libc6").read_text()


@only_in_full
def test_the_same_artefact_makes_the_same_bits(packed: Path, archive: Path, tmp_path: Path) -> None:
    """From another folder, with another mask, and the artefact under another path."""
    elsewhere = tmp_path / packed.name
    shutil.copyfile(packed, elsewhere)
    before = os.umask(0o077)
    try:
        built = build(elsewhere, "--out", str(tmp_path / "image.tar"), "--commit", "0123abcd")
    finally:
        os.umask(before)
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "image.tar").read_bytes() == archive.read_bytes()


@pytest.mark.net
@pytest.mark.root
def test_an_agent_in_it_joins_and_others_join_it(
    root: Path, image: Image, volume: Path, namespace: Namespace, tmp_path: Path
) -> None:
    config = image.config["config"]
    with _bootstrap_node(namespace, tmp_path / "carol") as address:
        variables = {"WWS_AGENT_NAME": "alice", "WWS_BOOTSTRAP_PEERS": address}
        with running(root, config, volume, namespace, **variables) as container:
            peer_id = say(container, "PeerId: ")
            say(container, "DID: ")
            assert container.main.uids().real == USER
            joined = container.execute("wws", "--json", "join", "--name", "alice")  # waits until it has
            data = json.loads(joined.stdout)["data"]
            assert (data["node"], data["already_running"], data["joined"]) == ("alice", True, True), data
            healthy = container.execute(*config["Healthcheck"]["Test"][1:])
            assert healthy.returncode == 0, healthy
            key = volume / "identity.key"
            assert (key.stat().st_uid, key.stat().st_mode & 0o777) == (USER, 0o600)
            bob = _wws(
                namespace,
                tmp_path / "bob",
                *("join", "--name", "bob", "--bootstrap", f"/ip4/127.0.0.1/tcp/9000/p2p/{peer_id}"),
            )
            assert bob["joined"] is True
            _wws(namespace, tmp_path / "bob", "leave")
            code, said = container.stop(signal.SIGTERM)
            assert code == 0, said
        with running(root, config, volume, namespace, **variables) as container:
            assert say(container, "PeerId: ") == peer_id
            assert container.stop(signal.SIGKILL)[0] != 0
        with running(root, config, volume, namespace, **variables) as container:
            assert say(container, "PeerId: ") == peer_id, (
                "after a kill, where the next one is process 1 again"
            )
            assert container.stop(signal.SIGTERM)[0] == 0


@pytest.mark.net
@pytest.mark.root
def test_it_runs_as_any_user_who_owns_the_volume(
    root: Path, image: Image, volume: Path, namespace: Namespace
) -> None:
    """`docker run --user 1234:1234 -v ~/.openswarm:/data`: the folder of somebody on the host."""
    os.chown(volume, 1234, 1234)
    user = "1234:1234"
    arguments = ("--bootstrap-mode",)
    with running(root, image.config["config"], volume, namespace, *arguments, user=user) as container:
        say(container, "PeerId: ")
        assert (volume / "identity.key").stat().st_uid == 1234
        assert container.stop(signal.SIGTERM)[0] == 0


@pytest.mark.net
@pytest.mark.root
def test_what_it_cannot_work_with_is_told(
    root: Path, image: Image, volume: Path, namespace: Namespace
) -> None:
    config = image.config["config"]
    taken = subprocess.Popen(
        [*namespace.entering, sys.executable, "-c", _LISTEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert taken.stdout is not None
    taken.stdout.readline()
    with running(root, config, volume, namespace, "--bootstrap-mode") as container:
        output, _ = container.process.communicate(timeout=30)
        assert container.process.returncode == 10, output
        assert "9000" in output
        assert "taken" in output
    taken.communicate()
    os.chown(volume, 0, 0)
    with running(root, config, volume, namespace, "--bootstrap-mode") as container:
        output, _ = container.process.communicate(timeout=30)
        assert container.process.returncode == 2, output
        assert "Cannot read /data/" in output


@contextlib.contextmanager
def _bootstrap_node(namespace: Namespace, home: Path) -> Iterator[str]:
    """A way into a network, at a port of its own; its address."""
    home.mkdir()
    options = ["--listen", "/ip4/127.0.0.1/tcp/0", "--rpc", "", "--http", "", "--home", str(home)]
    node = subprocess.Popen(
        [*namespace.entering, sys.executable, "-m", "bootstrap_node", *options],
        cwd=home,
        env=_environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert node.stdout is not None
    try:
        lines = node.stdout
        yield next(found[1] for line in lines if (found := re.search(r'"dnsaddr=([^"]+/tcp/[^"]+)"', line)))
    finally:
        node.terminate()
        node.communicate(timeout=30)


def _wws(namespace: Namespace, home: Path, *arguments: str) -> dict[str, object]:
    home.mkdir(exist_ok=True)
    program = [sys.executable, "-c", "from agent_cli.app import main; main()", "--json", *arguments]
    done = subprocess.run(
        [*namespace.entering, *program],
        cwd=home,
        env=_environment(home),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    data: dict[str, object] = json.loads(done.stdout)["data"]
    return data


def _environment(home: Path) -> dict[str, str]:
    return {
        **clean(os.environ),
        "PYTHONPATH": str(REPOSITORY),
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
    }


_LISTEN = (
    "import socket, sys; s = socket.socket(); s.bind(('0.0.0.0', 9000)); s.listen(); print(flush=True); "
    "sys.stdin.read()"
)


@only_in_full
def test_buildah_makes_the_same_of_the_dockerfile(packed: Path, image: Image, tmp_path: Path) -> None:
    """An engine's builder, where one is installed: the same files and the same settings."""
    buildah = shutil.which("buildah")
    if buildah is None or os.geteuid() != 0:
        pytest.skip("buildah is not installed, or may not run")
    context = tmp_path / "context"
    assert build(packed, "--context", str(context)).returncode == 0
    storage = [
        "--root",
        str(tmp_path / "storage"),
        "--runroot",
        str(tmp_path / "run"),
        "--storage-driver",
        "vfs",
    ]
    out = tmp_path / "buildah.tar"
    common = {"cwd": tmp_path, "timeout": 200}
    commands = [
        ["bud", "--isolation", "chroot", "--format", "oci", "--layers=false", "-t", "wws:1", "-f"],
        ["push", "wws:1", f"oci-archive:{out}:1"],
    ]
    done = run(buildah, *storage, *commands[0], str(REPOSITORY / "Dockerfile"), str(context), **common)
    assert done.returncode == 0, done.stderr
    done = run(buildah, *storage, *commands[1], **common)
    assert done.returncode == 0, done.stderr
    other = Image.read(out)
    for name in ("User", "Entrypoint", "ExposedPorts", "Volumes", "WorkingDir", "StopSignal"):
        assert other.config["config"][name] == image.config["config"][name], name
    assert {*image.config["config"]["Env"]} == {*other.config["config"]["Env"]}
    assert _tree(other.unpack(tmp_path / "theirs")) == _tree(image.unpack(tmp_path / "ours"))


def _tree(root: Path) -> dict[str, tuple[int, int, int, str | bytes]]:
    return {
        path.relative_to(root).as_posix(): (
            path.lstat().st_mode,
            path.lstat().st_uid,
            path.lstat().st_gid,
            os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else "",
        )
        for path in root.rglob("*")
    }
