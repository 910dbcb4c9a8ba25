"""A plan: what would change in DNS, what is unsafe about it, and how it reads.

It is made by `wws_dns.publishing`, shown by the program and the stack, and only then published.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from wws.codec.canonical import JsonObject, JsonValue
from wws.discovery.bundle import Bundle
from wws.discovery.publishers import PublisherKey
from wws.errors import WwsError
from wws.rpc.codes import Exit
from wws_dns.desired import DEFAULT_TTL
from wws_dns.history import Publication
from wws_dns.provider import Changes, Record

UnsafeCode: TypeAlias = Literal[
    "removes_too_many",
    "empties_set",
    "seq_lowered",
    "equivocation",
    "drops_needed_key",
    "bad_signature",
    "unvouched",
    "name_taken",
    "refused_by_clients",
    "newcomers_majority",
    "set_changed_recently",
    "answer_too_large",
    "clock_ahead",
    "expired",
]
"""Why a plan is refused without `--force-unsafe`."""


class UnsafePlan(WwsError):
    """The plan would do harm. Nothing was changed."""

    code = "unsafe_plan"
    exit_code = Exit.REFUSED
    hint = "Change what is wanted. Who knows better says so: --force-unsafe"

    def __init__(self, unsafe: Iterable[Unsafe]) -> None:
        self.unsafe = tuple(unsafe)
        super().__init__("The plan is unsafe. " + " ".join(one.message for one in self.unsafe))
        self.details = {"unsafe": [one.to_json() for one in self.unsafe]}


class SignatureMissing(WwsError):
    """The plan needs a bundle that nobody has signed yet."""

    code = "signature_missing"
    exit_code = Exit.REFUSED
    hint = (
        "Give the publisher key (--key FILE), or sign elsewhere: wws-dns plan --request FILE here, "
        "wws-dns sign FILE --key KEY there, and wws-dns publish --signed FILE here."
    )


@dataclass(frozen=True, slots=True)
class Unsafe:
    """One reason not to publish a plan."""

    code: UnsafeCode
    message: str

    def to_json(self) -> JsonObject:
        return {"code": self.code, "message": self.message}


@dataclass(frozen=True, slots=True)
class Plan:
    """What would change, in full. It holds for the zone as it was seen; `publish` refuses another."""

    domain: str
    changes: Changes
    records: tuple[Record, ...]
    """What is served afterwards, in the record sets that are ours."""
    bundle: Bundle | None
    """What is served afterwards: without signatures where nobody has signed it yet; `None`: nothing."""
    before: Bundle | None
    """The bundle that was published last."""
    reason: str
    """Why there is a new bundle, or that there is none; one sentence for people."""
    warnings: tuple[str, ...] = ()
    unsafe: tuple[Unsafe, ...] = ()
    publishers: tuple[PublisherKey, ...] = ()
    """The keys with which clients of this domain began."""
    is_whole: bool = True
    """Whether, once this is published, all keys are known that clients may go by."""
    adopted: tuple[Publication, ...] = ()
    """Bundles of ours that DNS serves and our history does not know."""
    addresses: tuple[tuple[str, str], ...] = ()
    """Host and IP address of the A and AAAA records that go with the bundle."""
    usual_ttl: int = DEFAULT_TTL
    """The time to live that records have while nothing changes."""
    prepares: bool = False
    """Whether all that it does is to shorten times to live, for a change to come."""
    is_new: bool = False
    """Whether the bundle is one that was never published."""

    @property
    def is_empty(self) -> bool:
        """Whether DNS is as it should be."""
        return self.changes.is_empty

    @property
    def needs_signature(self) -> bool:
        """Whether the bundle must be signed before this can be published."""
        return self.bundle is not None and not self.bundle.signatures

    @property
    def changes_content(self) -> bool:
        """Whether records come or go; otherwise at most their times to live change."""
        return {record.content for record in self.changes.add} != {
            record.content for record in self.changes.remove
        }

    def render(self) -> str:
        """The plan for people: a diff, then what is to be known about it. Without a final line feed."""
        lines = [self.reason]
        lines += ["", *self._diff()] if not self.is_empty else ["No record changes."]
        if self.unsafe:
            lines += ["", *(f"unsafe ({one.code}): {one.message}" for one in self.unsafe)]
        if self.warnings:
            lines += ["", *(f"warning: {warning}" for warning in self.warnings)]
        return "\n".join(lines)

    def to_json(self) -> JsonObject:
        """The plan for programs."""
        unsafe: list[JsonValue] = [one.to_json() for one in self.unsafe]
        warnings: list[JsonValue] = [*self.warnings]
        return {
            "domain": self.domain,
            "empty": self.is_empty,
            "reason": self.reason,
            "add": [_record_json(record) for record in self.changes.add],
            "remove": [_record_json(record) for record in self.changes.remove],
            "bundle": None if self.bundle is None else bundle_json(self.bundle),
            "before": None if self.before is None else bundle_json(self.before),
            "new_bundle": self.is_new,
            "needs_signature": self.needs_signature,
            "unsafe": unsafe,
            "warnings": warnings,
        }

    def _diff(self) -> list[str]:
        added = {record.content: record for record in self.changes.add}
        removed = {record.content: record for record in self.changes.remove}
        lines: list[tuple[str, int, str]] = []
        for content, record in removed.items():
            if content in added:
                ttl = f"{record.ttl} → {added[content].ttl}"
                lines.append((record.name, 1, _line("~", record, ttl)))
            else:
                lines.append((record.name, 0, _line("-", record, str(record.ttl))))
        for content, record in added.items():
            if content not in removed:
                lines.append((record.name, 2, _line("+", record, str(record.ttl))))
        return [line for _, _, line in sorted(lines)]


def bundle_json(bundle: Bundle) -> JsonObject:
    """What a bundle says, for programs."""
    entries: list[JsonValue] = [str(entry) for entry in bundle.entries]
    keys: JsonValue = None if bundle.keys is None else [key.hex() for key in bundle.keys]
    signed_by: list[JsonValue] = [name for name, _ in bundle.signatures]
    return {
        "seq": bundle.seq,
        "nbf": bundle.not_before,
        "exp": bundle.expires_at,
        "keys": keys,
        "peers": entries,
        "signed_by": signed_by,
        "text": bundle.text if bundle.signatures else bundle.body,
    }


def day(unix: int) -> str:
    """A Unix time as a date with its hour, in UTC: operators of one network sit in several time zones."""
    try:
        return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return str(unix)


def _line(sign: str, record: Record, ttl: str) -> str:
    value = f'"{_quoted(record.value)}"' if record.kind == "TXT" else record.value
    return f"{sign} {record.name} {ttl} {record.kind} {value}"


def _quoted(text: str) -> str:
    """As zone files write it: whoever can write to the zone chooses the text, and not the lines of a plan."""
    if text.isprintable() and not {'"', "\\"} & set(text):
        return text
    return "".join(map(_quoted_letter, text))


def _quoted_letter(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    if letter.isprintable():
        return letter
    is_byte = "\udc80" <= letter <= "\udcff"  # one that is no UTF-8
    data = letter.encode("utf-8", "surrogateescape" if is_byte else "surrogatepass")
    return "".join(f"\\{byte:03d}" for byte in data)


def _record_json(record: Record) -> JsonObject:
    return {"name": record.name, "kind": record.kind, "value": record.value, "ttl": record.ttl}
