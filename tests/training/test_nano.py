"""Recipes of omnirm-nano: read strictly, of the shape that the papers ask for, and stages that join up."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from omnirm.backends.hf_inputs import Conversation, InputEncoder, media_parts
from omnirm.backends.hf_load import merge_settings
from omnirm.errors import ConfigError
from omnirm.nano.instructions import instruction
from omnirm.nano.lessons import Mix, lesson
from omnirm.nano.world import preference
from omnirm.nano.writer import Drawing
from omnirm.preprocessing import Settings
from omnirm.prompts.render import template_lines
from omnirm.training.nano.stages import (
    SETTINGS,
    TEMPLATES,
    Recipe,
    drawn,
    main,
    messages_of,
    prepare_drawn,
    read_recipe,
    rough_length,
    stage_of,
    write_settings,
)
from omnirm.training.settings import read_table
from omnirm.training.sft import SFTSettings
from omnirm.types import Part

RECIPES = Path(__file__).resolve().parents[2] / "training" / "recipes"
STAGES = ("nano-base-text", "nano-base-drill", "nano-base-media", "nano-base-glance", "nano-genrm")
LEAST = 'name = "x"\ninit = "new"\nlessons = "instructions"\nrows = 4\n'


@pytest.mark.parametrize("name", [p.stem for p in sorted(RECIPES.glob("nano-*.toml")) if "lessons" in read_table(p)])
def test_a_shipped_recipe_reads_and_is_named_like_its_file(name: str) -> None:
    recipe = read_recipe(RECIPES / f"{name}.toml")
    assert recipe.name == name
    assert recipe.rows >= max(recipe.copy_rows + recipe.single_rows, recipe.words_rows)
    steps = recipe.rows // (recipe.sft.batch_size * recipe.sft.accumulation)
    assert steps > 2 * recipe.sft.save_steps, "so that a stage can be resumed"


def test_stages_follow_each_other_on_rows_of_their_own() -> None:
    stages = [read_recipe(RECIPES / f"{name}.toml") for name in STAGES]
    text, drill, media, glance, judge = stages
    assert [r.init for r in stages] == ["new", *STAGES[:-1]]
    assert [r.lessons for r in stages] == ["instructions"] * 4 + ["judging"]
    assert [r.tasks for r in stages] == ["all", "drill", "all", "glance", "all"]
    assert (text.media, drill.media, media.media > 0.5, glance.media > 0.5) == (0.0, 0.0, True, True)
    assert [r.words_rows > 0 for r in stages] == [False, False, False, True, False]
    spans = [range(r.first_seed, r.first_seed + r.rows) for r in stages]
    assert all(a.stop <= b.start for a, b in pairwise(spans)), "no seed is used twice"
    shares = [getattr(judge.mix, f.name) for f in fields(Mix) if f.name not in ("given", "replay_media")]
    assert min(shares) > 0, "everything that the judge is asked for is taught"
    assert sum(shares) < 1, "the base is repeated"
    assert [r.replay_every > 1 for r in stages] == [False, False, False, False, True], "and so are glances"


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ("row = 3\n", "row"),
        ("drill = true\n", "drill"),
        ("[sft]\nlearning_rat = 1.0\n", "learning_rat"),
        ("[mix]\nthinking_on_media = 0.5\n", "thinking_on_media"),
        ("[lora]\nrank = 8\n", "lora"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_it_and_those_there_are(tmp_path: Path, extra: str, named: str) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(LEAST + extra, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"recipe\.toml: (\[[a-z]+\]: )?unknown \['{named}'\]; known are \['"):
        read_recipe(file)


def test_an_unknown_kind_of_lesson_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(LEAST.replace("instructions", "cooking"), encoding="utf-8")
    with pytest.raises(ConfigError, match="'cooking': write instructions or judging"):
        read_recipe(file)


@pytest.mark.parametrize("tasks", ["fit", "everything", "", "All"])
def test_tasks_that_there_are_not_are_an_error_that_names_those_there_are(tmp_path: Path, tasks: str) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(f'{LEAST}tasks = "{tasks}"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"recipe\.toml: tasks '{tasks}': write one of all, drill, glance$"):
        read_recipe(file)


def test_a_short_recipe_has_the_papers_defaults(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(LEAST, encoding="utf-8")
    recipe = read_recipe(file)
    assert (recipe.sft.learning_rate, recipe.sft.schedule, recipe.sft.warmup, recipe.sft.epochs) == (
        1e-5,
        "cosine",
        0.1,
        1,
    )
    assert recipe.sft.batch_size * recipe.sft.accumulation == 16
    assert recipe.mix == Mix()


@pytest.mark.parametrize("name", STAGES[:3])
def test_rows_go_from_copying_over_one_thing_to_everything(name: str) -> None:
    recipe = read_recipe(RECIPES / f"{name}.toml")
    copy, single = recipe.copy_rows, recipe.copy_rows + recipe.single_rows
    for place in {0, 10, copy - 1, copy, copy + 10, single - 1, single, single + 10, recipe.rows - 1} - {-1}:
        stage = "copy" if place < copy else "single" if place < single else recipe.tasks
        assert stage_of(recipe, place) == stage, place
        seed = recipe.first_seed + place
        row = instruction(seed, media=recipe.media, stage=stage)  # type: ignore[arg-type]
        assert messages_of(recipe, seed) == (row.messages, row.prefill, row.completion), place
    assert (copy > 0, single > copy) == {STAGES[0]: (True, True), STAGES[1]: (False, False)}.get(name, (False, True))


def test_glances_go_from_one_thing_to_two_batch_by_batch_between_all_else() -> None:
    recipe = read_recipe(RECIPES / "nano-base-glance.toml")
    assert (recipe.sft.batch_size, recipe.sft.accumulation, recipe.copy_rows) == (32, 1, 0)
    batches = [[stage_of(recipe, place + i) for i in range(32)] for place in range(0, recipe.rows, 32)]
    assert all(len(set(batch)) == 1 for batch in batches)
    turns, first = [batch[0] for batch in batches], recipe.single_rows // 32
    assert first % 4 == 0, "so that two things begin with a glance"
    assert turns[:first] == (["fit", "fit", "all"] * first)[:first]
    assert turns[first:] == (["glance", "glance", "fit", "all"] * len(turns))[: len(turns) - first]


@pytest.mark.parametrize(("batch_size", "accumulation"), [(4, 1), (2, 2), (1, 4)])
def test_a_turn_of_glances_is_a_step_of_the_optimizer(batch_size: int, accumulation: int) -> None:
    sft = SFTSettings(batch_size=batch_size, accumulation=accumulation)
    recipe = Recipe("x", "new", "instructions", 40, first_seed=7, single_rows=20, tasks="glance", sft=sft)
    turns = ["fit", "fit", "all", "fit", "fit", "glance", "fit", "all", "glance", "glance"]
    assert [stage_of(recipe, place) for place in range(40)] == [stage for stage in turns for _ in range(4)]


def test_glances_are_in_words_alone_at_first_and_then_on_media_too() -> None:
    recipe = read_recipe(RECIPES / "nano-base-glance.toml")
    words, single, last = recipe.words_rows, recipe.single_rows, recipe.rows - 1
    for place in (0, 31, 32, 64, 95, 96, words - 1, words, words + 64, single - 1, single, single + 64, last):
        seed = recipe.first_seed + place
        row = instruction(seed, media=recipe.media if place >= words else 0.0, stage=stage_of(recipe, place))
        assert messages_of(recipe, seed) == (row.messages, row.prefill, row.completion), place
    for span, shown in ((range(words - 96, words), False), (range(words, words + 96), True)):
        made = [messages_of(recipe, recipe.first_seed + place)[0] for place in span]
        assert any(p.type != "text" for row in made for m in row for p in m.parts) == shown


def test_judging_rows_are_lessons_in_the_shares_of_the_recipe_with_batches_of_glances_in_between() -> None:
    judge = read_recipe(RECIPES / "nano-genrm.toml")
    size = judge.sft.batch_size * judge.sft.accumulation
    turns = ["lesson", "lesson", "glance", "lesson", "lesson", "fit"]
    assert (size, judge.replay_every) == (24, 3)
    for batch in (*range(12), judge.rows // size - 1):
        turn = turns[batch % 6]
        for place in (batch * size, batch * size + 11, batch * size + size - 1):
            seed = judge.first_seed + place
            row = lesson(seed, mix=judge.mix) if turn == "lesson" else instruction(seed, media=0.6, stage=turn)  # type: ignore[arg-type]
            assert messages_of(judge, seed) == (row.messages, row.prefill, row.completion), place
            assert turn == "lesson" or "<think>" not in row.prefill + row.completion, "no thinking on media is taught"


@pytest.mark.parametrize(("batch_size", "accumulation"), [(4, 1), (2, 2), (1, 4)])
def test_glances_between_judging_take_a_step_of_the_optimizer_and_none_where_none_are_asked(
    batch_size: int, accumulation: int
) -> None:
    sft = SFTSettings(batch_size=batch_size, accumulation=accumulation)
    for every, replayed in ((0, set[int]()), (1, set(range(16))), (2, {*range(4, 8), *range(12, 16)})):
        recipe = Recipe("x", "new", "judging", 16, first_seed=7, replay_every=every, sft=sft)
        for place in range(16):
            row, made = lesson(7 + place), messages_of(recipe, 7 + place)
            assert (made != (row.messages, row.prefill, row.completion)) == (place in replayed), (every, place)


def test_every_fixed_line_of_every_lesson_is_named_a_token() -> None:
    named, kinds = set(template_lines(*TEMPLATES)), set()
    for seed in range(400):
        row = lesson(seed)
        if row.messages[0].role == "system":
            kinds.add(row.task)
            (system,) = row.messages[0].parts
            unnamed = [line for line in system.value.splitlines() if line not in named]
            assert all(re.search(r"propose \d+ ", line) for line in unnamed), unnamed
    assert {"planning", "selection", "refinement", "text_points", "media_verdict", "text_thinking"} <= kinds


def test_lengths_are_guessed_near_enough_to_group_rows_by(tiny_of: Any) -> None:
    tiny = tiny_of("qwen2_5_omni")
    encoder = InputEncoder(tiny.processor)
    for name in ("nano-base-drill", "nano-base-media", "nano-base-glance", "nano-genrm"):
        recipe = read_recipe(RECIPES / f"{name}.toml")
        for seed in range(recipe.first_seed + recipe.single_rows, recipe.first_seed + recipe.single_rows + 12):
            messages, prefill, completion = messages_of(recipe, seed)
            media = tuple(prepare_drawn(part) for part in media_parts(messages))
            true = encoder([Conversation(messages, media, prefill, completion)])["input_ids"].shape[1]
            assert rough_length(encoder, messages, prefill + completion) == pytest.approx(true, rel=0.1, abs=8)


def test_a_drawn_sample_holds_files_where_drawings_were() -> None:
    sample = preference(2, "test", "TI2I").sample
    found = drawn(sample)
    parts = [p for m in found.prompt for p in m.parts] + [p for c in found.candidates for p in c.parts]
    assert [p.value[:4] for p in parts if p.type == "image"] == [b"\x89PNG"] * 3
    assert not any(isinstance(p.value, Drawing) for p in parts)
    assert (found.label, found.id) == (sample.label, sample.id)
    with pytest.raises(ValueError, match="no medium"):
        prepare_drawn(Part("text", "hello"))


def test_a_checkpoint_carries_the_budgets_that_it_was_trained_with(tmp_path: Path) -> None:
    write_settings(tmp_path)
    data = json.loads((tmp_path / "omnirm.json").read_text(encoding="utf-8"))
    assert merge_settings(Settings(), data["media"]) == SETTINGS
    assert "toy world only" in data["notice"]


@pytest.mark.slow
def test_all_stages_train_save_and_join_up(tmp_path: Path) -> None:
    files = []
    for name in STAGES:
        text = (RECIPES / f"{name}.toml").read_text(encoding="utf-8")
        lines = [
            "rows = 8" if line.startswith("rows") else "copy_rows = 2" if line.startswith("copy_rows")
            else "single_rows = 2" if line.startswith("single_rows")
            else "words_rows = 4" if line.startswith("words_rows")
            else "batch_size = 4" if line.startswith("batch_size")
            else line for line in text.splitlines()
        ]  # fmt: skip
        files.append(tmp_path / f"{name}.toml")
        files[-1].write_text("\n".join(lines), encoding="utf-8")
    main([str(f) for f in files] + ["--output", str(tmp_path / "runs"), "--threads", "1"])
    from omnirm.backends.hf import HFBackend
    from omnirm.judge import Judge

    backend = HFBackend(str(tmp_path / "runs" / STAGES[-1] / "final"), device="cpu")
    judge = Judge(backend, format="pairwise", max_new_tokens=4)
    for family in ("T2T", "T2V", "TA2T"):
        judgment = judge.compare(drawn(preference(1, "test", family).sample))  # type: ignore[arg-type]
        assert judgment.error == ""
        assert len(judgment.calls) == 2
