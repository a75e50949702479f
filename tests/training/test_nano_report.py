"""The model card's figures: means in their intervals, what could not be read counted as wrong, coverage beside it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from omnirm.backends.scripted import ScriptedBackend, prompt_text, say
from omnirm.judge import Judge
from omnirm.nano.world import FAMILIES, preference
from omnirm.training.nano.report import FORMATS, MODALITY, Row, measure, pair_figures, summarise, table

READ, UNREAD = (1.0, 1.0, True, [True, True]), (0.0, 0.0, None, [])


def test_figures_by_hand() -> None:
    row = summarise(
        "T2I", "pairwise", [(1.0, 1.0, True, [True]), (0.5, 1.0, False, [True, False]), (0.0, 0.5, None, [])]
    )
    assert (row.name, row.format, row.pairs) == ("T2I", "pairwise", 3)
    assert row.accuracy == pytest.approx(0.5)
    assert row.coverage == pytest.approx(2.5 / 3)
    assert row.consistency == pytest.approx(0.5), "of the two pairs that were read in both orders"
    assert row.rubric == pytest.approx(2 / 3)
    assert row.low <= row.accuracy <= row.high


def test_what_could_not_be_read_is_wrong_and_is_missing_from_coverage() -> None:
    row = summarise("x", "pairwise-thinking", [READ] * 3 + [UNREAD])
    assert (row.accuracy, row.coverage) == (0.75, 0.75)
    assert (row.consistency, row.rubric) == (1.0, 1.0), "of those that were read"


@pytest.mark.parametrize(("good", "bad"), [(10, 0), (0, 10)])
def test_figures_without_spread_have_an_interval_of_one_point(good: int, bad: int) -> None:
    row = summarise("x", "pairwise", [READ] * good + [UNREAD] * bad)
    assert row.low == row.accuracy == row.high == good / 10


def test_the_interval_holds_the_mean_is_seeded_and_shrinks_with_more_pairs() -> None:
    few, many = ([READ] * 8 * n + [UNREAD] * 2 * n for n in (1, 40))
    small, large = summarise("x", "pairwise", few), summarise("x", "pairwise", many)
    for row in (small, large):
        assert 0 <= row.low < row.accuracy < row.high <= 1
    assert large.high - large.low < (small.high - small.low) / 3
    assert summarise("x", "pairwise", many) == large
    assert large.high - large.low == pytest.approx(2 * 1.96 * (0.8 * 0.2 / 400) ** 0.5, rel=0.15)


def judged(script: Any, format_name: str, n: int = 6) -> list[tuple[float, float, bool | None, list[bool]]]:
    pairs = [preference(seed, "test", "T2T") for seed in range(n)]
    judgments = Judge(ScriptedBackend(script), format=format_name, orders=2).compare([p.sample for p in pairs])
    return [pair_figures(j, p) for j, p in zip(judgments, pairs, strict=True)]


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_judge_with_a_favourite_place_is_right_half_of_the_time_and_never_consistent(format_name: str) -> None:
    for accuracy, coverage, consistent, rubrics in judged(say("A"), format_name):
        assert (accuracy, coverage, consistent) == (0.5, 1.0, False)
        assert rubrics == ([False, False] if format_name == "pairwise-thinking" else [])


def test_a_judge_that_mumbles_is_wrong_with_no_coverage() -> None:
    for figures in judged(lambda _: "well", "pairwise"):
        assert figures == (0.0, 0.0, None, [])


def test_a_judge_that_is_read_in_one_order_only_has_half_of_each() -> None:
    def answer(request: Any) -> str:
        text = prompt_text(request)
        shown = text.partition(" response A\n")[2].partition("\n# ")[0].strip()
        return "A]]" if shown == right else "..."

    pair = preference(1, "test", "T2T")
    right = pair.sample.candidates[int(pair.sample.label)].parts[0].value  # type: ignore[arg-type]
    (judgment,) = Judge(ScriptedBackend(answer), format="pairwise", orders=2).compare([pair.sample])
    assert pair_figures(judgment, pair) == (0.5, 0.5, None, [])


def test_a_right_criterion_is_counted_whatever_its_case() -> None:
    pair = preference(1, "test", "T2T")

    def answer(request: Any) -> str:
        key = request.messages[-1].parts[0].value.split()[1]
        return (
            f"<criteria 1>{pair.attribute.upper()}. Text.<Judge A>a</Judge A><Judge B>b</Judge B>A</criteria 1>"
            f"</think>\nVerdict {key}: [[A]]"
        )

    (judgment,) = Judge(ScriptedBackend(answer), format="pairwise-thinking", orders=2).compare([pair.sample])
    assert pair_figures(judgment, pair)[3] == [True, True]


def test_families_and_modalities_are_measured_in_every_format() -> None:
    backend = ScriptedBackend(say("B"))
    rows = measure(backend, pairs=2)
    assert [(r.name, r.format) for r in rows] == [(n, f) for f in FORMATS for n in (*FAMILIES, *MODALITY)]
    assert len(backend.requests) == len(FORMATS) * len(FAMILIES) * 2 * 2
    for row in rows:
        assert row.pairs == 2 * (len(MODALITY[row.name]) if row.name in MODALITY else 1)
        assert (row.accuracy, row.coverage, row.consistency) == (0.5, 1.0, 0.0)
        assert json.dumps([row.accuracy, row.rubric])
    assert sorted(f for families in MODALITY.values() for f in families) == sorted(FAMILIES)


def test_the_table_is_markdown_in_percent() -> None:
    rows = [
        Row("T2I", "pairwise", 200, 0.9125, 0.88, 0.9416, 1.0, 0.965, None),
        Row("image", "pairwise-thinking", 600, 0.75, 0.7, 0.8, 0.985, 0.5, 0.333),
    ]
    head, line, first, second = table(rows).splitlines()
    assert head.count("|") == line.count("|") == first.count("|") == second.count("|")
    assert first == "| T2I | verdict alone | 200 | 91.2 [88.0, 94.2] | 100.0 | 96.5 |  |"
    assert second == "| image | thinking | 600 | 75.0 [70.0, 80.0] | 98.5 | 50.0 | 33.3 |"
