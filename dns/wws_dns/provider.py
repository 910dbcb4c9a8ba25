"""What a DNS provider does for us: say what it serves, and change it; and the ways in which that fails.

    fetch(names and kinds) ─► records        apply(add, remove, expected) ─► done, or a ProviderError

A provider is small on purpose: what to change, in which order, and what must never happen is decided
before (`wws_dns.publishing`), once for all of them. Of a provider it is asked that it changes nothing which
`Changes` does not name, that it refuses when the zone is no longer as `expected`, and that it tells its own
failures apart, since each has another mend.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeAlias

from wws.errors import WwsError
from wws.rpc.codes import Exit

RecordKind: TypeAlias = Literal["TXT", "A", "AAAA"]
KINDS: tuple[RecordKind, ...] = ("TXT", "A", "AAAA")
"""The kinds of records that are written here."""
RecordSet: TypeAlias = tuple[str, RecordKind]
"""A name and a kind: what DNS serves, and caches, as one."""


@dataclass(frozen=True, order=True, slots=True)
class Record:
    """One resource record."""

    name: str
    """Whole, lower case, without the final dot."""
    kind: RecordKind
    value: str
    """Of a TXT the whole text, whatever the strings it is cut into; of A and AAAA the address."""
    ttl: int

    @property
    def set(self) -> RecordSet:
        """Where it stands."""
        return self.name, self.kind

    @property
    def content(self) -> tuple[str, RecordKind, str]:
        """The record without its time to live: what `remove` goes by."""
        return self.name, self.kind, self.value


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be changed in a zone, in one step where the provider can.

    Where it cannot, it adds before it removes: of two bundles clients take the newer, of none they take
    nothing. A record that only gets another time to live stands in both lists.
    """

    add: tuple[Record, ...] = ()
    remove: tuple[Record, ...] = ()
    """To be found by name, kind and value; one that is gone already is no failure."""
    expected: tuple[Record, ...] = ()
    """Everything that the plan saw in the record sets that `add` and `remove` touch."""

    @property
    def is_empty(self) -> bool:
        return not self.add and not self.remove

    @property
    def touched(self) -> tuple[RecordSet, ...]:
        """The record sets that change, each once, in order."""
        return tuple(sorted({record.set for record in (*self.add, *self.remove)}))

    def after(self, records: Collection[Record]) -> tuple[Record, ...]:
        """What `records` become by these changes."""
        gone = {record.content for record in self.remove}
        kept = [record for record in records if record.content not in gone]
        fresh = {record.content for record in self.add}
        return tuple(sorted([*(record for record in kept if record.content not in fresh), *self.add]))

    def expects(self, found: Collection[Record]) -> bool:
        """Whether `found`, in the touched record sets, is what the plan saw. Times to live do not count."""
        touched = set(self.touched)
        saw = {record.content for record in self.expected if record.set in touched}
        return saw == {record.content for record in found if record.set in touched}


class Provider(Protocol):
    """Where a zone is served from, and changed."""

    name: str
    """For people: `rfc2136 192.0.2.53`, `cloudflare`."""
    zone: str
    """The zone that it changes, lower case, without the final dot."""

    def fetch(self, wanted: Collection[RecordSet]) -> tuple[Record, ...]:
        """All records of the wanted sets, as the authority has them, sorted. Raises `ProviderError`."""

    def apply(self, changes: Changes) -> None:
        """Make the changes. Raises `Conflict` when the zone is not as expected, else `ProviderError`.

        After any error but `Partial` nothing has changed, as far as this end can know.
        """


class ProviderError(WwsError):
    """The DNS provider did not do what it was asked."""

    code = "dns_provider_failed"
    exit_code: ClassVar[Exit] = Exit.REFUSED


class AuthFailed(ProviderError):
    """The provider does not accept our credentials."""

    code = "dns_auth_failed"
    hint = "Check the key or token: the right one, for this zone, from the file or variable that was meant."


class ZoneLocked(ProviderError):
    """The zone cannot be changed just now: somebody holds it."""

    code = "dns_zone_locked"
    hint = "Find who froze the zone or has a transaction open, let them finish, and publish again."


class Conflict(ProviderError):
    """The zone has changed since the plan was made: perhaps another operator publishes."""

    code = "dns_conflict"
    hint = "Nothing was changed. Look at what changed and plan again: wws-dns plan"


class RateLimited(ProviderError):
    """The provider asks for fewer requests."""

    code = "dns_rate_limited"
    hint = "Nothing is wrong with the records."

    def __init__(
        self, message: str = "", *, retry_after: float | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after
        """Seconds, where the provider says."""
        self.details: Mapping[str, object] = {} if retry_after is None else {"retry_after": retry_after}


class Unavailable(ProviderError):
    """The provider cannot be reached, or fails by itself."""

    code = "dns_unavailable"
    exit_code = Exit.UNREACHABLE
    hint = "Nothing was changed as far as is known here. Check the way to the server, then publish again."


class Partial(ProviderError):
    """Some of the changes were made and some were not."""

    code = "dns_partial"
    hint = "What stands there is safe to leave for a while. Publish again: the next plan does what is left."

    def __init__(self, message: str = "", *, done: Changes, left: Changes, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.done = done
        self.left = left
        self.details: Mapping[str, object] = {
            "done": len(done.add) + len(done.remove),
            "left": len(left.add) + len(left.remove),
        }


class Refused(ProviderError):
    """The provider refuses these changes."""

    code = "dns_refused"
    hint = "Check what this key or token may change: TXT, A and AAAA at the names that the plan shows."


class NotServed(ProviderError):
    """The changes were accepted, and the authority does not serve them."""

    code = "dns_not_served"
    hint = "Another writer may have undone them, or the server lags. Look with: wws-dns verify"
