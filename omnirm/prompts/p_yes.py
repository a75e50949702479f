"""The P(Yes) dialog of DWRL: the judge evaluates one response, then a question whose "Yes" is read from the logits.

    first = form.render_thought(sample, candidate=0)         -> a completion: the thought
    second = form.render_question(first, thought)            -> one position: P("Yes") against P("No")

For the judge and for DWRL. The second prompt continues the first, so a backend may share its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omnirm.errors import SampleError
from omnirm.parsing.p_yes import parse_answer, parse_thought
from omnirm.prompts import render as r
from omnirm.prompts.rendered import Rendered
from omnirm.sample import Sample
from omnirm.types import Message, ParseFailure, Rubric

_TEMPLATES = ("p_yes", "p_yes_evaluate", "p_yes_question", "user_single")


@dataclass(frozen=True, slots=True)
class PYes:
    """Two turns; `render` is `render_thought`, and `parse` reads the answer of whichever turn was rendered."""

    name: str = "p-yes"
    max_new_tokens: int = 1000

    def render(
        self,
        sample: Sample,
        *,
        rubrics: Sequence[Rubric] = (),
        candidate: int = 0,
        salt: str = "",
        allow_tie: bool = False,
        **unknown: Any,
    ) -> Rendered:
        """The first turn; see `render_thought`. `allow_tie` has no meaning here."""
        r.no_more(self.name, unknown)
        return self.render_thought(sample, rubrics=rubrics, candidate=candidate, salt=salt)

    def render_thought(
        self, sample: Sample, *, rubrics: Sequence[Rubric] = (), candidate: int = 0, salt: str = ""
    ) -> Rendered:
        """Asks for an evaluation of one candidate.

        Args:
            sample: any number of candidates; only one is shown.
            rubrics: criteria to evaluate by; none lets the judge find its own.
            candidate: index of the candidate.
            salt: see `omnirm.prompts.render.make_key`.

        Raises:
            SampleError: there is no such candidate.
        """
        one = r.only(sample, candidate)
        listing = r.rubric_list(rubrics)
        key = r.make_key(one, (listing,), salt=salt)
        tags = ("given",) if rubrics else ("free",)
        slots: dict[str, r.Slot] = {
            "key": key,
            "prompt": r.conversation(one.prompt, key),
            "response": one.candidates[0].parts,
            "rubrics": r.untrusted(listing, "rubrics"),
        }
        user = r.fill("user_single", slots, tags) + r.ours("\n") + r.fill("p_yes_evaluate", {})
        return Rendered(
            messages=(Message("system", r.fill("p_yes", {}, tags)), Message("user", r.merge(user))),
            prefill="",
            nonce=key,
            template_hash=r.template_hash(*_TEMPLATES),
            max_new_tokens=self.max_new_tokens,
            format=self.name,
            rubrics=tuple(rubrics),
            thinking=True,
        )

    def render_question(self, first: Rendered, thought: str) -> Rendered:
        """Continues the dialog: the thought as the assistant's turn, then the question.

        Args:
            first: what `render_thought` gave.
            thought: the completion; text of a model, so never trusted.

        Returns:
            A prompt whose next token is the answer; `track` is ("Yes", "No").

        Raises:
            SampleError: an empty thought.
        """
        if not thought.strip():
            raise SampleError("the thought is empty; without an evaluation there is nothing to ask about")
        turns = (
            Message("assistant", r.untrusted(thought, "thought")),
            Message("user", r.fill("p_yes_question", {})),
        )
        return Rendered(
            messages=first.messages + turns,
            prefill="",
            nonce=first.nonce,
            template_hash=first.template_hash,
            track=("Yes", "No"),
            max_new_tokens=1,
            format=self.name,
            rubrics=first.rubrics,
        )

    def parse(self, rendered: Rendered, text: str, finish_reason: str) -> str | ParseFailure:
        """The thought of the first turn; "Yes" or "No" of the second (its probability is in the log-probabilities)."""
        if rendered.thinking:
            return parse_thought(text, finish_reason)
        return parse_answer(text, finish_reason)
