"""Answers bound to a request's key: values in `Name <key>: [[value]]` lines, and text between `# <key>` lines.

For the parsers beside this file. Nobody but the judge can have written the key: it occurs nowhere in the material.
"""

from __future__ import annotations

import re

from omnirm.types import ParseFailure


def last_line(text: str, start: int = 0) -> tuple[int, int]:
    """Where the last line that is not white space begins and ends, at or behind `start`."""
    end = max(len(text.rstrip(" \t\r\n")), start)
    return max(text.rfind("\n", start, end) + 1, start), end


def values(name: str, nonce: str, text: str) -> list[str]:
    """What every line `name <nonce>: [[value]]` of the text says, in order, thinking included."""
    line = rf"^{name} {re.escape(nonce)}: \[\[([^\[\]\n]{{0,40}})\]\][ \t\r]*$"
    return re.findall(line, text, re.MULTILINE)


def closing_value(name: str, nonce: str, text: str, start: int = 0) -> tuple[str, int, int] | ParseFailure:
    """The value of the line `name <nonce>: [[value]]` that closes the text, and the span of the value.

    The last line must be that line, letter for letter; white space may follow. Two such lines that differ anywhere in
    the text are `ambiguous`. `missing`: the key does not occur behind `start`; `malformed`: it does, but not like this.
    """
    said = values(name, nonce, text)
    if len(set(said)) > 1:
        return ParseFailure("ambiguous", f"{name} is said to be {' and '.join(sorted(set(said)))}", text)
    begin, end = last_line(text, start)
    line = re.compile(rf"{name} {re.escape(nonce)}: \[\[([^\[\]\n]{{0,40}})\]\]").fullmatch(text, begin, end)
    if line is not None:
        return line[1], line.start(1), line.end(1)
    if nonce not in text[start:]:
        return ParseFailure("missing", f"no {name} line with the key of this request", text)
    return ParseFailure("malformed", f"the last line is not exactly a {name} line", text)


def between_marks(name: str, closing: str, nonce: str, text: str) -> str | ParseFailure:
    """What stands between the line `# <nonce> name` that opens the text and the line `closing`, which ends it.

    `truncated` where the closing line is missing, `malformed` where the key occurs anywhere else.
    """
    opening = f"# {nonce} {name}\n"
    if not text.startswith(opening):
        return ParseFailure("malformed", f"the answer does not open with {opening.strip()}", text)
    begin, end = last_line(text, len(opening))
    if text[begin:end] != closing:
        if nonce in text[len(opening) :]:
            return ParseFailure("malformed", f"the last line is not exactly {closing}", text)
        return ParseFailure("truncated", f"the closing line {closing} is missing", text)
    inside = text[len(opening) : begin]
    if nonce in inside:
        return ParseFailure("malformed", "the key occurs inside the answer", text)
    return inside.removesuffix("\n")
