"""Preference rows for Bradley-Terry training: a prompt, responses to it, and which is better; and their collator.

For `omnirm.training.bt`. The collator prepares media through `omnirm.preprocessing`, as the scorer does; it knows
neither a loss nor where rows come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from omnirm.backends.hf_inputs import Conversation, InputEncoder, media_parts
from omnirm.errors import SampleError
from omnirm.preprocessing.types import Media
from omnirm.sample import Sample
from omnirm.training.collate import within
from omnirm.types import Message, Part


@dataclass(frozen=True, slots=True)
class Preferred:
    """One row. A response is computed once, however many pairs it is in.

    pairs: (better, worse) by index of the response; margin: by how much the better score should lead at least (the
    loss's `m`), the same for every pair of the row.
    """

    prompt: tuple[Message, ...]
    responses: tuple[tuple[Part, ...], ...]
    pairs: tuple[tuple[int, int], ...] = ((0, 1),)
    margin: float = 0.0


def from_samples(samples: Iterable[Sample]) -> list[Preferred]:
    """Every labelled sample as rows: its better candidate over each of the others; ties and unlabelled ones give none.

    A number `metadata["margin"]` becomes the margin.

    Raises:
        SampleError: a margin that is no number of at least 0, or no labelled sample at all.
    """
    found = []
    for sample in samples:
        if not isinstance(sample.label, int):
            continue
        margin = sample.metadata.get("margin", 0.0)
        if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 <= margin < float("inf"):
            raise SampleError(f"sample {sample.id}: metadata.margin is {margin!r}; write a number of at least 0")
        best = sample.candidates[sample.label].parts
        worse = [c.parts for i, c in enumerate(sample.candidates) if i != sample.label]
        found += [Preferred(sample.prompt, (best, parts), margin=float(margin)) for parts in worse]
    if not found:
        raise SampleError("no sample has a label that prefers one candidate: there is nothing to train on")
    return found


class PreferredCollator:
    """Collates rows into a training batch.

    Args:
        encoder: of the model's processor, made with `open_turn=False`.
        build: turns a row of the data set into a preference; its media are still references.
        prepare: decodes one media part.
        max_tokens: a longer response with its prompt is an error here, before it costs a step; nothing is cut.
    """

    def __init__(
        self,
        encoder: InputEncoder,
        build: Callable[[Any], Preferred],
        prepare: Callable[[Part], Media],
        max_tokens: int = 4096,
    ) -> None:
        self.encoder, self.build, self.prepare, self.max_tokens = encoder, build, prepare, max_tokens

    def __call__(self, rows: Sequence[Any]) -> dict[str, Any]:
        """Model inputs of all N responses, right-padded; `pairs` [P, 2] into them; `margin` [P] where any row has one.

        Raises:
            SampleError: a row over `max_tokens`.
            MediaError: a medium that cannot be decoded.
        """
        import torch

        conversations: list[Conversation] = []
        sources: list[Any] = []
        pairs: list[tuple[int, int]] = []
        margins: list[float] = []
        for row in rows:
            one, first = self.build(row), len(conversations)
            media = {id(p): self.prepare(p) for p in media_parts(one.prompt)}  # decoded once for all responses
            for response in one.responses:
                messages = (*one.prompt, Message("assistant", response))
                found = tuple(media.get(id(p)) or self.prepare(p) for p in media_parts(messages))
                conversations.append(Conversation(messages, found))
                sources.append(row)
            pairs += [(first + better, first + worse) for better, worse in one.pairs]
            margins += [one.margin] * len(one.pairs)
        batch = self.encoder(conversations, padding_side="right")
        for row, length in zip(sources, batch["attention_mask"].sum(dim=1).tolist(), strict=True):
            within(f"{row!r:.80}", length, self.max_tokens)
        batch["pairs"] = torch.tensor(pairs)
        if any(margins):
            batch["margin"] = torch.tensor(margins, dtype=torch.float32)
        return batch


__all__ = ["Preferred", "PreferredCollator", "from_samples"]
