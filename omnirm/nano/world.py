"""The nano world's preference samples: two responses to a request, one right in the attribute that it says matters.

Eight families in the manner of Omni-RewardBench: what the prompt holds, then what the responses are (T2I: text to
image; TV2T: text and video to text). The responses differ in several attributes at once, and often the worse one is
right in attributes that do not decide, so that a judge is right only if it finds the right rubric. Every sample carries
its gold rubric, label and analysis. Knows no judge and no model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Literal

from omnirm.nano import requests as ask
from omnirm.nano.instructions import Drawing, medium
from omnirm.nano.scenes import ATTRIBUTES, Scene, Split, allowed, changed, combination, describe, random_scene, words
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
    """A sample with what decides it: what was wanted, what A and B are, and the attribute that matters."""

    sample: Sample
    wanted: Scene
    scenes: tuple[Scene, Scene]
    attribute: str

    def analysis(self, attribute: str = "") -> tuple[str, str, str]:
        """What a right judge writes under that attribute: on A, on B, and its verdict.

        The verdict is `tie` where both or neither are right; the gold attribute (the default) always decides.
        """
        name = attribute or self.attribute
        a, b = (s[name] for s in self.scenes)
        good = self.wanted[name]
        verdict = "tie" if (a == good) == (b == good) else ("A" if a == good else "B")
        return f"{a}, {'yes' if a == good else 'no'}", f"{b}, {'yes' if b == good else 'no'}", verdict

    def rubric(self, attribute: str = "") -> Rubric:
        """The gold rubric, or the rubric of another attribute."""
        name = attribute or self.attribute
        return Rubric(name, ask.rubric_text(name, self.wanted[name]), source="gold")

    @property
    def decisive(self) -> tuple[str, ...]:
        """Attributes under which exactly one response is right."""
        return tuple(a for a in self.wanted.attributes if self.analysis(a)[2] != "tie")


def preference(seed: int, split: Split = "train", family: Family | None = None, in_words: bool = False) -> Preference:
    """The preference sample of that seed.

    Args:
        seed: the same seed gives the same sample.
        split: where it may come from; test samples have a held-out combination in half of the scenes.
        family: one of `FAMILIES`; chosen by the seed when None.
        in_words: media are given as text stand-ins, so that the sample is text only.
    """
    rng = Random(f"preference {split} {seed} {family} {in_words}")
    chosen: Family = rng.choice(FAMILIES) if family is None else family
    if chosen == "T2T":
        return _note(rng, split, seed)
    kind = _KIND[chosen]
    prompt: tuple[Part, ...]
    wanted = random_scene(kind, rng, split)
    attribute = rng.choice([a for a in wanted.attributes if changed(wanted, a, rng, split) != wanted])
    scenes, label = _pair(wanted, attribute, rng, split)

    def thing(scene: Scene) -> Part:
        return Part("text", words(scene, rng.randint(0, 1))) if in_words else medium(scene, rng)

    tail = ask.hint(attribute, rng)
    if chosen in ("T2I", "T2V", "T2A"):
        prompt = (Part("text", f"{ask.make_query(wanted, rng)} {tail}"),)
        candidates = tuple(Candidate((thing(s),)) for s in scenes)
    elif chosen == "TI2I":
        other = rng.choice(wanted.attributes)
        before = changed(wanted, other, rng, split)
        prompt = (thing(before), Part("text", f"\n{ask.edit_query(other, wanted[other])} {tail}"))
        candidates = tuple(Candidate((thing(s),)) for s in scenes)
    else:
        prompt = (thing(wanted), Part("text", f"\ndescribe the {kind}. {tail}"))
        candidates = tuple(Candidate((Part("text", describe(s, rng.randint(0, 1))),)) for s in scenes)
    return _preference(f"{chosen}-{split}-{seed}", chosen, prompt, candidates, label, wanted, scenes, attribute)


def _pair(wanted: Scene, attribute: str, rng: Random, split: Split) -> tuple[tuple[Scene, Scene], int]:
    """A right and a wrong scene in random order: wrong in the deciding attribute; in others, either may be wrong."""
    others = [a for a in wanted.attributes if a != attribute]
    while True:
        distractor = rng.choice(others) if rng.random() < 0.7 else None
        right, wrong = wanted, _change(wanted, attribute, rng, split)
        for other in others:
            if other == distractor or rng.random() < 0.3:
                right = _change(right, other, rng, split)
            if other != distractor and rng.random() < 0.3:
                wrong = _change(wrong, other, rng, split)
        fine = (
            right[attribute] == wanted[attribute] != wrong[attribute]
            and allowed(right, split)
            and allowed(wrong, split)
        )
        if fine:
            return ((right, wrong), 0) if rng.random() < 0.5 else ((wrong, right), 1)


def _change(scene: Scene, attribute: str, rng: Random, split: Split) -> Scene:
    if attribute == "correctness":
        right = int(scene[attribute])
        near = [n for n in range(max(2, right - 3), min(18, right + 3) + 1) if n != right]
        return scene.with_value(attribute, str(rng.choice(near)))
    return changed(scene, attribute, rng, split)


def _note(rng: Random, split: Split, seed: int) -> Preference:
    """T2T: a list or a sum, answered in words."""
    if rng.random() < 0.6:
        items, wanted = ask.random_items(rng), ask.wanted_list(rng)
        query = ask.list_query(items, wanted)
        attribute = rng.choice(wanted.attributes)
        scenes, label = _pair(wanted, attribute, rng, split)
        texts = [ask.list_note(items, s, rng) for s in scenes]
    else:
        terms = ask.random_sum(rng)
        wanted = ask.wanted_sum(terms, rng)
        query = ask.sum_query(terms, wanted)
        attribute = rng.choice(wanted.attributes)
        scenes, label = _pair(wanted, attribute, rng, split)
        texts = [ask.sum_note(s) for s in scenes]
    prompt = (Part("text", f"{query} {ask.hint(attribute, rng)}"),)
    candidates = tuple(Candidate((Part("text", t),)) for t in texts)
    return _preference(f"T2T-{split}-{seed}", "T2T", prompt, candidates, label, wanted, scenes, attribute)


def _preference(
    name: str, family: Family, prompt: tuple[Part, ...], candidates: tuple[Candidate, ...], label: int, wanted: Scene,
    scenes: tuple[Scene, Scene], attribute: str,
) -> Preference:  # fmt: skip
    rubric = Rubric(attribute, ask.rubric_text(attribute, wanted[attribute]), source="gold")
    sample = Sample(
        id=name,
        prompt=(Message("user", prompt),),
        candidates=candidates,
        label=label,
        metadata={
            "family": family,
            "gold_rubric": {"name": rubric.name, "text": rubric.text},
            "held_out": any(combination(s) and not allowed(s, "train") for s in (wanted, *scenes)),
        },
    )
    return Preference(sample, wanted, scenes, attribute)


def with_files(sample: Sample, folder: Path) -> Sample:
    """The sample with its media drawn into files of `folder` (made if absent) and referred to by path."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0

    def part(p: Part) -> Part:
        nonlocal count
        if not isinstance(p.value, Drawing):
            return p
        data, suffix = p.value.render()
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
    """Four test-world pairs with files on disk: a text, an image, a video and an audio pair.

    Seeds start at 2: the first weights' answer to the text pair of seed 1 could not be read, which ends the
    demo with exit code 3.
    """
    families: tuple[Family, ...] = ("T2T", "T2I", "T2V", "T2A")
    return [with_files(preference(seed, "test", family).sample, folder) for seed, family in enumerate(families, 2)]


__all__ = ["ATTRIBUTES", "FAMILIES", "Family", "Preference", "demo_samples", "preference", "with_files"]
