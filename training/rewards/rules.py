"""Rewards for a policy that learns to judge, as reward functions of a stock GRPOTrainer: thin over `omnirm.scoring`.

    RuleReward         1 for the right verdict, 0 for a wrong one
    MetaReward         DUAL RM: beta (m + 1) or beta m over a group
    PreferenceReward   PaTaRM's PAR: scores on their side of the other response's mean, over a pair of groups
    FormatReward       PaTaRM's: -1.5 tags, -1.0 score, 0

Verdicts are read by the formats' own parsers; the data set needs the column `reading` that `judge_row` makes. A verdict
that cannot be read has no reward (None), which TRL leaves out of the group's mean; add `FormatReward` where it shall
cost something. TRL adds up several reward functions, so `[PreferenceReward(n), FormatReward()]` is PaTaRM's total.

Two of them look at whole groups. TRL gives every reward function the completions of its process, `group_size`
(num_generations) neighbours for each prompt; a batch that does not look like that is refused, not guessed at.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from omnirm.content import show
from omnirm.errors import ConfigError, SampleError
from omnirm.scoring.grpo import Unread, dual_rm_rewards, rule_rewards
from omnirm.scoring.par import Steps, format_rewards, preference_rewards
from omnirm.strict_json import loads
from omnirm.training.rewards.reading import Read, form_of, read_rendered, read_verdict
from omnirm.types import PairVerdict, PointScore

_LABELS = ("A", "B", "tie")
_SIDES = ("chosen", "rejected")


class RuleReward:
    """1 where the verdict is the row's `label` (A, B or tie, in the order shown), 0 where it is another.

    Any batch will do. A row whose label is None has no reward.

    Args:
        unread: what a verdict that cannot be read gets: `none`, or `wrong` (0).
        name: under which TRL reports it.
    """

    def __init__(self, unread: Unread = "none", name: str = "rule") -> None:
        _known("unread", unread, get_args(Unread))
        self.unread, self.__name__ = unread, name

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Any = None, **columns: Any
    ) -> list[float | None]:
        """Rewards, in the order of the completions. Columns: `reading`, `label`.

        Raises:
            ConfigError, SampleError: a column is missing, or not of its form.
        """
        verdicts = _read(completions, columns)
        labels = _labels(columns, len(completions))
        found = rule_rewards(_correct(verdicts, labels), self.unread)
        return [None if label is None else _number(one) for one, label in zip(found, labels, strict=True)]


class FormatReward:
    """-1.5 where tags are missing or out of order, -1.0 where the score or verdict is none, else 0.

    Any batch will do. Works for all formats with a verdict, thinking or not.
    """

    def __init__(self, name: str = "format") -> None:
        self.__name__ = name

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Any = None, **columns: Any
    ) -> list[float | None]:
        """Rewards, in the order of the completions. Columns: `reading`.

        Raises:
            ConfigError, SampleError: the column is missing, or not of its form.
        """
        readings = _column(columns, "reading", len(completions))
        forms = [form_of(read_rendered(one), text) for one, text in zip(readings, completions, strict=True)]
        if not forms:
            return []
        return [float(one) for one in format_rewards([tags for tags, _ in forms], [valid for _, valid in forms])]


class PreferenceReward:
    """PAR: what a score is worth by standing on its side of the mean of the other response's scores.

    Rows are pointwise prompts. `pair` names the pair, `side` says `chosen` or `rejected`. Both sides of a pair must be
    in one call, each as `group_size` neighbours: let the rows of the data set be chosen, rejected, chosen, rejected,
    ..., `shuffle_dataset=False`, and the batch of a process a multiple of 2 x num_generations.

    Args:
        group_size: rollouts of one response (num_generations).
        steps: f, `graded` or `constant`.
        name: under which TRL reports it.
    """

    def __init__(self, group_size: int, steps: Steps = "graded", name: str = "preference") -> None:
        _known("steps", steps, get_args(Steps))
        self.group_size, self.steps, self.__name__ = _size(group_size), steps, name

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Any = None, **columns: Any
    ) -> list[float | None]:
        """Rewards, in the order of the completions. Columns: `reading`, `pair`, `side`.

        Raises:
            ConfigError, SampleError: a column is missing or not of its form, or the batch is not of whole pairs.
        """
        count = len(completions)
        pairs, sides = _column(columns, "pair", count), _column(columns, "side", count)
        scores = [_points(one) for one in _read(completions, columns)]
        members: dict[Any, dict[str, list[int]]] = {}
        readings = columns["reading"]
        for group in _groups(list(zip(pairs, sides, readings, strict=True)), self.group_size, self.__name__):
            pair, side = pairs[group[0]], sides[group[0]]
            if side not in _SIDES:
                raise SampleError(f"side of pair {show(pair)}: found {show(side)}; write chosen or rejected")
            members.setdefault(pair, {one: [] for one in _SIDES})[side] += group
        rewards: list[float | None] = [None] * count
        for pair, by_side in members.items():
            if len(by_side["chosen"]) != len(by_side["rejected"]):
                raise ConfigError(
                    f"{self.__name__}: pair {show(pair)} has {len(by_side['chosen'])} rollouts of the chosen and "
                    f"{len(by_side['rejected'])} of the rejected response in this batch; both must come together: rows "
                    "chosen, rejected, chosen, rejected, ..., shuffle_dataset=False, and a batch of a multiple of "
                    f"{2 * self.group_size}"
                )
            both = [[scores[i] for i in by_side[side]] for side in _SIDES]
            found = preference_rewards(both[0], both[1], self.steps)
            for side, values in zip(_SIDES, found, strict=True):
                for i, value in zip(by_side[side], values, strict=True):
                    rewards[i] = _number(value)
        return rewards


class MetaReward:
    """DUAL RM's reward: beta (m + 1) for a right verdict, beta m for a wrong one, m the group's normalised meta-reward.

    All rollouts of a prompt see the same list of rubrics, choose one and judge by it (format pairwise-thinking with
    `pick`, or any that thinks by given rubrics: the first criterion counts). `meta_rewards` of a row are those rubrics'
    in the order shown: for each a number, or one for each verdict, `{"A": 1.5, "B": -0.2}`; null for none. As JSON text
    or as plain values.

    Args:
        group_size: rollouts of one prompt (num_generations), neighbours in a batch of whole groups.
        beta: a positive number, or None for the group's share of right verdicts.
        unread: as in `RuleReward`; `wrong` gives the lowest reward, 0.
        name: under which TRL reports it.
    """

    def __init__(self, group_size: int, beta: float | None = None, unread: Unread = "none", name: str = "meta") -> None:
        _known("unread", unread, get_args(Unread))
        if beta is not None and not (beta > 0 and math.isfinite(beta)):
            raise ConfigError(f"beta {beta}: give a positive number, or None for the mean correctness of each group")
        self.group_size, self.beta, self.unread, self.__name__ = _size(group_size), beta, unread, name

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Any = None, **columns: Any
    ) -> list[float | None]:
        """Rewards, in the order of the completions. Columns: `reading`, `label`, `meta_rewards`.

        Raises:
            ConfigError, SampleError: a column is missing or not of its form, or the batch is not of whole groups.
        """
        count = len(completions)
        tables = _column(columns, "meta_rewards", count)
        verdicts, labels = _read(completions, columns), _labels(columns, count)
        correct = _correct(verdicts, labels)
        readings = columns["reading"]
        meta = [_meta(read_rendered(readings[i]).rubrics, tables[i], verdicts[i]) for i in range(count)]
        rewards: list[float | None] = [None] * count
        shown = [(reading, json.dumps(table) if not isinstance(table, str) else table)
                 for reading, table in zip(readings, tables, strict=True)]  # fmt: skip
        for group in _groups(shown, self.group_size, self.__name__):
            found = dual_rm_rewards(
                [meta[i] for i in group], [correct[i] for i in group], beta=self.beta, unread=self.unread
            )
            for i, value in zip(group, found, strict=True):
                rewards[i] = None if labels[i] is None else _number(value)
        return rewards


def _read(completions: Sequence[Any], columns: Mapping[str, Any]) -> list[Read]:
    readings = _column(columns, "reading", len(completions))
    return [read_verdict(read_rendered(one), text) for one, text in zip(readings, completions, strict=True)]


def _column(columns: Mapping[str, Any], name: str, count: int) -> Sequence[Any]:
    found = columns.get(name)
    if found is None:
        raise ConfigError(f"the data set has no column {name!r}; judge_row makes it or takes it as an argument")
    if isinstance(found, str) or len(found) != count:
        raise ConfigError(f"column {name!r} has {len(found)} values for {count} completions: give one for each")
    return found


def _labels(columns: Mapping[str, Any], count: int) -> list[Literal["A", "B", "tie"] | None]:
    labels = list(_column(columns, "label", count))
    for one in labels:
        if one is not None and one not in _LABELS:
            raise SampleError(f"label: found {show(one)}; write A, B, tie, or nothing where nobody knows")
    return labels


def _correct(verdicts: Sequence[Read], labels: Sequence[str | None]) -> list[bool | None]:
    return [
        one.letter == label if isinstance(one, PairVerdict) and label is not None else None
        for one, label in zip(verdicts, labels, strict=True)
    ]


def _points(read: Read) -> float:
    return read.total if isinstance(read, PointScore) else math.nan


def _meta(rubrics: Sequence[Any], table: Any, verdict: Read) -> float:
    """The meta-reward of the rubric that a verdict names, NaN for none."""
    values = loads(table) if isinstance(table, str) else table
    if not isinstance(values, list | tuple) or len(values) != len(rubrics):
        raise SampleError(f"meta_rewards: found {show(values)}; write one for each of the {len(rubrics)} rubrics shown")
    if not isinstance(verdict, PairVerdict) or not verdict.criteria or verdict.criteria[0].rubric not in rubrics:
        return math.nan
    value = values[list(rubrics).index(verdict.criteria[0].rubric)]
    if isinstance(value, Mapping):
        value = value.get(verdict.letter)
    elif verdict.letter == "tie":
        value = None
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise SampleError(f"meta_rewards: found {show(value)}; write a number, or null for none")
    return math.nan if value is None else float(value)


def _groups(shown: Sequence[Any], size: int, name: str) -> list[list[int]]:
    """The places of each group; refuses what is not `size` neighbours of the same prompt."""
    blocks = [list(range(i, min(i + size, len(shown)))) for i in range(0, len(shown), size)]
    for block in blocks:
        if len(block) != size or any(shown[i] != shown[block[0]] for i in block):
            raise ConfigError(
                f"{name}: rows {block[0]} to {block[-1]} of {len(shown)} are not {size} rollouts of one prompt; whole "
                "groups must come as neighbours: group_size is num_generations, and the batch of every process a "
                "multiple of it"
            )
    return blocks


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _known(what: str, given: Any, known: tuple[str, ...]) -> None:
    if given not in known:
        raise ConfigError(f"{what} {given!r}: give one of {', '.join(known)}")


def _size(group_size: int) -> int:
    if group_size < 1:
        raise ConfigError(f"group_size {group_size}: give num_generations")
    return group_size


__all__ = ["FormatReward", "MetaReward", "PreferenceReward", "RuleReward"]
