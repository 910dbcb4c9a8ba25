"""Makes the root folder of the image: the C library, the certificate authorities, and who the user is.

Debian's packages, fetched and checked by mmdebstrap, of which only these files are taken: no shell, no
package manager, nothing that a node does not open. Nothing of them runs here. The names and versions of the
packages are written down where scanners look for them. Needs mmdebstrap, Debian's archive keyring and the
network.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

SUITE, SUITE_VERSION = "trixie", "13"
PACKAGES = ("ca-certificates", "libc6", "zlib1g")
LIBRARIES = "usr/lib/x86_64-linux-gnu"
LOADER = "ld-linux-x86-64.so.2"
TAKEN = (
    *(LOADER, "libc.so.6", "libm.so.6", "libresolv.so.2", "libnss_dns.so.2", "libnss_files.so.2"),
    *("libanl.so.1", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libz.so.1"),
)
"""zlib is for the beginning of a program, before it finds its own."""
AUTHORITIES = "usr/share/ca-certificates/mozilla/"
BUNDLE = "etc/ssl/certs/ca-certificates.crt"
LEAST_AUTHORITIES = 50
"""A bundle with fewer is no bundle."""
USER = 65_532
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "WWS_DEBIAN_MIRROR"
"""Variable: where packages come from. Default: from where this machine's come, else Debian's own."""
FETCH_WITHIN = 300

_SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
_VERSION = re.compile(r"\S+ \(([^)]+)\) ")
TEXTS = {
    "etc/passwd": f"root:x:0:0:root:/:/nologin\nwws:x:{USER}:{USER}:wws:/data:/nologin\n",
    "etc/group": f"root:x:0:\nwws:x:{USER}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/os-release": f'ID=debian\nVERSION_ID="{SUITE_VERSION}"\nPRETTY_NAME="wws, on Debian"\n',
}
"""`hosts` and `resolv.conf` come from whoever runs the container."""
LINKS = {"lib": "usr/lib", "lib64": "usr/lib64"}


class RootFailed(Exception):
    """The root folder was not made. The text says why."""


def make_root(target: Path) -> dict[str, str]:
    """Make it at `target`, which is not there yet; the versions of the packages. Raises `RootFailed`."""
    with tempfile.TemporaryDirectory(prefix="wws-root-") as temporary:
        archive = Path(temporary, "packages.tar")
        _fetch(archive)
        with tarfile.open(archive) as tar:
            return _take(tar, target)


def _fetch(archive: Path) -> None:
    command = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={','.join(PACKAGES)}"]
    command += ['--aptopt=Acquire::Languages "none"', f"--keyring={KEYRING}", SUITE, str(archive)]
    mirror = os.environ.get(MIRROR) or _mirror_of_this_machine()
    if mirror is not None:
        command.append(f"deb [signed-by={KEYRING}] {mirror} {SUITE} main")
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=FETCH_WITHIN,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RootFailed(f"mmdebstrap: {error}") from None
    if done.returncode:
        raise RootFailed(f"mmdebstrap: {(done.stderr or done.stdout).strip()[-2_000:]}")


def _mirror_of_this_machine() -> str | None:
    if not _SOURCES.exists():
        return None
    found = re.search(r"^URIs:\s*(\S+)", _SOURCES.read_text("utf-8"), re.MULTILINE)
    return found[1] if found else None


def _take(tar: tarfile.TarFile, target: Path) -> dict[str, str]:
    members = {member.name.removeprefix("./"): member for member in tar.getmembers()}

    def read(name: str) -> bytes:
        file = tar.extractfile(members[name]) if name in members else None
        if file is None:
            raise RootFailed(f"Debian's packages have no {name}")
        return file.read()

    def put(name: str, content: bytes, mode: int = 0o644) -> None:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)

    for library in TAKEN:
        put(f"{LIBRARIES}/{library}", read(f"{LIBRARIES}/{library}"), 0o755)
    put(f"usr/lib64/{LOADER}", read(f"{LIBRARIES}/{LOADER}"), 0o755)
    authorities = sorted(name for name in members if name.startswith(AUTHORITIES) and name.endswith(".crt"))
    if len(authorities) < LEAST_AUTHORITIES:
        raise RootFailed(f"only {len(authorities)} certificate authorities")
    put(BUNDLE, b"".join(read(name).rstrip() + b"\n" for name in authorities))
    versions = {}
    for package in PACKAGES:
        put(f"usr/share/doc/{package}/copyright", read(f"usr/share/doc/{package}/copyright"))
        versions[package] = _version(read, package)
        status = f"Package: {package}\nStatus: install ok installed\nArchitecture: amd64\n"
        put(f"var/lib/dpkg/status.d/{package}", f"{status}Version: {versions[package]}\n".encode())
    for name, text in TEXTS.items():
        put(name, text.encode())
    for name, leads_to in LINKS.items():
        (target / name).symlink_to(leads_to)
    for name in ("dev", "proc", "sys", "tmp"):
        (target / name).mkdir()
    return versions


def _version(read: Callable[[str], bytes], package: str) -> str:
    """Of the first line of a package's own log of changes: `glibc (2.41-12) trixie; …`."""
    folder = f"usr/share/doc/{package}"
    for name in ("changelog.Debian.gz", "changelog.gz"):
        with contextlib.suppress(RootFailed):
            first = gzip.decompress(read(f"{folder}/{name}")).partition(b"\n")[0].decode("utf-8", "replace")
            if found := _VERSION.match(first):
                return found[1]
    raise RootFailed(f"the package {package} does not say its version")
