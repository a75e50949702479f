"""Figures of runs: worked by hand, against SciPy, and in their limits."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from omnirm.app.runs.facts import RowFacts
from omnirm.app.runs.statistics import compare, mcnemar, mean_share, modality_group, share, summarise


def row(
    id: str, verdict: str | None = "A", label: str | None = "A", confidence: float | None = 0.8, **more
) -> RowFacts:
    correct = None if verdict is None or label is None else verdict == label
    return RowFacts(id, "pairwise", verdict, label, confidence, correct, **more)


@pytest.mark.parametrize(("count", "of"), [(0, 1), (1, 1), (3, 10), (0, 40), (40, 40), (4_321, 50_000)])
def test_wilson_intervals_are_scipys(count, of):
    found, known = share(count, of), binomtest(count, of).proportion_ci(method="wilson")
    assert (found.value, found.count, found.of) == (count / of, count, of)
    assert (found.low, found.high) == (pytest.approx(known.low, abs=1e-12), pytest.approx(known.high, abs=1e-12))
    assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize(("a", "b"), [(0, 0), (1, 0), (5, 5), (2, 11), (90, 60), (12_000, 12_400)])
def test_mcnemar_is_scipys_exact_test(a, b):
    known = binomtest(a, a + b).pvalue if a + b else 1.0
    assert mcnemar(a, b) == pytest.approx(known, rel=1e-6)


def test_nothing_has_no_share():
    assert share(0, 0) is None
    assert mean_share([]) is None
    found = summarise([], [])
    assert (found.rows, found.accuracy, found.coverage, found.consistency, found.calibration_error) == (0, *[None] * 4)


def test_the_bootstrap_of_zeros_and_ones_is_near_wilson():
    found, wilson = mean_share([1.0] * 300 + [0.0] * 700), share(300, 1000)
    assert found.value == pytest.approx(0.3)
    assert found.low == pytest.approx(wilson.low, abs=0.01)
    assert found.high == pytest.approx(wilson.high, abs=0.01)
    assert mean_share([0.5] * 4) == mean_share([0.5] * 4)
    assert (mean_share([0.5] * 4).low, mean_share([0.5] * 4).high) == (0.5, 0.5)


def test_a_summary_by_hand():
    facts = [
        row("a", "A", "A", 0.95, in_both_orders=1, agreeing=1, prompt_tokens=10, completion_tokens=1, calls=2),
        row("b", "B", "A", 0.91, in_both_orders=1, agreeing=0, prompt_tokens=20, completion_tokens=2, calls=2),
        row("c", "tie", "tie", 0.5, in_both_orders=1, agreeing=1),
        row("d", None, "B", None, reason="truncated"),
        row("e", "B", None, 0.55),
        row("f", "tie", "A", 1.0),
    ]
    kinds = [("text",), ("text", "image"), ("text", "image"), ("image", "audio"), ("text",), ()]
    found = summarise(facts, kinds)
    assert (found.rows, found.judged, found.labelled) == (6, 5, 5)
    assert (found.accuracy.count, found.accuracy.of) == (2, 5)  # unread and a tie on A are not right
    assert (found.accuracy_read.count, found.accuracy_read.of) == (2, 4)
    assert (found.coverage.count, found.coverage.of) == (5, 6)
    assert found.consistency.value == pytest.approx(2 / 3)
    assert {name: (one.count, one.of) for name, one in found.by_modality} == {
        "image": (1, 2), "text": (1, 1), "image + audio": (0, 1),
    }  # fmt: skip
    assert found.verdicts == (("A", 1), ("B", 2), ("tie", 2), ("unread", 1))
    assert found.labels == (("A", 3), ("B", 1), ("tie", 1))
    top, middle = found.bins[9], found.bins[5]
    assert (top.right, top.wrong, top.unlabelled) == (1, 2, 0)
    assert top.mean == pytest.approx((0.95 + 0.91 + 1.0) / 3)
    assert (middle.right, middle.wrong, middle.unlabelled) == (1, 0, 1)
    gap = 3 / 4 * (top.mean - 1 / 3) + 1 / 4 * (1 - 0.5)
    assert found.calibration_error == pytest.approx(gap)
    assert (found.calls, found.prompt_tokens, found.completion_tokens) == (4, 30, 3)
    assert found.tokens_by_row == (11, 22, 0, 0, 0, 0)
    assert found.reasons == (("truncated", 1),)


def test_consistency_of_many_readings_is_a_mean_over_rows():
    found = summarise([row("a", in_both_orders=10, agreeing=5), row("b", in_both_orders=2, agreeing=2)], [(), ()])
    assert found.consistency.value == pytest.approx(0.75)


def test_comparing_is_the_other_way_round_the_other_way_round():
    a = [row("1"), row("2", "B"), row("3"), row("4", None), row("5", label=None), row("6"), row("6", "B")]
    b = [row("5", "B", None), row("4", "B"), row("3", "B"), row("2"), row("1"), row("7")]
    there, back = compare(a, b), compare(b, a)
    assert (there.both_right, there.only_a, there.only_b, there.neither) == (1, 1, 1, 1)
    assert (back.only_a, back.only_b) == (there.only_b, there.only_a)
    assert there.difference.value == -back.difference.value == 0
    assert (there.in_both, there.alone_a, there.alone_b, there.repeated) == (5, 1, 1, 1)
    assert there.same_verdict == 1
    assert {one.sample_id for one in there.differing} == {"2", "3", "4", "5"}


def test_runs_without_labels_or_common_samples():
    found = compare([row("1", label=None)], [row("1", "B", None)])
    assert (found.labelled, found.difference, found.p_value, len(found.differing)) == (0, None, None, 1)
    assert compare([row("1")], [row("2")]).in_both == 0


def test_groups_of_modalities():
    assert [modality_group(one) for one in ((), ("text",), ("text", "image"), ("video", "audio"))] == [
        "text", "text", "image", "video + audio",
    ]  # fmt: skip
