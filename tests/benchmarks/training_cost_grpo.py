"""The GRPO steps that `training_cost.py` compares: ours and those of TRL's own trainer.

`of` is its `Subject`. A group has four rollouts, judgments of a pair in words under one of three rubrics.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NEW = 96  # tokens of a sampled rollout


def labelled_pairs(count: int) -> list[Any]:
    """Rows of pairs of the nano world in words, with three rubrics to choose from."""
    from omnirm.nano.world import preference
    from omnirm.sample import dump_rubric
    from omnirm.training.rows import GRPORow

    found = []
    for seed in range(count):
        pair = preference(seed, "train", "T2T", in_words=True)
        rubrics = [dump_rubric(pair.rubric(name, pair.wanted[name])) for name in pair.wanted.attributes[:3]]
        label = "AB"[int(pair.sample.label)]
        found.append(GRPORow(pair.sample.id, pair.sample.to_json(), json.dumps(rubrics), "[]", label))
    return found


def grpo_settings(of: Any) -> Any:
    from omnirm.training.grpo import GRPOSettings

    return GRPOSettings(
        learning_rate=1e-4, batch_size=of.batch, accumulation=of.accumulation, warmup=0.0, schedule="constant",
        sampling="sequential", log_steps=1, save_steps=10**6, workers=0, generations=4, minibatches=1, reward="rule",
        orders="AB", max_new_tokens=NEW, top_p=0.9,
    )  # fmt: skip


def grpo_task(of: Any) -> Any:
    """As many pairs as the steps take: four rollouts each."""
    from omnirm.training.grpo import Selecting

    return Selecting(labelled_pairs(max(1, of.rows // 4)), grpo_settings(of))


def fixed(of: Any, rendered: Any, place: int) -> list[int]:
    """Tokens of the rollout at a place in its group: two of them say A."""
    rubric, letter = rendered.rubrics[place % len(rendered.rubrics)], "ABBA"[place % 4]
    said = " ".join(["red, as wanted: yes"] * (3 + place))
    number = rendered.rubrics.index(rubric) + 1
    text = f"<criteria {number}>{rubric.name}. {rubric.text}<Judge A>{said}</Judge A><Judge B>{said}</Judge B>"
    text += f"{letter}</criteria {number}>{''.join(rendered.forced)}{letter}]]"
    tokenizer = of.processor.tokenizer
    return [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def our_grpo(of: Any, output: Path, callback: Any) -> Any:
    """`train_groups` with a backend that answers at once; all else is done."""
    from unittest.mock import patch

    from omnirm.backends.hf import HFBackend, TokenCompletion
    from omnirm.preprocessing.types import Settings
    from omnirm.training.groups import train_groups
    from omnirm.training.models import Trainable

    task, tokenizer = grpo_task(of), of.processor.tokenizer
    ready = {}
    for row in range(len(task)):
        rendered = task.render(row, 0)
        for place in range(4):
            ids = tuple(fixed(of, rendered, place))
            text = tokenizer.decode(ids[:-1], clean_up_tokenization_spaces=False)
            ready[str(rendered.messages), place] = TokenCompletion(
                text, "stop", 0, len(ids) - 1, token_ids=ids, chosen=(True,) * len(ids)
            )

    def generate(_: Any, requests: Sequence[Any]) -> list[Any]:
        return [ready[str(request.messages), i % 4] for i, request in enumerate(requests)]

    one = Trainable(of.model(), of.processor, Settings(), "")
    with patch.object(HFBackend, "generate", generate):
        return train_groups(one, task, grpo_settings(of), output, max_tokens=8192, callbacks=[callback])


def stock_grpo(of: Any, output: Path, callback: Any) -> Any:
    """TRL's GRPOTrainer with the ids of the same rollouts."""
    from omnirm.backends.hf_inputs import Conversation, InputEncoder

    task, encoder = grpo_task(of), InputEncoder(of.processor)
    shown = [task.render(row, 0) for row in range(len(task))]
    prompts = encoder.unexpanded([Conversation(one.messages, (), one.prefill) for one in shown])
    answers = [[fixed(of, one, place) for place in range(4)] for one in shown]

    def rollouts(rows: Sequence[str], _: Any) -> dict[str, Any]:
        found = [answers[int(row)][i % 4] for i, row in enumerate(rows)]
        masks = [[1] * len(ids) for ids in found]
        return {"prompt_ids": [prompts[int(row)] for row in rows], "completion_ids": found, "logprobs": None,
                "env_mask": masks}  # fmt: skip

    labels = [pair.label for pair in task.pairs]

    def right(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        return [float(f"[[{labels[int(i)]}]]" in text) for i, text in zip(prompts, completions, strict=True)]

    names = [str(row) for row in range(len(task))]
    return stock_trained(of, of.model(), names, right, output, callback, rollout_func=rollouts)


def stock_trained(
    of: Any, model: Any, prompts: Sequence[str], reward: Any, output: Path, callback: Any, **options: Any
) -> Any:
    """TRL's own trainer with our settings, after its run."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from omnirm.training.settings import trainer_arguments

    settings = grpo_settings(of)
    common = trainer_arguments(settings, output, 4 * len(prompts)) | {"dataloader_prefetch_factor": None}
    arguments = GRPOConfig(
        **common,
        dataloader_pin_memory=False,
        num_generations=4,
        steps_per_generation=of.accumulation,
        max_completion_length=NEW,
        top_p=settings.top_p,
        beta=0.0,
        loss_type=settings.loss_type,
        shuffle_dataset=False,
    )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=[reward],
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": list(prompts)}),
        processing_class=of.processor.tokenizer,
        callbacks=[callback],
        **options,
    )
    trainer.train()
    return trainer


def endless(of: Any) -> Any:
    """A model that never ends an answer."""
    import torch

    model, tokenizer = of.model(), of.processor.tokenizer
    ends = [tokenizer.eos_token_id, tokenizer.pad_token_id]

    def never(_: Any, __: Any, logits: Any) -> Any:
        return logits if torch.is_grad_enabled() else logits.index_fill(-1, torch.tensor(ends), -1e9)

    model.lm_head.register_forward_hook(never)
    return model


def even(text: str) -> float:
    """A reward that anything gets now and then."""
    return float(text.count("e") % 2 == 0)


def our_sampling(of: Any, output: Path, callback: Any) -> Any:
    """`train_groups` as it is; a rollout is rewarded as `even` says."""
    from omnirm.preprocessing.types import Settings
    from omnirm.training.groups import train_groups
    from omnirm.training.models import Trainable

    task = grpo_task(of)
    read = task.read

    def rewarded(rollouts: Sequence[Any]) -> Any:
        found = read(rollouts)
        found[:, 0] = [even(one.completion.text) for one in rollouts]
        return found

    task.read = rewarded
    one = Trainable(endless(of), of.processor, Settings(), "")
    return train_groups(one, task, grpo_settings(of), output, max_tokens=8192, callbacks=[callback])


def stock_sampling(of: Any, output: Path, callback: Any) -> Any:
    """TRL's GRPOTrainer on the same prompts, written out, with its own generating."""
    from omnirm.backends.hf_inputs import Conversation, InputEncoder

    task, encoder = grpo_task(of), InputEncoder(of.processor)
    shown = [task.render(row, 0) for row in range(len(task))]
    ids = encoder.unexpanded([Conversation(one.messages, (), one.prefill) for one in shown])
    prompts = [of.processor.tokenizer.decode(one, clean_up_tokenization_spaces=False) for one in ids]

    def rewarded(completions: list[str], **_: Any) -> list[float]:
        return [even(text) for text in completions]

    return stock_trained(of, endless(of), prompts, rewarded, output, callback)
