"""Rewards in TRL's own GRPOTrainer: two real steps, awaited and plain, with a completion that nobody could judge."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from scripted_judging import batches, judge

from omnirm.backends.scripted import say
from omnirm.prompts.formats import get_format
from omnirm.sample import Sample
from omnirm.training.rewards import FormatReward, JudgeReward, PreferenceReward, RuleReward, judge_row
from omnirm.types import Request

GROUP = 4
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


def policy(tiny: Any) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    tokenizer = tiny.processor.tokenizer
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


def train(
    tiny: Any, rows: list[dict[str, Any]], rewards: Any, output: Path, completions: list[str] | None = None
) -> Any:
    """Two steps; the completions are the policy's own, or those given, in turn."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    tokenizer = copy.deepcopy(tiny.processor.tokenizer)
    tokenizer.chat_template = TEMPLATE
    seen: list[torch.Tensor] = []

    class Watched(GRPOTrainer):  # type: ignore[misc]
        """Keeps the advantages of every batch, and lets the policy say what the test wants it to."""

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            outputs = super()._generate_and_score_completions(inputs)
            seen.append(outputs["advantages"].clone())
            return outputs

        def _generate(self, prompts: Any) -> Any:
            found = list(super()._generate(prompts))
            if completions is not None:
                turns = isinstance(prompts[0], list)
                said = [completions[i % len(completions)] for i in range(len(prompts))]
                found[1] = [tokenizer(text)["input_ids"] for text in said]
                found[3] = [[{"role": "assistant", "content": text}] if turns else text for text in said]
            return tuple(found)

    arguments = GRPOConfig(
        output_dir=str(output), per_device_train_batch_size=2 * GROUP, num_generations=GROUP, max_completion_length=6,
        max_steps=2, learning_rate=1e-2, logging_steps=1, report_to="none", save_strategy="no", use_cpu=True,
        bf16=False, shuffle_dataset=False, disable_tqdm=True, gradient_checkpointing=False,
    )  # fmt: skip
    trainer = Watched(
        model=policy(tiny), args=arguments, reward_funcs=rewards, train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )  # fmt: skip
    before = torch.cat([w.detach().flatten().clone() for w in trainer.model.parameters()])
    trainer.train()
    trainer.moved = float((torch.cat([w.detach().flatten() for w in trainer.model.parameters()]) - before).norm())
    trainer.seen = seen
    return trainer


def logged(trainer: Any, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


@pytest.mark.parametrize(("kind", "talk"), [("awaited", True), ("plain", False)])
def test_two_steps_with_a_judge_and_one_completion_it_cannot_judge(
    tiny_of: Any, tmp_path: Path, kind: str, talk: bool
) -> None:
    one = judge()
    reward = JudgeReward(one, name="kindness")
    prompts: list[Any] = ["Say something.", "Say more."]
    if talk:
        prompts = [[{"role": "user", "content": text}] for text in prompts]
    said = ["good good", "cannot be judged", "bad", "good", "x", "y", "good", "z"]
    rewards = [reward if kind == "awaited" else reward.blocking]
    trainer = train(tiny_of("qwen3_vl"), [{"prompt": p} for p in prompts], rewards, tmp_path, said)
    # rewards 0.2, none, 0, 0.1: mean 0.1, standard deviation 0.1; then 0, 0, 0.1, 0: mean 0.025, std 0.05
    expected = [1.0, 0.0, -1.0, 0.0, -0.5, -0.5, 1.5, -0.5]
    assert len(trainer.seen) == 2
    for advantages in trainer.seen:
        assert advantages.tolist() == pytest.approx(expected, abs=0.01)
    assert logged(trainer, "kindness/coverage") == [7 / 8] * 2
    assert logged(trainer, "rewards/kindness/mean") == pytest.approx([0.4 / 7] * 2)
    assert batches(one) == [8, 8], "one call of the backend a step"
    assert trainer.moved > 0
    reasons = list(trainer._logs["extra"]["kindness/reason"])
    assert [bool(reason) for reason in reasons] == [i == 1 for i in range(8)]


def test_a_group_of_trl_is_a_tournament(tiny_of: Any, tmp_path: Path) -> None:
    reward = JudgeReward(judge(), "group", group_size=GROUP, name="best")
    said = ["good good good", "good", "good good", "nothing"]
    trainer = train(tiny_of("qwen3_vl"), [{"prompt": "p"}, {"prompt": "q"}], [reward], tmp_path, said)
    assert logged(trainer, "rewards/best/mean") == pytest.approx([0.5] * 2)
    assert trainer.seen[0].tolist()[:4] == pytest.approx(trainer.seen[0].tolist()[4:])
    assert sorted(range(4), key=lambda i: -trainer.seen[0][i]) == [0, 2, 1, 3]


def test_several_judges_are_asked_beside_each_other(tiny_of: Any, tmp_path: Path) -> None:
    rewards = [
        JudgeReward(judge(), name="kind"),
        JudgeReward(judge(say("A")), "reference", reference="gold", name="beats").blocking,
    ]
    rows = [{"prompt": "p", "gold": "good"}, {"prompt": "q", "gold": "good"}]
    trainer = train(tiny_of("qwen3_vl"), rows, rewards, tmp_path, ["good good", "x", "y", "z"])
    assert logged(trainer, "rewards/beats/mean") == [0.5, 0.5]
    assert logged(trainer, "rewards/kind/mean") == pytest.approx([0.05] * 2)


def test_a_policy_learns_to_judge_with_stock_trl(tiny_of: Any, tmp_path: Path) -> None:
    sample = Sample.from_dict({"id": "s", "prompt": "2 + 3?", "candidates": ["5", "6"]})
    rendered = get_format("pairwise-thinking").render(sample)
    line = f"<think></think>\nVerdict {rendered.nonce}: [["
    said = [f"{line}A]]", f"{line}B]]", "what?", f"{line}C]]"]
    rows = [judge_row(rendered, label="A")] * 2
    trainer = train(tiny_of("qwen3_vl"), rows, [RuleReward(), FormatReward()], tmp_path, said)
    assert logged(trainer, "rewards/rule/mean") == [0.5, 0.5]
    assert logged(trainer, "rewards/format/mean") == pytest.approx([(0 + 0 - 1.5 - 1.0) / 4] * 2)


def test_pairs_that_stay_together_in_stock_trl(tiny_of: Any, tmp_path: Path) -> None:
    rows, said = [], []
    sample = Sample.from_dict({"id": "s", "prompt": "2 + 3?", "candidates": ["5", "6"]})
    for index, side in enumerate(("chosen", "rejected")):
        rendered = get_format("pointwise").render(sample, candidate=index)
        rows.append(judge_row(rendered, pair="s", side=side))
        scores = ((8, 9, 5, 6), (6, 7, 3, 12))[index]
        said += [f"<think></think>\nTotal {rendered.nonce}: [[{score}]]" for score in scores]
    trainer = train(tiny_of("qwen3_vl"), rows, [PreferenceReward(GROUP), FormatReward()], tmp_path, said)
    # means: chosen 7, rejected (6 + 7 + 3) / 3 = 16/3; chosen 8, 9: 2.67, 3.67 above -> 1.4; 5: below -> 0; 6 -> 1.2
    # rejected 6: 1 below 7 -> 1.2; 7: equal -> 0; 3: 4 below -> 1.4; 12 is no score
    total = 1.4 + 1.4 + 0 + 1.2 + 1.2 + 0 + 1.4
    assert logged(trainer, "rewards/preference/mean") == pytest.approx([total / 7] * 2)
    assert logged(trainer, "rewards/format/mean") == pytest.approx([-1.0 / 8] * 2)


def test_a_judge_that_never_answers_ends_the_training(tiny_of: Any, tmp_path: Path) -> None:
    from omnirm.errors import BackendError

    def silent(request: Request) -> str:
        return "hm"

    reward = JudgeReward(judge(silent), patience=16)
    with pytest.raises(BackendError, match="16 completions in a row"):
        train(tiny_of("qwen3_vl"), [{"prompt": "p"}, {"prompt": "q"}], [reward], tmp_path)
