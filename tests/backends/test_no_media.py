"""A judge writes text: whatever its logits say, no token that stands for a medium comes out, on any family."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tiny_models import Files

from omnirm.backends.hf import HFBackend
from omnirm.backends.hf_inputs import Conversation
from omnirm.backends.hf_steps import media_tokens, no_media
from omnirm.nano.build import Family
from omnirm.types import Message, Part, Request

PLACES = {
    "qwen2_5_omni": {"<|IMAGE|>", "<|VIDEO|>", "<|AUDIO|>", "<|vision_bos|>", "<|vision_eos|>", "<|audio_bos|>",
                     "<|audio_eos|>"},
    "qwen3_omni": {"<|image_pad|>", "<|video_pad|>", "<|audio_pad|>", "<|vision_start|>", "<|vision_end|>",
                   "<|audio_start|>"},
    "qwen3_vl": {"<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"},
}  # fmt: skip


class Longing(torch.nn.Module):
    """An output head that wants to write the tokens above all others."""

    def __init__(self, head: Any, tokens: list[int]) -> None:
        super().__init__()
        self.head, self.tokens = head, tokens

    @property
    def weight(self) -> Any:
        return self.head.weight

    def forward(self, hidden: Any) -> Any:
        logits = self.head(hidden).clone()
        logits[..., self.tokens] += 100.0
        return logits


def longing(backend: HFBackend) -> HFBackend:
    """The same backend, whose model longs for media."""
    model = copy.deepcopy(backend.model)
    model.lm_head = Longing(model.lm_head, list(media_tokens(model.config)))
    return HFBackend.of(model, backend.processor, backend.settings, batch_size=4, tokens=True)


def test_every_place_of_a_medium_is_known(backend: HFBackend) -> None:
    family = next(name for name in PLACES if name == backend.name)
    names = backend.processor.tokenizer.convert_ids_to_tokens(list(media_tokens(backend.model.config)))
    assert set(names) >= PLACES[family]
    assert not {"<|im_end|>", "<|endoftext|>", "<|im_start|>"} & set(names)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_that_longs_for_media_writes_none(backend: HFBackend, files: Files, temperature: float) -> None:
    one = longing(backend)
    requests = [
        Request((Message("user", (Part("text", "Go on"),)),), max_new_tokens=6, temperature=temperature, seed=1),
        Request(
            (Message("user", (Part("image", str(files.images[0])), Part("text", "Look"))),),
            max_new_tokens=6, temperature=temperature, seed=2, track=("A",),
        ),
        # two that begin alike, so that what they share is computed once
        *(
            Request(
                (Message("user", (Part("text", "Tell me more about it " * 60 + end),)),),
                max_new_tokens=6, temperature=temperature, seed=3,
            )
            for end in ("A", "B")
        ),
    ]  # fmt: skip
    places = set(media_tokens(one.model.config))
    for found in one.generate(requests):
        assert found.error == ""
        assert found.token_ids  # type: ignore[attr-defined]
        assert not places & set(found.token_ids)  # type: ignore[attr-defined]


def test_what_it_writes_is_what_it_would_write_without_the_longing(backend: HFBackend) -> None:
    request = Request((Message("user", (Part("text", "Go on"),)),), max_new_tokens=8)
    (plain,) = HFBackend.of(backend.model, backend.processor, backend.settings, tokens=True).generate([request])
    (found,) = longing(backend).generate([request])
    assert found.text == plain.text


def test_log_probabilities_stay_those_of_the_model_itself(backend_of: Any) -> None:
    family: Family = "qwen2_5_omni"
    backend = backend_of(family)
    request = Request((Message("user", (Part("text", "Go on"),)),), max_new_tokens=1, track=("A", "B"))
    for one in (backend, longing(backend)):
        with torch.inference_mode():
            raw = one.model(**one.encoder([Conversation(request.messages)])).logits[0, -1].float().log_softmax(-1)
        (found,) = one.generate([request])
        (token,) = found.logprobs
        for letter in "AB":
            (place,) = one.processor.tokenizer(letter)["input_ids"]
            assert token.top[letter] == pytest.approx(float(raw[place]), abs=1e-4)
    assert token.logprob < -50  # the longing model thought its text that unlikely, and this is on record


def test_numbers_of_large_vocabularies_are_exact_in_every_dtype() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        scores = no_media((151655, 151656))(None, torch.zeros(2, 151936, dtype=dtype))
        assert torch.isinf(scores).nonzero().tolist() == [[row, at] for row in (0, 1) for at in (151655, 151656)]
    assert no_media(())(None, torch.zeros(1, 5)).tolist() == [[0.0] * 5]
