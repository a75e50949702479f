"""Primary rubrics: the one criterion that a kind of task always comes down to, before those of the single sample.

PaTaRM's scheme: a primary rubric with bands of scores and the larger weight, and generated ones beside it. The rubrics
stand in `primary.toml`; a file of the same form adds tasks or replaces some.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from omnirm.backends.base import Backend
from omnirm.content import check_keys, show, wrong
from omnirm.errors import ConfigError, SampleError
from omnirm.prompts.rubric_steps import Planning
from omnirm.rubrics.base import RubricSet
from omnirm.rubrics.rounds import Asker, check_count
from omnirm.sample import Sample
from omnirm.types import Rubric

_MEDIA = ("video", "audio", "image")  # where several are in play, the first of these names the task


class PrimaryPlanner:
    """The primary rubric of a sample's task with a larger weight, then generated ones that do not overlap with it.

    The task of a sample is `task` where given; else `metadata["task"]` where that is one of the library; else the
    medium of the candidates, or of the prompt where the candidates are text (`video`, `audio`, `image`); else `chat`.
    A sample whose generation fails still has its primary rubric.

    Args:
        backend: answers requests; not asked at all with `count=1`.
        task: the task of every sample, a key of the library.
        count: how many rubrics in all, 1 to 100 (PaTaRM: 2 to 4).
        weight: of the primary rubric, at least 1; the others have 1.
        library: a TOML file in the form of `primary.toml`, on top of the built-in rubrics.
        seed, temperature, max_new_tokens: see `omnirm.rubrics.rounds.Asker`.

    Raises:
        ConfigError: a setting outside its range, or a task that the library does not have.
        SampleError: a library that is not of the documented form.
    """

    name = "primary"

    def __init__(
        self,
        backend: Backend,
        *,
        task: str | None = None,
        count: int = 10,
        weight: float = 2.0,
        library: str | Path | None = None,
        seed: int = 0,
        temperature: float = 0.0,
        max_new_tokens: int | None = None,
    ) -> None:
        check_count(count)
        if not 1 <= weight <= 1e6:
            raise ConfigError(
                f"weight {weight}: the primary rubric counts at least as much as the others; give 1 to 1e6"
            )
        self.library = primary_rubrics() | (primary_rubrics(library) if library is not None else {})
        if task is not None and task not in self.library:
            raise ConfigError(f"task {task!r}: no primary rubric; there are {', '.join(self.library)}")
        self.task, self.count, self.weight = task, count, float(weight)
        self._asker = Asker(backend, seed, temperature, max_new_tokens)

    def plan(self, samples: Sequence[Sample]) -> list[RubricSet]:
        """The rubrics for each sample, the primary one first; the others are asked for in one batch.

        Raises:
            BackendError: the backend as a whole failed.
        """
        first = [replace(self.library[self.task_of(sample)], weight=self.weight) for sample in samples]
        if self.count == 1:
            return [RubricSet((rubric,)) for rubric in first]
        jobs = [
            (sample, {"count": self.count - 1, "rubrics": (rubric,)})
            for sample, rubric in zip(samples, first, strict=True)
        ]
        added = self._asker.propose(Planning(), "planning", jobs)
        return [
            replace(new, rubrics=(rubric, *new.rubrics), failure=None) for rubric, new in zip(first, added, strict=True)
        ]

    def task_of(self, sample: Sample) -> str:
        """The task that decides which primary rubric a sample gets."""
        if self.task is not None:
            return self.task
        named = sample.metadata.get("task")
        if isinstance(named, str) and named in self.library:
            return named
        responses = {part.type for candidate in sample.candidates for part in candidate.parts}
        prompt = {part.type for turn in sample.prompt for part in turn.parts}
        return next((kind for found in (responses, prompt) for kind in _MEDIA if kind in found), "chat")


def primary_rubrics(path: str | Path | None = None) -> dict[str, Rubric]:
    """Primary rubrics by task, each with weight 1 and source `primary`: the built-in ones, or those of a TOML file.

    A table a task: `name`, `asks` (what a response must do), and `bands` (optional: a range of scores to what
    responses in it are like). Asks and bands become the rubric's text.

    Raises:
        SampleError: a file that cannot be read or is not of that form.
    """
    where = "primary.toml" if path is None else str(path)
    try:
        if path is None:
            text = files(__package__).joinpath("primary.toml").read_text(encoding="utf-8")
        else:
            text = Path(path).read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except (OSError, ValueError) as error:  # ValueError: not TOML, or not UTF-8
        raise SampleError(f"{where}: cannot be read as TOML ({error}); write a table a task") from error
    return {task: _rubric(table, f"{where}: {task}") for task, table in tables.items()}


def _rubric(table: Any, where: str) -> Rubric:
    if not isinstance(table, Mapping):
        raise wrong(where, show(table), "write a table with name, asks and bands")
    check_keys(table, ("name", "asks", "bands"), where)
    bands = table.get("bands", {})
    if not isinstance(bands, Mapping):
        raise wrong(f"{where}.bands", show(bands), "write a table of scores and what they stand for")
    said = {"name": table.get("name"), "asks": table.get("asks"), **{f"bands.{key}": v for key, v in bands.items()}}
    for key, value in said.items():
        if not isinstance(value, str) or not value.strip() or "\n" in value:
            raise wrong(f"{where}.{key}", show(value), "write one line of text")
    listed = "; ".join(f"{scores}: {text}" for scores, text in bands.items())
    return Rubric(table["name"], f"{table['asks']} {listed}.".strip() if listed else table["asks"], source="primary")
