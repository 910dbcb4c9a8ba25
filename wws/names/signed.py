"""Signed JSON objects, and strict reading of their members (wire.md, head).

A signature covers `domain 00 JCS(object without "signature")`: the domain keeps one kind of object from
being replayed as another. Reading is typed and complete: a member too few or too many, `true` for 1, a
PeerId in another of its spellings are refused, so an object has exactly one encoding.
"""

from __future__ import annotations

from wws.codec import base64, canonical
from wws.codec.canonical import MAX_INTEGER, JsonObject, JsonValue
from wws.errors import ParseError
from wws.identity.keys import SIGNATURE_LENGTH, Identity, verify
from wws.identity.peer_id import PeerId
from wws.names.errors import RecordMembersWrong, RecordTypeWrong, RecordVersionUnknown

SIGNATURE_MEMBER = "signature"
_LONGEST_PEER_ID = 64


def signed_bytes(domain: bytes, members: JsonObject) -> bytes:
    """What a signature over `members` covers. A member `signature` is left out."""
    unsigned = {key: value for key, value in members.items() if key != SIGNATURE_MEMBER}
    return domain + b"\x00" + canonical.dumps(unsigned)


def with_signature(identity: Identity, domain: bytes, members: JsonObject) -> JsonObject:
    """`members` and the signature of `identity` over them."""
    signature = base64.encode(identity.sign(signed_bytes(domain, members)))
    return {**members, SIGNATURE_MEMBER: signature}


def is_signed(signer: PeerId, domain: bytes, members: JsonObject, signature: bytes) -> bool:
    """Whether `signature` is that of `signer` over `members`."""
    return verify(signer.public_key, signed_bytes(domain, members), signature)


class Members:
    """The members of one JSON object, read by type. `what` names the object in refusals."""

    __slots__ = ("_members", "_what")

    def __init__(
        self,
        what: str,
        members: JsonObject,
        *,
        required: frozenset[str],
        optional: frozenset[str] = frozenset(),
    ) -> None:
        """Raises `RecordMembersWrong` unless the members are all of `required` and none beside `optional`."""
        self._what = what
        self._members = members
        if missing := required - members.keys():
            raise RecordMembersWrong(f"{what} lacks {', '.join(sorted(missing))}")
        if unknown := members.keys() - required - optional:
            raise RecordMembersWrong(f"{what} has unknown members: {', '.join(sorted(unknown))[:80]}")

    def __contains__(self, key: str) -> bool:
        return key in self._members

    def version(self, known: int) -> None:
        """Raises `RecordVersionUnknown` unless `v` is `known`."""
        if self.integer("v") != known:
            raise RecordVersionUnknown(f"{self._what} is of version {self._members['v']}, not {known}")

    def text(self, key: str) -> str:
        value = self._members[key]
        if not isinstance(value, str):
            raise self._wrong(key, "a string")
        return value

    def integer(self, key: str) -> int:
        """An integer from 0 to 2^53−1: no time, sequence number or nonce is negative."""
        value = self._members[key]
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_INTEGER:
            raise self._wrong(key, "an integer from 0 to 2^53-1")
        return value

    def flag(self, key: str) -> bool:
        """A member that is absent or `true`, never `false`."""
        if key not in self._members:
            return False
        if self._members[key] is not True:
            raise self._wrong(key, "true where it is present")
        return True

    def items(self, key: str) -> list[JsonValue]:
        value = self._members[key]
        if not isinstance(value, list):
            raise self._wrong(key, "a list")
        return value

    def peer_id(self, key: str) -> PeerId:
        """A PeerId in base58, the only spelling inside signed objects."""
        text = self.text(key)
        if len(text) > _LONGEST_PEER_ID:
            raise self._wrong(key, "a PeerId")
        try:
            peer_id = PeerId.parse(text)
        except ParseError:
            raise self._wrong(key, "a PeerId") from None
        if str(peer_id) != text:
            raise self._wrong(key, "a PeerId in base58")
        return peer_id

    def signature(self) -> bytes:
        """The signature, of the right length but not yet checked."""
        try:
            signature = base64.decode(self.text(SIGNATURE_MEMBER))
        except ParseError:
            raise self._wrong(SIGNATURE_MEMBER, "base64") from None
        if len(signature) != SIGNATURE_LENGTH:
            raise self._wrong(SIGNATURE_MEMBER, f"{SIGNATURE_LENGTH} bytes")
        return signature

    def _wrong(self, key: str, expected: str) -> RecordTypeWrong:
        return RecordTypeWrong(f"{key} of {self._what} is not {expected}")
