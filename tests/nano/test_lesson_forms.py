"""The forms of nano's last stage: choosing a rubric of a list, and the P(Yes) dialog. All in words."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from nano_reading import parts_of
from nano_tasks import KINDS, read, said_of

from omnirm.nano.lessons import Lesson, Mix, lesson, looking
from omnirm.nano.world import FAMILIES, preference
from omnirm.parsing.pairwise import parse_pair
from omnirm.prompts.render import template_lines
from omnirm.types import PairVerdict, Rubric

NOTHING = dict.fromkeys(KINDS, 0.0)
SEEDS = range(400)
EVALUATE = template_lines("p_yes_evaluate")[0]


def made(kind: str, looks: float = 0.5) -> list[Lesson]:
    return [lesson(seed, mix=Mix(**NOTHING | {kind: 1.0, "looks": looks})) for seed in SEEDS]


def test_a_choice_is_judged_by_the_rubric_chosen_and_no_other() -> None:
    numbers: Counter[int] = Counter()
    for row in made("text_picking"):
        task = read(row)
        rubrics = tuple(Rubric(name, f"the {name} should be {value}.") for name, value in task.listed)
        tie = "[[tie]]" in task.system
        answer = parse_pair(
            row.prefill + row.completion, "stop",
            nonce=task.key, thinking=True, allow_tie=tie, rubrics=rubrics, pick=True,
        )  # fmt: skip
        assert isinstance(answer, PairVerdict), row.completion
        (one,) = answer.criteria
        place = [r.name for r in rubrics].index(one.rubric.name)
        numbers[place] += 1
        assert row.completion.startswith(f"<criteria {place + 1}> {one.rubric.name}.")
        name, value = task.listed[place]
        assert answer.letter == task.verdict(name, value), "the verdict follows from the rubric, right or not"
        assert tie or answer.letter != "tie"
        assert name in task.wanted, "a criterion of the request"
    assert set(numbers) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("looks", [0.0, 0.5, 1.0])
def test_choices_look_at_what_decides_as_often_as_the_mix_says(looks: float) -> None:
    chosen = alone = 0
    for row in made("text_picking", looks):
        task = read(row)
        own = [name for name, _ in task.listed if name in task.wanted]
        assert task.matters in own, "what decides is always in the list"
        chosen += f"> {task.matters}. " in row.completion
        alone += 1 / len(own)
    wanted = looks + (1 - looks) * alone / len(SEEDS)
    assert chosen / len(SEEDS) == pytest.approx(wanted, abs=4 * (wanted * (1 - wanted) / len(SEEDS)) ** 0.5 + 1e-9)


def test_thoughts_say_what_is_there_and_a_yes_hangs_on_what_decides() -> None:
    answers: Counter[str] = Counter()
    for row in made("text_yes"):
        system, user = row.messages[:2]
        *parts, end = user.parts  # behind the last mark stands what to do
        end = replace(end, value=end.value.removesuffix(f"\n{EVALUATE}"))
        task = read(replace(row, messages=(system, replace(user, parts=(*parts, end)))))
        asks = len(row.messages) == 4
        thought = row.messages[2].parts[0].value if asks else row.completion
        found = dict(line.split(": ", 1) for line in thought.splitlines())
        values = task.values["response"]
        for name, said in found.items():
            assert said == said_of(values, name, task.wanted[name]), name
        if asks:
            right = values[task.matters] == task.wanted[task.matters]
            assert task.matters in found
            assert row.completion == ("Yes" if right else "No")
        answers[row.completion if asks else "thought"] += 1
    assert min(answers[name] for name in ("Yes", "No", "thought")) > 60, answers


def test_what_is_looked_at_is_one_or_two_criteria_of_the_request() -> None:
    world = [preference(seed, "train", FAMILIES[seed % 8], in_words=True) for seed in range(200)]
    found = [looking(pair, Random(i), 0.6) for i, pair in enumerate(world)]
    assert {len(one) for one in found} == {1, 2}
    assert all(pair.wanted[name] == value for pair, one in zip(world, found, strict=True) for name, value in one)
    assert all(len(dict(one)) == len(one) for one in found), "no criterion twice"
    share = sum(pair.attribute in dict(one) for pair, one in zip(world, found, strict=True)) / len(world)
    assert share == pytest.approx(0.6, abs=0.15)


def test_the_forms_are_in_words_alone() -> None:
    for kind in ("text_picking", "text_yes"):
        for row in made(kind):
            assert all(part.type == "text" for part in parts_of(row.messages))
            assert row.task.removesuffix(" given") == kind
