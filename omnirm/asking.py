"""Many calls of many samples as one batch, and the record of each. For the judge; knows neither formats nor votes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from omnirm.backends.base import Backend
from omnirm.errors import BackendError, OmnirmError
from omnirm.judgment import CallRecord, prompt_hash
from omnirm.prompts.formats import Rendered
from omnirm.scoring.aggregate import Order
from omnirm.types import Completion, Request


@dataclass(frozen=True, slots=True)
class Question:
    """One call to be made: what was rendered, and for which order, candidate and sample of the model."""

    rendered: Rendered
    request: Request
    sample_index: int
    order: Order = "AB"
    candidate: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A question with what the model answered."""

    question: Question
    completion: Completion

    @property
    def record(self) -> CallRecord:
        """The call for a judgment."""
        rendered, request, completion = self.question.rendered, self.question.request, self.completion
        return CallRecord(
            sample_index=self.question.sample_index,
            seed=request.seed,
            prompt_sha256=prompt_hash(rendered.messages, rendered.prefill),
            template_hash=rendered.template_hash,
            nonce=rendered.nonce,
            prefill=rendered.prefill,
            text=completion.text,
            finish_reason=completion.finish_reason,
            max_new_tokens=request.max_new_tokens,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            computed_prompt_tokens=completion.computed_prompt_tokens,
            least_prompt_tokens=completion.least_prompt_tokens,
        )


Plan = list[Question] | OmnirmError  # the calls of one sample, or why there can be none


def ask(backend: Backend, plans: Sequence[Plan]) -> list[list[Answer]]:
    """The answers of each plan, all from one call of the backend; none for a sample that could not be planned.

    Raises:
        BackendError: the backend failed as a whole, or gave another number of answers than it was asked for.
    """
    requests = [one.request for plan in plans if isinstance(plan, list) for one in plan]
    completions = backend.generate(requests) if requests else []
    if len(completions) != len(requests):
        raise BackendError(f"{backend.name} gave {len(completions)} answers to {len(requests)} requests")
    rest = iter(completions)
    return [[Answer(one, next(rest)) for one in plan] if isinstance(plan, list) else [] for plan in plans]


def call_seed(seed: int, sample_id: str, what: str, k: int) -> int:
    """The seed of one call, 0 to 2**31 - 1: the same for the same four values, in any batch and on any machine."""
    text = json.dumps([seed, sample_id, what, k])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
