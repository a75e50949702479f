"""Reads the two turns of the P(Yes) dialog. For the p-yes format; the probability is in the log-probabilities."""

from __future__ import annotations

from typing import Literal

from omnirm.parsing.thinking import finished
from omnirm.types import ParseFailure


def parse_thought(text: str, finish_reason: str) -> str | ParseFailure:
    """The evaluation, which is free text; an empty one is `missing`, one that was cut off `truncated`."""
    failure = finished(text, finish_reason)
    if failure is not None:
        return failure
    return text.strip() or ParseFailure("missing", "the evaluation is empty", text)


def parse_answer(text: str, finish_reason: str) -> Literal["Yes", "No"] | ParseFailure:
    """Yes or No as the model would say it. One token is all that is asked for, so "length" is no failure here."""
    if finish_reason not in ("stop", "length"):
        return ParseFailure("backend_error", f"the completion ended with {finish_reason!r}", text)
    answer = text.strip()
    if answer == "Yes":
        return "Yes"
    if answer == "No":
        return "No"
    return ParseFailure("malformed" if answer else "missing", "the answer is neither Yes nor No", text)
