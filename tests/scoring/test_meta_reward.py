"""Meta-rewards: the papers' branches with numbers worked by hand, what must hold for any numbers, and what has none."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirm.errors import ConfigError
from omnirm.scoring.meta_reward import (
    FUNCTIONS,
    best_of,
    confidence,
    consistency,
    direct,
    meta_rewards,
    ranked,
    relative,
    settled,
    vote_at,
    weighted_vote,
)

NAN = math.nan
OTHER = {"A": "B", "B": "A", "tie": "tie", None: None}
PAGE = Path(__file__).resolve().parents[2] / "docs" / "meta-reward.md"

# multiples of 1/8: sums and differences are exact, so equations can be compared with ==, and equal scores do occur
scores = st.integers(-400, 400).map(lambda eighths: eighths / 8)
verdicts = st.sampled_from(["A", "B", "tie", None])
missing_too = st.one_of(scores, scores, scores, st.sampled_from([NAN, math.inf, -math.inf, None]))


def table(numbers):
    return st.lists(st.tuples(verdicts, st.tuples(*[numbers] * 4)), max_size=12)


def parts(rows):
    return [letter for letter, _ in rows], [row for _, row in rows]


def same(left, right):
    np.testing.assert_array_equal(np.asarray(left), np.asarray(right))  # NaN equals NaN here


# -- the equations, by hand: (j, s1, s2, t1, t2) ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "s1", "s2", "t1", "t2", "expected"),
    [
        ("A", 3.0, 1.0, 5.0, 2.5, 1.5),  # t1 > t2, confirmed: t2 - s2
        ("A", 3.0, 1.0, 2.0, 6.0, -4.0),  # t1 < t2, contradicted: t1 - t2
        ("B", 3.0, 1.0, 3.5, 7.0, 0.5),  # t1 < t2, confirmed: t1 - s1
        ("B", 3.0, 1.0, 4.0, 3.0, -1.0),  # t1 > t2, contradicted: t2 - t1
        ("A", 3.0, 1.0, 5.0, 0.0, -1.0),  # confirmed, but the revision did harm: t2 - s2
        ("A", -3.0, -9.0, -2.0, -4.0, 5.0),  # the level of the scores plays no part
    ],
)
def test_consistency_by_hand(verdict, s1, s2, t1, t2, expected):
    same(consistency([verdict], [s1], [s2], [t1], [t2]), [expected])


@pytest.mark.parametrize("verdict", ["A", "B"])
def test_consistency_is_0_where_refined_scores_are_equal(verdict):
    same(consistency([verdict], [3.0], [1.0], [2.0], [2.0]), [0.0])


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [("A", 6.0 - 1.0), ("B", 2.0 - 3.0)],  # A: t2 - s2; B: t1 - s1
)
def test_relative_by_hand(verdict, expected):
    same(relative([verdict], [3.0], [1.0], [2.0], [6.0]), [expected])


def test_direct_by_hand():
    same(direct([2.0, -1.5], [6.0, 0.25]), [8.0, -1.25])


def test_all_branches_in_one_array():
    verdict = ["A", "A", "B", "B", "A", "B", "tie", None]
    t1 = [5.0, 2.0, 3.5, 4.0, 2.0, 2.0, 5.0, 5.0]
    t2 = [2.5, 6.0, 7.0, 3.0, 2.0, 2.0, 1.0, 1.0]
    expected = [1.5, -4.0, 0.5, -1.0, 0.0, 0.0, NAN, NAN]
    same(consistency(verdict, 3.0, 1.0, t1, t2), expected)  # one number: the same original scores under all rubrics
    same(consistency(np.array(verdict, dtype=object), [3.0] * 8, [1.0] * 8, np.array(t1), np.array(t2)), expected)


# -- properties -------------------------------------------------------------------------------------------------------


@given(table(missing_too), st.sampled_from(FUNCTIONS))
def test_exchanging_the_responses_changes_no_meta_reward(rows, function):
    letters, numbers = parts(rows)
    swapped = [(s2, s1, t2, t1) for s1, s2, t1, t2 in numbers]
    same(meta_rewards(function, [OTHER[x] for x in letters], swapped), meta_rewards(function, letters, numbers))


@given(table(scores), scores)
def test_a_constant_added_to_all_scores_moves_direct_alone(rows, constant):
    letters, numbers = parts(rows)
    moved = [[x + constant for x in row] for row in numbers]
    for function in ("consistency", "relative"):
        same(meta_rewards(function, letters, moved), meta_rewards(function, letters, numbers))
    same(meta_rewards("direct", letters, moved), meta_rewards("direct", letters, numbers) + 2 * constant)


@given(table(scores))
def test_consistency_is_relative_where_confirmed_and_the_gap_where_contradicted(rows):
    letters, numbers = parts(rows)
    both = zip(meta_rewards("consistency", letters, numbers), meta_rewards("relative", letters, numbers), strict=True)
    for (letter, (_, _, t1, t2)), (found, plain) in zip(rows, both, strict=True):
        if letter in ("A", "B") and t1 != t2:
            confirmed = (t1 > t2) == (letter == "A")
            assert found == (plain if confirmed else -abs(t1 - t2))


@given(table(scores))
def test_rewards_stay_in_their_range(rows):
    letters, numbers = parts(rows)
    for function in ("consistency", "relative"):
        for reward, row in zip(meta_rewards(function, letters, numbers), numbers, strict=True):
            assert math.isnan(reward) or abs(reward) <= max(row) - min(row)


@given(table(missing_too), st.sampled_from(FUNCTIONS))
def test_there_is_none_exactly_without_a_verdict_or_a_score(rows, function):
    letters, numbers = parts(rows)
    found = meta_rewards(function, letters, numbers)
    assert found.shape == (len(rows),)
    for reward, letter, row in zip(found, letters, numbers, strict=True):
        scored = all(x is not None and math.isfinite(x) for x in row)
        readable = letter in ("A", "B") or (letter == "tie" and function == "direct")
        assert math.isnan(reward) == (not (scored and readable))


@given(table(missing_too), st.sampled_from(FUNCTIONS))
def test_each_rubric_is_rewarded_on_its_own(rows, function):
    letters, numbers = parts(rows)
    alone = [meta_rewards(function, [letter], [row])[0] for letter, row in rows]
    same(meta_rewards(function, letters, numbers), alone)


@pytest.mark.filterwarnings("error")
def test_scores_that_are_no_numbers_warn_of_nothing():
    same(meta_rewards("relative", ["A", "A"], [[0.0, math.inf, 1.0, math.inf], [NAN, 0.0, 1.0, 1.0]]), [NAN, NAN])
    same(direct([math.inf, 1.0], [-math.inf, None]), [NAN, NAN])
    same(confidence([NAN, NAN], 1.0), [0.0, 0.0])
    same(confidence([1e300, -1e300, NAN], 1e-300), [1.0, 0.0, 0.0])


def test_rewards_do_not_touch_what_was_given():
    t1, t2 = np.array([1.0, math.inf]), np.array([2.0, 3.0])
    found = direct(t1, t2)
    found[0] = 9.0
    same(t1, [1.0, math.inf])


# -- ranking and confidence -------------------------------------------------------------------------------------------


def test_ranking_keeps_the_planner_s_order_in_ties_and_puts_none_last():
    assert ranked([0.5, NAN, 2.0, 0.5, NAN, -1.0, 2.0]) == [2, 6, 0, 3, 5, 1, 4]
    assert ranked([NAN, NAN]) == [0, 1]
    assert ranked([]) == []
    many = [0.0, 1.0] * 60  # a sort that is stable for a dozen only would do for ten rubrics, not for these
    assert ranked(many) == [*range(1, 120, 2), *range(0, 120, 2)]


@given(st.lists(st.one_of(st.integers(-3, 3).map(float), st.just(NAN)), max_size=15))
def test_ranking_is_a_permutation_from_best_to_worst(rewards):
    order = ranked(rewards)
    assert sorted(order) == list(range(len(rewards)))
    for before, after in itertools.pairwise(order):
        x, y = rewards[before], rewards[after]
        assert x > y or (before < after and (x == y or math.isnan(x))) or (math.isnan(y) and not math.isnan(x))


def test_confidence_by_hand():
    # m / T = ln 1, ln 2, ln 5: odds 1 : 2 : 5
    found = confidence([0.0, 10 * math.log(2), NAN, 10 * math.log(5)], 10.0)
    np.testing.assert_allclose(found, [1 / 8, 2 / 8, 0.0, 5 / 8], rtol=1e-12)
    same(confidence([], 1.0), [])


@given(
    st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(NAN)), min_size=1, max_size=12),
    st.sampled_from([1e-3, 1.0, 5.0, 10.0]),
)
def test_confidence_is_shared_among_those_with_a_reward(rewards, temperature):
    shares = confidence(rewards, temperature)
    known = [k for k, reward in enumerate(rewards) if not math.isnan(reward)]
    assert math.fsum(shares) == pytest.approx(1.0 if known else 0.0)
    assert all(0.0 <= share <= 1.0 for share in shares)
    assert all(shares[k] == 0.0 for k in range(len(rewards)) if k not in known)
    if known:  # the top rubric is the one we trust most, and the order is that of the rewards
        assert shares[ranked(rewards)[0]] == max(shares)
        in_order = [shares[k] for k in ranked(rewards) if k in known]
        assert in_order == sorted(in_order, reverse=True)


def test_a_higher_temperature_is_less_sure():
    top = [confidence([3.0, 1.0, -2.0], temperature).max() for temperature in (1.0, 5.0, 10.0, 1e9)]
    assert top == sorted(top, reverse=True)
    assert top[0] > 0.87
    assert top[-1] == pytest.approx(1 / 3)


# -- votes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "n", "expected"),
    [
        (["A", "B", "B"], 1, "A"),
        (["A", "B", "B"], 2, "tie"),
        (["A", "B", "B"], 3, "B"),
        (["A", "B", "B"], 9, "B"),  # fewer rubrics than asked for: all of them
        (["tie", "tie", "A"], 3, "A"),  # a tie is for neither side
        (["tie"], 1, "tie"),
        ([None, "A"], 1, None),  # an unread verdict takes its place and is no vote
        ([None, "A"], 2, "A"),
        ([None, None], 2, None),
        ([], 1, None),
    ],
)
def test_vote_at(said, n, expected):
    assert vote_at(said, n) == expected
    assert vote_at(np.array(said, dtype=object), n) == expected


@given(st.lists(verdicts, max_size=12), st.integers(1, 14))
def test_votes_have_no_favourite_side(said, n):
    assert vote_at([OTHER[x] for x in said], n) == OTHER[vote_at(said, n)]


def test_best_of():
    assert [best_of([False, None, True, False], n) for n in (1, 2, 3, 9)] == [False, False, True, True]
    assert best_of(np.array([True, False]), 1) is True
    assert best_of([], 3) is False


@given(st.lists(verdicts, max_size=12), st.integers(1, 12), st.sampled_from(["A", "B"]))
def test_a_right_vote_needs_a_right_verdict(said, n, label):
    correct = [None if x is None else x == label for x in said]
    assert best_of(correct, n) or vote_at(said, n) != label
    assert best_of(correct, n) <= best_of(correct, n + 1)


@pytest.mark.parametrize("length", range(4))
@pytest.mark.parametrize("remaining", range(4))
def test_settled_is_what_trying_all_outcomes_says(length, remaining):
    kinds = ("A", "B", "tie", None)
    for said in itertools.product(kinds, repeat=length):
        now = vote_at(said, 9)
        outcomes = {vote_at(said + more, 9) for more in itertools.product(kinds, repeat=remaining)}
        assert settled(said, remaining) == (outcomes == {now}), said


def test_weighted_vote_by_hand():
    assert weighted_vote(["A", "B", "B"], [3.0, 1.0, 1.0]) == ("A", 0.6)
    assert weighted_vote(["A", "B", "tie"], [1.0, 3.0, 4.0]) == ("B", 0.375)  # (1 + 4/2) / 8
    assert weighted_vote(["A", None, "B"], [1.0, NAN, 3.0]) == ("B", 0.25)  # no verdict: its weight is not looked at
    assert weighted_vote(["tie", None], [2.0, 1.0]) == ("tie", 0.5)
    assert weighted_vote(["A", "A", "A", "B"], [1 / 3, 1 / 3, 1 / 3, 1.0]) == ("tie", 0.5)
    assert weighted_vote(["A", "B"], [1000.1 - 1000.0, 0.1]) == ("tie", 0.5)  # 0.1 but for rounding
    assert weighted_vote(["A", "B"], [1.000001, 1.0])[0] == "A"
    assert weighted_vote(["A", "B", "B"], [0.1, 0.1, 0.2])[0] == "B"
    assert weighted_vote(["A", "B"], [1e308, 1.5e308]) == ("B", pytest.approx(0.4))


@pytest.mark.parametrize(("said", "weights"), [([], []), ([None], [1.0]), (["A", "B"], [0.0, 0.0])])
def test_no_weight_is_no_vote(said, weights):
    assert weighted_vote(said, weights) == (None, None)


@given(st.lists(verdicts, max_size=12))
def test_equal_weights_are_a_plain_vote(said):
    assert weighted_vote(said, [0.7] * len(said))[0] == vote_at(said, 12)


@given(st.lists(st.tuples(verdicts, st.floats(0, 1e6)), max_size=12))
def test_weighted_votes_have_no_favourite_side(pairs):
    said, weights = [x for x, _ in pairs], [w for _, w in pairs]
    letter, share = weighted_vote(said, weights)
    turned, other_share = weighted_vote([OTHER[x] for x in said], weights)
    assert turned == OTHER[letter]
    if share is not None:
        assert 0.0 <= share <= 1.0
        assert other_share == pytest.approx(1 - share)


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", ["a", "[[A]]", "C", "", 0, 1, NAN, True])
def test_what_is_no_verdict_is_refused_and_never_a_tie(letter):
    for attempt in (
        lambda: consistency([letter], [1.0], [1.0], [1.0], [1.0]),
        lambda: relative([letter], [1.0], [1.0], [1.0], [1.0]),
        lambda: meta_rewards("direct", [letter], [[1.0] * 4]),
        lambda: vote_at([letter], 1),
        lambda: settled([letter], 1),
        lambda: weighted_vote([letter], [1.0]),
    ):
        with pytest.raises(ConfigError, match="verdict"):
            attempt()


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: direct([1.0, 2.0], [1.0]),
        lambda: direct([[1.0]], [[1.0]]),
        lambda: relative(["A", "B"], [1.0], [1.0], [1.0], [1.0]),  # one score in a list is not a score for all
        lambda: consistency(["A"], [1.0, 2.0], 0.0, 0.0, 0.0),
        lambda: meta_rewards("consistency", ["A"], [[1.0, 2.0, 3.0]]),
        lambda: meta_rewards("consistency", ["A"] * 4, [[1.0] * 4]),
        lambda: meta_rewards("consistency", [], [[1.0] * 4]),
        lambda: meta_rewards("relativ", ["A"], [[1.0] * 4]),
        lambda: ranked([[1.0, 2.0]]),
        lambda: confidence([1.0], 0.0),
        lambda: confidence([1.0], -1.0),
        lambda: confidence([1.0], NAN),
        lambda: confidence([1.0], math.inf),
        lambda: vote_at(["A"], 0),
        lambda: best_of([True], 0),
        lambda: settled(["A"], -1),
        lambda: weighted_vote(["A", "B"], [1.0]),
        lambda: weighted_vote(["A"], [-1.0]),
        lambda: weighted_vote(["A"], [NAN]),
        lambda: weighted_vote(["A"], [math.inf]),
    ],
)
def test_wrong_arguments_are_refused(attempt):
    with pytest.raises(ConfigError):
        attempt()


# -- the page ---------------------------------------------------------------------------------------------------------


def cells(heading):
    """The rows of the table under a heading of docs/meta-reward.md, without its head."""
    section = PAGE.read_text(encoding="utf-8").split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("−", "-") for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_worked_example_of_the_page():
    rows = cells("One pair, worked through")
    assert len(rows) == 4
    letters = [row[1] for row in rows]
    numbers = [[4.0, 3.0, float(row[2]), float(row[3])] for row in rows]
    for column, function in ((4, "direct"), (5, "relative"), (6, "consistency")):
        same(meta_rewards(function, letters, numbers), [float(row[column].split("=")[-1]) for row in rows])
    shares = confidence(meta_rewards("consistency", letters, numbers), 1.0)
    assert [f"{share:.2f}" for share in shares] == [row[7] for row in rows]
    tops = {name: letters[ranked(meta_rewards(name, letters, numbers))[0]] for name in FUNCTIONS}
    assert tops == {"consistency": "A", "relative": "B", "direct": "B"}
    assert vote_at(letters, 4) == "tie"
    assert weighted_vote(letters, shares) == ("A", pytest.approx(0.57, abs=0.005))


def test_the_table_of_what_has_no_meta_reward():
    rows = cells("Where there is none")
    assert rows
    for what, verdict, t1, t2, *expected in rows:
        letter = None if verdict == "none" else verdict
        row = [4.0, 3.0, *(NAN if t == "missing" else float(t) for t in (t1, t2))]
        for function, text in zip(("direct", "relative", "consistency"), expected, strict=True):
            same(meta_rewards(function, [letter], [row]), [NAN if text == "none" else float(text)])
        assert what
