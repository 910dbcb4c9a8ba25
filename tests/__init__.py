"""Tests. `tests.prerequisites` is importable from every folder below."""
