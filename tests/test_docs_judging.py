"""The worked examples of docs/judging.md come out as they are written there."""

from __future__ import annotations

import pytest

from omnirm.backends.scripted import ScriptedBackend, log_odds, say
from omnirm.judge import Judge
from omnirm.sample import Sample
from omnirm.scoring.aggregate import Vote, aggregate_pair


@pytest.mark.parametrize(
    ("votes", "verdict", "confidence"),
    [
        ([Vote("AB", "A", 2.0), Vote("BA", "A", 1.0)], "A", 0.82),
        ([Vote("AB", "A", 2.4), Vote("BA", "B", -1.6)], "A", 0.60),
        ([Vote("AB", "A"), Vote("BA", "B")], "tie", 0.50),
        ([Vote("AB", "A", 3.0), Vote("BA", "B", -3.0)], "tie", 0.50),
        ([Vote("AB", "A", 1.0)], "A", 0.73),
    ],
)
def test_the_table_of_verdicts(votes, verdict, confidence):
    answer = aggregate_pair(votes, asked=2)
    assert (answer.verdict, round(answer.confidence, 2)) == (verdict, confidence)


def test_the_examples_without_a_model():
    sample = Sample.from_dict({"prompt": "What is 2 + 3?", "candidates": ["5", "It is 6."]})
    assert Judge(ScriptedBackend(say("A"), logprobs=log_odds(0.95))).compare(sample).verdict == "tie"
    one = Judge(ScriptedBackend(["A]]", "B]]"]), format="pairwise").compare(sample)
    assert (one.verdict, one.position_consistent) == ("A", True)
