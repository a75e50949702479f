"""Reads a revised response: everything between the marks of the request. For the refinement format."""

from __future__ import annotations

from dataclasses import dataclass

from omnirm.parsing.marked import between_marks
from omnirm.parsing.thinking import finished
from omnirm.types import ParseFailure


@dataclass(frozen=True, slots=True)
class Refinement:
    """A revised response, as the model wrote it."""

    text: str


def parse_refinement(text: str, finish_reason: str, *, nonce: str) -> Refinement | ParseFailure:
    """Reads the text between `# <nonce> revised` and `</revised <nonce>>`; an empty one is `missing`."""
    failure = finished(text, finish_reason)
    if failure is not None:
        return failure
    inside = between_marks("revised", f"</revised {nonce}>", nonce, text)
    if isinstance(inside, ParseFailure):
        return inside
    if not inside.strip():
        return ParseFailure("missing", "the revised response is empty", text)
    return Refinement(inside)
