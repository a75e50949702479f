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
from omnirm.training.nano import (
    SETTINGS,
    TEMPLATES,
    drawn,
    main,
    messages_of,
    prepare_drawn,
    read_recipe,
    rough_length,
    write_settings,
)
from omnirm.types import Part

RECIPES = Path(__file__).resolve().parents[2] / "training" / "recipes"
STAGES = ("nano-base-text", "nano-base-drill", "nano-base-media", "nano-genrm")
LEAST = 'name = "x"\ninit = "new"\nlessons = "instructions"\nrows = 4\n'


@pytest.mark.parametrize("name", [p.stem for p in sorted(RECIPES.glob("nano-*.toml")) if p.stem != "nano-disrm"])
def test_a_shipped_recipe_reads_and_is_named_like_its_file(name: str) -> None:
    recipe = read_recipe(RECIPES / f"{name}.toml")
    assert recipe.name == name
    assert recipe.rows >= recipe.copy_rows + recipe.single_rows
    steps = recipe.rows // (recipe.sft.batch_size * recipe.sft.accumulation)
    assert steps > 2 * recipe.sft.save_steps, "so that a stage can be resumed"


def test_stages_follow_each_other_on_rows_of_their_own() -> None:
    stages = [read_recipe(RECIPES / f"{name}.toml") for name in STAGES]
    text, drill, media, judge = stages
    assert [r.init for r in stages] == ["new", text.name, drill.name, media.name]
    assert [r.lessons for r in stages] == ["instructions"] * 3 + ["judging"]
    assert [r.drill for r in stages] == [False, True, False, False]
    assert (text.media, drill.media, media.media > 0.5) == (0.0, 0.0, True)
    spans = [range(r.first_seed, r.first_seed + r.rows) for r in stages]
    assert all(a.stop <= b.start for a, b in pairwise(spans)), "no seed is used twice"
    shares = [getattr(judge.mix, f.name) for f in fields(Mix) if f.name not in ("given", "replay_media")]
    assert min(shares) > 0, "everything that the judge is asked for is taught"
    assert sum(shares) < 0.95, "the base is repeated"


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ("row = 3\n", "row"),
        ("[sft]\nlearning_rat = 1.0\n", "learning_rat"),
        ("[mix]\nthinking_on_media = 0.5\n", "thinking_on_media"),
        ("[lora]\nrank = 8\n", "lora"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_it_and_those_there_are(tmp_path: Path, extra: str, named: str) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(LEAST + extra, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"recipe\.toml: unknown \['{named}'\]; known are \['"):
        read_recipe(file)


def test_an_unknown_kind_of_lesson_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(LEAST.replace("instructions", "cooking"), encoding="utf-8")
    with pytest.raises(ConfigError, match="'cooking': write instructions or judging"):
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


def test_rows_go_from_copying_over_one_thing_to_everything() -> None:
    for name in STAGES[:3]:
        recipe = read_recipe(RECIPES / f"{name}.toml")
        copy, single = recipe.copy_rows, recipe.copy_rows + recipe.single_rows
        for place in {0, 10, copy - 1, copy, copy + 10, single - 1, single, single + 10, recipe.rows - 1} - {-1}:
            stage = "copy" if place < copy else "single" if place < single else "drill" if recipe.drill else "all"
            seed = recipe.first_seed + place
            row = instruction(seed, media=recipe.media, stage=stage)  # type: ignore[arg-type]
            assert messages_of(recipe, seed) == (row.messages, row.prefill, row.completion), (name, place)
    text = read_recipe(RECIPES / f"{STAGES[0]}.toml")
    assert min(text.copy_rows, text.single_rows) > 0
    judge = read_recipe(RECIPES / "nano-genrm.toml")
    row, made = lesson(judge.first_seed, mix=judge.mix), messages_of(judge, judge.first_seed)
    assert made == (row.messages, row.prefill, row.completion)


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
    for name in ("nano-base-drill", "nano-base-media", "nano-genrm"):
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
            else "batch_size = 4" if line.startswith("batch_size")
            else line for line in text.splitlines()
        ]  # fmt: skip
        files.append(tmp_path / f"{name}.toml")
        files[-1].write_text("\n".join(lines), encoding="utf-8")
    main([str(f) for f in files] + ["--output", str(tmp_path / "runs"), "--threads", "1"])
    from omnirm.backends.hf import HFBackend
    from omnirm.judge import Judge

    backend = HFBackend(str(tmp_path / "runs" / "nano-genrm" / "final"), device="cpu")
    judge = Judge(backend, format="pairwise", max_new_tokens=4)
    for family in ("T2T", "T2V", "TA2T"):
        judgment = judge.compare(drawn(preference(1, "test", family).sample))  # type: ignore[arg-type]
        assert judgment.error == ""
        assert len(judgment.calls) == 2
