"""Where thinking ends and the answer begins, and whether an answer is complete. For the parsers beside this file."""

from __future__ import annotations

from omnirm.types import ParseFailure

OPEN, CLOSE = "<think>", "</think>"


def finished(text: str, finish_reason: str) -> ParseFailure | None:
    """A failure for a completion that was cut off (`truncated`) or never made (`backend_error`); else None."""
    if finish_reason == "length":
        return ParseFailure("truncated", "the answer was cut off at its maximum length", text)
    if finish_reason != "stop":
        return ParseFailure("backend_error", f"the completion ended with {finish_reason!r}", text)
    return None


def split_thinking(text: str) -> tuple[str, int] | ParseFailure:
    """The thinking, and the offset at which the answer behind `</think>` starts.

    The text must open with `<think>` and hold exactly one `</think>`: with two nobody can tell which of them ends the
    thinking (`malformed`); with none it never ended (`truncated`).
    """
    if not text.startswith(OPEN):
        return ParseFailure("malformed", f"the answer does not open with {OPEN}", text)
    count = text.count(CLOSE)
    if count == 0:
        return ParseFailure("truncated", f"the thinking is not closed by {CLOSE}", text)
    if count > 1:
        return ParseFailure("malformed", f"{count} times {CLOSE}", text)
    end = text.index(CLOSE)
    return text[len(OPEN) : end].strip(), end + len(CLOSE)
