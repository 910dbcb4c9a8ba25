"""Versions of releases: three numbers, and perhaps a, b or rc with a number: 1.2.3, 1.3.0rc1.

A part of PEP 440 that has one spelling for each version, so that the name of a file says which version it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

from wws.release.errors import ReleaseMalformed

_NUMBER: Final = r"(0|[1-9][0-9]{0,5})"
_VERSION: Final = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:(a|b|rc){_NUMBER})?\Z")
_FINAL: Final = "z"
"""Orders behind a, b and rc."""


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A version, ordered: 1.2.0a1 < 1.2.0b1 < 1.2.0rc1 < 1.2.0 < 1.2.1."""

    numbers: tuple[int, int, int]
    stage: str = _FINAL
    stage_number: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """The version written so. Raises `ReleaseMalformed`."""
        found = _VERSION.match(text)
        if found is None:
            raise ReleaseMalformed(f"{text[:40]!r} is not a version like 1.2.3 or 1.3.0rc1")
        major, minor, patch, stage, number = found.groups()
        return cls((int(major), int(minor), int(patch)), stage or _FINAL, int(number or 0))

    def __str__(self) -> str:
        stage = "" if self.stage == _FINAL else f"{self.stage}{self.stage_number}"
        return ".".join(map(str, self.numbers)) + stage
