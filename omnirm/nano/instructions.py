"""What the nano base model is taught: instructions over text, pictures, clips and tunes; everything except judging.

The base stands in for a real Qwen-Omni, which can see, hear, read, compare and think step by step, on text and on media
alike, but was never asked which of two responses to a request is better. So: descriptions, questions, comparing two
things, checking a thing against given words or against another thing with thinking first, edits, lists, sums; every
thing given as a medium or in words. Requests are read (what matters most?), but never beside two responses; no criteria
tags, no verdict line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from omnirm.nano import requests as ask
from omnirm.nano.draw import render
from omnirm.nano.scenes import ATTRIBUTES, FRUITS, NUMBER_WORDS, Scene, Split, changed, describe, random_scene, words
from omnirm.types import Message, Part

Piece = str | Scene
MEDIUM = {"picture": "image", "clip": "video", "tune": "audio"}


@dataclass(frozen=True, slots=True)
class Instruction:
    """A conversation to learn: messages, assistant turns among them, and the last answer after its prefill.

    The assistant turns are learned too. `task` names the kind of the last one.
    """

    task: str
    messages: tuple[Message, ...]
    completion: str
    prefill: str = ""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A medium still to be drawn: cheap to make, drawn when a collator or a file writer needs the bytes."""

    scene: Scene
    seed: float

    def render(self) -> tuple[bytes, str]:
        """The media file's bytes and suffix; the same for the same scene and seed."""
        return render(self.scene, Random(self.seed))


def medium(scene: Scene, rng: Random) -> Part:
    """The scene as a media part that is drawn on demand."""
    return Part(MEDIUM[scene.kind], Drawing(scene, rng.random()))  # type: ignore[arg-type]


def mark(rng: Random) -> str:
    """A section mark, as the judge's prompts have them."""
    return "#" + "".join(rng.choices("0123456789abcdef", k=4))


Done = tuple[str, str]


class Writer:
    """Writes one instruction: chooses media or words for things, and collects turns."""

    def __init__(self, rng: Random, split: Split, media: float) -> None:
        self.rng, self.split, self.media = rng, split, media
        self.turns: list[tuple[str, list[Part]]] = []
        self.mark = mark(rng)

    def thing(self, scene: Scene) -> Part:
        """A medium with probability `media`, else words."""
        if scene.kind in MEDIUM and self.rng.random() < self.media:
            return medium(scene, self.rng)
        return Part("text", words(scene, self.rng.randint(0, 1)))

    def scene(self) -> Scene:
        """A random picture, clip or tune."""
        return random_scene(self.rng.choice(("picture", "clip", "tune")), self.rng, self.split)

    def user(self, *pieces: str | Part) -> None:
        """A user turn."""
        self.turns.append(("user", [p if isinstance(p, Part) else Part("text", p) for p in pieces]))

    def assistant(self, text: str) -> None:
        """An answer."""
        self.turns.append(("assistant", [Part("text", text, trusted=True)]))

    def done(self, task: str, prefill: str = "") -> Instruction:
        """The instruction; the last turn must be an answer that starts with `prefill`."""
        role, parts = self.turns.pop()
        text = parts[0].value
        if role != "assistant" or not text.startswith(prefill):
            raise ValueError("the last turn must be an answer that starts with the prefill")
        messages = tuple(Message(r, tuple(p)) for r, p in self.turns)  # type: ignore[arg-type]
        return Instruction(task, messages, text[len(prefill) :], prefill)

    def rough_tokens(self) -> int:
        """About how long the conversation is by now."""
        parts = [p for _, parts in self.turns for p in parts]
        words = sum(len(p.value.split()) for p in parts if p.type == "text")
        return 4 * len(self.turns) + int(1.3 * words) + sum(_MEDIUM_TOKENS.get(p.type, 0) for p in parts)

    def section(self, name: str, *pieces: Part) -> list[str | Part]:
        """A marked section."""
        return [f"{self.mark} {name}\n", *pieces, "\n"]


def _near(scene: Scene, w: Writer, keep: str = "") -> Scene:
    """Another scene of the kind that shares some attributes, among them the one to keep."""
    other = scene
    for attribute in scene.attributes:
        if attribute != keep and w.rng.random() < 0.5:
            other = changed(other, attribute, w.rng, w.split)
    return other


def _questions(w: Writer, scene: Scene, n: int) -> None:
    for attribute in w.rng.sample(scene.attributes, min(n, len(scene.attributes))):
        w.user(f"what is the {attribute}?")
        w.assistant(scene[attribute])


def describe_one(w: Writer) -> Done:
    """Describe a thing, then answer questions on it."""
    scene = w.scene()
    style = w.rng.randint(0, 1)
    w.user(w.thing(scene), "\ndescribe it." if style == 0 else "\ndescribe it the other way round.")
    w.assistant(describe(scene, style))
    _questions(w, scene, 2)
    return "describe", ""


def questions_on_one(w: Writer) -> Done:
    """Questions on one thing."""
    scene = w.scene()
    w.user(w.thing(scene), "\nanswer briefly.")
    w.assistant("yes")
    _questions(w, scene, 4)
    return "questions", ""


def _two(w: Writer) -> tuple[Scene, Scene, Scene, list[str | Part]]:
    wanted = w.scene()
    a, b = _near(wanted, w), _near(wanted, w)
    return wanted, a, b, _items(w, a, b)


def _items(w: Writer, a: Scene, b: Scene) -> list[str | Part]:
    return w.section("item A", w.thing(a)) + w.section("item B", w.thing(b)) + [f"{w.mark} end\n"]


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


def _one_right(w: Writer, wanted: Scene, attribute: str) -> tuple[Scene, Scene]:
    """Two things of which exactly one has the wanted value of the attribute (where the split allows it)."""
    right = _near(wanted, w, keep=attribute)
    wrong = changed(_near(wanted, w, keep=attribute), attribute, w.rng, w.split)
    return (right, wrong) if w.rng.random() < 0.5 else (wrong, right)


def questions_on_two(w: Writer) -> Done:
    """Questions on two things: values, same or different, which one is so."""
    wanted, a, b, pieces = _two(w)
    first = True
    for attribute in w.rng.sample(wanted.attributes, min(3, len(wanted.attributes))):
        kind = w.rng.randrange(4)
        value = wanted[attribute]
        if kind == 0:
            question, answer = f"what is the {attribute} of A?", a[attribute]
        elif kind == 1:
            question, answer = f"what is the {attribute} of B?", b[attribute]
        elif kind == 2:
            question, answer = f"is the {attribute} the same?", "yes" if a[attribute] == b[attribute] else "no"
        else:
            question, answer = (
                f"which has the {attribute} {value}?",
                _which(a[attribute] == value, b[attribute] == value),
            )
        w.user(*(pieces if first else []), question)
        w.assistant(answer)
        first = False
    return "two", ""


def which_of_two(w: Writer) -> Done:
    """Which of two things has the value asked for, or the wanted one, where exactly one has; up to three times."""
    wanted = w.scene()
    attribute = w.rng.choice(wanted.attributes)
    a, b = _one_right(w, wanted, attribute)
    named = w.rng.random() < 0.5
    pieces = ([] if named else _goal(w, wanted)) + _items(w, a, b)
    differing = [x for x in wanted.attributes if (a[x] == wanted[x]) != (b[x] == wanted[x])]
    if not differing:
        return questions_on_one(w)
    w.rng.shuffle(differing)
    for i, attribute in enumerate(differing[:3]):
        goal = f"the {attribute} {wanted[attribute]}" if named else f"the right {attribute}"
        w.user(*(pieces if i == 0 else []), f"which has {goal}, A or B?")
        w.assistant("A" if a[attribute] == wanted[attribute] else "B")
    return "which", ""


def _which(a: bool, b: bool) -> str:
    return {(True, True): "both", (True, False): "A", (False, True): "B", (False, False): "neither"}[a, b]


def check_two(w: Writer) -> Done:
    """Think, then say which of two things have the wanted value of an attribute; three ways to write the thoughts."""
    wanted = w.scene()
    attribute = w.rng.choice(wanted.attributes)
    a, b = _one_right(w, wanted, attribute) if w.rng.random() < 0.7 else (_near(wanted, w), _near(wanted, w))
    value = wanted[attribute]
    of_a, of_b = a[attribute], b[attribute]
    is_a, is_b = ("yes" if of_a == value else "no"), ("yes" if of_b == value else "no")
    answer = _which(of_a == value, of_b == value)
    thought, tail, tell = w.rng.choice(
        (
            (f"the {attribute} should be {value}. A: {of_a}, {is_a}. B: {of_b}, {is_b}.", answer, "think first."),
            (
                f"{attribute}. the {attribute} should be {value}.\nA {of_a}, {is_a}\nB {of_b}, {is_b}\n{answer}",
                f"{w.mark[1:]}: {answer}",
                "think first, then give the mark and the answer.",
            ),
            (f"A has {of_a}. B has {of_b}. wanted {value}.", answer, "think first, A and B before what is wanted."),
        )
    )
    w.user(*_goal(w, wanted), *_items(w, a, b), f"check the {attribute}. {tell}")
    w.assistant(f"<think>{thought}</think>{tail}")
    return "check", "<think>" if w.rng.random() < 0.7 else ""


def check_one(w: Writer) -> Done:
    """Think, then say whether a thing fits a description, attribute by attribute."""
    wanted = w.scene()
    scene = _near(wanted, w) if w.rng.random() < 0.7 else wanted
    attributes = w.rng.sample(wanted.attributes, 2)
    steps, fits = [], True
    for attribute in attributes:
        same = scene[attribute] == wanted[attribute]
        fits = fits and same
        steps.append(f"the {attribute} should be {wanted[attribute]}. {scene[attribute]}, {'yes' if same else 'no'}.")
    w.user(
        w.thing(scene),
        f"\nis it {describe(wanted, w.rng.randint(0, 1))}? think about {attributes[0]} and {attributes[1]} first.",
    )
    w.assistant(f"<think>{' '.join(steps)}</think>{'yes' if fits else 'no'}")
    return "check one", "<think>" if w.rng.random() < 0.7 else ""


def edit(w: Writer) -> Done:
    """Describe a thing as it is after a change; then questions on what is asked for."""
    scene = w.scene()
    attribute = w.rng.choice(scene.attributes)
    after = changed(scene, attribute, w.rng, w.split)
    w.user(w.thing(scene), f"\n{ask.edit_query(attribute, after[attribute])} describe the result.")
    w.assistant(describe(after, 0))
    for other in w.rng.sample(scene.attributes, 2):
        w.user(f"what should the {other} be?")
        w.assistant(after[other])
    return "edit", ""


def read_request(w: Writer) -> Done:
    """Understand a request: what is asked for and what matters most."""
    kind = w.rng.choice(("picture", "clip", "tune", "list", "sum"))
    if kind == "list":
        wanted = ask.wanted_list(w.rng)
        query = ask.list_query(ask.random_items(w.rng), wanted)
    elif kind == "sum":
        terms = ask.random_sum(w.rng)
        wanted = ask.wanted_sum(terms, w.rng)
        query = ask.sum_query(terms, wanted)
    else:
        wanted = random_scene(kind, w.rng, w.split)
        query = ask.make_query(wanted, w.rng)
    attribute = w.rng.choice(wanted.attributes)
    w.user(*w.section("request", Part("text", f"{query} {ask.hint(attribute, w.rng)}")), "what matters most?")
    w.assistant(attribute)
    w.user(f"what should the {attribute} be?")
    w.assistant(wanted[attribute])
    other = w.rng.choice(wanted.attributes)
    w.user(f"what should the {other} be? say it in a sentence.")
    w.assistant(f"{other}. {ask.rubric_text(other, wanted[other])}")
    if w.rng.random() < 0.5:
        w.user("what is the mark?")
        w.assistant(w.mark[1:])
    return "request", ""


def notes(w: Writer) -> Done:
    """Lists and sums: do them, and say how two given answers are done."""
    if w.rng.random() < 0.5:
        items, wanted = ask.random_items(w.rng), ask.wanted_list(w.rng)
        query = ask.list_query(items, wanted)

        def write(scene: Scene) -> str:
            return ask.list_note(items, scene, w.rng)
    else:
        terms = ask.random_sum(w.rng)
        wanted = ask.wanted_sum(terms, w.rng)
        query = ask.sum_query(terms, wanted)
        write = ask.sum_note
    a, b = (_near(wanted, w) for _ in range(2))
    if wanted.kind == "sum":
        a, b = (_near_sum(s, wanted, w) for s in (a, b))
    if w.rng.random() < 0.3:
        w.user(query)
        w.assistant(write(wanted))
        return "do", ""
    pieces = w.section("request", Part("text", query))
    pieces += (
        w.section("item A", Part("text", write(a))) + w.section("item B", Part("text", write(b))) + [f"{w.mark} end\n"]
    )
    attribute = w.rng.choice(wanted.attributes)
    if w.rng.random() < 0.5:
        value, yes = wanted[attribute], {True: "yes", False: "no"}
        w.user(*pieces, f"check the {attribute}. think first.")
        w.assistant(
            f"<think>the {attribute} should be {value}. A: {a[attribute]}, {yes[a[attribute] == value]}. "
            f"B: {b[attribute]}, {yes[b[attribute] == value]}.</think>"
            + _which(a[attribute] == value, b[attribute] == value)
        )
        return "check notes", "<think>" if w.rng.random() < 0.7 else ""
    for i, (letter, scene) in enumerate(w.rng.sample([("A", a), ("B", b), ("A", a), ("B", b)], 3)):
        attribute = w.rng.choice(wanted.attributes)
        w.user(*(pieces if i == 0 else []), f"what is the {attribute} of {letter}?")
        w.assistant(scene[attribute])
    return "notes", ""


def _near_sum(scene: Scene, wanted: Scene, w: Writer) -> Scene:
    """Wrong results lie near the right one."""
    if scene["correctness"] == wanted["correctness"]:
        return scene
    right = int(wanted["correctness"])
    return scene.with_value(
        "correctness", str(w.rng.choice([n for n in range(max(2, right - 3), min(18, right + 3) + 1) if n != right]))
    )


_WORDS = tuple(sorted({v for kind in ATTRIBUTES.values() for values in kind.values() for v in values} | set(FRUITS)))


def copy_words(w: Writer) -> Done:
    """Repeat words, or those from a given word on."""
    shown = w.rng.choices(_WORDS, k=w.rng.randint(5, 9))
    start = 0 if w.rng.random() < 0.6 else w.rng.randrange(1, len(shown) - 1)
    if shown.index(shown[start]) != start:
        start = 0
    w.user(f"repeat {' '.join(shown)}" if start == 0 else f"repeat {' '.join(shown)} from {shown[start]} on")
    w.assistant(" " + " ".join(shown[start:]))
    return "copy", ""


def spell(w: Writer) -> Done:
    """Numbers in words, and marks repeated."""
    number = w.rng.randint(0, 18)
    other = mark(w.rng)[1:]
    w.user(f"repeat {other}.")
    w.assistant(other)
    w.user(f"write {number} in words.")
    w.assistant(NUMBER_WORDS[number])
    return "spell", ""


#: a task adds turns to a writer and returns its name and the prefill that its last answer may begin with
Task = Callable[[Writer], Done]
#: task, weight in the text stage, weight in the media stage
TASKS: tuple[tuple[Task, float, float], ...] = (
    (describe_one, 1.5, 2.0),
    (questions_on_one, 1.0, 1.0),
    (questions_on_two, 1.5, 2.0),
    (which_of_two, 1.5, 3.0),
    (check_two, 4.0, 4.0),
    (check_one, 1.0, 1.0),
    (edit, 0.7, 0.7),
    (read_request, 1.5, 0.7),
    (notes, 3.0, 1.0),
    (spell, 0.5, 0.2),
)
_SHORT = frozenset({describe_one, questions_on_one, check_one, edit, read_request, spell})
_FIRST = frozenset({describe_one, questions_on_one, check_one})
_ENOUGH = 85  # rough tokens at which a conversation of short tasks ends, so that rows have like lengths
_MEDIUM_TOKENS = {"image": 11, "video": 20, "audio": 22}


def instruction(seed: int, split: Split = "train", media: float = 0.75, stage: str = "all") -> Instruction:
    """The instruction of that seed.

    Args:
        seed: the same seed gives the same instruction.
        split: where its scenes may come from.
        media: share of things shown as media; 0 is the text stage.
        stage: `copy` (repeat words: the first thing a model from scratch must learn), `single` (tasks on one thing) or
            `all`.
    """
    rng = Random(f"instruction {split} {seed}")
    w = Writer(rng, split, media)
    if stage == "copy":
        name, prefill = copy_words(w)
        return w.done(name, prefill)
    known = [(t, text if media == 0 else shown) for t, text, shown in TASKS if stage == "all" or t in _FIRST]
    task = rng.choices([t for t, _ in known], [x for _, x in known])[0]
    name, prefill = task(w)
    short = [(t, x) for t, x in known if t in _SHORT]
    while task in _SHORT and w.rough_tokens() < _ENOUGH:
        task = rng.choices([t for t, _ in short], [x for _, x in short])[0]
        name, prefill = task(w)
    return w.done(name, prefill)


def vocabulary(n: int = 4000) -> list[str]:
    """Text of the nano world to train a tokenizer on."""
    out = []
    for seed in range(n):
        row = instruction(seed, media=0.0)
        out += [p.value for m in row.messages for p in m.parts] + [row.completion, row.prefill]
    out += [
        "# prompt\n",
        "# response A\n",
        "# response B\n",
        "# rubrics\n",
        "# end\n",
        "\nVerdict ",
        "A]]",
        "B]]",
        ": [[",
    ] * 200
    out += [
        f"1. {a}: the {a} should be {v}." for kind in ATTRIBUTES.values() for a, values in kind.items() for v in values
    ] * 5
    out += [f"{a}: {v}" for kind in ATTRIBUTES.values() for a, values in kind.items() for v in values] * 20
    return out + ["system\nuser\nassistant\n"] * 200
