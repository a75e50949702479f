"""A scorer that follows a script, for tests, documentation and trying out a pipeline without a model.

    ScriptedScorer(lambda item: float(len(item.response[0].value)))

It judges nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence

from omnirm.errors import BackendError, ConfigError
from omnirm.scorers.base import Scored
from omnirm.types import Modality, ParseFailure

ALL_MODALITIES: frozenset[Modality] = frozenset({"text", "image", "video", "audio"})


class ScriptedScorer:
    """Scores each item by `function`.

    Args:
        function: item -> score. A `ParseFailure` is given on; a score that is no finite number becomes one
            (`out_of_range`), and so does a `BackendError` that it raises (`backend_error`).
        name, revision, modalities: as declared by the scorer.

    Attributes:
        items: every item seen so far, in order.
        batches: how many items each `score` call had.
    """

    def __init__(
        self,
        function: Callable[[Scored], float | ParseFailure],
        *,
        name: str = "scripted",
        revision: str = "",
        modalities: Iterable[Modality] = ALL_MODALITIES,
    ) -> None:
        self.name, self.revision = name, revision
        self.modalities: frozenset[Modality] = frozenset(modalities)
        self.items: list[Scored] = []
        self.batches: list[int] = []
        self._function = function

    def score(self, items: Sequence[Scored]) -> list[float | ParseFailure]:
        """The function's value for each item, in order."""
        self.batches.append(len(items))
        self.items.extend(items)
        return [self._one(item) for item in items]

    def _one(self, item: Scored) -> float | ParseFailure:
        try:
            value = self._function(item)
        except BackendError as e:
            return ParseFailure("backend_error", str(e))
        if isinstance(value, ParseFailure):
            return value
        if not math.isfinite(value):
            return ParseFailure("out_of_range", f"the score is {value}")
        return float(value)


def length(item: Scored) -> float:
    """Characters of the response's text: prefers what is longer."""
    return float(len(_text(item)))


def shuffled(item: Scored) -> float:
    """A number in [0, 1) that depends on the response's text alone and means nothing."""
    digest = hashlib.sha256(_text(item).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _text(item: Scored) -> str:
    return "".join(part.value for part in item.response if part.type == "text")


NAMED: dict[str, Callable[[Scored], float]] = {"length": length, "random": shuffled}


def named(script: str) -> ScriptedScorer:
    """The ready-made scorer `scripted:<script>`: `length` or `random`.

    Raises:
        ConfigError: there is none of that name.
    """
    if script not in NAMED:
        known = ", ".join(f"scripted:{one}" for one in NAMED)
        raise ConfigError(f"scripted:{script}: no such scorer; there are {known}")
    return ScriptedScorer(NAMED[script], name=f"scripted:{script}")
