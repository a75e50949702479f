"""What the nano base model is taught: instructions over text, pictures, clips and tunes; everything except judging.

The base stands in for a real Qwen-Omni, which can see, hear, read, compare and think step by step, on text and on media
alike, but was never asked which of two responses to a request is better. So: descriptions, questions, comparing two
things, checking a thing against given words or against another thing with thinking first, edits, lists, sums; every
thing given as a medium or in words. Requests are read (what matters most?), but never beside two responses; no criteria
tags, no verdict line.
"""

from __future__ import annotations

from random import Random
from typing import Literal

from omnirm.nano import tasks
from omnirm.nano.scenes import ATTRIBUTES, Split
from omnirm.nano.writer import Instruction, Writer
from omnirm.prompts.render import SYLLABLES

Stage = Literal["copy", "single", "drill", "fit", "glance", "all"]

#: task, weight in the text stage, weight in the media stage
_TASKS: tuple[tuple[tasks.Task, float, float], ...] = (
    (tasks.compare_two, 6.0, 4.0),
    (tasks.glance_two, 0.0, 2.0),
    (tasks.describe_one, 0.8, 2.0),
    (tasks.check_one, 0.8, 0.8),
    (tasks.edit, 0.4, 0.3),
    (tasks.read_request, 1.2, 0.8),
    (tasks.do_note, 0.4, 0.2),
    (tasks.spell, 0.6, 0.4),
)
_DRILLS: tuple[tuple[tasks.Task, float], ...] = (
    (tasks.compare_two, 5.0),
    (tasks.glance_two, 3.0),
    (tasks.same_words, 2.0),
    (tasks.repeat_keys, 1.0),
    (tasks.add_up, 0.5),
    (tasks.read_request, 0.5),
)
#: shares of the stage that teaches to compare without thinking
_GLANCES: tuple[tuple[tasks.Task, float], ...] = (
    (tasks.glance_two, 5.0),
    (tasks.fit_two, 3.0),
)
_LONG = (tasks.compare_two, tasks.glance_two, tasks.fit_two)
_ON_ONE = (tasks.describe_one, tasks.check_one)
_ENOUGH = 80  # rough tokens at which a conversation of short tasks ends, so that rows have like lengths


def instruction(seed: int, split: Split = "train", media: float = 0.75, stage: Stage = "all") -> Instruction:
    """The instruction of that seed.

    Args:
        seed: the same seed gives the same instruction.
        split: where its scenes may come from.
        media: share of things shown as media; 0 is the text stage.
        stage: `copy` (repeat and recall words: the first thing a model from scratch must learn), `single` (tasks on
            one thing), `all`, `drill` (what `all` teaches slowly: comparing at once, repeating keys, adding up), `fit`
            (whether one thing is as wanted, without thinking), or `glance` (that, and which of two things are).
    """
    rng = Random(f"instruction {split} {seed}")
    w = Writer(rng, split, media)
    if stage == "copy":
        while w.rough_tokens() < _ENOUGH:
            repeated: tasks.Task = rng.choice((tasks.copy_words, tasks.recall))
            repeated(w)
        return w.done(repeated.__name__)
    if stage == "drill":
        known = list(_DRILLS)
    elif stage == "glance":
        known = list(_GLANCES)
    elif stage == "fit":
        tasks.fit_one(w)
        return w.done("fit_one")
    else:
        weighted = [(t, text if media == 0 else shown) for t, text, shown in _TASKS]
        known = [(t, weight) for t, weight in weighted if stage == "all" or t in _ON_ONE]
    short = [(t, weight) for t, weight in known if t not in _LONG]
    task = _pick(rng, known)
    task(w)
    while task not in _LONG and w.rough_tokens() < _ENOUGH:
        task = _pick(rng, short)
        task(w)
    return w.done(task.__name__)


def _pick(rng: Random, weighted: list[tuple[tasks.Task, float]]) -> tasks.Task:
    return rng.choices([t for t, _ in weighted], [x for _, x in weighted])[0]


def vocabulary(n: int = 4000) -> list[str]:
    """Text of the nano world to train a tokenizer on."""
    out = []
    for seed in range(n):
        row = instruction(seed, media=0.0)
        out += [p.value for m in row.messages for p in m.parts] + [row.completion, row.prefill]
    out += [f" {first}-{second}" for first in SYLLABLES for second in SYLLABLES]
    out += [" prompt\n", " response A\n", " response B\n", " response\n", " rubrics\n", " comments\n", " revised\n",
            "\nVerdict ka-bu: [[", "A]]", "B]]", "tie]]", " tie", " none"] * 200  # fmt: skip
    rubrics = [(a, v) for kind in ATTRIBUTES.values() for a, values in kind.items() for v in values]
    out += [f"1. {a}: the {a} should be {v}.\n" for a, v in rubrics] * 10
    return out + ["system\nuser\nassistant\n"] * 200
