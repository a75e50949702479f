"""Which rubrics are picked, and what happens where the answer names none."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_rubrics import model, pair, section

from omnirm.backends.scripted import ScriptedBackend
from omnirm.errors import ConfigError
from omnirm.rubrics.selecting import Selected, as_planned, select
from omnirm.types import Completion, Request, Rubric

RUBRICS = [Rubric("Tone"), Rubric("Truth"), Rubric("Form"), Rubric("Depth")]


def listed(request: Request) -> list[str]:
    return re.findall(r"^\d+\. (.+)$", section(request, "rubrics"), re.MULTILINE)


def prefers(*order: str):
    """Picks the first of `order` that is in the list."""

    def pick(request: Request) -> str:
        names = listed(request)
        return f"{names.index(next(name for name in order if name in names)) + 1}]]"

    return pick


def test_the_pick_is_an_index_into_the_list() -> None:
    backend = model(selection=prefers("Form"))
    (one,) = select(backend, [pair("a", "b")], [RUBRICS])
    assert (one.indices, one.failure, len(one.calls)) == ((2,), None, 1)
    assert listed(backend.requests[0]) == ["Tone", "Truth", "Form", "Depth"]


def test_three_are_picked_one_after_another_without_those_chosen() -> None:
    backend = model(selection=prefers("Form", "Tone", "Depth"))
    (one,) = select(backend, [pair("a", "b")], [RUBRICS], count=3)
    assert one.indices == (2, 0, 3)
    shown = [listed(request) for request in backend.requests]
    assert shown == [["Tone", "Truth", "Form", "Depth"], ["Tone", "Truth", "Depth"], ["Truth", "Depth"]]
    assert len(one.calls) == 3


def test_the_last_one_left_is_not_asked_for() -> None:
    backend = model(selection=prefers("Truth", "Tone"))
    two, one = select(backend, [pair("a", "b"), pair("c", "d")], [RUBRICS[:2], RUBRICS[:1]], count=3)
    assert (two.indices, one.indices) == ((1, 0), (0,))
    assert backend.batches == [1]
    assert (two.failure, one.failure) == (None, None)


def test_every_round_is_one_batch_and_a_failure_keeps_what_was_picked() -> None:
    def pick(request: Request):
        text = section(request, "response A")
        if text == "broken" and len(listed(request)) < 4:
            return Completion("", "error", error="out of memory")
        return {"wild": "9]]", "shy": "none]]"}.get(text, "1]]")

    backend = model(selection=pick)
    samples = [pair(text, "b", id=text) for text in ("fine", "broken", "wild", "shy", "empty")]
    done = select(backend, samples, [RUBRICS] * 4 + [[]], count=2)
    assert backend.batches == [4, 2]
    assert [one.indices for one in done] == [(0, 1), (0,), (), (), ()]
    assert [one.failure and one.failure.reason for one in done] == [
        None,
        "backend_error",
        "out_of_range",
        "malformed",
        "missing",
    ]
    assert [len(one.calls) for one in done] == [2, 2, 1, 1, 0]


def test_a_model_that_can_not_take_the_medium_is_a_failure_of_that_sample() -> None:
    backend = ScriptedBackend(lambda request: "1]]", modalities={"text"})
    media = pair("a", "b").from_dict({"prompt": [{"type": "image", "image": "x.png"}], "candidates": ["a", "b"]})
    first, second = select(backend, [media, pair("a", "b")], [RUBRICS, RUBRICS])
    assert first.failure.reason == "capability"
    assert second.indices == (0,)


def test_selection_in_one_pass_takes_the_first() -> None:
    assert as_planned([RUBRICS, RUBRICS[:1]], count=3) == [Selected((0, 1, 2)), Selected((0,))]
    assert as_planned([[]])[0].failure.reason == "missing"


@given(st.integers(1, 6), st.integers(1, 6), st.randoms(use_true_random=False))
def test_a_pick_is_never_made_twice(length: int, count: int, random) -> None:
    rubrics = [Rubric(f"R{i}") for i in range(length)]
    backend = model(selection=lambda request: f"{random.randint(1, len(listed(request)))}]]")
    (one,) = select(backend, [pair("a", "b")], [rubrics], count=count)
    assert len(set(one.indices)) == len(one.indices) == min(length, count)
    assert set(one.indices) <= set(range(length))


@pytest.mark.parametrize(
    ("lists", "options", "said"),
    [
        ([], {}, "0 lists of rubrics for 1 samples"),
        ([RUBRICS], {"count": 0}, "count 0"),
        ([RUBRICS], {"temperature": -1}, "temperature -1"),
    ],
)
def test_settings_without_meaning_are_refused(lists: list, options: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        select(model(), [pair("a", "b")], lists, **options)
