"""Prompts that make rubrics from more than a sample: from a known preference, and from a rubric that is too coarse.

For the contrastive and the decomposed planner. Both are answered like the planning format, in numbered lines between
marks. They are no formats of `get_format`: one shows the label, so nobody should reach it by a name in a setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omnirm.errors import ConfigError, SampleError
from omnirm.parsing.planning import RubricPlan, parse_plan
from omnirm.prompts import render as r
from omnirm.prompts.rendered import Rendered
from omnirm.sample import Sample
from omnirm.types import Message, ParseFailure, Part, Rubric


@dataclass(frozen=True, slots=True)
class Contrast:
    """Asks by which criteria the preferred response of a labelled pair is better. Names come as `Name (rule)`."""

    name: str = "contrast"

    def render(self, sample: Sample, *, count: int = 10, salt: str = "", **unknown: Any) -> Rendered:
        """Renders a pair with the label beside its responses, which stand in the sample's own order.

        Args:
            sample: two candidates, with the index of the better one as label.
            count: how many criteria to ask for, 1 to 100.
            salt: see `omnirm.prompts.render.make_key`.

        Raises:
            SampleError: not a pair, or no such label.
            ConfigError: a count outside that range.
        """
        r.no_more(self.name, unknown)
        _check_count(count)
        if len(sample.candidates) != 2:
            raise SampleError(f"sample {sample.id}: {len(sample.candidates)} candidates; {self.name} compares two")
        if sample.label not in (0, 1):
            raise SampleError(f"sample {sample.id}: label {sample.label!r}; {self.name} needs to know the better one")
        key = r.make_key(sample, salt=salt)
        sections: list[Part] = []
        for i, candidate in enumerate(sample.candidates):
            head = f"# {key} {'preferred' if i == sample.label else 'rejected'} response\n"
            sections.extend((Part("text", ("\n" if sections else "") + head, trusted=True), *candidate.parts))
        slots: dict[str, r.Slot] = {
            "key": key,
            "prompt": r.conversation(sample.prompt, key),
            "responses": sections,
        }
        return Rendered(
            messages=(
                Message("system", r.fill("contrast", {"count": str(count)})),
                Message("user", r.fill("user_many", slots)),
            ),
            prefill=f"# {key} rubrics\n1.",
            nonce=key,
            template_hash=r.template_hash("contrast", "user_many"),
            max_new_tokens=128 + 64 * count,
            format=self.name,
            asked=count,
        )

    def parse(self, rendered: Rendered, text: str, finish_reason: str) -> RubricPlan | ParseFailure:
        """Reads the proposed rubrics from prefill + completion."""
        return parse_plan(text, finish_reason, nonce=rendered.nonce, asked=rendered.asked)


@dataclass(frozen=True, slots=True)
class Decomposition:
    """Asks for the single checks that one rubric bundles; a rubric that is one check already comes back alone."""

    name: str = "decompose"

    def render(self, sample: Sample, *, rubric: Rubric, count: int = 4, salt: str = "", **unknown: Any) -> Rendered:
        """Renders prompt, candidates and the rubric, which stands last: prompts of one sample begin alike.

        Args:
            sample: any number of candidates.
            rubric: the one to split.
            count: into how many checks it may be split, 1 to 100.
            salt: see `omnirm.prompts.render.make_key`.

        Raises:
            ConfigError: a count outside that range.
        """
        r.no_more(self.name, unknown)
        _check_count(count)
        listing = r.rubric_list((rubric,), weights=False)
        key = r.make_key(sample, (listing,), salt=salt)
        slots: dict[str, r.Slot] = {
            "key": key,
            "prompt": r.conversation(sample.prompt, key),
            "responses": r.responses(sample, key),
            "rubrics": r.untrusted(listing, "rubrics"),
        }
        return Rendered(
            messages=(
                Message("system", r.fill("decompose", {"count": str(count)})),
                Message("user", r.fill("user_many", slots, ("given",))),
            ),
            prefill=f"# {key} rubrics\n1.",
            nonce=key,
            template_hash=r.template_hash("decompose", "user_many"),
            max_new_tokens=128 + 64 * count,
            format=self.name,
            rubrics=(rubric,),
            asked=count,
        )

    def parse(self, rendered: Rendered, text: str, finish_reason: str) -> RubricPlan | ParseFailure:
        """Reads the checks from prefill + completion; the rubric itself, unchanged, is among what may come."""
        return parse_plan(text, finish_reason, nonce=rendered.nonce, asked=rendered.asked)


def _check_count(count: int) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= 100:
        raise ConfigError(f"count is {count!r}; ask for 1 to 100 criteria")
