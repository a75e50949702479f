"""Pairs of the hub's preference format become labelled samples, and what is none of them is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from omnirm.errors import SampleError
from omnirm.sample import Candidate, Sample, write_samples
from omnirm.training.pairs import from_preference, read_pairs
from omnirm.types import Message, Part


def turn(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


CONVERSATION = {
    "chosen": [turn("user", "2 + 2?"), turn("assistant", "4")],
    "rejected": [turn("user", "2 + 2?"), turn("assistant", "5")],
}


def better(sample: Sample) -> str:
    assert isinstance(sample.label, int)
    return sample.candidates[sample.label].parts[0].value


@pytest.mark.parametrize(
    "row",
    [
        CONVERSATION,
        {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"},
        {"prompt": [turn("user", "2 + 2?")], "chosen": [turn("assistant", "4")], "rejected": [turn("assistant", "5")]},
        {"prompt": None, **CONVERSATION, "source": "x", "margin": 3},
    ],
)
def test_every_form_of_a_preference_is_the_same_pair(row: dict[str, Any]) -> None:
    sample = from_preference(row, "one")
    assert sample.prompt == (Message("user", (Part("text", "2 + 2?"),)),)
    assert better(sample) == "4"
    assert {c.parts[0].value for c in sample.candidates} == {"4", "5"}
    assert not any(p.trusted for m in sample.prompt for p in m.parts)


def test_a_conversation_of_several_turns_is_cut_where_the_answers_part() -> None:
    start = [turn("system", "Be brief."), turn("user", "Hello"), turn("assistant", "Hi"), turn("user", "2 + 2?")]
    sample = from_preference(
        {"chosen": [*start, turn("assistant", "4")], "rejected": [*start, turn("assistant", "5")]}, "x"
    )
    assert [m.role for m in sample.prompt] == ["system", "user", "assistant", "user"]


@given(st.lists(st.text(min_size=1), min_size=40, max_size=60, unique=True))
def test_which_response_comes_first_says_nothing_about_which_is_better(ids: list[str]) -> None:
    labels = [from_preference(CONVERSATION, one).label for one in ids]
    assert labels == [from_preference(CONVERSATION, one).label for one in ids]
    assert 0 < sum(labels) < len(labels)


def test_images_come_before_the_text_of_the_first_turn() -> None:
    row = {"prompt": "what is it?", "chosen": "red", "rejected": "blue", "images": [Image.new("RGB", (8, 8), "red")]}
    sample = from_preference(row, "one")
    image, text = sample.prompt[0].parts
    assert (image.type, text.value) == ("image", "what is it?")
    assert isinstance(image.value, bytes)
    assert image.value.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "x"}, "columns text; chosen and rejected are needed"),
        ({"prompt": "p", "chosen": "a", "rejected": "a"}, "the same"),
        ({"chosen": "a", "rejected": "b"}, "no prompt"),
        ({"chosen": [], "rejected": "b"}, "chosen is"),
        ({"chosen": [{"role": "root", "content": "a"}], "rejected": "b", "prompt": "p"}, "a role and a content"),
        ({"prompt": "p", "chosen": [turn("user", "a"), turn("assistant", "b")], "rejected": "b"}, "one answer each"),
    ],
)
def test_what_is_no_preference_is_named(row: dict[str, Any], said: str) -> None:
    with pytest.raises(SampleError, match=f"^row 7: .*{said}"):
        from_preference(row, "row 7")


def test_a_file_gives_its_labelled_samples_only(tmp_path: Path) -> None:
    prompt = (Message("user", (Part("text", "?"),)),)
    two = (Candidate((Part("text", "a"),)), Candidate((Part("text", "b"),)))
    labels: tuple[Any, ...] = (0, None, 1, "tie")
    write_samples(tmp_path / "s.jsonl", [Sample(str(i), prompt, two, label=x) for i, x in enumerate(labels)])
    assert [s.id for s in read_pairs(str(tmp_path / "s.jsonl"))] == ["0", "2"]
    assert [s.id for s in read_pairs(str(tmp_path / "s.jsonl"), limit=1)] == ["0"]
    write_samples(tmp_path / "t.jsonl", [Sample("0", prompt, two)])
    with pytest.raises(SampleError, match="no sample has a label"):
        read_pairs(str(tmp_path / "t.jsonl"))


def test_a_data_set_is_read_by_name_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[tuple[Any, ...]] = []

    def load(name: str, *, split: str, streaming: bool) -> Any:
        asked.append((name, split, streaming))
        rows = datasets.Dataset.from_list([CONVERSATION] * 3)
        return rows.to_iterable_dataset() if streaming else rows

    monkeypatch.setattr(datasets, "load_dataset", load)
    found = read_pairs("hub:org/set")
    assert [s.id for s in found] == ["org/set/0", "org/set/1", "org/set/2"]
    assert len(read_pairs("hub:org/set:test", limit=2)) == 2
    assert asked == [("org/set", "train", False), ("org/set", "test", True)]
