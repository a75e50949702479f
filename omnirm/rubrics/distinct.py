"""Which rubrics are one and the same: by their words, and by the verdicts they lead to. Pure; asks no model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from omnirm.errors import ConfigError
from omnirm.parsing.rubric_lines import normalised
from omnirm.types import Letter, Rubric

Dropped = tuple[Rubric, str]  # a rubric that is not kept, and why


def distinct(
    rubrics: Iterable[Rubric], existing: Iterable[Rubric] = ()
) -> tuple[tuple[Rubric, ...], tuple[Dropped, ...]]:
    """Keeps the first of every group of rubrics that share a name or a text.

    Case, punctuation, spacing and compatibility forms do not make a difference (`normalised`). Rubrics that say the
    same in other words stay: see `agreement_groups`.

    Args:
        rubrics: in the order of preference.
        existing: those that are there already; they are never part of the answer.

    Returns:
        Those kept, in order, and those dropped, each with the reason.
    """
    seen: dict[str, str] = {}
    for rubric in existing:
        for trait in _traits(rubric):
            seen.setdefault(trait, rubric.name)
    kept: list[Rubric] = []
    dropped: list[Dropped] = []
    for rubric in rubrics:
        traits = _traits(rubric)
        twins = [seen[trait] for trait in traits if trait in seen]
        if twins or not traits:
            dropped.append((rubric, f"repeats {twins[0]}" if twins else "has no word"))
            continue
        kept.append(rubric)
        seen.update(dict.fromkeys(traits, rubric.name))
    return tuple(kept), tuple(dropped)


def agreement_groups(
    verdicts: Sequence[Sequence[Letter | None]], *, threshold: float = 0.95, least: int = 8
) -> list[list[int]]:
    """Groups of rubrics under which the verdicts (nearly) always agree, so that one of each group is enough.

    agreement(i, k) = #{s : v_is = v_ks} / #{s : both v_is and v_ks were read}

    A rubric joins the first group with all of whose members it agrees on at least `threshold` of the samples that
    were judged under both, where these are at least `least`; else it opens a group. Few shared samples say nothing:
    two rubrics that know nothing of each other agree on one pair half of the time, on eight once in 256 times.

    Two rubrics that are nearly always *right* agree too, whatever they are about. Keep the threshold above what
    their accuracies alone explain, p_i p_k + (1 - p_i)(1 - p_k).

    Args:
        verdicts: [R][S], one row a rubric; None where nothing could be read or the rubric was not asked.
        threshold: share of agreement, in (0, 1].
        least: shared samples needed, at least 1.

    Returns:
        Every index 0..R-1 exactly once; groups and their members in order.

    Raises:
        ConfigError: rows of different lengths, a threshold or a number outside its range.
    """
    if not 0 < threshold <= 1:
        raise ConfigError(f"threshold {threshold}: it is a share of agreement; give more than 0 and at most 1")
    if least < 1:
        raise ConfigError(f"least {least}: give the number of shared samples that agreement needs, at least 1")
    if len({len(row) for row in verdicts}) > 1:
        raise ConfigError("verdicts of different lengths: give one row a rubric with one verdict or None a sample")

    def agree(i: int, k: int) -> bool:
        shared = [(a, b) for a, b in zip(verdicts[i], verdicts[k], strict=True) if a is not None and b is not None]
        return len(shared) >= least and sum(a == b for a, b in shared) >= threshold * len(shared)

    groups: list[list[int]] = []
    for i in range(len(verdicts)):
        home = next((group for group in groups if all(agree(i, k) for k in group)), None)
        if home is None:
            groups.append([i])
        else:
            home.append(i)
    return groups


def _traits(rubric: Rubric) -> list[str]:
    return [trait for trait in (normalised(rubric.name), normalised(rubric.text)) if trait]
