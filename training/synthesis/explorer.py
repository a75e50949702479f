"""Judges labelled pairs under many rubrics, so that data can be made of what worked: DUAL RM's way and GRM-Omni's.

For `sets`. It asks models, through whatever records their calls; what is made of the answers is
somebody else's work. Every reading of a judgment (a rubric, an order, a sample of the model) is a trajectory of its
own: refined by its own comments, scored and rewarded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from omnirm.errors import ConfigError
from omnirm.judge import Judge
from omnirm.judgment import Judgment, PairCall, prompt_hash
from omnirm.rubrics.base import Planner, RubricSet
from omnirm.rubrics.extended import ExtendedPlanner
from omnirm.rubrics.meta import Meta
from omnirm.rubrics.trajectory import ScaledJudgment, Trajectory, compute_of, said
from omnirm.rubrics.under import calls_of
from omnirm.rubrics.verdicts import by_meta_reward, votes
from omnirm.runs.keys import by_content
from omnirm.sample import Sample
from omnirm.scoring.aggregate import Vote, aggregate_pair
from omnirm.types import Letter, Message, Rubric

if TYPE_CHECKING:
    from omnirm.backends.base import Backend

Method = Literal["dual-rm", "grm-omni"]
METHODS: tuple[Method, ...] = get_args(Method)
LETTERS: tuple[Letter, Letter] = ("A", "B")
_ROLLOUT_TEMPERATURE = 0.7  # where the judge itself has none


@dataclass(frozen=True, slots=True)
class Explored:
    """A pair and what came of judging it.

    sample: in the order of `canonical`; judgment: with one trajectory a reading; first: GRM-Omni's judgment under the
    first rubrics together; rollouts: what the judge says without given rubrics, None where that cannot be read;
    margin: pointwise score of the chosen response minus that of the rejected one.
    """

    sample: Sample
    judgment: ScaledJudgment
    first: Trajectory | None = None
    rollouts: tuple[Letter | None, ...] = ()
    margin: float | None = None

    @property
    def label(self) -> Letter | None:
        """The better response."""
        return self.judgment.label

    def reward(self, one: Trajectory) -> float | None:
        """The meta-reward of a trajectory, by the function of the run."""
        return (one.meta_rewards or {}).get(self.judgment.function)

    def record(self) -> dict[str, Any]:
        """What is in no judgment of a run folder, JSON-ready."""
        first = None if self.first is None else ScaledJudgment(
            self.sample.id, "single", self.first.judgment.verdict, label=self.label, trajectories=(self.first,)
        ).to_dict()["trajectories"][0]  # fmt: skip
        return {"sample_id": self.sample.id, "first": first, "rollouts": list(self.rollouts), "margin": self.margin}


@dataclass(frozen=True)
class Explorer:
    """Who judges, plans, refines and scores.

    Args:
        judge: thinks about everything; its orders and samples are the readings under each rubric.
        planner: of DUAL RM's rubrics.
        meta: refiner and DisRM.
        method: see `docs/synthesis.md`.
        extended: GRM-Omni's planner: k rubrics first, n more where the judgment was wrong.
        rollouts: how often a pair is judged without given rubrics, for PaTaRM's filter; 0 for not at all.
        pointwise: score the responses one by one too.

    Raises:
        ConfigError: a method without what it needs.
    """

    judge: Judge
    planner: Planner
    meta: Meta
    method: Method = "dual-rm"
    extended: ExtendedPlanner | None = None
    rollouts: int = 0
    pointwise: bool = False
    planned_by: str = field(init=False)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"method {self.method!r}: give one of {', '.join(METHODS)}")
        if self.judge.format != "pairwise-thinking" or self.judge.allow_tie:
            raise ConfigError("synthesis refines by the judge's comments and learns A or B: pairwise-thinking, no ties")
        if self.method == "grm-omni" and self.extended is None:
            raise ConfigError("grm-omni plans rubrics in two rounds: give extended=ExtendedPlanner(...)")
        if self.method == "grm-omni" and self.judge.orders != ("AB",):
            raise ConfigError("grm-omni puts judgments together, so all must be shown in one order: give orders=1")
        if self.rollouts < 0:
            raise ConfigError(f"rollouts {self.rollouts}: give 0 or more")
        name = self.extended.name if self.method == "grm-omni" and self.extended else self.planner.name
        object.__setattr__(self, "planned_by", name)

    def explore(self, samples: Sequence[Sample]) -> list[Explored]:
        """What came of each pair, in order; every step is one batch over all.

        A sample that is no pair labelled A or B is asked nothing; its judgment has the `error`.

        Raises:
            BackendError: a model failed as a whole.
        """
        found = [Explored(s, self._base(s, _refused(s))) for s in (canonical(s, self.judge.backend) for s in samples)]
        alive = [i for i, one in enumerate(found) if not one.judgment.error]
        explored = (self._dual_rm if self.method == "dual-rm" else self._grm_omni)([found[i].sample for i in alive])
        for i, one in zip(alive, self._solved(explored), strict=True):
            found[i] = one
        return found

    def _dual_rm(self, samples: list[Sample]) -> list[Explored]:
        """K rubrics; judged under each; refined, scored, ranked."""
        planned = self.planner.plan(samples) if samples else []
        return [Explored(s, j) for s, j in zip(samples, self._under_each(samples, planned), strict=True)]

    def _grm_omni(self, samples: list[Sample]) -> list[Explored]:
        """k rubrics and one judgment under all; where that is wrong n more rubrics, judged under each, ranked."""
        assert self.extended is not None
        backend = self.judge.backend
        planned = self.extended.plan(samples) if samples else []
        once = Judge(backend, format=self.judge.format, orders=1, seed=self.judge.decoding.seed,
                     max_new_tokens=self.judge.decoding.max_new_tokens)  # fmt: skip
        asked = [i for i, rubrics in enumerate(planned) if rubrics.rubrics]
        judged = once.compare([replace(samples[i], rubrics=planned[i].rubrics) for i in asked])
        firsts: dict[int, Trajectory] = {}
        for i, one in zip(asked, judged, strict=True):
            firsts[i] = Trajectory(0, planned[i].rubrics, one, compute=compute_of(calls_of(one)))
        wrong = [i for i, t in firsts.items() if t.correct is False and t.judgment.verdict is not None]
        more = self.extended.extend([samples[i] for i in wrong], [planned[i].rubrics for i in wrong]) if wrong else []
        both = [_with_more(planned[i], new) for i, new in zip(wrong, more, strict=True)]
        improved = dict(zip(wrong, self._under_each([samples[i] for i in wrong], both), strict=True))
        result = []
        for i, sample in enumerate(samples):
            judgment = improved.get(i) or self._planned(sample, planned[i])
            first = firsts.get(i)
            if first is not None:
                judgment = replace(judgment, compute=judgment.compute + first.compute)
                if i not in improved:
                    judgment = replace(judgment, verdict=first.judgment.verdict, error=first.judgment.error)
            result.append(Explored(sample, judgment, first))
        return result

    def _under_each(self, samples: Sequence[Sample], planned: Sequence[RubricSet]) -> list[ScaledJudgment]:
        """Judged under each rubric alone, every reading refined, scored and rewarded, and all ranked."""
        jobs = [(i, k) for i, one in enumerate(planned) for k in range(len(one.rubrics))]
        shown = [replace(samples[i], rubrics=(replace(planned[i].rubrics[k], weight=1.0),)) for i, k in jobs]
        trajectories: list[list[Trajectory]] = [[] for _ in samples]
        errors: dict[int, str] = {}
        for (i, k), judgment in zip(jobs, self.judge.compare(shown) if shown else [], strict=True):
            errors |= {i: judgment.error} if judgment.error else {}
            trajectories[i] += readings(k, (planned[i].rubrics[k],), judgment)
        rewarded = self.meta.reward(list(zip(samples, trajectories, strict=True))) if samples else []
        return [
            self._ranked(self._planned(sample, one), found, errors.get(i, ""))
            for i, (sample, one, found) in enumerate(zip(samples, planned, rewarded, strict=True))
        ]

    def _ranked(self, base: ScaledJudgment, found: list[Trajectory], error: str) -> ScaledJudgment:
        if not found:
            return replace(base, error=base.error or error or "no rubric was judged under")
        originals = max(sum(x is not None for x in one.scores[:2]) for one in found)
        compute = sum((one.compute for one in found), base.compute + compute_of((), scored=originals))
        base = replace(base, trajectories=tuple(found), votes=votes(found), compute=compute)
        return by_meta_reward(base, self.meta)

    def _planned(self, sample: Sample, planned: RubricSet) -> ScaledJudgment:
        error = f"planning: {said(planned.failure)}" if planned.failure is not None and not planned.rubrics else ""
        base = self._base(sample, error)
        return replace(base, planned=planned.rubrics, dropped=planned.dropped, compute=compute_of(planned.calls))

    def _base(self, sample: Sample, error: str) -> ScaledJudgment:
        return ScaledJudgment(
            sample_id=sample.id, strategy="meta", verdict=None, error=error, function=self.meta.function,
            label=LETTERS[sample.label] if isinstance(sample.label, int) and sample.label < 2 else None,
            planner=self.planned_by, disrm=self.meta.scorer.name, refiner=self.meta.refiner.name,
        )  # fmt: skip

    def _solved(self, explored: list[Explored]) -> list[Explored]:
        """With the rollouts and the pointwise margin, where they are asked for."""
        decoding = self.judge.decoding
        count = max(1, self.rollouts)
        judge = Judge(
            self.judge.backend, orders=1, samples=count, seed=decoding.seed, top_p=decoding.top_p,
            temperature=(decoding.temperature or _ROLLOUT_TEMPERATURE) if count > 1 else decoding.temperature,
            max_new_tokens=decoding.max_new_tokens,
        )  # fmt: skip
        samples = [one.sample for one in explored]
        if self.rollouts and samples:
            found = judge.compare(samples)
            explored = [
                replace(one, rollouts=tuple(call.verdict for call in judgment.calls) or (None,) * count)
                for one, judgment in zip(explored, found, strict=True)
            ]
        if self.pointwise and samples:
            scores = [[c.score for c in one.candidates] for one in judge.score(samples)]
            explored = [replace(one, margin=_margin(one, two)) for one, two in zip(explored, scores, strict=True)]
        return explored


def readings(index: int, rubrics: tuple[Rubric, ...], judgment: Judgment) -> list[Trajectory]:
    """A judgment of several readings as one trajectory a reading, in the order of the calls."""
    return [
        Trajectory(index, rubrics, _alone(judgment, call), compute=compute_of([call.call])) for call in judgment.calls
    ]


def canonical(sample: Sample, backend: Backend | None = None) -> Sample:
    """The pair in an order that depends on the contents of its responses alone, so that neither the order in a file nor
    a habit of putting the chosen one first decides anything. Media count by their bytes where they can be read."""
    if len(sample.candidates) != 2:
        return sample
    a, b = (
        prompt_hash((by_content(Message("assistant", one.parts), backend),), "") for one in sample.candidates
    )  # fmt: skip
    return sample.swapped() if b < a else sample


def _refused(sample: Sample) -> str:
    if len(sample.candidates) != 2:
        return f"no pair: {len(sample.candidates)} candidates"
    return "" if isinstance(sample.label, int) else "no label A or B"


def _alone(judgment: Judgment, call: PairCall) -> Judgment:
    cast = [] if call.verdict is None else [Vote(call.order, call.verdict, call.margin)]
    joined = aggregate_pair(cast, asked=1, orders=(call.order,))
    return replace(
        judgment, calls=(call,), criteria=call.criteria, orders=(call.order,), samples=1, verdict=joined.verdict,
        confidence=joined.confidence, probability_a=joined.probability_a, margin=joined.margin,
        position_consistent=joined.position_consistent, order_verdicts=joined.order_verdicts, votes=joined.votes,
        coverage=joined.coverage, decided_by=joined.decided_by,
    )  # fmt: skip


def _with_more(old: RubricSet, new: RubricSet) -> RubricSet:
    return replace(
        old, rubrics=old.rubrics + new.rubrics, dropped=old.dropped + new.dropped, calls=old.calls + new.calls
    )


def _margin(one: Explored, scores: Sequence[float | None]) -> float | None:
    if len(scores) != 2 or one.label is None:
        return None
    chosen, rejected = scores if one.label == "A" else (scores[1], scores[0])
    if chosen is None or rejected is None or not math.isfinite(chosen - rejected):
        return None
    return chosen - rejected
