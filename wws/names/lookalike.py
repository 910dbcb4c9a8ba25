"""Names that could be taken for one another: a warning at the first use of a name, never a refusal.

Whoever knows `alice` and is offered `a1ice` should look twice. Two names are alike when

- they have one *skeleton*: what is left when characters that look the same are made the same (0 o, 1 l i,
  2 z, 5 s, 8 b, 6 9 g q), pairs that look like one letter become it (rn m, vv w, cl d), hyphens are dropped
  and repeated letters are written once; or
- at most two edits lead from one to the other (Levenshtein: a letter more, less, or another one).

Two edits leave nothing of a short name: within two of `bob` lies every name of three letters that shares one
letter with it. So the shorter of the two names says how many count: none up to 3 letters (there only the
skeleton counts); one up to 5, or two neighbours that have changed places, for so fingers slip; two from 6 on.

Names are ASCII (wire.md, section 4), so no other alphabet can stand for a Latin letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Final

_PAIRS: Final = (("rn", "m"), ("vv", "w"), ("cl", "d"), ("c1", "d"))
_SAME: Final = str.maketrans("01i25869q", "ollzsbggg", "-")
_REPEATED: Final = re.compile(r"(.)\1+")


@dataclass(frozen=True, slots=True)
class LookAlikeConfig:
    """Bounds of the comparison."""

    longest_without_edits: int = 3
    """Names up to this length are compared by their skeletons only."""
    longest_with_one_edit: int = 5
    """Names up to this length may differ by one edit, longer ones by two."""
    most_known: int = 100_000
    """Names that one name is compared with."""
    most_compared: int = 10_000
    """Known names with a piece in common that are compared letter by letter."""
    most_found: int = 8
    """Look-alikes after which the search ends: one is enough for a warning."""


def look_alikes(name: str, known: Iterable[str], config: LookAlikeConfig | None = None) -> list[str]:
    """The known names that `name` could be taken for, those with its skeleton first, then by their edits.

    Both are names as records spell them. `name` itself is no look-alike. All known names are searched as one
    text, so that of 100,000 only the few with a piece in common are looked at one by one.
    """
    config = config or LookAlikeConfig()
    others = list(islice(known, config.most_known))
    text = "\n".join(("", *others, ""))
    alike = (other for other in _same_skeleton(name, others, text) if other != name)
    found = dict.fromkeys(islice(alike, config.most_found), 0)
    sharing = _with_common_piece(name, text) if _edits_allowed(len(name), config) else ()
    for other in islice(sharing, config.most_compared):
        if len(found) >= config.most_found:
            break
        edits = _apart(name, other, config) if other != name and other not in found else None
        if edits is not None:
            found[other] = edits
    return sorted(found, key=lambda other: (found[other], other))


def skeleton(name: str) -> str:
    """What is left of a name when all that looks the same is the same."""
    return _REPEATED.sub(r"\1", _shapes(name))


def _shapes(text: str) -> str:
    """The skeletons of all the lines of a text, but for letters that are repeated."""
    for pair, letter in _PAIRS:
        text = text.replace(pair, letter)
    return text.translate(_SAME)


def _same_skeleton(name: str, others: list[str], text: str) -> Iterator[str]:
    shapes = _shapes(text)
    wanted = re.compile("\n" + "".join(f"{letter}+" for letter in skeleton(name)) + "(?=\n)")
    for match in wanted.finditer(shapes):
        yield others[shapes.count("\n", 0, match.start())]


def _with_common_piece(name: str, text: str) -> Iterator[str]:
    """The names that share a piece with `name`: two edits, or one swap, leave one of three pieces whole."""
    cuts = [len(name) * number // 3 for number in range(4)]
    seen: set[str] = set()
    for start, end in pairwise(cuts):
        piece = name[start:end]
        at = text.find(piece)
        while at >= 0:
            first, last = text.rfind("\n", 0, at) + 1, text.find("\n", at)
            other = text[first:last]
            if abs(len(other) - len(name)) <= 2 and other not in seen:
                seen.add(other)
                yield other
            at = text.find(piece, last)


def _apart(one: str, other: str, config: LookAlikeConfig) -> int | None:
    """Edits between two names that are alike, or None."""
    allowed = _edits_allowed(min(len(one), len(other)), config)
    if allowed == 1 and _are_swapped(one, other):
        return 1
    return _edits(one, other, allowed)


def _are_swapped(one: str, other: str) -> bool:
    """Whether two neighbours that have changed places are all the difference."""
    differ = [index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b]
    if len(one) != len(other) or len(differ) != 2 or differ[1] != differ[0] + 1:
        return False
    first, second = differ
    return one[first] == other[second] and one[second] == other[first]


def _edits(one: str, other: str, most: int) -> int | None:
    """Edits from one to the other if they are at most `most`.

    What both begin with never needs an edit, so the first difference decides what can be tried.
    """
    if one == other:
        return 0
    if most == 0 or abs(len(one) - len(other)) > most:
        return None
    at = next(
        (index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
    rest, other_rest = one[at:], other[at:]
    tries = [(rest[1:], other_rest), (rest, other_rest[1:]), (rest[1:], other_rest[1:])]
    counts = [edits for left, right in tries if (edits := _edits(left, right, most - 1)) is not None]
    return 1 + min(counts) if counts else None


def _edits_allowed(length: int, config: LookAlikeConfig) -> int:
    if length <= config.longest_without_edits:
        return 0
    return 1 if length <= config.longest_with_one_edit else 2
