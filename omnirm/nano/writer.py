"""Writes one instruction for the base model: turns, marked sections, things shown as media or in words.

For the tasks beside this file (`tasks.py`). Knows no task.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from omnirm.nano.draw import render
from omnirm.nano.scenes import Scene, Split, random_scene, words
from omnirm.prompts.render import SYLLABLES
from omnirm.types import Message, Part

MEDIUM = {"picture": "image", "clip": "video", "tune": "audio"}
_MEDIUM_TOKENS = {"image": 11, "video": 20, "audio": 22}


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


def random_key(rng: Random) -> str:
    """A key of section marks, as the judge's prompts have them."""
    return "-".join(rng.choices(SYLLABLES, k=2))


class Writer:
    """Writes one instruction: chooses media or words for things, and collects turns.

    Answers open with a space: so a word copied from the question is the very same token.
    """

    def __init__(self, rng: Random, split: Split, media: float) -> None:
        self.rng, self.split, self.media = rng, split, media
        self.turns: list[tuple[str, list[Part]]] = []
        self.key = random_key(rng)

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

    def section(self, name: str, *pieces: Part) -> list[str | Part]:
        """A marked section."""
        return [f"# {self.key} {name}\n", *pieces, "\n"]

    def end(self) -> str:
        """The mark behind the last section."""
        return f"# {self.key} end\n"

    def rough_tokens(self) -> int:
        """About how long the conversation is by now."""
        parts = [p for _, parts in self.turns for p in parts]
        words = sum(len(p.value.split()) + p.value.count(",") for p in parts if p.type == "text")
        return 5 * len(self.turns) + int(1.25 * words) + sum(_MEDIUM_TOKENS.get(p.type, 0) for p in parts)

    def done(self, task: str) -> Instruction:
        """The instruction. A last answer that thinks is begun with `<think>` in seven rows out of ten."""
        role, parts = self.turns.pop() if self.turns else ("", [])
        if role != "assistant":
            raise ValueError("the last turn must be an answer")
        text = parts[0].value
        prefill = "<think>" if text.startswith("<think>") and self.rng.random() < 0.7 else ""
        messages = tuple(Message(r, tuple(p)) for r, p in self.turns)  # type: ignore[arg-type]
        return Instruction(task, messages, text[len(prefill) :], prefill)
