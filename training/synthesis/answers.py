"""Answers to learn: from what a judge said while it explored to prompt and completion, read back before they count.

For the rows of a data set. A completion continues its prompt's prefill, and is kept only where the format's own parser
reads from it what it is meant to say. Everything else is a `ParseFailure` that tells why. Asks no model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from omnirm.parsing.planning import RubricPlan
from omnirm.parsing.rubric_lines import normalised
from omnirm.parsing.selection import Selection
from omnirm.prompts.formats import get_format
from omnirm.prompts.rendered import Rendered
from omnirm.rubrics.trajectory import Trajectory
from omnirm.sample import Sample
from omnirm.scoring.aggregate import Order, original_letter
from omnirm.types import Letter, PairVerdict, ParseFailure, Rubric

_BLOCK = re.compile(r"<criteria (\d{1,3})>(.*?)</criteria \1>", re.DOTALL)
_BODY = re.compile(r"(.*?)<Judge A>(.*?)</Judge A>(.*?)<Judge B>(.*?)</Judge B>(\s*)(A|B|tie|)(\.?\s*)", re.DOTALL)
_NAMED = re.compile(r"(?<!\w)[AB](?!\w)")  # a response by its letter; also the article "A", to be safe
_OTHER: dict[str, str] = {"A": "B", "B": "A", "tie": "tie", "": ""}


@dataclass(frozen=True, slots=True)
class Answer:
    """A rendered prompt and the completion that its format's parser accepted."""

    rendered: Rendered
    completion: str


@dataclass(frozen=True, slots=True)
class Thought:
    """A thinking of criteria blocks and nothing else: their insides, and the white space around them."""

    bodies: tuple[str, ...]
    lead: str = ""
    between: str = ""
    gap: str = ""

    def written(self, letter: str, key: str) -> str:
        """The completion behind `<think>`: blocks numbered from 1, then the verdict."""
        blocks = [f"<criteria {i}>{body}</criteria {i}>" for i, body in enumerate(self.bodies, start=1)]
        return f"{self.lead}{self.between.join(blocks)}{self.gap}</think>\nVerdict {key}: [[{letter}]]"

    def turned(self) -> Thought | ParseFailure:
        """The same for the pair in the other order. Not where the text calls a response by its letter: turning a word
        in free text would be a guess."""
        bodies = []
        for body in self.bodies:
            match = _BODY.fullmatch(body)
            if match is None:
                return ParseFailure("malformed", "a criterion that is not in the documented form")
            head, a, mid, b, space, winner, tail = match.groups()
            if any(_NAMED.search(text) for text in (head, a, mid, b)):
                return ParseFailure("unsuitable", "calls a response by its letter: cannot be shown in the other order")
            bodies.append(f"{head}<Judge A>{b}</Judge A>{mid}<Judge B>{a}</Judge B>{space}{_OTHER[winner]}{tail}")
        return replace(self, bodies=tuple(bodies))


def read_thought(text: str) -> Thought | ParseFailure:
    """The thinking of a completion behind `<think>`; `malformed` where anything stands outside the blocks."""
    thinking, closed, _ = text.partition("</think>")
    found = list(_BLOCK.finditer(thinking))
    if not closed or not found:
        return ParseFailure("malformed", "no thinking of criteria blocks")
    edges = [0, *(at for one in found for at in one.span()), len(thinking)]
    spaces = [thinking[edges[i] : edges[i + 1]] for i in range(0, len(edges), 2)]
    if any(space.strip() for space in spaces):
        return ParseFailure("malformed", "thinking outside the criteria blocks")
    between = spaces[1] if len(found) > 1 else spaces[0] or spaces[-1]
    return Thought(tuple(one[2] for one in found), spaces[0], between, spaces[-1])


def in_order(sample: Sample, order: Order) -> Sample:
    """The pair as it is shown in an order."""
    return sample if order == "AB" else sample.swapped()


def order_of(one: Trajectory) -> Order:
    """The order in which the one reading of a trajectory was shown."""
    return one.judgment.calls[0].order


def judgment_answer(
    sample: Sample, one: Trajectory, *, thinking: bool, free: bool = False, order: Order | None = None
) -> Answer | ParseFailure:
    """The judgment of a trajectory (one reading).

    Args:
        sample: in the order in which the trajectory's verdict is meant.
        one: with a readable verdict.
        thinking: the thinking judgment; else the verdict alone.
        free: under a prompt that shows no rubrics, as if the judge had found its criteria itself.
        order: show the pair so; by default as the trajectory was shown. The text is turned round where it has to be.
    """
    verdict, own = one.judgment.verdict, order_of(one)
    if verdict is None:
        return ParseFailure("missing", "no verdict")
    order = order or own
    letter, rubrics = original_letter(verdict, order), () if free else one.rubrics
    asked = None if free else one.rubrics
    form = get_format("pairwise-thinking" if thinking else "pairwise")
    rendered = form.render(in_order(sample, order), rubrics=rubrics)
    if not thinking:
        return _judgment(rendered, f"{letter}]]", letter)
    call = one.judgment.calls[0].call
    if order == own and rendered.nonce == call.nonce:
        return _judgment(rendered, call.text.rstrip(), letter, asked)
    thought = read_thought(call.text)
    if isinstance(thought, Thought) and order != own:
        thought = thought.turned()
    if isinstance(thought, ParseFailure):
        return thought
    return _judgment(rendered, thought.written(letter, rendered.nonce), letter, asked)


def picking_answer(
    sample: Sample, rubrics: Sequence[Rubric], index: int, one: Trajectory, order: Order | None = None
) -> Answer | ParseFailure:
    """The choice of the rubric at `index` of the list and the judgment under it, in one answer.

    Args:
        sample: in the order in which the trajectory's verdict is meant.
        rubrics: the list.
        index: place of the trajectory's rubric in it.
        one: a judgment under that rubric alone.
        order: as for `judgment_answer`.
    """
    verdict, own = one.judgment.verdict, order_of(one)
    if verdict is None:
        return ParseFailure("missing", "no verdict")
    order = order or own
    thought = read_thought(one.judgment.calls[0].call.text)
    if isinstance(thought, Thought) and order != own:
        thought = thought.turned()
    if isinstance(thought, ParseFailure):
        return thought
    if len(thought.bodies) != 1:
        return ParseFailure("malformed", f"{len(thought.bodies)} criteria in a judgment under one rubric")
    letter = original_letter(verdict, order)
    rendered = get_format("pairwise-thinking").render(in_order(sample, order), rubrics=tuple(rubrics), pick=True)
    return _judgment(rendered, thought.written(letter, rendered.nonce), letter, (rubrics[index],))


def combined_answer(
    sample: Sample, parts: Sequence[Trajectory], verdict: Letter, *, thinking: bool
) -> Answer | ParseFailure:
    """One judgment made of several, each under one rubric: their criteria one after the other, then the verdict.

    The prompt shows no rubrics. All parts must have been shown in the sample's own order.
    """
    rendered = get_format("pairwise-thinking" if thinking else "pairwise").render(sample)
    if not thinking:
        return _judgment(rendered, f"{verdict}]]", verdict)
    thoughts = []
    for one in parts:
        thought = read_thought(one.judgment.calls[0].call.text)
        if isinstance(thought, ParseFailure):
            return thought
        thoughts.append(thought)
    whole = replace(thoughts[0], bodies=tuple(body for thought in thoughts for body in thought.bodies))
    rubrics = tuple(rubric for one in parts for rubric in one.rubrics)
    return _judgment(rendered, whole.written(verdict, rendered.nonce), verdict, rubrics)


def planning_answer(sample: Sample, rubrics: Sequence[Rubric]) -> Answer | ParseFailure:
    """The plan of these rubrics, in this order."""
    rendered = get_format("planning").render(sample, count=len(rubrics))
    lines = [f"{i}. {one.name}" + (f": {one.text}" if one.text else "") for i, one in enumerate(rubrics, start=1)]
    answer = Answer(rendered, "\n".join([*lines, f"# {rendered.nonce} end"]).removeprefix("1."))
    parsed = _parsed(answer)
    if isinstance(parsed, ParseFailure):
        return parsed
    wanted = [(one.name, one.text) for one in rubrics]
    if not isinstance(parsed, RubricPlan) or [(one.name, one.text) for one in parsed.rubrics] != wanted:
        return ParseFailure("malformed", "the plan does not read back as the rubrics that went into it")
    return answer


def selection_answer(sample: Sample, rubrics: Sequence[Rubric], index: int) -> Answer | ParseFailure:
    """The choice of the rubric at `index` of the list."""
    rendered = get_format("selection").render(sample, rubrics=tuple(rubrics))
    answer = Answer(rendered, f"{index + 1}]]")
    parsed = _parsed(answer)
    if isinstance(parsed, ParseFailure):
        return parsed
    if not isinstance(parsed, Selection) or parsed.index != index:
        return ParseFailure("malformed", "the choice does not read back as the rubric that was chosen")
    return answer


def _parsed(answer: Answer) -> object:
    rendered = answer.rendered
    return get_format(rendered.format).parse(rendered, rendered.prefill + answer.completion, "stop")


def _judgment(
    rendered: Rendered, completion: str, letter: Letter, rubrics: Sequence[Rubric] | None = None
) -> Answer | ParseFailure:
    """Checks that the verdict reads back, and of a thinking judgment full analyses: of these rubrics, in order; without
    any of at least one criterion of the judge's own."""
    answer = Answer(rendered, completion)
    parsed = _parsed(answer)
    if isinstance(parsed, ParseFailure):
        return replace(parsed, text="")
    if not isinstance(parsed, PairVerdict) or parsed.letter != letter:
        return ParseFailure("malformed", "the verdict does not read back")
    if rendered.thinking:
        found = [normalised(one.rubric.name) for one in parsed.criteria]
        if not found or (rubrics is not None and found != [normalised(one.name) for one in rubrics]):
            return ParseFailure("malformed", "the criteria are not those that were to be judged by")
        if not all(one.analysis_a and one.analysis_b for one in parsed.criteria):
            return ParseFailure("malformed", "a criterion without an analysis of each response")
    return answer
