"""What people ask for in the nano world: requests say what they want, and answers have the attributes they should."""

from __future__ import annotations

from collections import Counter
from itertools import product
from random import Random

import pytest
from nano_reading import CHATTER, items_of, list_values, sum_values, wanted_by

from omnirm.nano import requests as ask
from omnirm.nano.scenes import ATTRIBUTES, Scene
from omnirm.nano.world import preference
from omnirm.types import Part


def every(kind: str) -> list[Scene]:
    names, values = zip(*ATTRIBUTES[kind].items(), strict=True)
    return [Scene(kind, tuple(zip(names, chosen, strict=True))) for chosen in product(*values)]  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
def test_a_list_has_the_attributes_of_its_scene_and_lacks_the_item_it_should(seed: int) -> None:
    rng = Random(seed)
    items, wanted = ask.random_items(rng), ask.wanted_list(rng)
    query = ask.list_query(items, wanted)
    assert items_of(query) == list(items)
    assert wanted_by([Part("text", query)]) == dict(wanted.values)
    for scene in every("list"):
        for missing in range(len(items)):
            note = ask.list_note(items, scene, missing)
            assert list_values(query, note) == dict(scene.values)
            assert (items[missing] in note) == (scene["completeness"] == "complete")
            assert ask.list_note(items, scene, missing + len(items)) == note


def test_a_sum_has_the_attributes_of_its_scene() -> None:
    for scene in every("sum"):
        assert sum_values(ask.sum_note(scene)) == dict(scene.values)
    for terms in product(range(1, 10), repeat=2):
        wanted = ask.wanted_sum(terms, Random(0))
        assert wanted["correctness"] == str(sum(terms))
        assert wanted_by([Part("text", ask.sum_query(terms, wanted))]) == dict(wanted.values)


def test_a_wrong_sum_is_moved_near_the_right_one_and_nothing_else_is() -> None:
    rng = Random(0)
    moved = Counter(
        int(near["correctness"]) - int(wanted["correctness"])
        for wanted in every("sum")
        for scene in every("sum")[::5]
        if (near := ask.near_sum(scene, wanted, rng)).with_value("correctness", scene["correctness"]) == scene
        if scene["correctness"] != wanted["correctness"]
    )
    assert set(moved) == {-3, -2, -1, 1, 2, 3}
    assert moved.total() == sum(s["correctness"] != w["correctness"] for w in every("sum") for s in every("sum")[::5])
    for kind in ("sum", "list"):
        scene = every(kind)[0]
        assert ask.near_sum(scene, scene, rng) == scene


def test_pairs_have_wrong_sums_near_the_right_one_and_lists_that_lack_any_item_alike() -> None:
    lacking: Counter[tuple[int, int]] = Counter()
    for seed in range(2000):
        pair = preference(seed, "train", "T2T")
        if pair.wanted.kind == "sum":
            assert all(abs(int(s["correctness"]) - int(pair.wanted["correctness"])) <= 3 for s in pair.scenes)
            continue
        items = items_of(pair.sample.prompt[0].parts[-1].value)
        for candidate in pair.sample.candidates:
            shown = candidate.parts[0].value.removeprefix(CHATTER)
            lacking.update((len(items), i) for i, item in enumerate(items) if item not in shown)
    for n in (3, 4):
        counts = [lacking[n, i] for i in range(n)]
        assert min(counts) > 0.75 * max(counts), counts


def test_every_attribute_has_hints_of_its_own() -> None:
    hints = [hint for some in ask.HINTS.values() for hint in some]
    assert set(ask.HINTS) == {name for kind in ATTRIBUTES.values() for name in kind}
    assert len(hints) == len(set(hints))
    assert not any(a != b and a.endswith(b) for a in hints for b in hints)
