"""Rubrics from a preference: kept where judging by them leads back to the label."""

from __future__ import annotations

import pytest
from scripted_rubrics import judge, model, names, pair, section, user_text, writes

from omnirm.backends.scripted import ScriptedBackend
from omnirm.errors import ConfigError
from omnirm.judge import Judge
from omnirm.rubrics.base import Planner
from omnirm.rubrics.contrastive import ContrastivePlanner
from omnirm.types import Completion, Rubric


def planner(backend: ScriptedBackend, **options) -> ContrastivePlanner:
    return ContrastivePlanner(backend, judge(backend), **options)


def test_a_rubric_is_kept_only_if_judging_by_it_gives_the_label() -> None:
    # the judge prefers the response with the rubric's name in it; both or none is a tie
    backend = model(contrast=writes("Plum (rule): x", "Pear (principle): y", "Apple: z", "Quince: in neither"))
    (one,) = planner(backend).plan([pair("apple and pear", "apple and plum", label=1)])
    assert one.rubrics == (Rubric("Plum", "x", source="hard_rule"),)
    assert [(rubric.name, why) for rubric, why in one.dropped] == [
        ("Pear", "judging by it gives A, the label is B"),
        ("Apple", "judging by it gives tie, the label is B"),
        ("Quince", "judging by it gives tie, the label is B"),
    ]
    assert one.failure is None
    assert len(one.calls) == 1 + 4 * 2
    assert backend.batches == [1, 8]


@pytest.mark.parametrize(
    ("written", "name", "source"),
    [
        ("Plum (rule): x", "Plum", "hard_rule"),
        ("Plum (Rule): x", "Plum", "hard_rule"),
        ("Plum [hard rule]: x", "Plum", "hard_rule"),
        ("Plum(principle): x", "Plum", "principle"),
        ("**Plum** (principle): x", "Plum", "principle"),
        ("Plum: the golden rule", "Plum", "principle"),
        ("Plum (ripe): x", "Plum (ripe)", "principle"),
    ],
)
def test_the_kind_becomes_the_source(written: str, name: str, source: str) -> None:
    backend = model(contrast=writes(written), judge=lambda request: "A]]" if _plum_first(request) else "B]]")
    (one,) = planner(backend).plan([pair("plum", "pear", label=0)])
    assert [(rubric.name, rubric.source) for rubric in one.rubrics] == [(name, source)]


def _plum_first(request) -> bool:
    return "plum" in section(request, "response A")


def test_kinds_do_not_hide_a_repetition_and_the_label_must_not_be_told() -> None:
    backend = model(contrast=writes("Plum (rule): x", "Plum (principle): y", "Pear: the preferred response has it"))
    (one,) = planner(backend).plan([pair("plum", "pear")])
    assert names(one.rubrics) == ["Plum"]
    assert sorted(why for _, why in one.dropped) == ["names a response", "repeats Plum"]


def test_the_label_is_shown_to_the_writer_and_never_to_the_judge() -> None:
    backend = model(contrast=writes("Plum"))
    planner(backend).plan([pair("plum", "pear")])
    writer, *judges = backend.requests
    assert "preferred" in user_text(writer)
    assert all("preferred" not in user_text(one) for one in judges)
    assert section(writer, "preferred response") == "plum"
    assert len(judges) == 2


def test_each_rubric_is_tried_alone_and_with_a_weight() -> None:
    backend = model(contrast=writes("Plum", "Pear"))
    planner(backend).plan([pair("plum", "pear", rubrics=["Other"])])
    assert [section(one, "rubrics") for one in backend.requests[1:]] == ["1. Plum"] * 2 + ["1. Pear"] * 2


def test_no_label_a_tie_and_no_pair_are_unsuitable() -> None:
    backend = model(contrast=writes("Plum"))
    three = pair("a", "b").from_dict({"id": "t", "prompt": "q", "candidates": ["a", "b", "c"], "label": 0})
    done = planner(backend).plan([pair("a", "b", None), pair("a", "b", "tie"), three, pair("plum", "b")])
    assert [one.failure and one.failure.reason for one in done] == ["unsuitable"] * 3 + [None]
    assert names(done[3].rubrics) == ["Plum"]
    assert backend.batches == [1, 2]


def test_where_no_rubric_leads_back_that_is_a_failure() -> None:
    backend = model(contrast=writes("Pear", "Quince"))
    (one,) = planner(backend).plan([pair("plum", "pear")])
    assert one.rubrics == ()
    assert (one.failure.reason, len(one.dropped)) == ("missing", 2)
    assert "none of 2" in one.failure.detail


def test_a_judgment_that_fails_drops_its_rubric_with_the_reason() -> None:
    broken = lambda request: Completion("", "error", error="out of memory")  # noqa: E731
    backend = model(contrast=writes("Plum"), judge=broken)
    (one,) = planner(backend).plan([pair("plum", "pear")])
    assert one.dropped == (
        (Rubric("Plum", source="principle"), "could not be judged by: backend_error: out of memory"),
    )


def test_nothing_written_nothing_judged() -> None:
    backend = model(contrast=lambda request: "garbage")
    (one,) = planner(backend).plan([pair("plum", "pear")])
    assert one.failure.reason == "truncated"
    assert backend.batches == [1]


def test_a_judge_with_rubrics_of_its_own_is_refused() -> None:
    backend = model()
    with pytest.raises(ConfigError, match="rubrics of its own"):
        ContrastivePlanner(backend, Judge(backend, rubrics=[Rubric("X")]))
    with pytest.raises(ConfigError, match="count 0"):
        planner(backend, count=0)
    assert isinstance(planner(backend), Planner)
