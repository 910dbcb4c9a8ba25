"""A release that lies in a folder: what is there is what was signed, also inside of the archives."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_cli import release_folder
from agent_cli.release_folder import VerifiedFolder, verify_folder
from tests.release_signing import Signer, public
from wws.identity.keys import Identity
from wws.release.errors import (
    FilesDiffer,
    OtherRelease,
    ReleaseExpired,
    ReleaseRefused,
    SignatureWrong,
)
from wws.release.version import Version
from wws.runtime.machine_errors import CannotRead

NAME = "wws-1.2.3-linux-x86_64"
FILES = {"bin/wws": b"#!/bin/sh\n", "VERSION": b"1.2.3\n"}
Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = "") -> Entry:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.size = kind, target, len(content)
    return found, content


def manifest(files: dict[str, bytes]) -> bytes:
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items())]
    return "".join(lines).encode()


def entries() -> list[Entry]:
    """Those of an archive as it should be."""
    files = {**FILES, "MANIFEST": manifest(FILES)}
    folders = [entry(name, kind=tarfile.DIRTYPE) for name in ("wws-1.2.3", "wws-1.2.3/bin")]
    return folders + [entry(f"wws-1.2.3/{name}", content) for name, content in files.items()]


def archive(content: list[Entry]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for info, data in content:
            tar.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def publish(folder: Path, data: bytes, **signed: str) -> None:
    """Whoever publishes signs whatever the archive is."""
    folder.mkdir(exist_ok=True)
    (folder / f"{NAME}.tar.gz").write_bytes(data)
    (folder / f"{NAME}.MANIFEST").write_bytes(manifest(FILES))
    (folder / "install.sh").write_bytes(b"#!/bin/sh\n")
    Signer().sign_folder(folder, **signed)


def verify(folder: Path, *, complete: bool = True, version: str | None = "1.2.3") -> VerifiedFolder:
    wanted = None if version is None else Version.parse(version)
    return verify_folder(folder, [public(Signer().root)], time.time(), version=wanted, complete=complete)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    publish(tmp_path / "release", archive(entries()), channel="stable", version="1.2.3")
    return tmp_path / "release"


def test_a_release(folder: Path) -> None:
    found = verify(folder)
    assert found.archives == (f"{NAME}.tar.gz",)
    assert found.missing == []
    assert found.channel is not None
    assert len(found.files) == 3


def test_a_part_of_a_release(folder: Path) -> None:
    for name in ("install.sh", f"{NAME}.MANIFEST"):
        (folder / name).unlink()
    found = verify(folder, complete=False)
    assert found.missing == ["install.sh", f"{NAME}.MANIFEST"]
    assert found.archives == (f"{NAME}.tar.gz",)
    with pytest.raises(FilesDiffer, match="lacks"):
        verify(folder)
    (folder / f"{NAME}.tar.gz").unlink()
    with pytest.raises(FilesDiffer, match="no file of a release"):
        verify(folder, complete=False)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(CannotRead):
        verify(tmp_path / "nowhere")


def with_entry(*more: Entry) -> list[Entry]:
    return [*entries(), *more]


def changed(name: str, content: bytes) -> list[Entry]:
    return [
        entry(info.name, content) if info.name == f"wws-1.2.3/{name}" else (info, data)
        for info, data in entries()
    ]


ARCHIVES: dict[str, list[Entry]] = {
    "a changed file": changed("bin/wws", b"#!/bin/bash\n"),
    "another manifest": changed("MANIFEST", manifest({**FILES, "x": b""})),
    "an empty manifest": changed("MANIFEST", b""),
    "no manifest": entries()[:-1],
    "a file less": [kept for kept in entries() if kept[0].name != "wws-1.2.3/bin/wws"],
    "a file more": with_entry(entry("wws-1.2.3/bin/evil")),
    "a file twice": with_entry(entry("wws-1.2.3/bin/wws", b"#!/bin/sh\n")),
    "a file beside": with_entry(entry("evil")),
    "a folder beside": with_entry(entry("evil", kind=tarfile.DIRTYPE)),
    "a path that leads out": with_entry(entry("wws-1.2.3/../evil")),
    "an absolute path": with_entry(entry("/evil")),
    "a link": with_entry(entry("wws-1.2.3/x", kind=tarfile.SYMTYPE, target="/etc/passwd")),
    "a hard link": with_entry(entry("wws-1.2.3/x", kind=tarfile.LNKTYPE, target="wws-1.2.3/bin/wws")),
    "a device": with_entry(entry("wws-1.2.3/x", kind=tarfile.CHRTYPE)),
    "a pipe": with_entry(entry("wws-1.2.3/x", kind=tarfile.FIFOTYPE)),
    "nothing": [],
}


@pytest.mark.parametrize("content", ARCHIVES.values(), ids=ARCHIVES)
def test_archives_that_were_signed_and_are_none(tmp_path: Path, content: list[Entry]) -> None:
    publish(tmp_path / "release", archive(content))
    with pytest.raises(FilesDiffer):
        verify(tmp_path / "release")


@pytest.mark.parametrize(
    "cut",
    [lambda data: data[:-20], lambda data: data[:40], lambda _: b"", lambda _: gzip.compress(b"x" * 600)],
)
def test_archives_that_cannot_be_read(tmp_path: Path, cut: Callable[[bytes], bytes]) -> None:
    publish(tmp_path / "release", cut(archive(entries())))
    with pytest.raises(FilesDiffer):
        verify(tmp_path / "release")


def test_an_archive_that_unpacks_to_too_much(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_folder, "MAX_UNPACKED", 100)
    with pytest.raises(FilesDiffer, match="more than any release"):
        verify(folder)


def test_an_archive_of_too_many_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_folder, "MAX_ENTRIES", 0)
    with pytest.raises(FilesDiffer, match="more than any release"):
        verify(folder)


def test_the_channel_beside_it(folder: Path) -> None:
    signer = Signer()
    for tamper, refusal in (
        (lambda: signer.channel(folder, "1.2.4"), OtherRelease),
        (lambda: signer.channel(folder, "1.2.3", issued_days_ago=46), ReleaseExpired),
        (lambda: signer.channel(folder, "1.2.3", by=Identity.from_label("stranger")), SignatureWrong),
        (lambda: (folder / "channel").write_bytes(b""), ReleaseRefused),
    ):
        tamper()
        with pytest.raises(refusal):
            verify(folder)
    signer.channel(folder, "1.2.4")
    assert str(verify(folder, version=None).channel.version) == "1.2.4"  # type: ignore[union-attr]
