"""Pointwise judgment: how good one response is, as a score for each rubric and a total, 0 to 10.

For the judge and for training data. Knows nothing of means over samples or of rankings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omnirm.parsing.pointwise import parse_point
from omnirm.prompts import render as r
from omnirm.prompts.rendered import Rendered
from omnirm.sample import Sample
from omnirm.types import Message, ParseFailure, PointScore, Rubric


@dataclass(frozen=True, slots=True)
class Pointwise:
    """Think, rubrics of its own (unless some are given), evaluation, scores, total (the order of PaTaRM).

    Without thinking the answer is the scores and the total, or the total alone where no rubrics are given.
    """

    name: str = "pointwise"
    max_new_tokens: int = 2048

    def render(
        self,
        sample: Sample,
        *,
        rubrics: Sequence[Rubric] = (),
        candidate: int = 0,
        thinking: bool = True,
        salt: str = "",
        allow_tie: bool = False,
        own: bool = False,
        **unknown: Any,
    ) -> Rendered:
        """Renders one candidate.

        Args:
            sample: any number of candidates; only one is shown.
            rubrics: criteria to score, shown by number; none lets the judge find its own.
            candidate: index of the candidate.
            thinking: think first.
            salt: see `omnirm.prompts.render.make_key`.
            allow_tie: has no meaning here; taken so that formats can be called alike.
            own: the judge adds one to three rubrics of its own to those given (PaTaRM).

        Raises:
            SampleError: there is no such candidate.
            ConfigError: `own` without thinking or without rubrics.
        """
        r.no_more(self.name, unknown)
        r.check_own(self.name, own, thinking, rubrics)
        one = r.only(sample, candidate)
        listing = r.rubric_list(rubrics)
        key = r.make_key(one, (listing,), salt=salt)
        scored = thinking or bool(rubrics)
        switches = {
            "given": bool(rubrics) and not own,
            "own": own,
            "free": not rubrics,
            "think": thinking,
            "plan": thinking and not rubrics,
            "list": not thinking and bool(rubrics),
            "bare": not scored,
            "scored": scored,
        }
        tags = [tag for tag, on in switches.items() if on]
        slots: dict[str, r.Slot] = {
            "key": key,
            "prompt": r.conversation(one.prompt, key),
            "response": one.candidates[0].parts,
            "rubrics": r.untrusted(listing, "rubrics"),
        }
        if thinking:
            prefill, room = "<think>", self.max_new_tokens
        elif rubrics:
            prefill, room = f"Score {key} 1: [[", 24 * (len(rubrics) + 1)
        else:
            prefill, room = f"Total {key}: [[", 8
        return Rendered(
            messages=(
                Message("system", r.fill("pointwise", {}, tags)),
                Message("user", r.fill("user_single", slots, ["given"] if rubrics else [])),
            ),
            prefill=prefill,
            nonce=key,
            template_hash=r.template_hash("pointwise", "user_single"),
            stop=() if scored else ("]]",),
            forced=("]]\nTotal", f" {key}: [[") if scored else None,  # behind a score's line, not any line on a total
            max_new_tokens=room,
            format=self.name,
            rubrics=tuple(rubrics),
            thinking=thinking,
            own=own,
        )

    def parse(self, rendered: Rendered, text: str, finish_reason: str) -> PointScore | ParseFailure:
        """Reads scores and total from prefill + completion."""
        return parse_point(
            text, finish_reason,
            nonce=rendered.nonce, thinking=rendered.thinking, rubrics=rendered.rubrics, own=rendered.own,
        )  # fmt: skip
