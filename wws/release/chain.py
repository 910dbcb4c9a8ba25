"""The chain from a root key to the files of a release, verified link by link.

`verify_release` takes the small signed files and gives what they prove: the hash that each file must have.
What a machine has seen before (the highest serial, the newest channel) is handed in as `Seen`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from wws.release.channel import Channel
from wws.release.errors import (
    FilesDiffer,
    KeyRevoked,
    ReleaseExpired,
    ReleaseOlder,
    ReleaseRefused,
    SignatureMissing,
    SignatureWrong,
)
from wws.release.keys import PublicKey
from wws.release.lines import time_text
from wws.release.release_keys import ReleaseKeys
from wws.release.signatures import Form, Purpose, verify_signature
from wws.release.sums import parse_manifest, parse_sums, require_version
from wws.release.version import Version

MAX_ROOTS: Final = 8
"""Root keys that count at a time."""
MAX_AHEAD: Final = 5 * 86_400
"""Seconds that a channel may be issued ahead of our clock, which may be wrong. What is issued later than that
would make all later statements old, also when the key that signed it is revoked."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a machine has seen of releases; nothing older is taken."""

    serial: int = 0
    """Of `release-keys`."""
    revoked: frozenset[PublicKey] = frozenset()
    """Keys that any `release-keys` seen here has revoked."""
    issued_at: int = 0
    """Of the channel."""
    version: Version | None = None
    """The one that is installed."""


NOTHING_SEEN: Final = Seen()


@dataclass(frozen=True, slots=True)
class Verified:
    """A release whose signatures hold."""

    root: PublicKey
    """The root key that signed `release-keys`."""
    release_keys: ReleaseKeys
    signer: PublicKey
    """The release key that signed `SHA256SUMS`."""
    sums: Mapping[str, str]
    """The hash of each file."""
    forms: tuple[Form, ...] = field(default=())
    """The forms of signature that were there beside `SHA256SUMS`, all of which hold."""

    def require(self, name: str, sha256: str) -> None:
        """Raises `FilesDiffer` unless the release has a file of this name with this hash."""
        wanted = self.sums.get(name)
        if wanted is None:
            raise FilesDiffer(f"{name} is no file of this release.")
        if sha256 != wanted:
            raise FilesDiffer(f"{name} is not what was signed: its SHA-256 is {sha256}, not {wanted}.")

    def manifest(self, data: bytes, version: Version) -> tuple[str, dict[str, str]]:
        """The platform that these bytes of a MANIFEST are for, and the hash of each file in it.

        Raises `FilesDiffer` when the release has no such MANIFEST.
        """
        digest = hashlib.sha256(data).hexdigest()
        start, end = f"wws-{version}-", ".MANIFEST"
        for name, wanted in self.sums.items():
            if name.startswith(start) and name.endswith(end) and wanted == digest:
                return name[len(start) : -len(end)], parse_manifest(data)
        raise FilesDiffer(f"MANIFEST is none of release {version}: its SHA-256 is {digest}.")


def verify_release(
    files: Mapping[str, bytes],
    roots: Collection[PublicKey],
    unix_now: float | None,
    *,
    version: Version | None = None,
    seen: Seen = NOTHING_SEEN,
) -> Verified:
    """What the signed files of a release prove: `files` has `release-keys`, `SHA256SUMS`, their signatures.

    Of the three forms of a signature one is enough, and each that is there must hold. `unix_now` is `None` to
    judge a release that was installed long ago: then nothing lapses. Raises `ReleaseRefused`.
    """
    release_keys, root = verify_release_keys(files, roots, unix_now, seen=seen)
    data = _file(files, Purpose.SUMS)
    signer, forms = _signer(files, data, Purpose.SUMS, release_keys, seen)
    sums = parse_sums(data)
    if version is not None:
        require_version(sums, version)
    return Verified(root, release_keys, signer, sums, forms)


def verify_release_keys(
    files: Mapping[str, bytes],
    roots: Collection[PublicKey],
    unix_now: float | None,
    *,
    seen: Seen = NOTHING_SEEN,
) -> tuple[ReleaseKeys, PublicKey]:
    """The statement on release keys, and the root key that signed it. Raises `ReleaseRefused`."""
    if not roots:
        raise SignatureWrong("No root key is known here, so nothing can be proved of a release.")
    if len(roots) > MAX_ROOTS:
        raise SignatureWrong(f"At most {MAX_ROOTS} root keys count at a time, not {len(roots)}.")
    data = _file(files, Purpose.KEYS)
    root, _ = _signer_among(files, data, Purpose.KEYS, roots)
    found = ReleaseKeys.parse(data)
    if found.serial < seen.serial:
        raise ReleaseOlder(
            f"release-keys has the serial {found.serial}, and this machine has seen {seen.serial} already: "
            "somebody serves an old list of keys."
        )
    if unix_now is not None and found.expires_at <= unix_now:
        raise ReleaseExpired(
            f"release-keys lapsed at {time_text(found.expires_at)} (UTC): somebody serves an old list of "
            "keys, or the clock of this machine is ahead."
        )
    return found, root


def verify_channel(
    files: Mapping[str, bytes],
    release_keys: ReleaseKeys,
    unix_now: float,
    *,
    name: str,
    seen: Seen = NOTHING_SEEN,
) -> Channel:
    """What the channel of this name says now, by a key of `release_keys`, which were verified before.

    Raises `ReleaseRefused`, also for a channel that would lead back: to an earlier statement or version.
    """
    data = _file(files, Purpose.CHANNEL)
    _signer(files, data, Purpose.CHANNEL, release_keys, seen)
    found = Channel.parse(data)
    if found.name != name:
        raise ReleaseRefused(f"This was to be the channel {name}, and it is {found.name}.")
    if found.expires_at <= unix_now:
        raise ReleaseExpired(
            f"What the channel {name} says lapsed at {time_text(found.expires_at)} (UTC): somebody serves "
            "an old one, or the clock of this machine is ahead."
        )
    if found.issued_at > unix_now + MAX_AHEAD:
        raise ReleaseRefused(
            f"The channel {name} was issued at {time_text(found.issued_at)} (UTC), which is yet to come: the "
            "clock of this machine is behind, or somebody wants all that is issued from now on to look old."
        )
    if found.issued_at < seen.issued_at:
        raise ReleaseOlder(
            f"The channel {name} was issued at {time_text(found.issued_at)} (UTC), and this machine has seen "
            f"one of {time_text(seen.issued_at)}."
        )
    if seen.version is not None and found.version < seen.version:
        raise ReleaseOlder(
            f"The channel {name} leads to {found.version}, and {seen.version} is installed.",
            hint=f"If you want it: --version {found.version}",
        )
    return found


def _signer(
    files: Mapping[str, bytes], data: bytes, purpose: Purpose, release_keys: ReleaseKeys, seen: Seen
) -> tuple[PublicKey, tuple[Form, ...]]:
    """The release key that signed, which is neither revoked now nor by what was seen before."""
    revoked = {*release_keys.revoked, *seen.revoked}
    counted = [key for key in release_keys.keys if key not in revoked]
    try:
        return _signer_among(files, data, purpose, counted)
    except SignatureWrong:
        # Only to say it better: nothing that this finds is believed.
        try:
            key, _ = _signer_among(files, data, purpose, revoked)
        except ReleaseRefused:
            pass
        else:
            raise KeyRevoked(f"{purpose.file} was signed by a key that has been revoked: {key}") from None
        raise


def _signer_among(
    files: Mapping[str, bytes], data: bytes, purpose: Purpose, keys: Collection[PublicKey]
) -> tuple[PublicKey, tuple[Form, ...]]:
    """The key that signed; with several forms, of the first. Each form that is there must hold."""
    signatures = [(form, files[purpose.file + form]) for form in Form if purpose.file + form in files]
    if not signatures:
        raise SignatureMissing(f"There is no signature beside {purpose.file}.")
    signers = [verify_signature(keys, data, signature, purpose, form) for form, signature in signatures]
    return signers[0], tuple(form for form, _ in signatures)


def _file(files: Mapping[str, bytes], purpose: Purpose) -> bytes:
    try:
        return files[purpose.file]
    except KeyError:
        raise FilesDiffer(f"There is no {purpose.file}.") from None
