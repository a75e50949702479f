"""DWRL and PAR in small: lessons that the formats read back, flips that are what they say, arithmetic by hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from omnirm.backends.hf_inputs import InputEncoder
from omnirm.errors import ConfigError
from omnirm.nano.samples import pairs
from omnirm.nano.world import FAMILIES, Preference
from omnirm.prompts.formats import get_format
from omnirm.prompts.rendered import Rendered
from omnirm.training.experiments import preferences as script
from omnirm.training.experiments.preference_lessons import LOOKS, criteria_of, lessons
from omnirm.training.experiments.preferences import (
    READINGS,
    Cell,
    Plan,
    Run,
    by_score,
    cells_of,
    differences,
    flipped,
    keep_plan,
    right,
    runs_of,
    text_table,
)
from omnirm.training.experiments.stages import seconds_of
from omnirm.training.nano.intervals import interval
from omnirm.training.par import tags_in_order
from omnirm.training.recipe import read_recipe
from omnirm.training.rows import SFTRow
from omnirm.types import PairVerdict, PointScore

RECIPES = Path(script.__file__).parents[1] / "recipes"


@pytest.fixture(scope="module")
def world() -> list[Preference]:
    return pairs(120, "train", FAMILIES, first=5_000_000, in_words=True)


def read(row: SFTRow, rendered: Rendered) -> Any:
    assert (row.prompt.messages, row.prompt.prefill) == (rendered.messages, rendered.prefill)
    return get_format(rendered.format).parse(rendered, row.prompt.prefill + row.completion, "stop")


def test_lessons_are_read_back_by_the_parsers_and_say_what_is_so(world: list[Preference]) -> None:
    yes = get_format("p-yes")
    for seed, pair in enumerate(world):
        opening, *questions, score, verdict = lessons(pair, seed)
        firsts = [yes.render_thought(pair.sample, candidate=c) for c in (0, 1)]
        (which,) = (c for c in (0, 1) if firsts[c].messages == opening.prompt.messages)
        evaluation = read(opening, firsts[which])
        assert evaluation == opening.completion
        for candidate, question in enumerate(questions):
            text = question.prompt.messages[-2].parts[0].value
            assert f"{pair.attribute}: {pair.analysis()[candidate]}" in text.splitlines(), "the answer hangs on it"
            answer = read(question, yes.render_question(firsts[candidate], text))
            assert answer == ("Yes" if candidate == pair.sample.label else "No")
        for line in evaluation.splitlines():
            name, said = line.split(": ")
            assert said == pair.analysis(name)[which], "what is said of a response is true"
        point = read(score, get_format("pointwise").render(pair.sample, candidate=which))
        assert isinstance(point, PointScore)
        assert [one for _, one in point.scores] == [
            9 if text.endswith("yes") else 2 for text in point.thinking.splitlines()
        ]
        assert point.total == round(np.mean([one for _, one in point.scores]))
        assert {rubric.name for rubric, _ in point.scores} <= set(pair.wanted.attributes)
        assert isinstance(read(verdict, get_format("pairwise-thinking").render(pair.sample)), PairVerdict)
        alone = get_format("pointwise").render(pair.sample, candidate=which)
        assert alone.forced is not None
        marker, ours = alone.forced
        assert score.completion.partition(marker)[2].startswith(ours), "the key of the total is written for the judge"
        rollout: Any = SimpleNamespace(rendered=alone, text="<think>" + score.completion)
        assert tags_in_order(rollout), "so PAR's format reward is there from the start"


def test_thoughts_look_at_what_decides_only_now_and_then(world: list[Preference]) -> None:
    from random import Random

    found = [criteria_of(pair, Random(i)) for i, pair in enumerate(world * 5)]
    looks = np.mean([pair.attribute in dict(one) for pair, one in zip(world * 5, found, strict=True)])
    assert abs(looks - LOOKS) < 5 * (LOOKS * (1 - LOOKS) / len(found)) ** 0.5
    assert {len(one) for one in found} == {1, 2}
    assert all(len(dict(one)) == len(one) for one in found), "no criterion twice"


def test_thoughts_are_read_at_inference_as_they_were_learned(world: list[Preference]) -> None:
    from omnirm.backends.load import nano_folder
    from omnirm.training.models import load_trainable

    encoder: InputEncoder = load_trainable(str(nano_folder()), device="cpu").encoder
    for seed, pair in enumerate(world):
        evaluation = lessons(pair, seed)[0].completion
        assert encoder.answer_ids(evaluation)[:-1] == encoder.untrusted_ids(evaluation)


def test_a_word_that_nano_has_as_an_added_token_may_stand_in_a_text() -> None:
    from omnirm.backends.load import nano_folder
    from omnirm.training.models import load_trainable

    encoder = load_trainable(str(nano_folder()), device="cpu").encoder
    assert encoder.tokenizer.decode(encoder.untrusted_ids("a black tie")) == "a black tie"
    marks = {i for word, i in encoder.tokenizer.get_added_vocab().items() if not word.isalpha()}
    assert marks.isdisjoint(encoder.untrusted_ids("</think><|im_end|><Judge A>[[tie]] Yes No"))


def test_flips_turn_as_many_labels_as_they_say_and_the_same_for_a_seed(world: list[Preference]) -> None:
    samples = [pair.sample for pair in world]

    def turned(percent: int, seed: int) -> set[int]:
        found = flipped(samples, percent, seed)
        assert [one.id for one in found] == [one.id for one in samples]
        assert all(one.candidates == other.candidates for one, other in zip(found, samples, strict=True))
        return {i for i, one in enumerate(found) if one.label != samples[i].label}

    assert [len(turned(percent, 0)) for percent in (0, 20, 50, 100)] == [0, 24, 60, 120]
    assert turned(20, 0) < turned(50, 0)
    assert turned(20, 0) == turned(20, 0) != turned(20, 1)


def test_what_is_right() -> None:
    said = [SimpleNamespace(label="B", verdict=verdict) for verdict in ("B", "A", "tie", None)]
    assert [right(one) for one in said] == [1.0, 0.0, 0.5, 0.0]
    assert [by_score(*one) for one in ((7.0, 2.0), (2.0, 7.0), (5.0, 5.0), (None, 2.0), (9.0, None))] == [
        1,
        0,
        0.5,
        0,
        0,
    ]


def test_the_table_by_hand() -> None:
    found = {  # [seeds, pairs]
        ("dwrl", 0, "p-yes", "words"): np.array([[1.0, 1.0, 0.5, 0.0], [1.0, 0.0, 1.0, 0.0]]),  # 5/8, 4/8: 9/16
        ("bt", 0, "scalar", "words"): np.array([[0.0, 0.0, 0.0, 0.0]]),
        ("par", 20, "scores", "words"): np.ones((1, 4)),
        ("bt", 20, "scalar", "words"): np.full((1, 4), 0.5),
    }
    cells = cells_of(found)
    assert cells[0].spread == (0.625, 0.5)
    assert (cells[0].accuracy, cells[0].pairs) == (0.5625, 4)
    assert 0 <= cells[0].low <= 0.5625 <= cells[0].high <= 1
    assert cells[1] == Cell("bt", 0, "scalar", "words", 4, 0.0, 0.0, 0.0, (0.0,))
    lines = text_table(cells, {("dwrl", 0): [10.0, 20.0], ("bt", 20): [None, 4.0]}).splitlines()
    assert lines[0] == "| arm | flipped | read by | words | seconds |"
    assert lines[2].startswith("| dwrl | 0 | p-yes | 56.2 [")
    assert lines[2].endswith("] | 15 |")
    assert lines[5] == "| bt | 20 | scalar | 50.0 [50.0, 50.0] | 4 |"
    rows = differences(found).splitlines()[2:]
    assert rows[0].startswith("| dwrl - bt (scalar) | 0 | words | +56.2 [")
    assert rows[1] == "| par - bt (scalar) | 20 | words | +50.0 [+50.0, +50.0] |"
    assert len(rows) == 2


def test_what_was_gained_over_the_start_is_told_in_the_arms_own_reading() -> None:
    found: Any = {
        ("sft", 0, "p-yes", "words"): np.array([[0.0, 0.0]]),
        ("sft", 0, "scores", "words"): np.array([[0.5, 0.5]]),
        ("par", 20, "scores", "words"): np.array([[1.0, 1.0]]),
    }
    assert differences(found).splitlines()[2:] == ["| par - sft (scores) | 20 | words | +50.0 [+50.0, +50.0] |"]


def test_intervals_cover_the_mean_of_a_coin() -> None:
    coin = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        _, low, high = interval(coin.integers(0, 2, 100).astype(float))
        hits += low <= 0.5 <= high
    assert 85 <= hits <= 100


def test_runs_are_those_of_the_issue() -> None:
    runs = runs_of(list(READINGS), (0, 1, 2), (0, 20, 50))
    count = Counter((run.arm, run.flips) for run in runs)
    assert {arm: n for (arm, _), n in count.items() if n != 3} == {"sft": 1}
    assert {flips for arm, flips in count if arm in ("par", "bt")} == {0, 20, 50}
    assert {arm for arm, flips in count if flips} == {"par", "bt"}
    assert len({run.name for run in runs}) == len(runs)


@pytest.mark.parametrize("arm", list(READINGS))
def test_an_arm_is_its_recipe_with_its_own_changes(arm: Any, tmp_path: Path, asked_recipes: list[Any]) -> None:
    plan = Plan(lessons=3, pairs=10)
    run = Run(arm, 1, 20 if arm in ("par", "bt") else 0)
    final = script.train(run, tmp_path, plan, ["dwrl.learning_rate=3e-5", "par.learning_rate=2e-5"])
    recipe = asked_recipes[-1]
    settings = recipe.bt if arm == "bt" else recipe.settings
    assert (recipe.name, settings.seed) == (run.name, 1)
    assert Path(recipe.data).is_file()
    if arm == "sft":
        assert recipe.init == "nano"
    else:
        assert recipe.init == str(tmp_path / "sft-0-0" / "final")
        assert [one.name for one in asked_recipes] == ["sft-0-0", run.name]
        labels = [json.loads(line)["label"] for line in Path(recipe.data).read_text().splitlines()]
        truth = [pair.sample.label for pair in pairs(10, "train", FAMILIES, first=6_000_000, in_words=True)]
        assert sum(a != b for a, b in zip(labels, truth, strict=True)) == (2 if run.flips else 0)
    if "dwrl" in arm:
        assert (settings.misalignment, settings.learning_rate) == (arm == "dwrl", 3e-5)
    if arm in ("par", "grpo-point", "grpo-pair"):
        assert settings.reward == ("graded" if arm == "par" else "binary")
        assert settings.mode == ("pairwise" if arm == "grpo-pair" else "pointwise")
        rollouts = settings.generations * (1 if arm == "grpo-pair" else 2)
        assert rollouts == 2 * plan.thoughts, "as many for a pair in every arm"
        assert settings.learning_rate == 2e-5
    assert seconds_of(tmp_path / run.name) is not None
    before = len(asked_recipes)
    assert script.train(run, tmp_path, plan) == final
    assert len(asked_recipes) == before, "what is there is not made again"


def test_arms_see_as_many_pairs_a_step_and_as_often() -> None:
    dwrl, par, bt = (read_recipe(RECIPES / f"nano-pref-{name}.toml") for name in ("dwrl", "par", "bt"))
    per_pair = 2 * par.settings.generations
    pairs_a_step = par.settings.batch_size * par.settings.accumulation // per_pair
    assert pairs_a_step == dwrl.settings.batch_size * dwrl.settings.accumulation
    assert pairs_a_step == bt.bt.batch_size * bt.bt.accumulation
    assert par.settings.epochs == dwrl.settings.epochs == bt.bt.epochs
    assert par.settings.generations == dwrl.settings.thoughts == Plan().thoughts


def test_a_folder_holds_the_runs_of_one_plan(tmp_path: Path) -> None:
    keep_plan(tmp_path / "new", Plan(pairs=10), ["par.epochs=1"])
    keep_plan(tmp_path / "new", Plan(pairs=10), ["par.epochs=1"])
    with pytest.raises(ConfigError, match="another --root"):
        keep_plan(tmp_path / "new", Plan(pairs=11), ["par.epochs=1"])
