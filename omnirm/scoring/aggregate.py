"""From many readings of one sample to one answer: votes of both orders, margins, confidence, mean scores.

For the judge. Pure functions on numbers and letters; it knows no model, no prompt, no file. Everything is expressed
in the sample's own order (first candidate = A): turn a reading of the swapped order round with `original_letter` and
`original_margin` first. A reading that failed is not a vote of any kind: it only counts in `asked`.

Symbols: o is an order of showing the candidates ("AB" or "BA"), k a sample of the model in that order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from omnirm.errors import ConfigError
from omnirm.types import Letter

Order = Literal["AB", "BA"]
DecidedBy = Literal["votes", "margin", "tie_band", "nothing"]

MAX_MARGIN = 60.0  # nats; beyond that a margin says no more, and infinities must not enter means or JSON
_OTHER: dict[Letter, Letter] = {"A": "B", "B": "A", "tie": "tie"}
_LETTERS: tuple[Letter, ...] = ("A", "B", "tie")


@dataclass(frozen=True, slots=True)
class Vote:
    """One readable verdict in the sample's own order. `margin` is log p(A) - log p(B) in nats, also in that order."""

    order: Order
    letter: Letter
    margin: float | None = None


@dataclass(frozen=True, slots=True)
class PairAggregate:
    """The answer of all votes on a pair. Everything is None (or empty) where there is nothing to tell it from.

    verdict: `A`, `B` or `tie`; None when no vote could be read.
    probability_a: P(the first candidate is better), in [0, 1].
    confidence: the probability of the candidate that the verdict names, in [0, 1]; for a tie that of the likelier
        one. Below 0.5 means that the votes and the log-probabilities contradict each other.
    margin: mean of log p(A) - log p(B), nats.
    position_consistent: do both orders name the same candidate? None where one of them has no verdict.
    order_verdicts: the majority of each order, None where nothing could be read in it.
    votes: how many readings said A, B, tie.
    coverage: votes / calls asked, in [0, 1].
    decided_by: `votes` (one letter had the largest share), `margin` (equal shares, log-probabilities decided),
        `tie_band`, or `nothing` (equal shares and nothing to decide by: a tie; or no vote at all).
    """

    verdict: Letter | None
    probability_a: float | None
    confidence: float | None
    margin: float | None
    position_consistent: bool | None
    order_verdicts: tuple[tuple[Order, Letter | None], ...]
    votes: tuple[tuple[Letter, int], ...]
    coverage: float
    decided_by: DecidedBy


@dataclass(frozen=True, slots=True)
class ScoreAggregate:
    """The mean of the scores that could be read. `mean` and `spread` are None where none could; `coverage` = read /
    asked."""

    mean: float | None
    spread: float | None
    coverage: float


def original_letter(letter: Letter, order: Order) -> Letter:
    """The verdict in the sample's own order: in "BA" the candidate shown as A is the sample's B."""
    return letter if order == "AB" else _OTHER[letter]


def original_margin(margin: float | None, order: Order) -> float | None:
    """The margin in the sample's own order, clipped to +-`MAX_MARGIN`: m for "AB", -m for "BA". NaN becomes None."""
    if margin is None or math.isnan(margin):
        return None
    clipped = max(-MAX_MARGIN, min(MAX_MARGIN, margin))
    return clipped if order == "AB" else 0.0 - clipped


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), in [0, 1], without overflow."""
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    e = math.exp(x)
    return e / (1.0 + e)


def majority(letters: Sequence[Letter]) -> Letter | None:
    """The letter that occurs most often; `tie` when the first place is shared; None for no letters at all.

    Examples: A A B -> A; A B -> tie; A tie -> tie; A A tie tie B -> tie.
    """
    if not letters:
        return None
    counts = {letter: sum(1 for one in letters if one == letter) for letter in _LETTERS}
    top = [letter for letter, n in counts.items() if n == max(counts.values())]
    return top[0] if len(top) == 1 else "tie"


def vote_shares(votes: Sequence[Vote]) -> dict[Letter, Fraction]:
    """Share of each letter: the mean over orders of its share within the order, so that both orders weigh the same.

    share(x) = mean_o( n_o(x) / n_o ), over the orders that have votes. Exact fractions; they sum to 1 (all 0 for no
    votes).
    """
    per_order = _by_order(votes)
    shares: dict[Letter, Fraction] = {}
    for letter in _LETTERS:
        within = [Fraction(sum(1 for v in group if v.letter == letter), len(group)) for group in per_order]
        shares[letter] = sum(within, Fraction(0)) / len(within) if within else Fraction(0)
    return shares


def mean_margin(votes: Sequence[Vote]) -> float | None:
    """mean_o( mean_k( m_ok ) ), nats; None unless every vote carries a margin.

    A model that adds a constant b for whatever stands first gives m_AB = d + b and m_BA = d - b: the mean over orders
    is d, so the preference for a position cancels. With margins for a part of the votes it would not, hence the
    condition.
    """
    if not votes or any(v.margin is None for v in votes):
        return None
    means = [math.fsum(v.margin or 0.0 for v in group) / len(group) for group in _by_order(votes)]
    return math.fsum(means) / len(means)


def aggregate_pair(
    votes: Sequence[Vote], *, asked: int, orders: Sequence[Order] = ("AB", "BA"), tie_band: float | None = None
) -> PairAggregate:
    """Joins the votes of k samples in one or both orders.

    1. Verdict: the letter with the largest share (`vote_shares`). Where the first place is shared (both orders
       disagree, or the
       samples split evenly), the mean margin decides among those that share it: A if it is > 0, B if it is < 0; without
       log-probabilities, or with a margin of 0, the verdict is a tie.
    2. P(A) = sigmoid(mean margin); without log-probabilities share(A) + share(tie) / 2.
    3. Tie band: where |P(A) - 1/2| < tie_band the verdict becomes a tie.
    4. Confidence: P(A) for A, 1 - P(A) for B, max(P(A), 1 - P(A)) for a tie.

    Exchanging the candidates (every vote's letter and margin turned round) exchanges A and B in the answer and
    changes nothing else.

    Args:
        votes: the readings that could be parsed, in the sample's own order.
        asked: number of calls made, >= len(votes).
        orders: the orders in which the sample was shown.
        tie_band: half width of the band of P(A) around 1/2 that counts as a tie, in [0, 0.5]; None for no band.

    Raises:
        ConfigError: a tie band outside its range, or fewer calls than votes.
    """
    check_tie_band(tie_band)
    if asked < len(votes):
        raise ConfigError(f"{len(votes)} votes from {asked} calls: `asked` counts every call, also those that failed")
    counts = tuple((letter, sum(1 for v in votes if v.letter == letter)) for letter in _LETTERS)
    per_order = tuple((order, majority([v.letter for v in votes if v.order == order])) for order in orders)
    coverage = len(votes) / asked if asked else 0.0
    if not votes:
        return PairAggregate(None, None, None, None, None, per_order, counts, coverage, "nothing")

    shares, margin = vote_shares(votes), mean_margin(votes)
    verdict, decided_by = _decide(shares, margin)
    probability_a = float(shares["A"] + shares["tie"] / 2) if margin is None else sigmoid(margin)
    probability_b = float(shares["B"] + shares["tie"] / 2) if margin is None else sigmoid(-margin)
    leading = max(probability_a, probability_b)
    if tie_band is not None and verdict != "tie" and leading - 0.5 < tie_band:
        verdict, decided_by = "tie", "tie_band"
    return PairAggregate(
        verdict=verdict,
        probability_a=probability_a,
        confidence={"A": probability_a, "B": probability_b, "tie": leading}[verdict],
        margin=margin,
        position_consistent=_consistency([letter for _, letter in per_order]),
        order_verdicts=per_order,
        votes=counts,
        coverage=coverage,
        decided_by=decided_by,
    )


def aggregate_scores(scores: Sequence[float], *, asked: int) -> ScoreAggregate:
    """Mean and spread of the scores that could be read: mean = sum(x) / n, spread = sqrt(sum((x - mean)^2) / n).

    Raises:
        ConfigError: fewer calls than scores.
    """
    if asked < len(scores):
        raise ConfigError(f"{len(scores)} scores from {asked} calls: `asked` counts every call, also those that failed")
    coverage = len(scores) / asked if asked else 0.0
    if not scores:
        return ScoreAggregate(None, None, coverage)
    mean = min(max(math.fsum(scores) / len(scores), min(scores)), max(scores))  # rounding must not leave the range
    return ScoreAggregate(mean, math.sqrt(math.fsum((x - mean) ** 2 for x in scores) / len(scores)), coverage)


def two_way_probability(logprob_yes: float, logprob_no: float) -> float:
    """P(yes) = p_yes / (p_yes + p_no) = sigmoid(log p_yes - log p_no), in [0, 1] (DWRL's score)."""
    return sigmoid(logprob_yes - logprob_no)


def check_tie_band(tie_band: float | None) -> None:
    """Raises `ConfigError` for a tie band outside [0, 0.5]."""
    if tie_band is not None and not 0.0 <= tie_band <= 0.5:
        raise ConfigError(
            f"tie band {tie_band}: it is the half width of a band of probability around 0.5; give 0 to 0.5"
        )


def _by_order(votes: Sequence[Vote]) -> list[list[Vote]]:
    groups = [[v for v in votes if v.order == order] for order in ("AB", "BA")]
    return [group for group in groups if group]


def _decide(shares: dict[Letter, Fraction], margin: float | None) -> tuple[Letter, DecidedBy]:
    top = [letter for letter in _LETTERS if shares[letter] == max(shares.values())]
    if len(top) == 1:
        return top[0], "votes"
    if margin is not None and margin > 0 and "A" in top:
        return "A", "margin"
    if margin is not None and margin < 0 and "B" in top:
        return "B", "margin"
    return "tie", "nothing" if margin is None else "margin"


def _consistency(verdicts: Sequence[Letter | None]) -> bool | None:
    if len(verdicts) < 2 or None in verdicts:
        return None
    return verdicts[0] == verdicts[1]
