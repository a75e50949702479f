"""What a judge job is, and what is done for it: one pair or response (`judge`), or all pairs of a vote set
(`judge-set`). For the job service, which calls the handlers, and for everybody who submits a task.

Every job is a run in its own folder, so one that was interrupted repeats no call that had finished. Models and media
are the server's: a task names models that are offered, and media that those may read.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from omnirm.app import service
from omnirm.app.jobs.jobs import JobContext
from omnirm.app.jobs.judge_run import JudgeRun, with_disrm
from omnirm.app.jobs.tracking import Rates
from omnirm.app.scaling import ScalingOptions, check
from omnirm.app.service import JudgeOptions, Row
from omnirm.errors import ConfigError, SampleError
from omnirm.records import from_plain, to_plain
from omnirm.sample import Sample

if TYPE_CHECKING:
    from omnirm.app.models import Models
    from omnirm.app.store.store import Store, StoredJudgment, VotePair
    from omnirm.preprocessing.types import Policy

T = TypeVar("T")
_MOST_PROBLEMS = 20  # that a result names


@dataclass(frozen=True, slots=True)
class JudgeTask:
    """One judgment that somebody wants. JSON-ready: `from_dict(task.to_dict()) == task`.

    Attributes:
        sample: `Sample.to_dict` of it, with media as absolute paths in the media store.
        mode: `compare` two candidates, or `score` each of any number on its own.
        model: one that is offered.
        judging, scaling: how; None is one judgment without a strategy. `scaling.disrm` and `scaling.refiner` name
            models that are offered; its run folder is the job's own.
        method: of `score`.
        title: for people.

    Raises:
        SampleError: the sample is none.
        ConfigError: settings that cannot be, or contradict each other.
    """

    sample: dict[str, Any]
    mode: Literal["compare", "score"] = "compare"
    model: str = "nano"
    judging: JudgeOptions = field(default_factory=JudgeOptions)
    scaling: ScalingOptions | None = None
    method: Literal["rubric", "p-yes"] = "rubric"
    title: str = ""

    def __post_init__(self) -> None:
        sample = Sample.from_dict(self.sample)
        if self.mode == "compare" and len(sample.candidates) != 2:
            raise ConfigError(f"comparing takes two candidates and there are {len(sample.candidates)}: score them")
        if self.mode == "score" and self.scaling is not None:
            raise ConfigError(f"strategy {self.scaling.strategy} is for pairs: leave it out, or compare two candidates")
        check_options(self.model, self.judging, self.scaling)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return to_plain(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> JudgeTask:
        """The task from what `to_dict` gave. Raises `ConfigError` for anything else, and as the class does."""
        return _from_plain(cls, data)


@dataclass(frozen=True, slots=True)
class JudgeSetTask:
    """All pairs of a vote set (`set`: its id), judged alike; see `JudgeTask`."""

    set: str
    model: str = "nano"
    judging: JudgeOptions = field(default_factory=JudgeOptions)
    scaling: ScalingOptions | None = None

    def __post_init__(self) -> None:
        check_options(self.model, self.judging, self.scaling)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return to_plain(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> JudgeSetTask:
        """The task from what `to_dict` gave. Raises `ConfigError` for anything else, and as the class does."""
        return _from_plain(cls, data)


def check_options(model: str, judging: JudgeOptions, scaling: ScalingOptions | None) -> None:
    """Raises `ConfigError` for settings outside their ranges, or that contradict each other; loads no model."""
    service.make_judge(_NONE, judging)
    if scaling is None:
        return
    if scaling.run is not None:
        raise ConfigError("scaling.run: a job has a run folder of its own; leave it out")
    if judging.rubrics is not None and scaling.strategy != "single":
        raise ConfigError("judging.rubrics: a strategy takes rubrics by hand in scaling.given; put them there")
    if not 1 <= scaling.rubrics <= 100:
        raise ConfigError(f"rubrics {scaling.rubrics}: ask for 1 to 100")
    check(with_disrm(scaling, model), judging)


class JudgeHandler:
    """Does the jobs of the kind `judge`: their spec is a `JudgeTask`, their result `{"judgment": id}`.

    Args:
        models: those that are offered.
        store: takes the judgment.
        media_policy: which media a task may name; None: those that its model may read.
        chunk: calls between two looks at whether the job was cancelled; up to twice as many where they begin alike.
        keep_runs: leave the run folder of a job that is done; all that is in it is in the stored judgment too.
    """

    def __init__(
        self, models: Models, store: Store, media_policy: Policy | None = None, *, chunk: int = 4,
        keep_runs: bool = True,
    ) -> None:  # fmt: skip
        self._models, self._store, self._policy, self._chunk = models, store, media_policy, chunk
        self._keep_runs = keep_runs
        self._rates = Rates()

    def __call__(self, context: JobContext) -> dict[str, Any]:
        """Judges.

        Raises:
            Cancelled: the job is to stop.
            ConfigError, SampleError, CapabilityError: a task that cannot be done, with what to do.
            MediaError: a medium is not there, or may not be read.
            BackendError, MissingExtra: a model cannot be loaded, or cannot answer.
        """
        task = JudgeTask.from_dict(context.spec)
        for stored in _stored(self._store, context.job_id):  # the process ended between the two last writes
            return {"judgment": stored.id}
        sample = Sample.from_dict(task.sample)
        _check_media(sample, self._policy or self._models.policy(task.model))
        with JudgeRun(context, self._models, self._rates, task.model, task.judging, task.scaling, self._chunk) as run:
            judgment = run.score(sample, task.method) if task.mode == "score" else run.compare(sample)
        context.check()
        record, made = judgment.to_dict(), task.to_dict()
        id = self._store.add_judgment(record, task.sample, title=task.title, job=context.job_id, task=made)
        if not self._keep_runs:
            shutil.rmtree(context.folder, ignore_errors=True)
        return {"judgment": id}


class JudgeSetHandler:
    """Does the jobs of the kind `judge-set`: their spec is a `JudgeSetTask`.

    Every pair's judgment is stored, and its verdict noted in the set, as soon as it is there. A pair that cannot be
    judged loses only itself. The result: `set`, `pairs`, `judged`, `failed`, `problems` (the first of them, in words).
    """

    def __init__(self, models: Models, store: Store, media_policy: Policy | None = None, *, chunk: int = 4) -> None:
        self._models, self._store, self._chunk = models, store, chunk
        self._rates = Rates()

    def __call__(self, context: JobContext) -> dict[str, Any]:
        """Judges all pairs. Raises as `JudgeHandler`, not for a single pair."""
        task = JudgeSetTask.from_dict(context.spec)
        chosen = self._store.vote_set(task.set)
        if chosen is None:
            raise ConfigError(f"vote set {task.set!r}: there is none of that id")
        pairs = self._store.pairs(task.set)
        known = {one.title: one for one in reversed(list(_stored(self._store, context.job_id)))}
        judged, problems = 0, list[str]()
        with JudgeRun(context, self._models, self._rates, task.model, task.judging, task.scaling, self._chunk) as run:
            for row, judgment in run.compare_all([_row(pair) for pair in pairs]):
                if judgment.verdict is None:
                    problems.append(f"{row.where}: {'; '.join(judgment.reasons) or 'no verdict'}")
                judged += judgment.verdict is not None
                record = judgment.to_dict()
                title = f"{chosen.name}: {row.where}"
                before = known.get(title)
                if before is not None and before.record == record:
                    id = before.id
                else:
                    id = self._kept(title, row, record, context.job_id, task)
                self._store.set_verdict(task.set, row.where, judgment.verdict, probability_a(record), id)
        return {
            "set": task.set, "pairs": len(pairs), "judged": judged, "failed": len(pairs) - judged,
            "problems": problems[:_MOST_PROBLEMS],
        }  # fmt: skip

    def _kept(self, title: str, row: Row, record: dict[str, Any], job: str, task: JudgeSetTask) -> str:
        """Stores a judgment and gives its id; "" for a pair that is no sample."""
        if row.sample is None:
            return ""
        sample = row.sample.to_dict()
        made: dict[str, Any] = {}  # what cannot be a task (three candidates) has none
        if len(row.sample.candidates) == 2:
            made = JudgeTask(sample, "compare", task.model, task.judging, task.scaling, title=title).to_dict()
        return self._store.add_judgment(record, sample, title=title, job=job, task=made)


def probability_a(record: Mapping[str, Any]) -> float | None:
    """How probable it is, by a judgment's record, that A is better, in [0, 1]; None where it says nothing."""
    if record["verdict"] is None:
        return None
    if record.get("probability_a") is not None:
        return float(record["probability_a"])
    confidence = record.get("confidence")
    if record["verdict"] == "tie" or confidence is None:
        return 0.5 if record["verdict"] == "tie" else None
    return float(confidence if record["verdict"] == "A" else 1 - confidence)


def _row(pair: VotePair) -> Row:
    try:
        return Row(pair.pair_id, Sample.from_dict({**pair.sample, "id": pair.pair_id}))
    except SampleError as e:
        return Row(pair.pair_id, error=str(e))


def _stored(store: Store, job: str) -> Iterator[StoredJudgment]:
    """The judgments that a job has stored already, newest first."""
    row = store.job(job)
    offset = 0
    while row is not None and (page := store.judgments(limit=100, offset=offset)):
        yield from (one for one in page if one.job == job)
        if page[-1].created < row.created:
            return
        offset += len(page)


def _check_media(sample: Sample, policy: Policy) -> None:
    """Raises `MediaError` for a medium that is not there or may not be read, before a model is loaded for it."""
    from omnirm.preprocessing.source import open_source

    for parts in (*(turn.parts for turn in sample.prompt), *(one.parts for one in sample.candidates)):
        for part in parts:
            if part.type != "text":
                for value in part.value if isinstance(part.value, list | tuple) else [part.value]:
                    open_source(value, policy)


def _from_plain(kind: type[T], data: Mapping[str, Any]) -> T:
    try:
        return from_plain(kind, data)
    except SampleError as e:
        if not str(e).startswith(kind.__name__):  # about the sample in it
            raise
        raise ConfigError(f"this job was written by another version of omnirm, or by hand: {e}; submit it anew") from e


_NONE: Any = None  # a judge checks its settings when it is made, and asks its model nothing before it judges
