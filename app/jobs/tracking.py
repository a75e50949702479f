"""How far a judgment is, told while it is made: the step, the rubric under judgment, calls, tokens and the time left.

For judge jobs. A tracker counts; what `omnirm.app.jobs.watched` puts around the models, the judge and the planner
tells it what happens. It knows no store, no task and no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from omnirm.app.jobs.jobs import JobContext, Progress
from omnirm.types import Rubric

LOADING, PLANNING, SELECTING, JUDGING, REFINING, SCORING = STEPS = (
    "loading the model", "planning rubrics", "selecting rubrics", "judging", "refining", "scoring",
)  # fmt: skip
_NEW = 0.3  # weight of the newest part in the seconds of a call
_MOST_NAMED = 4  # names in a detail
_LONGEST_NAME = 80  # characters of a name in a detail


@dataclass(slots=True)
class Rates:
    """Seconds that a call took lately, by model and step; shared by the jobs of a handler."""

    _seconds: dict[tuple[str, str], float] = field(default_factory=dict)

    def add(self, model: str, step: str, seconds: float) -> None:
        """Counts one more observation."""
        before = self._seconds.get((model, step), seconds)
        self._seconds[model, step] = before + _NEW * (seconds - before)

    def left(self, model: str, calls: Mapping[str, int]) -> float | None:
        """Seconds that calls will probably take, by step; None where this model was never seen at work.

        A step that was never seen is taken to be as slow as the others on average.
        """
        known = {step: seconds for (name, step), seconds in list(self._seconds.items()) if name == model}
        if not known:
            return None
        average = sum(known.values()) / len(known)
        return sum(count * known.get(step, average) for step, count in calls.items())


@dataclass(frozen=True, slots=True)
class Label:
    """What a call is about: `rubric` 3 of 10 and its name, or only a name (`of` is 0 then)."""

    noun: str
    place: int = 0
    of: int = 0
    name: str = ""


def together(labels: Sequence[Label]) -> str:
    """What calls that are made together are about: `rubric 3 of 10: Tone`, `rubrics 3-5 of 10: Tone, Length, Facts`."""
    labels = list(dict.fromkeys(labels))
    if not labels:
        return ""
    names = [one.name for one in labels if one.name]
    said = ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")
    if not labels[0].of:
        return said
    first, last, of = min(one.place for one in labels), max(one.place for one in labels), labels[0].of
    place = f"{labels[0].noun} {first}" if first == last else f"{labels[0].noun}s {first}-{last}"
    return f"{place} of {of}" + (f": {said}" if said else "")


class Tracker:
    """The progress of one job.

    Args:
        context: told at every change, and asked between parts of the calls whether to stop.
        rates: how long calls take.
        model: name of the model, for the rates.

    Attributes:
        per: calls that one judgment takes, by step, as far as is known before it begins.
    """

    def __init__(self, context: JobContext, rates: Rates, model: str) -> None:
        self.per: dict[str, int] = {}
        self._context, self._rates, self._model = context, rates, model
        self._step = self._where = self._detail = ""
        self._labels: Sequence[Label] = ()
        self._names: dict[str, tuple[str, ...]] = {}  # of planned rubrics, by sample
        self._left: dict[str, int] = {}  # calls of the judgments under way, by step, those of `_within` included
        self._later = 0  # judgments behind them
        self._counted = (0, 0, 0)  # calls, prompt tokens, completion tokens of batches that are over
        self._within = (0, 0, 0)  # likewise, of the batch under way

    @property
    def step(self) -> str:
        """The present one."""
        return self._step

    def begin(self, where: str = "", *, now: int = 1, later: int = 0) -> None:
        """The next judgments begin: `now` of them together (`where` says which), `later` behind them.

        Raises:
            Cancelled: the job is to stop.
        """
        self._where, self._later = where, later
        self._left = {step: calls * now for step, calls in self.per.items()}
        self._names, self._labels = {}, ()
        self._context.check()

    def enter(self, step: str, calls: int | None = None) -> None:
        """A step begins; those before it are over. calls: that it will take, where that is known better now."""
        for one in STEPS[: STEPS.index(step)]:
            self._left.pop(one, None)
        if calls is not None:
            self._left[step] = calls
        self._step, self._detail = step, ""
        self.tell()

    def planned(self, rubrics: Mapping[str, Sequence[Rubric]]) -> int:
        """The rubrics are known, by sample; returns how many there are."""
        self._names = {id: tuple(one.name for one in found) for id, found in rubrics.items()}
        return sum(map(len, self._names.values()))

    def expect(self, step: str, calls: int) -> None:
        """So many calls a later step will take."""
        self._left[step] = calls

    def label(self, sample_id: str, rubrics: Sequence[Rubric]) -> Label:
        """What is judged under these rubrics, with the place among the planned ones."""
        planned, name = self._names.get(sample_id, ()), " + ".join(one.name for one in rubrics)
        shown = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
        if name in planned:
            return Label("rubric", planned.index(name) + 1, len(planned), shown)
        return Label("rubric", name=shown)

    @contextmanager
    def labelled(self, labels: Sequence[Label]) -> Iterator[None]:
        """What the calls made inside are about: each label is of an equal share of a batch, in order."""
        self._labels = labels
        try:
            yield
        finally:
            self._labels = ()

    # -- batches of calls

    def batch(self, calls: int) -> None:
        """The present step makes so many calls."""
        self._left[self._step] = max(self._left.get(self._step, 0), calls)
        self._within = (0, 0, 0)

    def part(self, first: int, last: int, calls: int) -> None:
        """Calls `first` to `last` of the batch of `calls` are next; all before them are over.

        Raises:
            Cancelled: the job is to stop.
        """
        self._within = (first, *self._within[1:])
        shares = len(self._labels)
        self._detail = together([self._labels[i * shares // calls] for i in range(first, last + 1)] if shares else ())
        self.tell()
        self._context.check()

    def answered(self, last: int, seconds_per_call: float, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        """All up to `last` is answered; the tokens are those of this part."""
        self._rates.add(self._model, self._step, seconds_per_call)
        _, prompt, completion = self._within
        self._within = (last + 1, prompt + prompt_tokens, completion + completion_tokens)
        self.tell()

    def batched(self, calls: int, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        """The batch is over. The tokens are those of all its calls, made now or in an earlier life of the job."""
        before = self._counted
        self._counted = (before[0] + calls, before[1] + prompt_tokens, before[2] + completion_tokens)
        self._within = (0, 0, 0)
        self._left[self._step] = max(0, self._left.get(self._step, 0) - calls)
        self.tell()

    def tell(self) -> None:
        """Reports."""
        left = {
            step: self._left.get(step, 0) + self._later * self.per.get(step, 0) for step in {*self._left, *self.per}
        }
        left[self._step] = max(0, left.get(self._step, 0) - self._within[0])
        done, prompt, completion = (a + b for a, b in zip(self._counted, self._within, strict=True))
        detail = ": ".join(filter(None, (self._where, self._detail)))
        eta = None if self._step == LOADING else self._rates.left(self._model, left)
        self._context.report(Progress(self._step, done, done + sum(left.values()), detail, prompt, completion, eta))
