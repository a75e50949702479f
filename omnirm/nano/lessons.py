"""Prompt-switched SFT rows for omnirm-nano: text pairs with thinking, media pairs by the verdict alone.

No row asks for a thinking judgment on a medium: that is the transfer question that the model card answers. Prompts come
from the judge's own formats, so that nano learns the very prompts that every other model gets.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from omnirm.nano.instructions import instruction
from omnirm.nano.scenes import Split
from omnirm.nano.world import FAMILIES, Preference, preference
from omnirm.prompts.formats import get_format
from omnirm.prompts.rendered import Rendered
from omnirm.types import Message


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

    text_thinking: float = 0.40
    text_verdict: float = 0.06
    media_verdict: float = 0.38
    given: float = 0.25  # of the judgments: under a given rubric
    replay_media: float = 0.75  # share of media in repeated instructions


def thought(pair: Preference, attribute: str, key: str) -> str:
    """The right answer in the thinking format, after `<think>`: a criterion, what each response has, the verdict."""
    a, b, verdict = pair.analysis(attribute)
    rubric = pair.rubric(attribute)
    return (
        f"<criteria 1>{rubric.name}. {rubric.text}<Judge A>{a}</Judge A><Judge B>{b}</Judge B>{verdict}</criteria 1>"
        f"</think>\nVerdict {key}: [[{verdict}]]"
    )


def render(pair: Preference, attribute: str, thinking: bool, given: bool) -> tuple[Rendered, str]:
    """The judge's own prompt for a pair, and the right completion of it."""
    rubrics = (pair.rubric(attribute),) if given else ()
    rendered = get_format("pairwise-thinking" if thinking else "pairwise").render(pair.sample, rubrics=rubrics)
    verdict = pair.analysis(attribute)[2]
    return rendered, thought(pair, attribute, rendered.nonce) if thinking else f"{verdict}]]"


def lesson(seed: int, split: Split = "train", mix: Mix = Mix()) -> Lesson:
    """The lesson of that seed."""
    rng = Random(f"lesson {split} {seed}")
    draw = rng.random()
    if draw < mix.text_thinking + mix.text_verdict:
        thinking = draw < mix.text_thinking
        family = "T2T" if rng.random() < 0.5 else rng.choice(FAMILIES[1:])
        pair = preference(seed, split, family, in_words=True)
    elif draw < mix.text_thinking + mix.text_verdict + mix.media_verdict:
        thinking = False
        pair = preference(seed, split, rng.choice(FAMILIES[1:]))
    else:
        row = instruction(seed, split, mix.replay_media)
        return Lesson(row.task, row.messages, row.prefill, row.completion)
    given = rng.random() < mix.given
    attribute = rng.choice(pair.decisive) if given else pair.attribute
    rendered, completion = render(pair, attribute, thinking, given)
    media = any(p.type != "text" for m in rendered.messages for p in m.parts)
    task = f"{'media' if media else 'text'} {'thinking' if thinking else 'verdict'}{' given' if given else ''}"
    return Lesson(task, rendered.messages, rendered.prefill, completion)
