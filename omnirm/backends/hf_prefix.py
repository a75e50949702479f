"""Prompts of one batch that begin alike: their tokens, the media they share, and the tree of what they share.

For `hf.py`; `hf_branches.py` computes it. K rubrics on one pair have system prompt, prompt, responses and media in
common, both orders of it the beginning. Each medium is told by its content and preprocessed once. The tokens are those
that `InputEncoder` gives for each prompt. Knows neither prompts nor parsers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from omnirm.backends.hf_inputs import Conversation, InputEncoder
from omnirm.backends.prefix_tree import Node, packed, prefix_tree
from omnirm.preprocessing.types import Image, Media, Video
from omnirm.types import Message, Modality, Part

_WORTH = 8  # tokens a request that sharing must save on average
_TEXT_INPUTS = frozenset({"input_ids", "attention_mask", "mm_token_type_ids"})
_PLACE_INPUTS = frozenset(  # what places in a prompt follow from, besides its tokens
    {"image_grid_thw", "video_grid_thw", "video_second_per_grid", "feature_attention_mask", "use_audio_in_video"}
)
_PADDED = frozenset({"input_features", "feature_attention_mask"})  # as long as the longest clip beside them


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request's tokens.

    ids: int [length]; keys: the same, but all tokens of a medium are a number of its own below 0: the placeholders of
    two different media are the same tokens. media: where each begins, and its index. positions: int [3, length].
    """

    ids: np.ndarray
    keys: np.ndarray
    media: tuple[tuple[int, int], ...]
    positions: Any


@dataclass(frozen=True, slots=True)
class SharedPrompts:
    """Prompts of which some begin alike: the tree of them, and the media (model inputs of each) that they refer to."""

    prompts: tuple[Prompt, ...]
    roots: tuple[Node, ...]
    media: tuple[dict[str, Any], ...]
    contents: tuple[str, ...]  # of the media: equal for equal ones

    @property
    def lengths(self) -> list[int]:
        """Tokens of each prompt."""
        return [len(prompt.ids) for prompt in self.prompts]

    @property
    def depths(self) -> list[int]:
        """Where each prompt goes on alone: with its last token at the latest, whose logits begin its answer."""
        depths = [0] * len(self.prompts)
        for node in packed(self.roots).nodes:
            for row in node.rows:
                depths[row] = min(node.end, len(self.prompts[row].ids) - 1)
        return depths

    @property
    def computed(self) -> list[int]:
        """Tokens of each prompt that are computed for it: what is shared counts for the first that has it."""
        counts = [length - depth for length, depth in zip(self.lengths, self.depths, strict=True)]
        for node in packed(self.roots).nodes:
            counts[node.rows[0]] += node.end - node.start
        return counts

    def inputs(self, media: Sequence[int]) -> dict[str, Any]:
        """Model inputs of these media, in order of appearance."""
        return _joined([self.media[i] for i in media])


def share(model: Any, encoder: InputEncoder, conversations: Sequence[Conversation]) -> SharedPrompts | None:
    """The prompts with what they share; None where that is not worth it or the model cannot: encode them as ever then.

    Raises:
        CapabilityError, BackendError: as `InputEncoder`.
    """
    if len(conversations) < 2 or not _can_share(model) or _mixed_sound(conversations):
        return None
    rows = [np.array(row) for row in encoder.unexpanded(conversations)]
    known, placeholders = _Media(), _placeholders(model)
    named = [[known.index(medium) for medium in c.media] for c in conversations]
    places = [np.flatnonzero(np.isin(row, placeholders)).tolist() for row in rows]
    if any(len(place) != len(names) for place, names in zip(places, named, strict=True)):
        return None
    marks = [np.array([-1 - i]) for i in range(len(known.media))]
    short = [_with_media(*one, marks) for one in zip(rows, places, named, strict=True)]
    if _saved(prefix_tree(short)) < _WORTH * len(rows):
        return None
    media = [_encoded(encoder, medium, placeholders) for medium in known.media]
    if any(one is None for one in media):
        return None
    found = tuple(one for one in media if one is not None)
    known_positions: dict[bytes, Any] = {}
    prompts = tuple(
        _prompt(model, encoder, *one, found, known_positions) for one in zip(rows, places, named, strict=True)
    )
    tree = prefix_tree([p.keys for p in prompts])
    return SharedPrompts(prompts, tree, tuple(one.inputs for one in found), known.contents)


def _can_share(model: Any) -> bool:
    """Attention that takes a mask of ours, every layer seeing all that stands before, and places of three axes."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    rope = getattr(config, "rope_parameters", None) or {}
    return config._attn_implementation == "sdpa" and kinds <= {"full_attention"} and "mrope_section" in rope


def _mixed_sound(conversations: Sequence[Conversation]) -> bool:
    return len({m.audio is None for c in conversations for m in c.media if isinstance(m, Video)}) > 1


def _saved(roots: Sequence[Node]) -> int:
    return sum((len(node.rows) - 1) * (node.end - node.start) for node in packed(roots).nodes)


def _placeholders(model: Any) -> list[int]:
    """The tokens that stand for a medium in a prompt."""
    kinds = ("image_token_id", "video_token_id", "audio_token_id")
    return [found for kind in kinds if (found := getattr(model.config, kind, None)) is not None]


class _Media:
    """The different media of a batch, told apart by content."""

    def __init__(self) -> None:
        self.media: list[Media] = []
        self._of_object: dict[int, int] = {}
        self._of_content: dict[str, int] = {}

    @property
    def contents(self) -> tuple[str, ...]:
        """What tells each apart, in order."""
        return tuple(self._of_content)

    def index(self, medium: Media) -> int:
        """The number of this content."""
        if id(medium) not in self._of_object:
            number = self._of_content.setdefault(_content(medium), len(self.media))
            if number == len(self.media):
                self.media.append(medium)
            self._of_object[id(medium)] = number
        return self._of_object[id(medium)]


class Beginnings:
    """Counts the different beginnings among prompts: what had to be computed at least."""

    def __init__(self, model: Any) -> None:
        self._seen: set[int] = set()
        self._placeholders = frozenset(_placeholders(model))

    def of_shared(self, shared: SharedPrompts) -> list[int]:
        """Of each prompt: how many tokens no earlier one begins with."""
        return [
            self._new(
                shared.contents[-1 - key] if token in self._placeholders else token
                for token, key in zip(prompt.ids.tolist(), prompt.keys.tolist(), strict=True)
            )
            for prompt in shared.prompts
        ]

    def of(self, ids: Sequence[int], media: Sequence[Media]) -> int:
        """Alike of one prompt; a medium's tokens are told apart by its content."""
        names, name, inside = iter([_content(medium) for medium in media]), "", False
        told: list[int | str] = []
        for token in ids:
            if token in self._placeholders and not inside:
                name = next(names, name)
            inside = token in self._placeholders
            told.append(name if inside else token)
        return self._new(told)

    def _new(self, tokens: Iterable[int | str]) -> int:
        way, found = 0, 0
        for token in tokens:
            way = hash((way, token))
            found += way not in self._seen
            self._seen.add(way)
        return found


def _content(medium: Any) -> str:
    digest = hashlib.sha256(type(medium).__name__.encode())
    for field in fields(medium):
        value = getattr(medium, field.name)
        if isinstance(value, np.ndarray):
            digest.update(f"{value.shape} {value.dtype}".encode() + np.ascontiguousarray(value).data)
        else:
            digest.update((_content(value) if field.name == "audio" and value is not None else repr(value)).encode())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A medium's tokens, with those that open and close it, and its model inputs."""

    tokens: np.ndarray
    inputs: dict[str, Any]


def _encoded(encoder: InputEncoder, medium: Media, placeholders: Sequence[int]) -> _Encoded | None:
    """None where the processor does not write a medium in place of its placeholder and the two tokens around it."""
    kind: Modality = "image" if isinstance(medium, Image) else "video" if isinstance(medium, Video) else "audio"
    turn = Message("user", (Part(kind, ""),))
    inputs = encoder([Conversation((turn,), (medium,))])
    [plain], full = encoder.unexpanded([Conversation((turn,))]), inputs["input_ids"][0].tolist()
    places = np.flatnonzero(np.isin(plain, placeholders))
    if len(places) != 1:
        return None
    before, after = plain[: places[0] - 1], plain[places[0] + 2 :]
    end = len(full) - len(after)
    if full[: len(before)] != before or full[end:] != after:
        return None
    return _Encoded(np.array(full[len(before) : end]), {k: v for k, v in inputs.items() if k not in _TEXT_INPUTS})


def _with_media(
    row: np.ndarray, places: Sequence[int], names: Sequence[int], media: Sequence[np.ndarray]
) -> np.ndarray:
    """A row with each placeholder, and the two tokens around it, replaced by what its medium has."""
    pieces, at = [], 0
    for place, name in zip(places, names, strict=True):
        pieces += [row[at : place - 1], media[name]]
        at = place + 2
    return np.concatenate([*pieces, row[at:]])


def _prompt(
    model: Any,
    encoder: InputEncoder,
    row: np.ndarray,
    places: Sequence[int],
    names: Sequence[int],
    media: Sequence[_Encoded],
    known: dict[bytes, Any],
) -> Prompt:
    ids = _with_media(row, places, names, [one.tokens for one in media])
    keys = _with_media(row, places, names, [np.full(len(one.tokens), -1 - i) for i, one in enumerate(media)])
    begins, grown = [], 0
    for place, name in zip(places, names, strict=True):
        begins.append((int(place) - 1 + grown, name))
        grown += len(media[name].tokens) - 3
    head = begins[-1][0] + len(media[names[-1]].tokens) + 1 if names else 1  # behind it all is text
    if (key := keys[:head].tobytes()) not in known:
        known[key] = _positions(model, encoder, ids[:head], [media[name].inputs for name in names])
    return Prompt(ids, keys, tuple(begins), _continued(known[key], len(ids)))


def _positions(model: Any, encoder: InputEncoder, ids: np.ndarray, media: Sequence[dict[str, Any]]) -> Any:
    """The places [3, length] (time, height, width) that `generate` itself would give these tokens."""
    import torch

    whole = torch.from_numpy(ids)[None]
    inputs = {key: value for key, value in _joined(media).items() if key in _PLACE_INPUTS}
    inputs |= {"input_ids": whole, "attention_mask": torch.ones_like(whole)}
    if media and hasattr(encoder.processor, "create_mm_token_type_ids"):
        inputs["mm_token_type_ids"] = torch.tensor(encoder.processor.create_mm_token_type_ids([ids.tolist()]))
    return model._prepare_position_ids_for_generation(whole, inputs)[1:, 0]


def _continued(positions: Any, length: int) -> Any:
    """Places of text follow each other."""
    import torch

    more = torch.arange(1, length - positions.shape[1] + 1)
    return torch.cat([positions, positions[:, -1:] + more], 1)


def _joined(media: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The model inputs of several media in order of appearance."""
    import torch
    from torch.nn.functional import pad

    out: dict[str, Any] = {}
    for key in dict.fromkeys(key for one in media for key in one):
        values = [one[key] for one in media if key in one]
        if not isinstance(values[0], torch.Tensor):
            out[key] = values[0]
            continue
        if key in _PADDED:
            longest = max(value.shape[-1] for value in values)
            values = [pad(value, (0, longest - value.shape[-1])) for value in values]
        out[key] = torch.cat(values)
    return out
