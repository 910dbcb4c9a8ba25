"""What owners and witnesses say to each other on `/wws/receipt/1.0.0` (wire.md section 5).

    owner    {v, op, swarm, name, pow, registered_at, transfers?, receipts?}, op: claim renew transfer drop
    witness  a receipt   or   {ok: true}   or   {error, holder?, retry_after?, required_bits?}

Both are canonical JSON behind their length as a varint, at most 16 KiB. Who asks is not in the message: it
is the peer that the connection has authenticated. Parsing is strict and complete: what is optional and empty
is absent, so a message has exactly one encoding.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from wws.codec import canonical
from wws.codec.canonical import JsonObject
from wws.errors import ParseError, TooLarge
from wws.identity.peer_id import PeerId
from wws.names.errors import (
    RecordNameMalformed,
    RecordNotCanonical,
    RecordTooLarge,
    RecordTypeWrong,
)
from wws.names.receipts import Receipt
from wws.names.signed import Members
from wws.names.transfers import Transfer, parse_chain
from wws.names.uri import is_name

RECEIPT_PROTOCOL: Final = "/wws/receipt/1.0.0"
MAX_MESSAGE: Final = 16 * 1024
"""Bytes of a request or an answer, at most."""
MAX_RECEIPTS: Final = 32
"""Receipts in a request, at most: one of each member of W and of W′."""
VERSION: Final = 1

_REQUIRED = frozenset({"v", "op", "swarm", "name", "pow", "registered_at"})
_OPTIONAL = frozenset({"transfers", "receipts"})
_WORD = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")


class Op(enum.StrEnum):
    """What an owner asks for."""

    CLAIM = "claim"
    RENEW = "renew"
    TRANSFER = "transfer"
    DROP = "drop"


class Why(enum.StrEnum):
    """The words of refusals. Other versions may know more: `WitnessRefusal.error` is a string."""

    NAME_TAKEN = "name_taken"
    """Another owner holds the name here: `holder`, and `retry_after` if that one does not renew it."""
    NAME_CONTESTED = "name_contested"
    """Another owner has come for the name and has no majority yet; `holder`, `retry_after`."""
    WORK_TOO_WEAK = "work_too_weak"
    """The proof of work has less than `required_bits`."""
    REGISTERED_AT_OFF = "registered_at_off"
    """A claim says another time than now: one of the two clocks is wrong."""
    REGISTERED_AT_MISMATCH = "registered_at_mismatch"
    """The witness knows another `registered_at` of this owner for this name."""
    NOT_CLAIMED = "not_claimed"
    """There is no entry to renew or to drop, nor receipts of a majority to take it over from."""
    BUDGET_OWNER = "budget_owner"
    """This owner has claimed as many new names today as it may; `retry_after`."""
    BUDGET_PREFIX = "budget_prefix"
    """The same for all owners of an IPv4 /24 or IPv6 /56; `retry_after`."""
    WITNESS_FULL = "witness_full"
    """The witness has no room for new names, or cannot write."""
    NO_FIRST_CLAIMS = "no_first_claims"
    """The witness has lost what it had promised, and waits until that is over; `retry_after`."""
    DOUBLE_TRANSFER = "double_transfer"
    """The chain of transfers does not go on from where the name went already; `holder`."""
    TRANSFER_REFUSED = "transfer_refused"
    """The chain of transfers is not valid, or leads to another than the caller."""
    WRONG_NETWORK = "wrong_network"
    """The caller belongs to another network, or says of none that it belongs to it."""
    LIMITED_CIRCUIT = "limited_circuit"
    """The caller came over a relay: its prefix is unknown."""
    MALFORMED = "malformed"
    NAME_DENIED = "name_denied"
    """The operator of the witness does not want the name."""
    RATE_LIMITED = "rate_limited"
    """Too many requests at once; `retry_after`."""


@dataclass(frozen=True, slots=True)
class WitnessRequest:
    """One question of an owner to a witness."""

    op: Op
    swarm: str
    name: str
    nonce: int
    """The proof of work; `pow` in the message."""
    registered_at: int
    transfers: tuple[Transfer, ...] = ()
    receipts: tuple[Receipt, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> WitnessRequest:
        """From the bytes of a message. Raises the `RecordRefused` that says what is wrong.

        Signatures in it are not checked here, neither is the work.
        """
        members = Members("a request", _read(data), required=_REQUIRED, optional=_OPTIONAL)
        members.version(VERSION)
        try:
            op = Op(members.text("op"))
        except ValueError:
            raise RecordTypeWrong("op of a request is none of claim, renew, transfer, drop") from None
        swarm, name = members.text("swarm"), members.text("name")
        for word in (swarm, name):
            if not is_name(word):
                raise RecordNameMalformed(f"{word[:60]!r} is not a name in lower case")
        receipts = members.items("receipts") if "receipts" in members else None
        if receipts is not None and not 1 <= len(receipts) <= MAX_RECEIPTS:
            raise RecordTypeWrong(f"a request has 1 to {MAX_RECEIPTS} receipts, or none and no list")
        return cls(
            op=op,
            swarm=swarm,
            name=name,
            nonce=members.integer("pow"),
            registered_at=members.integer("registered_at"),
            transfers=parse_chain(members.items("transfers")) if "transfers" in members else (),
            receipts=tuple(Receipt.parse(receipt) for receipt in receipts or ()),
        )

    def to_bytes(self) -> bytes:
        """The message, without its length."""
        members: JsonObject = {
            "v": VERSION,
            "op": self.op.value,
            "swarm": self.swarm,
            "name": self.name,
            "pow": self.nonce,
            "registered_at": self.registered_at,
        }
        if self.transfers:
            members["transfers"] = [entry.to_members() for entry in self.transfers]
        if self.receipts:
            members["receipts"] = [receipt.to_members() for receipt in self.receipts]
        return canonical.dumps(members)


@dataclass(frozen=True, slots=True)
class Dropped:
    """The name is free at this witness, as far as the caller held it: `{"ok": true}`."""


@dataclass(frozen=True, slots=True)
class WitnessRefusal:
    """Why a witness gives no receipt."""

    error: str
    """A stable word, most often one of `Why`."""
    holder: PeerId | None = None
    retry_after: int | None = None
    """Seconds after which it is worth asking again."""
    required_bits: int | None = None


WitnessAnswer: TypeAlias = Receipt | Dropped | WitnessRefusal
WitnessAnswers: TypeAlias = tuple[tuple[PeerId, WitnessAnswer | None], ...]
"""What each witness said. `None`: it could not be asked, or did not answer in time."""


def parse_answer(data: bytes) -> WitnessAnswer:
    """What a witness answered. Raises `RecordRefused`; checks no signature, nor whom a receipt is for."""
    json_object = _read(data)
    if "ok" in json_object:
        members = Members("an answer", json_object, required=frozenset({"ok"}))
        members.flag("ok")
        return Dropped()
    if "error" not in json_object:
        return Receipt.parse(json_object)
    members = Members(
        "a refusal",
        json_object,
        required=frozenset({"error"}),
        optional=frozenset({"holder", "retry_after", "required_bits"}),
    )
    error = members.text("error")
    if not _WORD.match(error):
        raise RecordTypeWrong("error of a refusal is not a word in snake case")
    return WitnessRefusal(
        error=error,
        holder=members.peer_id("holder") if "holder" in members else None,
        retry_after=members.integer("retry_after") if "retry_after" in members else None,
        required_bits=members.integer("required_bits") if "required_bits" in members else None,
    )


def answer_bytes(answer: WitnessAnswer) -> bytes:
    """The message that says `answer`, without its length."""
    match answer:
        case Receipt():
            return canonical.dumps(answer.to_members())
        case Dropped():
            return canonical.dumps({"ok": True})
        case WitnessRefusal():
            members: JsonObject = {"error": str(answer.error)}
            if answer.holder is not None:
                members["holder"] = str(answer.holder)
            if answer.retry_after is not None:
                members["retry_after"] = answer.retry_after
            if answer.required_bits is not None:
                members["required_bits"] = answer.required_bits
            return canonical.dumps(members)


def _read(data: bytes) -> JsonObject:
    try:
        return canonical.loads(data, max_bytes=MAX_MESSAGE)
    except TooLarge as error:
        raise RecordTooLarge(str(error)) from None
    except ParseError as error:
        raise RecordNotCanonical(str(error)) from None
