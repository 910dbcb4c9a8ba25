"""What a release is believed by: keys, signatures, lists of keys and hashes, channels, and the stamp."""

from __future__ import annotations

import json
from functools import cache

from tests.fuzz.codecs import texts
from tests.fuzz.target import Form, Target, text_of
from wws.errors import ParseError
from wws.identity.keys import Identity
from wws.release import signatures, sums
from wws.release.channel import Channel, parse_channel_name
from wws.release.errors import ReleaseMalformed, SignatureWrong
from wws.release.keys import TEXT_LENGTH, PublicKey
from wws.release.lines import MAX_STATEMENT, parse_number, parse_time, time_text
from wws.release.release_keys import ReleaseKeys
from wws.release.signatures import MAX_SIGNATURE, Purpose, sign, verify_signature
from wws.release.version import Version
from wws.stamp import MAX_FILE, StampMalformed, parse_stamp

_SIGNER = Identity.from_label("alice")
_KEYS = tuple(PublicKey(Identity.from_label(name).public_key) for name in ("alice", "bob", "carol"))
_DATA = b"what is signed"
_NOW = 1_795_262_400
_LIST = ReleaseKeys(3, _NOW, _KEYS[:2], _KEYS[2:])
_CHANNEL = Channel("stable", Version.parse("1.2.3"), _NOW, _NOW + 86_400)
_SUMS = {"install.sh": "a" * 64, "wws-1.2.3-linux-x86_64.tar.gz": "0" * 64, "wws-1.2.3.tar.gz": "f" * 64}
_STAMP = {
    "schema": 1,
    "version": "1.2.3",
    "commit": "0123abc",
    "releases": "https://releases.example/wws",
    "roots": [str(key) for key in _KEYS],
    "network": {"name": "example.org"},
}


def _key(data: bytes) -> None:
    text = text_of(data)
    found = PublicKey.parse(text)
    assert str(found) == text
    assert PublicKey.from_blob(found.blob) == found


@cache
def _signatures() -> list[bytes]:
    return [sign(_SIGNER, _DATA, purpose, form) for purpose in Purpose for form in signatures.Form]


def _signature(data: bytes) -> None:
    """A case is read in each form. One that holds over these bytes is one of those that were made."""
    read = 0
    for form in signatures.Form:
        try:
            verify_signature(_KEYS[:1], _DATA, data, Purpose.SUMS, form)
        except SignatureWrong:
            read += 1
            continue
        except ReleaseMalformed:
            continue
        assert data in _signatures() or form is signatures.Form.MINISIGN  # its first line is not signed
        read += 1
    if not read:
        raise ReleaseMalformed("in no form")


def _sshsig(data: bytes) -> None:
    key, namespace, signature = signatures.parse_sshsig(data)
    assert len(key.data) == 32
    assert namespace.isascii()
    assert len(signature) == 64


def _minisig(data: bytes) -> None:
    key_id, signature, comment, whole = signatures.parse_minisig(data)
    assert [len(key_id), len(signature), len(whole)] == [8, 64, 64]
    assert comment.isprintable()


def _release_keys(data: bytes) -> None:
    found = ReleaseKeys.parse(data)
    assert found.encode() == data
    assert not set(found.usable) & set(found.revoked)


def _channel(data: bytes) -> None:
    found = Channel.parse(data)
    assert found.encode() == data
    assert found.issued_at < found.expires_at


def _sums(data: bytes) -> None:
    assert sums.write_sums(sums.parse_sums(data)) == data


def _manifest(data: bytes) -> None:
    for path in sums.parse_manifest(data):
        assert ".." not in path.split("/")
        assert not path.startswith("/")


def _word(data: bytes) -> None:
    """A version, a time, a number or the name of a channel."""
    text = text_of(data)
    readers = (
        lambda: str(Version.parse(text)),
        lambda: time_text(parse_time(text, "a case")),
        lambda: str(parse_number(text, "a case")),
        lambda: parse_channel_name(text),
    )
    found = []
    for reader in readers:
        try:
            found.append(reader())
        except ReleaseMalformed:
            continue
    if not found:
        raise ReleaseMalformed("nothing of these")
    assert set(found) == {text}


def _stamp(data: bytes) -> None:
    for root in parse_stamp(data).roots:
        assert len(root) == TEXT_LENGTH


RELEASES: tuple[Target, ...] = (
    Target(
        "release key",
        texts(*map(str, _KEYS)),
        _key,
        (ParseError,),
        (PublicKey.parse, PublicKey.from_blob),
        Form.TEXT,
        largest=1024,
    ),
    Target(
        "signature of a release",
        _signatures,
        _signature,
        (ReleaseMalformed,),
        (verify_signature,),
        largest=MAX_SIGNATURE,
        share=0.3,
    ),
    Target(
        "SSHSIG",
        lambda: [sign(_SIGNER, _DATA, purpose, signatures.Form.SSH) for purpose in Purpose],
        _sshsig,
        (ReleaseMalformed,),
        (signatures.parse_sshsig,),
        Form.TEXT,
        largest=MAX_SIGNATURE,
    ),
    Target(
        "minisign signature",
        lambda: [sign(_SIGNER, _DATA, purpose, signatures.Form.MINISIGN) for purpose in Purpose],
        _minisig,
        (ReleaseMalformed,),
        (signatures.parse_minisig,),
        Form.TEXT,
        largest=MAX_SIGNATURE,
    ),
    Target(
        "release-keys",
        lambda: [_LIST.encode(), ReleaseKeys(1, _NOW, _KEYS[:1]).encode()],
        _release_keys,
        (ReleaseMalformed,),
        (ReleaseKeys.parse,),
        Form.TEXT,
        largest=MAX_STATEMENT,
    ),
    Target(
        "channel",
        lambda: [_CHANNEL.encode()],
        _channel,
        (ReleaseMalformed,),
        (Channel.parse,),
        Form.TEXT,
        largest=MAX_STATEMENT,
    ),
    Target(
        "SHA256SUMS",
        lambda: [sums.write_sums(_SUMS), sums.write_sums({"install.sh": "a" * 64})],
        _sums,
        (ReleaseMalformed,),
        (sums.parse_sums,),
        Form.TEXT,
        largest=sums.MAX_SUMS,
    ),
    Target(
        "MANIFEST",
        texts(f"{'a' * 64}  bin/wws\n{'0' * 64}  bin/lib/Lorem ipsum.txt\n", f"{'f' * 64}  VERSION\n"),
        _manifest,
        (ReleaseMalformed,),
        (sums.parse_manifest,),
        Form.TEXT,
        largest=sums.MAX_MANIFEST,
        share=0.3,
    ),
    Target(
        "word of a statement",
        texts("1.2.3", "1.3.0rc1", "20261122000000", "3", "stable"),
        _word,
        (ReleaseMalformed,),
        (Version.parse, parse_time, parse_number, parse_channel_name),
        Form.TEXT,
        largest=1024,
    ),
    Target(
        "stamp of a build",
        texts(json.dumps(_STAMP), json.dumps({**_STAMP, "commit": None, "releases": None, "roots": []})),
        _stamp,
        (StampMalformed,),
        (parse_stamp,),
        Form.JSON,
        largest=MAX_FILE,
    ),
)
