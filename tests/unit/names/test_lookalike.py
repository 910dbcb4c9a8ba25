"""Which names could be taken for one another, against a plain Levenshtein table and a plain loop."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.names.lookalike import LookAlikeConfig, look_alikes, skeleton
from wws.names.uri import is_name

NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{1,30}[a-z0-9]\Z").filter(is_name)
NARROW = st.text("abl1-", min_size=3, max_size=9).filter(is_name)
"""Few letters: here names are alike."""


def levenshtein(one: str, other: str) -> int:
    """The textbook's table, row by row."""
    above = list(range(len(other) + 1))
    for row, a in enumerate(one, 1):
        here = [row]
        for column, b in enumerate(other, 1):
            here.append(min(above[column] + 1, here[-1] + 1, above[column - 1] + (a != b)))
        above = here
    return above[-1]


def swapped(one: str, other: str) -> bool:
    return any(one[:at] + one[at + 1] + one[at] + one[at + 2 :] == other != one for at in range(len(one) - 1))


def are_alike(one: str, other: str) -> bool:
    """The rule, said once more without any haste."""
    if one == other:
        return False
    if skeleton(one) == skeleton(other):
        return True
    shorter = min(len(one), len(other))
    if shorter <= 3:
        return False
    if shorter <= 5:
        return levenshtein(one, other) <= 1 or swapped(one, other)
    return levenshtein(one, other) <= 2


@pytest.mark.parametrize(
    "name, known",
    [
        ("a1ice", "alice"),
        ("al1ce", "alice"),
        ("allice", "alice"),
        ("a-lice", "alice"),
        ("alcie", "alice"),
        ("alic", "alice"),
        ("alicee", "alice"),
        ("malice", "alice"),
        ("b0b", "bob"),
        ("8ob", "bob"),
        ("bobb", "bob"),
        ("rnallory", "mallory"),
        ("mal1ory", "mallory"),
        ("vvalter", "walter"),
        ("c1ave", "dave"),
        ("5am", "sam"),
        ("2oe", "zoe"),
        ("6ina", "gina"),
        ("9ina", "gina"),
        ("qina", "gina"),
        ("paypai", "paypal"),
        ("paipal", "paypal"),
        ("example-org", "exampleorg"),
        ("payments-bank", "payment-bank1"),
    ],
)
def test_names_to_look_at_twice(name: str, known: str) -> None:
    assert look_alikes(name, ["carol", known, "somebody-else"]) == [known]
    assert look_alikes(known, ["carol", name, "somebody-else"]) == [name]


@pytest.mark.parametrize(
    "name, known",
    [
        ("alice", "alice"),
        ("bob", "rob"),
        ("bob", "bot"),
        ("bob", "bobo"),
        ("carl", "karla"),
        ("alice", "elise"),
        ("dave", "dana"),
        ("mallory", "valerie"),
        ("payments", "pay"),
    ],
)
def test_names_that_nobody_confuses(name: str, known: str) -> None:
    assert look_alikes(name, [known]) == []


def test_the_most_alike_comes_first() -> None:
    known = ["mallory-xy", "mallory1", "mallory-x", "rnallory"]
    assert look_alikes("mallory", known) == ["rnallory", "mallory1", "mallory-x"]


@given(NARROW | NAMES, st.lists(NARROW | NAMES, max_size=12, unique=True))
def test_it_finds_what_a_plain_loop_finds(name: str, known: Sequence[str]) -> None:
    found = look_alikes(name, iter(known), LookAlikeConfig(most_found=12))
    assert sorted(found) == sorted(other for other in known if are_alike(name, other))


@given(NARROW, NARROW)
def test_alike_goes_both_ways(one: str, other: str) -> None:
    assert bool(look_alikes(one, [other])) == bool(look_alikes(other, [one]))


@given(NAMES)
def test_a_skeleton_is_its_own_shape_without_repeats(name: str) -> None:
    shape = skeleton(name)
    assert shape
    assert all(a != b for a, b in pairwise(shape))
    assert not set(shape) & set("01i25869q-")


def test_the_bounds_hold() -> None:
    known = [f"alice{number:03}" for number in range(100)]
    assert len(look_alikes("alice555", known)) == LookAlikeConfig().most_found
    assert look_alikes("alice555", known, LookAlikeConfig(most_known=0)) == []
    assert look_alikes("alice555", known, LookAlikeConfig(most_compared=0)) == []
    assert len(look_alikes("alice555", known, LookAlikeConfig(most_found=1))) == 1
