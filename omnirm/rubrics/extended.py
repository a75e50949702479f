"""Rubrics in rounds: a few, then more that do not overlap with those there are. For large numbers and for synthesis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from omnirm.backends.base import Backend
from omnirm.errors import ConfigError
from omnirm.prompts.rubric_steps import Planning
from omnirm.rubrics.base import RubricSet
from omnirm.rubrics.rounds import Asker, check_count
from omnirm.sample import Sample
from omnirm.types import Rubric


class ExtendedPlanner:
    """k rubrics first, then up to n more a round (GRM-Omni: k = 3, n = 7), until there are `count`.

    The model is shown what is there and asked for criteria that overlap with none of it. Whether they do is checked
    by words (`omnirm.rubrics.distinct`), not believed. A sample is asked again as long as rounds are left and another
    answer can come: at temperature 0 a round that adds nothing is its last, since it would be asked the same again.

    Args:
        backend: answers requests.
        count: how many rubrics in the end, 1 to 100.
        first: k, how many to ask for in the first round.
        more: n, how many to ask for in each further round.
        rounds: how many rounds at most, the first included.
        seed, temperature, max_new_tokens: see `omnirm.rubrics.rounds.Asker`.

    Raises:
        ConfigError: a setting outside its range.
    """

    name = "extended"

    def __init__(
        self,
        backend: Backend,
        *,
        count: int = 10,
        first: int = 3,
        more: int = 7,
        rounds: int = 10,
        seed: int = 0,
        temperature: float = 0.0,
        max_new_tokens: int | None = None,
    ) -> None:
        for number in (count, first, more):
            check_count(number)
        if rounds < 1:
            raise ConfigError(f"rounds {rounds}: give at least 1")
        self.count, self.first, self.more, self.rounds = count, first, more, rounds
        self._asker = Asker(backend, seed, temperature, max_new_tokens)

    def plan(self, samples: Sequence[Sample]) -> list[RubricSet]:
        """The rubrics for each sample, in order; every round is one batch over the samples that still need one.

        Raises:
            BackendError: the backend as a whole failed.
        """
        sets = [RubricSet() for _ in samples]
        open_ = list(range(len(samples)))
        for round_ in range(self.rounds):
            size = self.more if round_ else self.first
            wanted = [min(size, self.count - len(sets[i].rubrics)) for i in open_]
            added = self._round([(samples[i], sets[i].rubrics, n) for i, n in zip(open_, wanted, strict=True)], round_)
            still = []
            for i, new in zip(open_, added, strict=True):
                sets[i] = _joined(sets[i], new)
                again = bool(new.rubrics) or (self._asker.temperature > 0 and bool(new.calls))
                if again and len(sets[i].rubrics) < self.count:
                    still.append(i)
            open_ = still
            if not open_:
                break
        return sets

    def extend(self, samples: Sequence[Sample], existing: Sequence[Sequence[Rubric]]) -> list[RubricSet]:
        """One round of up to n further rubrics beside those given; only the new ones are in the answer.

        Args:
            samples: any number.
            existing: [S] the rubrics of each sample.

        Raises:
            ConfigError: another number of lists than of samples.
            BackendError: the backend as a whole failed.
        """
        if len(existing) != len(samples):
            raise ConfigError(f"{len(existing)} lists of rubrics for {len(samples)} samples: give one a sample")
        jobs = [(sample, tuple(given), self.more) for sample, given in zip(samples, existing, strict=True)]
        return self._round(jobs, 1)

    def _round(self, jobs: Sequence[tuple[Sample, tuple[Rubric, ...], int]], round_: int) -> list[RubricSet]:
        options = [(sample, {"count": count, "rubrics": existing}) for sample, existing, count in jobs]
        return self._asker.propose(Planning(), f"planning {round_}", options)


def _joined(old: RubricSet, new: RubricSet) -> RubricSet:
    rubrics = old.rubrics + new.rubrics
    return replace(
        old,
        rubrics=rubrics,
        dropped=old.dropped + new.dropped,
        failure=None if rubrics else new.failure,
        calls=old.calls + new.calls,
    )
