"""Meta-rewards: what a reward model's scores before and after refinement say about each rubric of one pair.

For rubric strategies, studies and training data. Pure functions on numbers and letters, most of them over all K rubrics
of a pair at once; they know no model, no prompt, no file. Responses are those of the sample's own order: turn verdicts
of the swapped order round first (`omnirm.scoring.aggregate.original_letter`).

Symbols: under rubric k the judge says j = A or B; s1, s2 are the DisRM's scores of the responses A and B as they are,
t1, t2 those of both after a revision by the judge's comments under that rubric. Scores have no unit; where the DisRM is
a Bradley-Terry model, differences are log-odds (nats) and the level means nothing.

No meta-reward is NaN, never 0: for a verdict that could not be read (None), for the verdict `tie` where the function
speaks of "the response judged worse", and where a score is missing (None, NaN or infinite).

Equations: docs/meta-reward.md works one pair through all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omnirm.errors import ConfigError
from omnirm.types import Letter

Function = Literal["consistency", "relative", "direct"]
Verdicts = Sequence[Letter | None] | NDArray[Any]

FUNCTIONS: tuple[Function, ...] = get_args(Function)
_SAME = 1e-12  # shares this near to 1/2 are equal: weights are often differences of rounded numbers


def direct(t1: ArrayLike, t2: ArrayLike) -> NDArray[np.float64]:
    """t1 + t2: how good both responses became.

    Depends on the level of the DisRM's scores, so it ranks rubrics of one pair and compares nothing across pairs.

    Args:
        t1, t2: scores of the refined responses, [K] (or one number for all K).

    Returns:
        [K], within twice the range of the scores; NaN where a score is missing.

    Raises:
        ConfigError: lengths differ.
    """
    refined_a, refined_b = _columns(None, t1, t2)
    return refined_a + refined_b


def relative(verdict: Verdicts, s1: ArrayLike, s2: ArrayLike, t1: ArrayLike, t2: ArrayLike) -> NDArray[np.float64]:
    """How much the response judged worse improved: t2 - s2 if j = A, t1 - s1 if j = B.

    Exchanging A and B everywhere, or adding a constant to all scores, changes nothing.

    Args:
        verdict: j under each rubric, K letters or None.
        s1, s2: scores of the responses as they are, [K] (or one number for all K).
        t1, t2: scores of the refined responses, [K] (or one number for all K).

    Returns:
        [K], each within +-(highest - lowest score); NaN where j is a tie or unread, or one of the four is missing.

    Raises:
        ConfigError: lengths differ, or a verdict is not a letter.
    """
    before, worse, _ = _as_judged(verdict, s1, s2, t1, t2)
    return worse - before


def consistency(verdict: Verdicts, s1: ArrayLike, s2: ArrayLike, t1: ArrayLike, t2: ArrayLike) -> NDArray[np.float64]:
    """The improvement of the response judged worse, if it is still the worse one after refinement; else a penalty.

        j = A, t1 > t2:  t2 - s2        j = A, t1 < t2:  t1 - t2
        j = B, t1 < t2:  t1 - s1        j = B, t1 > t2:  t2 - t1        t1 = t2:  0

    In words: `relative` where the DisRM's order of the refined responses confirms the verdict, -|t1 - t2| where it
    contradicts it, and 0 (our definition; the papers leave it open) where it sees no difference.
    Exchanging A and B everywhere, or adding a constant to all scores, changes nothing.

    Args:
        verdict: j under each rubric, K letters or None.
        s1, s2: scores of the responses as they are, [K] (or one number for all K).
        t1, t2: scores of the refined responses, [K] (or one number for all K).

    Returns:
        [K], each within +-(highest - lowest score); NaN where j is a tie or unread, or one of the four is missing.

    Raises:
        ConfigError: lengths differ, or a verdict is not a letter.
    """
    before, worse, better = _as_judged(verdict, s1, s2, t1, t2)
    return np.where(better > worse, worse - before, better - worse)  # equal: better - worse = 0


def meta_rewards(function: Function, verdicts: Verdicts, scores: ArrayLike) -> NDArray[np.float64]:
    """The meta-reward of each rubric of a pair.

    Every function asks for a readable verdict and all four scores, `direct` too, so that the functions are compared
    on the same rubrics; only a tie verdict has a `direct` reward and no other.

    Args:
        function: `consistency`, `relative` or `direct`.
        verdicts: the verdict under each rubric, K letters or None.
        scores: columns s1, s2, t1, t2, [K, 4]; None or NaN for a score that is missing.

    Returns:
        [K], NaN where there is none.

    Raises:
        ConfigError: an unknown function, a table of another shape, or a verdict that is not a letter.
    """
    if function not in FUNCTIONS:
        raise ConfigError(f"meta-reward {function!r} is unknown; give one of {', '.join(FUNCTIONS)}")
    letters, table = _letters(verdicts), np.asarray(scores, dtype=np.float64)
    if not letters and table.size == 0:
        return np.empty(0)
    if table.shape != (len(letters), 4):
        raise ConfigError(f"{len(letters)} verdicts and scores of shape {table.shape}: give [K, 4] as s1, s2, t1, t2")
    s1, s2, t1, t2 = table.T
    if function == "relative":
        return relative(letters, s1, s2, t1, t2)
    if function == "consistency":
        return consistency(letters, s1, s2, t1, t2)
    known = np.isfinite(table).all(axis=1) & np.array([letter is not None for letter in letters])
    return np.where(known, direct(t1, t2), np.nan)


def ranked(rewards: ArrayLike) -> list[int]:
    """Indices of the rubrics, best first; equal rewards keep the planner's order, those without one come last in it.

    Raises:
        ConfigError: not one row of numbers.
    """
    (row,) = _columns(None, rewards)
    return [int(index) for index in np.argsort(-row, kind="stable")]  # NaN sorts last


def confidence(rewards: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """c_k = exp(m_k / T) / sum_i exp(m_i / T) over the rubrics that have a meta-reward m; 0 for the others.

    It is shared among rubrics, not between A and B: with it as weights, `weighted_vote` gives the share of a response.

    Args:
        rewards: meta-rewards m of one pair's rubrics, [K], NaN for none.
        temperature: T > 0, on the scale of the DisRM's scores; the paper shows 1, 5 and 10.

    Returns:
        [K], each in [0, 1], sum 1; all 0 where no rubric has a meta-reward.

    Raises:
        ConfigError: a temperature that is not a positive finite number, or not one row of rewards.
    """
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ConfigError(
            f"temperature {temperature} of the confidence: give a positive number, for example 1, 5 or 10"
        )
    (row,) = _columns(None, rewards)
    known = ~np.isnan(row)
    if not known.any():
        return np.zeros(row.shape)
    with np.errstate(over="ignore"):  # a tiny temperature: -inf, whose exp is 0
        odds = np.exp((row - np.max(row[known])) / temperature)
    odds[~known] = 0.0
    return odds / odds.sum()


def vote_at(verdicts_ranked: Verdicts, n: int) -> Letter | None:
    """Vote@N: the majority of A and B among the first n rubrics' verdicts.

    n counts what was spent: an unread verdict takes one of the n places and is no vote. A tie verdict is a readable
    one for neither side, so A, tie, tie gives A. All of them count where there are fewer than n.

    Returns:
        `A` or `B`; `tie` for as many A as B (also 0 and 0); None where none of the n could be read.

    Raises:
        ConfigError: n < 1, or a verdict that is not a letter.
    """
    first = _letters(verdicts_ranked)[: _places(n)]
    ahead = first.count("A") - first.count("B")
    if ahead:
        return "A" if ahead > 0 else "B"
    return "tie" if any(first) else None


def best_of(correct_ranked: Sequence[bool | None] | NDArray[np.bool_], n: int) -> bool:
    """Best-of-N: is any of the first n rubrics' verdicts right? None (no verdict, or no label) is not right.

    With a label A or B, `vote_at(..., n)` is right only where this is True: it bounds what any choice among the first n
    can reach, and rises with n.

    Raises:
        ConfigError: n < 1.
    """
    return any(bool(one) for one in list(correct_ranked)[: _places(n)])


def settled(verdicts: Verdicts, remaining: int) -> bool:
    """Can no outcome of `remaining` further rubrics change what `vote_at` says of those so far?

    True where |#A - #B| > remaining: all of them for the side behind would at most draw level, which is a change.

    Raises:
        ConfigError: remaining < 0, or a verdict that is not a letter.
    """
    if remaining < 0:
        raise ConfigError(f"{remaining} rubrics remain: give 0 or more")
    letters = _letters(verdicts)
    return remaining == 0 or abs(letters.count("A") - letters.count("B")) > remaining


def weighted_vote(verdicts: Verdicts, weights: ArrayLike) -> tuple[Letter | None, float | None]:
    """The side with more weight, and share_a = (W_A + W_tie / 2) / (W_A + W_B + W_tie), W_x the weight of verdicts x.

    Equal weights give `vote_at` over all of them. Exchanging A and B gives 1 - share_a.

    Args:
        verdicts: the verdict under each rubric, K letters or None.
        weights: [K], finite and >= 0 where there is a verdict; elsewhere they are not looked at. `confidence`, the
            rubrics' own weights, or |log p(A) - log p(B)| of the verdicts.

    Returns:
        (`A` where share_a > 1/2, `B` where it is < 1/2, `tie` where it is 1/2 but for rounding; share_a in [0, 1]), or
        (None, None) where no readable verdict has any weight.

    Raises:
        ConfigError: a weight that is negative or no number, lengths differ, or a verdict that is not a letter.
    """
    letters, given = _letters(verdicts), np.asarray(weights, dtype=np.float64)
    if given.shape != (len(letters),):
        raise ConfigError(f"{len(letters)} verdicts and weights of shape {given.shape}: give one weight a verdict")
    total: dict[Letter, Fraction] = dict.fromkeys(get_args(Letter), Fraction(0))
    for letter, weight in zip(letters, given.tolist(), strict=True):
        if letter is None:
            continue
        if not (weight >= 0 and math.isfinite(weight)):
            raise ConfigError(f"weight {weight} of a vote: give a finite number, 0 or more")
        total[letter] += Fraction(weight)
    everything = sum(total.values())
    if everything == 0:
        return None, None
    share_a = float((total["A"] + total["tie"] / 2) / everything)
    if abs(share_a - 0.5) <= _SAME:
        return "tie", 0.5
    return ("A" if share_a > 0.5 else "B"), share_a


def _letters(verdicts: Verdicts) -> list[Letter | None]:
    letters: list[Letter | None] = list(verdicts)
    for letter in letters:
        if letter is not None and letter not in get_args(Letter):
            raise ConfigError(f"verdict {letter!r}: give 'A', 'B', 'tie', or None where none could be read")
    return letters


def _columns(count: int | None, *columns: ArrayLike) -> list[NDArray[np.float64]]:
    """Copies of length `count` (None: of the longest column), NaN for every number that is not finite."""
    arrays = [np.asarray(column, dtype=np.float64) for column in columns]
    length = max((array.size for array in arrays if array.ndim), default=1) if count is None else count
    for array in arrays:
        if array.shape not in ((), (length,)):
            raise ConfigError(f"numbers of shape {array.shape} for {length} rubrics: give one for each, or one for all")
    return [np.where(np.isfinite(array), array, np.nan) + np.zeros(length) for array in arrays]


def _as_judged(verdict: Verdicts, *scores: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    """Scores [K] of the response judged worse before and after refinement, and of the other one after it.

    All three are NaN where there is no meta-reward.
    """
    letters = _letters(verdict)
    s1, s2, t1, t2 = columns = _columns(len(letters), *scores)
    says_a, says_b = (np.array([letter == side for letter in letters], dtype=bool) for side in ("A", "B"))
    none = ~(says_a | says_b) | np.isnan(columns).any(axis=0)
    as_judged = (np.where(says_a, s2, s1), np.where(says_a, t2, t1), np.where(says_a, t1, t2))
    return tuple(np.where(none, np.nan, column) for column in as_judged)


def _places(n: int) -> int:
    if n < 1:
        raise ConfigError(f"the first {n} rubrics: give 1 or more")
    return n
