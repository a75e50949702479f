"""Reads a pairwise judgment: the verdict from its own place, the analyses leniently from the thinking.

For the pairwise formats. Knows the tags of the format, not how the prompt was worded.
"""

from __future__ import annotations

from collections.abc import Sequence

from omnirm.parsing.criteria import count_blocks, parse_criteria
from omnirm.parsing.marked import closing_value, last_line
from omnirm.parsing.thinking import finished, split_thinking
from omnirm.types import Letter, PairVerdict, ParseFailure, Rubric

_LETTERS: dict[str, Letter] = {"A": "A", "B": "B", "tie": "tie"}


def parse_pair(
    text: str,
    finish_reason: str,
    *,
    nonce: str,
    thinking: bool,
    allow_tie: bool = False,
    rubrics: Sequence[Rubric] = (),
    pick: bool = False,
) -> PairVerdict | ParseFailure:
    """Reads a verdict.

    It counts only as the last line of the text, letter for letter `Verdict <nonce>: [[A]]` (or `B`, or `tie` where
    allowed), behind the one and only `</think>` where thinking is asked for. White space may follow, nothing else.

    Args:
        text: prefill + completion.
        finish_reason: of the completion; "length" and "error" give no verdict.
        nonce: the key of the request.
        thinking: the text opens with `<think>`; otherwise it is the verdict line alone.
        allow_tie: `tie` is a verdict.
        rubrics: those shown by number; analyses are matched to them.
        pick: the thinking must hold exactly one block, of one of them by its name; anything else is `malformed`.

    Returns:
        The verdict, or why there is none: `truncated`, `missing`, `ambiguous`, `malformed`, `backend_error`.
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
    closing = closing_value("Verdict", nonce, text, start)
    if isinstance(closing, ParseFailure):
        return closing
    value, *span = closing
    if value not in _LETTERS or (value == "tie" and not allow_tie):
        return ParseFailure("malformed", f"{value!r} is not among the answers", text)
    before = text[start : last_line(text, start)[0]]
    if nonce in before or (not thinking and before):
        return ParseFailure("malformed", "more than the verdict line", text)
    criteria = parse_criteria(thought, rubrics, by_name=pick) if thinking else ()
    if pick and (count_blocks(thought) != 1 or len(criteria) != 1 or criteria[0].rubric not in rubrics):
        found = f"{count_blocks(thought)} blocks" if count_blocks(thought) != 1 else "a block of no listed criterion"
        return ParseFailure("malformed", f"{found} where one criterion of the list was to be chosen", text)
    return PairVerdict(_LETTERS[value], criteria, thought, (span[0], span[1]))
