"""Reads the judge's lessons: the task that a prompt sets, and the answer as the format's own parser reads it.

Apart from the generator, so that tests can check it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any

from nano_reading import Values, parts_of, sections, values_of, wanted_by, words_of

from omnirm.nano.lessons import Lesson, Mix
from omnirm.nano.requests import HINTS
from omnirm.prompts.formats import get_format
from omnirm.prompts.rendered import Rendered
from omnirm.types import Part, Rubric

#: all kinds but the repeated instructions; those that a judge's format asks for, and its name
KINDS = tuple(f.name for f in fields(Mix) if f.name not in ("given", "replay_media"))
FORMATS = {
    "text_thinking": "pairwise-thinking",
    "text_verdict": "pairwise",
    "media_verdict": "pairwise",
    "text_points": "pointwise",
    "media_points": "pointwise",
    "planning": "planning",
    "selection": "selection",
    "refinement": "refinement",
}


def kind_of(row: Lesson) -> str:
    kind = row.task.removesuffix(" given")
    return kind if kind in KINDS else "replay"


def on_media(row: Lesson) -> bool:
    return any(part.type != "text" for part in parts_of(row.messages))


@dataclass
class Task:
    """The prompt of a lesson, read: what is wanted, what is shown, the criteria given or found, and what was asked."""

    key: str
    request: list[Part]
    wanted: Values
    matters: str
    shown: dict[str, Part]
    values: dict[str, Values]
    listed: list[tuple[str, str]]
    text: dict[str, str]
    system: str

    @property
    def criteria(self) -> list[tuple[str, str]]:
        """Those given, else the one that the request says matters."""
        return self.listed or [(self.matters, self.wanted[self.matters])]

    def verdict(self, name: str, value: str) -> str:
        fits = [self.values[x].get(name) == value for x in "AB"]
        return "tie" if fits[0] == fits[1] else "AB"[fits.index(True)]


def criteria_in(text: str) -> list[tuple[str, str]]:
    """Attributes and values of numbered rubrics."""
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        match = re.fullmatch(rf"{number}\. (\w+): the (\w+) should be (\w+)\.", line)
        assert match, line
        assert match[1] == match[2]
        found.append((match[1], match[3]))
    return found


def read(row: Lesson) -> Task:
    system, user = row.messages
    key, parts = sections(user.parts)
    request = parts["prompt"]
    query = request[-1].value
    (matters,) = [name for name, hints in HINTS.items() if any(query.endswith(hint) for hint in hints)]
    shown = {name.removeprefix("response "): parts[name][0] for name in parts if "response" in name}
    text = {name: words_of(content) for name, content in parts.items()}
    return Task(
        key=key,
        request=request,
        wanted=wanted_by(request),
        matters=matters,
        shown=shown,
        values={letter: values_of(part, request) for letter, part in shown.items()},
        listed=criteria_in(text.get("rubrics", "")),
        text=text,
        system=words_of(system.parts),
    )


def rendered(row: Lesson, task: Task) -> Rendered:
    """The prompt as its format gave it, put together again from what it shows."""
    asked = re.search(r"propose (\d+) criteria", task.system)
    rubrics = task.listed or criteria_in(task.text.get("criteria", ""))
    return Rendered(
        messages=row.messages,
        prefill=row.prefill,
        nonce=task.key,
        template_hash="",
        rubrics=tuple(Rubric(name, f"the {name} should be {value}.") for name, value in rubrics),
        allow_tie="[[tie]]" in task.system,
        thinking=row.prefill == "<think>",
        asked=int(asked[1]) if asked else 0,
    )


#: lessons by kind: what was asked, the answer as the format's own parser reads it, and the lesson
Answered = dict[str, list[tuple[Task, Any, Lesson]]]


def answered(rows: Sequence[Lesson]) -> Answered:
    """Reads all lessons in a judge's format."""
    found: Answered = {kind: [] for kind in FORMATS}
    for row in rows:
        if kind_of(row) in FORMATS:
            task = read(row)
            parsed = get_format(FORMATS[kind_of(row)]).parse(rendered(row, task), row.prefill + row.completion, "stop")
            found[kind_of(row)].append((task, parsed, row))
    return found


def verdicts(found: Answered) -> Iterator[tuple[Task, Any, Lesson]]:
    """Those that compare two responses."""
    return chain(found["text_thinking"], found["text_verdict"], found["media_verdict"])


def majority(letters: list[str]) -> str:
    """More criteria decide; where they balance, the first that decides at all."""
    a, b = letters.count("A"), letters.count("B")
    decided = [v for v in letters if v != "tie"]
    return "A" if a > b else "B" if b > a else decided[0] if decided else "tie"


def said_of(values: Values, name: str, value: str) -> str:
    return f"{value}? {values.get(name, 'none')}, {'yes' if values.get(name) == value else 'no'}"
