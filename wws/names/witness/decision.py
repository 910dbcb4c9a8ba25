"""What comes of a question to the book: the answer, and what must be on disk before it leaves."""

from __future__ import annotations

from dataclasses import dataclass, field

from wws.names.witness.entry import Counted, EntryChange
from wws.names.witness.log import LogEntry
from wws.names.witness.messages import WitnessAnswer


@dataclass(slots=True)
class Changes:
    """What has changed in the book, in order. True when there is anything."""

    entries: list[EntryChange] = field(default_factory=list)
    counted: list[Counted] = field(default_factory=list)
    uncounted: list[Counted] = field(default_factory=list)
    log: list[LogEntry] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.entries or self.counted or self.uncounted or self.log)


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer may leave once `changes` are durable; if they cannot be, `WitnessBook.undo` is due."""

    answer: WitnessAnswer
    changes: Changes
