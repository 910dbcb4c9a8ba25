"""Releases signed at test time: a root key, a release key, and folders signed by packaging/sign.py."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Final

from wws.identity.keys import Identity
from wws.release.channel import Channel
from wws.release.keys import PublicKey
from wws.release.release_keys import ReleaseKeys
from wws.release.signatures import Purpose
from wws.release.version import Version

SIGN_SCRIPT: Final = Path(__file__).parents[1] / "packaging" / "sign.py"
DAY: Final = 86_400


def sign_module() -> ModuleType:
    """packaging/sign.py as a module. Its folder is no package: the name is that of a library."""
    name = "wws_packaging_sign"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, SIGN_SCRIPT)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def public(signer: Identity) -> PublicKey:
    """The public key of a signer, as releases write it."""
    return PublicKey(signer.public_key)


@dataclass
class Signer:
    """A root key and a release key. From labels, so that the same test signs the same bytes."""

    root: Identity = field(default_factory=lambda: Identity.from_label("root of the tests"))
    release: Identity = field(default_factory=lambda: Identity.from_label("release key of the tests"))

    @property
    def root_text(self) -> str:
        """What `install.sh --root-key` and the stamp take."""
        return str(public(self.root))

    @property
    def release_text(self) -> str:
        return str(public(self.release))

    def sign_folder(
        self,
        folder: Path,
        *,
        channel: str | None = None,
        version: str | None = None,
        now: float | None = None,
    ) -> None:
        """Sign all files of the folder: SHA256SUMS, release-keys, and `channel` too where a name is given."""
        self.release_keys(folder, now=now)
        self.sums(folder)
        if channel is not None:
            assert version is not None, "a channel leads to a version"
            self.channel(folder, version, channel=channel, now=now)

    def sums(self, folder: Path, *, by: Identity | None = None) -> None:
        """Write and sign SHA256SUMS of what is in the folder, by the release key or another."""
        sign_module().sign_sums(folder, by or self.release)

    def release_keys(
        self,
        folder: Path,
        *,
        serial: int = 1,
        days: float = 365,
        keys: Sequence[PublicKey] | None = None,
        revoked: Sequence[PublicKey] = (),
        by: Identity | None = None,
        now: float | None = None,
    ) -> None:
        """Write and sign release-keys, by the root key or another; it lapses in `days`."""
        expires_at = int((time.time() if now is None else now) + days * DAY)
        chosen = (public(self.release),) if keys is None else tuple(keys)
        data = ReleaseKeys(serial, expires_at, chosen, tuple(revoked)).encode()
        sign_module().write_signed(folder, Purpose.KEYS, data, by or self.root)

    def channel(
        self,
        folder: Path,
        version: str,
        *,
        channel: str = "stable",
        issued_days_ago: float = 0,
        days: float = 45,
        by: Identity | None = None,
        now: float | None = None,
    ) -> None:
        """Write and sign what a channel says; it lapses `days` after it was issued."""
        issued_at = int((time.time() if now is None else now) - issued_days_ago * DAY)
        data = Channel(channel, Version.parse(version), issued_at, int(issued_at + days * DAY)).encode()
        sign_module().write_signed(folder, Purpose.CHANNEL, data, by or self.release)
