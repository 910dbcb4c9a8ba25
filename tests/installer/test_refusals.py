"""Releases that are not genuine, not current or not whole: refused, and nothing is left of them."""

from __future__ import annotations

import gzip
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.installer.conftest import MakeMachine
from tests.installer.machine import Machine, listing
from tests.installer.releases import PLATFORM, Releases, Tree, entry, pack, packed, tree
from tests.release_signing import DAY, Signer, public
from wws.identity.keys import Identity
from wws.testing.scale import scale_factor

STRANGER = Identity.from_label("a stranger")
LAST_YEAR = 366.0

Fault = Callable[[Releases], object]


def changed(file: str, change: Callable[[bytes], bytes]) -> Fault:
    """A file of the release or the channel, changed after it was signed."""

    def fault(releases: Releases) -> None:
        for folder in (releases.release("1.2.3"), releases.channel()):
            for place in folder.glob(file):
                place.write_bytes(change(place.read_bytes()))

    return fault


def gone(file: str) -> Fault:
    def fault(releases: Releases) -> None:
        for folder in (releases.release("1.2.3"), releases.channel()):
            for place in folder.glob(file):
                place.unlink()

    return fault


def said_again(releases: Releases, file: str, text: bytes) -> None:
    """A statement of another form, correctly signed: parsing must refuse it."""
    from tests.release_signing import sign_module
    from wws.release.signatures import Purpose

    purpose = next(purpose for purpose in Purpose if purpose.file == file)
    key = releases.signer.root if purpose is Purpose.KEYS else releases.signer.release
    folder = releases.release("1.2.3") if purpose is Purpose.SUMS else releases.channel()
    sign_module().write_signed(folder, purpose, text, key)


def signed_text(file: str, change: Callable[[bytes], bytes]) -> Fault:
    def fault(releases: Releases) -> None:
        folder = releases.release("1.2.3") if file == "SHA256SUMS" else releases.channel()
        said_again(releases, file, change((folder / file).read_bytes()))

    return fault


def other_release(releases: Releases) -> None:
    """What a mirror does that puts last year's release in the place of this one: all of it is genuine."""
    releases.publish("1.1.0")
    releases.lead("1.2.3")
    for place in releases.release("1.1.0").iterdir():
        name = place.name.replace("wws-1.1.0", "wws-1.2.3")
        (releases.release("1.2.3") / name).write_bytes(place.read_bytes())


def stranger_releases(releases: Releases) -> None:
    """Everything is in order, under keys of somebody else."""
    theirs = Signer(root=STRANGER, release=Identity.from_label("a stranger's release key"))
    for folder in (releases.release("1.2.3"), releases.channel()):
        theirs.release_keys(folder)
    theirs.sums(releases.release("1.2.3"))
    theirs.channel(releases.channel(), "1.2.3")


def revoked(releases: Releases) -> None:
    """The key that signed this release was revoked since; it is even listed, still."""
    new = Identity.from_label("the next release key")
    keys = [public(new), public(releases.signer.release)]
    releases.signer.release_keys(
        releases.channel(), serial=2, keys=keys, revoked=[public(releases.signer.release)]
    )
    releases.signer.channel(releases.channel(), "1.2.3", by=new)


def channel_by_revoked(releases: Releases) -> None:
    revoked(releases)
    releases.signer.channel(releases.channel(), "1.2.3")


HTML = b"<!DOCTYPE html>\n<html><body>Please log in to this network.</body></html>\n"

FAULTS: dict[str, tuple[Fault, int, str]] = {
    # what was not signed so
    "archive changed": (changed("*.tar.gz", lambda data: data + b"\0"), 8, "its SHA-256 is"),
    "archive cut": (changed("*.tar.gz", lambda data: data[: len(data) // 2]), 8, "its SHA-256 is"),
    "archive empty": (changed("*.tar.gz", lambda data: b""), 8, "its SHA-256 is"),
    "archive is a page": (changed("*.tar.gz", lambda data: HTML), 8, "its SHA-256 is"),
    "hashes changed": (
        changed("SHA256SUMS", lambda data: data.replace(b"a", b"b")),
        8,
        "not signed by a release key",
    ),
    "hashes empty": (changed("SHA256SUMS", lambda data: b""), 8, "SHA256SUMS of"),
    "hashes are a page": (changed("SHA256SUMS", lambda data: HTML), 8, "SHA256SUMS of"),
    "channel is a page": (changed("channel", lambda data: HTML), 8, "channel of"),
    "keys are a page": (changed("release-keys", lambda data: HTML), 8, "no list of release keys"),
    "keys empty": (changed("release-keys", lambda data: b""), 8, "no list of release keys"),
    "signature empty": (changed("SHA256SUMS.sshsig", lambda data: b""), 8, "not signed by a release key"),
    "signature is a page": (changed("channel.sshsig", lambda data: HTML), 8, "not signed by a release key"),
    "signature gone": (gone("SHA256SUMS.sshsig"), 8, "has no signature"),
    "raw signature gone": (gone("release-keys.sig"), 8, "has no signature"),
    "keys gone": (gone("release-keys"), 8, "there is no release-keys"),
    "archive gone": (gone("*.tar.gz"), 9, "has no wws-1.2.3"),
    "hashes gone": (gone("SHA256SUMS"), 9, "has no release 1.2.3"),
    # signed, by the wrong ones
    "stranger": (stranger_releases, 8, "not signed by a root key that counts here"),
    "stranger's channel": (
        lambda releases: releases.signer.channel(releases.channel(), "1.2.3", by=STRANGER),
        8,
        "channel of",
    ),
    "stranger's hashes": (
        lambda releases: releases.signer.sums(releases.release("1.2.3"), by=STRANGER),
        8,
        "SHA256SUMS of",
    ),
    "root signs hashes": (
        lambda releases: releases.signer.sums(releases.release("1.2.3"), by=releases.signer.root),
        8,
        "not signed by a release key",
    ),
    "revoked key": (revoked, 8, "SHA256SUMS of"),
    "revoked key's channel": (channel_by_revoked, 8, "signed by a key that has been revoked"),
    # signed, and old
    "keys lapsed": (
        lambda releases: releases.signer.release_keys(releases.channel(), days=-1),
        8,
        "release-keys of",
    ),
    "channel lapsed": (
        lambda releases: releases.signer.channel(releases.channel(), "1.2.3", issued_days_ago=LAST_YEAR),
        8,
        "lapsed at",
    ),
    "last year's release": (other_release, 8, "of another release than 1.2.3"),
    # signed, and of another form
    "another channel": (
        lambda releases: releases.signer.channel(releases.channel(), "1.2.3", channel="beta"),
        8,
        "is not the channel stable",
    ),
    "channel with a line more": (
        signed_text("channel", lambda data: data + b"more\n"),
        8,
        "is not the channel",
    ),
    "channel without its end": (signed_text("channel", lambda data: data[:-1]), 8, "is not the channel"),
    "channel with line feeds of Windows": (
        signed_text("channel", lambda data: data.replace(b"\n", b"\r\n")),
        8,
        "is not the channel",
    ),
    "channel leads into a folder": (
        signed_text("channel", lambda data: data.replace(b"1.2.3", b"../../x")),
        8,
        "is not the channel",
    ),
    "keys without a key": (
        signed_text("release-keys", lambda data: b"".join(data.splitlines(keepends=True)[:3])),
        8,
        "no list of release keys",
    ),
    "keys with a line more": (
        signed_text("release-keys", lambda data: data + b"more\n"),
        8,
        "no list of release keys",
    ),
    "keys of another version": (
        signed_text("release-keys", lambda data: data.replace(b"keys 1", b"keys 2")),
        8,
        "no list of release keys",
    ),
    "serial is no number": (
        signed_text("release-keys", lambda data: data.replace(b"serial 1", b"serial 0x1")),
        8,
        "no list of release keys",
    ),
    "channel in the place of hashes": (
        lambda releases: said_again(releases, "SHA256SUMS", (releases.channel() / "channel").read_bytes()),
        8,
        "no list of hashes",
    ),
    "hashes are signed, and empty": (lambda releases: said_again(releases, "SHA256SUMS", b""), 8, "is empty"),
    "a name that leads away": (
        signed_text("SHA256SUMS", lambda data: data + b"0" * 64 + b"  ../x\n"),
        8,
        "no list of hashes",
    ),
    "hash in capitals": (signed_text("SHA256SUMS", lambda data: data.upper()), 8, "no list of hashes"),
    "the archive twice": (
        signed_text(
            "SHA256SUMS", lambda data: data + b"0" * 64 + f"  wws-1.2.3-{PLATFORM}.tar.gz\n".encode()
        ),
        8,
        "no list of hashes",
    ),
    "not for this machine": (
        signed_text("SHA256SUMS", lambda data: data.replace(PLATFORM.encode(), b"plan9-mips")),
        10,
        f"has nothing for {PLATFORM}",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_refused(machine: Machine, releases: Releases, fault: str) -> None:
    spoil, code, words = FAULTS[fault]
    spoil(releases)
    machine.refuses(code, words)


def test_refused_beside_what_is_installed(machine: Machine, releases: Releases) -> None:
    """An upgrade that is refused leaves what was there, which goes on working."""
    machine.installs()
    releases.publish("1.2.4")
    releases.archive("1.2.4").write_bytes(b"other")
    machine.refuses(8, "its SHA-256 is")
    assert machine.version == "1.2.3"


def tops(files: Tree, *more: tuple[tarfile.TarInfo, bytes]) -> bytes:
    return packed([*(entry(f"wws-1.2.3/{name}", content) for name, content in files.items()), *more])


FILES = tree("1.2.3")
LINK, HARD, FIFO, DEVICE = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE
PLACES = "files for other places than its own folder"
LINKS = "links or devices"

TRICKS: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "absolute": (lambda home: tops(FILES, entry(f"{home}/absolute")), PLACES),
    "up and away": (lambda home: tops(FILES, entry("wws-1.2.3/../../../up")), PLACES),
    "dots at the end": (lambda home: tops(FILES, entry("wws-1.2.3/bin/..")), PLACES),
    "another top folder": (lambda home: tops(FILES, entry("wws-1.2.30/x")), PLACES),
    "no top folder": (lambda home: packed([entry(name, content) for name, content in FILES.items()]), PLACES),
    "of another version": (lambda home: pack("1.2.4", FILES), PLACES),
    "line feed in a name": (lambda home: tops(FILES, entry("wws-1.2.3/a\nb")), PLACES),
    "control character": (lambda home: tops(FILES, entry("wws-1.2.3/\x1b]0;x\x07")), PLACES),
    "link to a folder": (
        lambda home: tops(
            FILES,
            entry("wws-1.2.3/home", type=LINK, linkname=str(home)),
            entry("wws-1.2.3/home/through"),
        ),
        LINKS,
    ),
    "link inside": (lambda home: tops(FILES, entry("wws-1.2.3/x", type=LINK, linkname="VERSION")), LINKS),
    "hard link": (lambda home: tops(FILES, entry("wws-1.2.3/x", type=HARD, linkname="/etc/passwd")), LINKS),
    "fifo": (lambda home: tops(FILES, entry("wws-1.2.3/x", type=FIFO)), LINKS),
    "device": (lambda home: tops(FILES, entry("wws-1.2.3/x", type=DEVICE, devmajor=1, devminor=3)), LINKS),
    "empty": (lambda home: packed([]), PLACES),
    "not an archive": (lambda home: gzip.compress(b"wws" * 500), PLACES),
    "says another version": (lambda home: pack("1.2.3", FILES | {"VERSION": b"1.2.4\n"}), "is not wws 1.2.3"),
    "without wws": (
        lambda home: pack("1.2.3", {name: FILES[name] for name in FILES if name != "bin/wws"}),
        "is not wws 1.2.3",
    ),
    "refuses itself": (
        lambda home: pack("1.2.3", FILES | {"bin/wws": b"#!/bin/sh\necho a file differs\nexit 8\n"}),
        "refuses itself: a file differs",
    ),
}


TOLD_OTHERWISE = ("absolute", "up and away", "line feed in a name", "link to a folder", "hard link", "device")
"""By the tar of BusyBox; it is tried with the others at scale 1."""


@pytest.mark.parametrize(
    ("trick", "tar"),
    [
        *((trick, "tar") for trick in TRICKS),
        *((trick, "tar=busybox") for trick in (TRICKS if scale_factor() >= 1 else TOLD_OTHERWISE)),
    ],
)
def test_archives_that_reach_out(
    machine: Machine, releases: Releases, tmp_path: Path, trick: str, tar: str
) -> None:
    """Each is signed as it is: what is in a release is checked even when its signatures hold."""
    make, words = TRICKS[trick]
    if tar != "tar":
        machine.bin.joinpath("tar").unlink()
        machine.bin.joinpath("tar").symlink_to("/bin/busybox" if Path("/bin/busybox").exists() else "busybox")
    releases.archive("1.2.3").write_bytes(make(machine.home))
    releases.signer.sums(releases.release("1.2.3"))
    machine.offline(releases)
    before = listing(machine.folder)
    machine.refuses(8, words)
    assert listing(machine.folder) == before


def test_what_is_no_archive(machine: Machine, releases: Releases) -> None:
    """It is what was signed, and the disk is not full."""
    for data in (HTML, gzip.compress(bytes(1000))[:-9]):
        releases.archive("1.2.3").write_bytes(data)
        releases.signer.sums(releases.release("1.2.3"))
        machine.refuses(8, "is no archive, or a broken one")


def test_an_archive_that_swells(machine: Machine, releases: Releases) -> None:
    """Half a MiB that becomes more than a version may have."""
    if scale_factor() < 1:
        pytest.skip("writes half a GiB: at scale 1")
    releases.archive("1.2.3").write_bytes(gzip.compress(bytes(64 * 1024 * 1024)) * 9)
    releases.signer.sums(releases.release("1.2.3"))
    machine.refuses(10, "cannot write into")


def test_programs_of_another_machine(machine: Machine, releases: Releases) -> None:
    elf = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + (2).to_bytes(2, "little")
        + (0xF3).to_bytes(2, "little")
        + bytes(100)
    )
    releases.archive("1.2.3").write_bytes(pack("1.2.3", FILES | {"bin/wws": elf}))
    releases.signer.sums(releases.release("1.2.3"))
    machine.refuses(10)


class TestWhatThisMachineHasSeen:
    """The second line against a mirror that serves what is genuine and old."""

    def test_an_older_list_of_keys(self, machine: Machine, releases: Releases) -> None:
        releases.lead("1.2.3", serial=3)
        machine.installs()
        releases.lead("1.2.3", serial=2)
        machine.refuses(8, "has the serial 2, and this machine has seen 3")
        releases.lead("1.2.3", serial=3)
        machine.installs()

    def test_an_older_statement_of_the_channel(self, machine: Machine, releases: Releases) -> None:
        machine.installs()
        releases.lead("1.2.3", issued_days_ago=2)
        machine.refuses(8, "was issued at", "and this machine has seen one of")

    def test_an_older_list_brings_no_revoked_key_back(self, machine: Machine, releases: Releases) -> None:
        """A mirror keeps the list from before, and the release that the stolen key signed."""
        new = Identity.from_label("the next release key")
        releases.publish("1.2.4")
        old = releases.signer
        for folder in (releases.channel(), releases.release("1.2.4")):
            old.release_keys(folder, serial=2, keys=[public(new)], revoked=[public(old.release)])
        old.channel(releases.channel(), "1.2.4", by=new)
        old.sums(releases.release("1.2.4"), by=new)
        machine.installs()
        for file in releases.channel().iterdir():
            file.unlink()
        machine.refuses(8, "SHA256SUMS of", "revoked", arguments=["--version", "1.2.3"])

    def test_other_roots_are_another_story(self, machine: Machine, releases: Releases) -> None:
        """What was seen under other root keys says nothing of these."""
        releases.lead("1.2.3", serial=9)
        machine.installs()
        theirs = Signer(root=STRANGER, release=releases.signer.release)
        for folder in (releases.release("1.2.3"), releases.channel()):
            theirs.release_keys(folder)
        theirs.channel(releases.channel(), "1.2.3", now=time.time() - DAY)
        machine.arguments[-1] = theirs.root_text
        machine.installs()

    def test_nothing_is_remembered_that_was_not_verified(
        self, make_machine: MakeMachine, releases: Releases
    ) -> None:
        releases.lead("1.2.3", serial=999)
        careless = make_machine()
        tools = [path.name for path in careless.bin.iterdir() if path.name not in {"ssh-keygen", "openssl"}]
        careless.tools(*tools)
        careless.installs()
        careless.tools(*tools, "ssh-keygen")
        releases.lead("1.2.3", serial=2)
        careless.installs()
