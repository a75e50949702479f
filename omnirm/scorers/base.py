"""What a discriminative reward model (DisRM) is: responses in, one number each out. Knows no rubric and no verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from omnirm.types import Message, Modality, ParseFailure, Part


@dataclass(frozen=True, slots=True)
class Scored:
    """A response to be scored: the conversation before it, and its own content."""

    prompt: tuple[Message, ...]
    response: tuple[Part, ...]


@runtime_checkable
class Scorer(Protocol):
    """A scalar reward model `s`. `P(i better than j) = sigmoid(s_i - s_j)` where it was trained by Bradley-Terry."""

    name: str  # model id as the user gave it
    revision: str  # hash of config and weights' index, or commit; "" where unknown
    modalities: frozenset[Modality]

    def score(self, items: Sequence[Scored]) -> list[float | ParseFailure]:
        """A finite score of each item, in order; what is wrong with one item is its own failure and loses no other.

        Raises:
            BackendError: the model as a whole failed.
        """
        ...
