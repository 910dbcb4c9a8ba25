"""Why a record is refused: one class and one code word for each reason (wire.md sections 4, 4a, 5).

All of them are a peer's fault. The reasons are told apart because an operator who counts refusals wants to
know a clock that runs ahead from a forger.
"""

from __future__ import annotations

from wws.errors import ParseError, WwsError


class RecordRefused(ParseError):
    """A record does not keep the rules."""

    code = "record_refused"


class RecordTooLarge(RecordRefused):
    """A record is larger than any may be."""

    code = "record_too_large"


class RecordNotCanonical(RecordRefused):
    """A record is not the canonical JSON of an object."""

    code = "record_not_canonical"


class RecordVersionUnknown(RecordRefused):
    """A record, receipt or transfer entry is of a version that is not known."""

    code = "record_version_unknown"


class RecordMembersWrong(RecordRefused):
    """A record, receipt or transfer entry lacks a member or has one too many."""

    code = "record_members_wrong"


class RecordTypeWrong(RecordRefused):
    """A member has another type than it must have, or another spelling than the only one."""

    code = "record_type_wrong"


class RecordNameMalformed(RecordRefused):
    """The name or the swarm in a record is not a name."""

    code = "record_name_malformed"


class RecordKeyMismatch(RecordRefused):
    """A record lies under a key that is not its own."""

    code = "record_key_mismatch"


class RecordDidMismatch(RecordRefused):
    """The DID in a record is not that of its PeerId."""

    code = "record_did_mismatch"


class RecordAddressesTooMany(RecordRefused):
    """A record has more addresses than are allowed."""

    code = "record_addresses_too_many"


class RecordAddressMalformed(RecordRefused):
    """An address in a record is not a multiaddr in its canonical text."""

    code = "record_address_malformed"


class RecordAddressForeign(RecordRefused):
    """An address in a record does not lead to the record's peer."""

    code = "record_address_foreign"


class RecordFromFuture(RecordRefused):
    """A record was issued later than now, beyond what clocks may differ."""

    code = "record_from_future"


class RecordRegisteredLate(RecordRefused):
    """A record says that its name was registered after the record was issued."""

    code = "record_registered_late"


class RecordLeaseTooLong(RecordRefused):
    """A record lives longer than a day."""

    code = "record_lease_too_long"


class RecordLeaseEmpty(RecordRefused):
    """A record ends before it begins."""

    code = "record_lease_empty"


class RecordExpired(RecordRefused):
    """A peer record has lapsed; it has no grace."""

    code = "record_expired"


class RecordSeqTooLow(RecordRefused):
    """The sequence number of a record is below its time of issue."""

    code = "record_seq_too_low"


class RecordWorkTooWeak(RecordRefused):
    """The proof of work in a record has too few bits."""

    code = "record_work_too_weak"


class RecordSignatureWrong(RecordRefused):
    """A record is not signed by the key in its PeerId."""

    code = "record_signature_wrong"


class TransfersTooMany(RecordRefused):
    """A record's chain of transfers is longer than it may be, or present and empty."""

    code = "transfers_too_many"


class TransferOfOtherName(RecordRefused):
    """A transfer entry is about another name or swarm than its record."""

    code = "transfer_of_other_name"


class TransferUnlinked(RecordRefused):
    """A chain of transfers has a gap, or does not end at the record's owner."""

    code = "transfer_unlinked"


class TransferSeqNotRising(RecordRefused):
    """The sequence numbers along a chain of transfers do not rise, or reach the record's."""

    code = "transfer_seq_not_rising"


class TransferSignatureWrong(RecordRefused):
    """A transfer entry is not signed by the owner who gives the name away."""

    code = "transfer_signature_wrong"


class TransferImpossible(WwsError):
    """The name cannot be given away, or not taken up, as things stand at this node."""

    code = "transfer_refused"


class NotHeldHere(TransferImpossible):
    """Only who holds a name can give it away."""

    code = "name_not_held"


class DoubleTransfer(TransferImpossible):
    """The name was promised to another key already, and a promise cannot be taken back."""

    code = "double_transfer"
