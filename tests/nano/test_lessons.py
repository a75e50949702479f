"""What the judge learns: thinking on text, the verdict alone on media, the steps around a judgment on text."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nano_answers import NAMES, checked, either
from nano_reading import (
    KEPT_FOR_TEST,
    KEPT_FOR_VALIDATION,
    KEY,
    pair_of,
    parts_of,
    scenes_of,
    sections,
    text_of,
    values_of,
    wanted_by,
    words_of,
)
from nano_tasks import FORMATS, KINDS, Answered, kind_of, majority, on_media, said_of, verdicts

from omnirm.nano.instructions import instruction
from omnirm.nano.lessons import Lesson, Mix, combined, lesson, render
from omnirm.nano.world import FAMILIES, preference
from omnirm.nano.writer import Instruction
from omnirm.prompts.formats import get_format
from omnirm.prompts.render import template_lines
from omnirm.types import PairVerdict, Part

MIX = Mix()
NOTHING = dict.fromkeys(KINDS, 0.0)
JUDGED = ("[[", "]]", "Verdict", "Score", "<think>", "<criteria", "<Judge", "rubric", "better", "judge")
#: the last line of what is written between marks
CLOSED = {"planning": "\n# {key} end", "refinement": "\n</revised {key}>"}
TEMPLATES = tuple(name.replace("-", "_") for name in set(FORMATS.values()))


# What is taught on what


def test_no_lesson_is_a_thinking_judgment_on_media(lessons: list[Lesson]) -> None:
    lines = template_lines(*TEMPLATES)
    counts: Counter[tuple[bool, bool, bool]] = Counter()
    for row in lessons:
        text = text_of(row.messages)
        thinks = "<think>" in row.prefill + row.completion
        judging = kind_of(row) in FORMATS
        counts[judging, on_media(row), thinks] += 1
        assert judging == (row.messages[0].role == "system") == any(line in text for line in lines)
        if judging:
            assert ("Think first, between <think> and </think>" in text) == thinks == (row.prefill == "<think>")
            assert not (thinks and on_media(row))
        else:
            assert "[[" not in row.completion
    assert counts[True, True, True] == 0
    assert counts[True, True, False] > 1000, "verdicts on media are there"
    assert counts[True, False, True] > 1000, "thinking on text is there"
    assert counts[False, True, True] > 15, "and thinking on media, of no judge"


def test_neither_does_any_other_mix_or_split_make_one() -> None:
    alone = [Mix(**NOTHING | {kind: 1.0}) for kind in KINDS]
    for mix in (*alone, Mix(given=1.0, replay_media=1.0)):
        for seed in range(150):
            for split in ("train", "validation", "test"):
                row = lesson(seed, split, mix)  # type: ignore[arg-type]
                thinks = "<think>" in row.prefill + row.completion
                assert not (kind_of(row) != "replay" and on_media(row) and thinks)


def test_only_verdicts_and_totals_without_thinking_are_taught_on_media(lessons: list[Lesson]) -> None:
    seen: dict[str, set[bool]] = {}
    for row in lessons:
        seen.setdefault(kind_of(row), set()).add(on_media(row))
    assert seen.pop("replay") == {True, False}
    assert seen == {kind: {kind.startswith("media")} for kind in KINDS}


def test_lessons_come_in_the_shares_of_the_mix(lessons: list[Lesson]) -> None:
    counts = Counter(kind_of(row) for row in lessons)
    for kind in KINDS:
        assert counts[kind] / len(lessons) == pytest.approx(getattr(MIX, kind), abs=0.015), kind
    assert counts["replay"] / len(lessons) == pytest.approx(1 - sum(getattr(MIX, kind) for kind in KINDS), abs=0.015)
    verdicts = [row for row in lessons if kind_of(row) in ("text_thinking", "text_verdict", "media_verdict")]
    assert sum(row.task.endswith(" given") for row in verdicts) / len(verdicts) == pytest.approx(MIX.given, abs=0.03)


def test_a_lesson_is_named_after_what_it_is(lessons: list[Lesson]) -> None:
    for row in lessons:
        if kind_of(row) in ("text_thinking", "text_verdict", "media_verdict", "text_points", "media_points"):
            assert row.task.endswith(" given") == (" rubrics\n" in words_of(row.messages[1].parts))
            assert (row.prefill == "<think>") == (kind_of(row) in ("text_thinking", "text_points"))


def test_replays_are_the_bases_instructions_still_answered_rightly(lessons: list[Lesson]) -> None:
    media, mix = 0, Mix(**NOTHING)
    replays = [row for row in lessons if kind_of(row) == "replay"] + [lesson(seed, mix=mix) for seed in range(500)]
    for row in replays:
        assert list(checked(Instruction(row.task, row.messages, row.completion, row.prefill)))
        media += on_media(row)
    assert media / len(replays) > 0.5


def test_a_replay_is_the_instruction_of_its_seed_with_media_in_their_share() -> None:
    for share in (0.0, 0.75, 1.0):
        for seed in range(100):
            row, made = lesson(seed, mix=Mix(**NOTHING, replay_media=share)), instruction(seed, media=share)
            assert kind_of(row) == "replay"
            assert (row.task, row.messages) == (made.task, made.messages)
            assert (row.prefill, row.completion) == (made.prefill, made.completion)


# Glances: a pair as a judge is shown it, and nobody judging


@pytest.fixture(scope="module")
def glances(lessons: list[Lesson]) -> list[Lesson]:
    return [row for row in lessons if kind_of(row) == "media_glance"]


def asked_of(row: Lesson) -> tuple[dict[str, list[Part]], list[str]]:
    """The sections of a glance, and the attributes that it asks for."""
    (turn,) = row.messages
    _, parts = sections(turn.parts)
    (question,) = parts["end"]
    assert question is turn.parts[-1]
    ask = re.fullmatch(rf"which is right in {NAMES}\?", question.value)
    assert ask, question.value
    return parts, ask[1].split(", ")


def test_every_glance_is_answered_rightly(glances: list[Lesson]) -> None:
    found: Counter[str] = Counter()
    for row in glances:
        parts, asked = asked_of(row)
        wanted = wanted_by(parts["prompt"])
        a, b = (values_of(part, parts["prompt"]) for x in "AB" for part in parts[f"response {x}"])
        assert set(wanted) == set(a) == set(b)
        which = [either(a[name] == wanted[name], b[name] == wanted[name]) for name in asked]
        assert row.completion == "".join(f" {name} {x}." for name, x in zip(asked, which, strict=True))
        assert row.prefill == ""
        found.update(which)
    assert set(found) == {"A", "B", "both", "neither"}
    assert abs(found["A"] / (found["A"] + found["B"]) - 0.5) < 0.05
    assert min(found.values()) / found.total() > 0.03, found


def test_a_glance_asks_for_some_attributes_of_the_request_whichever_matters(glances: list[Lesson]) -> None:
    counts: Counter[int] = Counter()
    orders: set[tuple[str, ...]] = set()
    for row in glances:
        parts, asked = asked_of(row)
        wanted = wanted_by(parts["prompt"])
        assert set(asked) <= set(wanted)
        assert len(set(asked)) == len(asked)
        counts[len(asked)] += 1
        if set(asked) == {"notes", "pitch"}:
            orders.add(tuple(asked))
    assert set(counts) == {2, 3, 4}
    assert min(counts.values()) / counts.total() > 0.25, counts
    assert len(orders) == 2


def test_a_glance_shows_media_in_the_judges_sections_without_its_instructions_tags_or_verdict(
    glances: list[Lesson],
) -> None:
    lines, shown = template_lines(*TEMPLATES), Counter[str]()
    for row in glances:
        assert (row.task, [m.role for m in row.messages]) == ("media_glance", ["user"])
        parts, _ = asked_of(row)
        assert set(parts) == {"start", "prompt", "response A", "response B", "end"}
        assert parts["start"] == []
        text = text_of(row.messages) + row.prefill + row.completion
        assert not [line for line in lines if line in text], text
        assert not [word for word in JUDGED if word in text], text
        assert on_media(row)
        for name in ("prompt", "response A"):
            shown.update(f"{part.type} in {name}" for part in parts[name] if part.type != "text")
        assert all(
            part.trusted == bool(re.match(r"\n?# ", part.value))
            for part in parts_of(row.messages)
            if part.type == "text"
        )
    assert set(shown) == {f"{x} in {name}" for x in ("image", "video", "audio") for name in ("prompt", "response A")}
    assert min(shown.values()) > 50, shown


# Answers, read by the formats' own parsers


def test_every_verdict_is_read_as_the_right_one(found: Answered) -> None:
    letters: Counter[str] = Counter()
    for task, answer, _ in verdicts(found):
        assert isinstance(answer, PairVerdict), answer
        assert answer.letter == majority([task.verdict(*c) for c in task.criteria])
        letters[answer.letter] += 1
        if not task.listed:
            assert answer.letter in ("A", "B"), "what matters most always decides"
    assert letters["tie"] > 100
    assert abs(letters["A"] / (letters["A"] + letters["B"]) - 0.5) < 0.03


def test_thinking_names_each_criterion_and_what_either_response_has(found: Answered) -> None:
    counts: Counter[int] = Counter()
    for task, answer, _ in found["text_thinking"]:
        for criterion, (name, value) in zip(answer.criteria, task.criteria, strict=True):
            assert (criterion.rubric.name, criterion.rubric.text) == (name, f"the {name} should be {value}.")
            assert criterion.analysis_a == said_of(task.values["A"], name, value)
            assert criterion.analysis_b == said_of(task.values["B"], name, value)
            assert criterion.verdict == task.verdict(name, value)
        if task.listed:
            counts[len(task.listed)] += 1
    assert set(counts) == {1, 2, 3}
    assert min(counts.values()) > 50, counts


def test_verdicts_alone_are_under_one_criterion(found: Answered) -> None:
    given_ = [task.listed for task, _, _ in [*found["text_verdict"], *found["media_verdict"]] if task.listed]
    assert {len(listed) for listed in given_} == {1}
    assert len(given_) > 300


def test_given_criteria_may_call_for_the_other_response_for_none_or_for_foreign_things(found: Answered) -> None:
    counts: Counter[str] = Counter()
    for task, answer, _ in verdicts(found):
        if task.listed:
            gold = task.verdict(task.matters, task.wanted[task.matters])
            counts["other"] += answer.letter not in (gold, "tie")
            counts["tie"] += answer.letter == "tie"
            counts["foreign"] += any(name not in task.wanted for name, _ in task.listed)
            counts["another value"] += any(task.wanted.get(name, value) != value for name, value in task.listed)
    under = sum(bool(task.listed) for task, _, _ in verdicts(found))
    assert min(counts.values()) / under > 0.06, counts


def test_balanced_criteria_are_decided_by_the_first(found: Answered) -> None:
    first = 0
    for task, answer, _ in found["text_thinking"]:
        letters = [task.verdict(*c) for c in task.criteria]
        if "A" in letters and letters.count("A") == letters.count("B"):
            first += 1
            assert answer.letter == next(v for v in letters if v != "tie")
    assert first > 10


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        (["A"], "A"), (["B"], "B"), (["tie"], "tie"), (["tie", "tie", "tie"], "tie"), (["A", "B"], "A"),
        (["B", "A"], "B"), (["tie", "B", "A"], "B"), (["A", "B", "B"], "B"), (["B", "A", "A"], "A"),
        (["tie", "tie", "A"], "A"), (["A", "tie", "B"], "A"),
    ],
)  # fmt: skip
def test_verdicts_are_combined_by_majority(letters: list[str], expected: str) -> None:
    assert combined(letters) == expected == majority(letters)


def test_a_tie_is_offered_wherever_it_is_right_and_also_where_it_is_not(found: Answered) -> None:
    offered: Counter[tuple[bool, bool]] = Counter()
    for task, answer, _ in verdicts(found):
        offered["[[tie]]" in task.system, answer.letter == "tie"] += 1
    assert offered[False, True] == 0
    decided = offered[True, False] + offered[False, False]
    assert offered[True, False] / decided == pytest.approx(0.25, abs=0.03)
    assert offered[True, False] > offered[True, True], "the offer alone does not tell"


# What stands in prompts and answers


def test_training_lessons_show_nothing_held_out(lessons: list[Lesson]) -> None:
    found = [pair_of(s) for row in lessons for s in scenes_of(parts_of(row.messages))]
    assert len(found) > 10_000
    assert not set(found) & (KEPT_FOR_TEST | KEPT_FOR_VALIDATION)


def test_the_answer_carries_the_key_of_its_own_prompt_and_of_no_other(lessons: list[Lesson]) -> None:
    seen: set[str] = set()
    for row in lessons:
        if kind_of(row) in FORMATS:
            key, _ = sections(row.messages[1].parts)
            assert set(re.findall(KEY, row.prefill + row.completion)) == {key}
            seen.add(key)
    assert len(seen) > 400


def test_the_answer_ends_where_the_format_stops(lessons: list[Lesson]) -> None:
    ends = set()
    for row in lessons:
        if kind_of(row) in ("text_verdict", "media_verdict", "selection"):
            assert row.prefill.endswith("[[")
            assert re.fullmatch(r"(A|B|tie|\d)\]\]", row.completion)
        elif kind_of(row) in CLOSED:
            key, _ = sections(row.messages[1].parts)
            closing = CLOSED[kind_of(row)].format(key=key)
            assert row.completion.endswith(closing)
            assert row.completion.count(closing) == 1
            ends.add(kind_of(row))
    assert ends == set(CLOSED)


@pytest.mark.parametrize("given_", [False, True])
@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_pair_of_any_family_can_be_judged_in_either_format(family: str, thinking: bool, given_: bool) -> None:
    form = get_format("pairwise-thinking" if thinking else "pairwise")
    for seed in range(40):
        pair = preference(seed, "train", family, in_words=thinking)  # type: ignore[arg-type]
        name = pair.decisive[seed % len(pair.decisive)] if given_ else pair.attribute
        prompt, completion = render(pair, [(name, pair.wanted[name])], thinking, given_)
        found = form.parse(prompt, prompt.prefill + completion, "stop")
        assert isinstance(found, PairVerdict), found
        assert found.letter == pair.analysis(name)[2]
        if not given_:
            assert found.letter == "AB"[int(pair.sample.label)]  # type: ignore[arg-type]
        assert [c.rubric.name for c in found.criteria] == ([name] if thinking else [])


@given(st.integers(0, 10**9))
def test_a_lesson_is_decided_by_its_seed(seed: int) -> None:
    assert lesson(seed) == lesson(seed)
