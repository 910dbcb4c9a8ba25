"""Why a release is not taken. Each is a matter of integrity: exit code 8."""

from __future__ import annotations

from typing import ClassVar

from wws.errors import ParseError, RemoteProtocolError


class ReleaseRefused(RemoteProtocolError):
    """A release is not what it should be."""

    code = "release_refused"
    exit_code: ClassVar[int] = 8


class ReleaseMalformed(ReleaseRefused, ParseError):
    """A file of a release does not have the form it must have."""

    code = "release_malformed"


class SignatureMissing(ReleaseRefused):
    """There is no signature beside a file that must have one."""

    code = "signature_missing"


class SignatureWrong(ReleaseRefused):
    """A signature was not made over these bytes by a key that counts."""

    code = "signature_wrong"


class KeyRevoked(ReleaseRefused):
    """A signature was made by a key that has been revoked."""

    code = "key_revoked"


class ReleaseExpired(ReleaseRefused):
    """A signed statement has lapsed: whoever serves it may be hiding a newer one."""

    code = "release_expired"


class ReleaseOlder(ReleaseRefused):
    """Something older than what this machine has seen already."""

    code = "release_older"


class OtherRelease(ReleaseRefused):
    """Signed, but for another version than the one that was asked for."""

    code = "other_release"


class FilesDiffer(ReleaseRefused):
    """Files are not those of the release: changed, missing, or too many."""

    code = "files_differ"
