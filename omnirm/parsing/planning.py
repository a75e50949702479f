"""Reads planned rubrics: numbered lines between the marks of the request. For the planning format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from omnirm.parsing.marked import between_marks
from omnirm.parsing.rubric_lines import normalised, parse_rubric_lines
from omnirm.parsing.thinking import finished
from omnirm.types import ParseFailure, Rubric


@dataclass(frozen=True, slots=True)
class RubricPlan:
    """Rubrics that a model proposed, at most `asked`. `repeated` counts those dropped as repetitions."""

    rubrics: tuple[Rubric, ...]
    asked: int
    repeated: int = 0

    @property
    def short(self) -> int:
        """How many fewer there are than were asked for."""
        return self.asked - len(self.rubrics)


def parse_plan(
    text: str, finish_reason: str, *, nonce: str, asked: int, existing: Sequence[Rubric] = ()
) -> RubricPlan | ParseFailure:
    """Reads `1. Name: what it asks for` lines between `# <nonce> rubrics` and `# <nonce> end`.

    A rubric is a repetition where its name or its text, case and punctuation aside, occurred before or in `existing`.
    Fewer than asked is a value (see `RubricPlan.short`), none at all is `missing`.
    """
    failure = finished(text, finish_reason)
    if failure is not None:
        return failure
    inside = between_marks("rubrics", f"# {nonce} end", nonce, text)
    if isinstance(inside, ParseFailure):
        return inside
    seen: set[str] = set()
    for rubric in existing:
        seen |= _traits(rubric)
    rubrics, repeated = [], 0
    for _, rubric in parse_rubric_lines(inside):
        traits = _traits(rubric)
        if not traits or traits & seen:
            repeated += 1
            continue
        seen |= traits
        rubrics.append(rubric)
    if not rubrics:
        return ParseFailure("missing", "no new rubric in numbered lines", text)
    return RubricPlan(tuple(rubrics[:asked]), asked, repeated)


def _traits(rubric: Rubric) -> set[str]:
    return {trait for trait in (normalised(rubric.name), normalised(rubric.text)) if trait}
