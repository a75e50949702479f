"""What the base learns: right answers to everything, on media and words alike, and no judging at all."""

from __future__ import annotations

import re
from collections import Counter
from random import Random
from statistics import quantiles

import pytest
from hostile_texts import KEYS
from hypothesis import given
from hypothesis import strategies as st
from nano_answers import ON_TWO, QUESTIONS, checked, turns
from nano_reading import (
    KEPT_FOR_TEST,
    KEPT_FOR_VALIDATION,
    described,
    pair_of,
    parts_of,
    scenes_of,
    sections,
    text_of,
)

from omnirm.nano.instructions import instruction, vocabulary
from omnirm.nano.requests import HINTS
from omnirm.nano.scenes import random_scene
from omnirm.nano.writer import Drawing, Instruction, Writer
from omnirm.prompts.render import template_lines

#: of each stage: its tasks, and the questions that they ask
STAGES = {
    "copy": ({"copy_words", "recall"}, {"repeat", "recall"}),
    "single": ({"describe_one", "check_one"}, {"describe", "say", "check one"}),
    "drill": (
        {"compare_two", "glance_two", "same_words", "repeat_keys", "add_up", "read_request"},
        {*ON_TWO, "same words", "repeat", "add", "what matters", "what is wanted", "key"},
    ),
    "fit": ({"fit_one"}, {"check each", "find each"}),
    "glance": ({"glance_two", "fit_two"}, {"check A each", "check B each", "glance", "glance for"}),
    "all": (
        {"compare_two", "glance_two", "describe_one", "check_one", "edit", "read_request", "do_note", "spell"},
        set(QUESTIONS) - {"repeat", "recall", "same words"},
    ),
}
TWO = ("compare_two", "glance_two", "fit_two")
TEMPLATES = ("pairwise", "pairwise_thinking", "pointwise", "planning", "selection", "refinement", "p_yes")
JUDGING = ("[[", "]]", "Verdict", "<criteria", "<Judge", "response", "impartial", "rubric", "better", "best", "winner")
TOKENS = {"image": 11, "video": 20, "audio": 22}  # of one medium


def rows(n: int, media: float = 0.75, stage: str = "all", first: int = 0) -> list[Instruction]:
    return [instruction(seed, media=media, stage=stage) for seed in range(first, first + n)]  # type: ignore[arg-type]


def whole(row: Instruction) -> str:
    return text_of(row.messages) + row.prefill + row.completion


def length(row: Instruction) -> int:
    """About how many tokens a row has."""
    words = len(re.findall(r"\w+|[^\w\s]", whole(row)))
    return words + sum(TOKENS.get(p.type, 0) for p in parts_of(row.messages)) + 5 * len(row.messages)


@pytest.mark.parametrize("media", [0.0, 0.75])
@pytest.mark.parametrize("stage", STAGES)
def test_every_answer_is_right(stage: str, media: float) -> None:
    counts: Counter[str] = Counter()
    for row in rows(3000 if stage == "all" else 600, media, stage):
        for kind, _ in checked(row):
            counts[kind] += 1
    assert set(counts) == STAGES[stage][1]
    assert min(counts.values()) > 30, counts


@pytest.mark.parametrize("stage", STAGES)
def test_answers_in_other_splits_are_right_too(stage: str) -> None:
    for seed in range(200):
        assert list(checked(instruction(seed, "test", 0.5, stage)))  # type: ignore[arg-type]


@pytest.mark.parametrize("stage", ["fit", "glance", "all"])
def test_things_are_compared_in_every_way_be_they_media_words_lists_or_sums(stage: str) -> None:
    tasks, kinds = (TWO, ON_TWO) if stage == "all" else STAGES[stage]
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows(4000 if stage == "all" else 2000, 0.5, stage):
        if row.task in tasks:
            types = {p.type for p in parts_of(row.messages)}
            for kind, seen in checked(row):
                assert kind in kinds
                thing = "sum" if "correctness" in seen.a else "list" if "completeness" in seen.a else "scene"
                counts[kind, thing] += 1
                for medium in types - {"text"}:
                    counts[kind, medium] += 1
    things = ("scene", "list", "sum", "image", "video", "audio")
    assert set(counts) == {(kind, thing) for kind in kinds for thing in things}
    assert min(counts.values()) > 30, counts


@pytest.mark.parametrize("stage", ["fit", "glance", "all"])
def test_what_is_wanted_is_said_in_words_as_a_request_by_a_reference_or_by_a_change(stage: str) -> None:
    found: Counter[str] = Counter()
    for row in rows(1500, 0.75, stage):
        opening = next(turns(row))[0]
        if row.task in (*TWO, "fit_one"):
            parts = sections(opening)[1]
            changed = "reference" in parts and len(parts["reference"]) == 2
            (kind,) = {"request", "reference"} & set(parts) or {"words"}
            found["change" if changed else kind] += 1
    assert set(found) == {"words", "request", "reference", "change"}
    assert min(found.values()) > 100, found


@pytest.mark.parametrize("stage", ["glance", "all"])
def test_which_of_two_is_any_of_the_four_and_either_letter_alike(stage: str) -> None:
    found: Counter[str] = Counter()
    for row in rows(3000, stage=stage):
        for kind, seen in checked(row):
            if kind in ON_TWO:
                found.update(seen.which(name) for name in seen.wanted)
    assert abs(found["A"] / (found["A"] + found["B"]) - 0.5) < 0.03
    assert all(found[which] / found.total() > 0.1 for which in ("A", "B", "both", "neither"))


def test_a_thing_fits_its_description_about_as_often_as_not() -> None:
    answers = [a for row in rows(2000, 0.5, "single") for _, a in turns(row) if a.startswith("<think>")]
    assert 0.4 < sum(a.endswith("</think> yes") for a in answers) / len(answers) < 0.65


@pytest.mark.parametrize("stage", ["fit", "glance"])
def test_each_attribute_fits_about_as_often_as_not(stage: str) -> None:
    found: dict[str, Counter[bool]] = {}
    for row in rows(3000, 0.5, stage):
        for kind, seen in checked(row):
            if kind.endswith("each"):
                thing = seen.b if "B" in kind else seen.a
                for name, value in seen.wanted.items():
                    found.setdefault(name, Counter())[thing[name] == value] += 1
    assert set(found) == set(HINTS)
    for name, fits in found.items():
        assert 0.4 < fits[True] / fits.total() < 0.62, (name, fits)


def test_one_thing_is_mostly_checked_at_once_and_its_values_are_said_in_a_third_of_the_rows() -> None:
    kinds = [[kind for kind, _ in checked(row)] for row in rows(2000, 0.5, "fit")]
    assert {len(row) for row in kinds} == {1}
    assert kinds.count(["find each"]) / len(kinds) == pytest.approx(0.35, abs=0.03)


def test_both_of_two_are_checked_in_either_order_before_they_are_compared() -> None:
    orders: Counter[str] = Counter()
    for row in rows(2000, 0.5, "glance"):
        if row.task == "fit_two":
            *each, last = [kind for kind, _ in checked(row)]
            assert last == "glance"
            orders[" ".join(each)] += 1
    assert set(orders) == {"check A each check B each", "check B each check A each"}
    assert min(orders.values()) / orders.total() > 0.45
    assert orders.total() / 2000 == pytest.approx(3 / 8, abs=0.04)


def test_whether_things_fit_is_said_without_thinking() -> None:
    assert not [row for stage in ("fit", "glance") for row in rows(500, 0.5, stage) if "<think>" in whole(row)]


def test_words_to_repeat_or_recall_are_all_different() -> None:
    for row in rows(500, 0.0, "copy"):
        for (question,), _ in turns(row):
            shown = (
                re.sub(r" from \S+ on$|\. what is beside .*$|^repeat ", "", question.value).replace(",", "").split(" ")
            )
            assert len(set(shown)) == len(shown) >= 5, question.value


@pytest.mark.parametrize("media", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("stage", STAGES)
def test_turns_alternate_and_end_in_an_answer_to_learn(stage: str, media: float) -> None:
    for row in rows(300, media, stage):
        assert [m.role for m in row.messages] == ["user", "assistant"] * (len(row.messages) // 2) + ["user"]
        assert row.completion.strip()
        assert row.prefill in ("", "<think>")
        for message in row.messages:
            texts = [p for p in message.parts if p.type == "text"]
            assert all(p.value for p in texts)
            assert all(p.trusted == (message.role == "assistant") for p in texts)


@pytest.mark.parametrize("stage", STAGES)
def test_answers_open_with_a_space_so_that_copied_words_are_the_same_tokens(stage: str) -> None:
    for row in rows(300, 0.5, stage):
        for _, answer in turns(row):
            assert re.match(r"(<think>)? \w", answer), answer
            assert re.search(r"</think>(?! \w)", answer) is None


def test_the_base_never_judges() -> None:
    lines = template_lines(*TEMPLATES)
    assert len(lines) > 20
    for media in (0.0, 0.75):
        for stage in STAGES:
            for row in rows(500, media, stage):
                text = whole(row)
                assert not any(m.role == "system" for m in row.messages)
                assert not [word for word in JUDGING if word in text], text
                assert not [line for line in lines if line in text], text


def test_what_matters_is_asked_about_a_request_alone_never_about_two_answers_to_it() -> None:
    hints = [hint for some in HINTS.values() for hint in some]
    asked = 0
    for row in rows(1500, 0.5):
        text = whole(row)
        if "item A" in text:
            assert "matters" not in text
            assert not [hint for hint in hints if hint in text]
        asked += "what matters most?" in text
    assert asked > 50


@pytest.mark.parametrize("media", [0.0, 0.75])
def test_training_never_shows_or_says_a_held_out_combination(media: float) -> None:
    seen = 0
    for stage in STAGES:
        for row in rows(1000, media, stage, first=10_000):
            found = [*scenes_of(parts_of(row.messages)), *described(row.completion)]
            seen += len(found)
            assert not {pair_of(s) for s in found} & (KEPT_FOR_TEST | KEPT_FOR_VALIDATION), whole(row)
            if stage != "copy":
                said = re.findall(r"(red|green|blue|yellow|purple|black) (circle|square|triangle|cross)", whole(row))
                assert not set(said) & (KEPT_FOR_TEST | KEPT_FOR_VALIDATION)
    assert seen > 5_000


@pytest.mark.parametrize("stage", ["fit", "glance", "all"])
def test_training_never_wants_a_held_out_combination_by_a_change_either(stage: str) -> None:
    for row in rows(2000, 0.5, stage, first=20_000):
        for _, seen in checked(row):
            wanted = seen.wanted
            pairs = {(wanted.get("color"), wanted.get("shape")), (wanted.get("notes"), wanted.get("contour"))}
            assert not pairs & (KEPT_FOR_TEST | KEPT_FOR_VALIDATION)


def test_no_list_of_attributes_names_a_held_out_combination_in_training() -> None:
    lists = 0
    for row in rows(300, 0.0, "drill"):
        for told in re.findall(r"(?:wanted|found): (\w+ \w+(?:, \w+ \w+)*)\.", whole(row)):
            values = dict(pair.split(" ") for pair in told.split(", "))
            pairs = {(values.get("color"), values.get("shape")), (values.get("notes"), values.get("contour"))}
            assert not pairs & (KEPT_FOR_TEST | KEPT_FOR_VALIDATION), told
            lists += 1
    assert lists > 100


@pytest.mark.parametrize("stage", ["single", "drill", "fit", "glance", "all"])
@pytest.mark.parametrize("media", [0.0, 0.75, 1.0])
def test_things_are_shown_as_media_in_their_share(stage: str, media: float) -> None:
    shown = said = 0
    for row in rows(800, media, stage):
        for part in parts_of(row.messages):
            shown += part.type != "text"
            said += part.type == "text" and bool(re.search(r"\((picture|clip|tune): ", part.value))
    assert shown / (shown + said) == pytest.approx(media, abs=0.04 if 0 < media < 1 else 0)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_its_tasks_with_every_medium(stage: str) -> None:
    found: dict[str, set[str]] = {}
    for row in rows(1200, 1.0, stage):
        found.setdefault(row.task, set()).update(p.type for p in parts_of(row.messages))
    assert set(found) == STAGES[stage][0]
    for task in {*TWO, "fit_one", "describe_one", "check_one", "edit"} & set(found):
        assert found[task] == {"text", "image", "video", "audio"}, task


def test_thinking_on_media_is_practised_with_and_without_being_told_to_begin() -> None:
    found = [r for r in rows(1500) if "<think>" in r.prefill + r.completion]
    media = [r for r in found if any(p.type != "text" for p in parts_of(r.messages))]
    assert len(media) > 300
    begun = sum(r.prefill == "<think>" for r in media) / len(media)
    assert 0.6 < begun < 0.8


@pytest.mark.parametrize("media", [0.0, 0.75])
@pytest.mark.parametrize("stage", STAGES)
def test_rows_have_like_lengths(stage: str, media: float) -> None:
    lengths = [length(row) for row in rows(1000, media, stage)]
    tenths = quantiles(lengths, n=10)
    assert tenths[-1] < 2 * tenths[0], tenths
    assert max(lengths) < 3 * tenths[4]


def test_a_third_of_a_conversation_is_answers() -> None:
    found = rows(500, 0.0)
    learned = sum(len(answer) for row in found for _, answer in turns(row))
    assert learned / sum(len(whole(row)) for row in found) > 0.3


@given(st.integers(0, 10**9), st.sampled_from([*STAGES]), st.sampled_from([0.0, 0.75, 1.0]))
def test_an_instruction_is_decided_by_its_arguments(seed: int, stage: str, media: float) -> None:
    assert instruction(seed, media=media, stage=stage) == instruction(seed, media=media, stage=stage)  # type: ignore[arg-type]


def test_splits_give_other_instructions() -> None:
    assert all(instruction(seed) != instruction(seed, "test") for seed in range(50))
    found = [pair_of(s) for seed in range(300) for s in scenes_of(parts_of(instruction(seed, "test").messages))]
    assert set(found) & KEPT_FOR_TEST
    assert not set(found) & KEPT_FOR_VALIDATION


def test_a_conversation_must_end_in_an_answer() -> None:
    w = Writer(Random(0), "train", 0.0)
    with pytest.raises(ValueError, match="last turn must be an answer"):
        w.done("task")
    w.user("question")
    with pytest.raises(ValueError, match="last turn must be an answer"):
        w.done("task")


def test_a_last_answer_that_thinks_is_begun_most_of_the_time_and_whole_either_way() -> None:
    begun = 0
    for seed in range(200):
        w = Writer(Random(seed), "train", 0.0)
        w.user("question")
        w.assistant("<think> hm.</think> yes")
        row = w.done("task")
        assert row.prefill + row.completion == "<think> hm.</think> yes"
        begun += row.prefill == "<think>"
    assert 110 < begun < 170


def test_the_tokenizer_corpus_is_text_of_the_world_and_of_the_verdict_format() -> None:
    corpus = vocabulary(50)
    assert all(isinstance(text, str) for text in corpus)
    assert vocabulary(50) == corpus
    assert {" prompt\n", "\nVerdict ka-bu: [[", "A]]", "B]]", "tie]]", *(f" {key}" for key in KEYS)} <= set(corpus)


def test_a_medium_is_drawn_only_when_asked() -> None:
    w = Writer(Random(0), "train", 1.0)
    part = w.thing(random_scene("picture", Random(1), "train"))
    assert isinstance(part.value, Drawing)
    assert part.value.render()[0].startswith(b"\x89PNG")
