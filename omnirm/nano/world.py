"""The nano world's preference samples: two responses to a request, one right in the attribute that it says matters.

Eight families in the manner of Omni-RewardBench: what the prompt holds, then what the responses are (T2I: text to
image; TV2T: text and video to text). The responses differ in several attributes at once, and often the worse one is
right in attributes that do not decide, so that a judge is right only if it finds the right rubric. Every sample carries
its gold rubric, label and analysis. Knows no judge and no model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Literal

from omnirm.nano import requests as ask
from omnirm.nano.scenes import ATTRIBUTES, Scene, Split, allowed, changed, combination, describe, random_scene, words
from omnirm.nano.writer import Drawing, medium
from omnirm.sample import Candidate, Sample
from omnirm.types import Message, Part, Rubric

Family = Literal["T2T", "TI2T", "TV2T", "TA2T", "T2I", "T2V", "T2A", "TI2I"]
FAMILIES: tuple[Family, ...] = ("T2T", "TI2T", "TV2T", "TA2T", "T2I", "T2V", "T2A", "TI2I")
_KIND: dict[Family, Literal["picture", "clip", "tune"]] = {
    "TI2T": "picture",
    "TV2T": "clip",
    "TA2T": "tune",
    "T2I": "picture",
    "T2V": "clip",
    "T2A": "tune",
    "TI2I": "picture",
}


@dataclass(frozen=True, slots=True)
class Preference:
    """A sample with what decides it: what was wanted, what A and B are, and the attribute that matters.

    `writers` put a scene into the words of candidate A or B, with the same turns of phrase; none for media.
    """

    sample: Sample
    wanted: Scene
    scenes: tuple[Scene, Scene]
    attribute: str
    writers: tuple[Callable[[Scene], str], ...] = field(default=(), compare=False)

    def analysis(self, attribute: str = "", value: str = "") -> tuple[str, str, str]:
        """What a right judge writes under that attribute: on A, on B, and its verdict.

        The verdict is `tie` where both or neither are right; the gold attribute (the default) always decides. `value`:
        what the attribute should be where a rubric asks for something else than the request does. A thing has `none`
        of an attribute of other things.
        """
        name = attribute or self.attribute
        good = value or self.wanted[name]
        a, b = (dict(s.values).get(name, "none") for s in self.scenes)
        verdict = "tie" if (a == good) == (b == good) else ("A" if a == good else "B")
        said = [f"{good}? {x}, {'yes' if x == good else 'no'}" for x in (a, b)]
        return said[0], said[1], verdict

    def rubric(self, attribute: str = "", value: str = "") -> Rubric:
        """The gold rubric, or the rubric of another attribute or value."""
        name = attribute or self.attribute
        return Rubric(name, ask.rubric_text(name, value or self.wanted[name]), source="gold")

    @property
    def decisive(self) -> tuple[str, ...]:
        """Attributes under which exactly one response is right."""
        return tuple(a for a in self.wanted.attributes if self.analysis(a)[2] != "tie")


def preference(
    seed: int,
    split: Split = "train",
    family: Family | None = None,
    in_words: bool = False,
    distractors: bool = False,
) -> Preference:
    """The preference sample of that seed.

    Args:
        seed: the same seed gives the same sample.
        split: where it may come from; test samples have a held-out combination in half of the scenes.
        family: one of `FAMILIES`; chosen by the seed when None.
        in_words: media are given as text stand-ins, so that the sample is text only.
        distractors: the worse response is right in most attributes that do not matter, and the better one in few, so
            that whoever judges by any of those is wrong. Other samples than without.
    """
    rng = Random(f"preference {split} {seed} {family} {in_words}" + distractors * " distractors")
    chosen: Family = rng.choice(FAMILIES) if family is None else family
    if chosen == "T2T":
        return _note(rng, split, seed, distractors)
    kind = _KIND[chosen]
    prompt: tuple[Part, ...]
    wanted = random_scene(kind, rng, split)
    attribute = rng.choice([a for a in wanted.attributes if changed(wanted, a, rng, split) != wanted])
    scenes, label = _pair(wanted, attribute, rng, split, distractors)

    def thing(scene: Scene, style: int) -> Part:
        return Part("text", words(scene, style)) if in_words else medium(scene, rng)

    style = rng.randint(0, 1), rng.randint(0, 1)
    say: Callable[[Scene, int], str] = words if chosen in ("T2I", "T2V", "T2A", "TI2I") else describe
    tail = ask.hint(attribute, rng)
    if chosen in ("T2I", "T2V", "T2A"):
        prompt = (Part("text", f"{ask.make_query(wanted, rng)} {tail}"),)
    elif chosen == "TI2I":
        other = rng.choice(wanted.attributes)
        before = changed(wanted, other, rng, split)
        prompt = (thing(before, 0), Part("text", f"\n{ask.edit_query(other, wanted[other])} {tail}"))
    else:
        prompt = (thing(wanted, 0), Part("text", f"\ndescribe the {kind}. {tail}"))
    if say is describe:
        shown = [Part("text", describe(s, i)) for s, i in zip(scenes, style, strict=True)]
    else:
        shown = [thing(s, i) for s, i in zip(scenes, style, strict=True)]
    writers = tuple(partial(_said, say, i) for i in style) if shown[0].type == "text" else ()
    name = f"{chosen}-{split}-{seed}"
    return _preference(name, chosen, prompt, shown, label, wanted, scenes, attribute, writers)


def _said(say: Callable[[Scene, int], str], style: int, scene: Scene) -> str:
    return say(scene, style)


def _pair(
    wanted: Scene, attribute: str, rng: Random, split: Split, distractors: bool
) -> tuple[tuple[Scene, Scene], int]:
    """A right and a wrong scene in random order: wrong in the deciding attribute; in others, either may be wrong."""
    others = [a for a in wanted.attributes if a != attribute]

    def other_value(scene: Scene, name: str) -> Scene:
        return ask.near_sum(changed(scene, name, rng, split), wanted, rng)

    while True:
        distractor = rng.choice(others) if rng.random() < 0.7 else None
        right, wrong = wanted, other_value(wanted, attribute)
        for other in others:
            if other == distractor or rng.random() < (0.75 if distractors else 0.3):
                right = other_value(right, other)
            if not distractors and other != distractor and rng.random() < 0.3:
                wrong = other_value(wrong, other)
        fine = (
            right[attribute] == wanted[attribute] != wrong[attribute]
            and allowed(right, split)
            and allowed(wrong, split)
        )
        if fine:
            return ((right, wrong), 0) if rng.random() < 0.5 else ((wrong, right), 1)


def _note(rng: Random, split: Split, seed: int, distractors: bool) -> Preference:
    """T2T: a list or a sum, answered in words."""
    writers: tuple[Callable[[Scene], str], ...]
    if rng.random() < 0.6:
        items, wanted = ask.random_items(rng), ask.wanted_list(rng)
        query = ask.list_query(items, wanted)
        writers = tuple(partial(ask.list_note, items, missing=rng.randrange(len(items))) for _ in range(2))
    else:
        terms = ask.random_sum(rng)
        wanted = ask.wanted_sum(terms, rng)
        query = ask.sum_query(terms, wanted)
        writers = ask.sum_note, ask.sum_note
    attribute = rng.choice(wanted.attributes)
    scenes, label = _pair(wanted, attribute, rng, split, distractors)
    shown = [Part("text", write(s)) for write, s in zip(writers, scenes, strict=True)]
    prompt = (Part("text", f"{query} {ask.hint(attribute, rng)}"),)
    return _preference(f"T2T-{split}-{seed}", "T2T", prompt, shown, label, wanted, scenes, attribute, writers)


def _preference(
    name: str, family: Family, prompt: tuple[Part, ...], shown: list[Part], label: int, wanted: Scene,
    scenes: tuple[Scene, Scene], attribute: str, writers: tuple[Callable[[Scene], str], ...],
) -> Preference:  # fmt: skip
    rubric = Rubric(attribute, ask.rubric_text(attribute, wanted[attribute]), source="gold")
    sample = Sample(
        id=name,
        prompt=(Message("user", prompt),),
        candidates=tuple(Candidate((part,)) for part in shown),
        label=label,
        metadata={
            "family": family,
            "gold_rubric": {"name": rubric.name, "text": rubric.text},
            "held_out": any(combination(s) and not allowed(s, "train") for s in (wanted, *scenes)),
        },
    )
    return Preference(sample, wanted, scenes, attribute, writers)


def with_files(sample: Sample, folder: Path) -> Sample:
    """The sample with its media drawn into files of `folder` (made if needed) and referred to by path."""
    count = 0

    def part(p: Part) -> Part:
        nonlocal count
        if not isinstance(p.value, Drawing):
            return p
        data, suffix = p.value.render()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{sample.id}-{count}{suffix}"
        path.write_bytes(data)
        count += 1
        return replace(p, value=str(path))

    return replace(
        sample,
        prompt=tuple(replace(m, parts=tuple(part(p) for p in m.parts)) for m in sample.prompt),
        candidates=tuple(replace(c, parts=tuple(part(p) for p in c.parts)) for c in sample.candidates),
    )


def demo_samples(folder: Path) -> list[Sample]:
    """Four test-world pairs with files on disk: a text, an image, a video and an audio pair."""
    families: tuple[Family, ...] = ("T2T", "T2I", "T2V", "T2A")
    return [with_files(preference(seed, "test", family).sample, folder) for seed, family in enumerate(families, 1)]


__all__ = ["ATTRIBUTES", "FAMILIES", "Family", "Preference", "demo_samples", "preference", "with_files"]
