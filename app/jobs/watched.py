"""Models, judges and planners that tell a tracker what they do, and stop between two parts when a job is to stop.

For judge jobs. Each passes on what it is asked and gives back what comes: results are the same with and without. Calls
are recorded in the job's run, so what comes to the model itself are small parts of what has no answer yet.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

from omnirm.app.jobs.tracking import JUDGING, PLANNING, REFINING, SCORING, SELECTING, Label, Tracker
from omnirm.app.scaling import ScalingOptions, make_planner, scaled_judge
from omnirm.rubrics.base import Planner, RubricSet
from omnirm.rubrics.refine import ModelRefiner, Refiner, RefineTask, Revision
from omnirm.sample import Sample
from omnirm.scorers.base import Scored, Scorer
from omnirm.types import Completion, ParseFailure, Request

if TYPE_CHECKING:
    from omnirm.backends.base import Backend
    from omnirm.judge import Judge
    from omnirm.rubrics.strategies import ScaledJudge
    from omnirm.runs import RunFolder


def watched_backend(backend: Backend, run: RunFolder, tracker: Tracker) -> Backend:
    """The backend, recorded in the run."""
    return cast("Backend", _Backend(backend, run, tracker))


def watched_judge(judge: Judge, tracker: Tracker) -> Judge:
    """The judge; its backend is a watched one. Notes what one judgment takes."""
    tracker.per = {JUDGING: len(judge.orders) * judge.samples}
    return cast("Judge", _Judge(judge, tracker))


def watched_strategy(
    judge: Judge, options: ScalingOptions, run: RunFolder, tracker: Tracker, *, disrm: Scorer | None = None,
    refiner: Backend | None = None,
) -> ScaledJudge:  # fmt: skip
    """The strategy around a watched judge. Notes what one judgment takes.

    Args:
        judge: plans and judges.
        options: the strategy.
        run: where calls are recorded.
        tracker: the judge's.
        disrm: for `meta`; not watched yet, and so is the next.
        refiner: for `meta`, another model that refines; None is the judge's.

    Raises:
        ConfigError: options that cannot be, or a strategy without what it needs.
    """
    strategy, calls, seed = options.strategy, tracker.per[JUDGING], judge.decoding.seed
    count = len(options.given) or options.rubrics
    planner: Planner | None = None
    if strategy != "single":
        planner = _Planner(make_planner(judge.backend, judge, options, seed), strategy, calls, tracker)
        tracker.per = {
            PLANNING: 0 if options.given or options.planner == "gold" else 1,
            SELECTING: {"selected": 1, "combined": 2}.get(strategy, 0),
            JUDGING: calls * (count if strategy in ("vote", "meta") else 1),
        }
    scorer, revises = None, None
    if strategy == "meta" and disrm is not None:
        tracker.per |= {REFINING: 2 * count, SCORING: 2 + 2 * count}
        model = judge.backend if refiner is None else watched_backend(refiner, run, tracker)
        scorer = cast("Scorer", _Scorer(disrm, run, tracker))
        revises = cast("Refiner", _Refiner(ModelRefiner(model, seed=seed), tracker))
    return scaled_judge(judge, options, planner=planner, scorer=scorer, refiner=revises)


class _Around:
    """Something with all that is not named here passed through."""

    def __init__(self, inner: Any, tracker: Tracker) -> None:
        self._inner, self._tracker = inner, tracker

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self._inner, name)


class _Parts(_Around):
    """A model behind the record of a run: asked for the rest of a batch, a part at a time."""

    def __init__(self, inner: Any, tracker: Tracker) -> None:
        super().__init__(inner, tracker)
        self._places: dict[int, int] = {}  # in the batch, of each item by identity: the record hands on the very items
        self._count = 0

    def batch(self, items: Sequence[Any]) -> None:
        self._places = {id(item): place for place, item in reversed(list(enumerate(items)))}
        self._count = len(items)
        self._tracker.batch(len(items))

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        last, began = self._part(requests), time.monotonic()
        answers: list[Completion] = self._inner.generate(requests)
        took = (time.monotonic() - began) / max(len(requests), 1)
        self._tracker.answered(last, took, *_tokens(answers))
        return answers

    def score(self, items: Sequence[Scored]) -> list[float | ParseFailure]:
        last, began = self._part(items), time.monotonic()
        scores: list[float | ParseFailure] = self._inner.score(items)
        self._tracker.answered(last, (time.monotonic() - began) / max(len(items), 1))
        return scores

    def _part(self, items: Sequence[Any]) -> int:
        places = [self._places.get(id(item), 0) for item in items]
        self._tracker.part(min(places), max(places), self._count)
        return max(places)


class _Backend(_Around):
    def __init__(self, inner: Backend, run: RunFolder, tracker: Tracker) -> None:
        self._parts = _Parts(inner, tracker)
        super().__init__(run.backend(cast("Backend", self._parts)), tracker)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self._parts.batch(requests)
        answers: list[Completion] = self._inner.generate(requests)
        self._tracker.batched(len(requests), *_tokens(answers))
        return answers


class _Scorer(_Around):
    def __init__(self, inner: Scorer, run: RunFolder, tracker: Tracker) -> None:
        self._parts = _Parts(inner, tracker)
        super().__init__(run.scorer(cast("Scorer", self._parts)), tracker)

    def score(self, items: Sequence[Scored]) -> list[float | ParseFailure]:
        self._tracker.enter(SCORING, len(items))
        self._parts.batch(items)
        scores: list[float | ParseFailure] = self._inner.score(items)
        self._tracker.batched(len(items))
        return scores


class _Refiner(_Around):
    def refine(self, tasks: Sequence[RefineTask]) -> list[Revision | ParseFailure]:
        self._tracker.enter(REFINING, len(tasks))
        with self._tracker.labelled([self._tracker.label(one.sample.id, one.rubrics) for one in tasks]):
            return self._inner.refine(tasks)


class _Planner:
    def __init__(self, inner: Planner, strategy: str, calls: int, tracker: Tracker) -> None:
        self.name = inner.name
        self._inner, self._strategy, self._calls, self._tracker = inner, strategy, calls, tracker

    def plan(self, samples: Sequence[Sample]) -> list[RubricSet]:
        self._tracker.enter(PLANNING)
        sets = self._inner.plan(samples)
        found: Mapping[str, Any] = {
            sample.id: [rubric for rubric in one.rubrics if rubric.weight > 0]
            for sample, one in zip(samples, sets, strict=True)
        }
        count = self._tracker.planned(found)
        if self._strategy in ("vote", "meta"):
            self._tracker.expect(JUDGING, self._calls * count)
        if self._strategy == "meta":
            self._tracker.expect(REFINING, 2 * count)
            self._tracker.expect(SCORING, 2 * len(samples) + 2 * count)
        self._tracker.enter(SELECTING if self._strategy in ("selected", "combined") else JUDGING)
        return sets


class _Judge(_Around):
    def compare(self, sample: Sample | Iterable[Sample]) -> Any:
        alone = isinstance(sample, Sample)
        many = [sample] if isinstance(sample, Sample) else list(sample)
        labels = [self._tracker.label(one.id, one.rubrics) for one in many]
        if self._tracker.step != PLANNING:  # a planner may judge, to see what its rubrics are good for
            self._tracker.enter(JUDGING)
        with self._tracker.labelled(labels):
            return self._inner.compare(many[0] if alone else many)

    def score(self, sample: Sample, method: Literal["rubric", "p-yes"] = "rubric") -> Any:
        count = len(sample.candidates)
        self._tracker.enter(JUDGING, count * self._inner.samples * (2 if method == "p-yes" else 1))
        with self._tracker.labelled([Label("response", i, count) for i in range(1, count + 1)]):
            return self._inner.score(sample, method)


def _tokens(answers: Sequence[Completion]) -> tuple[int, int]:
    return sum(one.prompt_tokens for one in answers), sum(one.completion_tokens for one in answers)
