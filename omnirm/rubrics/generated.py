"""Rubrics that a model writes for a sample, all in one pass. The plainest planner; the others build on its prompt."""

from __future__ import annotations

from collections.abc import Sequence

from omnirm.backends.base import Backend
from omnirm.prompts.rubric_steps import Planning
from omnirm.rubrics.base import RubricSet
from omnirm.rubrics.rounds import Asker, check_count
from omnirm.sample import Sample


class GeneratedPlanner:
    """K rubrics from prompt and candidates, in one call a sample, what matters most first.

    Args:
        backend: answers requests.
        count: how many to ask for, 1 to 100; a model may give fewer.
        seed, temperature, max_new_tokens: see `omnirm.rubrics.rounds.Asker`.

    Raises:
        ConfigError: a setting outside its range.
    """

    name = "generated"

    def __init__(
        self,
        backend: Backend,
        *,
        count: int = 10,
        seed: int = 0,
        temperature: float = 0.0,
        max_new_tokens: int | None = None,
    ) -> None:
        check_count(count)
        self.count = count
        self._asker = Asker(backend, seed, temperature, max_new_tokens)

    def plan(self, samples: Sequence[Sample]) -> list[RubricSet]:
        """The rubrics for each sample, in order, asked for in one batch.

        Raises:
            BackendError: the backend as a whole failed.
        """
        return self._asker.propose(Planning(), "planning", [(sample, {"count": self.count}) for sample in samples])
