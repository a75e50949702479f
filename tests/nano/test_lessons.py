"""What the judge learns: thinking on text, the verdict alone on media, never a thinking judgment on media."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nano_reading import KEPT_FOR_TEST, KEPT_FOR_VALIDATION, pair_of, parts_of, scenes_of, text_of

from omnirm.nano.lessons import Lesson, Mix, lesson, render
from omnirm.nano.world import FAMILIES, preference
from omnirm.prompts.formats import get_format
from omnirm.prompts.render import template_lines
from omnirm.types import PairVerdict

MANY = 6000
MIX = Mix()


@pytest.fixture(scope="module")
def lessons() -> list[Lesson]:
    return [lesson(seed) for seed in range(MANY)]


def judging(row: Lesson) -> bool:
    return any(line in text_of(row.messages) for line in template_lines("pairwise", "pairwise_thinking"))


def on_media(row: Lesson) -> bool:
    return any(part.type != "text" for part in parts_of(row.messages))


def test_no_lesson_is_a_thinking_judgment_on_media(lessons: list[Lesson]) -> None:
    counts: Counter[tuple[bool, bool, bool]] = Counter()
    for row in lessons:
        thinks = "<think>" in row.prefill + row.completion
        counts[judging(row), on_media(row), thinks] += 1
        if judging(row):
            assert row.messages[0].role == "system"
            asked_to_think = "Think first, between <think> and </think>" in text_of(row.messages)
            assert asked_to_think == thinks == (row.prefill == "<think>")
            assert not (thinks and on_media(row))
        else:
            assert not any(m.role == "system" for m in row.messages)
            assert "[[" not in row.completion
    assert counts[True, True, True] == 0
    assert counts[True, True, False] > 1000, "verdicts on media are there"
    assert counts[True, False, True] > 1000, "thinking on text is there"
    assert counts[False, True, True] > 100, "and thinking on media, of no judge"


def test_neither_does_any_other_mix_or_split_make_one() -> None:
    for mix in (Mix(0.0, 0.0, 1.0), Mix(0.5, 0.0, 0.5), Mix(0.1, 0.1, 0.1, given=1.0, replay_media=1.0)):
        for seed in range(600):
            row = lesson(seed, "validation", mix)
            assert not (judging(row) and on_media(row) and "<think>" in row.prefill + row.completion)


def test_lessons_come_in_the_shares_of_the_mix(lessons: list[Lesson]) -> None:
    kinds = Counter(row.task.removesuffix(" given") for row in lessons)
    assert kinds["text thinking"] / MANY == pytest.approx(MIX.text_thinking, abs=0.03)
    assert kinds["text verdict"] / MANY == pytest.approx(MIX.text_verdict, abs=0.02)
    assert kinds["media verdict"] / MANY == pytest.approx(MIX.media_verdict, abs=0.03)
    judged = [row for row in lessons if judging(row)]
    given_ = [row for row in judged if row.task.endswith(" given")]
    assert len(given_) / len(judged) == pytest.approx(MIX.given, abs=0.03)
    assert all((" rubrics\n" in text_of(row.messages)) == row.task.endswith(" given") for row in judged)


def test_a_lesson_is_named_after_what_it_is(lessons: list[Lesson]) -> None:
    for row in lessons:
        if judging(row):
            assert row.task.startswith("media" if on_media(row) else "text")
            assert ("thinking" in row.task) == (row.prefill == "<think>")


@pytest.mark.parametrize("given_", [False, True])
@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_answer_to_learn_is_read_as_the_right_verdict(family: str, thinking: bool, given_: bool) -> None:
    form = get_format("pairwise-thinking" if thinking else "pairwise")
    for seed in range(40):
        pair = preference(seed, "train", family, in_words=thinking)  # type: ignore[arg-type]
        attribute = pair.decisive[seed % len(pair.decisive)] if given_ else pair.attribute
        rendered, completion = render(pair, attribute, thinking, given_)
        found = form.parse(rendered, rendered.prefill + completion, "stop")
        assert isinstance(found, PairVerdict), found
        assert found.letter == pair.analysis(attribute)[2]
        if not given_:
            assert found.letter == "AB"[int(pair.sample.label)]  # type: ignore[arg-type]
        if thinking:
            (criterion,) = found.criteria
            of_a, of_b, letter = pair.analysis(attribute)
            assert criterion.rubric.name == attribute
            assert (criterion.analysis_a, criterion.analysis_b, criterion.verdict) == (of_a, of_b, letter)


def test_a_given_rubric_may_call_for_the_other_candidate() -> None:
    against = sum(
        "AB".index(pair.analysis(attribute)[2]) != pair.sample.label
        for pair in (preference(seed) for seed in range(300))
        for attribute in pair.decisive
    )
    assert against > 100


def test_training_lessons_show_nothing_held_out(lessons: list[Lesson]) -> None:
    found = [pair_of(s) for row in lessons for s in scenes_of(parts_of(row.messages))]
    assert len(found) > 10_000
    assert not set(found) & (KEPT_FOR_TEST | KEPT_FOR_VALIDATION)


def test_verdicts_are_balanced(lessons: list[Lesson]) -> None:
    letters = Counter(row.completion[-3] for row in lessons if judging(row))
    assert set(letters) == {"A", "B"}
    assert abs(letters["A"] / letters.total() - 0.5) < 0.03


def test_the_verdict_carries_the_key_of_its_own_prompt(lessons: list[Lesson]) -> None:
    for row in lessons:
        if judging(row):
            key = row.messages[-1].parts[0].value.split()[0]
            verdict = (row.prefill + row.completion).splitlines()[-1]
            assert verdict.startswith(f"Verdict {key.removeprefix('#')}: [[")
            assert verdict.endswith("]]")


@given(st.integers(0, 10**9))
def test_a_lesson_is_decided_by_its_seed(seed: int) -> None:
    assert lesson(seed) == lesson(seed)
