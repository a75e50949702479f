"""From a training run to a model to hand on: adapters merged, safetensors, a model card with data, recipe and results.

For `omnirm export`. What it writes loads into `Judge` by path, and into vLLM.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omnirm.errors import ConfigError
from omnirm.shown import visible
from omnirm.training.recipe import RECIPE_FILE

CARD = "README.md"
_ADAPTER = "adapter_config.json"
_MARKS = re.compile(r"[\\\\`*_{}\[\]<>#|~&!]")
_LIBRARIES = {"Qwen2_5Omni": "any-to-any", "Qwen3Omni": "any-to-any", "Qwen3VL": "image-text-to-text"}


def export(
    source: Path, output: Path, *, base: str = "", dtype: str = "", results: Sequence[Path] = (), title: str = ""
) -> Path:
    """Writes the model of a run's `final`, of one of its checkpoints, or of a folder of adapters.

    Args:
        source: the folder: weights, or adapters of PEFT.
        output: folder to write; must be empty or not there yet.
        base: folder or hub name of what adapters belong to; by default what they themselves say, or the run's recipe.
        dtype: of the written weights; "" keeps them.
        results: JSON files of measured results for the card, e.g. of `omnirm.training.nano.report --json`.
        title: of the card; the run's name by default.

    Raises:
        ConfigError: no model in `source`, something in `output`, or a file of results that cannot be read.
        BackendError: the base cannot be loaded.
    """
    from omnirm.training.models import Trainable, load_trainable

    if output.exists() and any(output.iterdir()):
        raise ConfigError(f"{output}: is not empty; name a new folder")
    adapters = (source / _ADAPTER).is_file()
    if not adapters and not (source / "config.json").is_file():
        raise ConfigError(f"{source}: holds neither a model (config.json) nor adapters ({_ADAPTER})")
    measured = [(file.name, _json(file)) for file in results]
    recipe = _recipe(source)
    start = str(source)
    if adapters:
        own = _json(source / _ADAPTER).get("base_model_name_or_path")
        start = base or recipe.get("init") or own or ""
        if not start:
            raise ConfigError(f"{source}: does not say what its adapters belong to; give --base")
    elif not (source / "preprocessor_config.json").is_file() and not (source / "processor_config.json").is_file():
        raise ConfigError(f"{source}: has no processor; export the folder `final` of the run, or adapters with --base")
    trainable = load_trainable(start, device="cpu")
    if adapters:
        from peft import PeftModel

        merged = PeftModel.from_pretrained(trainable.model, str(source))
        trainable = Trainable(merged, trainable.processor, trainable.settings, trainable.source)
    trainable.save(output, dtype)
    model = trainable.model.get_base_model() if adapters else trainable.model
    text = card(title or recipe.get("name") or source.name, type(model).__name__, recipe, _steps(source), measured)
    (output / CARD).write_text(text, encoding="utf-8")
    if recipe:
        (output / RECIPE_FILE).write_text(json.dumps(recipe, indent=1) + "\n", encoding="utf-8")
    for data in _data_cards(recipe):
        shutil.copy(data, output / f"data-{data.stem}.md")
    return output


def card(
    title: str,
    model: str,
    recipe: Mapping[str, Any],
    steps: Sequence[Mapping[str, Any]] = (),
    results: Sequence[tuple[str, Any]] = (),
) -> str:
    """A model card in Markdown.

    Args:
        title: its heading.
        model: name of the model's class.
        recipe: as it was recorded when training began; {} where it is not known.
        steps: log entries of training.
        results: (name of the file, measured values).
    """
    kind = next((kind for word, kind in _LIBRARIES.items() if word in model), "text-generation")
    lines = ["---", "library_name: transformers", f"pipeline_tag: {kind}", "tags: [reward-model, genrm, omnirm]"]
    init = str(recipe.get("init", ""))
    lines += [f"base_model: {json.dumps(init)}"] if "/" in init else []
    lines += ["---", "", f"# {_text(title)}", ""]
    lines += [
        "A generative reward model: it judges responses of several modalities under rubrics, side by side or alone.",
        "",
    ]
    lines += ["    from omnirm import Judge, load_backend", '    judge = Judge(load_backend("<this folder>"))', ""]
    if recipe:
        data = ", ".join(map(_text, recipe.get("sources") or ())) or "not named"
        method = str(recipe.get("method", ""))
        lines += ["## How it was trained", "", f"- method: {_text(method)}, from {_code(init)}"]
        lines += [f"- data: {_code(recipe.get('data', ''))}, made of: {data}"]
        if recipe.get("lora", {}).get("rank"):
            lines += [f"- adapters of rank {_text(recipe['lora']['rank'])}, merged"]
        losses = [one for one in steps if "loss" in one]
        if losses:
            first, last = losses[0], losses[-1]
            lines += [f"- loss {first['loss']:.4g} at step {first['step']}, {last['loss']:.4g} at step {last['step']}"]
        packages = ", ".join(_text(f"{name} {number}") for name, number in recipe.get("packages", {}).items())
        lines += [f"- with {packages}", "", f"    [{_line(method)}]"]
        lines += [f"    {_line(name)} = {json.dumps(value)}" for name, value in recipe.get("settings", {}).items()]
    else:
        lines += ["How it was trained is not recorded beside it."]
    lines += ["", "## Measured", ""]
    if not results:
        lines += ["Nothing was measured when this card was written."]
    for name, values in results:
        lines += [f"{_code(name)}:", "", *_table(values), ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(values: Any) -> list[str]:
    """Rows of records as a Markdown table; anything else as JSON."""
    rows = values if isinstance(values, list) else values.get("rows") if isinstance(values, Mapping) else None
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        return ["    " + line for line in json.dumps(values, indent=1).splitlines()]
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = ["| " + " | ".join(map(_cell, names)) + " |", "|" + "---|" * len(names)]
    return out + ["| " + " | ".join(_cell(row.get(name)) for name in names) + " |" for row in rows]


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else _text(value)


def _line(value: Any) -> str:
    """Anybody's text on one line, without characters that cannot be seen."""
    return visible(" ".join(str(value).split()), newlines=False)


def _text(value: Any) -> str:
    """The same as Markdown that means nothing but its letters."""
    return _MARKS.sub(r"\\\g<0>", _line(value))


def _code(value: Any) -> str:
    return f"`{_line(value).replace('`', chr(39))}`"


def _recipe(source: Path) -> dict[str, Any]:
    """What was recorded in the run's folder, {} where there is nothing."""
    for folder in (source, source.parent):
        if (file := folder / RECIPE_FILE).is_file():
            found = _json(file)
            if not isinstance(found, dict):
                raise ConfigError(f"{file}: is no record of a recipe; remove it")
            return found
    return {}


def _steps(source: Path) -> list[dict[str, Any]]:
    """The log of training: of the checkpoint itself, else of the newest one of the run."""
    files = [source / "trainer_state.json", *sorted(source.parent.glob("checkpoint-*/trainer_state.json"), key=_number)]
    found = [file for file in files if file.is_file()]
    state = _json(found[-1]) if found else {}
    return list(state.get("log_history", ())) if isinstance(state, dict) else []


def _number(file: Path) -> int:
    return int(file.parent.name.rpartition("-")[2])


def _data_cards(recipe: Mapping[str, Any]) -> list[Path]:
    data = Path(str(recipe.get("data", "")))
    if data.suffix != ".parquet":
        return []
    beside = data.with_suffix(".md")
    return [beside] if beside.is_file() else []


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read as JSON: {error}") from error


__all__ = ["CARD", "card", "export"]
