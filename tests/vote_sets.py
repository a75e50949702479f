"""A store with media and sets of pairs to vote on, and people who do, for the tests of voting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnirm.app.media_store import MediaStore
from omnirm.app.store.store import Store
from omnirm.app.votes.voting import Voting, left_of
from omnirm.preprocessing.types import Policy
from omnirm.sample import Sample, write_samples


@dataclass(frozen=True)
class App:
    """Store, media and votes on a folder."""

    store: Store
    media: MediaStore
    votes: Voting


@contextmanager
def open_app(folder: Path) -> Iterator[App]:
    store = Store(f"sqlite:///{folder / 'omnirm.db'}")
    media = MediaStore(folder / "media", policy=Policy())
    yield App(store, media, Voting(store, media))
    store.close()


def sample_of(name: str, **more: Any) -> Sample:
    answers = [{"name": "model-x", "content": f"{name} first"}, {"name": "model-y", "content": f"{name} second"}]
    return Sample.from_dict({"id": name, "prompt": f"Question {name}?", "candidates": answers, **more})


def set_of(app: App, folder: Path, count: int = 12, **more: Any) -> str:
    """A set of text pairs `s0`, `s1`, ..."""
    folder.mkdir(exist_ok=True)
    write_samples(folder / "pairs.jsonl", [sample_of(f"s{i}", **more) for i in range(count)])
    return app.votes.import_set(folder / "pairs.jsonl").set_id


def pair_of(app: App, set_id: str, sample_id: str) -> str:
    return next(one.pair_id for one in app.store.pairs(set_id) if one.sample["id"] == sample_id)


def letters(text: str) -> dict[str, str]:
    """Choices on `s0`, `s1`, ...: A, B, t(ie), x (both bad), s(kip), or a dot for no vote."""
    words = {"t": "tie", "x": "both_bad", "s": "skip"}
    return {f"s{i}": words.get(letter, letter) for i, letter in enumerate(text) if letter != "."}


def vote_all(app: App, set_id: str, name: str, choices: Mapping[str, str], **more: Any) -> None:
    """Votes in the sample's order, whatever stands where."""
    for sample_id, choice in choices.items():
        pair_id = pair_of(app, set_id, sample_id)
        left = left_of(set_id, pair_id, name)
        side: Any = choice if choice not in ("A", "B") else "left" if choice == left else "right"
        assert app.votes.cast(set_id, pair_id, name, side, **more).vote.choice == choice
