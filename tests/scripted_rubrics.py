"""Scripted models for the steps around rubrics: planners that write given lines, judges that look for a word.

The judge prefers the response that contains the name of the first rubric shown; where both or none does, it prefers
whatever stands first, which both orders together make a tie.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from omnirm.backends.scripted import Answer, ScriptedBackend, prompt_text, say
from omnirm.judge import Judge
from omnirm.sample import Sample
from omnirm.types import Request, Rubric

STEPS = {
    "you propose the criteria": "planning",
    "you break a coarse criterion": "decompose",
    "of which one is known to be better": "contrast",
    "you pick the one": "selection",
    "revise a response to a prompt": "refinement",
}


def pair(a: str, b: str, label: Any = 0, id: str = "s", **more: Any) -> Sample:
    return Sample.from_dict({"id": id, "prompt": "q", "candidates": [a, b], "label": label, **more})


def step(request: Request) -> str:
    opening = prompt_text(request).split("\n", 1)[0]
    return next((name for words, name in STEPS.items() if words in opening), "judge")


def section(request: Request, name: str) -> str:
    """What stands in a section of the user turn, "" where there is none."""
    found = re.search(rf"^# (\S+) {name}\n(.*?)\s*^# \1 ", user_text(request), re.MULTILINE | re.DOTALL)
    return found[2].strip() if found else ""


def user_text(request: Request) -> str:
    return "".join(str(part.value) for part in request.messages[1].parts if part.type == "text")


def lines(request: Request, rubrics: Sequence[str]) -> str:
    """The answer to a planning prompt, which already begins with `1.`."""
    key = request.prefill.split()[1]
    numbered = "\n".join(f"{i}. {text}" for i, text in enumerate(rubrics, 1))
    return f"{numbered.removeprefix('1.')}\n# {key} end"


def by_word(request: Request) -> str:
    name = re.match(r"1\. ([^:(\n]+)", section(request, "rubrics"))
    assert name is not None, "judged without a rubric"
    has = [name[1].strip().lower() in section(request, f"response {letter}").lower() for letter in "AB"]
    return say("B" if has == [False, True] else "A")(request)


def shown_rubrics(request: Request) -> list[str]:
    """The names of the rubrics that a judge is shown, in order."""
    return [name.strip() for name in re.findall(r"^\d+\. ([^:(\n]+)", section(request, "rubrics"), re.MULTILINE)]


def says(verdicts: Mapping[str, str | None]) -> Callable[[Request], Answer]:
    """A judge with a table: the verdict under each rubric (several: `One + Two`; none: ``), None for an answer that
    nobody can read. It knows the response that begins with `first` in either place, and says `<rubric> on <response>`.
    """

    def answer(request: Request) -> str:
        shown = shown_rubrics(request)
        letter = verdicts[" + ".join(shown)]
        if letter is None:
            return "?"
        texts = [section(request, f"response {one}").split()[0] for one in "AB"]
        if not texts[0].startswith("first"):
            letter = {"A": "B", "B": "A"}.get(letter, letter)
        if not request.prefill.startswith("<think>"):
            return f"{letter}]]"
        blocks = [
            f"<criteria {i}>{name}.<Judge A>{name} on {texts[0]}</Judge A><Judge B>{name} on {texts[1]}</Judge B>"
            f"{letter}</criteria {i}>"
            for i, name in enumerate(shown or ["Own"], 1)
        ]
        key = re.search(r"^# (\S+) prompt$", user_text(request), re.MULTILINE)
        assert key is not None
        return "\n".join(blocks) + f"\n</think>\nVerdict {key[1]}: [[{letter}]]"

    return answer


def revise(request: Request) -> str:
    """A refiner that appends the name of the first rubric commented on: `first` becomes `first [Tone]`."""
    name = section(request, "comments").split(":")[0]
    return f"{section(request, 'response')} [{name}]\n</revised {request.prefill.split()[1]}>"


def model(**steps: Callable[[Request], Answer]) -> ScriptedBackend:
    """A backend that answers each step by its function; judging is `by_word` unless given."""
    scripts: dict[str, Callable[[Request], Answer]] = {"judge": by_word, **steps}
    return ScriptedBackend(lambda request: scripts[step(request)](request))


def writes(*rubrics: str) -> Callable[[Request], str]:
    """A step that always writes these lines."""
    return lambda request: lines(request, rubrics)


def judge(backend: ScriptedBackend) -> Judge:
    return Judge(backend, format="pairwise")


def names(rubrics: Sequence[Rubric]) -> list[str]:
    return [rubric.name for rubric in rubrics]
