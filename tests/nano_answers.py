"""Checks every answer of the base's instructions against what is shown, read apart from the generator."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from nano_reading import KEY, Values, list_values, scenes_of, sections, sum_values, told, values_of, wanted_by, words_of

from omnirm.nano.requests import HINTS
from omnirm.nano.scenes import NUMBER_WORDS, Scene
from omnirm.nano.writer import Instruction
from omnirm.types import Message, Part


def turns(row: Instruction) -> Iterator[tuple[list[Part], str]]:
    """Question and answer of every turn."""
    answers = [m.parts[0].value for m in row.messages[1::2]] + [row.prefill + row.completion]
    return zip((list(m.parts) for m in row.messages[::2]), answers, strict=True)


@dataclass
class Seen:
    """What a reader knows from the conversation when a question comes."""

    key: str = ""
    request: str = ""
    wanted: Values = field(default_factory=dict)
    a: Values = field(default_factory=dict)
    b: Values = field(default_factory=dict)
    thing: Scene | None = None

    def which(self, attribute: str) -> str:
        return either(*(values[attribute] == self.wanted[attribute] for values in (self.a, self.b)))


def either(a: bool, b: bool) -> str:
    return "both" if a and b else "A" if a else "B" if b else "neither"


def yes(holds: bool) -> str:
    return "yes" if holds else "no"


def describes(ask: re.Match[str], seen: Seen, answer: str) -> None:
    assert answer[0] == " "
    assert told(answer[1:]) == (seen.thing, 1 if ask[1] else 0)


def says(ask: re.Match[str], seen: Seen, answer: str) -> None:
    assert seen.thing is not None
    assert answer == "".join(f" {name}: {seen.thing[name]}." for name in ask[1].split(", "))


def compared(wanted: str, found: str) -> str:
    return f"{wanted}? {found}, {'yes' if wanted == found else 'no'}"


def checks_one(ask: re.Match[str], seen: Seen, answer: str) -> None:
    assert seen.thing is not None
    names, (wanted, _) = ask[2].split(", "), told(ask[1])
    steps = "".join(f" {name}. {compared(wanted[name], seen.thing[name])}." for name in names)
    fits = all(seen.thing[name] == wanted[name] for name in names)
    assert answer == f"<think>{steps}</think> {yes(fits)}"


def edits(ask: re.Match[str], seen: Seen, answer: str) -> None:
    assert seen.thing is not None
    assert seen.thing[ask[1]] != ask[2]
    assert answer[0] == " "
    assert told(answer[1:]) == (seen.thing.with_value(ask[1], ask[2]), 0)


def says_what_matters(ask: re.Match[str], seen: Seen, answer: str) -> None:
    (name,) = [name for name, hints in HINTS.items() if any(seen.request.endswith(hint) for hint in hints)]
    assert answer == f" {name}. the {name} should be {seen.wanted[name]}."


def says_what_is_wanted(ask: re.Match[str], seen: Seen, answer: str) -> None:
    assert answer == "".join(f" {name}. the {name} should be {seen.wanted[name]}." for name in ask[1].split(", "))


def says_the_key(ask: re.Match[str], seen: Seen, answer: str) -> None:
    assert answer == f" {seen.key}"


def lists(ask: re.Match[str], seen: Seen, answer: str) -> None:
    assert answer[0] == " "
    assert list_values(ask[0], answer[1:]) == wanted_by([Part("text", ask[0])])


def sums(ask: re.Match[str], seen: Seen, answer: str) -> None:
    assert answer[0] == " "
    assert sum_values(answer[1:]) == wanted_by([Part("text", ask[0])])


def adds(ask: re.Match[str], seen: Seen, answer: str) -> None:
    terms = re.findall(r"(\d) plus (\d)", ask[1])
    assert len(terms) == ask[1].count("plus") >= 3
    assert answer == " " + ", ".join(str(int(a) + int(b)) for a, b in terms)


def spells(ask: re.Match[str], seen: Seen, answer: str) -> None:
    assert answer == f" {ask[1]} {ask[2]}. {NUMBER_WORDS[int(ask[3])]} and {NUMBER_WORDS[int(ask[4])]}"


def glances(ask: re.Match[str], seen: Seen, answer: str) -> None:
    assert answer == "".join(f" {name} {seen.which(name)}." for name in ask[1].split(", "))


def glances_for(ask: re.Match[str], seen: Seen, answer: str) -> None:
    found = [(value, either(value in seen.a.values(), value in seen.b.values())) for value in ask[1].split(", ")]
    assert answer == "".join(f" {value} {which}." for value, which in found)


def says_values(ask: re.Match[str], seen: Seen, answer: str) -> None:
    right = ""
    for question in ask[0].removesuffix("?").split("? "):
        if same := re.fullmatch(r"is the (\w+) the same", question):
            a, b = seen.a[same[1]], seen.b[same[1]]
            right += f" {same[1]} {a} and {b}, {yes(a == b)}."
        else:
            name, letter = question.split(" of ")
            right += f" {name} {(seen.a if letter == 'A' else seen.b)[name]}."
    assert answer == right


def checks_two(ask: re.Match[str], seen: Seen, answer: str) -> None:
    names, steps = ask[1].split(", "), ""
    for name in names:
        good = seen.wanted[name]
        steps += f" {name}. the {name} should be {good}.\n"
        steps += f"A {compared(good, seen.a[name])}\nB {compared(good, seen.b[name])}\n {seen.which(name)}"
    assert answer == f"<think>{steps}</think> {seen.key}:" + ",".join(f" {seen.which(name)}" for name in names)


def repeats(ask: re.Match[str], seen: Seen, answer: str) -> None:
    shown = ask[1].split(" ")
    starts = [i for i, word in enumerate(shown) if word == (ask[2] or shown[0])]
    assert answer in [" " + " ".join(shown[i:]) for i in (starts if ask[2] else [0])]


def recalls(ask: re.Match[str], seen: Seen, answer: str) -> None:
    pairs = ask[1].split(", ")
    found = [pair.removeprefix(" ") for pair in answer.split(",")]
    assert answer == "".join(f", {pair}" for pair in found)[1:]
    assert [pair.split(" ")[0] for pair in found] == ask[2].split(", ")
    assert set(found) <= set(pairs)


def compares_words(ask: re.Match[str], seen: Seen, answer: str) -> None:
    wanted, found = (dict(pair.split(" ") for pair in ask[i].split(", ")) for i in (1, 2))
    assert set(wanted) == set(found)
    if ask[3] == "the same?":
        assert answer == "".join(f" {name} {yes(wanted[name] == found[name])}." for name in found)
    else:
        assert answer == "".join(f" {name}. {compared(wanted[name], found[name])}." for name in found)


NAMES = r"(\w+(?:, \w+)*)"
QUESTIONS: dict[str, tuple[str, Callable[[re.Match[str], Seen, str], None]]] = {
    "describe": (r"\ndescribe it( the other way round)?\.", describes),
    "say": (rf"\nsay the {NAMES}\.", says),
    "check one": (rf"\nis it (.+)\? think about the {NAMES} first\.", checks_one),
    "edit": (r"\nchange the (\w+) to (\w+) and keep the rest\. describe the result\.", edits),
    "what matters": (r"what matters most\? what should it be\?", says_what_matters),
    "what is wanted": (rf"what should the {NAMES} be\?", says_what_is_wanted),
    "key": (r"what is the key\?", says_the_key),
    "list": (r"list .*", lists),
    "sum": (r"what is \d+ plus \d+\? answer in (digits|words)\.", sums),
    "add": (r"add (.*)\.", adds),
    "spell": (rf"repeat ({KEY}) ({KEY})\. write (\d+) and (\d+) in words\.", spells),
    "glance": (rf"which is right in {NAMES}\?", glances),
    "glance for": (rf"which has {NAMES}\?", glances_for),
    "values": (r"(?:(?: |^)(?:\w+ of [AB]|is the \w+ the same)\?)+", says_values),
    "think": (rf"check the {NAMES}\. think first, then give the key and the answer\.", checks_two),
    "repeat": (r"repeat (\S+(?: \S+)*?)(?: from (\S+) on)?(?<!\.)", repeats),
    "recall": (r"(.+)\. what is beside (.+)\?", recalls),
    "same words": (r"wanted: (.+)\. found: (.+)\. (the same\?|say each\.)", compares_words),
}
ON_TWO = ("glance", "glance for", "values", "think")


def others_checked(row: Instruction) -> Iterator[tuple[str, Seen]]:
    """Checks the answers of a row without questions on whether each attribute fits."""
    seen = Seen()
    for question, answer in turns(row):
        key, parts = sections(question)
        if key:
            request = parts.get("request") or parts.get("reference") or parts["start"]
            seen = Seen(key, words_of(request), wanted_by(request))
            if "item A" in parts:
                (a,), (b,) = parts["item A"], parts["item B"]
                seen.a, seen.b = values_of(a, request), values_of(b, request)
        elif len(question) == 2:
            (seen.thing,) = scenes_of(question[:1])
        text = words_of(parts["end"]) if key else question[-1].value
        ((kind, ask, check),) = [
            (kind, ask, check) for kind, (form, check) in QUESTIONS.items() if (ask := re.fullmatch(form, text))
        ]
        check(ask, seen, answer)
        yield kind, seen


def checked(row: Instruction) -> Iterator[tuple[str, Seen]]:
    """Checks every answer of a row; the kind of each question and what was seen by then, one thing alone as `a`."""
    if not row.task.startswith("fit"):
        yield from others_checked(row)
        return
    seen, opening = Seen(), list[Part]()
    for question, answer in turns(row):
        key, parts = sections(question)
        if key:
            opening, (end,) = question[:-1], parts["end"]
            assert end is question[-1]
            request = parts.get("request") or parts.get("reference") or parts["start"]
            shown = [parts[name] for name in ("item", "item A", "item B") if name in parts]
            values = [values_of(part, request) for (part,) in shown]
            seen = Seen(key, words_of(request), wanted_by(request), *values)
        if ask := re.fullmatch(rf"(check|find)(?: ([AB]),)? each {NAMES}\.", question[-1].value):
            fits_checked(ask, seen, answer)
            yield " ".join(word for word in (ask[1], ask[2], "each") if word), seen
        else:
            yield from others_checked(Instruction("", (Message("user", (*opening, *question)),), answer))


def fits_checked(ask: re.Match[str], seen: Seen, answer: str) -> None:
    thing, names = seen.b if ask[2] == "B" else seen.a, ask[3].split(", ")
    assert set(names) <= set(seen.wanted) == set(thing)
    assert len(set(names)) == len(names) == (min(3, len(thing)) if ask[2] else len(thing))
    found = {name: f" {thing[name]}," if ask[1] == "find" else "" for name in names}
    assert answer == "".join(f" {name}{found[name]} {yes(thing[name] == seen.wanted[name])}." for name in names)
