"""PaTaRM: a judge learns to score single responses from pairs, by the preference-aware reward (PAR).

A group is a labelled pair: n rollouts score the chosen response, n the rejected one, so both of a pair are always in
one batch. A score is rewarded for standing on its side of the other response's mean, the more so the farther
(`omnirm.scoring.par`), and a format reward is added; advantages are taken over each response's rollouts apart.

    R(a_i) = 1[a_i > mean b] f(|a_i - mean b|) + format,   R(b_j) = 1[b_j < mean a] f(|b_j - mean a|) + format

The mode `pairwise` judges the pair as one, with the rule reward and the format reward. `reward = "binary"` is the plain
baseline of both, 1 or 0 and nothing for the format. The trainer is in `groups.py`.

Paper: "PaTaRM: Bridging Pairwise and Pointwise Signals via Preference-Aware Task-Adaptive Reward Modeling".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnirm.errors import ConfigError, SampleError
from omnirm.prompts.formats import get_format
from omnirm.prompts.rendered import Rendered
from omnirm.reading import backend_failure
from omnirm.rubrics.primary import primary_rubrics
from omnirm.sample import Sample
from omnirm.scoring.aggregate import original_letter
from omnirm.scoring.grpo import advantages, rule_rewards
from omnirm.scoring.par import format_rewards, preference_rewards, total_rewards
from omnirm.training.groups import Graded, GroupSettings, mean, train_groups
from omnirm.training.grpo import ORDERS, as_truth, orders_of
from omnirm.training.models import Trainable
from omnirm.training.rollouts import Rollout
from omnirm.training.rows import GRPORow
from omnirm.types import PairVerdict, ParseFailure, PointScore, Rubric

WEIGHT = 2.0  # of the primary rubric, beside a sample's own with 1
_TAG = re.compile(r"</?(?:think|rubrics|evaluation|criteria \d{1,3}|Judge [AB])>")
_PAIRWISE = re.compile(r"<think>( <criteria (\d+)> <Judge A> </Judge A> <Judge B> </Judge B> </criteria \2>)+ </think>")


@dataclass(frozen=True, slots=True, kw_only=True)
class PARSettings(GroupSettings):
    """Defaults are PaTaRM's: 5e-7, 256 pairs a sampling in minibatches of 128.

    generations: rollouts of each response of a pair (`pairwise`: of the pair).
    mode: `pointwise` or `pairwise`. reward: `graded`, `constant` (both with the format reward), or `binary`.
    primary: put the task's primary rubric before the sample's own where the sample names a task (`metadata.task`).
    generated: where there are rubrics, let the judge add one to three of its own, as the paper does.
    orders: of `pairwise`: AB, both or random.
    """

    learning_rate: float = 5e-7
    accumulation: int = 128
    minibatches: int = 2
    mode: str = "pointwise"
    reward: str = "graded"
    primary: bool = True
    generated: bool = True
    orders: str = "random"

    def __post_init__(self) -> None:
        GroupSettings.__post_init__(self)
        if self.mode not in ("pointwise", "pairwise"):
            raise ConfigError(f"mode {self.mode!r}: write pointwise or pairwise")
        if self.reward not in ("graded", "constant", "binary"):
            raise ConfigError(f"reward {self.reward!r}: write graded, constant or binary")
        if self.orders not in ORDERS:
            raise ConfigError(f"orders {self.orders!r}: write one of {', '.join(ORDERS)}")


def train_par(
    trainable: Trainable,
    rows: Sequence[Sample | GRPORow],
    settings: PARSettings,
    output: Path,
    *,
    max_tokens: int = 4096,
    resume: bool = True,
    callbacks: Sequence[Any] = (),
) -> Any:
    """Trains the model in place and returns the trainer; see `omnirm.training.groups.train_groups`.

    Args:
        rows: labelled pairs; of a `GRPORow` the sample and its label count, not its list of rubrics.

    Raises:
        SampleError: a row that is no pair with a better response; and as in `train_groups`.
    """
    samples = [labelled(row) for row in rows]
    task: Scoring | Comparing = (
        Scoring(samples, settings) if settings.mode == "pointwise" else Comparing(samples, settings)
    )
    return train_groups(trainable, task, settings, output, max_tokens=max_tokens, resume=resume, callbacks=callbacks)


def labelled(row: Sample | GRPORow) -> Sample:
    """The pair of a row. Raises `SampleError` for one without a better response."""
    if isinstance(row, GRPORow):
        row = replace(Sample.from_json(row.sample), label={"A": 0, "B": 1}.get(row.label))
    if len(row.candidates) != 2 or row.label not in (0, 1):
        raise SampleError(f"sample {row.id}: label {row.label!r}; PAR needs two candidates of which one is better")
    return row


def rubrics_of(sample: Sample, primary: bool) -> tuple[Rubric, ...]:
    """The primary rubric of the task that the sample names, then its own; none where it names none and has none."""
    known, named = primary_rubrics(), sample.metadata.get("task")
    if not primary or not isinstance(named, str) or named not in known:
        return sample.rubrics
    return (replace(known[named], weight=WEIGHT), *sample.rubrics)


class Scoring:
    """The pointwise task. What is read in a rollout: its score, are its tags in order, is its score valid."""

    variants = 2  # the chosen response, then the rejected one
    name_of_reward = "par"

    def __init__(self, samples: Sequence[Sample], settings: PARSettings) -> None:
        self.samples, self.settings = samples, settings
        self._rendered = lru_cache(maxsize=4096)(self._render)

    def __len__(self) -> int:
        """Pairs."""
        return len(self.samples)

    def name(self, row: int) -> str:
        """The sample's id."""
        return self.samples[row].id

    def render(self, row: int, variant: int) -> Rendered:
        """The chosen (0) or the rejected (1) response alone."""
        return self._rendered(row, variant)

    def _render(self, row: int, variant: int) -> Rendered:
        sample = self.samples[row]
        better = 1 if sample.label == 1 else 0
        rubrics = rubrics_of(sample, self.settings.primary)
        candidate = 1 - better if variant else better
        found: Rendered = get_format("pointwise").render(
            sample, rubrics=rubrics, candidate=candidate, own=self.settings.generated and bool(rubrics)
        )
        return found

    def read(self, rollouts: Sequence[Rollout]) -> NDArray[np.float64]:
        """[n, 3]."""
        found = [(one, parsed(one)) for one in rollouts]
        return np.array(
            [
                (value.total if isinstance(value, PointScore) else np.nan, tags_in_order(one), valid(value))
                for one, value in found
            ]
        )

    def grade(self, read: NDArray[np.float64]) -> Graded:
        """Rewards and advantages, [P, 2n, 3] to [P, 2n]; the first n are the chosen response's."""
        halves = read.reshape(len(read), 2, -1, 3)
        scores = halves[..., 0]
        steps: Any = "constant" if self.settings.reward == "binary" else self.settings.reward
        preferred = np.stack(preference_rewards(scores[:, 0], scores[:, 1], steps), axis=1)
        if self.settings.reward == "binary":
            rewards = np.where(np.isnan(preferred), np.nan, np.sign(preferred))
            if self.settings.unread == "wrong":
                rewards = np.where(np.isnan(scores), 0.0, rewards)
        else:
            rewards = total_rewards(preferred, format_rewards(halves[..., 1] == 1, halves[..., 2] == 1))
        margins = [mean(chosen) - mean(rejected) for chosen, rejected in scores]
        metrics = {
            "coverage": 1 - float(np.isnan(scores).mean()),
            "in_order": mean(halves[..., 1]),
            "score_chosen": mean(scores[:, 0]),
            "score_rejected": mean(scores[:, 1]),
            "correct": mean([np.nan if np.isnan(margin) else float(margin > 0) for margin in margins]),
            "preference": mean(preferred),
        }
        return Graded(rewards.reshape(len(read), -1), advantages(rewards).reshape(len(read), -1), metrics)


class Comparing:
    """The pairwise task. What is read in a rollout: is it right, are its tags in order, is its verdict valid."""

    variants = 1
    name_of_reward = "rule"

    def __init__(self, samples: Sequence[Sample], settings: PARSettings) -> None:
        self.samples, self.settings = samples, settings
        self.asked = [(i, order) for i, sample in enumerate(samples) for order in orders_of(sample, settings)]
        self._rendered = lru_cache(maxsize=4096)(self._render)

    def __len__(self) -> int:
        """Prompts: a pair in both orders is two."""
        return len(self.asked)

    def name(self, row: int) -> str:
        """The sample's id and the order shown."""
        i, order = self.asked[row]
        return f"{self.samples[i].id} ({order})"

    def render(self, row: int, variant: int) -> Rendered:
        """The pair."""
        return self._rendered(row)

    def _render(self, row: int) -> Rendered:
        i, order = self.asked[row]
        sample = self.samples[i]
        shown = sample if order == "AB" else sample.swapped()
        rubrics = rubrics_of(sample, self.settings.primary)
        found: Rendered = get_format("pairwise-thinking").render(
            shown, rubrics=rubrics, own=self.settings.generated and bool(rubrics)
        )
        return found

    def read(self, rollouts: Sequence[Rollout]) -> NDArray[np.float64]:
        """[n, 3]."""
        table = []
        for one in rollouts:
            i, order = self.asked[one.row]
            value = parsed(one)
            right = np.nan
            if isinstance(value, PairVerdict):
                right = float(original_letter(value.letter, order) == "AB"[int(self.samples[i].label == 1)])
            table.append((right, tags_in_order(one), valid(value)))
        return np.array(table)

    def grade(self, read: NDArray[np.float64]) -> Graded:
        """Rewards and advantages, [P, n, 3] to [P, n]."""
        right = read[..., 0]
        unread: Any = self.settings.unread
        rewards = rule_rewards(as_truth(right), unread)
        if self.settings.reward != "binary":
            rewards = total_rewards(rewards, format_rewards(read[..., 1] == 1, read[..., 2] == 1))
        metrics = {
            "correct": mean(right),
            "coverage": 1 - float(np.isnan(right).mean()),
            "in_order": mean(read[..., 1]),
        }
        return Graded(rewards, advantages(rewards), metrics)


def parsed(rollout: Rollout) -> Any:
    """What the format's parser reads in a rollout, or its failure."""
    failure = backend_failure(rollout.completion)
    if failure is not None:
        return failure
    rendered = rollout.rendered
    return get_format(rendered.format).parse(rendered, rollout.text, rollout.completion.finish_reason)


def valid(value: Any) -> bool:
    """Could the score or the verdict be read?"""
    return not isinstance(value, ParseFailure)


def tags_in_order(rollout: Rollout) -> bool:
    """Are all tags of the format there, once each and in order? In a pairwise answer any number of criteria."""
    found = " ".join(_TAG.findall(rollout.text))
    if rollout.rendered.format == "pointwise":
        planned = rollout.rendered.own or not rollout.rendered.rubrics
        rubrics = "<rubrics> </rubrics> " if planned else ""
        return found == f"<think> </think> {rubrics}<evaluation> </evaluation>"
    return _PAIRWISE.fullmatch(found) is not None


__all__ = ["Comparing", "PARSettings", "Scoring", "train_par"]
