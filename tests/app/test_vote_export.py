"""Votes become training data that the trainer reads and learns from, in files that can be moved."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_media import encoded_image, encoded_sound, photo
from vote_sets import App, letters, open_app, set_of, vote_all

from omnirm.app.store.store import Vote
from omnirm.app.votes.export import preference
from omnirm.errors import ConfigError, SampleError
from omnirm.sample import read_samples
from omnirm.training.preferred import from_samples


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with open_app(tmp_path / "data") as app:
        yield app


def votes_of(text: str) -> list[Vote]:
    return [Vote("s", "p", f"n{i}", choice, "A") for i, choice in enumerate(letters(text).values())]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "label", "count"),
    [
        ("A", 0, 1),
        ("B", 1, 1),
        ("AAB", 0, 3),
        ("ABB", 1, 3),
        ("AB", "tie", 2),
        ("ABs", "tie", 2),
        ("t", "tie", 1),
        ("x", "tie", 1),
        ("Atx", "tie", 3),  # a tie and both bad together
        ("AAtx", "tie", 4),
        ("AAAtx", 0, 5),
        ("s", None, 0),
        ("", None, 0),
    ],
)
def test_what_most_people_say(said: str, label: Any, count: int) -> None:
    assert preference(votes_of(said)) == (label, count)


@given(st.text("ABtxs", max_size=9))
def test_sides_that_are_swapped_swap_the_label(said: str) -> None:
    label, count = preference(votes_of(said))
    swapped = preference(votes_of(said.translate(str.maketrans("AB", "BA"))))
    assert swapped == ({0: 1, 1: 0}.get(label, label), count)  # type: ignore[call-overload]
    assert preference(votes_of(said[::-1])) == (label, count)


def test_each_decided_pair_becomes_a_labelled_sample(app: App, tmp_path: Path) -> None:
    set_id = set_of(app, tmp_path / "in", 6, label=0, metadata={"source": "kitchen"}, rubrics=["Brevity"])
    vote_all(app, set_id, "Ann", letters("ABtsAA"), rubrics=["Brevity", "Tone"], strength=4, comment="my own words")
    vote_all(app, set_id, "Ben", letters("ABx.B."), rubrics=["Tone"], strength=1)
    report = app.votes.export(set_id, tmp_path / "new" / "out.jsonl")
    assert (report.count, report.ties, report.too_few, report.media) == (3, 2, 1, 0)
    found = {one.id: one for one in read_samples(report.file)}
    assert {name: one.label for name, one in found.items()} == {"s0": 0, "s1": 1, "s5": 0}
    first = found["s1"]
    assert [one.name for one in first.candidates] == ["model-x", "model-y"]
    assert [one.name for one in first.rubrics] == ["Brevity"]
    assert first.metadata["source"] == "kitchen"
    assert first.metadata["votes"] == {
        "A": 0, "B": 2, "tie": 0, "both_bad": 0, "skip": 0,
        "mean_strength": 2.5, "rubrics": {"Brevity": 1, "Tone": 2}, "label_before": 0,
    }  # fmt: skip
    text = report.file.read_text()
    assert not any(private in text for private in ("Ann", "Ben", "my own words"))
    kept = app.votes.export(set_id, tmp_path / "kept.jsonl", ties="keep", min_votes=2)
    assert (kept.count, kept.ties, kept.too_few) == (4, 0, 2)
    assert {one.id: one.label for one in read_samples(kept.file)} == {"s0": 0, "s1": 1, "s2": "tie", "s4": "tie"}


def test_an_export_is_the_same_again(app: App, tmp_path: Path) -> None:
    set_id = set_of(app, tmp_path / "in", 3)
    vote_all(app, set_id, "Ann", letters("ABA"))
    first, second = (app.votes.export(set_id, tmp_path / name).file.read_bytes() for name in ("a.jsonl", "b.jsonl"))
    assert first == second


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"min_votes": 3}, "nothing to export: of 3 pairs 3 have fewer than 3 votes, 0 are ties"),
        ({"min_votes": 2}, "2 have fewer than 2 votes, 1 are ties"),
        ({"min_votes": 0}, "at least 1"),
        ({"ties": "none"}, "drop or keep"),
        ({"media": "none"}, "paths or copy"),
        ({"format": "parquet"}, "give samples"),
    ],
)
def test_nothing_to_export_says_why_and_writes_no_file(
    app: App, tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    set_id = set_of(app, tmp_path / "in", 3)
    vote_all(app, set_id, "Ann", letters("At"))
    vote_all(app, set_id, "Ben", letters(".t"))
    with pytest.raises(ConfigError, match=says):
        app.votes.export(set_id, tmp_path / "out.jsonl", **options)
    assert not (tmp_path / "out.jsonl").exists()


def test_a_file_of_another_kind_is_refused(app: App, tmp_path: Path) -> None:
    set_id = set_of(app, tmp_path / "in", 1)
    vote_all(app, set_id, "Ann", letters("A"))
    with pytest.raises(SampleError, match="sample files end in"):
        app.votes.export(set_id, tmp_path / "out.csv")


def media_set(app: App, folder: Path) -> str:
    """Four pairs of pictures and sounds, with a picture in a prompt and a video of frames."""
    folder.mkdir()
    rows = []
    for i in range(4):
        for side in "ab":
            pixels = photo(64, 64, seed=10 * i + (side == "b"))
            (folder / f"{i}{side}.png").write_bytes(encoded_image("PNG", pixels))
        rows.append(
            {
                "id": f"s{i}",
                "prompt": [{"type": "image", "image": "0a.png"}, f"question {i}"],
                "candidates": [[{"type": "image", "image": f"{i}a.png"}], [{"type": "image", "image": f"{i}b.png"}]],
            }
        )
    (folder / "tone.wav").write_bytes(encoded_sound("WAV", seconds=0.5, rate=16000, channels=1))
    rows[1]["candidates"][0] = [{"type": "audio", "audio": "tone.wav"}, "a tone"]
    rows[2]["candidates"][1] = [{"type": "video", "video": ["1a.png", "2a.png"], "fps": 2}]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return app.votes.import_set(folder / "pairs.jsonl").set_id


def test_media_are_named_by_absolute_path_or_travel_with_the_file(app: App, tmp_path: Path) -> None:
    set_id = media_set(app, tmp_path / "in")
    vote_all(app, set_id, "Ann", letters("ABBA"))
    shutil.rmtree(tmp_path / "in")
    report = app.votes.export(set_id, tmp_path / "out" / "here.jsonl")
    assert list((tmp_path / "out").iterdir()) == [report.file]
    for sample in read_samples(report.file):
        path = Path(sample.prompt[0].parts[0].value)
        assert app.media.path(path.name) == path
    report = app.votes.export(set_id, tmp_path / "out" / "moves.jsonl", media="copy")
    assert report.media == 8  # seven pictures (2b.png is in no pair) and the sound
    shutil.copytree(tmp_path / "out", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "out")
    shutil.rmtree(tmp_path / "data" / "media")
    found = list(read_samples(tmp_path / "elsewhere" / "moves.jsonl"))
    for sample in found:
        parts = [*sample.prompt[0].parts, *(part for one in sample.candidates for part in one.parts)]
        for part in parts:
            for file in part.value if isinstance(part.value, tuple) else [part.value]:
                assert part.type == "text" or Path(file).is_relative_to(tmp_path / "elsewhere" / "moves_media")
                assert part.type == "text" or Path(file).stat().st_size > 100
    assert found[2].candidates[1].parts[0].options == {"fps": 2}


def test_the_trainers_reader_prefers_what_people_preferred(app: App, tmp_path: Path) -> None:
    set_id = set_of(app, tmp_path / "in", 5)
    for name, said in {"Ann": "ABAtB", "Ben": "ABBtB", "Cem": "BBB.A"}.items():
        vote_all(app, set_id, name, letters(said))
    report = app.votes.export(set_id, tmp_path / "out.jsonl", ties="keep")
    rows = from_samples(read_samples(report.file))
    assert [(row.responses[0][0].value, row.responses[1][0].value) for row in rows] == [
        ("s0 first", "s0 second"),
        ("s1 second", "s1 first"),
        ("s2 second", "s2 first"),
        ("s4 second", "s4 first"),
    ]


def test_two_steps_of_training_move_a_scorer_towards_the_votes(app: App, tmp_path: Path) -> None:
    import omnirm.nano
    from omnirm.scorers.base import Scored
    from omnirm.scorers.scalar_head import ScalarHead
    from omnirm.training.bt import BTRecipe, BTSettings, train

    start = Path(omnirm.nano.__path__[0]) / "disrm"
    set_id = set_of(app, tmp_path / "in", 4)
    vote_all(app, set_id, "Ann", letters("ABBA"))
    report = app.votes.export(set_id, tmp_path / "votes.jsonl")
    settings = BTSettings(
        learning_rate=3e-3, batch_size=4, accumulation=1, epochs=2.0, warmup=0.0, schedule="constant", workers=0,
        save_steps=1000, freeze=(),
    )  # fmt: skip
    final = train(BTRecipe("people", str(start), str(report.file), bt=settings, device="cpu"), tmp_path / "runs")
    rows = from_samples(read_samples(report.file))
    asked = [Scored(row.prompt, response) for row in rows for response in row.responses]

    def loss(folder: Path) -> float:
        scores = ScalarHead(str(folder), device="cpu").score(asked)
        return sum(math.log1p(math.exp(b - a)) for a, b in zip(scores[::2], scores[1::2], strict=True))  # type: ignore[operator]

    assert loss(final) < loss(start) - 0.1
