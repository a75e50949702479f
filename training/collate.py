"""One collator for text, images, video and audio, for every family: rows in, padded batches out.

Used by every supervised recipe: `MediaCollator` for answers to learn, `PairCollator` for a better and a worse answer to
one prompt, and `checked_lengths`, which looks through all rows before anything is trained. Media are prepared through
`omnirm.preprocessing`, as the judge does. Knows no task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from omnirm.backends.hf_inputs import Conversation, InputEncoder, media_parts
from omnirm.errors import SampleError
from omnirm.preprocessing.types import Media
from omnirm.training.rows import DPORow, SFTRow
from omnirm.types import Part

PER_TOKEN = ("attention_mask", "mm_token_type_ids", "token_type_ids")  # besides input_ids
ROUGH_TOKENS = {"image": 500, "video": 2000, "audio": 250}  # what a medium adds, near enough to group rows by length
_CHUNK = 256


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
            within(f"{row!r:.80}", length, self.max_tokens)
        return batch


class PairCollator:
    """Collates P preference rows into one batch of 2 P sequences: the chosen answers, then the rejected ones.

    A row's prompt and its media are decoded and encoded once for both answers. Arguments as of `MediaCollator`; `build`
    gives a `DPORow`.
    """

    def __init__(
        self,
        encoder: InputEncoder,
        build: Callable[[Any], DPORow],
        prepare: Callable[[Part], Media],
        max_tokens: int = 4096,
    ) -> None:
        self.encoder, self.build, self.prepare, self.max_tokens = encoder, build, prepare, max_tokens

    def __call__(self, rows: Sequence[Any]) -> dict[str, Any]:
        """Model inputs, right-padded, and `completion_mask` [2 P, L]: 1 on an answer and its end-of-turn token.

        Raises:
            ValueError: a row over `max_tokens`.
            MediaError: a medium that cannot be decoded.
        """
        import torch

        pairs = [self.build(row) for row in rows]
        batch = self.encoder([self._prompt(pair) for pair in pairs], padding_side="right")
        ids = batch.pop("input_ids")
        lengths = batch["attention_mask"].sum(dim=1).tolist()
        answers = [self.encoder.answer_ids(text) for text in (*(p.chosen for p in pairs), *(p.rejected for p in pairs))]
        starts = lengths * 2
        ends = [start + len(answer) for start, answer in zip(starts, answers, strict=True)]
        for pair, end in zip(pairs * 2, ends, strict=True):
            within(_name(pair), end, self.max_tokens)
        shape = (len(answers), max(ends))
        out: dict[str, Any] = {"input_ids": torch.full(shape, self.encoder.tokenizer.pad_token_id)}
        out |= {name: torch.zeros(shape, dtype=torch.long) for name in ("attention_mask", "completion_mask")}
        out |= {name: batch[name].new_zeros(shape) for name in PER_TOKEN if name in batch}
        for i, (start, end, answer) in enumerate(zip(starts, ends, answers, strict=True)):
            for name in PER_TOKEN:
                if name in batch:
                    out[name][i, :start] = batch[name][i % len(pairs), :start]
            out["input_ids"][i, :start] = ids[i % len(pairs), :start]
            out["input_ids"][i, start:end] = torch.tensor(answer)
            out["attention_mask"][i, start:end] = 1
            out["completion_mask"][i, start:end] = 1
        for name in set(batch) - set(PER_TOKEN):  # media, in order of their places: once for each half
            out[name] = torch.cat([batch[name]] * 2) if isinstance(batch[name], torch.Tensor) else batch[name]
        return out

    def _prompt(self, pair: DPORow) -> Conversation:
        messages = pair.prompt.messages
        return Conversation(messages, tuple(self.prepare(part) for part in media_parts(messages)), pair.prompt.prefill)


def checked_lengths(encoder: InputEncoder, rows: Sequence[SFTRow | DPORow], max_tokens: int) -> list[int]:
    """Looks through all rows before anything is trained. Opens no medium: 1.5 ms of CPU time a row of 130 tokens with
    nano's tokenizer, most of it the tokenizer's calls; three times that of the clock where others compute too.

    Returns:
        Rough length of each row in tokens (of a pair, of its longer sequence), to group rows by.

    Raises:
        SampleError: no row at all, an answer that is blank, a pair of two equal answers, or a row whose text alone is
            over `max_tokens`; names the row.
    """
    if not rows:
        raise SampleError("no rows: there is nothing to train on")
    lengths: list[int] = []
    for first in range(0, len(rows), _CHUNK):
        chunk = rows[first : first + _CHUNK]
        prompts = encoder.unexpanded([Conversation(row.prompt.messages, (), row.prompt.prefill) for row in chunk])
        for number, (row, prompt) in enumerate(zip(chunk, prompts, strict=True), first):
            name = f"{number} ({_name(row)})"
            answers = (row.completion,) if isinstance(row, SFTRow) else (row.chosen, row.rejected)
            if not all(answer.strip() for answer in answers):
                raise SampleError(f"row {name} has a blank answer: there is nothing to learn from it; drop the row")
            if len(answers) == 2 and answers[0] == answers[1]:
                raise SampleError(f"row {name}: chosen and rejected are the same text: no preference; drop the row")
            length = len(prompt) + max(len(encoder.answer_ids(answer)) for answer in answers)
            within(name, length, max_tokens)
            lengths.append(length + sum(ROUGH_TOKENS[part.type] for part in media_parts(row.prompt.messages)))
    return lengths


def _name(row: SFTRow | DPORow) -> str:
    return f"{row.step} of sample {row.sample_id!r:.60}"


def within(name: str, length: int, max_tokens: int) -> None:
    """Raises `SampleError` for a row of more than `max_tokens` tokens, by its name."""
    if length > max_tokens:
        raise SampleError(f"row {name} has {length} tokens, over max_tokens = {max_tokens}: raise that or drop it")


__all__ = ["MediaCollator", "PairCollator", "checked_lengths", "within"]
