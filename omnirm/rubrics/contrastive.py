"""Rubrics from a known preference, kept only where judging by them leads back to it (the scheme of OpenRubrics).

For building training data and rubric libraries. These rubrics have seen the label: a judgment under them on the same
sample is no evidence of a judge's accuracy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from omnirm.backends.base import Backend
from omnirm.judgment import Judgment
from omnirm.prompts.rubric_making import Contrast
from omnirm.rubrics.base import RubricSet
from omnirm.rubrics.distinct import Dropped
from omnirm.rubrics.rounds import Asker, check_count
from omnirm.rubrics.under import calls_of, check_judge, judge_under
from omnirm.sample import Sample
from omnirm.types import ParseFailure, Rubric

if TYPE_CHECKING:
    from omnirm.judge import Judge

_KIND = re.compile(r"\s*[(\[]\s*(?:hard\s+)?(rule|principle)s?\s*[)\]]", re.IGNORECASE)
_SOURCES = {"rule": "hard_rule", "principle": "principle"}


class ContrastivePlanner:
    """Hard rules and principles that the preferred response of a pair meets better, each tried out by a judge.

    A rubric is kept where the judge, shown the pair without its label and under this rubric alone, gives the label;
    a tie, another verdict or none at all does not do. `source` is `hard_rule` (a demand of the prompt, kept or
    broken) or `principle` (a quality beyond that).

    Args:
        backend: writes the rubrics.
        judge: tries them out; may use the same backend. It must not have rubrics of its own.
        count: how many to ask for, 1 to 100.
        seed, temperature, max_new_tokens: see `omnirm.rubrics.rounds.Asker`; the judge has its own.

    Raises:
        ConfigError: a setting outside its range, or a judge with rubrics of its own.
    """

    name = "contrastive"

    def __init__(
        self,
        backend: Backend,
        judge: Judge,
        *,
        count: int = 10,
        seed: int = 0,
        temperature: float = 0.0,
        max_new_tokens: int | None = None,
    ) -> None:
        check_count(count)
        check_judge(judge)
        self.judge, self.count = judge, count
        self._asker = Asker(backend, seed, temperature, max_new_tokens)

    def plan(self, samples: Sequence[Sample]) -> list[RubricSet]:
        """The rubrics for each sample, in order: one batch writes them, one tries them all.

        A sample that is no pair, or has no label or a tie, is a failure of reason `unsuitable`.

        Raises:
            BackendError: a backend as a whole failed.
        """
        jobs = [(sample, {"count": self.count}) for sample in samples]
        proposed = self._asker.propose(Contrast(), "contrast", jobs, read=_with_kind)
        tried = [(s, rubric) for s, new in zip(samples, proposed, strict=True) for rubric in new.rubrics]
        judgments = iter(judge_under(self.judge, tried))
        return [_kept(new, [next(judgments) for _ in new.rubrics]) for new in proposed]


def _with_kind(rubric: Rubric) -> Rubric:
    kind = _KIND.search(rubric.name)
    source = _SOURCES[kind[1].lower()] if kind else "principle"
    name = _KIND.sub("", rubric.name).strip() or rubric.name
    return replace(rubric, name=name, source=source)


def _kept(new: RubricSet, judgments: Sequence[Judgment]) -> RubricSet:
    kept: list[Rubric] = []
    dropped: list[Dropped] = []
    for rubric, judgment in zip(new.rubrics, judgments, strict=True):
        if judgment.correct:
            kept.append(rubric)
        else:
            dropped.append((rubric, _why(judgment)))
    failure = new.failure
    if new.rubrics and not kept:
        failure = ParseFailure("missing", f"none of {len(new.rubrics)} rubrics leads back to the label")
    calls = (*new.calls, *(call for judgment in judgments for call in calls_of(judgment)))
    return RubricSet(tuple(kept), (*new.dropped, *dropped), failure, calls)


def _why(judgment: Judgment) -> str:
    if judgment.verdict is None:
        return "could not be judged by: " + "; ".join(judgment.reasons)
    return f"judging by it gives {judgment.verdict}, the label is {judgment.label}"
