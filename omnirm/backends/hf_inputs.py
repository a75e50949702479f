"""Turns messages with prepared media into model inputs of the Qwen families, safely. Shared by inference and training.

The family's own processor expands media placeholders and builds the tensors; only its tokenizer is stood in for: text
that is not ours (`Part.trusted` False) travels through the chat template as a marker and is encoded apart, by a
tokenizer that knows no added tokens at all, so that no candidate can write a special token. Every part is encoded on
its own: no token spans two of them. Knows neither prompts nor parsers, and opens no media.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from omnirm.errors import BackendError, CapabilityError
from omnirm.preprocessing.types import Audio, Image, Media, Video
from omnirm.types import Message, Modality, Part

IGNORE = -100  # label of a position without loss
_MARK = re.compile("\ue000([0-9]+)\ue001")


@dataclass(frozen=True, slots=True)
class Conversation:
    """What the model sees: messages, their media in order of appearance, and how the assistant's last turn begins.

    `completion` is None at inference; in training it is the supervised text after `prefill`, closed by the end-of-turn
    token. With `learn_history`, assistant turns among `messages` are supervised too.
    """

    messages: tuple[Message, ...]
    media: tuple[Media, ...] = ()
    prefill: str = ""
    completion: str | None = None
    learn_history: bool = False


class InputEncoder:
    """Encodes conversations into padded batches for one processor (Qwen2.5-Omni, Qwen3-Omni, Qwen3-VL or alike).

    Args:
        processor: the family's own.
        open_turn: end with the opening of the assistant's next turn; False for models that rate a finished one.
    """

    def __init__(self, processor: Any, *, open_turn: bool = True) -> None:
        self.processor = processor
        self._open_turn = open_turn
        self.tokenizer = processor.tokenizer
        self.modalities: frozenset[Modality] = frozenset(
            {"text", "image", "video", "audio"}
            if getattr(processor, "feature_extractor", None)
            else {"text", "image", "video"}
        )
        self._plain = _without_added_tokens(self.tokenizer)
        known = self.tokenizer.added_tokens_decoder
        # a plain word may be an added token and a piece of ordinary text in one (nano's "tie"): it marks nothing
        self._added = frozenset(i for i, token in known.items() if token.special or not token.content.isalpha())

    def __call__(self, conversations: Sequence[Conversation], *, padding_side: str = "left") -> dict[str, Any]:
        """Model inputs as torch tensors.

        Returns:
            `input_ids` and `attention_mask` [B, L], media tensors as the family's processor makes them, `labels` [B, L]
            in training, and `use_audio_in_video` (True, no tensor) where videos carry their sound.

        Raises:
            CapabilityError: a modality or a length of audio that the model cannot take, or videos of which only some
                carry their sound.
            BackendError: this model's vocabulary cannot keep untrusted text apart from special tokens.
        """
        import torch

        texts, banks = zip(*(self._render(c) for c in conversations), strict=True)
        images, videos, audios = _by_kind(m for c in conversations for m in c.media)
        sound = [v for v in videos if v.audio is not None]
        if sound and len(sound) != len(videos):
            raise CapabilityError(
                "some videos of this batch carry their sound track and some do not: the model's processor takes one or "
                "the other; judge them apart or set use_audio_in_video alike"
            )
        self._check(images, videos, audios)
        stand_in = _SegmentTokenizer(self.tokenizer, banks, padding_side)
        processor = copy.copy(self.processor)
        processor.tokenizer = stand_in
        kwargs: dict[str, Any] = {}
        if images:
            kwargs |= {"images": [torch.from_numpy(i.pixels.transpose(2, 0, 1).copy()) for i in images]}
            kwargs |= {"images_kwargs": {"do_resize": False}}
        if videos:
            kwargs |= self._video_inputs(processor, videos, bool(sound))
        waves = _in_order(conversations)
        if waves:
            processor.feature_extractor = _ClipByClip(self.processor.feature_extractor)
            kwargs |= {
                "audio": waves,
                "audio_kwargs": {"sampling_rate": self.processor.feature_extractor.sampling_rate},
            }
        batch = dict(processor(text=list(texts), **kwargs))
        if "video_second_per_grid" in batch:
            batch["video_second_per_grid"] = self._seconds_per_grid(videos)
        out = {key: _tensor(value) for key, value in batch.items() if key != "video_metadata"}
        out["input_ids"] = torch.tensor(stand_in.ids)
        out["attention_mask"] = torch.tensor(stand_in.attention)
        if sound:
            out["use_audio_in_video"] = True
        if any(c.completion is not None for c in conversations):
            out["labels"] = torch.tensor(stand_in.labels)
        return out

    def unexpanded(self, conversations: Sequence[Conversation]) -> list[list[int]]:
        """Ids of prompts in which every medium is the single placeholder of the chat template. Needs no media."""
        own = copy.copy(self)
        own.tokenizer = _Remembering(self.tokenizer)  # prompts that begin alike have most of their texts in common
        texts, banks = zip(*(own._render(c) for c in conversations), strict=True)
        rows = [
            _SegmentTokenizer(own.tokenizer, [bank], "left")([text]) for text, bank in zip(texts, banks, strict=True)
        ]
        return [row["input_ids"][0] for row in rows]

    def text_ids(self, text: str) -> list[int]:
        """Ids of text of our own (added tokens allowed)."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def untrusted_ids(self, text: str) -> list[int]:
        """Ids of anybody's text: no added token can come out, but for plain words. They decode to the text as the
        model's tokenizer normalises it (Qwen's: Unicode NFC).

        Raises:
            BackendError: a vocabulary in which a special token is an ordinary piece too.
        """
        ids = self._plain.encode(text, add_special_tokens=False).ids
        if not self._added.isdisjoint(ids):
            raise BackendError("this model's vocabulary makes special tokens of ordinary text; it cannot judge safely")
        return ids

    def answer_ids(self, text: str) -> list[int]:
        """Ids of an answer to learn, closed by the end-of-turn token.

        What a judge wrote may quote a candidate: `<think>` and the like are tokens as when judging, special tokens
        (ends of turns, places of media) are plain text.
        """
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [*ids, self.tokenizer.eos_token_id]

    def _render(self, conversation: Conversation) -> tuple[str, list[tuple[str, list[int], bool]]]:
        """The chat template's text with markers, and what stands behind each marker: (kind, ids, supervised)."""
        bank: list[tuple[list[int], bool]] = []

        def mark(ids: list[int], supervised: bool) -> str:
            bank.append((ids, supervised))
            return f"\ue000{len(bank) - 1}\ue001"

        turns = []
        for message in conversation.messages:
            learn = conversation.learn_history and message.role == "assistant"
            content = []
            for part in message.parts:
                if part.type == "text":
                    ids = self.text_ids(part.value) if part.trusted else self.untrusted_ids(part.value)
                    content.append({"type": "text", "text": mark(ids, learn)})
                else:
                    if part.type not in self.modalities:
                        raise CapabilityError(f"this model takes no {part.type}; choose a Qwen-Omni model for it")
                    content.append({"type": part.type, part.type: "medium"})
            turns.append({"role": message.role, "content": content})
        text = self._templated(turns)
        if [int(number) for number in _MARK.findall(text)] != list(range(len(bank))):
            raise CapabilityError("the chat template of this model leaves out, repeats or reorders parts of the prompt")
        if conversation.prefill:
            text += mark(self.text_ids(conversation.prefill), False)
        if conversation.completion is not None:
            text += mark(self.answer_ids(conversation.completion), True)
        return text, bank  # type: ignore[return-value]

    def _templated(self, turns: list[dict[str, Any]]) -> str:
        from jinja2 import TemplateError

        try:
            return self.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=self._open_turn)
        except TemplateError as error:  # also of transformers' sandbox, which lets a template do nothing but write text
            reason = f"{type(error).__name__}: {error}"
            raise CapabilityError(f"the chat template of this model refuses the conversation: {reason}") from error

    def _check(self, images: list[Image], videos: list[Video], audios: list[Audio]) -> None:
        for kind, found in (("image", images), ("video", videos), ("audio", audios)):
            if found and kind not in self.modalities:
                raise CapabilityError(f"this model takes no {kind}; choose a Qwen-Omni model for it")
        sounds = [*audios, *(v.audio for v in videos if v.audio is not None)]
        if sounds and "audio" not in self.modalities:
            raise CapabilityError(
                "this model hears no sound: leave out use_audio_in_video, or choose a Qwen-Omni model"
            )
        for audio in sounds:
            extractor = self.processor.feature_extractor
            if len(audio.samples) < extractor.n_fft:
                raise CapabilityError(
                    f"{audio.duration * 1000:.1f} ms of audio, but this model needs "
                    f"{extractor.n_fft / extractor.sampling_rate * 1000:.0f} ms at least"
                )
            if len(audio.samples) > extractor.n_samples:
                raise CapabilityError(
                    f"{audio.duration:.1f} s of audio, but this model takes "
                    f"{extractor.n_samples / extractor.sampling_rate:.0f} s: set offset and duration"
                )
            if audio.sampling_rate != extractor.sampling_rate:
                raise CapabilityError(
                    f"audio at {audio.sampling_rate} Hz, but this model takes {extractor.sampling_rate} Hz"
                )

    def _seconds_per_grid(self, videos: Sequence[Video]) -> list[float]:
        frames = self.processor.video_processor.temporal_patch_size
        return [frames / (v.sample_fps or 1.0) for v in videos]  # no rate: a single frame

    def _video_inputs(self, processor: Any, videos: Sequence[Video], sound: bool) -> dict[str, Any]:
        import torch
        from transformers.video_utils import VideoMetadata

        metadata = [
            VideoMetadata(
                total_num_frames=v.source_frames, fps=v.source_fps, duration=v.duration, frames_indices=list(v.indices),
                height=v.frames.shape[2], width=v.frames.shape[3], video_backend=v.decoder,
            )
            for v in videos
        ]  # fmt: skip
        if getattr(processor.video_processor, "cap_pixels_per_frame", False) is None:  # says so on every first use
            processor.video_processor = copy.copy(processor.video_processor)
            processor.video_processor.cap_pixels_per_frame = False  # of no effect: nothing is resized any more
        options: dict[str, Any] = {"do_resize": False, "do_sample_frames": False, "video_metadata": metadata}
        if hasattr(
            processor, "replace_multimodal_special_tokens"
        ):  # the Omni processors: one call, one fps; ours differ by video
            options |= {"use_audio_in_video": sound}
            expand, seconds = processor.replace_multimodal_special_tokens, self._seconds_per_grid(videos)

            def with_true_seconds(*args: Any, **kwargs: Any) -> Any:
                return expand(*args, **(kwargs | {"video_second_per_grid": iter(seconds)}))

            processor.replace_multimodal_special_tokens = with_true_seconds
        return {"videos": [torch.from_numpy(v.frames.copy()) for v in videos], "videos_kwargs": options}


class _ClipByClip:
    """Stands in for a processor's feature extractor: a clip's features do not depend on its neighbours in the batch.

    The result is the extractor's own for that clip alone, without the padding to the model's longest clip.
    """

    def __init__(self, extractor: Any) -> None:
        self._extractor = extractor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._extractor, name)

    def __call__(self, clips: Sequence[np.ndarray], **kwargs: Any) -> dict[str, np.ndarray]:
        found = [self._one(clip, **kwargs) for clip in clips]
        length = max(mask.shape[-1] for _, mask in found)
        features = [np.pad(f, ((0, 0), (0, 0), (0, length - f.shape[-1]))) for f, _ in found]
        masks = [np.pad(m, ((0, 0), (0, length - m.shape[-1]))) for _, m in found]
        return {"input_features": np.concatenate(features), "attention_mask": np.concatenate(masks)}

    def _one(self, clip: np.ndarray, **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
        if kwargs.get("padding") == "max_length":  # as much silence as the last frame sees, not 30 or 300 seconds of it
            hop = self._extractor.hop_length
            kwargs["max_length"] = -(-(len(clip) + self._extractor.n_fft) // hop) * hop
        found = self._extractor([clip], **kwargs)
        return np.asarray(found["input_features"]), np.asarray(found["attention_mask"])


class _Remembering:
    """Stands in for a tokenizer: encodes each text once."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[tuple[Any, ...], Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, text: str, **kwargs: Any) -> Any:
        key = (text, *sorted(kwargs.items()))
        if key not in self._known:
            self._known[key] = self._tokenizer(text, **kwargs)
        return self._known[key]


class _SegmentTokenizer:
    """Stands in for a processor's tokenizer in one call: encodes template text as usual, fills markers from a bank."""

    def __init__(self, tokenizer: Any, banks: Sequence[Any], padding_side: str) -> None:
        self._tokenizer, self._banks, self._side = tokenizer, banks, padding_side
        self.ids: list[list[int]] = []
        self.attention: list[list[int]] = []
        self.labels: list[list[int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        rows = [self._row(text, bank) for text, bank in zip(texts, self._banks, strict=True)]
        longest = max(len(ids) for ids, _ in rows)
        for ids, labels in rows:
            pad = longest - len(ids)
            left, right = (pad, 0) if self._side == "left" else (0, pad)
            fill = self._tokenizer.pad_token_id
            self.ids.append([fill] * left + ids + [fill] * right)
            self.attention.append([0] * left + [1] * len(ids) + [0] * right)
            self.labels.append([IGNORE] * left + labels + [IGNORE] * right)
        return {"input_ids": self.ids, "attention_mask": self.attention}

    def _row(self, text: str, bank: Any) -> tuple[list[int], list[int]]:
        ids: list[int] = []
        labels: list[int] = []
        close = False  # the end-of-turn token after a supervised turn is supervised too
        for i, piece in enumerate(_MARK.split(text)):
            if i % 2:
                new, supervised = bank[int(piece)]
                labels += new if supervised else [IGNORE] * len(new)
                close = supervised
            else:
                new = self._tokenizer(piece, add_special_tokens=False)["input_ids"] if piece else []
                head = new[:1] if close and new[:1] == [self._tokenizer.eos_token_id] else []
                labels += head + [IGNORE] * (len(new) - len(head))
                close = close and not piece
            ids += new
        return ids, labels


def _without_added_tokens(tokenizer: Any) -> Any:
    """The same vocabulary and rules with no added token, special or not: nothing but text can come out of text."""
    from tokenizers import Tokenizer

    backend = tokenizer.backend_tokenizer
    plain = Tokenizer(backend.model)
    plain.normalizer, plain.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    return plain


def _by_kind(media: Iterable[Media]) -> tuple[list[Image], list[Video], list[Audio]]:
    found = list(media)
    return (
        [m for m in found if isinstance(m, Image)],
        [m for m in found if isinstance(m, Video)],
        [m for m in found if isinstance(m, Audio)],
    )


def _in_order(conversations: Sequence[Conversation]) -> list[np.ndarray]:
    """Every sound wave in order of appearance: clips, and the sound tracks of videos."""
    clips = (m.audio if isinstance(m, Video) else m for c in conversations for m in c.media if not isinstance(m, Image))
    return [clip.samples for clip in clips if clip is not None]


def media_parts(messages: Sequence[Message]) -> list[Part]:
    """The parts that refer to media, in order of appearance."""
    return [part for message in messages for part in message.parts if part.type != "text"]


def _tensor(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    return torch.tensor(value)
