"""Votes, margins and scores: numbers worked by hand, and what must hold whatever the numbers are."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirm.errors import ConfigError
from omnirm.scoring.aggregate import (
    MAX_MARGIN,
    Vote,
    aggregate_pair,
    aggregate_scores,
    majority,
    mean_margin,
    original_letter,
    original_margin,
    sigmoid,
    two_way_probability,
    vote_shares,
)

letters = st.sampled_from(["A", "B", "tie"])
margins = st.floats(-80, 80)
votes_with_margins = st.lists(st.builds(Vote, st.sampled_from(["AB", "BA"]), letters, margins), max_size=12)
votes_maybe = (
    st.lists(st.builds(Vote, st.sampled_from(["AB", "BA"]), letters, st.none() | margins), max_size=12)
    | votes_with_margins
)


def turned(vote: Vote) -> Vote:
    return Vote(vote.order, original_letter(vote.letter, "BA"), original_margin(vote.margin, "BA"))


def test_swapped_order_turns_letter_and_margin():
    assert [original_letter(x, "BA") for x in ("A", "B", "tie")] == ["B", "A", "tie"]
    assert [original_letter(x, "AB") for x in ("A", "B", "tie")] == ["A", "B", "tie"]
    assert original_margin(1.5, "BA") == -1.5
    assert original_margin(1.5, "AB") == 1.5


def test_margins_that_are_no_numbers_are_no_margins():
    assert original_margin(math.nan, "AB") is None
    assert original_margin(None, "BA") is None
    assert original_margin(math.inf, "BA") == -MAX_MARGIN


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", None),
        ("AAB", "A"),
        ("AB", "tie"),
        ("At", "tie"),
        ("AAttB", "tie"),
        ("ttA", "tie"),
        ("BBA", "B"),
        ("ABt", "tie"),
    ],
)
def test_majority(said, expected):
    assert majority([{"t": "tie"}.get(c, c) for c in said]) == expected


def test_orders_weigh_the_same_however_many_samples_were_read():
    # AB: A A A, BA: B (the two others of BA failed). Pooled votes would say A 3:1; the orders are even.
    votes = [Vote("AB", "A")] * 3 + [Vote("BA", "B")]
    shares = vote_shares(votes)
    assert (shares["A"], shares["B"], shares["tie"]) == (0.5, 0.5, 0)
    answer = aggregate_pair(votes, asked=6)
    assert (answer.verdict, answer.decided_by, answer.probability_a) == ("tie", "nothing", 0.5)
    assert answer.coverage == pytest.approx(4 / 6)
    assert answer.votes == (("A", 3), ("B", 1), ("tie", 0))


def test_a_constant_liking_for_the_first_place_cancels():
    # preference d = 0.4 for A, first place worth b = 2: AB gives d + b = 2.4, BA (B stands first) d - b = -1.6
    votes = [Vote("AB", "A", 2.4), Vote("BA", "B", -1.6)]
    answer = aggregate_pair(votes, asked=2)
    assert answer.margin == pytest.approx(0.4)
    assert (answer.verdict, answer.decided_by, answer.position_consistent) == ("A", "margin", False)
    assert answer.confidence == pytest.approx(1 / (1 + math.exp(-0.4)))  # 0.5987
    assert answer.order_verdicts == (("AB", "A"), ("BA", "B"))


def test_mean_over_samples_then_over_orders():
    # AB: (1 + 3) / 2 = 2; BA: -1 -> mean 0.5 (not (1 + 3 - 1) / 3 = 1)
    assert mean_margin([Vote("AB", "A", 1.0), Vote("AB", "A", 3.0), Vote("BA", "B", -1.0)]) == pytest.approx(0.5)


def test_one_vote_without_a_margin_leaves_no_mean_margin():
    votes = [Vote("AB", "A", 5.0), Vote("BA", "B", None)]
    assert mean_margin(votes) is None
    assert aggregate_pair(votes, asked=2).verdict == "tie"  # else the order with log-probabilities would decide alone


def test_consistent_orders():
    answer = aggregate_pair([Vote("AB", "B", -2.0), Vote("BA", "B", -1.0)], asked=2)
    assert (answer.verdict, answer.position_consistent, answer.decided_by) == ("B", True, "votes")
    assert answer.confidence == pytest.approx(sigmoid(1.5))
    assert answer.probability_a == pytest.approx(1 - sigmoid(1.5))


def test_without_log_probabilities_the_share_of_votes_is_the_confidence():
    votes = [Vote("AB", "A"), Vote("AB", "A"), Vote("AB", "B"), Vote("AB", "tie")]
    answer = aggregate_pair(votes, asked=4, orders=("AB",))
    assert answer.verdict == "A"
    assert answer.probability_a == pytest.approx(2 / 4 + 1 / 8)
    assert answer.position_consistent is None  # one order cannot be consistent with itself


def test_votes_and_log_probabilities_that_contradict_show_in_a_confidence_below_half():
    votes = [Vote("AB", "A", 0.1), Vote("AB", "A", 0.1), Vote("AB", "B", -5.0)]
    answer = aggregate_pair(votes, asked=3, orders=("AB",))
    assert answer.verdict == "A"
    assert answer.confidence == pytest.approx(sigmoid(-1.6))


def test_a_candidate_against_a_tie_needs_the_margin():
    assert aggregate_pair([Vote("AB", "A"), Vote("BA", "tie")], asked=2).verdict == "tie"
    assert aggregate_pair([Vote("AB", "A", 2.0), Vote("BA", "tie", 1.0)], asked=2).verdict == "A"
    # the margin never gives the pair to a candidate that shares no first place
    assert aggregate_pair([Vote("AB", "A", 0.1), Vote("BA", "tie", -3.0)], asked=2).verdict == "tie"


def test_tie_band_in_probability():
    votes = [Vote("AB", "A", 0.4), Vote("BA", "A", 0.4)]  # P(A) = 0.5987
    assert aggregate_pair(votes, asked=2, tie_band=0.05).verdict == "A"
    banded = aggregate_pair(votes, asked=2, tie_band=0.1)
    assert (banded.verdict, banded.decided_by) == ("tie", "tie_band")
    assert banded.confidence == pytest.approx(0.5987, abs=1e-4)


def test_nothing_read_is_no_verdict_and_no_tie():
    answer = aggregate_pair([], asked=4)
    assert answer.verdict is None
    assert answer.confidence is None
    assert answer.coverage == 0
    assert answer.order_verdicts == (("AB", None), ("BA", None))


def test_one_order_unread_still_gives_a_verdict_but_no_consistency():
    answer = aggregate_pair([Vote("BA", "B", -1.0)], asked=2)
    assert (answer.verdict, answer.position_consistent, answer.coverage) == ("B", None, 0.5)


@pytest.mark.parametrize("band", [-0.1, 0.51, math.nan])
def test_impossible_tie_band(band):
    with pytest.raises(ConfigError, match="give 0 to"):
        aggregate_pair([], asked=0, tie_band=band)


def test_more_votes_than_calls_is_a_mistake():
    with pytest.raises(ConfigError):
        aggregate_pair([Vote("AB", "A")], asked=0)
    with pytest.raises(ConfigError):
        aggregate_scores([1.0], asked=0)


def test_scores():
    answer = aggregate_scores([4.0, 7.0, 7.0], asked=4)
    assert answer.mean == pytest.approx(6.0)
    assert answer.spread == pytest.approx(math.sqrt(2))  # (4 + 1 + 1) / 3 = 2
    assert answer.coverage == 0.75
    assert aggregate_scores([], asked=3).mean is None


def test_two_way_probability():
    assert two_way_probability(math.log(0.6), math.log(0.2)) == pytest.approx(0.75)


@given(votes_maybe, st.none() | st.floats(0, 0.5))
def test_exchanging_the_candidates_exchanges_the_answer_and_nothing_else(votes, band):
    votes = [Vote(v.order, v.letter, original_margin(v.margin, "AB")) for v in votes]
    one = aggregate_pair(votes, asked=len(votes), tie_band=band)
    other = aggregate_pair([turned(v) for v in votes], asked=len(votes), tie_band=band)
    assert other.verdict == (None if one.verdict is None else original_letter(one.verdict, "BA"))
    assert other.confidence == one.confidence
    assert other.position_consistent == one.position_consistent
    assert other.decided_by == one.decided_by
    if one.margin is not None:
        assert other.margin == -one.margin


@given(votes_maybe, st.integers(0, 5))
def test_bounds(votes, failed):
    answer = aggregate_pair(votes, asked=len(votes) + failed)
    assert 0 <= answer.coverage <= 1
    assert (answer.verdict is None) == (not votes)
    if votes:
        assert 0 <= answer.probability_a <= 1
        assert 0 <= answer.confidence <= 1
        assert sum(vote_shares(votes).values()) == 1


@given(votes_with_margins)
def test_the_order_of_votes_does_not_matter(votes):
    one, other = aggregate_pair(votes, asked=len(votes)), aggregate_pair(votes[::-1], asked=len(votes))
    assert one == other


@given(st.lists(st.sampled_from(["A", "B"]), min_size=1, max_size=9), st.sampled_from(["A", "B"]))
def test_one_more_vote_for_a_letter_never_turns_the_verdict_against_it(said, extra):
    before = aggregate_pair([Vote("AB", x) for x in said], asked=len(said), orders=("AB",))
    after = aggregate_pair([Vote("AB", x) for x in [*said, extra]], asked=len(said) + 1, orders=("AB",))
    if before.verdict == extra:
        assert after.verdict == extra


@given(st.lists(st.floats(0, 10), min_size=1, max_size=20))
def test_a_mean_stays_within_its_scores(scores):
    answer = aggregate_scores(scores, asked=len(scores))
    assert min(scores) <= answer.mean <= max(scores)
    assert answer.spread >= 0


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_sigmoid_is_monotone_and_bounded(x, y):
    assert 0 <= sigmoid(x) <= 1
    if x <= y:
        assert sigmoid(x) <= sigmoid(y)
