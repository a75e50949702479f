"""The steps around a judgment under rubrics: planning them, selecting one, refining a response by a judge's comments.

For rubric scaling and training data. Each step is one call; chaining them is somebody else's work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omnirm.errors import ConfigError, SampleError
from omnirm.parsing.planning import RubricPlan, parse_plan
from omnirm.parsing.refinement import Refinement, parse_refinement
from omnirm.parsing.selection import Selection, parse_selection
from omnirm.prompts import render as r
from omnirm.prompts.rendered import Rendered
from omnirm.sample import Sample
from omnirm.types import Message, ParseFailure, Rubric


@dataclass(frozen=True, slots=True)
class Planning:
    """Proposes K criteria for a sample; an extension round proposes further ones beside those that exist."""

    name: str = "planning"

    def render(
        self, sample: Sample, *, rubrics: Sequence[Rubric] = (), count: int = 10, salt: str = "", **unknown: Any
    ) -> Rendered:
        """Renders prompt and candidates.

        Args:
            sample: any number of candidates.
            rubrics: those that exist already, none in the first round.
            count: how many to ask for, 1 to 100.
            salt: see `omnirm.prompts.render.make_key`.

        Raises:
            ConfigError: a count outside that range.
        """
        r.no_more(self.name, unknown)
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= 100:
            raise ConfigError(f"count is {count!r}; ask for 1 to 100 criteria")
        listing = r.rubric_list(rubrics, weights=False)
        key = r.make_key(sample, (listing,), salt=salt)
        tags = ("more",) if rubrics else ()
        slots: dict[str, r.Slot] = {
            "key": key,
            "prompt": r.conversation(sample.prompt, key),
            "responses": r.responses(sample, key),
            "criteria": r.untrusted(listing, "rubrics"),
        }
        system = r.fill("planning", {"count": str(count)}, tags)
        return Rendered(
            messages=(Message("system", system), Message("user", r.fill("user_many", slots, tags))),
            prefill=f"# {key} rubrics\n1.",
            nonce=key,
            template_hash=r.template_hash("planning", "user_many"),
            forced=("\n#", f" {key} end"),  # no rubric's line begins so
            max_new_tokens=128 + 64 * count,
            format=self.name,
            rubrics=tuple(rubrics),
            asked=count,
        )

    def parse(self, rendered: Rendered, text: str, finish_reason: str) -> RubricPlan | ParseFailure:
        """Reads the proposed rubrics from prefill + completion."""
        return parse_plan(text, finish_reason, nonce=rendered.nonce, asked=rendered.asked, existing=rendered.rubrics)


@dataclass(frozen=True, slots=True)
class SelectionFormat:
    """Picks the most critical of numbered rubrics."""

    name: str = "selection"

    def render(self, sample: Sample, *, rubrics: Sequence[Rubric] = (), salt: str = "", **unknown: Any) -> Rendered:
        """Renders prompt, candidates and numbered rubrics (without weights: they are what is asked).

        Raises:
            ConfigError: no rubrics to select from.
        """
        r.no_more(self.name, unknown)
        if not rubrics:
            raise ConfigError("selection needs rubrics to select from; give rubrics=")
        listing = r.rubric_list(rubrics, weights=False)
        key = r.make_key(sample, (listing,), salt=salt)
        slots: dict[str, r.Slot] = {
            "key": key,
            "prompt": r.conversation(sample.prompt, key),
            "responses": r.responses(sample, key),
            "rubrics": r.untrusted(listing, "rubrics"),
        }
        user = r.fill("user_many", slots, ("given",))
        return Rendered(
            messages=(Message("system", r.fill("selection", {})), Message("user", user)),
            prefill=f"Choice {key}: [[",
            nonce=key,
            template_hash=r.template_hash("selection", "user_many"),
            stop=("]]",),
            max_new_tokens=8,
            format=self.name,
            rubrics=tuple(rubrics),
        )

    def parse(self, rendered: Rendered, text: str, finish_reason: str) -> Selection | ParseFailure:
        """Reads the choice from prefill + completion."""
        return parse_selection(text, finish_reason, nonce=rendered.nonce, rubrics=rendered.rubrics)


@dataclass(frozen=True, slots=True)
class RefinementFormat:
    """Revises one response by the judge's comments on it, with minimal edits."""

    name: str = "refinement"
    max_new_tokens: int = 2048

    def render(
        self,
        sample: Sample,
        *,
        comments: str = "",
        candidate: int = 0,
        rubrics: Sequence[Rubric] = (),
        salt: str = "",
        **unknown: Any,
    ) -> Rendered:
        """Renders one candidate with the comments on it.

        Args:
            sample: the candidate must be text; the prompt may hold media.
            comments: what the judge wrote on this candidate; text of a model, so never trusted.
            candidate: index of the candidate.
            rubrics: the criteria that the comments go by, where they should be shown.
            salt: see `omnirm.prompts.render.make_key`.

        Raises:
            SampleError: there is no such candidate, or it is no text.
            ConfigError: no comments.
        """
        r.no_more(self.name, unknown)
        if not comments.strip():
            raise ConfigError("refinement needs the judge's comments on the response; give comments=")
        one = r.only(sample, candidate)
        if any(part.type != "text" for part in one.candidates[0].parts):
            kinds = ", ".join(sorted({part.type for part in one.candidates[0].parts}))
            raise SampleError(f"sample {sample.id}: candidates[{candidate}] holds {kinds}; only text can be refined")
        listing = r.rubric_list(rubrics)
        key = r.make_key(one, (listing, comments), salt=salt)
        tags = ("comments", "given") if rubrics else ("comments",)
        slots: dict[str, r.Slot] = {
            "key": key,
            "prompt": r.conversation(one.prompt, key),
            "response": one.candidates[0].parts,
            "rubrics": r.untrusted(listing, "rubrics"),
            "comments": r.untrusted(comments, "comments"),
        }
        user = r.fill("user_single", slots, tags)
        return Rendered(
            messages=(Message("system", r.fill("refinement", {})), Message("user", user)),
            prefill=f"# {key} revised\n",
            nonce=key,
            template_hash=r.template_hash("refinement", "user_single"),
            forced=("</revised", f" {key}>"),  # no line with #: a revised response may be Markdown
            max_new_tokens=self.max_new_tokens,
            format=self.name,
            rubrics=tuple(rubrics),
        )

    def parse(self, rendered: Rendered, text: str, finish_reason: str) -> Refinement | ParseFailure:
        """Reads the revised response from prefill + completion."""
        return parse_refinement(text, finish_reason, nonce=rendered.nonce)
