"""How much a test does: one setting for the volume of the whole suite.

`WWS_TEST_SCALE=1` runs every test at the figures it was written for; a tenth is the default, so that a
laptop and CI finish in minutes. Tests say the full figure and ask for the share::

    for _ in range(scale(1_000)):
        ...
"""

import math
import os

VARIABLE = "WWS_TEST_SCALE"
DEFAULT_SCALE = 0.1
LARGEST_SCALE = 100.0


def scale_factor() -> float:
    """The share of the full figures that this run does, in (0, 100].

    Raises ValueError when the variable holds anything else: a typing error must not quietly make the
    suite do nothing.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return DEFAULT_SCALE
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not 0 < factor <= LARGEST_SCALE:  # also false for nan
        raise ValueError(f"{VARIABLE}={text!r}: give a number above 0 and at most {LARGEST_SCALE:g}")
    return factor


def scale(full: int, *, least: int = 1) -> int:
    """`full` times the scale of this run, rounded, and never below `least`.

    `least` is the volume under which the test would prove nothing; it holds even where it is above `full`.
    """
    return max(least, round(full * scale_factor()))
