"""Reads a pointwise judgment: scores and total from lines that carry the key, rubrics and evaluation leniently.

For the pointwise format.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from omnirm.parsing.marked import closing_value
from omnirm.parsing.rubric_lines import parse_rubric_lines
from omnirm.parsing.thinking import finished, split_thinking
from omnirm.types import ParseFailure, PointScore, Rubric

_NUMBER = re.compile(r"[0-9]{1,2}(?:\.[0-9]{1,12})?")
_NUMERIC = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|inf|infinity|nan)", re.IGNORECASE)


def parse_point(
    text: str,
    finish_reason: str,
    *,
    nonce: str,
    thinking: bool,
    rubrics: Sequence[Rubric] = (),
    own: bool = False,
) -> PointScore | ParseFailure:
    """Reads scores and total.

    The total counts only as the last line, letter for letter `Total <nonce>: [[7.5]]`; a rubric's score only as a line
    `Score <nonce> <number>: [[8]]` of the answer (behind `</think>`). A rubric without a score is left out, not
    guessed; a score whose number names no rubric is left out too.

    Args:
        text: prefill + completion.
        finish_reason: of the completion; "length" and "error" give no score.
        nonce: the key of the request.
        thinking: the text opens with `<think>`.
        rubrics: those shown by number; where there are none they are read from the answer's `<rubrics>`.
        own: further ones are read from there too; a number that was shown stays with the rubric shown.

    Returns:
        The scores, or why there are none; `out_of_range` for any score that is not a finite number from 0 to 10.
    """
    failure = finished(text, finish_reason)
    if failure is not None:
        return failure
    thought, start = "", 0
    if thinking:
        split = split_thinking(text)
        if isinstance(split, ParseFailure):
            return split
        thought, start = split
    closing = closing_value("Total", nonce, text, start)
    if isinstance(closing, ParseFailure):
        return closing
    total = _score(closing[0], text)
    if isinstance(total, ParseFailure):
        return total
    answer = text[start : text.rindex("Total ", start, closing[1])]
    pattern = re.compile(
        rf"^Score {re.escape(nonce)} ([0-9]{{1,3}}): \[\[([^\[\]\n]{{0,40}})\]\][ \t\r]*$", re.MULTILINE
    )
    lines = list(pattern.finditer(answer))
    if answer.count(nonce) != len(lines) or (not thinking and pattern.sub("", answer).strip()):
        return ParseFailure("malformed", "more than score lines and the total", text)
    numbered = dict(enumerate(rubrics, start=1))
    opening = answer[: lines[0].start()] if lines else answer
    if own or not rubrics:
        for number, rubric in parse_rubric_lines(_inside(opening, "rubrics")):
            numbered.setdefault(number, rubric)
    scores: dict[int, float] = {}
    for line in lines:
        number, score = int(line[1]), _score(line[2], text)
        if isinstance(score, ParseFailure):
            return score
        if scores.setdefault(number, score) != score:
            return ParseFailure("ambiguous", f"two scores for rubric {number}", text)
    pairs = tuple((rubric, scores[number]) for number, rubric in sorted(numbered.items()) if number in scores)
    return PointScore(total, pairs, thought, _inside(opening, "evaluation"))


def _score(value: str, text: str) -> float | ParseFailure:
    if _NUMBER.fullmatch(value) and 0 <= float(value) <= 10:
        return float(value)
    if _NUMERIC.fullmatch(value):
        return ParseFailure("out_of_range", f"score {value}; scores run from 0 to 10", text)
    return ParseFailure("malformed", f"score {value!r} is not a number", text)


def _inside(text: str, tag: str) -> str:
    _, opened, rest = text.partition(f"<{tag}>")
    inside, closed, _ = rest.partition(f"</{tag}>")
    return inside.strip() if opened and closed else ""
