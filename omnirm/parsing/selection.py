"""Reads which rubric a model picked. For the selection format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from omnirm.parsing.marked import closing_value, last_line
from omnirm.parsing.thinking import finished
from omnirm.types import ParseFailure, Rubric


@dataclass(frozen=True, slots=True)
class Selection:
    """The picked rubric and its index in the list that was shown, from 0."""

    index: int
    rubric: Rubric


def parse_selection(
    text: str, finish_reason: str, *, nonce: str, rubrics: Sequence[Rubric]
) -> Selection | ParseFailure:
    """Reads `Choice <nonce>: [[3]]`, which must be all of the text; a number outside the list is `out_of_range`."""
    failure = finished(text, finish_reason)
    if failure is not None:
        return failure
    closing = closing_value("Choice", nonce, text)
    if isinstance(closing, ParseFailure):
        return closing
    if last_line(text)[0] != 0:
        return ParseFailure("malformed", "more than the choice line", text)
    if not re.fullmatch(r"[0-9]{1,6}", closing[0]):
        return ParseFailure("malformed", f"choice {closing[0]!r} is not a number", text)
    number = int(closing[0])
    if not 1 <= number <= len(rubrics):
        return ParseFailure("out_of_range", f"choice {number} of {len(rubrics)} rubrics", text)
    return Selection(number - 1, rubrics[number - 1])
