"""Rubrics that are one and the same, by their words and by their verdicts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirm.errors import ConfigError
from omnirm.parsing.rubric_lines import normalised
from omnirm.rubrics.distinct import agreement_groups, distinct
from omnirm.types import Rubric

LENGTH = Rubric("Length", "At most ten words.")


@pytest.mark.parametrize(
    "other",
    [
        Rubric("length", "Something else."),
        Rubric("LENGTH!"),
        Rubric("  Length  ", "x"),
        Rubric("**Length**", "x"),
        Rubric("Ｌｅｎｇｔｈ", "full width"),
        Rubric("Brevity", "at most: ten words"),
        Rubric("At most ten words"),
    ],
)
def test_the_same_name_or_text_is_a_repetition(other: Rubric) -> None:
    assert distinct([LENGTH, other]) == ((LENGTH,), ((other, "repeats Length"),))
    assert distinct([other], [LENGTH]) == ((), ((other, "repeats Length"),))


@pytest.mark.parametrize(
    "other",
    [Rubric("Lengths", "x"), Rubric("Length of words", "x"), Rubric("Länge"), Rubric("长度", ""), Rubric("Brevity")],
)
def test_other_words_are_another_rubric(other: Rubric) -> None:
    assert distinct([LENGTH, other]) == ((LENGTH, other), ())


@pytest.mark.parametrize("name", ["", "   ", "...", "\u200b", "***", "–"])
def test_a_rubric_without_a_word_is_dropped(name: str) -> None:
    assert distinct([Rubric(name)]) == ((), ((Rubric(name), "has no word"),))


def test_what_was_dropped_does_not_drop_others() -> None:
    first, repeat, third = Rubric("A", "x"), Rubric("A", "y"), Rubric("B", "y")
    assert distinct([first, repeat, third])[0] == (first, third)


words = st.sampled_from(["form", "Form", "FORM!", "truth", "length", "", "?"])


@given(st.lists(st.builds(Rubric, words, words), max_size=8), st.lists(st.builds(Rubric, words, words), max_size=3))
def test_nothing_is_lost_and_nothing_kept_overlaps(rubrics: list[Rubric], existing: list[Rubric]) -> None:
    kept, dropped = distinct(rubrics, existing)
    assert sorted(map(repr, (*kept, *(one for one, _ in dropped)))) == sorted(map(repr, rubrics))
    assert distinct(kept, existing) == (kept, ())
    traits = [{normalised(one.name), normalised(one.text)} - {""} for one in (*existing, *kept)]
    for i in range(len(existing), len(traits)):
        assert not any(traits[i] & traits[k] for k in range(i))


# -- by their verdicts


def rows(*texts: str) -> list[list[str | None]]:
    """A row of verdicts from letters; `-` is unread, `t` a tie."""
    return [[{"-": None, "t": "tie"}.get(char, char) for char in text] for text in texts]


@pytest.mark.parametrize(
    ("table", "options", "groups"),
    [
        (("ABABABAB", "ABABABAB"), {}, [[0, 1]]),
        (("ABABABAB", "ABABABAA"), {}, [[0], [1]]),  # 7 of 8 is less than 0.95
        (("ABABABAB", "ABABABAA"), {"threshold": 0.875}, [[0, 1]]),
        (("ABABABA", "ABABABA"), {}, [[0], [1]]),  # seven shared samples are too few
        (("A", "A"), {}, [[0], [1]]),  # a single pair says nothing
        (("A", "A"), {"least": 1}, [[0, 1]]),
        (("ABABABAB--", "--ABABABAB"), {"least": 6}, [[0, 1]]),
        (("ABABABAB--", "--ABABABAB"), {"least": 7}, [[0], [1]]),
        (("--------", "--------"), {"least": 1}, [[0], [1]]),  # two that were never read do not agree
        (("tttttttt", "tttttttt"), {}, [[0, 1]]),
        (("tttttttt", "AAAAAAAA"), {}, [[0], [1]]),
        (("AAAA", "BBBB", "AAAA", "BBBB"), {"least": 4}, [[0, 2], [1, 3]]),
        (("AAAAB", "AAAAA", "BAAAA"), {"least": 5, "threshold": 0.8}, [[0, 1], [2]]),  # 2 agrees with 1, not with 0
        ((), {}, []),
    ],
)
def test_groups_by_hand(table: tuple[str, ...], options: dict, groups: list[list[int]]) -> None:
    assert agreement_groups(rows(*table), **options) == groups


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        (("AA", "A"), {}, "different lengths"),
        (("AA",), {"threshold": 0}, "threshold 0"),
        (("AA",), {"threshold": 1.01}, "threshold 1.01"),
        (("AA",), {"threshold": float("nan")}, "threshold nan"),
        (("AA",), {"least": 0}, "least 0"),
    ],
)
def test_settings_without_meaning_are_refused(table: tuple[str, ...], options: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        agreement_groups(rows(*table), **options)


tables = st.integers(0, 6).flatmap(
    lambda n: st.lists(st.lists(st.sampled_from(["A", "B", "tie", None]), min_size=n, max_size=n), max_size=6)
)


@given(tables, st.sampled_from([0.5, 0.8, 1.0]), st.integers(1, 4))
def test_groups_part_the_rubrics_and_do_not_depend_on_the_order_of_candidates(table, threshold, least) -> None:
    groups = agreement_groups(table, threshold=threshold, least=least)
    assert sorted(i for group in groups for i in group) == list(range(len(table)))
    assert [group[0] for group in groups] == sorted(group[0] for group in groups)
    swapped = [[{"A": "B", "B": "A"}.get(one, one) for one in row] for row in table]
    assert agreement_groups(swapped, threshold=threshold, least=least) == groups
    assert agreement_groups([row[::-1] for row in table], threshold=threshold, least=least) == groups
