"""When the outputs of two runs of a drill are the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.drills.pages import normalised

DIGITS = "0123456789abcdef"


@given(st.text(DIGITS, min_size=8, max_size=8))
def test_an_id_is_the_same_whether_it_has_letters_or_not(key: str) -> None:
    assert normalised(f"{key}  holds") == normalised("2c5f01e7  holds")
    assert normalised(f"key {key}.") == normalised("key 12345678.")


def test_words_and_small_counts_are_not() -> None:
    assert normalised("2 removed") != normalised("3 removed")
    assert normalised("is kept") != normalised("is gone")
    assert normalised("added 12") == normalised("added 340")
