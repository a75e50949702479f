"""Scorers that follow a script."""

from __future__ import annotations

import pytest

from omnirm.errors import BackendError, ConfigError
from omnirm.scorers.base import Scored, Scorer
from omnirm.scorers.scripted import ScriptedScorer, named
from omnirm.types import Message, ParseFailure, Part


def item(text: str) -> Scored:
    return Scored((Message("user", (Part("text", "Say something."),)),), (Part("text", text),))


def test_scores_in_order_and_remembers_what_it_saw():
    scorer = ScriptedScorer(lambda one: float(one.response[0].value), name="mine", revision="r1")
    items = [item("2"), item("-1.5"), item("0")]
    assert scorer.score(items) == [2.0, -1.5, 0.0]
    assert scorer.score([]) == []
    assert (scorer.items, scorer.batches, scorer.name, scorer.revision) == (items, [3, 0], "mine", "r1")
    assert isinstance(scorer, Scorer)


@pytest.mark.parametrize(
    ("said", "reason"),
    [(float("nan"), "out_of_range"), (float("-inf"), "out_of_range"), (ParseFailure("media_error"), "media_error")],
)
def test_what_is_no_score_loses_only_itself(said, reason):
    scorer = ScriptedScorer(lambda one: said if one.response[0].value == "bad" else 1)
    one, two, three = scorer.score([item("good"), item("bad"), item("good")])
    assert (one, three) == (1.0, 1.0)
    assert two.reason == reason


def test_an_injected_error_is_one_failure():
    def script(one: Scored) -> float:
        if one.response[0].value == "bad":
            raise BackendError("out of memory")
        return 1.0

    assert ScriptedScorer(script).score([item("bad"), item("good")]) == [
        ParseFailure("backend_error", "out of memory"),
        1.0,
    ]


def test_ready_made_ones():
    assert named("length").score([item("four"), item("")]) == [4.0, 0.0]
    first = named("random").score([item("a"), item("b")])
    assert first == named("random").score([item("a"), item("b")])
    assert first[0] != first[1]
    assert all(0 <= one < 1 for one in first)
    with pytest.raises(ConfigError, match="scripted:length"):
        named("nobody")
