"""Tests that run at the full scale only (`make test-full`): depth, not another thing."""

import pytest

from wws.testing.scale import scale_factor

only_in_full = pytest.mark.skipif(scale_factor() < 1, reason="depth: only at the full scale")
"""What others show as well, in a shorter way, or what unit tests show of the same code."""
