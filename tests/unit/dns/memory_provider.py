"""A zone in memory, behind the same interface as the real ones, that can fail as they do."""

from __future__ import annotations

from collections.abc import Collection

from wws_dns.provider import Changes, Conflict, Partial, ProviderError, Record, RecordSet


class MemoryProvider:
    """Keeps records; `fail_with` and `stop_after` make the next change go wrong."""

    def __init__(self, zone: str = "example.org", records: Collection[Record] = ()) -> None:
        self.name = "memory"
        self.zone = zone
        self.records: set[Record] = set(records)
        self.applied: list[Changes] = []
        self.fail_with: ProviderError | None = None
        self.stop_after: int | None = None
        """Half-applied: how many of the changes are made, the adding ones first."""
        self.forgets = False
        """Says that it has made the changes, and makes none."""

    def fetch(self, wanted: Collection[RecordSet]) -> tuple[Record, ...]:
        return tuple(sorted(record for record in self.records if record.set in set(wanted)))

    def apply(self, changes: Changes) -> None:
        if self.fail_with is not None:
            error, self.fail_with = self.fail_with, None
            raise error
        if not changes.expects(self.records):
            raise Conflict("the zone in memory has changed")
        self.applied.append(changes)
        if self.forgets:
            return
        if self.stop_after is not None:
            self._half(changes, self.stop_after)
        gone = {record.content for record in changes.remove}
        self.records = {record for record in self.records if record.content not in gone} | set(changes.add)

    def _half(self, changes: Changes, count: int) -> None:
        added = changes.add[:count]
        removed = changes.remove[: max(0, count - len(added))]
        self.stop_after = None
        gone = {record.content for record in removed} - {record.content for record in added}
        again = {record.content for record in added}
        kept = {r for r in self.records if r.content not in gone and r.content not in again}
        self.records = kept | set(added)
        raise Partial(
            "half of it",
            done=Changes(added, removed),
            left=Changes(changes.add[len(added) :], changes.remove[len(removed) :]),
        )
