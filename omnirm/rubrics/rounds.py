"""One round of questions to a model about many samples, in one batch; what is wrong with one sample loses no other.

For the planners and the selection. Knows formats only as something that renders and parses, and no judgment.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omnirm.asking import Plan, Question, ask, call_seed
from omnirm.backends.base import Backend
from omnirm.errors import ConfigError, SampleError
from omnirm.judgment import CallRecord
from omnirm.parsing.rubric_lines import parse_rubric_lines
from omnirm.reading import backend_failure, without_text
from omnirm.rubrics.base import RubricSet
from omnirm.rubrics.distinct import Dropped, distinct
from omnirm.sample import Sample
from omnirm.types import ParseFailure, Rubric

Job = tuple[Sample, Mapping[str, Any]]  # a sample, and the options of the format for it
_NAMES_ONE = re.compile(r"\b[Rr]esponse [AB]\b|\b(?:preferred|rejected) (?:response|answer)\b")


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one job: the parsed value or why there is none, the whole text, and the call (none if never
    made)."""

    value: Any
    text: str = ""
    calls: tuple[CallRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class Asker:
    """A backend and how it is asked.

    Attributes:
        seed: every call's own seed is derived from it, the sample's id and the name of the round.
        temperature: 0 or more.
        max_new_tokens: instead of the format's own limit.

    Raises:
        ConfigError: a setting outside its range.
    """

    backend: Backend
    seed: int = 0
    temperature: float = 0.0
    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ConfigError(f"temperature {self.temperature}: give 0 or more")
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens {self.max_new_tokens}: give at least 1")

    def ask(self, form: Any, what: str, jobs: Sequence[Job]) -> list[Reply]:
        """Asks every job in one batch and reads the answers, in order.

        Args:
            form: renders each job and reads its answer.
            what: name of the round, for the seeds: another name asks another time.
            jobs: a sample that cannot be rendered, or has a modality that the model cannot take, is not asked: its
                value is a `ParseFailure` of reason `unsuitable` or `capability`.

        Raises:
            BackendError: the backend as a whole failed.
        """
        plans = [self._plan(form, what, sample, options) for sample, options in jobs]
        asked: list[Plan] = [[] if isinstance(plan, ParseFailure) else [plan] for plan in plans]
        replies = []
        for plan, answers in zip(plans, ask(self.backend, asked), strict=True):
            if isinstance(plan, ParseFailure):
                replies.append(Reply(plan))
                continue
            (answer,) = answers
            text = plan.rendered.prefill + answer.completion.text
            value = backend_failure(answer.completion) or form.parse(
                plan.rendered, text, answer.completion.finish_reason
            )
            value = without_text(value) if isinstance(value, ParseFailure) else value
            replies.append(Reply(value, text, (answer.record,)))
        return replies

    def propose(
        self, form: Any, what: str, jobs: Sequence[Job], read: Callable[[Rubric], Rubric] = lambda rubric: rubric
    ) -> list[RubricSet]:
        """Asks for rubrics; those that repeat one another or one of the option `rubrics` are dropped, and so are
        those that name a response: letters change with the order in which a pair is shown.

        Args:
            form: answered in numbered lines, as the planning format is.
            what: see `ask`.
            jobs: see `ask`; each has the option `count`, and `rubrics` where some exist.
            read: what to make of each proposed rubric, before anything is compared.
        """
        sets = []
        for (_, options), reply in zip(jobs, self.ask(form, what, jobs), strict=True):
            failed = isinstance(reply.value, ParseFailure)
            if failed and reply.value.reason != "missing":  # missing: there are lines, though nothing new in them
                sets.append(RubricSet(failure=reply.value, calls=reply.calls))
                continue
            proposed = [read(rubric) for _, rubric in parse_rubric_lines(reply.text)]
            named: list[Dropped] = [(one, "names a response") for one in proposed if _names_one(one)]
            kept, repeated = distinct([one for one in proposed if not _names_one(one)], options.get("rubrics", ()))
            asked = options["count"]
            surplus: list[Dropped] = [(one, f"is more than the {asked} asked for") for one in kept[asked:]]
            failure = None if kept else ParseFailure("missing", "no new rubric in numbered lines")
            sets.append(RubricSet(kept[:asked], (*named, *repeated, *surplus), failure, reply.calls))
        return sets

    def _plan(self, form: Any, what: str, sample: Sample, options: Mapping[str, Any]) -> Question | ParseFailure:
        takes = self.backend.capabilities.modalities
        if missing := sorted(sample.modalities - takes):
            said = f"{self.backend.name} takes {', '.join(sorted(takes))}, not {', '.join(missing)}"
            return ParseFailure("capability", f"sample {sample.id}: {said}")
        try:
            rendered = form.render(sample, **options)
        except SampleError as error:
            return ParseFailure("unsuitable", str(error))
        limits = {} if self.max_new_tokens is None else {"max_new_tokens": self.max_new_tokens}
        seed = call_seed(self.seed, sample.id, what, 0)
        return Question(rendered, rendered.request(temperature=self.temperature, seed=seed, **limits), 0)


def check_count(count: int) -> None:
    """Raises `ConfigError` for a number of rubrics outside 1 to 100."""
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= 100:
        raise ConfigError(f"count {count!r}: ask for 1 to 100 rubrics")


def _names_one(rubric: Rubric) -> bool:
    return bool(_NAMES_ONE.search(f"{rubric.name}: {rubric.text}"))
