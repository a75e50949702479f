"""Lessons that begin `preferences`: the P(Yes) dialog, pointwise scores and pairwise verdicts, on pairs in words.

They teach the forms. Which of a request's attributes decides is in the thoughts only now and then, so that training on
pairs has something to find. Prompts and answers are those of the judge's own formats; thoughts are words alone, since
an added token such as `<think>` inside of one would be read back as letters.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from omnirm.nano.lessons import Criterion, comments, points, thought
from omnirm.nano.world import Preference
from omnirm.prompts.formats import get_format
from omnirm.prompts.rendered import Rendered
from omnirm.training.rows import SFTRow, Shown

LOOKS = 0.6  # share of the thoughts that look at what decides


def criteria_of(pair: Preference, rng: Random, looks: float = LOOKS) -> list[Criterion]:
    """One or two criteria of the request. What decides is among them in a share `looks` of the pairs."""
    rest = [name for name in pair.wanted.attributes if name != pair.attribute]
    names = rng.sample(rest, rng.randint(1, min(2, len(rest))))
    if rng.random() < looks:
        names[rng.randrange(len(names))] = pair.attribute
    return [(name, pair.wanted[name]) for name in names]


def lessons(pair: Preference, seed: int) -> list[SFTRow]:
    """Five rows of a pair: a thought on one response, Yes or No to both, a score of one, and a pairwise thought.

    Thoughts say what a response has under the criteria (`comments`); scores and verdicts follow from what is said
    there. Before a Yes or No the thought always looks at what decides, so that the answer hangs on it.
    """
    rng = Random(f"preference lessons {seed}")
    which = rng.randint(0, 1)

    def row(rendered: Rendered, completion: str) -> SFTRow:
        return SFTRow(pair.sample.id, "judgment", True, Shown(rendered.messages, rendered.prefill), completion)

    def said(criteria: Sequence[Criterion], candidate: int) -> list[str]:
        return [pair.analysis(*one)[candidate] for one in criteria]

    def evaluation(candidate: int, looks: float = LOOKS) -> tuple[Rendered, str]:
        criteria = criteria_of(pair, rng, looks)
        first = form.render_thought(pair.sample, candidate=candidate)
        return first, comments(criteria, said(criteria, candidate))

    form = get_format("p-yes")
    rows = [row(*evaluation(which))]
    for candidate in (0, 1):
        answer = "Yes" if pair.analysis()[candidate].endswith("yes") else "No"
        rows.append(row(form.render_question(*evaluation(candidate, 1.0)), answer))
    criteria = criteria_of(pair, rng)
    alone = get_format("pointwise").render(pair.sample, candidate=which)
    rows.append(row(alone, points(alone, criteria, said(criteria, which), [pair.rubric(*one) for one in criteria])))
    decided = [one for one in criteria_of(pair, rng) if pair.analysis(*one)[2] != "tie"]
    criteria = decided or [(pair.attribute, pair.wanted[pair.attribute])]
    both = get_format("pairwise-thinking").render(pair.sample)
    return [*rows, row(both, thought(pair, criteria, both.nonce))]


__all__ = ["LOOKS", "criteria_of", "lessons"]
