"""What the base model is asked: to describe, to compare, to check by thinking first, edits, lists, sums, repeating.

Every task adds turns to a `Writer`. Answers are dense, several attributes in one, so that most of a row teaches.
No task asks which of two responses to a request is better, shows criteria tags or a verdict line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from omnirm.nano import requests as ask
from omnirm.nano.scenes import ATTRIBUTES, FRUITS, NUMBER_WORDS, Scene, changed, describe, random_scene
from omnirm.nano.writer import Writer, random_key
from omnirm.types import Part

Task = Callable[[Writer], None]
_VALUES = tuple(sorted({v for kind in ATTRIBUTES.values() for values in kind.values() for v in values} | set(FRUITS)))


def copy_words(w: Writer) -> None:
    """Repeat words and keys, or those from a given one on."""
    shown = _anything(w, w.rng.randint(5, 9))
    start = 0 if w.rng.random() < 0.6 else w.rng.randrange(1, len(shown) - 1)
    w.user(f"repeat {' '.join(shown)}" if start == 0 else f"repeat {' '.join(shown)} from {shown[start]} on")
    w.assistant(" " + " ".join(shown[start:]))


def recall(w: Writer) -> None:
    """Say what stood beside each of some words or keys."""
    shown = _anything(w, 2 * w.rng.randint(3, 6))
    pairs = list(zip(shown[::2], shown[1::2], strict=True))
    asked = w.rng.sample(pairs, w.rng.randint(2, len(pairs)))
    w.user(f"{', '.join(f'{a} {b}' for a, b in pairs)}. what is beside {', '.join(a for a, _ in asked)}?")
    w.assistant(",".join(f" {a} {b}" for a, b in asked))


def _anything(w: Writer, n: int) -> list[str]:
    """So many different words and keys."""
    keys = sorted({random_key(w.rng) for _ in range(n)})
    return w.rng.sample((*w.rng.sample(_VALUES, n), *keys), n)


def describe_one(w: Writer) -> None:
    """Describe a thing in one of two word orders, or list some of its attributes."""
    scene = w.scene()
    if w.rng.random() < 0.5:
        style = w.rng.randint(0, 1)
        w.user(w.thing(scene), "\ndescribe it." if style == 0 else "\ndescribe it the other way round.")
        w.assistant(" " + describe(scene, style))
        return
    asked = _some(w, scene.attributes, 2, 4)
    w.user(w.thing(scene), f"\nsay the {_listed(asked)}.")
    w.assistant("".join(f" {a}: {scene[a]}." for a in asked))


def check_one(w: Writer) -> None:
    """Think, then say whether a thing fits a description, attribute by attribute."""
    wanted = w.scene()
    scene = _near(wanted, w) if w.rng.random() < 0.7 else wanted
    asked = _some(w, wanted.attributes, 1, 3)
    same = {a: scene[a] == wanted[a] for a in asked}
    steps = "".join(f" {a}. {_compared(wanted[a], scene[a])}." for a in asked)
    w.user(w.thing(scene), f"\nis it {describe(wanted, w.rng.randint(0, 1))}? think about the {_listed(asked)} first.")
    w.assistant(f"<think>{steps}</think> {_YES[all(same.values())]}")


def edit(w: Writer) -> None:
    """Describe a thing as it is after a change."""
    scene = w.scene()
    attribute = w.rng.choice(scene.attributes)
    after = changed(scene, attribute, w.rng, w.split)
    w.user(w.thing(scene), f"\n{ask.edit_query(attribute, after[attribute])} describe the result.")
    w.assistant(" " + describe(after, 0))


def read_request(w: Writer) -> None:
    """Understand a request: what matters most, and what each attribute should be."""
    kind = w.rng.choice(("picture", "clip", "tune", "list", "sum"))
    query, wanted, _ = _note(w, kind) if kind in ("list", "sum") else (None, random_scene(kind, w.rng, w.split), None)
    attribute = w.rng.choice(wanted.attributes)
    text = f"{query or ask.make_query(wanted, w.rng)} {ask.hint(attribute, w.rng)}"
    w.user(*w.section("request", Part("text", text)), w.end(), "what matters most? what should it be?")
    w.assistant(f" {attribute}. {ask.rubric_text(attribute, wanted[attribute])}")
    others = _some(w, [a for a in wanted.attributes if a != attribute], 1, 3)
    w.user(f"what should the {_listed(others)} be?")
    w.assistant("".join(f" {a}. {ask.rubric_text(a, wanted[a])}" for a in others))
    if w.rng.random() < 0.5:
        w.user("what is the key?")
        w.assistant(f" {w.key}")


def do_note(w: Writer) -> None:
    """Make a list, or a sum."""
    query, wanted, write = _note(w, w.rng.choice(("list", "sum")))
    w.user(query)
    w.assistant(" " + write(wanted))


def spell(w: Writer) -> None:
    """Sums, numbers in words, and keys repeated."""
    terms = [ask.random_sum(w.rng) for _ in range(3)]
    w.user(f"add {', '.join(f'{a} plus {b}' for a, b in terms)}.")
    w.assistant(f" {', '.join(str(a + b) for a, b in terms)}")
    numbers = [w.rng.randint(2, 18) for _ in range(2)]
    keys = [random_key(w.rng) for _ in range(2)]
    w.user(f"repeat {' '.join(keys)}. write {numbers[0]} and {numbers[1]} in words.")
    w.assistant(f" {' '.join(keys)}. {' and '.join(NUMBER_WORDS[n] for n in numbers)}")


def repeat_keys(w: Writer) -> None:
    """Repeat keys."""
    keys = [random_key(w.rng) for _ in range(w.rng.randint(3, 6))]
    w.user(f"repeat {' '.join(keys)}")
    w.assistant(f" {' '.join(keys)}")


def add_up(w: Writer) -> None:
    """Sums, several at once."""
    terms = [ask.random_sum(w.rng) for _ in range(6)]
    w.user(f"add {', '.join(f'{a} plus {b}' for a, b in terms)}.")
    w.assistant(f" {', '.join(str(a + b) for a, b in terms)}")


def same_words(w: Writer) -> None:
    """Whether attributes are as wanted, given in so many words: at once, or saying each first."""
    wanted = random_scene(w.rng.choice(list(ATTRIBUTES)), w.rng, w.split)
    found = _near(wanted, w)
    asked = _some(w, wanted.attributes, 2, 4)
    told = [", ".join(f"{a} {which[a]}" for a in order) for which, order in ((wanted, sorted(asked)), (found, asked))]
    at_once = w.rng.random() < 0.5
    w.user(f"wanted: {told[0]}. found: {told[1]}. " + ("the same?" if at_once else "say each."))
    if at_once:
        w.assistant("".join(f" {a} {_YES[wanted[a] == found[a]]}." for a in asked))
    else:
        w.assistant("".join(f" {a}. {_compared(wanted[a], found[a])}." for a in asked))


def fit_one(w: Writer) -> None:
    """Whether one thing is as wanted, attribute by attribute: the found value before each yes or no, or none at all."""
    if w.rng.random() < 0.3:
        query, wanted, write = _note(w, w.rng.choice(("list", "sum")))
        found = ask.near_sum(_near(wanted, w), wanted, w.rng)
        goal: list[str | Part] = w.section("request", Part("text", query))
        item = Part("text", write(found))
    else:
        wanted = w.scene()
        found = _near(wanted, w)
        goal, item = _goal(w, wanted), w.thing(found)
    asked = w.rng.sample(wanted.attributes, len(wanted.attributes))
    fits = {a: _YES[wanted[a] == found[a]] for a in asked}
    opening = [*goal, *w.section("item", item), w.end()]
    if w.rng.random() < 0.35:
        w.user(*opening, f"find each {_listed(asked)}.")
        w.assistant("".join(f" {a} {found[a]}, {fits[a]}." for a in asked))
    else:
        w.user(*opening, f"check each {_listed(asked)}.")
        w.assistant("".join(f" {a} {fits[a]}." for a in asked))


def fit_two(w: Writer) -> None:
    """Whether each of two things is as wanted, attribute by attribute, then which of the two is."""
    case = _two_notes(w) if w.rng.random() < 0.3 else _two_things(w)
    opening = case.opening
    for letter, thing in w.rng.sample((("A", case.a), ("B", case.b)), 2):
        asked = w.rng.sample(case.wanted.attributes, min(len(case.wanted.attributes), 3))
        w.user(*opening, f"check {letter}, each {_listed(asked)}.")
        w.assistant("".join(f" {a} {_YES[case.wanted[a] == thing[a]]}." for a in asked))
        opening = []
    _glance(w, case, [])


def glance_two(w: Writer) -> None:
    """Which of two things have given values, then which are right in some attributes: at once, without thinking."""
    case = _two_notes(w) if w.rng.random() < 0.3 else _two_things(w)
    first, second = w.rng.choice(((_glance_for, _glance), (_glance, _glance_for), (_glance_for, _glance_for)))
    first(w, case, case.opening)
    second(w, case, [])


@dataclass(frozen=True, slots=True)
class Case:
    """Two things, what is wanted of them, and the opening that shows all three (or the things alone)."""

    wanted: Scene
    a: Scene
    b: Scene
    opening: list[str | Part]


def compare_two(w: Writer) -> None:
    """Compare two things in one to three ways: at a glance, by questions, by thinking first."""
    notes = w.rng.random() < 0.3
    case = _two_notes(w) if notes else _two_things(w)
    first, second = w.rng.choice(((_glance, _check), (_ask_values, _check), (_glance, _glance_for), (_check, None)))
    first(w, case, case.opening)
    if second is not None:
        second(w, case, [])


def _glance(w: Writer, case: Case, opening: list[str | Part]) -> None:
    """Which of two are right in some attributes, at once."""
    asked = _some(w, case.wanted.attributes, 2, 4)
    w.user(*opening, f"which is right in {_listed(asked)}?")
    w.assistant("".join(f" {a} {_which(case, a)}." for a in asked))


def _glance_for(w: Writer, case: Case, opening: list[str | Part]) -> None:
    """Which of two have given values."""
    values = []
    for attribute in _some(w, case.wanted.attributes, 2, 3):
        value = w.rng.choice((case.a, case.b, case.wanted))[attribute]
        values.append((value, _either(case.a[attribute] == value, case.b[attribute] == value)))
    w.user(*opening, f"which has {_listed([v for v, _ in values])}?")
    w.assistant("".join(f" {value} {which}." for value, which in values))


def _ask_values(w: Writer, case: Case, opening: list[str | Part]) -> None:
    """Attributes of either, and whether they are the same."""
    questions, answers = [], []
    for _ in range(w.rng.randint(2, 4)):
        attribute, letter = w.rng.choice(case.wanted.attributes), w.rng.choice(("A", "B", "both"))
        a, b = case.a[attribute], case.b[attribute]
        if letter == "both":
            questions.append(f"is the {attribute} the same?")
            answers.append(f" {attribute} {a} and {b}, {_YES[a == b]}.")
        else:
            questions.append(f"{attribute} of {letter}?")
            answers.append(f" {attribute} {a if letter == 'A' else b}.")
    w.user(*opening, " ".join(questions))
    w.assistant("".join(answers))


def _check(w: Writer, case: Case, opening: list[str | Part]) -> None:
    """Think, then say which of two have the wanted values of one to three attributes."""
    room = 3 if opening else (105 - w.rough_tokens()) // 24  # so that rows have like lengths
    asked = _some(w, case.wanted.attributes, 1, min(max(room, 1), 3))
    steps = []
    for name in asked:
        value = case.wanted[name]
        said = "".join(f"{letter} {_compared(value, x[name])}\n" for letter, x in (("A", case.a), ("B", case.b)))
        steps.append(f" {name}. the {name} should be {value}.\n{said} {_which(case, name)}")
    w.user(*opening, f"check the {_listed(asked)}. think first, then give the key and the answer.")
    w.assistant(f"<think>{''.join(steps)}</think> {w.key}:{','.join(f' {_which(case, a)}' for a in asked)}")


def _compared(wanted: str, found: str) -> str:
    return f"{wanted}? {found}, {_YES[wanted == found]}"


_YES = {True: "yes", False: "no"}


def _either(a: bool, b: bool) -> str:
    return {(True, True): "both", (True, False): "A", (False, True): "B", (False, False): "neither"}[a, b]


def _which(case: Case, attribute: str) -> str:
    value = case.wanted[attribute]
    return _either(case.a[attribute] == value, case.b[attribute] == value)


def _some(w: Writer, attributes: tuple[str, ...] | list[str], least: int, most: int) -> list[str]:
    return w.rng.sample(attributes, min(len(attributes), w.rng.randint(least, most)))


def _listed(names: list[str]) -> str:
    return ", ".join(names)


def _near(scene: Scene, w: Writer) -> Scene:
    """Another scene of the kind that shares about half of the attributes."""
    other = scene
    for attribute in scene.attributes:
        if w.rng.random() < 0.5:
            other = changed(other, attribute, w.rng, w.split)
    return other


def _items(w: Writer, a: Part, b: Part) -> list[str | Part]:
    return w.section("item A", a) + w.section("item B", b) + [w.end()]


def _two_things(w: Writer) -> Case:
    wanted = w.scene()
    a, b = _near(wanted, w), _near(wanted, w)
    return Case(wanted, a, b, _goal(w, wanted) + _items(w, w.thing(a), w.thing(b)))


def _goal(w: Writer, wanted: Scene) -> list[str | Part]:
    """What is wanted: in words, as a request, shown by a reference, or a reference with a change."""
    how = w.rng.randrange(4)
    if how == 0:
        return [f"wanted: {describe(wanted, w.rng.randint(0, 1))}\n"]
    if how == 1:
        return w.section("request", Part("text", ask.make_query(wanted, w.rng)))
    if how == 2:
        return w.section("reference", w.thing(wanted))
    attribute = w.rng.choice(wanted.attributes)
    before = changed(wanted, attribute, w.rng, w.split)
    change = ask.edit_query(attribute, wanted[attribute])
    return w.section("reference", w.thing(before), Part("text", f"\n{change}"))


def _note(w: Writer, kind: str) -> tuple[str, Scene, Callable[[Scene], str]]:
    """A list or sum: the query, what it wants, and how an answer with given attributes is written."""
    if kind == "list":
        items, wanted = ask.random_items(w.rng), ask.wanted_list(w.rng)
        return ask.list_query(items, wanted), wanted, lambda scene: ask.list_note(items, scene, w.rng.randrange(12))
    terms = ask.random_sum(w.rng)
    wanted = ask.wanted_sum(terms, w.rng)
    return ask.sum_query(terms, wanted), wanted, ask.sum_note


def _two_notes(w: Writer) -> Case:
    query, wanted, write = _note(w, w.rng.choice(("list", "sum")))
    a, b = (ask.near_sum(_near(wanted, w), wanted, w.rng) for _ in range(2))
    opening = w.section("request", Part("text", query))
    return Case(wanted, a, b, opening + _items(w, Part("text", write(a)), Part("text", write(b))))
