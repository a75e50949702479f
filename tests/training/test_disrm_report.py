"""The reward model's card: accuracy of pairs by what they compare, intervals, coverage, calibration."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence

import pytest

from omnirm.scorers.base import Scored
from omnirm.training.nano.disrm_data import Graded, Response, graded
from omnirm.training.nano.disrm_report import (
    KINDS,
    MENDS,
    Compared,
    compare,
    measure,
    reliability,
    summarise,
    text_report,
)
from omnirm.types import ParseFailure


class GivenScorer:
    """Scores the responses of known rows by a function of the response."""

    name, revision, modalities = "given", "", frozenset({"text"})

    def __init__(self, rows: Sequence[Graded], score: Callable[[Response], float | ParseFailure]) -> None:
        self.scores = [score(r) for row in rows for r in row.responses]

    def score(self, items: Sequence[Scored]) -> list[float | ParseFailure]:
        assert len(items) == len(self.scores)
        return self.scores


def by_grade(r: Response) -> float:
    return 10.0 * r.grade[0] + r.grade[1] - 0.5 * (r.role == "damaged")


ROWS = [graded(seed, "test", "T2T", kind="any" if seed % 4 == 3 else "mended") for seed in range(200)]


def test_a_perfect_scorer_is_right_everywhere_and_a_constant_one_half_of_the_time() -> None:
    perfect = compare(GivenScorer(ROWS, by_grade), ROWS)
    assert len(perfect) == sum(len(row.pairs) for row in ROWS)
    assert {one.kind for one in perfect} == set(KINDS)
    assert {one.mend for one in perfect} == {"", *MENDS}
    assert all(one.right == 1 for one in perfect)
    assert all(one.right == 0.5 for one in compare(GivenScorer(ROWS, lambda _: 1.0), ROWS))
    assert all(one.right == 0 for one in compare(GivenScorer(ROWS, lambda r: -by_grade(r)), ROWS))


def test_a_scorer_that_counts_right_attributes_fails_where_it_matters() -> None:
    found = compare(GivenScorer(ROWS, lambda r: float(sum(r.grade))), ROWS)
    sound = [one for one in found if one.kind != "damaged"]
    assert all(one.right == 1 for one in sound if not one.decisive)
    assert not all(one.right == 1 for one in sound if one.decisive)
    assert all(one.right == 1 for one in sound if one.kind == "refined" and one.mend.endswith("other"))


def test_what_could_not_be_scored_is_wrong_and_missing_from_coverage() -> None:
    def score(r: Response) -> float | ParseFailure:
        return ParseFailure("capability", "x") if r.role == "B" else by_grade(r)

    found = compare(GivenScorer(ROWS, score), ROWS)
    candidates = summarise("T2T", "candidates", [one for one in found if one.kind == "candidates"])
    assert (candidates.accuracy, candidates.coverage, candidates.pairs) == (0.0, 0.0, len(ROWS))
    row = summarise("T2T", "all", found)
    assert 0 < row.coverage < 1
    assert row.accuracy == pytest.approx(row.coverage)


def one(request: str, margin: float | None) -> Compared:
    return Compared(request, "other", "", True, margin, True)


def test_accuracy_is_over_pairs_and_its_interval_over_requests() -> None:
    row = summarise("x", "y", [one("a", 1.0), one("a", 2.0), one("a", -1.0), one("b", 0.0)])
    assert (row.requests, row.pairs) == (2, 4)
    assert row.accuracy == pytest.approx(2.5 / 4)
    assert row.margin == pytest.approx(0.5)
    assert (row.low, row.high) == pytest.approx((0.5, 2 / 3)), "either request alone"
    many = [one(str(i), 1.0 if i % 5 else -1.0) for i in range(500)]
    row = summarise("x", "y", many)
    assert row.high - row.low == pytest.approx(2 * 1.96 * math.sqrt(0.8 * 0.2 / 500), rel=0.2)
    assert row.low < row.accuracy < row.high
    assert summarise("x", "y", many) == row, "seeded"


def test_calibration_by_hand() -> None:
    even = math.log(0.75 / 0.25)  # P = 0.75
    bins, error = reliability([even] * 4 + [-even] * 2, [True, True, True, False, False, True])
    assert [(b.low, b.high, b.pairs) for b in bins] == [(0.2, 0.3, 2), (0.7, 0.8, 4)]
    assert [b.predicted for b in bins] == pytest.approx([0.25, 0.75])
    assert [b.observed for b in bins] == pytest.approx([0.5, 0.75])
    assert error == pytest.approx(2 / 6 * 0.25)


def test_calibration_at_the_ends() -> None:
    bins, error = reliability([1e9, -1e9, 0.0], [True, False, True])
    assert [b.pairs for b in bins] == [1, 1, 1]
    assert error == pytest.approx(0.5 / 3)
    assert reliability([], []) == ((), 0.0)
    assert reliability([1e9], [False])[1] == pytest.approx(1.0)


def test_the_whole_report_of_a_scorer_that_likes_long_answers() -> None:
    class Long:
        name, revision, modalities = "long", "", frozenset({"text"})

        def score(self, items: Sequence[Scored]) -> list[float | ParseFailure]:
            return [
                float(len(i.response[0].value)) if i.response[0].type == "text" else ParseFailure("capability")
                for i in items
            ]

    report = measure(Long(), 8)
    families = {row.family for row in report.rows}
    assert {"T2T", "T2I", "T2I in words", "all in text", "all with media"} <= families
    assert "T2T in words" not in families
    shown = next(row for row in report.rows if (row.family, row.group) == ("T2I", "candidates"))
    assert (shown.coverage, shown.accuracy) == (0.0, 0.0)
    spoken = next(row for row in report.rows if (row.family, row.group) == ("T2I in words", "candidates"))
    assert spoken.coverage == 1
    assert 0 <= report.ece <= 1
    text = text_report(report)
    assert "| T2T | candidates | 8 | 8 |" in text
    assert "Expected calibration error" in text
    from dataclasses import asdict

    assert json.loads(json.dumps(asdict(report)))["rows"][0]["family"] == "T2T"
