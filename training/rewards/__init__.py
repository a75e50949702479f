"""Reward functions for other people's trainers. `docs/rewards.md` is the manual.

    JudgeReward        a judge rewards the completions of any policy (`trl.py`)
    RuleReward, MetaReward, PreferenceReward, FormatReward
                       for a policy that learns to judge (`rules.py`, rows by `judge_row`)

For verl point `custom_reward_function.path` at `verl.py`.
"""

from __future__ import annotations

from omnirm.training.rewards.plans import Reward
from omnirm.training.rewards.reading import judge_row, read_rendered, read_verdict
from omnirm.training.rewards.rules import FormatReward, MetaReward, PreferenceReward, RuleReward
from omnirm.training.rewards.trl import JudgeReward

__all__ = [
    "FormatReward",
    "JudgeReward",
    "MetaReward",
    "PreferenceReward",
    "Reward",
    "RuleReward",
    "judge_row",
    "read_rendered",
    "read_verdict",
]
