"""Better verdicts from more compute: judge a pair under many rubrics and vote, select, combine, or rank by meta-reward.

For callers and the study command. It plans rubrics, has the judge judge under each, has responses refined by the
judge's own comments, has the DisRM score before and after, and ranks the rubrics (`docs/scaling.md`). Every step is
one batch over all samples; what goes wrong with one rubric or sample loses no other.

    scaled = ScaledJudge(Judge(backend), GeneratedPlanner(backend, count=10), "vote")
    scaled.compare(sample).verdict
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, overload

from omnirm.errors import CapabilityError, ConfigError, OmnirmError, SampleError
from omnirm.judge import Judge
from omnirm.rubrics.base import Planner, RubricSet
from omnirm.rubrics.meta import Meta
from omnirm.rubrics.selecting import Selected, select
from omnirm.rubrics.trajectory import STRATEGIES, ScaledJudgment, Strategy, Trajectory, compute_of, said
from omnirm.rubrics.under import calls_of, check_judge
from omnirm.rubrics.verdicts import by_meta_reward, voted, votes
from omnirm.sample import Sample
from omnirm.scoring.meta_reward import settled, weighted_vote
from omnirm.types import Letter, Rubric

COMBINED = 3  # rubrics in a combined judgment
SURE = 3  # votes that `stop_at` asks for
Stopped = Literal["all", "settled", "confident"]
Sets = list[tuple[int, tuple[Rubric, ...]]]  # sets of rubrics for one sample, each with the place of its first one
_LABELS: dict[object, Letter] = {0: "A", 1: "B", "tie": "tie"}


class ScaledJudge:
    """A judge that spends more compute on a pair.

    Args:
        judge: judges under each rubric; its orders, samples and seed count for each. It must not have rubrics of its
            own, except with `single`.
        planner: proposes the rubrics; not needed for `single`.
        strategy: `single` (the judge alone), `vote` (majority over rubrics, one vote each, ties explicit), `selected`
            (the judgment under the most critical rubric; a judge with `pick` chooses it while judging), `combined` (the
            three most critical in one judgment), `meta` (the judgment under the rubric with the highest meta-reward).
        meta: refiner, DisRM and function for `meta`. Responses are refined by the judge's comments, so the judge must
            think: format `pairwise-thinking`, or `auto` on text.
        allow_fallback: where `meta` is asked for and a response cannot be refined, vote instead, each rubric
            weighted by the probability of its verdict. Without it such a sample is an error.
        stop_when_settled: with `vote`: no further rubric once none can change the vote.
        stop_at: with `vote`: no further rubric once this share of at least three votes stands behind one response
            (the `confidence` of the vote), in (0.5, 1].
        temperature: of the softmax over meta-rewards, over 0 (DUAL RM studies 1, 5 and 10).

    Raises:
        ConfigError: a strategy without what it needs, or with what it cannot use.
    """

    def __init__(
        self,
        judge: Judge,
        planner: Planner | None = None,
        strategy: Strategy = "vote",
        *,
        meta: Meta | None = None,
        allow_fallback: bool = False,
        stop_when_settled: bool = False,
        stop_at: float | None = None,
        temperature: float = 1.0,
    ) -> None:
        if strategy not in STRATEGIES:
            raise ConfigError(f"strategy {strategy!r}: give one of {', '.join(STRATEGIES)}")
        if strategy != "single" and planner is None:
            raise ConfigError(f"strategy {strategy} needs rubrics: give a planner")
        if strategy == "meta" and meta is None:
            raise ConfigError("strategy meta needs a DisRM and a refiner: give meta=Meta(scorer, refiner)")
        if strategy == "meta" and judge.format == "pairwise":
            raise ConfigError("strategy meta refines by the judge's comments, and pairwise has none: pairwise-thinking")
        if strategy != "single":
            check_judge(judge)
        if judge.pick and strategy not in ("single", "selected"):
            raise ConfigError(f"strategy {strategy} judges under rubrics of its own choice: give a judge without pick")
        if strategy != "vote" and (stop_when_settled or stop_at is not None):
            raise ConfigError(f"strategy {strategy} has no vote that could be stopped: leave that out, or take vote")
        if stop_at is not None and not 0.5 < stop_at <= 1:
            raise ConfigError(f"stop_at {stop_at}: give a share over 0.5 and at most 1")
        if not 0 < temperature < math.inf:
            raise ConfigError(f"temperature {temperature}: give more than 0")
        self.judge, self.planner, self.strategy, self.meta = judge, planner, strategy, meta
        self.allow_fallback, self.temperature = allow_fallback, temperature
        self.stop_when_settled, self.stop_at = stop_when_settled, stop_at

    @overload
    def compare(self, sample: Sample) -> ScaledJudgment: ...
    @overload
    def compare(self, sample: Iterable[Sample]) -> list[ScaledJudgment]: ...
    def compare(self, sample: Sample | Iterable[Sample]) -> ScaledJudgment | list[ScaledJudgment]:
        """Judges pairs; one sample gives one judgment, many give a list in their order.

        Where no rubric could be planned or selected, `error` of the judgment says why.

        Raises:
            SampleError, CapabilityError: one sample alone that is no pair, that the judge cannot take, or that `meta`
                cannot work on. Among many samples that is the `error` of its judgment instead.
            BackendError: a model as a whole failed.
        """
        many = [sample] if isinstance(sample, Sample) else list(sample)
        states = [_State(one, self._refused(one)) for one in many]
        if isinstance(sample, Sample) and states[0].refused is not None:
            raise states[0].refused
        alive = [s for s in states if s.refused is None]
        if self.strategy == "single":
            self._judge(alive, [[(0, self.judge.rubrics_for(s.sample))] for s in alive])
        else:
            assert self.planner is not None
            for state, planned in zip(alive, self.planner.plan([s.sample for s in alive]), strict=True):
                state.planned = _with_weight(planned)
            self._scale([s for s in alive if s.planned.rubrics])
        return self._finished(states[0]) if isinstance(sample, Sample) else [self._finished(s) for s in states]

    def _refused(self, sample: Sample) -> OmnirmError | None:
        if len(sample.candidates) != 2:
            return SampleError(
                f"sample {sample.id}: {len(sample.candidates)} candidates; rubrics are scaled over pairs"
            )
        takes = self.judge.backend.capabilities.modalities
        if missing := sorted(sample.modalities - takes):
            why = f"{self.judge.backend.name} takes {', '.join(sorted(takes))}, not {', '.join(missing)}"
            return CapabilityError(f"sample {sample.id}: {why}")
        if self.strategy == "meta" and not self.allow_fallback and (why := self._not_refinable(sample)):
            return CapabilityError(
                f"sample {sample.id}: strategy meta: {why}, or allow the fallback to a weighted vote"
            )
        return None

    def _not_refinable(self, sample: Sample) -> str:
        """Why `meta` cannot work on a sample and what to do, "" where it can."""
        assert self.meta is not None
        refiner, scorer = self.meta.refiner, self.meta.scorer
        kinds = {part.type for candidate in sample.candidates for part in candidate.parts}
        if missing := sorted(kinds - refiner.modalities):
            return f"{refiner.name} refines no {' and no '.join(missing)} responses: plug in an editor as the refiner"
        if missing := sorted(sample.modalities - scorer.modalities):
            return f"the DisRM {scorer.name} scores no {' and no '.join(missing)}: take another one"
        if not self.judge.thinks_about(sample):
            return "in format auto the judge comments on text only: take pairwise-thinking"
        return ""

    def _scale(self, states: list[_State]) -> None:
        if self.strategy == "selected" and self.judge.pick:  # selection and judgment in one answer
            self._judge(states, [[(0, state.planned.rubrics)] for state in states])
        elif self.strategy in ("selected", "combined"):
            count = 1 if self.strategy == "selected" else COMBINED
            found = select(
                self.judge.backend,
                [s.sample for s in states],
                [s.planned.rubrics for s in states],
                count=count,
                seed=self.judge.decoding.seed,
            )
            for state, selected in zip(states, found, strict=True):
                state.selected = selected
            chosen = [s for s in states if s.selected is not None and s.selected.indices]
            self._judge(chosen, [[(s.chosen[0], tuple(s.planned.rubrics[i] for i in s.chosen))] for s in chosen])
        elif self.strategy == "vote" and (self.stop_when_settled or self.stop_at is not None):
            self._vote_by_rounds(states)
        else:
            self._judge(states, [[(i, (r,)) for i, r in enumerate(s.planned.rubrics)] for s in states])
        if self.strategy == "meta":
            assert self.meta is not None
            refinable = [s for s in states if not self._not_refinable(s.sample)]
            rewarded = self.meta.reward([(s.sample, s.trajectories) for s in refinable])
            for state, trajectories in zip(refinable, rewarded, strict=True):
                state.trajectories = trajectories

    def _vote_by_rounds(self, states: list[_State]) -> None:
        """As many rubrics as could settle the vote at the earliest, then one more a round where it is still open."""
        open_ = states
        while open_:
            under: list[Sets] = []
            for state in open_:
                done, rubrics = len(state.trajectories), state.planned.rubrics
                least = SURE if self.stop_at is not None else len(rubrics) // 2 + 1
                sets: Sets = [(i, (rubric,)) for i, rubric in enumerate(rubrics)]
                under.append(sets[done : max(least, done + 1)])
            self._judge(open_, under)
            for state in open_:
                state.stopped = self._stopped(state)
            open_ = [s for s in open_ if s.stopped == "all" and len(s.trajectories) < len(s.planned.rubrics)]

    def _stopped(self, state: _State) -> Stopped:
        verdicts = [t.judgment.verdict for t in state.trajectories]
        rest = len(state.planned.rubrics) - len(verdicts)
        if rest and self.stop_when_settled and settled(verdicts, rest):
            return "settled"
        _, share = weighted_vote(verdicts, [1.0] * len(verdicts))
        enough = sum(verdict is not None for verdict in verdicts) >= SURE
        if rest and self.stop_at is not None and share is not None and enough and max(share, 1 - share) >= self.stop_at:
            return "confident"
        return "all"

    def _judge(self, states: list[_State], under: list[Sets]) -> None:
        """Judges every state's sample under each of its sets of rubrics, all in one batch."""
        shown = [
            replace(state.sample, rubrics=rubrics)
            for state, sets in zip(states, under, strict=True)
            for _, rubrics in sets
        ]
        found = iter(self.judge.compare(shown))
        for state, sets in zip(states, under, strict=True):
            for index, rubrics in sets:
                judgment = next(found)
                state.trajectories.append(Trajectory(index, rubrics, judgment, compute=compute_of(calls_of(judgment))))

    def _finished(self, state: _State) -> ScaledJudgment:
        planned = state.planned
        calls = [*planned.calls, *(state.selected.calls if state.selected else ())]
        originals = max((sum(x is not None for x in t.scores[:2]) for t in state.trajectories), default=0)
        base = ScaledJudgment(
            sample_id=state.sample.id,
            strategy=self.strategy,
            verdict=None,
            label=_LABELS.get(state.sample.label),
            function=self.meta.function if self.strategy == "meta" and self.meta else "",
            temperature=self.temperature,
            planner=self.planner.name if self.planner and self.strategy != "single" else "",
            planned=planned.rubrics,
            dropped=planned.dropped,
            trajectories=tuple(state.trajectories),
            stopped=state.stopped,
            votes=votes(state.trajectories) if self.strategy in ("vote", "meta") else (),
            compute=sum((t.compute for t in state.trajectories), compute_of(calls, scored=originals)),
            disrm=self.meta.scorer.name if self.strategy == "meta" and self.meta else "",
            refiner=self.meta.refiner.name if self.strategy == "meta" and self.meta else "",
            error=state.error,
        )
        if not state.trajectories:
            return base
        if self.strategy == "meta":
            why = self._not_refinable(state.sample)
            if why:
                return voted(base, why)
            assert self.meta is not None
            return by_meta_reward(base, self.meta, allow_fallback=self.allow_fallback)
        if self.strategy == "vote":
            return voted(base)
        (one,) = base.trajectories
        short = state.selected.failure if state.selected else None
        return replace(
            base,
            verdict=one.judgment.verdict,
            confidence=one.judgment.confidence,
            ranking=(0,),
            fallback=f"{len(one.rubrics)} of {COMBINED} rubrics combined: selection: {said(short)}" if short else "",
        )


@dataclass
class _State:
    """A sample on its way."""

    sample: Sample
    refused: OmnirmError | None
    planned: RubricSet = field(default_factory=RubricSet)
    selected: Selected | None = None
    trajectories: list[Trajectory] = field(default_factory=list)
    stopped: Stopped = "all"

    @property
    def chosen(self) -> tuple[int, ...]:
        """Places of the selected rubrics."""
        return self.selected.indices if self.selected else ()

    @property
    def error(self) -> str:
        """Why there is no trajectory, "" where there is one."""
        if self.trajectories:
            return ""
        if self.refused is not None:
            return str(self.refused)
        if self.planned.failure is not None:
            return f"planning: {said(self.planned.failure)}"
        if self.selected is not None and self.selected.failure is not None:
            return f"selection: {said(self.selected.failure)}"
        return "planning: no rubric with a weight"


def _with_weight(planned: RubricSet) -> RubricSet:
    """Without rubrics of weight 0: alone they could not be judged under, and beside others they count for nothing."""
    kept = tuple(rubric for rubric in planned.rubrics if rubric.weight > 0)
    without = tuple((rubric, "has no weight") for rubric in planned.rubrics if rubric.weight <= 0)
    return replace(planned, rubrics=kept, dropped=(*planned.dropped, *without))
