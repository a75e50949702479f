"""One training of an experiment: a packaged recipe with changes, in a folder of its own, made once and timed."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

RECIPES = Path(__file__).parents[1] / "recipes"


def stage(recipe: str, name: str, init: str, data: Path, changes: Sequence[str], root: Path) -> Path:
    """The folder of the trained model, `<root>/<name>/final`; trained, or gone on with, where it is not there yet.

    `seconds.json` beside it holds the wall time of the training, null where it was stopped in between.

    Args:
        recipe: name of a packaged recipe.
        name: of the stage's folder.
        init: the model to start from.
        data: the file to learn from.
        changes: further `key=value` over the recipe.
        root: folder of all stages.

    Raises:
        ConfigError, SampleError: as `omnirm train` has them.
    """
    from omnirm.training.recipe import read_recipe

    folder = root / name
    if (folder / "final" / "omnirm.json").is_file():  # written last
        return folder / "final"
    own = [f"name={json.dumps(name)}", f"init={json.dumps(init)}", f"data={json.dumps(str(data))}"]
    whole = not any(folder.glob("checkpoint-*"))
    began = time.monotonic()
    final = read_recipe(RECIPES / f"{recipe}.toml", [*own, *changes]).train(root)
    seconds = time.monotonic() - began if whole else None
    (folder / "seconds.json").write_text(json.dumps(seconds), encoding="utf-8")
    return final


def seconds_of(folder: Path) -> float | None:
    """Wall time of a stage's training; None where it is not known."""
    file = folder / "seconds.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


__all__ = ["seconds_of", "stage"]
