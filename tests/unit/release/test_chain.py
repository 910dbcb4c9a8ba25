"""The whole chain, and every way to break a link of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product

import pytest

from tests.release_signing import DAY, public
from wws.identity.keys import Identity
from wws.release.chain import (
    MAX_ROOTS,
    NOTHING_SEEN,
    Seen,
    Verified,
    verify_channel,
    verify_release,
    verify_release_keys,
)
from wws.release.channel import Channel
from wws.release.errors import (
    FilesDiffer,
    KeyRevoked,
    OtherRelease,
    ReleaseExpired,
    ReleaseMalformed,
    ReleaseOlder,
    ReleaseRefused,
    SignatureMissing,
    SignatureWrong,
)
from wws.release.release_keys import ReleaseKeys
from wws.release.signatures import Form, Purpose, sign
from wws.release.sums import write_sums
from wws.release.version import Version

ROOT, RELEASE, OLD, STRANGER = (
    Identity.from_label(name) for name in ("root", "release", "the key before", "stranger")
)
NOW = 1_795_262_400
VERSION = Version.parse("1.2.3")
MANIFEST = b"0" * 64 + b"  bin/wws\n"
ROOTS = [public(ROOT)]


@dataclass
class Published:
    """What a release key and a root key have published, to be tampered with."""

    serial: int = 5
    expires_at: int = NOW + 365 * DAY
    keys: tuple[Identity, ...] = (RELEASE,)
    revoked: tuple[Identity, ...] = ()
    root: Identity = ROOT
    signer: Identity = RELEASE
    version: str = "1.2.3"
    issued_at: int = NOW - DAY
    channel_expires_at: int = NOW + 30 * DAY
    channel_signer: Identity = RELEASE
    channel: str = "stable"
    forms: tuple[Form, ...] = tuple(Form)
    changes: dict[str, Callable[[bytes], bytes]] = field(default_factory=dict)

    def files(self) -> dict[str, bytes]:
        keys = ReleaseKeys(
            self.serial, self.expires_at, tuple(map(public, self.keys)), tuple(map(public, self.revoked))
        ).encode()
        hashes = {
            f"wws-{self.version}-linux-x86_64.MANIFEST": hashlib.sha256(MANIFEST).hexdigest(),
            f"wws-{self.version}-linux-x86_64.tar.gz": "1" * 64,
            "install.sh": "2" * 64,
        }
        channel = Channel(
            self.channel, Version.parse(self.version), self.issued_at, self.channel_expires_at
        ).encode()
        made: dict[str, bytes] = {}
        for purpose, data, signer in (
            (Purpose.KEYS, keys, self.root),
            (Purpose.SUMS, write_sums(hashes), self.signer),
            (Purpose.CHANNEL, channel, self.channel_signer),
        ):
            made[purpose.file] = data
            for form in self.forms:
                made[purpose.file + form] = sign(signer, data, purpose, form)
        return {name: self.changes.get(name, bytes)(data) for name, data in made.items()}


def verify(published: Published, *, seen: Seen = NOTHING_SEEN, now: float | None = NOW) -> Verified:
    return verify_release(published.files(), ROOTS, now, version=VERSION, seen=seen)


def channel(published: Published, *, seen: Seen = NOTHING_SEEN, name: str = "stable") -> Channel:
    files = published.files()
    keys, _ = verify_release_keys(files, ROOTS, NOW, seen=seen)
    return verify_channel(files, keys, NOW, name=name, seen=seen)


def test_what_a_release_proves() -> None:
    found = verify(Published())
    assert found.root == public(ROOT)
    assert found.signer == public(RELEASE)
    assert found.forms == tuple(Form)
    found.require("install.sh", "2" * 64)
    assert found.manifest(MANIFEST, VERSION) == ("linux-x86_64", {"bin/wws": "0" * 64})


@pytest.mark.parametrize("form", Form)
def test_one_form_of_signature_is_enough(form: Form) -> None:
    assert verify(Published(forms=(form,))).forms == (form,)


@pytest.mark.parametrize("purpose, form", list(product(Purpose, Form)))
def test_each_form_that_is_there_must_hold(purpose: Purpose, form: Form) -> None:
    def stranger(_: bytes) -> bytes:
        return sign(STRANGER, Published().files()[purpose.file], purpose, form)

    with pytest.raises(SignatureWrong):
        channel(Published(changes={purpose.file + form: stranger})) if purpose is Purpose.CHANNEL else verify(
            Published(changes={purpose.file + form: stranger})
        )


ATTACKS: dict[str, tuple[Published, type[ReleaseRefused]]] = {
    "signed by a stranger": (Published(signer=STRANGER), SignatureWrong),
    "signed by the root key itself": (Published(signer=ROOT), SignatureWrong),
    "keys signed by a stranger": (Published(root=STRANGER), SignatureWrong),
    "keys signed by the release key": (Published(root=RELEASE), SignatureWrong),
    "a stranger's list, whole": (
        Published(root=STRANGER, keys=(STRANGER,), signer=STRANGER),
        SignatureWrong,
    ),
    "signed by a key that was removed": (Published(signer=OLD), SignatureWrong),
    "signed by a revoked key": (Published(signer=OLD, revoked=(OLD,)), KeyRevoked),
    "signed by a key that is both": (Published(revoked=(RELEASE,)), KeyRevoked),
    "no signatures": (Published(forms=()), SignatureMissing),
    "another version": (Published(version="1.2.2"), OtherRelease),
    "a newer version": (Published(version="1.2.30"), OtherRelease),
    "keys that lapsed": (Published(expires_at=NOW - 1), ReleaseExpired),
    "keys that lapse this second": (Published(expires_at=NOW), ReleaseExpired),
    "a file more in the sums": (
        Published(changes={"SHA256SUMS": lambda data: data + b"3" * 64 + b"  z\n"}),
        SignatureWrong,
    ),
    "a file less in the sums": (
        Published(changes={"SHA256SUMS": lambda data: data[data.index(b"\n") + 1 :]}),
        SignatureWrong,
    ),
    "sums that were cut": (Published(changes={"SHA256SUMS": lambda data: data[:-1]}), SignatureWrong),
    "empty sums": (Published(changes={"SHA256SUMS": lambda _: b""}), SignatureWrong),
    "sums of another line ending": (
        Published(changes={"SHA256SUMS": lambda data: data.replace(b"\n", b"\r\n")}),
        SignatureWrong,
    ),
    "an HTML page": (
        Published(changes={"SHA256SUMS": lambda _: b"<html>sign in to this network</html>\n"}),
        SignatureWrong,
    ),
    "an HTML page as signature": (
        Published(forms=(Form.SSH,), changes={"SHA256SUMS.sshsig": lambda _: b"<html></html>\n"}),
        ReleaseMalformed,
    ),
    "keys with another serial": (
        Published(changes={"release-keys": lambda data: data.replace(b"serial 5", b"serial 6")}),
        SignatureWrong,
    ),
    "keys with one more": (
        Published(changes={"release-keys": lambda data: data + f"key {public(STRANGER)}\n".encode()}),
        SignatureWrong,
    ),
    "keys without the revoked one": (
        Published(
            signer=OLD,
            keys=(RELEASE, OLD),
            revoked=(OLD,),
            changes={"release-keys": lambda data: data[: data.index(b"revoked")]},
        ),
        SignatureWrong,
    ),
    "keys for ever": (
        Published(changes={"release-keys": lambda data: data.replace(b"expires 2027", b"expires 2099")}),
        SignatureWrong,
    ),
}


@pytest.mark.parametrize("published, refusal", ATTACKS.values(), ids=ATTACKS)
def test_attacks_on_a_release(published: Published, refusal: type[ReleaseRefused]) -> None:
    verify(Published())
    with pytest.raises(refusal) as refused:
        verify(published)
    assert refused.value.exit_code == 8


def test_a_genuine_file_with_a_signature_of_another_purpose() -> None:
    """An SSHSIG has a namespace. For the others the content decides."""
    files = Published(forms=(Form.SSH,)).files()
    for data, purpose in ((files["SHA256SUMS"], Purpose.CHANNEL), (files["SHA256SUMS"], Purpose.KEYS)):
        crossed = {**files, "SHA256SUMS.sshsig": sign(RELEASE, data, purpose, Form.SSH)}
        with pytest.raises(SignatureWrong):
            verify_release(crossed, ROOTS, NOW)


def everything(files: dict[str, bytes]) -> None:
    keys, _ = verify_release_keys(files, ROOTS, NOW)
    verify_release(files, ROOTS, NOW)
    verify_channel(files, keys, NOW, name="stable")


@pytest.mark.parametrize("form", [Form.RAW, Form.MINISIGN])
def test_no_file_passes_for_one_of_another_purpose(form: Form) -> None:
    """Every signature in these forms is genuine, and the files are in each other's places."""
    files = Published(keys=(ROOT,), signer=ROOT, channel_signer=ROOT, forms=(form,)).files()
    everything(files)
    for wanted, given in product(Purpose, repeat=2):
        if wanted is given:
            continue
        swapped = {
            **files,
            wanted.file: files[given.file],
            wanted.file + form: files[given.file + form],
        }
        with pytest.raises(ReleaseRefused):
            everything(swapped)


@pytest.mark.parametrize("name", ["release-keys", "SHA256SUMS"])
def test_a_file_that_is_missing(name: str) -> None:
    files = Published().files()
    del files[name]
    with pytest.raises(FilesDiffer):
        verify_release(files, ROOTS, NOW)


def test_without_a_root_key_nothing_is_proved() -> None:
    with pytest.raises(SignatureWrong):
        verify_release(Published().files(), [], NOW)


def test_how_many_roots() -> None:
    others = [public(Identity.from_label(f"root {number}")) for number in range(MAX_ROOTS)]
    verify_release(Published().files(), [*others[1:], *ROOTS], NOW)
    with pytest.raises(SignatureWrong):
        verify_release(Published().files(), [*others, *ROOTS], NOW)


def test_the_memory_of_a_machine() -> None:
    assert verify(Published(), seen=Seen(serial=5)).release_keys.serial == 5
    with pytest.raises(ReleaseOlder):
        verify(Published(), seen=Seen(serial=6))
    with pytest.raises(KeyRevoked):
        verify(Published(), seen=Seen(revoked=frozenset([public(RELEASE)])))
    with pytest.raises(KeyRevoked):
        channel(Published(), seen=Seen(revoked=frozenset([public(RELEASE)])))


def test_what_was_installed_in_time_stays_good() -> None:
    assert verify(Published(expires_at=NOW - 400 * DAY), now=None).signer == public(RELEASE)


def test_rotation() -> None:
    """Both keys count for a while, then the new one; what the old one signed is good until it goes."""
    both = Published(serial=6, keys=(OLD, RELEASE))
    assert verify(both).signer == public(RELEASE)
    both.signer = OLD
    assert verify(both).signer == public(OLD)
    with pytest.raises(SignatureWrong):
        verify(Published(serial=7, signer=OLD))


# --- channels -------------------------------------------------------------------------------------


def test_a_channel() -> None:
    assert str(channel(Published()).version) == "1.2.3"


CHANNELS: dict[str, tuple[Published, Seen, str, type[ReleaseRefused]]] = {
    "last year's, from a mirror": (
        Published(issued_at=NOW - 365 * DAY, channel_expires_at=NOW - 320 * DAY),
        NOTHING_SEEN,
        "stable",
        ReleaseExpired,
    ),
    "lapses this second": (Published(channel_expires_at=NOW), NOTHING_SEEN, "stable", ReleaseExpired),
    "an earlier statement": (Published(), Seen(issued_at=NOW), "stable", ReleaseOlder),
    "an earlier version": (Published(), Seen(version=Version.parse("1.2.4")), "stable", ReleaseOlder),
    "before a candidate": (Published(), Seen(version=Version.parse("1.3.0a1")), "stable", ReleaseOlder),
    "issued in ten years": (
        Published(issued_at=NOW + 3650 * DAY, channel_expires_at=NOW + 3700 * DAY),
        NOTHING_SEEN,
        "stable",
        ReleaseRefused,
    ),
    "issued in six days": (Published(issued_at=NOW + 6 * DAY), NOTHING_SEEN, "stable", ReleaseRefused),
    "another channel": (Published(), NOTHING_SEEN, "edge", ReleaseRefused),
    "signed by a stranger": (
        Published(channel_signer=STRANGER),
        NOTHING_SEEN,
        "stable",
        SignatureWrong,
    ),
    "signed by a root key": (Published(channel_signer=ROOT), NOTHING_SEEN, "stable", SignatureWrong),
    "signed by a revoked key": (
        Published(channel_signer=OLD, revoked=(OLD,)),
        NOTHING_SEEN,
        "stable",
        KeyRevoked,
    ),
    "a later end": (
        Published(changes={"channel": lambda data: data.replace(b"expires 2026", b"expires 2099")}),
        NOTHING_SEEN,
        "stable",
        SignatureWrong,
    ),
    "no signature": (Published(forms=()), NOTHING_SEEN, "stable", SignatureMissing),
}


@pytest.mark.parametrize("published, seen, name, refusal", CHANNELS.values(), ids=CHANNELS)
def test_attacks_on_a_channel(
    published: Published, seen: Seen, name: str, refusal: type[ReleaseRefused]
) -> None:
    files = {**Published().files(), **{k: v for k, v in published.files().items() if k.startswith("channel")}}
    keys = ReleaseKeys.parse(published.files()["release-keys"])
    with pytest.raises(refusal):
        verify_channel(files if published.forms else {"channel": b""}, keys, NOW, name=name, seen=seen)


def test_a_clock_that_is_a_little_slow_is_fine() -> None:
    assert channel(Published(issued_at=NOW + 5 * DAY)).version == VERSION


def test_the_same_statement_again_is_fine() -> None:
    again = Seen(serial=5, issued_at=NOW - DAY, version=VERSION)
    assert channel(Published(), seen=again).version == VERSION


# --- what hangs on the sums -----------------------------------------------------------------------


def test_files_that_were_not_signed() -> None:
    found = verify(Published())
    with pytest.raises(FilesDiffer):
        found.require("install.sh", "3" * 64)
    with pytest.raises(FilesDiffer):
        found.require("install.ps1", "2" * 64)
    with pytest.raises(FilesDiffer):
        found.manifest(MANIFEST + MANIFEST.replace(b"wws", b"more"), VERSION)
    with pytest.raises(FilesDiffer):
        found.manifest(MANIFEST, Version.parse("1.2.4"))


def test_a_signed_manifest_is_still_parsed_strictly() -> None:
    evil = b"0" * 64 + b"  ../../.profile\n"
    name = f"wws-{VERSION}-linux-x86_64.MANIFEST"
    found = Verified(
        public(ROOT),
        ReleaseKeys(1, NOW, (public(RELEASE),)),
        public(RELEASE),
        {name: hashlib.sha256(evil).hexdigest()},
    )
    with pytest.raises(ReleaseMalformed):
        found.manifest(evil, VERSION)
