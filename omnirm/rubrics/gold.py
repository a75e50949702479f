"""Rubrics that people wrote: from a file, a mapping, or the sample itself. Asks no model."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omnirm.errors import SampleError
from omnirm.rubrics.base import RubricSet
from omnirm.rubrics.distinct import distinct
from omnirm.sample import Sample, parse_rubrics
from omnirm.strict_json import decode_utf8, loads
from omnirm.types import ParseFailure, Rubric

_KEYS = ("gold_rubrics", "gold_rubric")


class GoldPlanner:
    """The gold rubrics of each sample, in the order given; the first place that has some is taken:

    1. `rubrics`, by the sample's id;
    2. `sample.rubrics`;
    3. `sample.metadata["gold_rubrics"]`, then `["gold_rubric"]`: a string, an object, or a list of either.

    A sample without any is a failure of reason `missing`, one whose metadata hold something else `malformed`.

    Args:
        rubrics: rubrics by sample id, or a file of them (`read_rubrics`); None where the samples bring their own.

    Raises:
        SampleError: a file that is not of the documented form.
    """

    name = "gold"

    def __init__(self, rubrics: Mapping[str, Sequence[Rubric]] | str | Path | None = None) -> None:
        if isinstance(rubrics, str | Path):
            rubrics = read_rubrics(rubrics)
        self.rubrics = {id_: _as_gold(given) for id_, given in (rubrics or {}).items()}

    def plan(self, samples: Sequence[Sample]) -> list[RubricSet]:
        """The rubrics for each sample, in order."""
        return [self._plan(sample) for sample in samples]

    def _plan(self, sample: Sample) -> RubricSet:
        given = self.rubrics.get(sample.id) or _as_gold(sample.rubrics)
        if not given:
            key = next((key for key in _KEYS if sample.metadata.get(key)), None)
            if key is None:
                return RubricSet(failure=ParseFailure("missing", f"sample {sample.id} has no gold rubric"))
            try:
                given = _as_gold(_parse(sample.metadata[key], f"metadata.{key}"))
            except SampleError as error:
                return RubricSet(failure=ParseFailure("malformed", f"sample {sample.id}: {error}"))
        if not any(rubric.weight > 0 for rubric in given):
            return RubricSet(failure=ParseFailure("malformed", f"sample {sample.id}: no gold rubric has a weight"))
        return RubricSet(*distinct(given))


def read_rubrics(path: str | Path) -> dict[str, tuple[Rubric, ...]]:
    """Rubrics by sample id from a `.json` or `.toml` file: a string, an object with `name`, `text`, `weight`, or a
    list of either for each id.

    Raises:
        SampleError: a file that cannot be read, another ending, or another form; the message has the place.
    """
    path = Path(path)
    if path.suffix.lower() not in (".json", ".toml"):
        raise SampleError(f"{path}: found the ending {path.suffix or 'none'}; rubric files end in .json or .toml")
    try:
        text = decode_utf8(path.read_bytes())
        data = loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except OSError as error:
        raise SampleError(f"{path}: {error.strerror}; give a file of rubrics") from error
    except (SampleError, tomllib.TOMLDecodeError) as error:
        raise SampleError(f"{path}: {error}") from error
    if not isinstance(data, Mapping):
        raise SampleError(f"{path}: no object; write sample ids and the rubrics of each")
    try:
        return {id_: _parse(value, id_) for id_, value in data.items()}
    except SampleError as error:
        raise SampleError(f"{path}: {error}") from error


def _parse(value: Any, where: str) -> tuple[Rubric, ...]:
    return parse_rubrics([value] if isinstance(value, str | Mapping) else value, where)


def _as_gold(rubrics: Sequence[Rubric]) -> tuple[Rubric, ...]:
    return tuple(replace(rubric, source="gold") if rubric.source == "given" else rubric for rubric in rubrics)
