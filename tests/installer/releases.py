"""Releases to install in tests: what is in them is a few lines of sh, everything around it is real.

    releases = Releases(folder)
    releases.publish("1.2.3")       # download/v1.2.3/…, and download/channel-stable/…, which leads to it

They lie as they are served: below `folder` is what `--from` names. Signed as by packaging/sign.py.
"""

from __future__ import annotations

import hashlib
import io
import platform
import re
import shutil
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.release_signing import Signer

INSTALLER: Final = Path(__file__).parents[2] / "install.sh"
ARCHITECTURES: Final = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
PLATFORM: Final = "linux-" + ARCHITECTURES.get(platform.machine(), "x86_64")
PROGRAMS: Final = ("wws", "wws-connector", "wws-bootstrap", "wws-control")

PROGRAM: Final = r"""#!/bin/sh
# Stands for wws in tests of the installer. What it is called with is written down where a test wants it.
[ -z "${CALLS-}" ] || printf '%s\n' "$*" >>"$CALLS"
home=${WWS_HOME:-$HOME/.openswarm}
case "$*" in
"self verify --staged "*) [ -f "$4/MANIFEST" ] && [ -f "$4/release/release-keys.sig" ] || exit 8 ;;
"self verify-file"*) exit 2 ;;
id)
    [ -f "$home/identity.key" ] || { echo "error: There is no key file." >&2; exit 4; }
    key=$(cat "$home/identity.key")
    printf '%s\n' "peer id      12D3KooW$key" "did          did:swarm:$key" "path         $home/identity.key"
    ;;
"id new") mkdir -p "$home" && echo "$$" >"$home/identity.key" && exec "$0" id ;;
"network show --json") printf '{"data": {"networks": [%s]}}\n' "${NETWORK-\"default\"}" ;;
--version) echo "wws VERSION" ;;
*) exit 2 ;;
esac
"""

Tree = dict[str, bytes]
"""Path below the top folder → content."""


def tree(version: str, *, extra: Mapping[str, bytes] | None = None) -> Tree:
    """The files of a version, MANIFEST among them."""
    program = PROGRAM.replace("VERSION", version).encode()
    files = {f"bin/{name}": program for name in PROGRAMS}
    files |= {"share/install.sh": INSTALLER.read_bytes(), "VERSION": f"{version}\n".encode(), **(extra or {})}
    lines = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)]
    return {**files, "MANIFEST": "".join(lines).encode()}


def pack(version: str, files: Tree) -> bytes:
    """The archive with these files."""
    return packed([entry(f"wws-{version}/{name}", content) for name, content in sorted(files.items())])


def entry(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    """An entry of an archive, a file unless the fields of `TarInfo` say otherwise."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o755 if "/bin/" in name else 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def packed(entries: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """An archive of these entries, whatever they are."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.GNU_FORMAT, compresslevel=1) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def stamped(url: str, signer: Signer) -> str:
    """The installer as a release has it."""
    text = INSTALLER.read_text()
    lines = {"RELEASES=''": f"RELEASES='{url}'", "ROOTS=''": f"ROOTS='{signer.root_text}'"}
    return "\n".join(lines.get(line, line) for line in text.split("\n"))


@dataclass
class Releases:
    """A folder of releases, as a server has it."""

    folder: Path
    signer: Signer = field(default_factory=Signer)

    def release(self, version: str) -> Path:
        return self.folder / "download" / f"v{version}"

    def channel(self, name: str = "stable") -> Path:
        return self.folder / "download" / f"channel-{name}"

    def archive(self, version: str) -> Path:
        return self.release(version) / f"wws-{version}-{PLATFORM}.tar.gz"

    def publish(
        self,
        version: str,
        *,
        archive: bytes | None = None,
        extra: Mapping[str, bytes] | None = None,
        serial: int = 1,
        channel: str = "stable",
        before_signing: Callable[[Path], None] = lambda folder: None,
    ) -> None:
        """Lay a release down, sign it, and have a channel lead to it."""
        folder = self.release(version)
        folder.mkdir(parents=True)
        files = tree(version, extra=extra)
        self.archive(version).write_bytes(pack(version, files) if archive is None else archive)
        (folder / f"wws-{version}-{PLATFORM}.MANIFEST").write_bytes(files["MANIFEST"])
        shutil.copy(INSTALLER, folder / "install.sh")
        before_signing(folder)
        self.signer.sums(folder)
        self.signer.release_keys(folder, serial=serial)
        self.lead(version, serial=serial, channel=channel)

    def publish_built(self, archive: Path, version: str, url: str) -> None:
        """Lay an artefact of ours down, as a release does; its installer looks for releases there."""
        folder = self.release(version)
        folder.mkdir(parents=True)
        top, installer = f"wws-{version}/", stamped(url, self.signer).encode()
        with tarfile.open(archive) as built:
            entries = {info.name: (info, b"") for info in built}
            for name, (info, _) in entries.items():
                content = built.extractfile(info) if info.isfile() else None
                entries[name] = (info, b"" if content is None else content.read())
        digest = hashlib.sha256(installer).hexdigest()
        manifest = re.sub(
            rb"[0-9a-f]{64}(?=  share/install\.sh\n)",
            digest.encode(),
            entries[f"{top}MANIFEST"][1],
        )
        for name, content in {"MANIFEST": manifest, "share/install.sh": installer}.items():
            info, _ = entries[top + name]
            info.size = len(content)
            entries[top + name] = (info, content)
        (folder / archive.name).write_bytes(packed(list(entries.values())))
        (folder / archive.name.replace(".tar.gz", ".MANIFEST")).write_bytes(manifest)
        (folder / "install.sh").write_bytes(installer)
        self.signer.sums(folder)
        self.signer.release_keys(folder)
        self.lead(version)

    def lead(self, version: str, *, serial: int = 1, channel: str = "stable", **dates: float) -> None:
        """Have a channel lead to a version."""
        folder = self.channel(channel)
        folder.mkdir(parents=True, exist_ok=True)
        self.signer.release_keys(folder, serial=serial)
        self.signer.channel(folder, version, channel=channel, **dates)
