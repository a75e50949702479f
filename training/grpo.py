"""DUAL RM's GRPO: every rollout of a group sees the same fixed list of rubrics, chooses one and judges under it.

    R_i = beta (m_i + 1)  where the verdict is right,  beta m_i  where it is wrong;  A_i = (R_i - mean R) / std R

with m the group's meta-rewards, min-max normalised, and beta the group's mean correctness unless one is given
(`omnirm.scoring.grpo`). The baseline has the rule reward, 1 or 0. A rollout that cannot be read has no reward.

A meta-reward comes either from scores kept in the row (the DisRM's, before and after a revision under each rubric) with
the rollout's own verdict, or on line: responses are revised by the rollout's own comments and scored. The trainer is in
`groups.py`. Paper: "DUAL RM: Beyond Rule-based Preference Reward Modeling via Meta-Reward".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import omnirm
from omnirm.asking import Answer, Question, call_seed
from omnirm.errors import ConfigError, SampleError
from omnirm.judgment import Decoding, Judgment, ModelInfo, PairCall
from omnirm.prompts.formats import get_format
from omnirm.prompts.rendered import Rendered
from omnirm.reading import read_pair
from omnirm.rubrics.meta import Meta
from omnirm.rubrics.trajectory import Trajectory
from omnirm.sample import Sample, parse_rubrics
from omnirm.scoring.aggregate import Order
from omnirm.scoring.grpo import advantages, dual_rm_rewards, rule_rewards
from omnirm.scoring.meta_reward import FUNCTIONS, Function, meta_rewards, ranked
from omnirm.strict_json import loads
from omnirm.training.groups import Graded, GroupSettings, mean, train_groups
from omnirm.training.models import Trainable
from omnirm.training.rollouts import Rollout
from omnirm.training.rows import GRPORow
from omnirm.types import Letter, Rubric

FORMAT = "pairwise-thinking"
ORDERS = ("AB", "both", "random")


@dataclass(frozen=True, slots=True, kw_only=True)
class GRPOSettings(GroupSettings):
    """Defaults are DUAL RM's: 1e-6, four rollouts at temperature 1 and top-p 0.9, 128 prompts a sampling in minibatches
    of 32, no KL.

    reward: `meta` or `rule` (1 or 0). meta_reward: which function (`consistency`, `relative`, `direct`).
    beta: above 0; left out, it is the mean correctness of each group.
    orders: `AB` shows a pair in its own order, `both` makes two prompts of it, `random` draws one of the orders.
    """

    reward: str = "meta"
    meta_reward: str = "consistency"
    beta: float | None = None
    orders: str = "both"

    def __post_init__(self) -> None:
        GroupSettings.__post_init__(self)
        if self.reward not in ("meta", "rule"):
            raise ConfigError(f"reward {self.reward!r}: write meta or rule")
        if self.meta_reward not in FUNCTIONS:
            raise ConfigError(f"meta_reward {self.meta_reward!r}: write one of {', '.join(FUNCTIONS)}")
        if self.beta is not None and not 0 < self.beta < float("inf"):
            raise ConfigError(f"beta = {self.beta}: give a number above 0, or leave it out for the mean correctness")
        if self.orders not in ORDERS:
            raise ConfigError(f"orders {self.orders!r}: write one of {', '.join(ORDERS)}")


def train_grpo(
    trainable: Trainable,
    rows: Sequence[GRPORow],
    settings: GRPOSettings,
    output: Path,
    *,
    max_tokens: int = 8192,
    meta: Meta | None = None,
    resume: bool = True,
    callbacks: Sequence[Any] = (),
) -> Any:
    """Trains the model in place and returns the trainer; see `omnirm.training.groups.train_groups`.

    Args:
        rows: labelled pairs with their rubrics.
        meta: DisRM and refiner for meta-rewards on line; None takes the scores kept in the rows.

    Raises:
        SampleError: a row that is not of the documented form.
        ConfigError: `reward = "meta"`, and neither a `meta` nor any scores; and as in `train_groups`.
    """
    task = Selecting(rows, settings, meta)
    return train_groups(trainable, task, settings, output, max_tokens=max_tokens, resume=resume, callbacks=callbacks)


@dataclass(frozen=True, slots=True)
class Pair:
    """A row, read. scores: [K, 4] as s1, s2, t1, t2, NaN for none. ranks: place of each rubric (0 is best) among the
    list by the meta-reward that it has with the right verdict; NaN where it has none."""

    sample: Sample
    rubrics: tuple[Rubric, ...]
    scores: NDArray[np.float64]
    label: Letter
    ranks: NDArray[np.float64]


class Selecting:
    """The task: choose a rubric of the list and judge by it. Rows without rubrics are judged freely (rule reward).

    What is read in a rollout: is it right (1, 0), its meta-reward, place of its rubric in the list, and its rank.
    """

    variants = 1

    def __init__(self, rows: Sequence[GRPORow], settings: GRPOSettings, meta: Meta | None = None) -> None:
        self.settings, self.meta = settings, meta
        self.function: Function = next(name for name in FUNCTIONS if name == settings.meta_reward)
        self.pairs = [read_row(row, self.function) for row in rows]
        self.asked = [(i, order) for i, pair in enumerate(self.pairs) for order in orders_of(pair.sample, settings)]
        known = any(np.isfinite(pair.scores).any() for pair in self.pairs)
        if settings.reward == "meta" and meta is None and not known:
            raise ConfigError('reward = "meta": no row holds scores; give a DisRM and a refiner, or write "rule"')
        self.name_of_reward = settings.reward
        self._rendered = lru_cache(maxsize=4096)(self._render)

    def __len__(self) -> int:
        """Prompts: a pair in both orders is two."""
        return len(self.asked)

    def name(self, row: int) -> str:
        """The sample's id and the order shown."""
        i, order = self.asked[row]
        return f"{self.pairs[i].sample.id} ({order})"

    def render(self, row: int, variant: int) -> Rendered:
        """The pair with its list of rubrics."""
        return self._rendered(row)

    def _render(self, row: int) -> Rendered:
        i, order = self.asked[row]
        pair = self.pairs[i]
        shown = pair.sample if order == "AB" else pair.sample.swapped()
        found: Rendered = get_format(FORMAT).render(shown, rubrics=pair.rubrics, pick=len(pair.rubrics) > 1)
        return found

    def read(self, rollouts: Sequence[Rollout]) -> NDArray[np.float64]:
        """[n, 4]: right, meta-reward, place and rank of the rubric; NaN where there is none."""
        table = np.full((len(rollouts), 4), np.nan)
        calls = [read_rollout(one, self.asked[one.row][1]) for one in rollouts]
        online = self._online(rollouts, calls) if self.meta and self.settings.reward == "meta" else None
        for n, (one, call) in enumerate(zip(rollouts, calls, strict=True)):
            pair = self.pairs[self.asked[one.row][0]]
            if call.verdict is None:
                continue
            table[n, 0] = call.verdict == pair.label
            place = chosen(call, pair.rubrics)
            if place is not None:
                table[n, 2:] = place, pair.ranks[place]
                (table[n, 1],) = meta_rewards(self.function, [call.verdict], pair.scores[place : place + 1])
            if online is not None:
                table[n, 1] = online[n]
        return table

    def grade(self, read: NDArray[np.float64]) -> Graded:
        """Rewards and advantages, [P, G, 4] to [P, G]."""
        right, meta, places, ranks = np.moveaxis(read, -1, 0)
        correct = as_truth(right)
        unread: Any = self.settings.unread
        if self.settings.reward == "rule":
            rewards = rule_rewards(correct, unread)
        else:
            rewards = dual_rm_rewards(meta, correct, beta=self.settings.beta, unread=unread)
        metrics = {
            "correct": mean(right),
            "coverage": 1 - float(np.isnan(right).mean()),
            "meta_reward": mean(meta),
            "rewarded": 1 - float(np.isnan(rewards).mean()),
            "selected_place": 1 + mean(places),
            "selected_rank": 1 + mean(ranks),
        }
        return Graded(rewards, advantages(rewards), metrics)

    def _online(self, rollouts: Sequence[Rollout], calls: Sequence[PairCall]) -> list[float]:
        """Meta-rewards by revising with each rollout's own comments; those of one pair are scored together."""
        assert self.meta is not None
        members: dict[int, list[int]] = {}
        for n, one in enumerate(rollouts):
            members.setdefault(self.asked[one.row][0], []).append(n)
        judged = [(self.pairs[i].sample, [self._trajectory(i, calls[n]) for n in some]) for i, some in members.items()]
        found = [float("nan")] * len(rollouts)
        for some, trajectories in zip(members.values(), self.meta.reward(judged), strict=True):
            for n, rewarded in zip(some, trajectories, strict=True):
                value = (rewarded.meta_rewards or {}).get(self.function)
                found[n] = float("nan") if value is None else value
        return found

    def _trajectory(self, i: int, call: PairCall) -> Trajectory:
        pair = self.pairs[i]
        place = chosen(call, pair.rubrics)
        rubrics = pair.rubrics if place is None else (pair.rubrics[place],)
        sampling = self.settings.rollouts
        judgment = Judgment(
            sample_id=pair.sample.id,
            format=FORMAT,
            verdict=call.verdict,
            model=ModelInfo("policy"),
            decoding=Decoding(sampling.temperature, sampling.top_p, call.call.seed, sampling.max_new_tokens),
            library_version=omnirm.__version__,
            rubrics=rubrics,
            criteria=call.criteria,
            calls=(call,),
        )
        return Trajectory(place or 0, rubrics, judgment)


def read_rollout(rollout: Rollout, order: Order) -> PairCall:
    """A rollout's judgment in the sample's own order."""
    question = Question(rollout.rendered, rollout.rendered.request(), rollout.place, order=order)
    return read_pair(order, rollout.rendered, rollout.completion, Answer(question, rollout.completion).record)


def as_truth(right: NDArray[np.float64]) -> NDArray[Any]:
    """True for 1, False for 0, None for NaN, in the same shape."""
    found = np.array([None if np.isnan(one) else bool(one) for one in right.flat], dtype=object)
    return found.reshape(right.shape)


def chosen(call: PairCall, rubrics: Sequence[Rubric]) -> int | None:
    """The place of the one rubric judged under; None where that is none of the list, or more than one."""
    if len(call.criteria) != 1 or call.criteria[0].rubric not in rubrics:
        return None
    return list(rubrics).index(call.criteria[0].rubric)


def orders_of(sample: Sample, settings: Any) -> tuple[Order, ...]:
    """The orders in which a pair is shown."""
    drawn: Order = "BA" if call_seed(settings.seed, sample.id, "order", 0) % 2 else "AB"
    known: dict[str, tuple[Order, ...]] = {"AB": ("AB",), "both": ("AB", "BA"), "random": (drawn,)}
    return known[settings.orders]


def read_row(row: GRPORow, function: Function) -> Pair:
    """A row of the data set. Raises `SampleError` for one that is not of the documented form."""
    where = f"row {row.sample_id}"
    sample = Sample.from_json(row.sample)
    try:
        rubrics, scores = parse_rubrics(loads(row.rubrics)), list(loads(row.scores) or ())
        table = np.array([_four(one) for one in scores], dtype=np.float64).reshape(-1, 4)
    except (ValueError, TypeError) as error:  # SampleError is a ValueError
        raise SampleError(f"{where}: rubrics or scores are not of the documented form ({error})") from error
    label: Letter | None = "A" if row.label == "A" else "B" if row.label == "B" else None
    if label is None:
        raise SampleError(f"{where}: label {row.label!r}; only a pair with a better response, A or B, can be rewarded")
    if len(sample.candidates) != 2:
        raise SampleError(f"{where}: {len(sample.candidates)} candidates; give two")
    if len(table) == 0:
        table = np.full((len(rubrics), 4), np.nan)
    if len(table) != len(rubrics):
        raise SampleError(f"{where}: {len(rubrics)} rubrics and {len(table)} rows of scores; give one for each")
    rewards = meta_rewards(function, [label] * len(rubrics), table)
    ranks = np.full(len(rubrics), np.nan)
    for rank, place in enumerate(ranked(rewards)):
        ranks[place] = rank if np.isfinite(rewards[place]) else np.nan
    return Pair(sample, rubrics, table, label, ranks)


def _four(scores: Iterable[float | None] | None) -> list[float]:
    found = [np.nan] * 4 if scores is None else [np.nan if x is None else float(x) for x in scores]
    if len(found) != 4:
        raise ValueError(f"{len(found)} scores of a rubric; give s1, s2, t1, t2")
    return found


__all__ = ["FORMAT", "GRPOSettings", "Selecting", "read_row", "train_grpo"]
