"""Runs the cases of a target: counts what is refused, measures what it costs, stops at what is a bug."""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from collections import Counter
from dataclasses import dataclass, field
from types import CodeType, FrameType

from tests.fuzz.mutator import Mutator
from tests.fuzz.target import MAX_MEMORY, Target

SHOWN = 4_096
"""Bytes of a case that are shown as hex; beyond it the seed says more."""


class CaseFailed(AssertionError):
    """A case raised what it must not. Shows how to run it again."""

    def __init__(self, target: Target, seed: int, number: int, data: bytes, error: BaseException) -> None:
        super().__init__(
            f"{target.name}: case {number} of seed {seed} raised {type(error).__name__}: {str(error)[:300]}\n"
            f"again: python -m tests.fuzz {target.name!r} --seed {seed} --cases {number + 1}\n"
            f"input ({len(data)} bytes): {data[:SHOWN].hex()}"
        )


@dataclass
class Outcome:
    """What came of a run."""

    target: str
    cases: int = 0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """By error class."""
    seconds: float = 0.0
    """CPU time in the parser."""
    slowest: float = 0.0
    slowest_case: bytes = b""

    def __str__(self) -> str:
        return (
            f"{self.target:<28} {self.cases:>8} cases  {self.accepted:>7} accepted  "
            f"{len(self.refused):>2} kinds of refusal  "
            f"{1e6 * self.seconds / max(1, self.cases):>7.1f} µs each  "
            f"slowest {1e3 * self.slowest:.2f} ms"
        )


def run(target: Target, seed: int, cases: int) -> Outcome:
    """Raises `CaseFailed` at the first case that raises anything but the target's refusals."""
    mutator = Mutator(target.corpus(), target.form, f"{target.name} {seed}")
    outcome = Outcome(target.name)
    gc.collect()
    gc.freeze()  # a collection of everything that the tests hold is no cost of a parser
    try:
        _run(target, seed, cases, mutator, outcome)
    finally:
        gc.unfreeze()
    return outcome


def _run(target: Target, seed: int, cases: int, mutator: Mutator, outcome: Outcome) -> None:
    parse, allowed, clock = target.parse, target.allowed, time.thread_time
    refused = outcome.refused
    for number in range(cases):
        data = mutator.next()
        began = clock()
        try:
            parse(data)
        except allowed as error:
            spent = clock() - began
            refused[type(error).__name__] += 1
        except Exception as error:
            raise CaseFailed(target, seed, number, data, error) from error
        else:
            spent = clock() - began
            outcome.accepted += 1
        outcome.seconds += spent
        if spent > outcome.slowest:
            outcome.slowest, outcome.slowest_case = spent, data
    outcome.cases = cases


def measure_largest(target: Target, seed: int, cases: int) -> tuple[int, float]:
    """Peak memory in bytes and the slowest CPU time, over inputs as large as they can get.

    Raises `CaseFailed` as `run` does, and for a case over the bound of memory.
    """
    mutator = Mutator(target.corpus(), target.form, f"{target.name} largest {seed}")
    highest, slowest = 0, 0.0
    for number in range(cases):
        data = mutator.largest(target.largest)
        began = time.thread_time()
        _attempt(target, seed, number, data)
        slowest = max(slowest, time.thread_time() - began)
        if number % 4:
            continue  # tracing takes ten times as long
        gc.collect(0)
        tracemalloc.start(1)
        try:
            _attempt(target, seed, number, data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        highest = max(highest, peak)
        if peak > MAX_MEMORY:
            raise CaseFailed(target, seed, number, data, MemoryError(f"{peak} bytes at once"))
    return highest, slowest


def called(target: Target, cases: int = 60) -> set[CodeType]:
    """Everything that is called when the target runs."""
    seen: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            seen.add(frame.f_code)

    examples = list(target.corpus())
    mutator = Mutator(examples, target.form, f"{target.name} called")
    inputs = [*examples[:cases], *(mutator.next() for _ in range(cases))]
    sys.setprofile(note)
    try:
        for number, data in enumerate(inputs):
            _attempt(target, 0, number, data)
    finally:
        sys.setprofile(None)
    return seen


def _attempt(target: Target, seed: int, number: int, data: bytes) -> None:
    try:
        target.parse(data)
    except target.allowed:
        pass
    except Exception as error:
        raise CaseFailed(target, seed, number, data, error) from error
