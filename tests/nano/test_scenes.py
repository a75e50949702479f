"""The scenes of the nano world: what is held out stays out, and words say what a scene is."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nano_reading import KEPT_FOR_TEST, KEPT_FOR_VALIDATION, described, pair_of

from omnirm.nano.scenes import ATTRIBUTES, Scene, Split, allowed, changed, describe, random_scene, split_of, words

SHOWN = ("picture", "clip", "tune")
KINDS = tuple(ATTRIBUTES)
FOREIGN: dict[Split, set[tuple[str, str]]] = {
    "train": KEPT_FOR_TEST | KEPT_FOR_VALIDATION,
    "validation": KEPT_FOR_TEST,
    "test": KEPT_FOR_VALIDATION,
}


def every(kind: str) -> list[Scene]:
    """All scenes of a kind."""
    names, values = zip(*ATTRIBUTES[kind].items(), strict=True)
    return [Scene(kind, tuple(zip(names, chosen, strict=True))) for chosen in product(*values)]  # type: ignore[arg-type]


@pytest.mark.parametrize("split", FOREIGN)
@pytest.mark.parametrize("kind", SHOWN)
def test_scenes_of_a_split_have_no_combination_of_another(kind: str, split: Split) -> None:
    rng = Random(f"{kind} {split}")
    for _ in range(3000):
        scene = random_scene(kind, rng, split)
        assert pair_of(scene) not in FOREIGN[split]
        attribute = rng.choice(scene.attributes)
        other = changed(scene, attribute, rng, split)
        assert pair_of(other) not in FOREIGN[split]
        assert [a for a in scene.attributes if scene[a] != other[a]] in ([attribute], [])


@pytest.mark.parametrize("kind", SHOWN)
def test_test_scenes_are_held_out_half_of_the_time_or_more(kind: str) -> None:
    rng = Random(kind)
    share = sum(pair_of(random_scene(kind, rng, "test")) in KEPT_FOR_TEST for _ in range(2000)) / 2000
    assert 0.5 <= share <= 0.7


@pytest.mark.parametrize("kind", SHOWN)
def test_training_still_meets_every_value_of_every_attribute(kind: str) -> None:
    seen = [s for s in every(kind) if split_of(s) == "train"]
    for attribute, values in ATTRIBUTES[kind].items():
        assert {s[attribute] for s in seen} == set(values)


def test_every_scene_belongs_to_one_split_and_is_allowed_as_the_rule_says() -> None:
    for scene in (s for kind in KINDS for s in every(kind)):
        pair = pair_of(scene)
        home = "test" if pair in KEPT_FOR_TEST else "validation" if pair in KEPT_FOR_VALIDATION else "train"
        assert split_of(scene) == home
        assert [split for split in FOREIGN if allowed(scene, split)] == [s for s in FOREIGN if home in ("train", s)]


def test_words_say_what_the_scene_is_in_both_styles_and_nothing_else_does() -> None:
    said: dict[str, Scene] = {}
    for scene in (s for kind in SHOWN for s in every(kind)):
        for style in (0, 1):
            text = describe(scene, style)
            assert described(text) == [scene]
            assert said.setdefault(text, scene) == scene
            assert words(scene, style) == f"({scene.kind}: {text})"
        assert describe(scene, 0) != describe(scene, 1)


@given(st.sampled_from(KINDS), st.integers(0, 10**6), st.sampled_from(["train", "validation", "test"]))
def test_a_scene_is_decided_by_the_seed_alone(kind: str, seed: int, split: Split) -> None:
    assert random_scene(kind, Random(seed), split) == random_scene(kind, Random(seed), split)


def test_a_value_is_changed_in_a_copy() -> None:
    scene = random_scene("picture", Random(0), "train")
    other = scene.with_value("count", "three" if scene["count"] == "one" else "one")
    assert other != scene
    assert other.with_value("count", scene["count"]) == scene
    with pytest.raises(KeyError):
        scene["pitch"]
