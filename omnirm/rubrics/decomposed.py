"""Another planner's rubrics split into single checks and filtered (the scheme of RRD, recursive rubric decomposition).

Coarse rubrics become checks; those that repeat, mislead, or go along with another are dropped; and the checks of one
rubric share its weight, so that one idea is not counted twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from omnirm.backends.base import Backend
from omnirm.judgment import CallRecord, Judgment
from omnirm.parsing.rubric_lines import normalised
from omnirm.prompts.rubric_making import Decomposition
from omnirm.rubrics.base import Planner, RubricSet
from omnirm.rubrics.distinct import Dropped, agreement_groups, distinct
from omnirm.rubrics.rounds import Asker, check_count
from omnirm.rubrics.under import calls_of, check_judge, judge_under
from omnirm.sample import Sample
from omnirm.types import Letter, ParseFailure, Rubric

if TYPE_CHECKING:
    from omnirm.judge import Judge


@dataclass(frozen=True, slots=True)
class _Split:
    """What became of one sample's rubrics: checks with the index of the rubric each comes from, and with verdicts."""

    checks: tuple[Rubric, ...]
    parents: tuple[int, ...]
    weights: tuple[float, ...]  # of the rubrics split, by index
    verdicts: tuple[Letter | None, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    calls: tuple[CallRecord, ...] = ()


class DecomposedPlanner:
    """Wraps a planner: split, drop what repeats, judge under each check alone, drop what misleads or is correlated.

    1. Every rubric is split into at most `parts` checks; one that is a single check already, or whose splitting
       fails, stays whole.
    2. Redundant: a check that shares name or text with one before it.
    3. Misaligned: a check under which the judge says the opposite of the reference. That is the letter with the larger
       weight among the sample's own checks (none where both weigh the same), or, with `labels`, the sample's label. A
       tie and an unreadable judgment are not the opposite.
    4. Correlated: checks of one name, whatever their sample, are one row of verdicts over all samples of the call;
       of those that always agree (`omnirm.rubrics.distinct.agreement_groups`) a sample keeps its first. That needs
       samples whose checks have names in common; a pair alone says nothing about correlation.
    5. Weight of a check = weight of its rubric / number of that rubric's checks that are kept.

    Args:
        planner: proposes the rubrics.
        backend: splits them.
        judge: judges under each check; it must not have rubrics of its own. A sample that is no pair is not filtered.
        parts: into how many checks a rubric may be split, 1 to 100.
        labels: measure alignment by the label where a sample has one. For building training data only: rubrics that
            were filtered by the label give away the answer.
        seed, temperature, max_new_tokens: of the splitting, see `omnirm.rubrics.rounds.Asker`.

    Raises:
        ConfigError: a setting outside its range, or a judge with rubrics of its own.
    """

    def __init__(
        self,
        planner: Planner,
        backend: Backend,
        judge: Judge,
        *,
        parts: int = 4,
        labels: bool = False,
        seed: int = 0,
        temperature: float = 0.0,
        max_new_tokens: int | None = None,
    ) -> None:
        check_count(parts)
        check_judge(judge)
        self.name = f"decomposed {planner.name}"
        self.planner, self.judge, self.parts, self.labels = planner, judge, parts, labels
        self._asker = Asker(backend, seed, temperature, max_new_tokens)

    def plan(self, samples: Sequence[Sample]) -> list[RubricSet]:
        """The checks for each sample, in order: the planner's own batches, one to split and one to judge.

        Raises:
            BackendError: a backend as a whole failed.
        """
        planned = self.planner.plan(samples)
        splits = self._split(samples, planned)
        jobs = [(sample, check) for sample, split in zip(samples, splits, strict=True) for check in split.checks]
        judgments = iter(judge_under(self.judge, jobs))
        splits = [_judged(split, [next(judgments) for _ in split.checks]) for split in splits]
        group = _groups(splits)
        return [
            self._filtered(sample, old, split, group)
            for sample, old, split in zip(samples, planned, splits, strict=True)
        ]

    def _split(self, samples: Sequence[Sample], planned: Sequence[RubricSet]) -> list[_Split]:
        jobs = [
            (sample, {"rubric": rubric, "count": self.parts})
            for sample, old in zip(samples, planned, strict=True)
            for rubric in old.rubrics
        ]
        parts = iter(self._asker.propose(Decomposition(), "decompose", jobs))
        splits = []
        for old in planned:
            replies = [next(parts) for _ in old.rubrics]
            made = [
                (check, i)
                for i, (rubric, reply) in enumerate(zip(old.rubrics, replies, strict=True))
                for check in _checks(rubric, reply)
            ]
            kept, repeated = distinct(check for check, _ in made)
            parent: dict[int, int] = {}
            for check, i in made:
                parent.setdefault(id(check), i)
            splits.append(
                _Split(
                    checks=kept,
                    parents=tuple(parent[id(check)] for check in kept),
                    weights=tuple(rubric.weight for rubric in old.rubrics),
                    dropped=(*(one for reply in replies for one in reply.dropped), *repeated),
                    calls=tuple(call for reply in replies for call in reply.calls),
                )
            )
        return splits

    def _filtered(self, sample: Sample, old: RubricSet, split: _Split, group: Mapping[str, int]) -> RubricSet:
        reference = _reference(sample, split, self.labels)
        kept: list[int] = []
        dropped: list[Dropped] = []
        first: dict[int, Rubric] = {}
        for i, check in enumerate(split.checks):
            own = group[_row(check)]
            if reference is not None and split.verdicts[i] == {"A": "B", "B": "A"}[reference]:
                dropped.append((check, f"judging by it gives {split.verdicts[i]}, against {reference}"))
            elif own in first:
                dropped.append((check, f"goes along with {first[own].name}"))
            else:
                first[own] = check
                kept.append(i)
        siblings = [split.parents[i] for i in kept]
        rubrics = tuple(
            replace(split.checks[i], weight=split.weights[split.parents[i]] / siblings.count(split.parents[i]))
            for i in kept
        )
        failure = old.failure
        if split.checks and not any(rubric.weight for rubric in rubrics):
            rubrics, failure = (), ParseFailure("missing", f"none of {len(split.checks)} checks is left with a weight")
        return RubricSet(rubrics, (*old.dropped, *split.dropped, *dropped), failure, (*old.calls, *split.calls))


def _checks(rubric: Rubric, reply: RubricSet) -> list[Rubric]:
    if len(reply.rubrics) < 2:
        return [rubric]
    return [replace(check, source="decomposed") for check in reply.rubrics]


def _judged(split: _Split, judgments: Sequence[Judgment]) -> _Split:
    calls = (*split.calls, *(call for judgment in judgments for call in calls_of(judgment)))
    return replace(split, verdicts=tuple(judgment.verdict for judgment in judgments), calls=calls)


def _groups(splits: Sequence[_Split]) -> dict[str, int]:
    """The group of each name: checks of one name are one row, a column a sample."""
    names: dict[str, list[Letter | None]] = {}
    for s, split in enumerate(splits):
        for check, verdict in zip(split.checks, split.verdicts, strict=True):
            names.setdefault(_row(check), [None] * len(splits))[s] = verdict
    groups = agreement_groups(list(names.values()))
    keys = list(names)
    return {keys[i]: g for g, group in enumerate(groups) for i in group}


def _row(check: Rubric) -> str:
    return normalised(check.name) or normalised(check.text)


def _reference(sample: Sample, split: _Split, labels: bool) -> Letter | None:
    """The letter that a check must not contradict; None where there is none."""
    if labels and sample.label is not None:
        return None if sample.label == "tie" else ("A", "B")[sample.label]
    shares = {"A": 0.0, "B": 0.0}
    for verdict, parent in zip(split.verdicts, split.parents, strict=True):
        if verdict in shares:
            shares[verdict] += split.weights[parent] / split.parents.count(parent)
    if math.isclose(shares["A"], shares["B"], rel_tol=1e-9):
        return None
    return "A" if shares["A"] > shares["B"] else "B"
