"""What a generative backend is: requests in, completions out, same order and length. Knows no prompt and no parser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from omnirm.types import Completion, Modality, Request


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can take and give."""

    modalities: frozenset[Modality]
    logprobs: bool
    context: int  # tokens


@runtime_checkable
class Backend(Protocol):
    """A generative model. One bad request gives a completion with `finish_reason="error"`; it never loses others."""

    name: str  # model id as the user gave it
    revision: str  # hash of config and weights' index, or commit; "" where unknown
    capabilities: Capabilities

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answers every request, in order."""
        ...
