"""Rollouts of a model in training: tokens as generated, what was forced, seeds, lengths, and the model as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from letter_task import SETTINGS, Letters, trainable_of

from omnirm.errors import BackendError, ConfigError, SampleError
from omnirm.prompts.rendered import Rendered
from omnirm.training.groups import make_trainer
from omnirm.training.rollouts import Rollouts, Sampling
from omnirm.types import Completion, Message, Part

FORCED = "\nVerdict ka-bu: [["


def trainer_of(tiny: Any, task: Any, output: Path, rank: int = 0, max_tokens: int = 200, **changes: Any) -> Any:
    return make_trainer(trainable_of(tiny, rank), task, replace(SETTINGS, **changes), output, max_tokens=max_tokens)


def test_tokens_are_those_generated_and_the_forced_ones_are_told_apart(tiny: Any, tmp_path: Path) -> None:
    trainer = trainer_of(tiny, Letters(2, FORCED), tmp_path)
    found = trainer.rollout_func(["0"] * 4 + ["1"] * 4, trainer)
    tokenizer = tiny.processor.tokenizer
    fixed = tokenizer(FORCED, add_special_tokens=False)["input_ids"]
    for ids, mask, one in zip(found["completion_ids"], found["env_mask"], trainer.rollout_func.latest, strict=True):
        assert ids[: len(fixed)] == fixed
        assert mask == [0] * len(fixed) + [1] * (len(ids) - len(fixed)), "the letter itself is the model's choice"
        assert tokenizer.decode(ids[len(fixed)]) in ("A", "B")
        text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        assert text.removesuffix(tokenizer.eos_token) == one.completion.text
        assert one.completion.text.startswith(FORCED)
    assert len({one.completion.text for one in trainer.rollout_func.latest[:4]}) > 1


def test_an_end_token_belongs_to_a_completion_where_the_model_wrote_it(tiny_of: Any, tmp_path: Path) -> None:
    """The families end with their end-of-turn token or with the token that also pads."""
    trainer = trainer_of(tiny_of("qwen3_vl"), Letters(8), tmp_path, batch_size=32, max_new_tokens=300, max_tokens=400)
    tokenizer = tiny_of("qwen3_vl").processor.tokenizer
    ends = {tokenizer.eos_token_id, tokenizer.pad_token_id}
    found = trainer.rollout_func([str(i // 4) for i in range(32)], trainer)
    lengths, reasons = [len(ids) for ids in found["completion_ids"]], set()
    for ids, mask, one in zip(found["completion_ids"], found["env_mask"], trainer.rollout_func.latest, strict=True):
        reasons.add(one.completion.finish_reason)
        assert ends.isdisjoint(ids[:-1])
        assert (ids[-1] in ends) == (one.completion.finish_reason == "stop")
        assert len(mask) == len(ids)
        assert one.completion.completion_tokens == len(ids) - (ids[-1] in ends)
    assert reasons == {"stop", "length"}, (reasons, lengths)


def test_seeds_make_rollouts_repeatable_and_each_step_anew(tiny_of: Any, tmp_path: Path) -> None:
    tiny, prompts = tiny_of("qwen2_5_omni"), ["0"] * 4 + ["0"] * 4
    first, again = (trainer_of(tiny, Letters(2), tmp_path) for _ in range(2))
    ids = first.rollout_func(prompts, first)["completion_ids"]
    assert again.rollout_func(prompts, again)["completion_ids"] == ids
    assert again.rollout_func(["0"] * 4, again)["completion_ids"] == ids[:4], "whatever they are batched with"
    assert ids[:4] == ids[4:], "the same row, place and step"
    assert len({tuple(one) for one in ids[:4]}) > 2
    again.state.global_step = 1
    assert again.rollout_func(prompts, again)["completion_ids"] != ids
    other = trainer_of(tiny, Letters(2), tmp_path, seed=1)
    assert other.rollout_func(prompts, other)["completion_ids"] != ids


@pytest.mark.parametrize("rank", [0, 4])
def test_the_model_is_in_eval_mode_for_rollouts_only(tiny_of: Any, tmp_path: Path, rank: int) -> None:
    trainer = trainer_of(tiny_of("qwen2_5_omni"), Letters(2), tmp_path, rank, gradient_checkpointing=True)
    model = trainer.model
    model.gradient_checkpointing_enable()
    frozen = next(module for name, module in model.named_modules() if name.endswith("norm"))
    frozen.eval()
    seen = []
    hook = model.get_input_embeddings().register_forward_hook(
        lambda *_: seen.append((model.training, model.is_gradient_checkpointing))
    )
    trainer.rollout_func(["0"] * 4, trainer)
    hook.remove()
    assert set(seen) == {(False, False)}
    assert model.training
    assert model.is_gradient_checkpointing
    assert not frozen.training, "what was in eval mode before still is"


class Long(Letters):
    """The third prompt is long."""

    def render(self, row: int, variant: int) -> Rendered:
        text = "red " * 80 if row == 2 else "red"
        return replace(super().render(row, variant), messages=(Message("user", (Part("text", text),)),))


def test_a_prompt_that_leaves_no_room_is_named_before_anything_is_trained(tiny_of: Any, tmp_path: Path) -> None:
    with pytest.raises(SampleError, match=r"row word 2: a prompt of \d+ tokens and 12 for the answer are over max_tok"):
        trainer_of(tiny_of("qwen2_5_omni"), Long(4), tmp_path, max_tokens=80)
    assert trainer_of(tiny_of("qwen2_5_omni"), Long(4), tmp_path, max_tokens=300)


def test_media_count_when_they_are_decoded(tiny_of: Any, tmp_path: Path, files: Any) -> None:
    class Pictures(Letters):
        def render(self, row: int, variant: int) -> Rendered:
            parts = tuple(Part("image", str(path)) for path in files.images)
            return replace(super().render(row, variant), messages=(Message("user", parts),))

    tiny = tiny_of("qwen2_5_omni")
    (bare,) = tiny.encoder.unexpanded([_conversation(Pictures(1).render(0, 0))])
    trainer = trainer_of(tiny, Pictures(2), tmp_path, max_tokens=len(bare) + 12)
    with pytest.raises(SampleError, match="row word 1: a prompt of"):
        trainer.rollout_func(["1"] * 4, trainer)
    assert trainer_of(tiny, Pictures(2), tmp_path, max_tokens=len(bare) + 12 + 16)
    files.images[0].with_name("broken.png").write_bytes(b"no picture")

    class Broken(Letters):
        def render(self, row: int, variant: int) -> Rendered:
            parts = (Part("image", str(files.images[0].with_name("broken.png"))),)
            return replace(super().render(row, variant), messages=(Message("user", parts),))

    broken = trainer_of(tiny, Broken(2), tmp_path)
    with pytest.raises(SampleError, match=r"row word 0: .*broken\.png"):
        broken.rollout_func(["0"] * 4, broken)


def _conversation(rendered: Rendered) -> Any:
    from omnirm.backends.hf_inputs import Conversation

    return Conversation(rendered.messages, (), rendered.prefill)


def test_a_rollout_that_failed_is_a_token_that_nothing_is_learnt_from(
    tiny_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from omnirm.backends.hf import HFBackend

    trainer = trainer_of(tiny_of("qwen2_5_omni"), Letters(2), tmp_path)
    real = HFBackend.generate

    def failing(self: Any, requests: Any) -> Any:
        return [Completion("", "error", error="out_of_memory"), *real(self, requests)[1:]]

    monkeypatch.setattr(HFBackend, "generate", failing)
    found = trainer.rollout_func(["0"] * 4, trainer)
    assert (len(found["completion_ids"][0]), found["env_mask"][0]) == (1, [0])
    assert all(any(mask) for mask in found["env_mask"][1:])
    monkeypatch.setattr(
        HFBackend, "generate", lambda _, r: [Completion("", "error", error="out_of_memory: x")] * len(r)
    )
    with pytest.raises(BackendError, match="out_of_memory: x"):
        trainer.rollout_func(["0"] * 4, trainer)


def test_vllm_gets_our_prompts_and_its_tokens_are_taken_as_they_are(tiny_of: Any, tmp_path: Path) -> None:
    """With a stand-in for TRL's `vllm_generation`: there is no vLLM here."""
    tiny = tiny_of("qwen2_5_omni")
    end = tiny.processor.tokenizer.eos_token_id
    trainer = trainer_of(tiny, Letters(2), tmp_path)

    class StandIn:
        def generate(self, prompts: Any, images: Any, num_generations: int) -> Any:
            assert (images, num_generations, len(prompts)) == (None, 4, 4)
            answers = [[40, 41, end], [40, 41], [42, end], [end]]
            return prompts, answers, [[[-0.5]] * len(ids) for ids in answers], None

    trainer.vllm_generation = StandIn()
    rollouts = Rollouts(trainer.rollout_func.trainable, Letters(2), Sampling(vllm=True), 3000)
    found = rollouts(["1"] * 4, trainer)
    assert found["completion_ids"] == [[40, 41, end], [40, 41], [42, end], [end]]
    assert found["logprobs"] == [[-0.5] * 3, [-0.5] * 2, [-0.5] * 2, [-0.5]]
    assert [one.completion.finish_reason for one in rollouts.latest] == ["stop", "length", "stop", "stop"]
    assert rollouts.latest[0].completion.text == rollouts.latest[1].completion.text != ""


@pytest.mark.parametrize(("key", "value"), [("temperature", 0.0), ("top_p", 1.5), ("max_new_tokens", 0)])
def test_settings_out_of_range_are_errors(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=key):
        Sampling(**{key: value})
