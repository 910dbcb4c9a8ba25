"""The drills at a real Knot, each run once."""

from __future__ import annotations

import pytest

from tests.drills.checking import check
from tests.drills.conftest import Worlds
from tests.drills.registry import drills_of

pytestmark = [pytest.mark.net, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.mark.parametrize("drill", drills_of("knot"))
def test_drill(drill: str, world_called: Worlds) -> None:
    check(drill, world_called("knot"))
