"""Planners that write rubrics from prompt and candidates: in one pass, in rounds, beside a primary rubric."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from hostile_texts import HOSTILE
from scripted_rubrics import lines, model, names, pair, section, writes

from omnirm.backends.scripted import ScriptedBackend, prompt_text
from omnirm.errors import BackendError, ConfigError, SampleError
from omnirm.rubrics.extended import ExtendedPlanner
from omnirm.rubrics.generated import GeneratedPlanner
from omnirm.rubrics.primary import PrimaryPlanner, primary_rubrics
from omnirm.sample import Sample
from omnirm.types import Completion, Request, Rubric

PLANNERS = [GeneratedPlanner, ExtendedPlanner, PrimaryPlanner]


def image(id: str = "i") -> Sample:
    return Sample.from_dict(
        {"id": id, "prompt": [{"type": "image", "image": "x.png"}, "what?"], "candidates": ["a", "b"]}
    )


def asked(request: Request) -> int:
    return int(re.search(r"propose (\d+) (?:further|criteria)", prompt_text(request))[1])


# -- in one pass


def test_generated_rubrics_come_in_the_order_written() -> None:
    backend = model(planning=writes("Truth: It is true.", "Form: A list.", "Brevity"))
    (one,) = GeneratedPlanner(backend, count=3).plan([pair("a", "b")])
    assert one.rubrics == (
        Rubric("Truth", "It is true.", source="generated"),
        Rubric("Form", "A list.", source="generated"),
        Rubric("Brevity", "", source="generated"),
    )
    assert (one.dropped, one.failure, len(one.calls)) == ((), None, 1)
    assert one.calls[0].prompt_tokens > 0
    assert one.calls[0].completion_tokens > 0


def test_many_samples_are_one_batch_and_a_bad_one_loses_only_itself() -> None:
    def planning(request: Request):
        text = section(request, "response A")
        if text == "error":
            return Completion("", "error", error="media_error: no such file")
        if text == "long":
            return Completion(" Truth: It is", "length")
        return " Truth without an end" if text == "unclosed" else lines(request, [f"Truth {text}"])

    backend = ScriptedBackend(planning, modalities={"text"})
    samples = [pair(text, "b", id=text) for text in ("one", "error", "long", "unclosed", "two")]
    done = GeneratedPlanner(backend).plan([*samples, image(), pair("three", "b", id="three")])
    assert backend.batches == [6]
    assert [names(one.rubrics) for one in done] == [["Truth one"], [], [], [], ["Truth two"], [], ["Truth three"]]
    reasons = [one.failure and one.failure.reason for one in done]
    assert reasons == [None, "media_error", "truncated", "truncated", None, "capability", None]
    assert "takes text, not image" in done[5].failure.detail
    assert [len(one.calls) for one in done] == [1, 1, 1, 1, 1, 0, 1]


def test_repetitions_surplus_and_rubrics_that_name_a_response_are_dropped_with_the_reason() -> None:
    answer = writes("Form: A list.", "FORM!: Again.", "Truth: Response B is right.", "List: a list", "Brevity", "Tone")
    (one,) = GeneratedPlanner(model(planning=answer), count=2).plan([pair("a", "b")])
    assert names(one.rubrics) == ["Form", "Brevity"]
    assert sorted((rubric.name, why) for rubric, why in one.dropped) == [
        ("FORM!", "repeats Form"),
        ("List", "repeats Form"),
        ("Tone", "is more than the 2 asked for"),
        ("Truth", "names a response"),
    ]


def test_a_word_that_only_looks_like_a_name_of_a_response_is_none() -> None:
    answer = writes("Use: The response a user needs.", "Tone: How a response begins.", "Grade: It earns an A.")
    (one,) = GeneratedPlanner(model(planning=answer)).plan([pair("a", "b")])
    assert len(one.rubrics) == 3


@pytest.mark.parametrize("answer", ["", "no lines at all", "- Form: A list.", "1.", "1. ???", "1. ...: !"])
def test_an_answer_without_rubrics_is_missing(answer: str) -> None:
    def planning(request: Request) -> str:
        return f" \n{answer}\n# {request.prefill.split()[1]} end"

    (one,) = GeneratedPlanner(model(planning=planning)).plan([pair("a", "b")])
    assert one.rubrics == ()
    assert one.failure.reason == "missing"
    assert one.failure.text == ""  # the call has it


@pytest.mark.parametrize("row", HOSTILE)
def test_hostile_candidates_and_answers_give_rubrics_or_a_failure(row: str) -> None:
    """A response that is written to look like a plan is not one; a model that repeats it word for word gives none."""
    sample = pair(f"1. Stolen: x\n{HOSTILE[row]}", "b")
    (fine,) = GeneratedPlanner(model(planning=writes("Form: A list."))).plan([sample])
    assert names(fine.rubrics) == ["Form"]
    (echoed,) = GeneratedPlanner(model(planning=lambda request: section(request, "response A"))).plan([sample])
    assert echoed.rubrics == ()
    assert echoed.failure.reason in ("truncated", "malformed")


def test_the_seed_reaches_every_call_and_is_the_samples_own() -> None:
    backend = model(planning=writes("Form"))
    samples = [pair("a", "b", id=id) for id in "xy"]
    for seed in (0, 1):
        GeneratedPlanner(backend, seed=seed, temperature=0.7, max_new_tokens=99).plan(samples)
    GeneratedPlanner(backend, temperature=0.7, max_new_tokens=99).plan(samples[1:])
    seeds = [request.seed for request in backend.requests]
    assert len(set(seeds)) == 4
    assert seeds[4] == seeds[1]  # alone or among others
    assert {(request.temperature, request.max_new_tokens) for request in backend.requests} == {(0.7, 99)}


@pytest.mark.parametrize("planner", PLANNERS)
def test_the_label_is_never_shown(planner: type) -> None:
    backend = model(planning=writes("Form"))
    for label in (0, 1):
        planner(backend).plan([pair("a", "b", label)])
    half = len(backend.requests) // 2
    assert [r.messages for r in backend.requests[:half]] == [r.messages for r in backend.requests[half:]]


@pytest.mark.parametrize("planner", PLANNERS)
def test_no_samples_no_calls(planner: type) -> None:
    backend = model()
    assert planner(backend).plan([]) == []
    assert backend.batches == []


@pytest.mark.parametrize("planner", PLANNERS)
def test_a_backend_that_fails_as_a_whole_says_so(planner: type) -> None:
    with pytest.raises(BackendError, match="the script has 0 answers"):
        planner(ScriptedBackend([])).plan([pair("a", "b")])


@pytest.mark.parametrize("planner", PLANNERS)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"count": 0}, "count 0"),
        ({"count": 101}, "count 101"),
        ({"count": True}, "count True"),
        ({"temperature": -0.1}, "temperature -0.1"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"max_new_tokens": 0}, "max_new_tokens 0"),
    ],
)
def test_settings_outside_their_range_are_refused(planner: type, options: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        planner(model(), **options)


# -- in rounds


def numbered(request: Request) -> str:
    """Goes on counting where the criteria that exist end, and gives as many as asked."""
    there = len(re.findall(r"^\d+\. ", section(request, "criteria"), re.MULTILINE))
    return lines(request, [f"Criterion {there + i}" for i in range(1, asked(request) + 1)])


def test_rounds_ask_for_three_then_seven() -> None:
    backend = model(planning=numbered)
    (one,) = ExtendedPlanner(backend).plan([pair("a", "b")])
    assert names(one.rubrics) == [f"Criterion {i}" for i in range(1, 11)]
    assert [asked(request) for request in backend.requests] == [3, 7]
    assert section(backend.requests[0], "criteria") == ""
    assert section(backend.requests[1], "criteria") == "1. Criterion 1\n2. Criterion 2\n3. Criterion 3"
    assert len(one.calls) == 2


def test_sixty_rubrics_take_ten_rounds() -> None:
    backend = model(planning=numbered)
    (one,) = ExtendedPlanner(backend, count=60).plan([pair("a", "b")])
    assert len(one.rubrics) == 60
    assert [asked(request) for request in backend.requests] == [3, 7, 7, 7, 7, 7, 7, 7, 7, 1]  # 3 + 8 * 7 = 59


def test_overlap_is_checked_and_not_believed() -> None:
    def planning(request: Request) -> str:
        return lines(request, ["Form", "Truth", "Tone"] if not section(request, "criteria") else ["form!", "Depth"])

    backend = model(planning=planning)
    (one,) = ExtendedPlanner(backend, count=10).plan([pair("a", "b")])
    assert names(one.rubrics) == ["Form", "Truth", "Tone", "Depth"]
    assert [(rubric.name, why) for rubric, why in one.dropped][:1] == [("form!", "repeats Form")]
    # the third round brought nothing new, and at temperature 0 a fourth would be the same
    assert len(backend.requests) == 3
    assert one.failure is None


def test_with_a_temperature_it_tries_again_with_another_seed() -> None:
    backend = model(planning=writes("Form", "Truth", "Tone"))
    (one,) = ExtendedPlanner(backend, rounds=4, temperature=0.7).plan([pair("a", "b")])
    assert len(one.rubrics) == 3
    assert len(backend.requests) == 4
    assert len({request.seed for request in backend.requests}) == 4


def test_every_round_is_one_batch_over_the_samples_that_need_it() -> None:
    def planning(request: Request):
        text = section(request, "response A")
        if text == "dumb":
            return lines(request, ["Form"])
        if text == "broken" and section(request, "criteria"):
            return Completion("", "error", error="out of memory")
        return numbered(request)

    backend = model(planning=planning)
    samples = [pair(text, "b", id=text) for text in ("fine", "dumb", "broken", "also fine")]
    done = ExtendedPlanner(backend, count=6, first=2, more=2).plan(samples)
    assert backend.batches == [4, 4, 2]
    assert [len(one.rubrics) for one in done] == [6, 1, 2, 6]
    assert [one.failure for one in done] == [None] * 4  # a later round that fails loses nothing
    assert [len(one.calls) for one in done] == [3, 2, 2, 3]


def test_a_first_round_that_fails_is_a_failure() -> None:
    backend = model(planning=lambda request: Completion("", "error", error="out of memory"))
    (one, other) = ExtendedPlanner(backend).plan([pair("a", "b"), pair("a", "b")])
    assert one.failure == other.failure
    assert (one.failure.reason, one.failure.detail) == ("backend_error", "out of memory")
    assert backend.batches == [2]


def test_a_sample_that_can_not_be_asked_is_not_asked_again_and_again() -> None:
    backend = ScriptedBackend(numbered, modalities={"text"})
    (one,) = ExtendedPlanner(backend, temperature=1.0).plan([image()])
    assert one.failure.reason == "capability"
    assert backend.batches == []


def test_extend_gives_only_what_is_new() -> None:
    backend = model(planning=lambda request: lines(request, ["FORM", "Depth", "Tone"]))
    planner = ExtendedPlanner(backend, more=5)
    first, second = planner.extend([pair("a", "b"), pair("c", "d")], [[Rubric("Form")], [Rubric("Tone"), Rubric("X")]])
    assert (names(first.rubrics), names(second.rubrics)) == (["Depth", "Tone"], ["FORM", "Depth"])
    assert [asked(request) for request in backend.requests] == [5, 5]
    assert backend.batches == [2]
    with pytest.raises(ConfigError, match="1 lists of rubrics for 2 samples"):
        planner.extend([pair("a", "b"), pair("c", "d")], [[]])


# -- primary


def test_the_primary_rubric_comes_first_with_the_larger_weight() -> None:
    backend = model(planning=writes("Usefulness: again", "Tone", "Form"))
    (one,) = PrimaryPlanner(backend, count=3).plan([pair("a", "b")])
    assert [(rubric.name, rubric.weight, rubric.source) for rubric in one.rubrics] == [
        ("Usefulness", 2.0, "primary"),
        ("Tone", 1.0, "generated"),
        ("Form", 1.0, "generated"),
    ]
    assert [(rubric.name, why) for rubric, why in one.dropped] == [("Usefulness", "repeats Usefulness")]
    assert asked(backend.requests[0]) == 2
    assert section(backend.requests[0], "criteria").startswith("1. Usefulness: ")


def test_every_task_has_its_bands_in_one_line() -> None:
    library = primary_rubrics()
    assert set(library) == {"chat", "math", "code", "safety", "instruction-following", "image", "video", "audio"}
    for task, rubric in library.items():
        assert rubric.source == "primary"
        assert "\n" not in rubric.text
        assert [band in rubric.text for band in ("9-10: ", "6-8: ", "4-5: ", "0-3: ")] == [True] * 4, task
        assert re.fullmatch(r"[^\n]+\. 9-10: [^;]+; 6-8: [^;]+; 4-5: [^;]+; 0-3: [^;]+\.", rubric.text), task


@pytest.mark.parametrize(
    ("data", "task"),
    [
        ({"prompt": "hi", "candidates": ["a", "b"]}, "chat"),
        ({"prompt": "hi", "candidates": ["a", "b"], "metadata": {"task": "math"}}, "math"),
        ({"prompt": "hi", "candidates": ["a", "b"], "metadata": {"task": "T2T"}}, "chat"),
        ({"prompt": "hi", "candidates": ["a", "b"], "metadata": {"task": ["math"]}}, "chat"),
        ({"prompt": [{"type": "image", "image": "x.png"}, "?"], "candidates": ["a", "b"]}, "image"),
        ({"prompt": "a hum", "candidates": [[{"type": "audio", "audio": "x.wav"}]] * 2}, "audio"),
        (
            {
                "prompt": [{"type": "image", "image": "x.png"}],
                "candidates": [[{"type": "video", "video": "x.mp4"}], "b"],
            },
            "video",
        ),
    ],
)
def test_the_task_of_a_sample(data: dict, task: str) -> None:
    assert PrimaryPlanner(model()).task_of(Sample.from_dict(data)) == task
    assert PrimaryPlanner(model(), task="code").task_of(Sample.from_dict(data)) == "code"


def test_only_the_primary_rubric_needs_no_model() -> None:
    backend = model()
    done = PrimaryPlanner(backend, count=1, weight=3).plan([pair("a", "b"), image()])
    assert [names(one.rubrics) for one in done] == [["Usefulness"], ["Faithfulness to the image"]]
    assert done[0].rubrics[0].weight == 3
    assert backend.batches == []


def test_the_primary_rubric_stays_where_generation_fails() -> None:
    (one,) = PrimaryPlanner(model(planning=lambda request: "garbage")).plan([pair("a", "b")])
    assert (names(one.rubrics), one.failure, len(one.calls)) == (["Usefulness"], None, 1)


def test_a_library_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[chat]\nname = "Wit"\nasks = "It is funny."\n[translation]\nname = "Sense"\nasks = "Same sense."')
    planner = PrimaryPlanner(model(), library=path, task="translation", count=1)
    assert planner.plan([pair("a", "b")])[0].rubrics == (Rubric("Sense", "Same sense.", 2.0, "primary"),)
    assert names([planner.library["chat"], planner.library["math"]]) == ["Wit", "Correctness and logic"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not toml", "cannot be read as TOML"),
        ("chat = 3", "chat"),
        ('[chat]\nname = "x"', "chat.asks"),
        ('[chat]\nname = "x"\nasks = ""', "chat.asks"),
        ('[chat]\nname = "x"\nasks = "two\\nlines"', "chat.asks"),
        ('[chat]\nname = "x"\nasks = "y"\nband = 1', "band"),
        ('[chat]\nname = "x"\nasks = "y"\nbands = "z"', "chat.bands"),
        ('[chat]\nname = "x"\nasks = "y"\n[chat.bands]\n"9-10" = 3', "9-10"),
        (b"\xff\xfe", "cannot be read as TOML"),
        (None, "cannot be read as TOML"),
    ],
)
def test_a_library_of_another_form_says_where(tmp_path: Path, text: str | bytes | None, said: str) -> None:
    path = tmp_path / "mine.toml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SampleError, match=re.escape(said)) as caught:
        primary_rubrics(path)
    assert "mine.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"task": "chess"}, "chess"), ({"weight": 0.5}, "weight 0.5"), ({"weight": float("inf")}, "inf")],
)
def test_a_task_or_weight_without_meaning_is_refused(options: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        PrimaryPlanner(model(), **options)


def test_the_same_plan_twice_and_in_any_batch() -> None:
    samples = [pair(f"a{i}", "b", id=f"s{i}") for i in range(5)]
    alone = [ExtendedPlanner(model(planning=numbered)).plan([sample])[0] for sample in samples]
    assert ExtendedPlanner(model(planning=numbered)).plan(samples) == alone
    assert Counter(len(one.rubrics) for one in alone) == {10: 5}
