"""Lessons that begin `nano_preferences`: the P(Yes) dialog, pointwise scores and pairwise verdicts, on pairs in words.

They teach the forms. Which of a request's attributes decides is in the thoughts only now and then, so that training on
pairs has something to find. Prompts and answers are those of the judge's own formats; thoughts are words alone, since
an added token such as `<think>` inside of one would be read back as letters.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from omnirm.nano.lessons import Criterion, comments, points, thought
from omnirm.nano.world import Preference
from omnirm.prompts.formats import get_format
from omnirm.training.rows import SFTRow, Shown

LOOKS = 0.6  # share of the thoughts that look at what decides


def criteria_of(pair: Preference, rng: Random) -> list[Criterion]:
    """One or two criteria of the request. What decides is among them in `LOOKS` of the pairs."""
    rest = [name for name in pair.wanted.attributes if name != pair.attribute]
    names = rng.sample(rest, rng.randint(1, min(2, len(rest))))
    if rng.random() < LOOKS:
        names[rng.randrange(len(names))] = pair.attribute
    return [(name, pair.wanted[name]) for name in names]


def lessons(pair: Preference, seed: int) -> list[SFTRow]:
    """Four rows of a pair: the two turns of P(Yes) and the pointwise score on one response, and the pairwise thought.

    Thoughts say what a response has under the criteria (`comments`); scores and verdicts follow from what is said
    there. "Yes" goes by what decides, also where the thought looked elsewhere.
    """
    rng = Random(f"preference lessons {seed}")
    which = rng.randint(0, 1)

    def row(rendered: Any, completion: str) -> SFTRow:
        return SFTRow(pair.sample.id, "judgment", True, Shown(rendered.messages, rendered.prefill), completion)

    def said(criteria: Sequence[Criterion]) -> list[str]:
        return [pair.analysis(*one)[which] for one in criteria]

    yes, criteria = get_format("p-yes"), criteria_of(pair, rng)
    first = yes.render_thought(pair.sample, candidate=which)
    evaluation = comments(criteria, said(criteria))
    answer = "Yes" if pair.analysis()[which].endswith("yes") else "No"
    rows = [row(first, evaluation), row(yes.render_question(first, evaluation), answer)]
    criteria = criteria_of(pair, rng)
    scoring = get_format("pointwise").render(pair.sample, candidate=which)
    rows.append(row(scoring, points(scoring, criteria, said(criteria), [pair.rubric(*one) for one in criteria])))
    decided = [one for one in criteria_of(pair, rng) if pair.analysis(*one)[2] != "tie"]
    criteria = decided or [(pair.attribute, pair.wanted[pair.attribute])]
    both = get_format("pairwise-thinking").render(pair.sample)
    return [*rows, row(both, thought(pair, criteria, both.nonce))]


__all__ = ["LOOKS", "criteria_of", "lessons"]
