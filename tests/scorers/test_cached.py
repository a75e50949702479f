"""What is asked for twice is computed once, and nothing stale or failed is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirm.errors import BackendError, ConfigError
from omnirm.scorers.base import Scored
from omnirm.scorers.cached import CachedScorer, item_key
from omnirm.scorers.scripted import ScriptedScorer
from omnirm.types import Message, ParseFailure, Part

PROMPT = (Message("user", (Part("text", "Say something."),)),)


def item(text: str) -> Scored:
    return Scored(PROMPT, (Part("text", text),))


def picture(value: object, **options: int) -> Scored:
    return Scored(PROMPT, (Part("image", value, options),))


def counting() -> ScriptedScorer:
    """Each computation gives another number, so that a repeated one shows."""
    numbers = iter(range(10_000))
    return ScriptedScorer(lambda _: float(next(numbers)), name="counting", revision="r7", modalities={"text"})


def test_one_computation_for_equal_items_of_one_call_and_of_later_ones():
    inner = counting()
    scorer = CachedScorer(inner)
    assert scorer.score([item("a"), item("b"), item("a")]) == [0, 1, 0]
    assert scorer.score([item("c"), item("b"), item("a")]) == [2, 1, 0]
    assert inner.batches == [2, 1]
    assert (scorer.name, scorer.revision, scorer.modalities) == ("counting", "r7", {"text"})


def test_nothing_new_asks_for_nothing():
    inner = counting()
    scorer = CachedScorer(inner)
    scorer.score([item("a")])
    assert scorer.score([item("a")]) == [0]
    assert scorer.score([]) == []
    assert inner.batches == [1]


def test_the_one_not_asked_for_longest_goes_first():
    scorer = CachedScorer(counting(), entries=2)
    scorer.score([item("a"), item("b")])  # 0, 1
    scorer.score([item("a")])
    scorer.score([item("c")])  # 2, and b goes
    assert scorer.score([item("a"), item("c"), item("b")]) == [0, 2, 3]


def test_more_items_in_one_call_than_entries():
    scorer = CachedScorer(counting(), entries=2)
    assert scorer.score([item(text) for text in "abcdea"]) == [0, 1, 2, 3, 4, 0]


def test_a_failure_is_asked_for_again():
    answers = iter([ParseFailure("backend_error"), 5.0])
    scorer = CachedScorer(ScriptedScorer(lambda _: next(answers)))
    assert scorer.score([item("a")]) == [ParseFailure("backend_error")]
    assert scorer.score([item("a")]) == [5.0]
    assert scorer.score([item("a")]) == [5.0]


def test_everything_that_a_score_depends_on_tells_items_apart(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"one")
    (tmp_path / "b.bin").write_bytes(b"two")
    other_role = (Message("system", PROMPT[0].parts), *PROMPT)
    items = [
        *(item(""), item("a"), item("b"), Scored(other_role, item("a").response)),
        *(picture(str(tmp_path / name)) for name in ("a.bin", "b.bin")),
        picture(str(tmp_path / "a.bin"), max_pixels=4096),
        Scored(PROMPT, (Part("video", str(tmp_path / "a.bin")),)),
        Scored((*PROMPT, Message("assistant", item("a").response), *PROMPT), item("b").response),
    ]
    keys = [item_key(one) for one in items]
    assert len(set(keys)) == len(items)
    assert None not in keys


def test_a_medium_counts_by_its_content(tmp_path):
    path, copy = tmp_path / "a.bin", tmp_path / "copy.bin"
    path.write_bytes(b"one")
    copy.write_bytes(b"one")
    assert item_key(picture(str(path))) == item_key(picture(copy)) == item_key(picture("data:;base64,b25l"))
    scorer = CachedScorer(counting())
    assert scorer.score([picture(str(path)), picture(str(copy))]) == [0, 0]
    path.write_bytes(b"another")
    assert scorer.score([picture(str(path)), picture(str(copy))]) == [1, 0]


@pytest.mark.parametrize("value", ["nowhere.png", "http://example.com/a.png"])
def test_what_cannot_be_opened_is_not_remembered(value):
    scorer = CachedScorer(counting())
    assert scorer.score([picture(value), picture(value)]) == [0, 1]
    assert scorer.score([picture(value)]) == [2]


def test_a_scorer_that_loses_items_is_an_error():
    class Short(ScriptedScorer):
        def score(self, items):
            return super().score(items)[1:]

    with pytest.raises(BackendError, match="1 scores for 2"):
        CachedScorer(Short(lambda _: 1.0)).score([item("a"), item("b")])


def test_no_room():
    with pytest.raises(ConfigError, match="entries"):
        CachedScorer(counting(), entries=0)


@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=8), max_size=6), st.integers(1, 7))
def test_a_cache_never_changes_a_score(calls, entries):
    def plain() -> ScriptedScorer:
        return ScriptedScorer(lambda one: float(ord(one.response[0].value)))

    cached, direct = CachedScorer(plain(), entries=entries), plain()
    for texts in calls:
        items = [item(text) for text in texts]
        assert cached.score(items) == direct.score(items)
