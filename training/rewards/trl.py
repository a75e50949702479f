"""omnirm's judge as the reward of another policy's reinforcement learning, in TRL's calling convention.

    reward = JudgeReward("nano", "pointwise")
    trainer = GRPOTrainer(model, reward_funcs=[reward], ...)     # awaited beside other asynchronous rewards
    trainer = GRPOTrainer(model, reward_funcs=[reward.blocking], ...)

Blocking judges run in a thread, so TRL's event loop goes on. All completions of a call are asked for in one batch.
`omnirm.training.rewards.plans` says what the modes are; `docs/rewards.md` has examples.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from omnirm.backends.load import load_backend
from omnirm.content import MEDIA
from omnirm.errors import BackendError, CapabilityError, ConfigError, OmnirmError, SampleError
from omnirm.judge import METHODS, Judge, Method
from omnirm.rubrics.strategies import ScaledJudge
from omnirm.sample import Sample, parse_rubrics
from omnirm.training.rewards.calls import Calls, Late
from omnirm.training.rewards.plans import (
    Judged,
    Mode,
    Outcome,
    Plan,
    Reward,
    RowOrNot,
    pair_reward,
    plan_groups,
    plan_points,
    plan_references,
    point_reward,
)
from omnirm.training.rewards.rows import make_row
from omnirm.types import Rubric

_log = logging.getLogger(__name__)


class JudgeReward:
    """A reward function that asks a judge.

    Picklable: a judge given by name is loaded where it is first asked (or by `load`), and does not travel.

    Args:
        judge: a `Judge`, a `ScaledJudge` (`reference` and `group` only), or the name of a model (`load_backend`).
        mode: `pointwise`, `reference` or `group`.
        method: of `pointwise`: `rubric` (total / 10) or `p-yes`.
        outcome: of `reference` and `group`: `probability` (P(better)), `win` (1, 1/2 for a tie, 0), or, in a group,
            `rank` (by mean P(better)).
        rubrics: texts or rubrics to judge under; a row's column `rubrics` goes before them.
        reference: name of the column with the answers to compare with.
        opponents: in a group, how many others each completion meets: an even number; None for all. A group of G takes
            G (G - 1) / 2 pairs, or G x opponents / 2.
        group_size: completions of a prompt (TRL's `num_generations`); a call with parts of groups is then refused.
        timeout: seconds for a call of this reward; what is not judged by then has no reward. None waits.
        concurrency: calls of the judge at the same time. 1 for models in this process.
        batch_size: samples in a call of the judge; None for all in one.
        patience: after so many completions in a row without a reward an error ends the training; 0 for never.
        name: under which TRL reports it, one for each reward function of a trainer.
        judge_settings: of `Judge`, where `judge` is a name.
        backend_settings: of `load_backend`, likewise.

    Raises:
        ConfigError: settings that are unknown or contradict each other.
        CapabilityError: `p-yes` with a backend that gives no log-probabilities.
    """

    def __init__(
        self,
        judge: Judge | ScaledJudge | str,
        mode: Mode = "pointwise",
        *,
        method: Method = "rubric",
        outcome: Outcome = "probability",
        rubrics: Sequence[Rubric | str | Mapping[str, Any]] = (),
        reference: str = "reference",
        opponents: int | None = None,
        group_size: int | None = None,
        timeout: float | None = None,
        concurrency: int = 1,
        batch_size: int | None = None,
        patience: int = 256,
        name: str = "judge",
        judge_settings: Mapping[str, Any] | None = None,
        backend_settings: Mapping[str, Any] | None = None,
    ) -> None:
        for what, given, known in (
            ("mode", mode, get_args(Mode)),
            ("method", method, tuple(METHODS)),
            ("outcome", outcome, get_args(Outcome)),
        ):
            if given not in known:
                raise ConfigError(f"{what} {given!r} of a reward: give one of {', '.join(known)}")
        if outcome == "rank" and mode != "group":
            raise ConfigError(f"outcome rank ranks the completions of a group; mode {mode} has probability and win")
        if opponents is not None and (opponents < 2 or opponents % 2):
            raise ConfigError(f"opponents {opponents}: give an even number of at least 2, or None for all")
        for what, number in (("concurrency", concurrency), ("batch_size", batch_size), ("group_size", group_size)):
            if number is not None and number < 1:
                raise ConfigError(f"{what} {number}: give at least 1")
        if timeout is not None and not timeout > 0:
            raise ConfigError(f"timeout {timeout}: give seconds above 0, or None to wait")
        if not isinstance(judge, str) and (judge_settings or backend_settings):
            raise ConfigError(
                "judge_settings and backend_settings are for a judge given by name; set them on the judge"
            )
        self.mode, self.method, self.outcome, self.reference = mode, method, outcome, reference
        self.opponents, self.group_size = opponents, group_size
        self.timeout, self.concurrency, self.batch_size, self.patience = timeout, concurrency, batch_size, patience
        self.rubrics = tuple(
            one if isinstance(one, Rubric) else parse_rubrics([one])[0] for one in ([*rubrics] if rubrics else [])
        )
        self.__name__ = name
        self._name = judge if isinstance(judge, str) else None
        self._judge_settings, self._backend_settings = dict(judge_settings or {}), dict(backend_settings or {})
        self._judge = None if isinstance(judge, str) else judge
        self._empty = 0  # completions in a row without a reward
        self._ready()
        if self._judge is not None:
            self._check(self._judge)

    async def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Any] | None = None,
        *,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Rewards, in the order of the completions; None where there is none.

        Args:
            prompts, completions: texts, or turns with text and images, as TRL has them.
            completion_ids: not used.
            log_extra: gets the column `<name>/reason`: why a completion was not judged, else "".
            log_metric: gets `<name>/coverage`: rewarded / all.
            columns: of the data set. Used are `rubrics`, the one of the references, `images` and `image` (also videos
                and audios); all others, and the trainer's state, are not looked at.

        Raises:
            ConfigError: a column is missing or of another length; parts of groups in `group`.
            BackendError: `patience` is at its end.
        """
        found = await asyncio.to_thread(self.rewards, prompts, completions, **columns)
        return self._report(found, log_extra, log_metric)

    @property
    def blocking(self) -> BlockingReward:
        """The same as a plain function, for trainers that know no asynchronous rewards."""
        return BlockingReward(self)

    def load(self) -> JudgeReward:
        """Loads the judge now, so that a wrong name shows before anything is generated. Gives itself back."""
        self._loaded()
        return self

    def rewards(self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[Reward]:
        """Rewards with the reasons of those that are none. Blocks; for the rest see `__call__`."""
        if not len(completions):
            return []
        rows = self._rows(prompts, completions, columns)
        plan = self._plan(rows)
        judged = self._judged(plan.samples)
        found = plan.join(judged)
        self._count(found)
        return found

    # -- rows and plan

    def _rows(self, prompts: Sequence[Any], completions: Sequence[Any], columns: Mapping[str, Any]) -> list[RowOrNot]:
        count = len(completions)
        if len(prompts) != count:
            raise ConfigError(f"{len(prompts)} prompts and {count} completions: give as many")
        if self.mode == "reference" and self.reference not in columns:
            raise ConfigError(
                f"mode reference: the data set has no column {self.reference!r}; name the column with the answers to "
                f"compare with (there are {', '.join(sorted(columns)) or 'none'})"
            )
        rubrics = _column(columns, "rubrics", count)
        if self._judge_has_rubrics() and any(_some(one) for one in rubrics):
            raise ConfigError("the judge has rubrics of its own and the data set has a column rubrics: take one")
        references = _column(columns, self.reference, count) if self.mode == "reference" else [None] * count
        media = {kind: _media(columns, kind, count) for kind in MEDIA}
        rows: list[RowOrNot] = []
        for i in range(count):
            try:
                rows.append(
                    make_row(
                        prompts[i],
                        completions[i],
                        media={kind: found[i] for kind, found in media.items()},
                        rubrics=self._rubrics_of(rubrics[i]),
                        reference=references[i],
                    )
                )
            except SampleError as error:
                rows.append(Reward(None, f"no sample: {error}"[:200]))
        return rows

    def _rubrics_of(self, given: Any) -> Any:
        """A row's rubrics, or those of this reward where it has none."""
        if _some(given):
            return given
        return [{"name": r.name, "text": r.text, "weight": r.weight, "source": r.source} for r in self.rubrics]

    def _plan(self, rows: Sequence[RowOrNot]) -> Plan:
        if self.mode == "pointwise":
            return plan_points(rows)
        if self.mode == "reference":
            return plan_references(rows)
        return plan_groups(rows, opponents=self.opponents, ranked=self.outcome == "rank", size=self.group_size)

    # -- judging

    def _judged(self, samples: Sequence[Sample]) -> Judged:
        judge = self._loaded()
        size = self.batch_size or max(len(samples), 1)
        parts = [samples[i : i + size] for i in range(0, len(samples), size)]
        answers = self._calls.run([_Work(self, judge, part) for part in parts], self.timeout)
        found: dict[str, Reward] = {}
        for part, answer in zip(parts, answers, strict=True):
            if isinstance(answer, Late):
                answer = [Reward(None, f"not judged within {self.timeout} s")] * len(part)
            found |= dict(zip([sample.id for sample in part], answer, strict=True))
        return found

    def ask(self, judge: Judge | ScaledJudge, samples: Sequence[Sample]) -> list[Reward]:
        """One call of the judge. What its backend raises is the reason of all its samples."""
        try:
            if self.mode == "pointwise":
                assert isinstance(judge, Judge)
                return [point_reward(one) for one in judge.score(samples, self.method)]
            outcome: Outcome = "win" if self.outcome == "win" else "probability"
            return [pair_reward(one, outcome) for one in judge.compare(samples)]
        except ConfigError:
            raise
        except (OmnirmError, OSError, RuntimeError) as error:  # RuntimeError: also torch out of memory
            return [Reward(None, f"backend_error: {type(error).__name__}: {error}"[:200])] * len(samples)

    def _loaded(self) -> Judge | ScaledJudge:
        with self._lock:
            if self._judge is None:
                assert self._name is not None
                judge = Judge(load_backend(self._name, **self._backend_settings), **self._judge_settings)
                self._check(judge)
                self._judge = judge
        return self._judge

    def _check(self, judge: Judge | ScaledJudge) -> None:
        if self.mode == "pointwise":
            if not isinstance(judge, Judge):
                raise ConfigError("mode pointwise needs a Judge: a ScaledJudge only compares; take reference or group")
            if self.method == "p-yes" and not judge.backend.capabilities.logprobs:
                raise CapabilityError(f"p-yes needs log-probabilities, and {judge.backend.name} has none: take rubric")
        if self.rubrics and self._judge_has_rubrics(judge):
            raise ConfigError("the judge has rubrics of its own and the reward was given some: take one of them")

    def _judge_has_rubrics(self, judge: Judge | ScaledJudge | None = None) -> bool:
        judge = judge or self._judge
        return bool(getattr(judge, "rubrics", None)) or bool(self._judge_settings.get("rubrics"))

    # -- telling

    def _report(
        self,
        found: Sequence[Reward],
        log_extra: Callable[[str, list[Any]], None] | None,
        log_metric: Callable[[str, float], None] | None,
    ) -> list[float | None]:
        if log_extra is not None:
            log_extra(f"{self.__name__}/reason", [one.reason for one in found])
        if log_metric is not None and found:
            log_metric(f"{self.__name__}/coverage", sum(one.value is not None for one in found) / len(found))
        return [one.value for one in found]

    def _count(self, found: Sequence[Reward]) -> None:
        reasons = Counter(one.reason for one in found if one.value is None)
        if reasons:
            told = ", ".join(f"{reason!r} ({n})" for reason, n in reasons.most_common(3))
            _log.warning("%s: %d of %d not judged: %s", self.__name__, reasons.total(), len(found), told)
        self._empty = self._empty + len(found) if reasons.total() == len(found) else 0
        if self.patience and self._empty >= self.patience:
            raise BackendError(
                f"{self.__name__}: {self._empty} completions in a row got no reward, so nothing is learnt; the last "
                f"reason is {reasons.most_common(1)[0][0]!r}. Set patience=0 to go on all the same"
            )

    # -- travelling

    def _ready(self) -> None:
        self._calls: Calls[list[Reward]] = Calls(self.concurrency)
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        state = {key: value for key, value in vars(self).items() if key not in ("_calls", "_lock")}
        return state | ({"_judge": None} if self._name is not None else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._ready()


class BlockingReward:
    """A `JudgeReward` as a plain function."""

    def __init__(self, reward: JudgeReward) -> None:
        self.reward = reward
        self.__name__ = reward.__name__

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Any] | None = None,
        *,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """See `JudgeReward.__call__`."""
        return self.reward._report(self.reward.rewards(prompts, completions, **columns), log_extra, log_metric)


class _Work:
    """One call of the judge, to be made."""

    def __init__(self, reward: JudgeReward, judge: Judge | ScaledJudge, samples: Sequence[Sample]) -> None:
        self.reward, self.judge, self.samples = reward, judge, samples

    def __call__(self) -> list[Reward]:
        return self.reward.ask(self.judge, self.samples)


def _column(columns: Mapping[str, Any], name: str, count: int) -> Sequence[Any]:
    found = columns.get(name)
    if found is None:
        return [None] * count
    if isinstance(found, str) or not hasattr(found, "__len__") or len(found) != count:
        raise ConfigError(f"column {name!r} does not have one value for each of {count} completions")
    return found


def _some(rubrics: Any) -> bool:
    return rubrics is not None and not (hasattr(rubrics, "__len__") and len(rubrics) == 0)


def _media(columns: Mapping[str, Any], kind: str, count: int) -> Sequence[Any]:
    """The media of a kind of each row, a list or None: from `images` as it is, or from `image`, one a row."""
    if columns.get(f"{kind}s") is not None:
        return _column(columns, f"{kind}s", count)
    return [None if one is None else [one] for one in _column(columns, kind, count)]


__all__ = ["BlockingReward", "JudgeReward"]
