"""One collator for text, images, video and audio, for every family: conversations in, padded batches with labels out.

Used by every supervised recipe. It prepares media through `omnirm.preprocessing`, as the judge does, and knows no task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from omnirm.backends.hf_inputs import Conversation, InputEncoder, media_parts
from omnirm.preprocessing.types import Media
from omnirm.types import Part


class MediaCollator:
    """Collates rows into a training batch.

    Args:
        encoder: of the model's processor.
        build: turns a row of the data set into a conversation; its media are still references.
        prepare: decodes one media part.
        max_tokens: a longer row is an error here, before it costs a step; nothing is cut.
    """

    def __init__(
        self,
        encoder: InputEncoder,
        build: Callable[[Any], Conversation],
        prepare: Callable[[Part], Media],
        max_tokens: int = 4096,
    ) -> None:
        self.encoder, self.build, self.prepare, self.max_tokens = encoder, build, prepare, max_tokens

    def __call__(self, rows: Sequence[Any]) -> dict[str, Any]:
        """Batch of model inputs, right-padded, with `labels` [B, L] (-100 where nothing is learned).

        Raises:
            ValueError: a row without a completion, or over `max_tokens`.
            MediaError: a medium that cannot be decoded.
        """
        conversations = []
        for row in rows:
            c = self.build(row)
            if c.completion is None:
                raise ValueError(f"row {row!r:.80} has no completion: there is nothing to learn from it")
            media = tuple(self.prepare(part) for part in media_parts(c.messages))
            conversations.append(Conversation(c.messages, media, c.prefill, c.completion, c.learn_history))
        batch = self.encoder(conversations, padding_side="right")
        lengths = batch["attention_mask"].sum(dim=1).tolist()
        for row, length in zip(rows, lengths, strict=True):
            if length > self.max_tokens:
                raise ValueError(
                    f"row {row!r:.80} has {length} tokens, over max_tokens = {self.max_tokens}: raise that or drop it"
                )
        return batch
