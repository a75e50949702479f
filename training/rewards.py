"""Reward functions for other people's trainers. `docs/rewards.md` is the manual.

    JudgeReward        a judge rewards the completions of any policy (`rewards_trl.py`)
    RuleReward, MetaReward, PreferenceReward, FormatReward
                       for a policy that learns to judge (`rewards_rules.py`, rows by `judge_row`)

For verl point `custom_reward_function.path` at `rewards_verl.py`.
"""

from __future__ import annotations

from omnirm.training.rewards_plans import Reward
from omnirm.training.rewards_reading import judge_row, read_rendered, read_verdict
from omnirm.training.rewards_rules import FormatReward, MetaReward, PreferenceReward, RuleReward
from omnirm.training.rewards_trl import JudgeReward

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
