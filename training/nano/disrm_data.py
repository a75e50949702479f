"""Graded responses of the nano world, for training and measuring nano-disrm.

A response is better if it is right in the attribute that the request says matters; among equals, if more of the other
attributes are right. Each row has what a rubric run scores: the two candidates of a pair and both of them mended by one
rubric, towards the wanted value or another one; or responses with any number of attributes right. A model from a base
that never rated anything learns nothing from such rows alone, because counting right attributes hardly helps on them;
so two easier kinds come first. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Literal

from omnirm.nano.requests import near_sum
from omnirm.nano.scenes import Scene, Split, allowed, changed
from omnirm.nano.world import FAMILIES, Family, Preference, preference
from omnirm.nano.writer import medium
from omnirm.training.preferred import Preferred
from omnirm.types import Part

#: right in the attribute that matters, how many of the others are right
Grade = tuple[bool, int]
Role = Literal["A", "B", "A mended", "B mended", "any", "damaged"]
#: rough: the wanted response and the same with more and more attributes wrong (is there anything wrong at all?); apart:
#: each wrong in one attribute (which one matters?); mended: what a rubric run scores; any: the candidates and others
Kind = Literal["rough", "apart", "mended", "any"]
_RUN: dict[Kind, float] = {"mended": 0.6, "any": 0.2, "apart": 0.2}


@dataclass(frozen=True, slots=True)
class NanoRows:
    """The rows of a training run, in order: easier ones first.

    rough_rows: so many rough ones, then apart_rows in which rough and apart ones take turns, then what a run scores.
    words_rows: the first so many rows are in words only; of the others half are. first_seed: of the first row.
    """

    rows: int
    first_seed: int = 0
    rough_rows: int = 0
    apart_rows: int = 0
    words_rows: int = 0


@dataclass(frozen=True, slots=True)
class Response:
    """One response with its grade. A damaged text has the grade of the text that it was made from, `of`.

    right: the attributes in which it is right.
    """

    role: Role
    parts: tuple[Part, ...]
    grade: Grade
    right: frozenset[str]
    of: int = -1


@dataclass(frozen=True, slots=True)
class Graded:
    """Responses to one request. `pairs`: (better, worse) by index, every pair whose order is certain."""

    pair: Preference
    responses: tuple[Response, ...]
    pairs: tuple[tuple[int, int], ...]

    @property
    def preferred(self) -> Preferred:
        """As a row for Bradley-Terry training."""
        return Preferred(self.pair.sample.prompt, tuple(r.parts for r in self.responses), self.pairs)


def grade(pair: Preference, scene: Scene) -> Grade:
    """How good a response is; grades compare as tuples."""
    right = right_attributes(pair, scene)
    return pair.attribute in right, len(right - {pair.attribute})


def right_attributes(pair: Preference, scene: Scene) -> frozenset[str]:
    """The attributes in which a response is as the request wants it."""
    return frozenset(name for name in pair.wanted.attributes if scene[name] == pair.wanted[name])


def graded(
    seed: int,
    split: Split = "train",
    family: Family | None = None,
    in_words: bool | None = None,
    kind: Kind | None = None,
) -> Graded:
    """The responses of that seed: the same seed gives the same.

    Args:
        seed: any number.
        split: where the scenes may come from.
        family: one of the world's families; by the seed when None, T2T a quarter of the time.
        in_words: media as text stand-ins; by the seed when None, half of the time.
        kind: what is compared; by the seed when None, and then never `rough`.
    """
    rng = Random(f"graded {split} {seed}")
    some = "T2T" if rng.random() < 0.25 else rng.choice([f for f in FAMILIES if f != "T2T"])
    words, way = rng.random() < 0.5, rng.choices(list(_RUN), list(_RUN.values()))[0]
    pair = preference(seed, split, some if family is None else family, in_words=words if in_words is None else in_words)
    scenes = _scenes(pair, kind or way, split, rng)
    found = [
        Response(role, _shown(pair, scene, which, rng), grade(pair, scene), right_attributes(pair, scene))
        for (which, scene), role in scenes.items()
    ]
    if pair.writers and kind != "rough" and rng.random() < 0.2:
        of = rng.randrange(len(found))
        found.append(Response("damaged", (_damaged(pair, found[of], rng),), found[of].grade, found[of].right, of))
    return Graded(pair, tuple(found), _pairs(found))


def lesson(place: int, rows: NanoRows) -> Graded:
    """The row at that place of a curriculum."""
    seed = rows.first_seed + place
    words = True if place < rows.words_rows else None
    if place < rows.rough_rows:
        return graded(seed, in_words=words, kind="rough")
    if place < rows.rough_rows + rows.apart_rows:
        return graded(seed, in_words=words, kind="apart" if seed % 2 else "rough")
    return graded(seed, in_words=words)


def mend(scene: Scene, criteria: dict[str, str], split: Split) -> Scene:
    """The scene revised so that each attribute has the value that a rubric asks for; itself where that may not be."""
    revised = scene
    for name, value in criteria.items():
        revised = revised.with_value(name, value)
    return revised if allowed(revised, split) else scene


def _pairs(found: list[Response]) -> tuple[tuple[int, int], ...]:
    """Every pair of different grade. A damaged text is worse than what it was made from and all that is better."""
    pairs = []
    for i, better in enumerate(found):
        for j, worse in enumerate(found):
            if better.role != "damaged" and (better.grade > worse.grade or worse.of == i):
                pairs.append((i, j))
    return tuple(pairs)


def _scenes(pair: Preference, kind: Kind, split: Split, rng: Random) -> dict[tuple[int, Scene], Role]:
    """Different scenes, each with the candidate in whose words it is written, and their roles."""
    wrong = partial(_spoilt, pair, split=split, rng=rng)
    scenes: dict[tuple[int, Scene], Role] = {}
    if kind == "rough":
        steps = [pair.wanted]
        for name in rng.sample(pair.wanted.attributes, len(pair.wanted.attributes)):
            steps.append(wrong(steps[-1], name))
        for scene in rng.sample(steps, min(4, len(steps))):
            scenes.setdefault((rng.randint(0, 1), scene), "any")
        return scenes if len({grade(pair, s) for _, s in scenes}) > 1 else {(0, steps[0]): "any", (0, steps[-1]): "any"}
    if kind == "apart":
        for name in pair.wanted.attributes:
            scenes[rng.randint(0, 1), wrong(pair.wanted, name)] = "any"
        return scenes
    scenes = {(0, pair.scenes[0]): "A", (1, pair.scenes[1]): "B"}
    if kind == "mended":
        criteria = _criteria(pair, split, rng)
        scenes.setdefault((0, mend(pair.scenes[0], criteria, split)), "A mended")
        scenes.setdefault((1, mend(pair.scenes[1], criteria, split)), "B mended")
        return scenes
    for _ in range(2):
        scene = pair.wanted
        for name in rng.sample(pair.wanted.attributes, rng.randint(0, len(pair.wanted.attributes))):
            scene = wrong(scene, name)
        scenes.setdefault((rng.randint(0, 1), scene), "any")
    return scenes


def _spoilt(pair: Preference, scene: Scene, name: str, split: Split, rng: Random) -> Scene:
    """The scene with another value of one attribute; it stays as it is where no other value is allowed."""
    return near_sum(changed(scene, name, rng, split), pair.wanted, rng)


def _criteria(pair: Preference, split: Split, rng: Random) -> dict[str, str]:
    """What one rubric asks for, or two: an attribute's wanted value mostly, else a value that a candidate has or any.

    The attribute that matters half of the time: a run's rubrics name it often, and mending it must show.
    """
    names = list(pair.wanted.attributes)
    first = pair.attribute if rng.random() < 0.4 else rng.choice(names)
    chosen = [first] if rng.random() < 0.75 else [first, rng.choice([n for n in names if n != first])]
    criteria = {}
    for name in chosen:
        other = rng.choice((*pair.scenes, _spoilt(pair, pair.wanted, name, split, rng)))
        criteria[name] = pair.wanted[name] if rng.random() < 0.65 else other[name]
    return criteria


def _shown(pair: Preference, scene: Scene, which: int, rng: Random) -> tuple[Part, ...]:
    """The scene as a response: in the words of candidate `which`, or as a newly drawn medium."""
    if pair.writers:
        return (Part("text", pair.writers[which](scene)),)
    return (medium(scene, rng),)


def _damaged(pair: Preference, found: Response, rng: Random) -> Part:
    """A text with a word lost, said twice or strange to it: what a bad editor leaves behind."""
    text = found.parts[0].value
    words = text.split(" ")
    at = rng.randrange(len(words))
    stranger = rng.choice(pair.sample.prompt[-1].parts[-1].value.split(" "))
    broken = rng.choice(([], [words[at], words[at]], [stranger, words[at]]))
    damaged = " ".join([*words[:at], *broken, *words[at + 1 :]])
    return Part("text", damaged if damaged.strip() else f"{text} {text}")


__all__ = ["Grade", "Graded", "Kind", "NanoRows", "Response", "Role", "grade", "graded", "lesson", "mend"]
