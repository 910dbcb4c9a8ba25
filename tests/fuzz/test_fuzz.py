"""Every parser of the product, 100,000 times: typed refusals, nothing else; bounded memory; told CPU time.

Another seed, more cases, one target: `python -m tests.fuzz TARGET --seed N --cases N`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fuzz.running import called, measure_largest, run
from tests.fuzz.table import EXEMPT, TARGETS, parsers, plain, unlisted
from tests.fuzz.target import MAX_MEMORY, MAX_SECONDS, Target
from wws.testing.scale import scale, scale_factor

CASES = 100_000
LARGE_CASES = 40
SEED = 1

# What a certificate with a bad serial number is worth a warning for; the product keeps it to itself as well.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")

each_target = pytest.mark.parametrize("target", TARGETS, ids=[target.name for target in TARGETS])


def cases_of(target: Target) -> int:
    return scale(round(CASES * (1.0 if scale_factor() >= 1 else target.share)), least=100)


@pytest.mark.timeout(1_800)
@each_target
def test_only_typed_refusals(target: Target, record_property: Callable[[str, object], None]) -> None:
    outcome = run(target, SEED, cases_of(target))
    over = (
        ""
        if outcome.slowest <= MAX_SECONDS
        else f"  OVER {MAX_SECONDS:g} s: {outcome.slowest_case[:60].hex()}"
    )
    record_property("summary", ("fuzzed", f"{outcome}{over}"))
    assert outcome.accepted, "a corpus that is refused as a whole proves little"


@pytest.mark.timeout(600)
@each_target
def test_the_largest_inputs_take_little_memory(
    target: Target, record_property: Callable[[str, object], None]
) -> None:
    peak, slowest = measure_largest(target, SEED, scale(LARGE_CASES, least=4))
    assert peak <= MAX_MEMORY
    over = "" if slowest <= MAX_SECONDS else f"  OVER {MAX_SECONDS:g} s"
    figures = f"{peak / 1024:>7.0f} KiB  {1e3 * slowest:>6.1f} ms{over}"
    record_property("summary", ("largest inputs", f"{target.name:<28} {target.largest:>8} bytes  {figures}"))


@each_target
def test_a_row_calls_what_it_covers(target: Target) -> None:
    seen = called(target)
    missing = [function.__qualname__ for function in target.covers if plain(function).__code__ not in seen]
    assert not missing


def test_the_table_is_complete() -> None:
    assert unlisted() == [], "give each a row in tests/fuzz, or a reason in EXEMPT"


def test_no_reason_is_left_over() -> None:
    assert EXEMPT.keys() <= {name for name, _ in parsers()}


def test_names_are_distinct() -> None:
    assert len({target.name for target in TARGETS}) == len(TARGETS)
