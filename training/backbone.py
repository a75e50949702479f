"""The Omni thinkers' backbone, for TRL's fused output head. Used by every recipe that asks for log-probabilities.

TRL computes log-probabilities from the last hidden states, tile by tile, so that no [tokens, vocabulary] array of
logits is ever held (1.2 GB for 2,000 tokens of Qwen2.5-Omni). For that it calls `model.base_model`. The thinkers have
no such part: their forward runs the towers, the text model and the head in one piece.
"""

from __future__ import annotations

from typing import Any


def with_backbone(model: Any) -> Any:
    """Gives a thinker a `base_model` that returns its last hidden states; other models are left as they are.

    The forward is the model's own with its output head taken out, so that positions, media and caches are handled by
    the family's own code. Weights, their names and what is saved stay the same.
    """
    if hasattr(model, "lm_head") and id(getattr(model, "base_model", None)) == id(model):
        prefix: str = model.base_model_prefix or "backbone"
        object.__setattr__(model, prefix, _Headless(model))
        model.base_model_prefix = prefix
    return model


class _Headless:
    """The model without its output head, as a function. Not a module: its weights are the model's."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._forward = type(model).forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        import torch

        model = self._model
        head = model.lm_head
        model.lm_head = torch.nn.Identity()
        try:
            output = self._forward(model, *args, **kwargs)
        finally:
            model.lm_head = head
        output.last_hidden_state = output.logits
        return output
