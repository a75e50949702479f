"""Which of many rubrics should decide: asked of a model, or as the planner put them. Judges nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from omnirm.backends.base import Backend
from omnirm.errors import ConfigError
from omnirm.judgment import CallRecord
from omnirm.prompts.rubric_steps import SelectionFormat
from omnirm.rubrics.rounds import Asker, check_count
from omnirm.sample import Sample
from omnirm.types import ParseFailure, Rubric


@dataclass(frozen=True, slots=True)
class Selected:
    """The rubrics picked for one sample, as indices into its list, the most critical first.

    failure: why there are fewer than were wanted; those picked before it happened are in `indices`.
    """

    indices: tuple[int, ...] = ()
    failure: ParseFailure | None = None
    calls: tuple[CallRecord, ...] = ()


def select(
    backend: Backend,
    samples: Sequence[Sample],
    rubric_lists: Sequence[Sequence[Rubric]],
    *,
    count: int = 1,
    seed: int = 0,
    temperature: float = 0.0,
    max_new_tokens: int | None = None,
) -> list[Selected]:
    """Asks a model for the most critical rubrics, one at a time: each round shows those that are not picked yet.

    A sample with no more than `count` rubrics gets all of them, still in the order of the answers; the last one left
    is never asked for.

    Args:
        backend: answers requests, one batch a round for all samples.
        samples: any number.
        rubric_lists: [S] the rubrics of each sample.
        count: how many to pick, 1 to 100.
        seed, temperature, max_new_tokens: see `omnirm.rubrics.rounds.Asker`.

    Returns:
        One for each sample, in order.

    Raises:
        ConfigError: a setting outside its range, or another number of lists than of samples.
        BackendError: the backend as a whole failed.
    """
    _check(samples, rubric_lists, count)
    asker = Asker(backend, seed, temperature, max_new_tokens)
    done = [_start(rubrics) for rubrics in rubric_lists]
    left = [list(range(len(rubrics))) for rubrics in rubric_lists]
    for round_ in range(count):
        asked = []
        for i, rest in enumerate(left):
            if done[i].failure is not None:
                continue
            if len(rest) == 1:
                done[i] = replace(done[i], indices=(*done[i].indices, rest.pop()))
            elif rest:
                asked.append(i)
        jobs = [(samples[i], {"rubrics": [rubric_lists[i][k] for k in left[i]]}) for i in asked]
        for i, reply in zip(asked, asker.ask(SelectionFormat(), f"selection {round_}", jobs), strict=True):
            done[i] = replace(done[i], calls=done[i].calls + reply.calls)
            if isinstance(reply.value, ParseFailure):
                done[i] = replace(done[i], failure=reply.value)
            else:
                done[i] = replace(done[i], indices=(*done[i].indices, left[i].pop(reply.value.index)))
    return done


def as_planned(rubric_lists: Sequence[Sequence[Rubric]], *, count: int = 1) -> list[Selected]:
    """Selection in one pass with planning: planners are asked to put first what matters most, so the first `count`.

    Raises:
        ConfigError: a count outside 1 to 100.
    """
    check_count(count)
    return [replace(_start(rubrics), indices=tuple(range(len(rubrics)))[:count]) for rubrics in rubric_lists]


def _start(rubrics: Sequence[Rubric]) -> Selected:
    return Selected() if rubrics else Selected(failure=ParseFailure("missing", "no rubrics to select from"))


def _check(samples: Sequence[Sample], rubric_lists: Sequence[Sequence[Rubric]], count: int) -> None:
    check_count(count)
    if len(rubric_lists) != len(samples):
        raise ConfigError(f"{len(rubric_lists)} lists of rubrics for {len(samples)} samples: give one a sample")
