"""Trains omnirm-nano: the base in stages (text, then media), and the GenRM by prompt-switched SFT. CPU only must do.

    python -m omnirm.training.nano.stages training/recipes/nano-base-text.toml training/recipes/nano-base-media.toml ...

Every stage saves checkpoints and resumes by itself when the same command is given again. Rows are seeds: a row's text
and media are made by the nano world when the collator needs them, in a worker process.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from omnirm.backends.hf_inputs import Conversation, InputEncoder
from omnirm.errors import ConfigError
from omnirm.nano.instructions import Stage, instruction
from omnirm.nano.lessons import Mix, lesson
from omnirm.nano.writer import Drawing
from omnirm.preprocessing.types import AudioSettings, ImageSettings, Media, Policy, Settings, VideoSettings
from omnirm.sample import Sample
from omnirm.training.collate import MediaCollator
from omnirm.training.settings import made, read_table
from omnirm.training.sft import SFTSettings, train_sft
from omnirm.types import Message, Part

Tasks = Literal["all", "drill", "glance"]
MEDIA_TOKENS = {
    "image": 11,
    "video": 20,
    "audio": 22,
}  # of one nano medium, markers included; for grouping rows by length
#: budgets of the nano world: 84 x 84 pixels, four frames of a two-second clip
SETTINGS = Settings(
    ImageSettings(28, 84 * 84, 84 * 84),
    VideoSettings(28, fps=2.0, min_frames=4, max_frames=16, min_pixels=84 * 84, max_pixels=84 * 84),
    AudioSettings(16000),
)
#: templates whose fixed lines become one token each before judging is taught
TEMPLATES = (
    "pairwise_thinking", "pairwise", "planning", "selection", "refinement", "pointwise",
    "p_yes", "p_yes_evaluate", "p_yes_question",
)  # fmt: skip
NOTICE = "omnirm-nano knows its toy world only: drawn shapes, moving shapes, tones, lists and sums."


@dataclass(frozen=True, slots=True)
class Recipe:
    """One stage. `init` is `new` or the output folder of the stage before; `lessons` is `instructions` or `judging`."""

    name: str
    init: str
    lessons: str
    rows: int
    first_seed: int = 0
    media: float = 0.0  # instructions, also those between judging: share of things given as media
    words_rows: int = 0  # instructions: the first so many rows have no media
    copy_rows: int = 0  # instructions: the first so many rows only repeat words
    single_rows: int = 0  # instructions: the next so many rows are on one thing each
    tasks: Tasks = "all"  # instructions: which of them
    replay_every: int = 0  # judging: every so many batches one of comparing at a glance, one thing and two in turn
    mix: Mix = field(default_factory=Mix)
    sft: SFTSettings = field(default_factory=SFTSettings)

    def train(self, output: Path, callbacks: Sequence[Any] = ()) -> Path:
        """See `run_stage`."""
        return run_stage(self, output, callbacks)


def read_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Reads a stage's TOML file.

    Raises:
        ConfigError: an unknown key or lesson kind.
    """
    data = read_table(path, changes)
    mix, sft = made(path, Mix, data.pop("mix", None), "mix"), made(path, SFTSettings, data.pop("sft", None), "sft")
    recipe = made(path, Recipe, data, mix=mix, sft=sft)
    if recipe.tasks not in get_args(Tasks):
        raise ConfigError(f"{path}: tasks {recipe.tasks!r}: write one of {', '.join(get_args(Tasks))}")
    if recipe.lessons not in ("instructions", "judging"):
        raise ConfigError(f"{path}: lessons {recipe.lessons!r}: write instructions or judging")
    return recipe


def stage_of(recipe: Recipe, place: int) -> Stage:
    """What the row at that place of an instructions recipe teaches.

    Comparing at a glance begins with one thing alone, and goes on with two; all else comes in between, batch by batch,
    so that it is not forgotten and the rows of a batch have like lengths.
    """
    single = recipe.copy_rows <= place < recipe.copy_rows + recipe.single_rows
    if recipe.tasks == "glance":
        turn = place // (recipe.sft.batch_size * recipe.sft.accumulation)
        return ("fit", "fit", "all")[turn % 3] if single else ("glance", "glance", "fit", "all")[turn % 4]  # type: ignore[return-value]
    if place < recipe.copy_rows:
        return "copy"
    return "single" if single else recipe.tasks


def messages_of(recipe: Recipe, seed: int) -> tuple[tuple[Message, ...], str, str]:
    """Messages, prefill and completion of a row."""
    if recipe.lessons == "instructions":
        place = seed - recipe.first_seed
        row = instruction(seed, media=0.0 if place < recipe.words_rows else recipe.media, stage=stage_of(recipe, place))
        return row.messages, row.prefill, row.completion
    turn = (seed - recipe.first_seed) // (recipe.sft.batch_size * recipe.sft.accumulation)
    if recipe.replay_every and turn % recipe.replay_every == recipe.replay_every - 1:
        stage: Stage = "fit" if turn // recipe.replay_every % 2 else "glance"
        row = instruction(seed, media=recipe.media, stage=stage)
        return row.messages, row.prefill, row.completion
    rest = lesson(seed, mix=recipe.mix)
    return rest.messages, rest.prefill, rest.completion


def rough_length(encoder: InputEncoder, messages: Sequence[Message], answer: str) -> int:
    """Tokens of a row without drawing its media; near enough to group rows by."""
    count = len(encoder.text_ids(answer))
    for message in messages:
        count += 5
        for part in message.parts:
            if part.type == "text":
                count += len(encoder.text_ids(part.value) if part.trusted else encoder.untrusted_ids(part.value))
            else:
                count += MEDIA_TOKENS[part.type]
    return count


def prepare_drawn(part: Part) -> Media:
    """Decodes a part of the nano world through the same path as a user's file."""
    from omnirm.preprocessing import prepare

    if part.type == "text":
        raise ValueError("a text part has no medium to decode")
    value = part.value.render()[0] if isinstance(part.value, Drawing) else part.value
    return prepare(value, part.type, SETTINGS, Policy(), part.options)


def drawn(sample: Sample) -> Sample:
    """The sample with its media drawn, as bytes."""

    def part(p: Part) -> Part:
        return replace(p, value=p.value.render()[0]) if isinstance(p.value, Drawing) else p

    return replace(
        sample,
        prompt=tuple(replace(m, parts=tuple(part(p) for p in m.parts)) for m in sample.prompt),
        candidates=tuple(replace(c, parts=tuple(part(p) for p in c.parts)) for c in sample.candidates),
    )


def start(recipe: Recipe, root: Path) -> tuple[Any, Any]:
    """The model and processor that a stage begins with: new ones, or those of the stage before."""
    import transformers

    from omnirm.nano.build import Size, build_model, build_processor, name_lines, save_checkpoint, train_tokenizer
    from omnirm.nano.instructions import vocabulary
    from omnirm.prompts.render import template_lines

    if recipe.init == "new":
        size = Size(hidden=192, layers=6, intermediate=384, rope_theta=1000.0, init_std=0.04)
        tokenizer = train_tokenizer("qwen2_5_omni", vocabulary(4000), 1000, spare=160)
        model = build_model("qwen2_5_omni", tokenizer, size, seed=recipe.sft.seed)
        return model, build_processor("qwen2_5_omni", tokenizer, size)
    folder = root / recipe.init / "final"
    if recipe.lessons == "judging":  # the judge's fixed lines become one token each
        before = folder
        folder = root / recipe.name / "start"
        model = transformers.Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(before, dtype="float32")
        save_checkpoint(model, transformers.AutoProcessor.from_pretrained(before), folder)
        name_lines(folder, (*template_lines(*TEMPLATES), "</revised"), ("tie", "Yes", "No"))
    return (
        transformers.Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(folder, dtype="float32"),
        transformers.AutoProcessor.from_pretrained(folder),
    )


def run_stage(recipe: Recipe, root: Path, callbacks: Sequence[Any] = ()) -> Path:
    """Trains one stage and returns the folder of its final checkpoint."""
    import torch

    from omnirm.nano.build import save_checkpoint

    torch.manual_seed(recipe.sft.seed)
    model, processor = start(recipe, root)
    encoder = InputEncoder(processor)

    def build(seed: int) -> Conversation:
        messages, prefill, completion = messages_of(recipe, seed)
        return Conversation(
            messages, (), prefill, completion, learn_history=recipe.lessons == "instructions" or len(messages) > 2
        )

    seeds = list(range(recipe.first_seed, recipe.first_seed + recipe.rows))
    lengths = None
    if recipe.sft.sampling == "group_by_length":
        lengths = [rough_length(encoder, m, p + c) for m, p, c in (messages_of(recipe, s) for s in seeds)]
    collator = MediaCollator(encoder, build, prepare_drawn, max_tokens=1024)
    train_sft(model, processor.tokenizer, seeds, lengths, collator, recipe.sft, root / recipe.name, callbacks=callbacks)
    folder = save_checkpoint(model, processor, root / recipe.name / "final")
    write_settings(folder)
    return folder


def write_settings(folder: Path) -> None:
    """Writes the checkpoint's own media budgets and its notice beside the weights."""
    area = 84 * 84
    media = {
        "image": {"min_pixels": area, "max_pixels": area},
        "video": {"fps": 2.0, "min_frames": 4, "max_frames": 16, "min_pixels": area, "max_pixels": area},
    }
    (folder / "omnirm.json").write_text(
        json.dumps({"media": media, "notice": NOTICE}, indent=1) + "\n", encoding="utf-8"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains the stages whose recipe files are given, in order."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="+", type=Path, help="stage files, in order")
    parser.add_argument("--output", type=Path, default=Path("runs/nano"), help="folder of the stages' checkpoints")
    parser.add_argument("--threads", type=int, default=None, help="torch threads")
    options = parser.parse_args(arguments)
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    for path in options.recipes:
        recipe = read_recipe(path)
        print(f"{recipe.name}: {run_stage(recipe, options.output)}", flush=True)


if __name__ == "__main__":
    main()
