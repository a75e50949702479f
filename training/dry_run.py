"""A recipe rehearsed: the same trainer and settings on a small random model of the same family, two real steps.

For `omnirm train --dry-run` and the tests of every recipe. It shows before the first GPU hour whether a recipe's
settings go together: rows of every modality that the family takes go through the same collator, losses and optimiser,
the model is saved, and a judge loads it back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from omnirm.backends.load import NANO, nano_folder
from omnirm.errors import ConfigError
from omnirm.nano.build import Family, Size, build_model, build_processor, save_checkpoint, train_tokenizer
from omnirm.nano.lessons import render
from omnirm.nano.world import FAMILIES, Preference, preference, with_files
from omnirm.sample import Sample, dump_rubric
from omnirm.training.models import load_trainable
from omnirm.training.recipe import Recipe
from omnirm.training.rows import DPORow, GRPORow, SFTRow, Shown
from omnirm.training.settings import TrainSettings, read_table

STEPS = 2
_ROOM = 4096  # tokens of the longest made-up row, and more
_SIZE = Size(hidden=64, layers=2, intermediate=64, vision_hidden=32, vision_layers=1, audio_hidden=32, audio_layers=1)
_FAMILIES: dict[str, Family] = {
    "qwen2.5-omni": "qwen2_5_omni",
    "qwen2_5_omni": "qwen2_5_omni",
    "qwen3-omni": "qwen3_omni",
    "qwen3_omni": "qwen3_omni",
    "qwen3-vl": "qwen3_vl",
    "qwen3_vl": "qwen3_vl",
}


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What came of it.

    losses: of the steps of the optimiser. changed: settings that were other than the recipe's, and why.
    folder: of the trained model, which was loaded back and asked once.
    """

    family: str
    rows: int
    losses: tuple[float, ...]
    changed: tuple[str, ...]
    folder: Path
    answer: str


def rehearse(recipe: Recipe, folder: Path) -> Rehearsal:
    """Takes two steps of the optimiser as the recipe says, but on a small random model and made-up rows.

    Args:
        recipe: of a judge.
        folder: for the model, the rows' media and the checkpoints.

    Raises:
        ConfigError: a model of no known family, or settings that do not go together.
        BackendError: what was trained cannot be loaded back.
    """
    from omnirm.backends.hf import HFBackend
    from omnirm.prompts.formats import get_format

    family = family_of(recipe.init)
    start = _random_model(family, folder / "start")
    settings, changed = _shortened(recipe.settings)
    lora = recipe.lora
    if lora.quantize:
        changed.append("quantize = '' (a random model in float32 has nothing to quantise)")
        lora = replace(lora, quantize="")
    if recipe.max_tokens < _ROOM:
        changed.append(f"max_tokens = {_ROOM} (the random model's tokenizer knows few words)")
    small = replace(
        recipe, init=str(start), settings=settings, lora=lora, device="cpu", dtype="float32", saved_dtype="float32",
        max_tokens=max(recipe.max_tokens, _ROOM),
    )  # fmt: skip
    rows = sample_rows(recipe.method, family, folder / "media")
    trainable = load_trainable(small.init, device="cpu", dtype="float32", lora=lora)
    final = small.train_on(trainable, rows, folder / "run")
    state = json.loads(next(folder.glob(f"run/checkpoint-{STEPS}/trainer_state.json")).read_text(encoding="utf-8"))
    losses = tuple(float(one["loss"]) for one in state["log_history"] if "loss" in one)
    if len(losses) < STEPS or not all(map(math.isfinite, losses)):
        raise ConfigError(f"{recipe.name}: the losses of {STEPS} steps were {losses}: nothing can be learned so")
    backend = HFBackend(str(final), device="cpu")
    rendered = get_format("pairwise").render(pairs(family, folder / "media")[0].sample)
    answer = backend.generate([replace(rendered.request(), max_new_tokens=4)])[0]
    if answer.error:
        raise ConfigError(f"{final}: loads, and does not answer: {answer.error}")
    return Rehearsal(family, len(rows), losses, tuple(changed), final, answer.text)


def family_of(source: str) -> Family:
    """The family of a model's folder or hub name; of what a packaged recipe will have trained, where that is not there.

    Raises:
        ConfigError: none that is known.
    """
    file = (nano_folder() if source == NANO else Path(source)) / "config.json"
    try:
        known = json.loads(file.read_text(encoding="utf-8")).get("model_type", "") if file.is_file() else source
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"init = {source!r}: its config.json is not the documented form ({error})") from error
    for word, family in _FAMILIES.items():
        if word in str(known).lower():
            return family
    if not file.is_file() and (before := _trained_from(source)):
        return family_of(before)
    raise ConfigError(
        f"init = {source!r}: of no known family; name it so that it holds Qwen2.5-Omni, Qwen3-Omni or Qwen3-VL"
    )


def _trained_from(source: str) -> str:
    """What the packaged recipe begins with whose final model `source` is, "" where there is none."""
    final = Path(source)
    for file in Path(__file__).parent.glob("recipes/*.toml"):
        table = read_table(file)
        if final.name == "final" and table["name"] == final.parent.name:
            return str(table["init"])
    return ""


def pairs(family: Family, folder: Path) -> list[Preference]:
    """A labelled pair of each kind that the family takes, with its media as files."""
    takes = [one for one in FAMILIES if family != "qwen3_vl" or "A" not in one]
    found = [preference(seed, "train", one) for seed, one in enumerate(takes)]
    return [replace(one, sample=with_files(one.sample, folder)) for one in found]


def sample_rows(method: str, family: Family, folder: Path) -> Sequence[Any]:
    """Rows as the method takes them: text with thinking, media by the verdict alone, all labelled."""
    found = pairs(family, folder)
    if method in ("par", "dwrl"):
        return [one.sample for one in found]
    if method == "grpo":
        return [_grpo_row(one) for one in found]
    rows: list[Any] = []
    for pair in found:
        thinking = not any(part.type != "text" for part in _parts(pair.sample))
        gold = [(pair.attribute, pair.wanted[pair.attribute])]
        rendered, answer = render(pair, gold, thinking, given=False)
        shown = Shown(rendered.messages, rendered.prefill)
        if method == "sft":
            rows.append(SFTRow(pair.sample.id, "judgment", thinking, shown, answer, 1.0))
        else:
            wrong = answer.replace("[[A]]", "[[?]]").replace("[[B]]", "[[A]]").replace("[[?]]", "[[B]]")
            wrong = {"A]]": "B]]", "B]]": "A]]"}.get(wrong, wrong)
            rows.append(DPORow(pair.sample.id, "judgment", thinking, shown, answer, wrong, 1.0, -1.0))
    return rows


def _grpo_row(pair: Preference) -> GRPORow:
    rubrics = [dump_rubric(pair.rubric(name, pair.wanted[name])) for name in pair.wanted.attributes[:3]]
    scores = [[1.0, 0.5, 1.0 + i, 0.5 + 2 * i] for i in range(len(rubrics))]
    label = "AB"[int(pair.sample.label or 0)]
    return GRPORow(pair.sample.id, pair.sample.to_json(), json.dumps(rubrics), json.dumps(scores), label)


def _parts(sample: Sample) -> list[Any]:
    return [p for m in sample.prompt for p in m.parts] + [p for c in sample.candidates for p in c.parts]


def _shortened(settings: TrainSettings) -> tuple[Any, list[str]]:
    """The settings for two steps on a CPU, and what is other than in the recipe."""
    short: Mapping[str, Any] = {
        "max_steps": STEPS, "batch_size": 2, "accumulation": 2, "save_steps": STEPS, "log_steps": 1, "workers": 0,
        "report_to": "none", "generations": 2, "minibatches": 2, "iterations": 1, "rollout_batch": 4,
        "max_new_tokens": 12, "thoughts": 2, "steps_per_rollout": 1, "patience": 0, "unread": "wrong", "vllm": False,
        "freeze": (),
    }  # fmt: skip
    known = {f.name for f in fields(settings)}
    change = {name: value for name, value in short.items() if name in known and getattr(settings, name) != value}
    if "patience" in change and getattr(settings, "thoughts", None) is not None:
        del change["patience"]  # DWRL's is at least 1
    said = [f"{name} = {value!r} (recipe: {getattr(settings, name)!r})" for name, value in change.items()]
    return replace(settings, **change), said


def _random_model(family: Family, folder: Path) -> Path:
    from omnirm.nano.instructions import vocabulary

    tokenizer = train_tokenizer(family, vocabulary(200), 600, ("Yes", "No"))
    return save_checkpoint(build_model(family, tokenizer, _SIZE), build_processor(family, tokenizer, _SIZE), folder)


__all__ = ["Rehearsal", "family_of", "pairs", "rehearse", "sample_rows"]
