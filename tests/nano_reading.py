"""Reads the nano world's words back into scenes, written apart from the generator, so that tests can check it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from omnirm.nano.instructions import Drawing
from omnirm.nano.scenes import Scene
from omnirm.types import Message, Part

_COUNT = "(?P<count>one|two|three)"
_COLOR = "(?P<color>red|green|blue|yellow|purple|black)"
_NOUN = "(?P<noun>circles?|squares?|triangles?|cross(?:es)?)"
_WHERE = "(?:at the (?P<place>top|middle|bottom)|moving (?P<direction>left|right|up|down))"
_NOTES = "(?P<notes>two|three|four)"
_PITCH = "(?P<pitch>low|medium|high)"
_CONTOUR = "(?P<contour>rising|falling|flat)"
_TIMBRE = "(?P<timbre>pure|buzzing)"
_FORMS = [
    re.compile(form)
    for form in (
        f"{_COUNT} {_COLOR} {_NOUN} {_WHERE}",
        f"{_WHERE}, {_COUNT} {_NOUN} in {_COLOR}",
        f"{_NOTES} {_PITCH} notes, {_CONTOUR}, {_TIMBRE} tone",
        f"{_TIMBRE} tone, {_CONTOUR}, {_NOTES} notes, {_PITCH} pitch",
    )
]
_NOUNS = {"cross": "cross", "crosses": "cross"} | {
    n + s: n for n in ("circle", "square", "triangle") for s in ("", "s")
}
#: what must never be seen in training, written out once more
KEPT_FOR_TEST = {("red", "triangle"), ("blue", "cross"), ("green", "circle"), ("purple", "square"), ("four", "falling")}
KEPT_FOR_VALIDATION = {("yellow", "cross"), ("black", "circle"), ("two", "flat")}


def described(text: str) -> list[Scene]:
    """Every picture, clip or tune that the text describes in full."""
    return [_scene(match) for form in _FORMS for match in form.finditer(text)]


def _scene(match: re.Match[str]) -> Scene:
    found = {name: value for name, value in match.groupdict().items() if value is not None}
    if "notes" in found:
        return Scene("tune", tuple((a, found[a]) for a in ("notes", "pitch", "contour", "timbre")))
    noun = found.pop("noun")
    assert (found["count"] == "one") == (noun == _NOUNS[noun]), f"number and noun disagree: {match[0]}"
    found["shape"] = _NOUNS[noun]
    last = "place" if "place" in found else "direction"
    kind = "picture" if last == "place" else "clip"
    return Scene(kind, tuple((a, found[a]) for a in ("count", "color", "shape", last)))  # type: ignore[arg-type]


def scenes_of(parts: Iterable[Part]) -> Iterator[Scene]:
    """The scenes that parts show or describe."""
    for part in parts:
        if isinstance(part.value, Drawing):
            yield part.value.scene
        elif part.type == "text":
            yield from described(part.value)


def parts_of(messages: Iterable[Message]) -> Iterator[Part]:
    """All parts in order."""
    return (part for message in messages for part in message.parts)


def text_of(messages: Iterable[Message]) -> str:
    """All text, media as `<type>`."""
    return "".join(part.value if part.type == "text" else f"<{part.type}>" for part in parts_of(messages))


def pair_of(scene: Scene) -> tuple[str, str] | None:
    """The two values that decide to which split a scene may belong."""
    if scene.kind == "tune":
        return scene["notes"], scene["contour"]
    return (scene["color"], scene["shape"]) if scene.kind in ("picture", "clip") else None
