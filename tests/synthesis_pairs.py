"""A scripted judge, refiner and reward model whose meta-rewards are worked out by hand. For tests of the synthesis.

The pair of docs/meta-reward.md: s = 4 for `first`, 3 for `second`. Consistency, with `first` the better one:

    Correctness  says first   t = 4.5, 3.5   first stays ahead:  3.5 - 3    =  0.5
    Brevity      says second  t = 5.0, 3.5   first is ahead:     3.5 - 5    = -1.5
    Tone         says first   t = 3.0, 4.0   second is ahead:    3.0 - 4    = -1.0
    Layout       says second  t = 4.25, 4.75 second is ahead:    4.25 - 4   =  0.25
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from scripted_rubrics import lines, model, revise, says, shown_rubrics, step

from omnirm.judge import Judge
from omnirm.rubrics.extended import ExtendedPlanner
from omnirm.rubrics.generated import GeneratedPlanner
from omnirm.rubrics.meta import Meta
from omnirm.rubrics.refine import ModelRefiner
from omnirm.sample import Sample
from omnirm.scorers.base import Scored
from omnirm.scorers.scripted import ScriptedScorer
from omnirm.training.synthesis.explorer import Explored, Explorer
from omnirm.types import Request

VERDICTS = {"Correctness": "A", "Brevity": "B", "Tone": "A", "Layout": "B"}
REFINED = {"Correctness": (4.5, 3.5), "Brevity": (5.0, 3.5), "Tone": (3.0, 4.0), "Layout": (4.25, 4.75)}
REWARDS = {"Correctness": 0.5, "Brevity": -1.5, "Tone": -1.0, "Layout": 0.25}


def pair(label: Any = 0, id: str = "s", a: Any = "first", b: Any = "second", prompt: Any = "q", **more: Any) -> Sample:
    return Sample.from_dict({"id": id, "prompt": prompt, "candidates": [a, b], "label": label, **more})


def score(item: Scored) -> float:
    text = item.response[0].value
    if "[" not in text:
        return 4.0 if text.startswith("first") else 3.0
    return REFINED[text[text.index("[") + 1 : -1]][text.startswith("second")]


def plan(request: Request) -> str:
    """The first of the four rubrics that are asked for and not there yet."""
    text = "".join(str(part.value) for message in request.messages for part in message.parts)
    there = re.findall(r"^\d+\. (\w+)$", text, re.MULTILINE)
    count = int(re.search(r"propose (\d+) (?:further|criteria)", text)[1])  # type: ignore[index]
    return lines(request, [name for name in VERDICTS if name not in there][:count])


def by_place(request: Request) -> str:
    """A judge that sees no difference and takes whatever stands first."""
    return says(dict.fromkeys([" + ".join(shown_rubrics(request))], "A"))(request).replace("[[B]]", "[[A]]")


def explorer(judge: Callable[[Request], Any] | None = None, **more: Any) -> Explorer:
    table: dict[str, str | None] = {**VERDICTS, "Correctness + Brevity + Tone": "B"}
    backend = model(planning=more.pop("planning", plan), judge=judge or says(table), refinement=revise)
    judging = {"format": "pairwise-thinking", "orders": 1} | more.pop("judging", {})
    meta = Meta(more.pop("scorer", None) or ScriptedScorer(score, name="table"), ModelRefiner(backend))
    extended = ExtendedPlanner(backend, count=3, first=3, more=7, rounds=1)
    return Explorer(
        Judge(backend, **judging), GeneratedPlanner(backend, count=4), meta, extended=extended, **more
    )  # fmt: skip


def explored(*samples: Sample, **more: Any) -> list[Explored]:
    return explorer(**more).explore(list(samples) or [pair()])


def asked(one: Explorer) -> list[str]:
    """The steps that were asked of the model, in order."""
    return [step(request) for request in one.judge.backend.requests]  # type: ignore[attr-defined]
