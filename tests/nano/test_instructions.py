"""What the base learns: right answers to everything, on media and words alike, and no judging at all."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nano_reading import KEPT_FOR_TEST, KEPT_FOR_VALIDATION, described, pair_of, parts_of, scenes_of, text_of

from omnirm.nano.instructions import Drawing, Instruction, Writer, instruction, vocabulary
from omnirm.nano.scenes import Scene, random_scene
from omnirm.prompts.render import template_lines
from omnirm.types import Part

STAGES = ("copy", "single", "all")
TEMPLATES = ("pairwise", "pairwise_thinking", "pointwise", "planning", "selection", "refinement", "p_yes")
JUDGING = ("[[", "]]", "Verdict", "<criteria", "<Judge", "response A", "response B", "impartial", "rubric", "better")


def rows(n: int, media: float = 0.75, stage: str = "all", first: int = 0) -> list[Instruction]:
    return [instruction(seed, media=media, stage=stage) for seed in range(first, first + n)]


def whole(row: Instruction) -> str:
    return text_of(row.messages) + row.prefill + row.completion


def turns(row: Instruction) -> list[tuple[list[Part], str]]:
    """Question and answer of every turn."""
    found = []
    for i in range(0, len(row.messages), 2):
        user = row.messages[i]
        last = i + 1 == len(row.messages)
        answer = row.prefill + row.completion if last else row.messages[i + 1].parts[0].value
        found.append((list(user.parts), answer))
    return found


@pytest.mark.parametrize("media", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("stage", STAGES)
def test_turns_alternate_and_end_in_an_answer_to_learn(stage: str, media: float) -> None:
    for row in rows(400, media, stage):
        assert [m.role for m in row.messages] == ["user", "assistant"] * (len(row.messages) // 2) + ["user"]
        assert row.completion.strip()
        assert row.prefill in ("", "<think>")
        for message in row.messages:
            texts = [p for p in message.parts if p.type == "text"]
            assert all(p.value for p in texts)
            assert all(p.trusted == (message.role == "assistant") for p in texts)


def test_the_base_never_judges() -> None:
    lines = template_lines(*TEMPLATES)
    assert len(lines) > 20
    for media in (0.0, 0.75):
        for stage in STAGES:
            for row in rows(700, media, stage):
                text = whole(row)
                assert not any(m.role == "system" for m in row.messages)
                assert not [word for word in JUDGING if word in text], text
                assert not [line for line in lines if line in text], text


def test_what_matters_is_asked_about_a_request_alone_never_about_two_answers_to_it() -> None:
    asked = 0
    for row in rows(1500, 0.5):
        for question, _ in turns(row):
            text = "".join(p.value for p in question if p.type == "text")
            if "what matters most?" in text:
                asked += 1
                assert "item A" not in text
    assert asked > 50


@pytest.mark.parametrize("media", [0.0, 0.75])
def test_training_never_shows_or_says_a_held_out_combination(media: float) -> None:
    seen = 0
    for stage in STAGES:
        for row in rows(1500, media, stage, first=10_000):
            found = [*scenes_of(parts_of(row.messages)), *described(row.completion)]
            seen += len(found)
            assert not {pair_of(s) for s in found} & (KEPT_FOR_TEST | KEPT_FOR_VALIDATION), whole(row)
            if stage != "copy":
                said = re.findall(r"(red|green|blue|yellow|purple|black) (circle|square|triangle|cross)", whole(row))
                assert not set(said) & (KEPT_FOR_TEST | KEPT_FOR_VALIDATION)
    assert seen > 5_000


def test_the_text_stage_has_no_media_and_the_others_have_their_share() -> None:
    def share(media: float) -> float:
        shown = said = 0
        for row in rows(600, media):
            for part in parts_of(row.messages):
                shown += part.type != "text"
                said += part.type == "text" and bool(re.search(r"\((picture|clip|tune): ", part.value))
        return shown / (shown + said)

    assert share(0.0) == 0
    assert share(1.0) == 1
    assert 0.7 < share(0.75) < 0.8


def test_every_task_occurs_with_every_medium() -> None:
    found: dict[str, set[str]] = {}
    for row in rows(1200, 1.0):
        found.setdefault(row.task, set()).update(p.type for p in parts_of(row.messages))
    assert {"describe", "questions", "two", "which", "check", "check one", "edit"} <= set(found)
    for task in ("describe", "two", "which", "check", "check one", "edit"):
        assert found[task] >= {"image", "video", "audio"}, task
    assert {"request", "notes", "check notes", "do", "spell"} <= set(found)
    assert {r.task for r in rows(50, 0.0, "copy")} == {"copy"}
    assert {r.task for r in rows(500, 0.0, "single")} == {"describe", "questions", "check one"}


def test_thinking_on_media_is_practised_with_and_without_being_told_to_begin() -> None:
    found = [r for r in rows(1500) if "<think>" in r.prefill + r.completion]
    media = [r for r in found if any(p.type != "text" for p in parts_of(r.messages))]
    assert len(media) > 300
    begun = sum(r.prefill == "<think>" for r in media) / len(media)
    assert 0.6 < begun < 0.8


# Answers are checked against what is shown, read apart from the generator.


def items(question: list[Part]) -> tuple[Scene, Scene]:
    """The scenes of item A and item B of a marked question."""
    heads = {
        p.value.split()[-1]: i for i, p in enumerate(question) if re.fullmatch(r"#\w{4} item [AB]\n", str(p.value))
    }
    (a,), (b,) = (list(scenes_of([question[heads[x] + 1]])) for x in "AB")
    return a, b


def wanted_values(question: list[Part]) -> dict[str, str] | None:
    """What is wanted, as the question gives it before the items; None where it says nothing."""
    cut = next(i for i, p in enumerate(question) if str(p.value).endswith(" item A\n"))
    scenes = list(scenes_of(question[:cut]))
    if not scenes:
        return None
    values = dict(scenes[0].values)
    text = "".join(p.value for p in question[:cut] if p.type == "text")
    if change := re.search("change the ([a-z]+) to ([a-z]+) and keep the rest", text):
        values[change[1]] = change[2]
    return values


def which(a: bool, b: bool) -> str:
    return "both" if a and b else "A" if a else "B" if b else "neither"


def test_descriptions_and_questions_on_one_thing_are_answered_rightly() -> None:
    checked: Counter[str] = Counter()
    for row in rows(1500, 0.5, "single"):
        scene = None
        for question, answer in turns(row):
            scene = next(iter(scenes_of(question[:1])), scene)
            assert scene is not None
            text = "".join(p.value for p in question if p.type == "text")
            if "describe it" in text:
                assert described(answer) == [scene]
                assert answer.startswith(("at the", "moving", "pure", "buzzing")) == ("other way round" in text)
                checked["describe"] += 1
            elif match := re.fullmatch(r"what is the ([a-z]+)\?", text):
                assert answer == scene[match[1]]
                checked["what"] += 1
            elif match := re.search(r"\nis it (.*)\? think about ([a-z]+) and ([a-z]+) first", text):
                (given_,) = described(match[1])
                steps = ""
                for attribute in match[2], match[3]:
                    yes = "yes" if scene[attribute] == given_[attribute] else "no"
                    steps += f" the {attribute} should be {given_[attribute]}. {scene[attribute]}, {yes}."
                fits = all(scene[a] == given_[a] for a in (match[2], match[3]))
                assert answer == f"<think>{steps.strip()}</think>{'yes' if fits else 'no'}"
                checked["check"] += 1
            else:
                assert text.endswith("answer briefly."), text
    assert min(checked.values()) > 200, checked


def test_questions_on_two_things_are_answered_rightly() -> None:
    checked: Counter[str] = Counter()
    for row in rows(4000, 0.5):
        if row.task not in ("two", "which", "check"):
            continue
        first = turns(row)[0][0]
        if not any(str(p.value).endswith(" item A\n") for p in first):
            continue  # the task fell back to questions on one thing
        (a, b), wanted = items(first), wanted_values(first)
        for question, answer in turns(row):
            text = question[-1].value
            if match := re.fullmatch(r"what is the ([a-z]+) of ([AB])\?", text):
                assert answer == (a if match[2] == "A" else b)[match[1]]
            elif match := re.fullmatch(r"is the ([a-z]+) the same\?", text):
                assert answer == ("yes" if a[match[1]] == b[match[1]] else "no")
            elif match := re.fullmatch(r"which has the right ([a-z]+), A or B\?", text):
                assert wanted is not None
                assert answer == which(*(s[match[1]] == wanted[match[1]] for s in (a, b)))
            elif match := re.fullmatch(r"which has the ([a-z]+) ([a-z]+)(\?|, A or B\?)", text):
                assert answer == which(a[match[1]] == match[2], b[match[1]] == match[2])
            else:
                match = re.match(r"check the ([a-z]+)\. think first", text)
                assert match, text
                assert wanted is not None
                name, value = match[1], wanted[match[1]]
                thought, _, tail = answer.removeprefix("<think>").partition("</think>")
                assert re.findall(r"(?:should be|wanted) (\w+)", thought) == [value]
                told = re.findall(r"[AB](?: has|:)? (\w+)", thought)[:2]
                assert told == [a[name], b[name]], answer
                yes = re.findall(r", (yes|no)", thought)
                assert yes in ([], ["yes" if s[name] == value else "no" for s in (a, b)])
                assert tail.split(": ")[-1] == which(a[name] == value, b[name] == value)
                if ": " in tail:
                    assert f"#{tail.split(': ')[0]} item A\n" in text_of(row.messages)
            checked[re.sub(r"(the( right)?) .*", r"\1", text)] += 1
    assert len(checked) >= 5
    assert min(checked.values()) > 100, checked


def test_which_of_two_is_answered_by_each_letter_alike() -> None:
    answers = Counter(
        answer for row in rows(3000) if row.task == "which" for _, answer in turns(row) if answer in ("A", "B")
    )
    assert abs(answers["A"] / answers.total() - 0.5) < 0.05


def test_copies_are_exact_and_edits_are_described_as_changed() -> None:
    edits = 0
    for row in rows(800, 0.0, "copy"):
        text = row.messages[0].parts[0].value.removeprefix("repeat ")
        shown, _, start = text.partition(" from ")
        shown = shown.split()
        begin = shown.index(start.removesuffix(" on")) if start else 0
        assert row.completion == " " + " ".join(shown[begin:])
    for row in rows(2000, 0.5):
        for question, answer in turns(row):
            change = re.search(r"change the (\w+) to (\w+) and keep the rest. describe", str(question[-1].value))
            if change:
                (before,) = scenes_of(question[:1])
                assert described(answer) == [before.with_value(change[1], change[2])]
                edits += 1
    assert edits > 100


@given(st.integers(0, 10**9), st.sampled_from(STAGES), st.sampled_from([0.0, 0.75, 1.0]))
def test_an_instruction_is_decided_by_its_arguments(seed: int, stage: str, media: float) -> None:
    assert instruction(seed, media=media, stage=stage) == instruction(seed, media=media, stage=stage)


def test_splits_give_other_instructions() -> None:
    assert all(instruction(seed) != instruction(seed, "test") for seed in range(50))
    found = [pair_of(s) for seed in range(300) for s in scenes_of(parts_of(instruction(seed, "test").messages))]
    assert set(found) & KEPT_FOR_TEST
    assert not set(found) & KEPT_FOR_VALIDATION


def test_rows_of_short_tasks_have_like_lengths() -> None:
    lengths = [len(text_of(row.messages).split()) for row in rows(500, 0.0)]
    assert max(lengths) < 200


def test_an_answer_must_begin_with_its_prefill() -> None:
    w = Writer(Random(0), "train", 0.0)
    w.user("question")
    w.assistant("answer")
    with pytest.raises(ValueError, match="starts with the prefill"):
        w.done("task", "<think>")
    w.user("no answer")
    with pytest.raises(ValueError, match="last turn must be an answer"):
        w.done("task")


def test_the_tokenizer_corpus_is_text_of_the_world_and_of_the_verdict_format() -> None:
    corpus = vocabulary(50)
    assert all(isinstance(text, str) for text in corpus)
    assert vocabulary(50) == corpus
    assert {"# prompt\n", "A]]", "B]]", "\nVerdict "} <= set(corpus)


def test_a_medium_is_drawn_only_when_asked() -> None:
    w = Writer(Random(0), "train", 1.0)
    part = w.thing(random_scene("picture", Random(1), "train"))
    assert isinstance(part.value, Drawing)
    assert part.value.render()[0].startswith(b"\x89PNG")
