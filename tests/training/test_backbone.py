"""The thinkers' own backbone for TRL's fused head: the same numbers, and otherwise the same model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import Files

from omnirm.backends.hf_inputs import IGNORE, Conversation
from omnirm.training.backbone import with_backbone
from omnirm.types import Message, Part


def rows(tiny: Any, files: Files) -> list[Conversation]:
    """A text, a picture, a clip and, where it hears, a sound; each with an answer to learn."""

    def row(answer: str, *parts: Part) -> Conversation:
        return Conversation((Message("user", parts),), (), "", answer)

    found = [
        row("B", Part("text", "which of the two?")),
        row("two red circles", Part("image", str(files.images[0])), Part("text", "what is it?")),
        row("left", Part("video", str(files.silent)), Part("text", "where to?")),
    ]
    return found + ([row("high", Part("audio", str(files.audios[0])))] if tiny.hears else [])


def batch_of(tiny: Any, files: Files) -> dict[str, Any]:
    return tiny.collator(lambda one: one)(rows(tiny, files))


def fused(model: Any, batch: dict[str, Any]) -> Any:
    """TRL's fused head: it asks `base_model` for hidden states and computes log-probabilities tile by tile."""
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(model)
    return model(**batch, fused_lm_head=True, use_cache=False)


def test_fused_log_probabilities_are_those_of_the_logits(tiny: Any, files: Files) -> None:
    model, batch = tiny.model().eval(), batch_of(tiny, files)
    labels = batch.pop("labels")
    with torch.no_grad():
        logits = model(**batch, use_cache=False).logits
    taught = labels[:, 1:] != IGNORE
    target = labels[:, 1:].clamp(min=0)
    expected = logits[:, :-1].log_softmax(-1).gather(-1, target[..., None])[..., 0]
    with_backbone(model)
    with torch.no_grad():
        hidden = model.base_model(**batch, use_cache=False).last_hidden_state
        found = model.lm_head(hidden)[:, :-1].log_softmax(-1).gather(-1, target[..., None])[..., 0]
        again = model(**batch, use_cache=False).logits
    assert hidden.shape == (*labels.shape, model.config.get_text_config().hidden_size)
    assert torch.allclose(found[taught], expected[taught], atol=1e-6)
    assert torch.equal(again, logits)  # the model as a whole is as it was
    with torch.no_grad():
        output = fused(model, {**batch, "labels": labels})
    assert torch.equal(output.label_mask.bool(), taught)
    assert torch.allclose(output.log_probs[taught], expected[taught], atol=1e-5)


def test_nothing_else_of_the_model_changes(tiny: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = tiny.model()
    names, count = list(model.state_dict()), sum(1 for _ in model.modules())
    model.save_pretrained(tmp_path / "before")
    assert with_backbone(with_backbone(model)) is model
    assert list(model.state_dict()) == names
    assert sum(1 for _ in model.modules()) == count
    model.save_pretrained(tmp_path / "after")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("before", "after"))
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (tmp_path / "before" / "config.json").read_bytes() == (tmp_path / "after" / "config.json").read_bytes()
    back, info = type(model).from_pretrained(tmp_path / "after", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert all(torch.equal(a, b) for a, b in zip(back.parameters(), model.parameters(), strict=True))


def test_a_copy_has_a_backbone_of_its_own(tiny: Any, files: Files) -> None:
    model, batch = with_backbone(tiny.model()).eval(), batch_of(tiny, files)
    batch.pop("labels")
    other = copy.deepcopy(model)
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(0.5)
        for one in (model, other):
            expected = one(**batch, use_cache=False).logits
            found = one.lm_head(one.base_model(**batch, use_cache=False).last_hidden_state)
            assert torch.allclose(found, expected, atol=1e-6)


def test_the_head_is_back_after_a_failure(tiny: Any) -> None:
    model = with_backbone(tiny.model())
    head = model.lm_head
    with pytest.raises(Exception):  # noqa: B017, PT011  (whatever the family's code raises)
        model.base_model(input_ids="no tensor")
    assert model.lm_head is head


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_every_part_and_are_those_of_the_plain_forward(
    tiny: Any, files: Files, checkpointing: bool
) -> None:
    from peft import LoraConfig, get_peft_model

    model, batch = tiny.model().eval(), batch_of(tiny, files)
    labels = batch.pop("labels")

    def gradients(logits: Any) -> dict[str, Any]:
        model.zero_grad()
        torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()).backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    expected = gradients(model(**batch, use_cache=False).logits)
    with_backbone(model)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
    found = gradients(model.lm_head(model.base_model(**batch, use_cache=False).last_hidden_state))
    assert set(found) == set(expected)
    assert any("visual" in name for name in found)
    assert all(torch.allclose(found[n], expected[n], atol=1e-6) for n in found)
    if checkpointing:  # adapters around it: TRL asks the inner model
        names = [n for n, m in model.named_modules() if n.endswith("q_proj") and "audio" not in n and "visual" not in n]
        wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=names, task_type="CAUSAL_LM"))
        inner = wrapped.get_base_model()
        assert inner is model
        hidden = inner.base_model(**batch, use_cache=False).last_hidden_state
        assert torch.allclose(inner.lm_head(hidden), wrapped(**batch, use_cache=False).logits, atol=1e-6)
