"""Lessons of the steps around a judgment, read by the formats' own parsers: points, plans, choices, refined texts."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from nano_reading import (
    CHATTER,
    KEPT_FOR_TEST,
    KEPT_FOR_VALIDATION,
    items_of,
    pair_of,
    scenes_of,
    told,
    values_of,
)
from nano_tasks import KINDS, Answered, Task, criteria_in, kind_of, read, said_of

from omnirm.nano.lessons import Mix, lesson
from omnirm.nano.scenes import ATTRIBUTES
from omnirm.nano.world import preference
from omnirm.parsing.planning import RubricPlan
from omnirm.parsing.refinement import Refinement
from omnirm.parsing.selection import Selection
from omnirm.prompts.rubric_steps import RefinementFormat
from omnirm.types import Part, PointScore

REFINING = Mix(**dict.fromkeys(KINDS, 0.0) | {"refinement": 1.0})


def test_points_follow_the_criteria(found: Answered) -> None:
    listed: set[tuple[str, int]] = set()
    fitting: set[tuple[str, bool]] = set()
    for task, answer, row in [*found["text_points"], *found["media_points"]]:
        assert isinstance(answer, PointScore), answer
        values = task.values["response"]
        right = [values.get(name) == value for name, value in task.criteria]
        each = [9.0 if fits else 2.0 for fits in right]
        assert abs(answer.total - sum(each) / len(each)) <= 0.5
        assert answer.total == int(answer.total)
        if task.listed or row.prefill == "<think>":
            assert [(r.name, r.text, score) for r, score in answer.scores] == [
                (name, f"the {name} should be {value}.", score)
                for (name, value), score in zip(task.criteria, each, strict=True)
            ]
        if row.prefill == "<think>":
            lines = [f"{name}: {said_of(values, name, value)}" for name, value in task.criteria]
            assert answer.thinking.strip().split("\n") == answer.analysis.strip().split("\n") == lines
        listed.add((kind_of(row), len(task.listed)))
        fitting.add((kind_of(row), all(right)))
    assert listed == {("text_points", n) for n in range(3)} | {("media_points", n) for n in range(5)}
    assert fitting == {(kind, fits) for kind in ("text_points", "media_points") for fits in (True, False)}


def test_a_plan_is_read_as_all_that_was_asked_for_what_the_request_wants_before_all_else(found: Answered) -> None:
    first = rounds = extensions = foreign = 0
    for task, answer, _ in found["planning"]:
        assert isinstance(answer, RubricPlan), answer
        assert (answer.short, answer.repeated) == (0, 0)
        existing = [name for name, _ in criteria_in(task.text.get("criteria", ""))]
        names = [rubric.name for rubric in answer.rubrics]
        own = [name for name in names if name in task.wanted]
        assert names[: len(own)] == own
        assert len(own) == min(answer.asked, len(set(task.wanted) - set(existing)))
        for rubric in answer.rubrics:
            value = re.fullmatch(rf"the {rubric.name} should be (\w+)\.", rubric.text)
            assert value
            if rubric.name in task.wanted:
                assert value[1] == task.wanted[rubric.name]
            else:
                assert any(value[1] in kind.get(rubric.name, ()) for kind in ATTRIBUTES.values())
                foreign += 1
        if existing:
            extensions += 1
            assert 1 <= len(existing) <= 3
        else:
            rounds += 1
            first += names[0] == task.matters
    assert extensions > 30
    assert foreign > 100
    assert 0.5 < first / rounds < 0.8, "what matters most tends to come first"


def test_the_selected_criterion_is_the_one_that_the_request_says_matters(found: Answered) -> None:
    places: Counter[int] = Counter()
    for task, answer, _ in found["selection"]:
        assert isinstance(answer, Selection), answer
        assert task.listed[answer.index] == (task.matters, task.wanted[task.matters])
        assert len({name for name, _ in task.listed}) == len(task.listed)
        assert task.verdict(*task.listed[answer.index]) != "tie"
        places[answer.index] += 1
    assert len(places) >= 6
    assert places[0] < 0.5 * places.total(), "not by its place"


def turned(text: str, task: Task) -> tuple[Any, ...]:
    """How a response says what it says: stand-in or not, its style, and which items a list has."""
    bare = re.sub(r"^\((picture|clip|tune): (.*)\)$", r"\2", text)
    if "correctness" in task.wanted:
        return ()
    if "completeness" in task.wanted:
        return (sorted(re.split(", | - ", text.removeprefix(CHATTER))),)
    return text != bare, told(bare)[1]


def test_a_refined_response_has_the_values_of_the_criteria_and_is_otherwise_as_it_was(found: Answered) -> None:
    counts: Counter[str] = Counter()
    for task, answer, _ in found["refinement"]:
        assert isinstance(answer, Refinement), answer
        (before,) = task.shown.values()
        values = task.values["response"]
        after = values | {name: value for name, value in task.listed if name in values}
        assert values_of(Part("text", answer.text), task.request) == after
        comments = [f"{name}: {said_of(values, name, value)}" for name, value in task.listed]
        assert task.text["comments"].split("\n") == comments
        if after == values:
            assert answer.text == before.value
            counts["unchanged"] += 1
        if after.get("completeness") == values.get("completeness"):
            assert turned(answer.text, task) == turned(before.value, task)
        else:
            assert after["completeness"] == "complete"
            assert turned(answer.text, task) == (sorted(items_of(task.request[-1].value)),)
            counts["completed"] += 1
        counts[f"{len(task.listed)} criteria"] += 1
        counts["changed"] += after != values
        counts["foreign"] += any(name not in values for name, _ in task.listed)
        counts["list"] += "completeness" in values
        counts["sum"] += "correctness" in values
        counts["stand-in"] += answer.text.startswith("(")
    assert counts.pop("completed") > 2, "more of them below"
    assert min(counts.values()) > 15, counts


def test_a_refined_response_closes_with_the_mark_that_its_prompt_forces_and_nothing_follows(found: Answered) -> None:
    for task, answer, row in found["refinement"]:
        assert row.prefill == f"# {task.key} revised\n"
        assert row.completion == f"{answer.text}\n</revised {task.key}>"
    form = RefinementFormat().render(preference(1, family="T2T").sample, comments="color: red? blue, no")
    assert "".join(form.forced) == f"</revised {form.nonce}>"


def test_no_response_is_to_become_incomplete_for_nothing_says_which_item_should_go() -> None:
    counts: Counter[str] = Counter()
    for seed in range(2000):
        row = lesson(seed, mix=REFINING)
        task = read(row)
        (before,) = task.shown.values()
        values = task.values["response"]
        for name, value in task.listed:
            if name == "completeness" and name in values:
                counts[f"{values[name]} to {value}"] += 1
                if value == "incomplete":
                    after = row.completion.removesuffix(f"\n</revised {task.key}>")
                    assert turned(after, task) == turned(before.value, task), "it is, and has the items that it had"
    assert set(counts) == {"incomplete to incomplete", "incomplete to complete", "complete to complete"}
    assert counts["incomplete to complete"] > 30


def test_refined_texts_show_nothing_held_out_in_training_and_do_in_the_test_split() -> None:
    def shown(split: str, n: int) -> set[tuple[str, str] | None]:
        rows = [lesson(seed, split, REFINING) for seed in range(n)]  # type: ignore[arg-type]
        return {pair_of(s) for row in rows for s in scenes_of([Part("text", row.completion)])}

    assert not shown("train", 2000) & (KEPT_FOR_TEST | KEPT_FOR_VALIDATION)
    found = shown("test", 500)
    assert found & KEPT_FOR_TEST
    assert not found & KEPT_FOR_VALIDATION
