"""What a lease must remember over a restart: enough to renew the name instead of claiming it anew.

Losing it is no disaster: the record itself is found again in the DHT with its receipts, and sequence numbers
follow the clock. Only a transfer that was signed and not yet taken up would be forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass

from wws.codec.canonical import JsonObject, JsonValue
from wws.names.errors import RecordRefused
from wws.names.receipts import Receipt
from wws.names.record import GRACE, NameRecord
from wws.names.signed import Members
from wws.names.state import StateUnreadable, state_list, state_object
from wws.names.transfers import Transfer, parse_chain
from wws.names.uri import is_name
from wws.names.witness.messages import MAX_RECEIPTS

SCHEMA = 2
"""1 knew no receipts and no transfers under way; it is read as a lease that has neither."""

_REQUIRED = frozenset({"schema", "name", "swarm", "registered_at", "seq", "nonce", "expires_at", "released"})
_OPTIONAL = frozenset({"transfers", "receipts", "given", "accepting"})


@dataclass(frozen=True, slots=True)
class LeaseState:
    """A lease as of the last record signed for it."""

    name: str
    swarm: str
    registered_at: int
    seq: int
    nonce: int
    expires_at: int
    released: bool = False
    transfers: tuple[Transfer, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    """The best full receipt of each witness, those that last longest first."""
    given: Transfer | None = None
    """The entry by which we give the name away; until its taker has the name we go on keeping it."""
    accepting: Transfer | None = None
    """The entry by which the name comes to us. There is no lease yet, only the wish for it."""

    @classmethod
    def of(cls, record: NameRecord) -> LeaseState:
        """The lease that `record` renews or begins."""
        return cls(
            name=record.name,
            swarm=record.swarm,
            registered_at=record.registered_at,
            seq=record.seq,
            nonce=record.nonce,
            expires_at=record.expires_at,
            released=record.released,
            transfers=record.transfers,
            receipts=record.receipts,
        )

    @classmethod
    def wish(cls, entry: Transfer, last_seq: int) -> LeaseState:
        """What there is to remember of a name that is being taken up; `last_seq` is our own last number."""
        return cls(entry.name, entry.swarm, entry.at, last_seq, 0, entry.at, accepting=entry)

    @property
    def via(self) -> str | None:
        """What receipts for it say of the last transfer."""
        return self.transfers[-1].digest if self.transfers else None

    @property
    def dead_at(self) -> int:
        """From this Unix time on the name is free and has to be claimed anew."""
        return self.expires_at + GRACE

    def to_json(self) -> JsonObject:
        """As it stands in the state file."""
        state: JsonObject = {
            "schema": SCHEMA,
            "name": self.name,
            "swarm": self.swarm,
            "registered_at": self.registered_at,
            "seq": self.seq,
            "nonce": self.nonce,
            "expires_at": self.expires_at,
            "released": self.released,
        }
        if self.transfers:
            state["transfers"] = [entry.to_members() for entry in self.transfers]
        if self.receipts:
            state["receipts"] = [receipt.to_members() for receipt in self.receipts]
        if self.given is not None:
            state["given"] = self.given.to_members()
        if self.accepting is not None:
            state["accepting"] = self.accepting.to_members()
        return state

    @classmethod
    def from_json(cls, value: JsonValue) -> LeaseState:
        """From the state file. Raises `StateUnreadable`."""
        if isinstance(value, dict) and value.get("schema") == 1 and value["schema"] is not True:
            value = {**value, "schema": SCHEMA}
        state = state_object("the state of a lease", value, SCHEMA, _REQUIRED | _OPTIONAL)
        try:
            members = Members("the state of a lease", state, required=_REQUIRED, optional=_OPTIONAL)
            for word in (members.text("name"), members.text("swarm")):
                if not is_name(word):
                    raise StateUnreadable(f"{word[:60]!r} in the state of a lease is not a name")
            released = state["released"]
            if not isinstance(released, bool):
                raise StateUnreadable("released in the state of a lease is not true or false")
            receipts = state_list("receipts in the state of a lease", state.get("receipts", []), MAX_RECEIPTS)
            return cls(
                name=members.text("name"),
                swarm=members.text("swarm"),
                registered_at=members.integer("registered_at"),
                seq=members.integer("seq"),
                nonce=members.integer("nonce"),
                expires_at=members.integer("expires_at"),
                released=released,
                transfers=parse_chain(members.items("transfers")) if "transfers" in members else (),
                receipts=tuple(Receipt.parse(receipt) for receipt in receipts),
                given=Transfer.parse(state["given"]) if "given" in members else None,
                accepting=Transfer.parse(state["accepting"]) if "accepting" in members else None,
            )
        except RecordRefused as error:
            raise StateUnreadable(str(error)) from None
