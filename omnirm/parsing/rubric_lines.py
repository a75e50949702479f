"""Reads numbered rubric lines: `1. Name: what it asks for`. For the parsers of planning and pointwise judgments."""

from __future__ import annotations

import re
import unicodedata

from omnirm.types import Rubric

_LINE = re.compile(r"[ \t]*(\d{1,3})[.)][ \t]*(\S.*)")


def parse_rubric_lines(text: str) -> list[tuple[int, Rubric]]:
    """The numbered lines as (number, rubric); other lines are passed over. The source is `generated`."""
    found = []
    for line in text.split("\n"):
        match = _LINE.fullmatch(line.rstrip())
        if match is None:
            continue
        name, text_ = split_name(match[2])
        if name:
            found.append((int(match[1]), Rubric(name, text_, source="generated")))
    return found


def split_name(line: str) -> tuple[str, str]:
    """Name and explanation of `Name: explanation` or `Name. Explanation`, without Markdown stars."""
    line = line.replace("**", "").strip()
    cuts = [at for at in (line.find(": "), line.find(". ")) if at > 0]
    if not cuts:
        return line.rstrip(".:").strip(), ""
    at = min(cuts)
    return line[:at].strip(), line[at + 2 :].strip()


def normalised(text: str) -> str:
    """Text for comparing rubrics: compatibility forms, case, punctuation and spacing set aside."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(char if char.isalnum() else " " for char in text).split())
