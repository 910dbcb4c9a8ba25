"""The name record: what an owner signs so that others find it by name (wire.md section 4).

    v, swarm, name, did, peer_id, addresses[<=16], seq, registered_at, issued_at, expires_at, pow, receipts[]
    always; transfers[] and released: true where they apply; signature

It lies in the DHT under `/wws/names/` + hex SHA-256 of the name (of `name@swarm` outside swarm `public`).
A record passes through three ages: *live* until `expires_at`, then a day of *grace* in which it still
resolves (`stale`) and only its owner may renew it, then it is *dead* and the name is free.

`NameRecord.parse` checks everything that depends on the bytes alone, once; `validate` adds what depends on
the key and the clock. Dead records are still valid: that they lose is for Select to say, because only so do
all holders come to the same winner.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from wws.addresses.multiaddr import Multiaddr
from wws.codec import canonical
from wws.codec.canonical import JsonObject
from wws.errors import LocalProtocolError
from wws.identity import proof_of_work
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.identity.proof_of_work import LEAST_BITS
from wws.names import signed
from wws.names.errors import (
    RecordKeyMismatch,
    RecordNameMalformed,
    RecordRefused,
    RecordRegisteredLate,
    RecordSignatureWrong,
    RecordWorkTooWeak,
)
from wws.names.receipts import Receipt
from wws.names.rules import check_did, check_issued, check_lease, read_addresses, read_object
from wws.names.signed import Members
from wws.names.transfers import Transfer, check_chain, parse_chain
from wws.names.uri import PUBLIC_SWARM, is_name

NAME_DOMAIN = b"wws-name-v1"
CLAIM_DOMAIN = b"wws-claim-v1"
NAME_PREFIX = "/wws/names/"
VERSION = 1
GRACE = 86_400
"""Seconds after `expires_at` in which only the owner may renew."""
KEPT_AFTER_EXPIRY = 87_000
"""Seconds after `expires_at` for which holders keep the value: the grace, and ten minutes for clocks."""

_REQUIRED = frozenset(
    "v swarm name did peer_id addresses seq registered_at issued_at expires_at pow receipts signature".split()  # noqa: SIM905
)
_OPTIONAL = frozenset({"transfers", "released"})
_EMPTY_CHAIN = hashlib.sha256(canonical.dumps([])).digest()


@dataclass(frozen=True)
class NameRecord:
    """A record whose signatures have been checked. `value` is its one encoding."""

    swarm: str
    name: str
    peer_id: PeerId
    addresses: tuple[Multiaddr, ...]
    seq: int
    registered_at: int
    issued_at: int
    expires_at: int
    nonce: int
    """The proof of work; `pow` in the record."""
    receipts: tuple[Receipt, ...]
    transfers: tuple[Transfer, ...]
    released: bool
    value: bytes

    @classmethod
    def parse(cls, value: bytes) -> NameRecord:
        """From the bytes in the DHT. Raises the `RecordRefused` that says which rule they break."""
        record, signature, members = cls._read(value)
        check_did(record.peer_id, members["did"])
        check_lease(issued_at=record.issued_at, expires_at=record.expires_at)
        if record.registered_at > record.issued_at:
            raise RecordRegisteredLate(f"registered at {record.registered_at}, issued at {record.issued_at}")
        context = work_context(record.name, record.swarm)
        if not proof_of_work.verify(context, record.did, record.nonce, LEAST_BITS):
            raise RecordWorkTooWeak(f"the work for {record.name!r} has less than {LEAST_BITS} bits")
        if not signed.is_signed(record.peer_id, NAME_DOMAIN, members, signature):
            raise RecordSignatureWrong(f"the record of {record.name!r} is not signed by {record.peer_id}")
        check_chain(
            record.transfers, name=record.name, swarm=record.swarm, owner=record.peer_id, seq=record.seq
        )
        return record

    @classmethod
    def _read(cls, value: bytes) -> tuple[NameRecord, bytes, JsonObject]:
        json_object = read_object(value)
        members = Members("a name record", json_object, required=_REQUIRED, optional=_OPTIONAL)
        members.version(VERSION)
        name, swarm = members.text("name"), members.text("swarm")
        for word in (name, swarm):
            if not is_name(word):
                raise RecordNameMalformed(f"{word[:60]!r} is not a name in lower case")
        peer_id = members.peer_id("peer_id")
        members.text("did")
        record = cls(
            swarm=swarm,
            name=name,
            peer_id=peer_id,
            addresses=read_addresses(members, peer_id),
            seq=members.integer("seq"),
            registered_at=members.integer("registered_at"),
            issued_at=members.integer("issued_at"),
            expires_at=members.integer("expires_at"),
            nonce=members.integer("pow"),
            receipts=tuple(Receipt.parse(receipt) for receipt in members.items("receipts")),
            transfers=parse_chain(members.items("transfers")) if "transfers" in members else (),
            released=members.flag("released"),
            value=value,
        )
        return record, members.signature(), json_object

    @classmethod
    def sign(
        cls,
        identity: Identity,
        *,
        name: str,
        swarm: str,
        addresses: Sequence[Multiaddr],
        seq: int,
        registered_at: int,
        issued_at: int,
        expires_at: int,
        nonce: int,
        receipts: Sequence[Receipt] = (),
        transfers: Sequence[Transfer] = (),
        released: bool = False,
    ) -> NameRecord:
        """The record with these members, signed. Raises `LocalProtocolError` when it would break a rule."""
        members: JsonObject = {
            "v": VERSION,
            "swarm": swarm,
            "name": name,
            "did": identity.peer_id.did,
            "peer_id": str(identity.peer_id),
            "addresses": [str(address.with_peer(identity.peer_id)) for address in addresses],
            "seq": seq,
            "registered_at": registered_at,
            "issued_at": issued_at,
            "expires_at": expires_at,
            "pow": nonce,
            "receipts": [receipt.to_members() for receipt in receipts],
        }
        if transfers:
            members["transfers"] = [entry.to_members() for entry in transfers]
        if released:
            members["released"] = True
        value = canonical.dumps(signed.with_signature(identity, NAME_DOMAIN, members))
        try:
            record = cls.parse(value)
            check_issued(issued_at=issued_at, seq=seq, unix_now=issued_at)
        except RecordRefused as refusal:
            raise LocalProtocolError(f"not signing what others would refuse: {refusal}") from refusal
        return record

    @property
    def did(self) -> str:
        return self.peer_id.did

    @property
    def key(self) -> str:
        """Where it lies in the DHT."""
        return name_key(self.name, self.swarm)

    @property
    def root(self) -> PeerId:
        """Who claimed the name: the first owner of the chain."""
        return self.transfers[0].from_peer if self.transfers else self.peer_id

    @cached_property
    def via(self) -> str | None:
        """What receipts for it say of the last transfer."""
        return self.transfers[-1].digest if self.transfers else None

    @property
    def dead_at(self) -> int:
        """From this Unix time on the record is dead and the name free."""
        return self.expires_at + GRACE

    def is_live(self, unix_now: int) -> bool:
        return unix_now < self.expires_at

    def is_dead(self, unix_now: int) -> bool:
        return unix_now >= self.dead_at

    @cached_property
    def value_digest(self) -> bytes:
        return hashlib.sha256(self.value).digest()

    @cached_property
    def claim_digest(self) -> bytes:
        """Breaks ties between claims of the same second, the same way everywhere."""
        words = (CLAIM_DOMAIN, self.swarm.encode(), self.name.encode(), str(self.root).encode())
        return hashlib.sha256(b"\x00".join(words)).digest()

    @cached_property
    def chain_digest(self) -> bytes:
        if not self.transfers:
            return _EMPTY_CHAIN
        return hashlib.sha256(canonical.dumps([entry.to_members() for entry in self.transfers])).digest()


def validate(key: str, value: bytes, unix_now: int) -> NameRecord:
    """Validate of wire.md section 4: the record at `key`, or the `RecordRefused` that says what is wrong.

    Pure, and without knowledge of the witnesses. Size comes first, signatures last.
    """
    record = NameRecord.parse(value)
    check_at(record, key, unix_now)
    return record


def check_at(record: NameRecord, key: str, unix_now: int) -> None:
    """The part of `validate` that depends on the key and the clock."""
    if key != record.key:
        raise RecordKeyMismatch(
            f"a record of {record.name!r} in {record.swarm!r} under a key that is not its own"
        )
    check_issued(issued_at=record.issued_at, seq=record.seq, unix_now=unix_now)


def name_key(name: str, swarm: str = PUBLIC_SWARM) -> str:
    """The DHT key of a name."""
    text = name if swarm == PUBLIC_SWARM else f"{name}@{swarm}"
    return NAME_PREFIX + hashlib.sha256(text.encode()).hexdigest()


def work_context(name: str, swarm: str) -> str:
    """The context of the proof of work for a name."""
    return f"name:{swarm}:{name}"
