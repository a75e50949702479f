"""What people ask for in the nano world: the query's words, which attribute it says matters, how a note is written.

Shared by the preference samples (`world.py`) and the base model's instructions (`instructions.py`), so that both speak
one language. Knows no media and no samples.
"""

from __future__ import annotations

from random import Random

from omnirm.nano.scenes import ATTRIBUTES, FRUITS, NUMBER_WORDS, Scene, describe

#: how a query says that an attribute matters most: plainly, by purpose, by order
HINTS: dict[str, tuple[str, ...]] = {
    "count": ("the count matters most.", "it is for learning to count.", "get the count right above all."),
    "color": ("the color matters most.", "it is for a paint shop.", "get the color right above all."),
    "shape": ("the shape matters most.", "it is for a cookie cutter.", "get the shape right above all."),
    "place": ("the place matters most.", "it is for a map.", "get the place right above all."),
    "direction": ("the direction matters most.", "it is for a road sign.", "get the direction right above all."),
    "notes": ("the number of notes matters most.", "it is for a rhythm test.", "get the notes right above all."),
    "pitch": ("the pitch matters most.", "it is for tuning a piano.", "get the pitch right above all."),
    "contour": ("the contour matters most.", "it is for a melody quiz.", "get the contour right above all."),
    "timbre": ("the timbre matters most.", "it is for a choice of instrument.", "get the timbre right above all."),
    "completeness": ("completeness matters most.", "it is for shopping.", "leave nothing out above all."),
    "order": ("the order matters most.", "it is for a queue.", "get the order right above all."),
    "format": ("the format matters most.", "a program reads it.", "get the format right above all."),
    "brevity": ("brevity matters most.", "it is for a small screen.", "keep it brief above all."),
    "correctness": ("correctness matters most.", "it is for an exam.", "get the result right above all."),
}
MAKE = {"picture": "draw", "clip": "film", "tune": "play"}
_SEPARATOR = {"commas": ", ", "dashes": " - "}


def hint(attribute: str, rng: Random) -> str:
    """One of the phrases that say that this attribute decides."""
    return rng.choice(HINTS[attribute])


def make_query(scene: Scene, rng: Random) -> str:
    """A request to make the thing: `draw two red circles at the top.`"""
    return f"{MAKE[scene.kind]} {describe(scene, rng.randint(0, 1))}."


def edit_query(attribute: str, value: str) -> str:
    """A request to change one attribute and keep the others."""
    return f"change the {attribute} to {value} and keep the rest."


def random_items(rng: Random) -> tuple[str, ...]:
    """Three or four different fruits."""
    return tuple(rng.sample(FRUITS, rng.randint(3, 4)))


def random_sum(rng: Random) -> tuple[int, int]:
    """Two numbers from 1 to 9."""
    return rng.randint(1, 9), rng.randint(1, 9)


def list_query(items: tuple[str, ...], wanted: Scene) -> str:
    """A request for a list with a given order and separator, brief and complete."""
    order = "in this order" if wanted["order"] == "forward" else "in reverse order"
    return f"list {', '.join(items)} {order} with {wanted['format']}."


def sum_query(terms: tuple[int, int], wanted: Scene) -> str:
    """A request for a sum in digits or in words."""
    return f"what is {terms[0]} plus {terms[1]}? answer in {wanted['format']}."


def list_note(items: tuple[str, ...], scene: Scene, missing: int) -> str:
    """An answer to `list_query` with the scene's attributes; an incomplete one lacks the item at `missing`."""
    shown = list(items)
    if scene["completeness"] == "incomplete":
        del shown[missing % len(shown)]
    if scene["order"] == "reverse":
        shown.reverse()
    text = _SEPARATOR[scene["format"]].join(shown)
    return f"well, here you go: {text}" if scene["brevity"] == "chatty" else text


def sum_note(scene: Scene) -> str:
    """An answer to `sum_query` with the scene's attributes."""
    text = NUMBER_WORDS[int(scene["correctness"])] if scene["format"] == "words" else scene["correctness"]
    return f"well, here you go: {text}" if scene["brevity"] == "chatty" else text


def wanted_list(rng: Random) -> Scene:
    """What a list query asks for."""
    a = ATTRIBUTES["list"]
    order, form = rng.choice(a["order"]), rng.choice(a["format"])
    return Scene("list", (("completeness", "complete"), ("order", order), ("format", form), ("brevity", "brief")))


def wanted_sum(terms: tuple[int, int], rng: Random) -> Scene:
    """What a sum query asks for."""
    return Scene(
        "sum", (("correctness", str(sum(terms))), ("format", rng.choice(("digits", "words"))), ("brevity", "brief"))
    )


def near_sum(scene: Scene, wanted: Scene, rng: Random) -> Scene:
    """The scene with a wrong result moved near the right one, so that it takes adding up to see it."""
    if scene.kind != "sum" or scene["correctness"] == wanted["correctness"]:
        return scene
    right = int(wanted["correctness"])
    near = [n for n in range(max(2, right - 3), min(18, right + 3) + 1) if n != right]
    return scene.with_value("correctness", str(rng.choice(near)))


def rubric_text(attribute: str, value: str) -> str:
    """The rubric that this attribute should have this value."""
    return f"the {attribute} should be {value}."
