"""The run behind one judge job: models that are loaded already, a judge whose progress is told, a folder that resumes.

For the handlers of judge jobs. It knows no store.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from omnirm.app import scaling as more
from omnirm.app.jobs.jobs import JobContext
from omnirm.app.jobs.tracking import LOADING, Rates, Tracker
from omnirm.app.jobs.watched import watched_backend, watched_judge, watched_strategy
from omnirm.app.scaling import ScalingOptions
from omnirm.app.service import JudgeOptions, Row, make_judge
from omnirm.records import to_plain
from omnirm.rubrics.trajectory import ScaledJudgment
from omnirm.runs import RunFolder

if TYPE_CHECKING:
    from omnirm.app.models import Models
    from omnirm.judgment import Judgment, PointJudgment
    from omnirm.rubrics.strategies import ScaledJudge
    from omnirm.sample import Sample

_AT_ONCE = 4  # pairs that are judged in one batch, where each takes one judgment


class JudgeRun:
    """A judge, or a strategy, at work for a job. Its folder is open until the end of a `with` block.

    Args:
        context: of the job; its folder becomes the run's.
        models: those that are offered.
        rates: how long calls take, for the time left.
        model, judging, scaling: who judges and how. `meta` without a DisRM takes nano's where nano judges.
        chunk: calls between two looks at whether to stop; up to twice as many where they begin alike.

    Raises:
        Cancelled: the job is to stop (so do the methods).
        ConfigError: a model that is not offered, settings that cannot be, or a folder of another run.
        BackendError, MissingExtra: a model cannot be loaded, or (the methods) answers nothing at all.
    """

    def __init__(
        self, context: JobContext, models: Models, rates: Rates, model: str, judging: JudgeOptions,
        scaling: ScalingOptions | None, chunk: int,
    ) -> None:  # fmt: skip
        settings: dict[str, Any] = {"model": model, "judging": to_plain(judging)}
        if scaling is not None:
            scaling = with_disrm(scaling, model)
            more.check(scaling, judging)
            judging = more.judging_for(scaling, judging)
            settings = more.run_settings(model, judging, scaling)
        self._tracker = Tracker(context, rates, model)
        self._tracker.enter(LOADING)
        backend, disrm, refiner = models.backend(model), None, None
        if scaling is not None and scaling.strategy == "meta":
            disrm = models.scorer(scaling.disrm or "")
            refiner = None if scaling.refiner == "model" else models.backend(scaling.refiner)
        context.check()
        self._run = RunFolder(context.folder, settings, chunk=chunk)
        judge = make_judge(watched_backend(backend, self._run, self._tracker), judging)
        self._judge = watched_judge(judge, self._tracker)
        self._scaled: ScaledJudge | None = None
        if scaling is not None:
            self._scaled = watched_strategy(
                self._judge, scaling, self._run, self._tracker, disrm=disrm, refiner=refiner
            )  # fmt: skip

    def __enter__(self) -> JudgeRun:
        return self

    def __exit__(self, *_: object) -> None:
        self._run.close()

    def score(self, sample: Sample, method: Literal["rubric", "p-yes"]) -> PointJudgment:
        """Every candidate on its own. Raises as `Judge.score`."""
        self._tracker.begin()
        return self._only(sample, self._judge.score(sample, method))

    def compare(self, sample: Sample) -> Judgment | ScaledJudgment:
        """One pair. Raises as `Judge.compare` of one sample."""
        self._tracker.begin()
        return self._only(sample, (self._scaled or self._judge).compare(sample))

    def compare_all(self, rows: Sequence[Row]) -> Iterator[tuple[Row, Judgment | ScaledJudgment]]:
        """Many pairs, in order; what is wrong with one is in its judgment."""
        at_once = _AT_ONCE if self._scaled is None else 1
        for start in range(0, len(rows), at_once):
            batch = rows[start : start + at_once]
            last = start + len(batch)
            places = f"pair {last}" if len(batch) == 1 else f"pairs {start + 1}-{last}"
            self._tracker.begin(f"{places} of {len(rows)}", now=len(batch), later=len(rows) - last)
            good = [row.sample for row in batch if row.sample is not None]
            found: Iterator[Any] = iter((self._scaled or self._judge).compare(good) if good else ())
            for row in batch:
                judgment = next(found) if row.sample is not None else self._not_judged(row)
                self._append(row.sample, judgment)
                yield row, judgment
        self._run.finish()

    def _only(self, sample: Sample, judgment: Any) -> Any:
        self._append(sample, judgment)
        self._run.finish()
        return judgment

    def _append(self, sample: Sample | None, judgment: Any) -> None:
        if sample is not None:
            self._run.append("samples", sample.to_dict())
        self._run.append("judgments", judgment.to_dict())

    def _not_judged(self, row: Row) -> Any:
        if self._scaled is not None:
            return ScaledJudgment(row.where, self._scaled.strategy, None, error=row.error)
        return self._judge.not_judged(row.where, row.error)


def with_disrm(scaling: ScalingOptions, model: str) -> ScalingOptions:
    """With nano's own reward model where nano is to rank rubrics by meta-reward and none was named."""
    if scaling.strategy == "meta" and scaling.disrm is None and model == "nano":
        return replace(scaling, disrm="nano")
    return scaling
