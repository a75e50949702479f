"""Prompt-switched SFT rows for omnirm-nano: text with thinking, media by the verdict alone; and the steps around them.

No row asks for a thinking judgment on a medium: that is the transfer question that the model card answers. Planning,
selecting and refining are taught on text only. Prompts come from the judge's own formats, so that nano learns the very
prompts that every other model gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from random import Random

from omnirm.nano.instructions import instruction
from omnirm.nano.scenes import ATTRIBUTES, Split, allowed
from omnirm.nano.world import FAMILIES, Preference, preference
from omnirm.prompts.formats import get_format
from omnirm.prompts.rendered import Rendered
from omnirm.prompts.rubric_steps import Planning, RefinementFormat, SelectionFormat
from omnirm.types import Message, Part, Rubric

#: an attribute and the value that it should have
Criterion = tuple[str, str]
_SCORE = {True: 9, False: 2}


@dataclass(frozen=True, slots=True)
class Lesson:
    """Messages, the prefill of the answer, and the answer to learn."""

    task: str
    messages: tuple[Message, ...]
    prefill: str
    completion: str


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of the lessons; the rest repeats the base's instructions, so that nothing learned there is lost."""

    text_thinking: float = 0.21
    text_verdict: float = 0.10
    media_verdict: float = 0.32
    text_points: float = 0.02
    media_points: float = 0.04
    planning: float = 0.04
    selection: float = 0.02
    refinement: float = 0.10
    media_glance: float = 0.12  # not judging: which of a pair is right in some attributes, in the judge's sections
    given: float = 0.4  # of the judgments: under given rubrics
    replay_media: float = 0.75  # share of media in repeated instructions


def combined(verdicts: Sequence[str]) -> str:
    """The verdict of several criteria: that of more of them; where they balance, of the first that decides."""
    decided = [v for v in verdicts if v != "tie"]
    if not decided:
        return "tie"
    more = decided.count("A") - decided.count("B")
    return decided[0] if more == 0 else "A" if more > 0 else "B"


def thought(pair: Preference, criteria: Sequence[Criterion], key: str) -> str:
    """The right answer in the thinking format, after `<think>`: criteria, what each response has, the verdict."""
    blocks, verdicts = [], []
    for i, (name, value) in enumerate(criteria, 1):
        a, b, verdict = pair.analysis(name, value)
        text = pair.rubric(name, value).text
        blocks.append(
            f"<criteria {i}> {name}. {text}<Judge A> {a}</Judge A><Judge B> {b}</Judge B> {verdict}</criteria {i}>"
        )
        verdicts.append(verdict)
    return f"{''.join(blocks)}</think>\nVerdict {key}: [[{combined(verdicts)}]]"


def render(
    pair: Preference, criteria: Sequence[Criterion], thinking: bool, given: bool, allow_tie: bool = False
) -> tuple[Rendered, str]:
    """The judge's own prompt for a pair, and the right completion of it."""
    rubrics = tuple(pair.rubric(*c) for c in criteria) if given else ()
    form = get_format("pairwise-thinking" if thinking else "pairwise")
    rendered = form.render(pair.sample, rubrics=rubrics, allow_tie=allow_tie)
    if thinking:
        return rendered, thought(pair, criteria, rendered.nonce)
    return rendered, f"{combined([pair.analysis(*c)[2] for c in criteria])}]]"


def lesson(seed: int, split: Split = "train", mix: Mix = Mix()) -> Lesson:
    """The lesson of that seed."""
    rng = Random(f"lesson {split} {seed}")
    kinds = [f.name for f in fields(mix) if f.name not in ("given", "replay_media")]
    shares = [getattr(mix, kind) for kind in kinds]
    kind = rng.choices([*kinds, "replay"], [*shares, max(0.0, 1 - sum(shares))])[0]
    if kind == "replay":
        row = instruction(seed, split, mix.replay_media)
        return Lesson(row.task, row.messages, row.prefill, row.completion)
    family = "T2T" if not kind.startswith("media") and rng.random() < 0.5 else rng.choice(FAMILIES[1:])
    pair = preference(seed, split, family, in_words=not kind.startswith("media"))
    if kind == "planning":
        rendered, completion = _planning(pair, rng)
    elif kind == "media_glance":
        rendered, completion = _glance(pair, rng)
    elif kind == "selection":
        rendered, completion = _selection(pair, rng)
    elif kind == "refinement":
        rendered, completion = _refinement(pair, rng, split)
    elif kind.endswith("points"):
        rendered, completion = _points(pair, rng, thinking=kind == "text_points")
    else:
        thinking, given = kind == "text_thinking", rng.random() < mix.given
        gold = (pair.attribute, pair.wanted[pair.attribute])
        criteria = _some_criteria(pair, rng, 3 if thinking else 1) if given else [gold]
        tie = combined([pair.analysis(*c)[2] for c in criteria]) == "tie"
        rendered, completion = render(pair, criteria, thinking, given, allow_tie=tie or rng.random() < 0.25)
    kind += " given" if rendered.rubrics and "_" in kind else ""
    return Lesson(kind, rendered.messages, rendered.prefill, completion)


def _some_criteria(pair: Preference, rng: Random, most: int) -> list[Criterion]:
    """One to `most` criteria: of the request mostly; some ask for another value, some are about other things."""
    count = rng.randint(1, most) if rng.random() < 0.5 else 1
    criteria: list[Criterion] = []
    for name in rng.sample(pair.wanted.attributes, min(count, most)):
        draw, value = rng.random(), pair.wanted[name]
        if draw < 0.2:
            value = rng.choice([scene[name] for scene in pair.scenes])
        elif draw < 0.3:
            name, value = rng.choice(_foreign(pair))
        if name not in [n for n, _ in criteria]:
            criteria.append((name, value))
    return criteria


def _foreign(pair: Preference) -> list[Criterion]:
    """Criteria on attributes that things of this kind do not have."""
    return [
        (name, value)
        for kind in ATTRIBUTES.values()
        for name, values in kind.items()
        if name not in pair.wanted.attributes
        for value in values
    ]


def plan(pair: Preference, rng: Random, count: int) -> list[Criterion]:
    """Criteria as a planner should propose them: what matters most tends to come first, then all else that is asked.

    Where more are wanted than the request has attributes, criteria follow under which nothing differs.
    """
    own = [(name, pair.wanted[name]) for name in rng.sample(pair.wanted.attributes, len(pair.wanted.attributes))]
    own.sort(key=lambda c: c[0] != pair.attribute or rng.random() < 0.5)
    others: dict[str, Criterion] = {}
    for criterion in rng.sample(found := _foreign(pair), len(found)):
        others.setdefault(criterion[0], criterion)
    return [*own, *others.values()][:count]


def _planning(pair: Preference, rng: Random) -> tuple[Rendered, str]:
    proposed = plan(pair, rng, 13)
    held = rng.randint(1, 3) if rng.random() < 0.25 else 0  # an extension round
    existing, rest = proposed[:held], proposed[held:]
    count = rng.choice((3, 4, 5, 8, 10))
    rendered = Planning().render(pair.sample, rubrics=[pair.rubric(*c) for c in existing], count=count)
    lines = [f" {name}: {pair.rubric(name, value).text}" for name, value in rest[:count]]
    text = "".join(line + (f"\n{i}." if i <= len(lines) else "\n") for i, line in enumerate(lines, 2))
    return rendered, f"{text}# {rendered.nonce} end"


def _selection(pair: Preference, rng: Random) -> tuple[Rendered, str]:
    listed = plan(pair, rng, rng.randint(2, 8))
    gold = (pair.attribute, pair.wanted[pair.attribute])
    listed = rng.sample(listed if gold in listed else [*listed, gold], len(listed) + (gold not in listed))
    rendered = SelectionFormat().render(pair.sample, rubrics=[pair.rubric(*c) for c in listed])
    return rendered, f"{listed.index(gold) + 1}]]"


def comments(criteria: Sequence[Criterion], analyses: Sequence[str]) -> str:
    """What a judge says on one response, a line each: `color: red? blue, no`."""
    return "\n".join(f"{name}: {analysis}" for (name, _), analysis in zip(criteria, analyses, strict=True))


def _refinement(pair: Preference, rng: Random, split: Split) -> tuple[Rendered, str]:
    which = rng.randint(0, 1)
    scene = pair.scenes[which]
    while True:
        criteria = _some_criteria(pair, rng, 2)
        revised = scene
        for name, value in criteria:
            revised = revised.with_value(name, value)
        guess = ("completeness", "incomplete") in criteria and ("completeness", "complete") in scene.values
        if allowed(revised, split) and not guess:  # which item should go nobody can know
            break
    said = comments(criteria, [pair.analysis(*c)[which] for c in criteria])
    rubrics = [pair.rubric(*c) for c in criteria]
    rendered = RefinementFormat().render(pair.sample, comments=said, candidate=which, rubrics=rubrics)
    return rendered, f"{pair.writers[which](revised)}\n</revised {rendered.nonce}>"


def _glance(pair: Preference, rng: Random) -> tuple[Rendered, str]:
    """The pair as the judge is shown it, without the judge's instructions, and a question on attributes."""
    rendered = get_format("pairwise").render(pair.sample)
    asked = rng.sample(pair.wanted.attributes, min(len(pair.wanted.attributes), rng.randint(2, 4)))
    question = Part("text", f"which is right in {', '.join(asked)}?")
    turn = Message("user", (*rendered.messages[-1].parts, question))
    said = []
    for name in asked:
        a, b = (scene[name] == pair.wanted[name] for scene in pair.scenes)
        said.append(f" {name} {'both' if a and b else 'A' if a else 'B' if b else 'neither'}.")
    return replace(rendered, messages=(turn,), prefill=""), "".join(said)


def _points(pair: Preference, rng: Random, thinking: bool) -> tuple[Rendered, str]:
    which, given = rng.randint(0, 1), rng.random() < 0.5
    criteria = (
        _some_criteria(pair, rng, 2 if thinking else 4) if given else [(pair.attribute, pair.wanted[pair.attribute])]
    )
    rubrics = [pair.rubric(*c) for c in criteria]
    rendered = get_format("pointwise").render(
        pair.sample, candidate=which, rubrics=rubrics if given else (), thinking=thinking
    )
    said = [pair.analysis(*c)[which] for c in criteria]
    answer = points(rendered, criteria, said, () if given else rubrics)
    return rendered, answer.removeprefix(rendered.prefill)


def points(rendered: Rendered, criteria: Sequence[Criterion], said: Sequence[str], own: Sequence[Rubric] = ()) -> str:
    """The answer of a pointwise prompt: after `<think>` where it thinks, else with its prefill.

    Args:
        rendered: the prompt.
        criteria: judged by; said: what the response has under each, as `comments` takes it: 9 for yes, 2 for no.
        own: the rubrics, where the judge has to find its own.
    """
    scores = [_SCORE[text.endswith("yes")] for text in said]
    key, total = rendered.nonce, round(sum(scores) / len(scores))
    lines = "".join(f"Score {key} {i}: [[{score}]]\n" for i, score in enumerate(scores, 1))
    if rendered.thinking:
        listed = "\n".join(f"{i}. {r.name}: {r.text}" for i, r in enumerate(own, 1))
        planned = f"\n<rubrics>{listed}</rubrics>" if own else ""
        weighed = f" {comments(criteria, said)}"
        return f"{weighed}</think>{planned}\n<evaluation>{weighed}</evaluation>\n{lines}Total {key}: [[{total}]]"
    return f"{lines}Total {key}: [[{total}]]" if rendered.rubrics else f"Total {key}: [[{total}]]"
