"""Pairwise judgment: which of two responses is better, with thinking or by the verdict alone.

For the judge and for training data. Knows nothing of orders, votes or scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omnirm.errors import ConfigError, SampleError
from omnirm.parsing.pairwise import parse_pair
from omnirm.prompts import render as r
from omnirm.prompts.rendered import Rendered
from omnirm.sample import Sample
from omnirm.types import Message, PairVerdict, ParseFailure, Rubric


@dataclass(frozen=True, slots=True)
class Pairwise:
    """`pairwise-thinking` (criteria, an analysis of each response, then the verdict) or `pairwise` (the verdict)."""

    name: str
    thinking: bool
    max_new_tokens: int

    def render(
        self,
        sample: Sample,
        *,
        rubrics: Sequence[Rubric] = (),
        allow_tie: bool = False,
        pick: bool = False,
        own: bool = False,
        salt: str = "",
        **unknown: Any,
    ) -> Rendered:
        """Renders a pair in the sample's own order: the first candidate is A.

        Args:
            sample: two candidates.
            rubrics: criteria to judge under, shown by number; none lets the judge find its own.
            allow_tie: `[[tie]]` is an answer.
            pick: the judge chooses the one rubric that should decide and judges by it alone. The list stands before the
                prompt then: what comes last weighs most, and here that should be the pair.
            own: the judge adds one to three rubrics of its own to those given (PaTaRM).
            salt: see `omnirm.prompts.render.make_key`.

        Raises:
            SampleError: not two candidates.
            ConfigError: `pick` or `own` without thinking or without rubrics, or both of them.
        """
        r.no_more(self.name, unknown)
        if pick and not (self.thinking and rubrics):
            raise ConfigError(f"{self.name}: pick chooses one of given rubrics by thinking; give rubrics, and think")
        r.check_own(self.name, own, self.thinking, rubrics)
        if pick and own:
            raise ConfigError(f"{self.name}: pick judges by one rubric of the list, own by all and more; take one")
        if len(sample.candidates) != 2:
            raise SampleError(f"sample {sample.id}: {len(sample.candidates)} candidates; {self.name} judges two")
        listing = r.rubric_list(rubrics)
        key = r.make_key(sample, (listing,), salt=salt)
        tie = ("tie",) if allow_tie else ()
        tags = ("pick" if pick else "given" if rubrics else "free", *tie)
        slots: dict[str, r.Slot] = {
            "key": key,
            "prompt": r.conversation(sample.prompt, key),
            "response_a": sample.candidates[0].parts,
            "response_b": sample.candidates[1].parts,
            "rubrics": r.untrusted(listing, "rubrics"),
        }
        system = "pairwise_thinking" if self.thinking else "pairwise"
        return Rendered(
            messages=(
                Message("system", r.fill(system, {}, ("own", *tie) if own else tags)),
                Message("user", r.fill("user_pair", slots, tags)),
            ),
            prefill="<think>" if self.thinking else f"Verdict {key}: [[",
            nonce=key,
            template_hash=r.template_hash(system, "user_pair"),
            stop=() if self.thinking else ("]]",),
            forced=("</think>", f"\nVerdict {key}: [[") if self.thinking else ("", ""),
            track=("A", "B", "tie") if allow_tie else ("A", "B"),
            max_new_tokens=self.max_new_tokens,
            format=self.name,
            rubrics=tuple(rubrics),
            allow_tie=allow_tie,
            thinking=self.thinking,
            pick=pick,
            own=own,
        )

    def parse(self, rendered: Rendered, text: str, finish_reason: str) -> PairVerdict | ParseFailure:
        """Reads verdict and analyses from prefill + completion."""
        return parse_pair(
            text,
            finish_reason,
            nonce=rendered.nonce,
            thinking=rendered.thinking,
            allow_tie=rendered.allow_tie,
            rubrics=rendered.rubrics,
            pick=rendered.pick,
        )
