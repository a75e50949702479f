"""Scores responses with a scalar reward model on this machine: text models and Qwen-Omni/VL ones with a value head.

The DisRM of the meta-reward. An item that cannot be scored (a broken file, a response too long, a modality that the
model does not take) is a `ParseFailure` and loses no other; nothing is ever cut. Knows no rubric, no verdict, no label.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from omnirm.backends.hf_inputs import Conversation, InputEncoder, media_parts
from omnirm.backends.hf_load import checkpoint_revision, checkpoint_settings, torch_dtype
from omnirm.errors import BackendError, CapabilityError, ConfigError
from omnirm.preprocessing.types import MediaError, Policy, Settings
from omnirm.scorers.base import Scored
from omnirm.types import Message, Modality, ParseFailure, Part

_MEDIUM = 1000  # characters of text that a medium counts for when items are sorted by length


class ScalarHead:
    """A reward model with one output: `P(i better than j) = sigmoid(s_i - s_j)` by its Bradley-Terry training.

    A text model reads the conversation through its own chat template, a media model through its family's processor,
    exactly as in training; the response stands there as the assistant's finished turn.

    Args:
        name_or_path: folder or hub name.
        device: `cpu`, `cuda`, ...; the best there is when None.
        dtype: `float32`, `bfloat16`, `float16`; what suits the device when None.
        batch_size: items that are scored together; halved by itself when memory runs out.
        max_tokens: the longest item, prompt and response; the model's own context when None.
        settings: media budgets; the checkpoint's `omnirm.json` or the family's defaults when None.
        policy: which media may be read, and limits.
        allow_pickle: load weights that are not safetensors. Such files can run any code.
        allow_remote_code: run code that comes with the checkpoint.
        revision: hub revision.
        name: what to call the model; `name_or_path` when None.

    Raises:
        UnsafeCheckpoint: pickled weights or remote code, and not allowed.
        BackendError: the checkpoint cannot be loaded, or is no reward model.
        ConfigError: a batch size or length below 1, or an unknown dtype.
    """

    def __init__(
        self,
        name_or_path: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        batch_size: int = 16,
        max_tokens: int | None = None,
        settings: Settings | None = None,
        policy: Policy | None = None,
        allow_pickle: bool = False,
        allow_remote_code: bool = False,
        revision: str | None = None,
        name: str | None = None,
    ) -> None:
        import torch

        from omnirm.preprocessing import MediaCache
        from omnirm.scorers.reward_model import TextProcessor, load_reward_model

        for label, value in (("batch_size", batch_size), ("max_tokens", 1 if max_tokens is None else max_tokens)):
            if value < 1:
                raise ConfigError(f"{label} {value}: must be at least 1")
        path = str(name_or_path)
        self.name = name or path
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = torch_dtype(dtype, self.device)
        self.policy = policy or Policy()
        self.cache = MediaCache()
        self.model, processor = load_reward_model(
            path,
            self.device,
            self.dtype,
            allow_pickle=allow_pickle,
            allow_remote_code=allow_remote_code,
            revision=revision,
        )
        self.encoder = InputEncoder(processor, open_turn=False)
        self.settings = settings
        if isinstance(processor, TextProcessor):
            self.encoder.modalities = frozenset({"text"})
        elif settings is None:
            self.settings = checkpoint_settings(path, processor)
        # without a padding id a text model cannot tell where a padded row ends
        alone = isinstance(processor, TextProcessor) and self.model.config.pad_token_id is None
        self.batch_size = 1 if alone else batch_size
        self.modalities: frozenset[Modality] = self.encoder.modalities
        self.revision = checkpoint_revision(path, self.model)
        context = int(getattr(self.model.config.get_text_config(), "max_position_embeddings", 32768))
        self.max_tokens = context if max_tokens is None else min(max_tokens, context)

    def score(self, items: Sequence[Scored]) -> list[float | ParseFailure]:
        """The score of every item, in order; larger is better, on this model's own scale.

        A failure's reason is `media_error`, `capability` (modality or length), `out_of_range` (no finite number came
        out) or `backend_error`.

        Raises:
            BackendError: the device failed; nothing can be scored any more.
        """
        results: list[float | ParseFailure] = [ParseFailure("backend_error", "not scored")] * len(items)
        ordered = sorted(range(len(items)), key=lambda i: (self._with_sound(items[i]), _rough_length(items[i])))
        for start in range(0, len(ordered), self.batch_size):
            places = ordered[start : start + self.batch_size]
            ready: list[tuple[int, Conversation]] = []
            for i, found in zip(places, self._conversations([items[i] for i in places]), strict=True):
                if isinstance(found, ParseFailure):
                    results[i] = found
                else:
                    ready.append((i, found))
            groups = [[r for r in ready if self._with_sound(items[r[0]]) == sound] for sound in (False, True)]
            for group in filter(None, groups):  # the processor takes videos with sound, or videos without
                for (i, _), value in zip(group, self._scored([c for _, c in group]), strict=True):
                    results[i] = value
        return results

    def _conversations(self, items: Sequence[Scored]) -> Iterator[Conversation | ParseFailure]:
        """Each item with its media, or why it has none. Media are decoded in one go."""
        from omnirm.preprocessing import MediaItem, prepare_many

        messages = [_messages(item) for item in items]
        wrong = [self._wrong(one) for one in messages]
        parts = [[] if why else media_parts(one) for one, why in zip(messages, wrong, strict=True)]
        flat = [MediaItem(p.value, p.type, p.options) for one in parts for p in one if p.type != "text"]
        media = iter(prepare_many(flat, self.settings, self.policy, cache=self.cache) if self.settings else ())
        for one, why, own in zip(messages, wrong, parts, strict=True):
            prepared = [next(media) for _ in own]
            if why is not None:
                yield why
            elif errors := [m for m in prepared if isinstance(m, MediaError)]:
                yield ParseFailure("media_error", str(errors[0]))
            else:
                yield Conversation(one, tuple(m for m in prepared if not isinstance(m, MediaError)))

    def _wrong(self, messages: Sequence[Message]) -> ParseFailure | None:
        for part in media_parts(messages):
            if part.type not in self.modalities:
                return ParseFailure("capability", f"{self.name} takes no {part.type}")
            if part.type == "video" and self._hears(part) and "audio" not in self.modalities:
                return ParseFailure("capability", f"{self.name} hears no sound: leave out use_audio_in_video")
        return None

    def _scored(self, batch: list[Conversation]) -> list[float | ParseFailure]:
        """One batch; halves it when memory runs out, and isolates an item that cannot be encoded or run."""
        import torch

        try:
            return self._run(batch)
        except CapabilityError as error:
            why = ParseFailure("capability", str(error))
        except torch.AcceleratorError as error:
            raise BackendError(f"{self.name}: {self.device} failed, start anew: {error}") from error
        except (BackendError, ValueError, IndexError, TypeError, RuntimeError, MemoryError) as error:  # of one item
            why = ParseFailure("backend_error", f"{type(error).__name__}: {error}")
            if isinstance(error, torch.OutOfMemoryError) and self.device.startswith("cuda"):
                torch.cuda.empty_cache()
        if len(batch) == 1:
            return [why]
        half = (len(batch) + 1) // 2
        return self._scored(batch[:half]) + self._scored(batch[half:])

    def _run(self, batch: list[Conversation]) -> list[float | ParseFailure]:
        import torch

        inputs = self.encoder(batch, padding_side="right")
        longest = int(inputs["attention_mask"].sum(1).max())
        if longest > self.max_tokens:
            raise CapabilityError(f"{longest} tokens of prompt and response, but at most {self.max_tokens} are taken")
        with torch.inference_mode():
            output = self.model(**{k: self._to_device(v) for k, v in inputs.items()}, use_cache=False)
        scores = output.logits.float().reshape(len(batch)).tolist()
        return [s if math.isfinite(s) else ParseFailure("out_of_range", f"the model gave {s}") for s in scores]

    def _to_device(self, value: Any) -> Any:
        import torch

        if not isinstance(value, torch.Tensor):
            return value
        features = value.is_floating_point() and value.dim() > 1  # seconds per grid stay as they are
        return value.to(self.device, self.dtype) if features else value.to(self.device)

    def _hears(self, video: Part) -> bool:
        default = self.settings.video.with_audio if self.settings else False
        return bool(video.options.get("use_audio_in_video", default))

    def _with_sound(self, item: Scored) -> bool:
        return any(p.type == "video" and self._hears(p) for p in media_parts(_messages(item)))


def _messages(item: Scored) -> tuple[Message, ...]:
    """The conversation with the response as the assistant's turn; none of it is trusted."""
    turns = (*item.prompt, Message("assistant", item.response))
    return tuple(replace(t, parts=tuple(replace(p, trusted=False) for p in t.parts)) for t in turns)


def _rough_length(item: Scored) -> int:
    parts = (p for message in _messages(item) for p in message.parts)
    return sum(len(p.value) if p.type == "text" else _MEDIUM for p in parts)


__all__ = ["ScalarHead"]
