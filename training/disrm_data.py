"""Graded responses of the nano world, for training and measuring nano-disrm.

A response is better if it is right in the attribute that the request says matters; among equals, if more of the other
attributes are right. Each row has what a rubric run scores: the two candidates of a pair and both of them mended by one
rubric, towards the wanted value or another one; or responses with any number of attributes right. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    mended: bool | None = None,
) -> Graded:
    """The responses of that seed: the same seed gives the same.

    Args:
        seed: any number.
        split: where the scenes may come from.
        family: one of the world's families; by the seed when None, T2T a quarter of the time.
        in_words: media as text stand-ins; by the seed when None, half of the time.
        mended: the candidates and both of them mended; else any responses. By the seed when None, mostly True.
    """
    rng = Random(f"graded {split} {seed}")
    kind = "T2T" if rng.random() < 0.25 else rng.choice([f for f in FAMILIES if f != "T2T"])
    words, mends = rng.random() < 0.5, rng.random() < 0.75
    pair = preference(seed, split, kind if family is None else family, in_words=words if in_words is None else in_words)
    scenes: dict[tuple[int, Scene], Role] = {(i, scene): "AB"[i] for i, scene in enumerate(pair.scenes)}  # type: ignore[misc]
    if mends if mended is None else mended:
        criteria = _criteria(pair, rng)
        for i in (0, 1):
            scenes.setdefault((i, mend(pair.scenes[i], criteria, split)), "A mended" if i == 0 else "B mended")
    else:
        for _ in range(2):
            scenes.setdefault((rng.randint(0, 1), _any_scene(pair, split, rng)), "any")
    found = [
        Response(role, _shown(pair, scene, which, rng), grade(pair, scene), right_attributes(pair, scene))
        for (which, scene), role in scenes.items()
    ]
    if pair.writers and rng.random() < 0.2:
        of = rng.randrange(len(found))
        found.append(Response("damaged", (_damaged(pair, found[of], rng),), found[of].grade, found[of].right, of))
    return Graded(pair, tuple(found), _pairs(found))


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


def _criteria(pair: Preference, rng: Random) -> dict[str, str]:
    """What one rubric asks for, or two: an attribute's wanted value mostly, else a value that a candidate has or any.

    The attribute that matters half of the time: a run's rubrics name it often, and mending it must show.
    """
    names = list(pair.wanted.attributes)
    first = pair.attribute if rng.random() < 0.4 else rng.choice(names)
    chosen = [first] if rng.random() < 0.75 else [first, rng.choice([n for n in names if n != first])]
    criteria = {}
    for name in chosen:
        other = rng.choice((*pair.scenes, near_sum(changed(pair.wanted, name, rng, "train"), pair.wanted, rng)))
        criteria[name] = pair.wanted[name] if rng.random() < 0.65 else other[name]
    return criteria


def _any_scene(pair: Preference, split: Split, rng: Random) -> Scene:
    """The wanted scene with any number of attributes wrong."""
    scene, wrong = pair.wanted, rng.randint(0, len(pair.wanted.attributes))
    for name in rng.sample(pair.wanted.attributes, wrong):
        scene = near_sum(changed(scene, name, rng, split), pair.wanted, rng)
    return scene


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


__all__ = ["Grade", "Graded", "Response", "Role", "grade", "graded", "mend"]
