"""Reads the nano world's words back into scenes and values, apart from the generator, so that tests can check it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from omnirm.nano.scenes import FRUITS, NUMBER_WORDS, Scene
from omnirm.nano.writer import Drawing
from omnirm.prompts.render import SYLLABLES
from omnirm.types import Message, Part

_COUNT = "(?P<count>one|two|three)"
_COLOR = "(?P<color>red|green|blue|yellow|purple|black)"
_NOUN = "(?P<noun>circles?|squares?|triangles?|cross(?:es)?)"
_WHERE = "(?:at the (?P<place>top|middle|bottom)|moving (?P<direction>left|right|up|down))"
_NOTES = "(?P<notes>two|three|four)"
_PITCH = "(?P<pitch>low|medium|high)"
_CONTOUR = "(?P<contour>rising|falling|flat)"
_TIMBRE = "(?P<timbre>pure|buzzing)"
#: style 0 and style 1 of pictures and clips, then of tunes
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
CHATTER = "well, here you go: "
_SYLLABLE = f"(?:{'|'.join(SYLLABLES)})"
KEY = f"{_SYLLABLE}(?:-{_SYLLABLE})+"
_MARK = re.compile(rf"\n?# ({KEY}) ([a-z]+(?: [AB])?)\n?")
#: what must never be seen in training, written out once more
KEPT_FOR_TEST = {("red", "triangle"), ("blue", "cross"), ("green", "circle"), ("purple", "square"), ("four", "falling")}
KEPT_FOR_VALIDATION = {("yellow", "cross"), ("black", "circle"), ("two", "flat")}

Values = dict[str, str]


def described(text: str) -> list[Scene]:
    """Every picture, clip or tune that the text describes in full."""
    return [_scene(match) for form in _FORMS for match in form.finditer(text)]


def told(text: str) -> tuple[Scene, int]:
    """The scene that the whole text describes, and in which of the two styles."""
    ((match, style),) = [(m, i % 2) for i, form in enumerate(_FORMS) if (m := form.fullmatch(text))]
    return _scene(match), style


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
    return words_of(parts_of(messages))


def words_of(parts: Iterable[Part]) -> str:
    """The text of parts, media as `<type>`."""
    return "".join(part.value if part.type == "text" else f"<{part.type}>" for part in parts)


def pair_of(scene: Scene) -> tuple[str, str] | None:
    """The two values that decide to which split a scene may belong."""
    if scene.kind == "tune":
        return scene["notes"], scene["contour"]
    return (scene["color"], scene["shape"]) if scene.kind in ("picture", "clip") else None


# Lists and sums


def items_of(query: str) -> list[str]:
    """What a request for a list wants listed."""
    names = re.match(r"list ([a-z, ]+?) in ", query)
    assert names
    items = names[1].split(", ")
    assert 3 <= len(set(items)) == len(items) <= 4
    assert set(items) <= set(FRUITS)
    return items


def list_values(query: str, answer: str) -> Values:
    """The attributes of an answer to a request for a list."""
    items, body = items_of(query), answer.removeprefix(CHATTER)
    shown = re.split(r", | - ", body)
    assert set(shown) <= set(items)
    kept = [i for i in items if i in shown]
    assert shown in (kept, kept[::-1])
    assert len(shown) >= 2, "with one item left there is no order and no separator to see"
    return {
        "completeness": "complete" if len(shown) == len(items) else "incomplete",
        "order": "forward" if shown == kept else "reverse",
        "format": "dashes" if " - " in body else "commas",
        "brevity": "brief" if body == answer else "chatty",
    }


def sum_values(answer: str) -> Values:
    """The attributes of an answer to a sum."""
    body = answer.removeprefix(CHATTER)
    return {
        "correctness": body if body.isdigit() else str(NUMBER_WORDS.index(body)),
        "format": "digits" if body.isdigit() else "words",
        "brevity": "brief" if body == answer else "chatty",
    }


# What is asked for, and what answers it


def wanted_by(parts: Sequence[Part]) -> Values:
    """What a request asks for: a thing in words, one like the thing it shows, that thing changed, a list, a sum."""
    query = parts[-1].value if parts[-1].type == "text" else ""
    if query.startswith("list "):
        form = re.search("(in this order|in reverse order) with (commas|dashes)", query)
        assert form
        order = "forward" if form[1] == "in this order" else "reverse"
        return {"completeness": "complete", "order": order, "format": form[2], "brevity": "brief"}
    if query.startswith("what is "):
        terms = re.match(r"what is (\d+) plus (\d+)\? answer in (digits|words)", query)
        assert terms
        return {"correctness": str(int(terms[1]) + int(terms[2])), "format": terms[3], "brevity": "brief"}
    (scene,) = scenes_of(parts)
    values = dict(scene.values)
    if change := re.search("change the ([a-z]+) to ([a-z]+) and keep the rest", query):
        assert change[1] in values
        values[change[1]] = change[2]
    return values


def values_of(answer: Part, request: Sequence[Part]) -> Values:
    """The attributes of what answers a request."""
    query = request[-1].value if request[-1].type == "text" else ""
    if query.startswith("list "):
        return list_values(query, answer.value)
    if query.startswith("what is "):
        return sum_values(answer.value)
    (scene,) = scenes_of([answer])
    return dict(scene.values)


def sections(parts: Iterable[Part]) -> tuple[str, dict[str, list[Part]]]:
    """The key of a turn's section marks and its sections by name; `start` and `end` hold what is around them."""
    key, name = "", "start"
    found: dict[str, list[Part]] = {"start": []}
    for part in parts:
        mark = _MARK.fullmatch(part.value) if part.type == "text" else None
        if mark is not None:
            assert key in ("", mark[1]), "one key for all marks"
            key, name = mark[1], mark[2]
            assert name not in found, f"two sections {name}"
            found[name] = []
        elif part.value != "\n":
            found[name].append(part)
    assert not key or "end" in found
    return key, found
