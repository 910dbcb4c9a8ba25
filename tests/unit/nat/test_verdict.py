"""Verdicts from servers' words: agreement, hysteresis, confidence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.nat.verdict import Judgement, JudgementConfig, Verdict

CONFIG = JudgementConfig()


def after(words: str) -> Judgement:
    """`a+ b-`: party a got through, party b did not."""
    judgement = Judgement(CONFIG)
    for now, word in enumerate(words.split()):
        judgement.heard(word[:-1], word[-1] == "+", float(now))
    return judgement


@pytest.mark.parametrize(
    "words, verdict, confidence",
    [
        ("", "unknown", 0),
        ("a+", "unknown", 0),
        ("a-", "unknown", 0),
        ("a+ a+ a+", "unknown", 0),
        ("a+ b+", "public", 2),
        ("a- b-", "private", 2),
        ("a+ b-", "unknown", 0),
        ("a+ b- c+", "public", 1),
        ("a+ b- c-", "private", 1),
        ("a+ b+ c+ d+ e+", "public", 3),
        # one contrary answer, of a new server or an old one, turns nothing; a second does
        ("a+ b+ c-", "public", 1),
        ("a+ b+ b-", "public", 0),
        ("a+ b+ b- a-", "private", 2),
        ("a- b- b+", "private", 0),
        ("a- b- b+ a+", "public", 2),
    ],
)
def test_verdicts(words: str, verdict: Verdict, confidence: int) -> None:
    judgement = after(words)
    assert (judgement.verdict, judgement.confidence) == (verdict, confidence)


def test_a_change_is_said() -> None:
    judgement = Judgement(CONFIG)
    assert not judgement.heard("a", True, 0)
    assert judgement.heard("b", True, 1)
    assert not judgement.heard("b", True, 2)
    assert not judgement.is_disputed
    judgement.heard("c", False, 3)
    assert judgement.is_disputed


def test_old_words_lose_their_weight() -> None:
    judgement = after("a+ b+")
    judgement.heard("c", False, CONFIG.lifetime + 0.5)
    assert judgement.verdict == "public"
    judgement.heard("d", False, CONFIG.lifetime + 1.0)
    assert judgement.verdict == "private"


@given(st.lists(st.tuples(st.sampled_from("abcdefghijkl"), st.booleans()), max_size=60))
def test_it_never_turns_by_one_word_of_one_party(words: list[tuple[str, bool]]) -> None:
    judgement = Judgement(CONFIG)
    for now, (party, reached) in enumerate(words):
        before, was_sure = judgement.verdict, judgement.confidence >= 2
        judgement.heard(party, reached, float(now))
        if before != "unknown" and was_sure:
            assert judgement.verdict == before
        assert 0 <= judgement.confidence <= CONFIG.max_confidence
        assert len(judgement._words) <= CONFIG.max_parties
