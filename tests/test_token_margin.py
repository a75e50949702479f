"""Where in the tokens the verdict's log-probability stands, and when it is better to say nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirm.scoring.token_margin import token_at, verdict_margin
from omnirm.types import TokenLogprob

TOP = {"A": -0.1, "B": -2.4}


def tokens(*texts: str, at: int | None = None) -> list[TokenLogprob]:
    return [
        TokenLogprob(text, -0.1, TOP if at is None or i == at else {"A": 0, "B": 0}) for i, text in enumerate(texts)
    ]


def test_the_token_of_the_letter():
    text = "Verdict ab: [[A]]"
    found = verdict_margin(tokens("Verdict", " ab", ":", " [[", "A", "]]", at=4), text, 14, 15)
    assert found == pytest.approx(2.3)


def test_a_special_token_behind_the_text_does_no_harm():
    assert verdict_margin(tokens("A", "]]", "<|im_end|>", at=0), "A]]", 0, 1) == pytest.approx(2.3)


def test_a_character_split_over_tokens_does_not_move_the_place():
    text = "ü 中 Verdict ab: [[B]]"
    start = text.index("B]]")
    spelled = tokens(
        "ü", " ", "\ufffd", "\ufffd", "\ufffd", " Verdict", " ab", ":", " [[", "B", "]]", "<|im_end|>", at=9
    )
    assert verdict_margin(spelled, text, start, start + 1) == pytest.approx(2.3)


@pytest.mark.parametrize(
    ("texts", "text", "start"),
    [
        (["[[A", "]]"], "[[A]]", 2),  # the letter is inside a token: A alone was not what could be chosen there
        (["A]]"], "A]]", 0),  # the token is more than the letter
        (["A", "]]"], "B]]", 0),  # tokens of another text
        ([], "A]]", 0),
        (["A", "]]"], "A]]", -5),  # in the prefill
    ],
)
def test_nothing_rather_than_a_guess(texts, text, start):
    assert verdict_margin(tokens(*texts), text, start, start + 1) is None


def test_a_letter_that_was_not_tracked():
    assert verdict_margin([TokenLogprob("A", -0.1, {"A": -0.1})], "A", 0, 1) is None


def test_a_tie_has_a_margin_too():
    assert verdict_margin(tokens("tie", "]]", at=0), "tie]]", 0, 3) == pytest.approx(2.3)
    assert verdict_margin(tokens("t", "ie", "]]", at=0), "tie]]", 0, 3) == pytest.approx(2.3)


@given(st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=8), st.data())
def test_tokens_that_spell_the_text_are_found_where_they_begin(texts, data):
    index = data.draw(st.integers(0, len(texts) - 1))
    assert token_at(tokens(*texts), "".join(texts), len("".join(texts[:index]))) == index
