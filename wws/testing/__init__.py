"""What tests, simulations and `wws demo` share, and what is shipped for others' tests."""

from wws.testing.scale import scale

__all__ = ["scale"]
