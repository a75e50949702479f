"""Reads what a judge wrote under each criterion of its thinking: leniently, since no verdict hangs on it.

For the pairwise parser and reports. What is missing stays empty; nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from omnirm.parsing.rubric_lines import normalised, split_name
from omnirm.types import CriterionAnalysis, Letter, Rubric

_BLOCK = re.compile(r"<criteria (\d{1,3})>")
_LETTERS: dict[str, Letter] = {"A": "A", "B": "B", "tie": "tie"}
_MOST = 100  # blocks read; more is a model in a loop


def parse_criteria(
    thinking: str, rubrics: Sequence[Rubric] = (), *, by_name: bool = False
) -> tuple[CriterionAnalysis, ...]:
    """Reads the `<criteria i>` blocks, in the order written.

    Args:
        thinking: text between `<think>` and `</think>`.
        rubrics: given ones. A block belongs to the rubric of its name, else of its number; each is used once, and a
            block that fits none keeps its own name, with source `generated`.
        by_name: numbers say nothing about which rubric it is.

    Returns:
        One analysis a block; a part that is not there is "" or None.
    """
    opens = list(_BLOCK.finditer(thinking))[:_MOST]
    names = [normalised(rubric.name) for rubric in rubrics]
    used: set[int] = set()
    analyses = []
    for i, opening in enumerate(opens):
        body = thinking[opening.end() : opens[i + 1].start() if i + 1 < len(opens) else len(thinking)]
        body, closed, _ = body.partition(f"</criteria {opening[1]}>")
        head, analysis_a, rest = _element(body, "Judge A")
        _, analysis_b, tail = _element(rest, "Judge B")
        name, explanation = split_name(head)
        which = _which(-1 if by_name else int(opening[1]) - 1, normalised(name), names)
        if which is not None and which not in used:
            used.add(which)
            rubric = rubrics[which]
        elif name:
            rubric = Rubric(name, explanation, source="generated")
        else:
            continue
        analyses.append(
            CriterionAnalysis(
                rubric, analysis_a, analysis_b, verdict=_LETTERS.get(tail.strip().rstrip(".")) if closed else None
            )
        )
    return tuple(analyses)


def count_blocks(thinking: str) -> int:
    """How many `<criteria i>` blocks are opened, readable or not."""
    return len(_BLOCK.findall(thinking))


def _which(index: int, name: str, names: Sequence[str]) -> int | None:
    """The given rubric that a block is about: by number where the name agrees, else by name, else by number."""
    in_range = 0 <= index < len(names)
    if name in names and not (in_range and names[index] == name):
        return names.index(name)
    return index if in_range else None


def _element(text: str, tag: str) -> tuple[str, str, str]:
    """Text before `<tag>`, inside, and behind `</tag>`; without the tag everything is before it."""
    before, opened, rest = text.partition(f"<{tag}>")
    if not opened:
        return text, "", ""
    inside, closed, after = rest.partition(f"</{tag}>")
    return (before, inside.strip(), after) if closed else (before, rest.strip(), "")
