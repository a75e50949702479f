"""The things of the nano world: pictures, clips, tunes and notes, each a few attributes with closed value lists.

For the generators of samples and instructions. Knows words and values; draws nothing (`draw.py`) and asks nothing.
A combination of two attributes that is held out never occurs in the training split, in any medium or in words.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

Split = Literal["train", "validation", "test"]
Kind = Literal["picture", "clip", "tune", "list", "sum"]

COUNTS = ("one", "two", "three")
COLORS = ("red", "green", "blue", "yellow", "purple", "black")
SHAPES = ("circle", "square", "triangle", "cross")
FRUITS = ("apple", "cherry", "fig", "grape", "kiwi", "lemon", "mango", "olive", "pear", "plum", "peach", "date")

#: attribute names and their values, in the order in which a description names them
ATTRIBUTES: dict[str, dict[str, tuple[str, ...]]] = {
    "picture": {"count": COUNTS, "color": COLORS, "shape": SHAPES, "place": ("top", "middle", "bottom")},
    "clip": {"count": ("one", "two"), "color": COLORS, "shape": SHAPES, "direction": ("left", "right", "up", "down")},
    "tune": {
        "notes": ("two", "three", "four"),
        "pitch": ("low", "medium", "high"),
        "contour": ("rising", "falling", "flat"),
        "timbre": ("pure", "buzzing"),
    },
    "list": {
        "completeness": ("complete", "incomplete"),
        "order": ("forward", "reverse"),
        "format": ("commas", "dashes"),
        "brevity": ("brief", "chatty"),
    },
    "sum": {
        "correctness": tuple(str(n) for n in range(2, 19)),
        "format": ("digits", "words"),
        "brevity": ("brief", "chatty"),
    },
}

#: combinations kept out of training; each split but train draws from its own set as well as from the seen ones
HELD_OUT: dict[str, dict[Split, frozenset[tuple[str, str]]]] = {
    "shape": {
        "validation": frozenset({("yellow", "cross"), ("black", "circle")}),
        "test": frozenset({("red", "triangle"), ("blue", "cross"), ("green", "circle"), ("purple", "square")}),
    },
    "tune": {
        "validation": frozenset({("two", "flat")}),
        "test": frozenset({("four", "falling")}),
    },
}
PLURALS = {"circle": "circles", "square": "squares", "triangle": "triangles", "cross": "crosses"}
NUMBER_WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
]


@dataclass(frozen=True, slots=True)
class Scene:
    """One thing of the world: its kind and a value for each attribute of that kind."""

    kind: Kind
    values: tuple[tuple[str, str], ...]

    def __getitem__(self, attribute: str) -> str:
        return dict(self.values)[attribute]

    def with_value(self, attribute: str, value: str) -> Scene:
        """The same scene with one attribute changed."""
        return Scene(self.kind, tuple((a, value if a == attribute else v) for a, v in self.values))

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of the attributes, in order."""
        return tuple(a for a, _ in self.values)


def combination(scene: Scene) -> tuple[str, str] | None:
    """The pair of values that decides whether a scene is held out; None for kinds without such a pair."""
    if scene.kind in ("picture", "clip"):
        return scene["color"], scene["shape"]
    if scene.kind == "tune":
        return scene["notes"], scene["contour"]
    return None


def split_of(scene: Scene) -> Split:
    """The split whose held-out set the scene belongs to; `train` where it is in none."""
    pair = combination(scene)
    for split, pairs in HELD_OUT["tune" if scene.kind == "tune" else "shape"].items():
        if pair in pairs:
            return split
    return "train"


def allowed(scene: Scene, split: Split) -> bool:
    """Whether the scene may occur there: seen combinations in every split, held-out ones in their own split only."""
    return split_of(scene) in ("train", split)


def random_scene(kind: str, rng: Random, split: Split) -> Scene:
    """A scene of that kind; outside training, more than half have a held-out combination (where the kind has any)."""
    want_held_out = split != "train" and kind in ("picture", "clip", "tune") and rng.random() < 0.5
    while True:
        scene = Scene(kind, tuple((a, rng.choice(v)) for a, v in ATTRIBUTES[kind].items()))  # type: ignore[arg-type]
        if (split_of(scene) == split) if want_held_out else allowed(scene, split):
            return scene


def changed(scene: Scene, attribute: str, rng: Random, split: Split) -> Scene:
    """The scene with another value of one attribute, still allowed in the split (the scene itself if none is)."""
    values = [v for v in ATTRIBUTES[scene.kind][attribute] if v != scene[attribute]]
    rng.shuffle(values)
    for value in values:
        other = scene.with_value(attribute, value)
        if allowed(other, split):
            return other
    return scene


def describe(scene: Scene, style: int = 0) -> str:
    """A picture, clip or tune in words; styles 0 and 1 say the same in another order."""
    if scene.kind == "tune":
        if style:
            return f"{scene['timbre']} tone, {scene['contour']}, {scene['notes']} notes, {scene['pitch']} pitch"
        return f"{scene['notes']} {scene['pitch']} notes, {scene['contour']}, {scene['timbre']} tone"
    noun = scene["shape"] if scene["count"] == "one" else PLURALS[scene["shape"]]
    end = f"at the {scene['place']}" if scene.kind == "picture" else f"moving {scene['direction']}"
    if style:
        return f"{end}, {scene['count']} {noun} in {scene['color']}"
    return f"{scene['count']} {scene['color']} {noun} {end}"


def words(scene: Scene, style: int = 0) -> str:
    """The stand-in of a medium in text: what a reader sees where a viewer would see the thing itself."""
    return f"({scene.kind}: {describe(scene, style)})"
