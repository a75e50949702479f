"""Graded responses: better means right in what matters, then in more of the rest; and mending shows as it should."""

from __future__ import annotations

from collections import Counter

import pytest

from omnirm.nano.scenes import Scene, allowed, split_of
from omnirm.nano.world import FAMILIES, preference
from omnirm.nano.writer import Drawing
from omnirm.training.nano.disrm_data import Graded, NanoRows, grade, graded, lesson, mend

SEEDS = range(400)


def rows(**kwargs: object) -> list[Graded]:
    return [graded(seed, **kwargs) for seed in SEEDS]  # type: ignore[arg-type]


def test_grades_by_hand() -> None:
    pair = next(p for s in range(100) if (p := preference(s, "train", "T2I", True)).attribute == "color")
    wanted = pair.wanted
    other = "red" if wanted["color"] != "red" else "blue"
    place = next(p for p in ("top", "middle", "bottom") if p != wanted["place"])
    assert grade(pair, wanted) == (True, 3)
    assert grade(pair, wanted.with_value("color", other)) == (False, 3)
    assert grade(pair, wanted.with_value("place", place)) == (True, 2)
    assert grade(pair, wanted.with_value("place", place).with_value("color", other)) == (False, 2)
    assert grade(pair, wanted.with_value("place", place)) > grade(pair, wanted.with_value("color", other))


def test_the_candidates_are_graded_as_the_label_says() -> None:
    for row in rows(kind="mended"):
        a, b = (next(r.grade for r in row.responses if r.role == role) for role in "AB")
        assert (a > b) == (row.pair.sample.label == 0)
        assert a[0] != b[0], "they differ in the attribute that matters"


def test_every_pair_is_of_a_better_and_a_worse_one_and_there_is_one_at_least() -> None:
    for row in rows():
        assert row.pairs
        assert len(set(row.pairs)) == len(row.pairs)
        for better, worse in row.pairs:
            good, bad = row.responses[better], row.responses[worse]
            assert good.role != "damaged"
            assert good.grade > bad.grade or (bad.role == "damaged" and bad.of == better)
            assert good.parts != bad.parts


def test_no_pair_of_certain_order_is_left_out() -> None:
    for row in rows():
        sound = [i for i, r in enumerate(row.responses) if r.role != "damaged"]
        expected = {(i, j) for i in sound for j in sound if row.responses[i].grade > row.responses[j].grade}
        assert expected == {p for p in row.pairs if row.responses[p[1]].role != "damaged"}


@pytest.mark.parametrize("kind", ["rough", "apart", "mended", "any"])
def test_every_kind_of_row_has_responses_of_different_grade(kind: str) -> None:
    for row in rows(kind=kind):
        assert len({r.grade for r in row.responses if r.role != "damaged"}) > 1
        assert row.pairs


def test_counting_what_is_right_solves_rough_rows_and_never_the_decision_between_apart_ones() -> None:
    for row in rows(kind="rough"):
        for better, worse in row.pairs:
            good, bad = row.responses[better].right, row.responses[worse].right
            assert len(good) >= len(bad)
    for row in rows(kind="apart"):
        sound = [r for r in row.responses if r.role != "damaged"]
        assert {len(row.pair.wanted.attributes) - len(r.right) for r in sound} == {1}
        assert [r.grade[0] for r in sound].count(False) == 1, "one is wrong in what matters"


def test_a_curriculum_goes_from_rough_to_what_a_run_scores_and_from_words_to_media() -> None:
    plan = NanoRows(rows=120, first_seed=5, rough_rows=20, apart_rows=20, words_rows=60)
    found = [lesson(place, plan) for place in range(plan.rows)]
    assert found[:20] == [graded(5 + i, in_words=True, kind="rough") for i in range(20)]
    roles = [{r.role for r in row.responses} for row in found]
    assert all("A" not in r for r in roles[:40])
    assert sum("A" in r for r in roles[40:]) > 50
    shown = [
        any(p.type != "text" for p in row.pair.sample.prompt[0].parts)
        or any(p.type != "text" for r in row.responses for p in r.parts)
        for row in found
    ]
    assert not any(shown[:60])
    assert sum(shown[60:]) > 12


def test_a_response_changes_only_where_its_rubric_asks() -> None:
    scene = Scene("picture", (("count", "two"), ("color", "red"), ("shape", "circle"), ("place", "top")))
    assert mend(scene, {"color": "blue"}, "train") == scene.with_value("color", "blue")
    assert mend(scene, {}, "train") == scene
    assert mend(scene, {"shape": "triangle"}, "train") == scene, "red triangles are held out"
    assert mend(scene, {"shape": "triangle"}, "test")["shape"] == "triangle"


def test_mending_goes_up_and_down_in_what_matters_and_in_the_rest() -> None:
    ways: Counter[tuple[bool, bool]] = Counter()
    for row in rows(kind="mended"):
        by_role = {r.role: r for r in row.responses}
        for own, other in (("A", "A mended"), ("B", "B mended")):
            if other in by_role and by_role[own].grade != by_role[other].grade:  # type: ignore[index]
                old, new = by_role[own].grade, by_role[other].grade  # type: ignore[index]
                ways[new > old, new[0] != old[0]] += 1
    assert len(ways) == 4
    assert min(ways.values()) > 20, ways


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("in_words", [True, False])
def test_responses_are_in_the_familys_medium(family: str, in_words: bool) -> None:
    row = graded(5, family=family, in_words=in_words)  # type: ignore[arg-type]
    kinds = {p.type for r in row.responses for p in r.parts}
    shown = {"T2I": "image", "TI2I": "image", "T2V": "video", "T2A": "audio"}.get(family, "text")
    assert kinds == {"text" if in_words else shown}
    assert all(isinstance(p.value, str | Drawing) for r in row.responses for p in r.parts)


def test_a_seed_is_one_row_and_seeds_cover_every_family_in_both_forms() -> None:
    assert graded(7) == graded(7)
    found = Counter(
        (row.pair.sample.metadata["family"], any(p.type != "text" for p in row.pair.sample.prompt[0].parts))
        for row in rows()
    )
    assert {family for family, _ in found} == set(FAMILIES)
    assert 0.15 < sum(n for (f, _), n in found.items() if f == "T2T") / len(SEEDS) < 0.35


def test_no_scene_of_training_is_held_out() -> None:
    for seed in SEEDS:
        row = graded(seed, family="T2V", in_words=False)
        for r in row.responses:
            assert split_of(r.parts[0].value.scene) == "train"
            assert allowed(r.parts[0].value.scene, "train")
    held = [graded(seed, "test", "T2V", False) for seed in range(50)]
    assert any(split_of(r.parts[0].value.scene) == "test" for row in held for r in row.responses)
