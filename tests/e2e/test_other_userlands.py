"""Where no release runs, and where nothing could be trusted: the installer says which of the two, and leaves.

Each userland is a folder with BusyBox as all of its programs, entered by chroot; nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.prerequisites import find_tool, require
from wws.identity.keys import Identity
from wws.release.keys import PublicKey

pytestmark = pytest.mark.root

REPOSITORY = Path(__file__).parents[2]
ROOT_KEY = str(PublicKey(Identity.from_label("a root key").public_key))
USER = 65534
ALPINE_LDD = "#!/bin/sh\nprintf 'musl libc (x86_64)\\nVersion 1.2.5\\n' >&2\nexit 1\n"


@pytest.fixture
def userland(tmp_path: Path) -> Path:
    """A folder with BusyBox alone, and the installer."""
    require("root", "chroot", "busybox")
    busybox = Path(os.path.realpath(find_tool("busybox") or "busybox"))
    if b"/lib64/ld-linux" in busybox.read_bytes():
        pytest.skip("this BusyBox is not a static one")
    root = tmp_path / "root"
    for folder in ("bin", "tmp", "home", "dev", "etc", "lib", "lib64"):
        (root / folder).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    os.chown(root / "home", USER, USER)
    shutil.copy(busybox, root / "bin" / "busybox")
    os.mknod(root / "dev" / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (root / "dev" / "null").chmod(0o666)
    subprocess.run(
        [find_tool("chroot") or "chroot", str(root), "/bin/busybox", "--install", "-s", "/bin"], check=True
    )
    shutil.copy(REPOSITORY / "install.sh", root / "install.sh")
    return root


def install(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the installer there, as somebody without rights; nothing may be left of it."""
    command = [
        find_tool("chroot") or "chroot",
        f"--userspec={USER}:{USER}",
        str(root),
        "/bin/sh",
        "/install.sh",
    ]
    command += ["--from", "https://get.wws.test", "--root-key", ROOT_KEY, *options]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={"HOME": "/home", "PATH": "/bin"},
        check=False,
    )
    assert not list((root / "home").iterdir()), "something is left"
    assert not list((root / "tmp").iterdir())
    return done


def programs(root: Path, **scripts: str) -> None:
    for name, text in scripts.items():
        place = root / "bin" / name
        place.unlink(missing_ok=True)
        place.write_text(text)
        place.chmod(0o755)


def test_musl_is_named(userland: Path) -> None:
    (userland / "lib" / "ld-musl-x86_64.so.1").touch()
    programs(userland, ldd=ALPINE_LDD)
    done = install(userland)
    assert done.returncode == 10, done
    assert "musl" in done.stderr
    assert "pip install wws" in done.stderr, "what works there"


def test_no_c_library_is_said(userland: Path) -> None:
    done = install(userland)
    assert done.returncode == 10, done
    assert "another C library (musl?)" in done.stderr


def test_an_old_glibc_is_named(userland: Path) -> None:
    script = (userland / "install.sh").read_text()
    assert script.count("\nGLIBC=''\n") == 1
    (userland / "install.sh").write_text(script.replace("\nGLIBC=''\n", "\nGLIBC='2.31'\n"))
    programs(userland, getconf="#!/bin/sh\n[ $1 = LONG_BIT ] && echo 64 || echo glibc 2.28\n")
    done = install(userland)
    assert done.returncode == 10, done
    assert "glibc 2.28" in done.stderr
    assert "2.31 or newer" in done.stderr


def test_a_wget_that_checks_no_certificate_needs_a_verifier(userland: Path) -> None:
    (userland / "lib64" / "ld-linux-x86-64.so.2").touch()
    done = install(userland)
    assert done.returncode == 8, done
    assert (
        "nothing here verifies signatures, and with this wget the connection alone proves nothing"
        in done.stderr
    )
    assert "openssh-client" in done.stderr
