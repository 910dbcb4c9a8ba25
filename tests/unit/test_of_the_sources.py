"""What is left out against an installed wheel: pytest passes over a name that is no test of any file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packages.__main__ import OF_THE_SOURCES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("test", OF_THE_SOURCES)
def test_each_is_there(test: str) -> None:
    path, _, name = test.partition("::")
    assert f"def {name}" in (ROOT / path).read_text()
