"""A task so small that tests of the trainer are quick: say a letter. The reward is 1 for A, 0 for B."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from omnirm.prompts.rendered import Rendered
from omnirm.scoring.grpo import advantages
from omnirm.training.groups import Graded, GroupSettings, mean
from omnirm.training.models import Trainable
from omnirm.types import Message, Part

SETTINGS = GroupSettings(
    learning_rate=3e-3, batch_size=8, accumulation=1, generations=4, minibatches=1, max_new_tokens=12,
    schedule="constant", warmup=0.0, save_steps=1000, workers=0, sampling="sequential", top_p=1.0,
)  # fmt: skip
WORDS = ("red", "blue", "round", "small", "high", "low", "fast", "slow")


class Letters:
    """Prompts of one word; an answer is what is forced (if anything), then A or B."""

    variants = 1
    name_of_reward = "letter"

    def __init__(self, rows: int = 8, forced: str = "", unread: Sequence[int] = ()) -> None:
        self.rows, self.forced, self.unread = rows, forced, tuple(unread)
        self.seen: list[str] = []

    def __len__(self) -> int:
        return self.rows

    def name(self, row: int) -> str:
        return f"word {row}"

    def render(self, row: int, variant: int) -> Rendered:
        return Rendered(
            (Message("user", (Part("text", WORDS[row % len(WORDS)]),)),), "", "", "",
            track=("A", "B"), forced=("", self.forced), max_new_tokens=12, thinking=True,
        )  # fmt: skip

    def read(self, rollouts: Sequence[Any]) -> Any:
        self.seen += [one.completion.text for one in rollouts]
        letters = [one.completion.text.removeprefix(self.forced)[:1] for one in rollouts]
        known = [np.nan if n in self.unread else float(letter == "A") for n, letter in enumerate(letters)]
        return np.array(known).reshape(-1, 1)

    def grade(self, read: Any) -> Graded:
        return Graded(read[..., 0], advantages(read[..., 0]), {"correct": mean(read)})


def trainable_of(tiny: Any, rank: int = 0, seed: int = 0) -> Trainable:
    """A tiny model in training, with adapters where a rank is given."""
    model = tiny.model(seed)
    if rank:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=rank, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    model.train()
    return Trainable(model, tiny.processor, tiny.settings, "tiny")


def logged(trainer: Any, name: str) -> list[float]:
    """One value a step, from the trainer's log."""
    return [entry[name] for entry in trainer.state.log_history if name in entry and "train_runtime" not in entry]
