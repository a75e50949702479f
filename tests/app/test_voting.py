"""Blind votes on real sets: what comes in, what is shown and hidden, what is kept, how far people agree."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from made_media import encoded_image, encoded_sound, encoded_video
from vote_sets import App, letters, open_app, pair_of, sample_of, set_of, vote_all

from omnirm.app.votes.voting import Voting, checked_name, left_of
from omnirm.backends.load import load_backend
from omnirm.errors import ConfigError, SampleError
from omnirm.judge import Judge
from omnirm.runs import RunFolder


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with open_app(tmp_path / "data") as app:
        yield app


# Import


def test_a_sample_file_comes_in_and_wrong_rows_are_told(app: App, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "cat.png").write_bytes(encoded_image("PNG"))
    (tmp_path / "in" / "fake.png").write_text("<script>alert(1)</script>")
    (tmp_path / "secret.png").write_bytes(encoded_image("PNG"))
    os.symlink(tmp_path / "secret.png", tmp_path / "in" / "link.png")

    def row(id: str, image: str, **more: Any) -> dict[str, Any]:
        return {"id": id, "prompt": [{"type": "image", "image": image}, "?"], "candidates": ["a", "b"], **more}

    rows: list[Any] = [
        row("good", "cat.png", label=1),
        row("fake", "fake.png"),
        row("link", "link.png"),
        row("up", "../secret.png"),
        row("file", f"file://{tmp_path / 'secret.png'}"),
        row("web", "http://127.0.0.1:9/cat.png"),
        {"prompt": "q", "candidates": ["a", "b", "c"]},
        {"prompt": "q"},
        row("good", "cat.png"),
        {"prompt": "last", "candidates": ["a", "b"]},
    ]
    lines = [json.dumps(row) for row in rows] + ["{"]
    (tmp_path / "in" / "pairs.jsonl").write_text("\n".join(lines))
    report = app.votes.import_set(tmp_path / "in" / "pairs.jsonl", name="Cats")
    pairs = app.store.pairs(report.set_id)
    assert (report.count, len(report.problems)) == (2, 9)
    assert [one.sample["id"] for one in pairs] == ["good", "pairs:10"]
    stored = Path(pairs[0].sample["prompt"][0]["image"])
    assert app.media.path(stored.name) == stored
    for problem, says in zip(
        report.problems,
        ["fake", "link", "up", "file", "web", "3 candidates; only pairs", "candidates", "same id", "not JSON"],
        strict=True,
    ):
        assert says in problem
    assert [(one.name, one.count) for one in app.votes.sets()] == [("Cats", 2)]
    assert app.votes.sets()[0].source == str((tmp_path / "in" / "pairs.jsonl").resolve())


def test_two_folders_of_files_come_in_with_all_modalities(app: App, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for side in "AB":
        (folder / side).mkdir(parents=True)
        (folder / side / "picture.png").write_bytes(encoded_image("PNG", quality=1 if side == "A" else 2))
        (folder / side / "picture.txt").write_text(f"with a text {side}")
        (folder / side / "clip.dat").write_bytes(encoded_video())  # told by what it holds
        (folder / side / "tone.wav").write_bytes(encoded_sound("WAV"))
        (folder / side / "words.md").write_text(f"**{side}** ümläut")
        (folder / side / ".hidden").write_text("x")
        (folder / side / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "A" / "alone.txt").write_text("x")
    (folder / "A" / "bytes.txt").write_bytes(b"\xff")
    (folder / "B" / "bytes.txt").write_text("x")
    (folder / "prompt").mkdir()
    (folder / "prompt" / "words.txt").write_text("Say a letter")
    (folder / "prompts.jsonl").write_text('{"id": "clip", "prompt": "Which moves?"}\n{"id": "tone"}\n')
    report = app.votes.import_set(folder)
    found = {one.sample["id"]: one.sample for one in app.store.pairs(report.set_id)}
    assert sorted(found) == ["clip", "picture", "tone", "words"]
    assert [one["type"] for one in found["picture"]["candidates"][0]] == ["image", "text"]
    assert found["clip"]["candidates"][0][0]["type"] == "video"
    assert found["tone"]["candidates"][1][0]["type"] == "audio"
    assert found["words"]["candidates"] == ["**A** ümläut", "**B** ümläut"]
    assert [found[name]["prompt"] for name in ("clip", "words", "tone")] == ["Which moves?", "Say a letter", ""]
    assert sorted(problem.split(":")[0] for problem in report.problems) == ["alone", "broken", "bytes", "prompts"]
    assert "has no file in B" in " ".join(report.problems)


def test_a_text_that_leads_out_of_the_folder_is_not_read(app: App, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("the password")
    for side in "AB":
        (tmp_path / "set" / side).mkdir(parents=True)
        os.symlink(tmp_path / "secret.txt", tmp_path / "set" / side / "x.txt")
        (tmp_path / "set" / side / "y.txt").write_text("fine")
    report = app.votes.import_set(tmp_path / "set")
    assert report.problems == ("x: x.txt: leads outside of the folders that may be read",)
    assert "password" not in json.dumps([one.sample for one in app.store.pairs(report.set_id)])


def finished_run(folder: Path) -> dict[str, Any]:
    samples = [sample_of(f"s{i}", label=i % 2) for i in range(4)]
    with RunFolder(folder, {"model": "scripted:always-a"}) as run:
        judge = Judge(run.backend(load_backend("scripted:always-a")), orders=1)
        judgments = judge.compare(samples[:3])
        for sample in samples:
            run.append("samples", sample.to_dict())
        for judgment in judgments:
            run.append("judgments", judgment)
        run.finish()
    return judgments[1].to_dict()


def test_a_finished_run_brings_the_judges_verdicts(app: App, tmp_path: Path) -> None:
    record = finished_run(tmp_path / "run")
    with open(tmp_path / "run" / "judgments.jsonl", "a") as file:
        file.write('{"kind": "pairwise"}\nnot json\n')
    report = app.votes.import_set(tmp_path / "run")
    assert report.count == 4
    assert [problem.split(":")[:2] for problem in report.problems] == [["judgments", "4"], ["judgments", "5"]]
    pairs = {one.sample["id"]: one for one in app.store.pairs(report.set_id)}
    assert [pairs[f"s{i}"].verdict for i in range(4)] == ["A", "A", "A", None]
    assert pairs["s1"].probability_a == record["probability_a"]
    stored = app.store.judgment(pairs["s1"].judgment)
    assert stored is not None
    assert stored.record == record
    assert pairs["s3"].judgment == ""


def test_verdicts_of_every_kind_of_record_are_understood() -> None:
    from omnirm.app.votes.sources import said

    assert said({"kind": "scaled", "verdict": "B", "confidence": 0.75}) == ("B", 0.25)
    assert said({"kind": "scaled", "verdict": "tie", "confidence": 0.9}) == ("tie", 0.5)
    assert said({"kind": "scaled", "verdict": None, "confidence": None}) == (None, None)
    assert said({"kind": "pointwise", "best": 1}) == ("B", None)
    assert said({"kind": "pointwise", "best": None}) == (None, None)


@pytest.mark.parametrize("name", ["missing", "empty.jsonl", "folder", "pairs.csv", "wrong.jsonl"])
def test_a_source_that_has_no_pair_is_an_error_and_no_set(app: App, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "pairs.csv").write_text("a,b")
    (tmp_path / "wrong.jsonl").write_text('{"prompt": "q"}')
    with pytest.raises(SampleError, match=name):
        app.votes.import_set(tmp_path / name)
    assert app.votes.sets() == []


# What is shown


def test_nothing_tells_before_the_vote_and_everything_after(app: App, tmp_path: Path) -> None:
    set_id = set_of(app, tmp_path / "in", 1, label=1, metadata={"chosen": "model-y"}, rubrics=["Brevity"])
    pair_id = app.store.pair_ids(set_id)[0]
    app.store.set_verdict(set_id, pair_id, "B", 0.125, "judgmentid00")
    shown = app.votes.next(set_id, "Ann")
    assert shown is not None
    assert (shown.vote, shown.judge, shown.number, shown.total, shown.done) == (None, None, 1, 1, 0)
    assert shown.sample == {
        "id": "s0",
        "prompt": "Question s0?",
        "candidates": ["s0 first", "s0 second"],
        "rubrics": [{"name": "Brevity"}],
    }
    side = "left" if shown.left == "B" else "right"
    reveal = app.votes.cast(set_id, pair_id, "Ann", side, strength=3, rubrics=["Brevity", "Brevity"], seconds=2.5)
    assert (reveal.vote.choice, reveal.vote.left, reveal.vote.strength) == ("B", shown.left, 3)
    assert (reveal.vote.rubrics, reveal.vote.seconds) == (("Brevity",), 2.5)
    assert (reveal.verdict, reveal.probability_a, reveal.agrees, reveal.label) == ("B", 0.125, True, "B")
    assert (reveal.judgment, reveal.names) == ("judgmentid00", ("model-x", "model-y"))
    again = app.votes.shown(set_id, pair_id, "Ann")
    assert again.sample["label"] == 1
    assert again.vote == reveal.vote
    assert again.judge is not None
    assert (again.judge.verdict, again.judge.agrees) == ("B", True)
    assert app.votes.shown(set_id, pair_id, "Ben").judge is None
    assert "label" not in app.votes.shown(set_id, pair_id, "Ben").sample


@pytest.mark.parametrize(
    ("side", "verdict", "agrees"),
    [
        ("tie", "tie", True),
        ("both_bad", "tie", True),
        ("both_bad", "A", False),
        ("tie", "B", False),
        ("skip", "A", None),
        ("tie", None, None),
    ],
)
def test_whether_the_judge_agrees(app: App, tmp_path: Path, side: Any, verdict: str | None, agrees: Any) -> None:
    set_id = set_of(app, tmp_path / "in", 1)
    pair_id = app.store.pair_ids(set_id)[0]
    app.store.set_verdict(set_id, pair_id, verdict, None)
    reveal = app.votes.cast(set_id, pair_id, "Ann", side, strength=5)
    assert reveal.agrees is agrees
    assert (reveal.vote.choice, reveal.vote.strength) == (side, None)


def test_each_person_has_an_order_and_sides_of_their_own_and_a_session_resumes(app: App, tmp_path: Path) -> None:
    set_id = set_of(app, tmp_path / "in", 40)
    seen: dict[str, list[tuple[str, str]]] = {"Ann": [], "Ben": []}
    for name, found in seen.items():
        while (shown := app.votes.next(set_id, name)) is not None:
            assert shown.number == len(found) + 1 == shown.done + 1
            same = Voting(app.store, app.media).next(set_id, name)  # another process, after a restart
            assert same == shown
            found.append((shown.pair_id, shown.left))
            app.votes.cast(set_id, shown.pair_id, name, "left")
    ann, ben = seen["Ann"], seen["Ben"]
    assert sorted(pair for pair, _ in ann) == sorted(pair for pair, _ in ben) == sorted(app.store.pair_ids(set_id))
    assert [pair for pair, _ in ann] != [pair for pair, _ in ben] != app.store.pair_ids(set_id)
    assert dict(ann) != dict(ben)
    assert {vote.choice for vote in app.store.votes(set_id)} == {"A", "B"}
    for vote in app.store.votes(set_id):
        assert vote.choice == vote.left == dict(seen[vote.annotator])[vote.pair_id]


def test_both_sides_come_up_equally_often() -> None:
    sides = Counter(left_of("set", f"pair {i}", name) for i in range(500) for name in ("Ann", "Ben"))
    assert 430 < sides["A"] < 570  # 4.4 standard deviations


def test_a_pair_can_be_put_off(app: App, tmp_path: Path) -> None:
    set_id = set_of(app, tmp_path / "in", 3)
    first = app.votes.next(set_id, "Ann")
    assert first is not None
    second = app.votes.next(set_id, "Ann", after=first.pair_id)
    assert second is not None
    third = app.votes.next(set_id, "Ann", after=second.pair_id)
    assert third is not None
    assert [one.number for one in (first, second, third)] == [1, 2, 3]
    assert app.votes.next(set_id, "Ann", after=third.pair_id) == first
    assert app.votes.next(set_id, "Ann", after="nonsense") == first
    app.votes.cast(set_id, second.pair_id, "Ann", "skip")
    passed = app.votes.next(set_id, "Ann", after=first.pair_id)
    assert passed is not None
    assert (passed.pair_id, passed.number, passed.done) == (third.pair_id, 3, 1)


def test_the_last_vote_can_be_taken_back_one_after_the_other(app: App, tmp_path: Path) -> None:
    set_id = set_of(app, tmp_path / "in", 3)
    assert app.votes.undo(set_id, "Ann") is None
    order = []
    for _ in range(3):
        shown = app.votes.next(set_id, "Ann")
        assert shown is not None
        order.append(shown.pair_id)
        app.votes.cast(set_id, shown.pair_id, "Ann", "left")
    app.votes.cast(set_id, order[0], "Ann", "right")  # changed: now the last one
    app.votes.cast(set_id, order[0], "Ben", "tie")
    back = [app.votes.undo(set_id, "Ann") for _ in range(4)]
    assert [one and one.pair_id for one in back] == [order[0], order[2], order[1], None]
    assert back[0] is not None
    assert (back[0].vote, back[0].judge, back[0].done) == (None, None, 2)
    assert [vote.annotator for vote in app.store.votes(set_id)] == ["Ben"]
    assert len(app.store.past_votes(set_id)) == 4


@pytest.mark.parametrize("name", ["", "   ", "n" * 65, "a\nb", "a\0b", "\ud800", "a\u202eb"])
def test_a_name_that_is_none_is_refused(app: App, tmp_path: Path, name: str) -> None:
    set_id = set_of(app, tmp_path / "in", 1)
    pair_id = app.store.pair_ids(set_id)[0]
    for ask in (
        lambda: app.votes.next(set_id, name),
        lambda: app.votes.shown(set_id, pair_id, name),
        lambda: app.votes.cast(set_id, pair_id, name, "left"),
        lambda: app.votes.undo(set_id, name),
    ):
        with pytest.raises(ConfigError, match="1 to 64 printable"):
            ask()


def test_one_person_is_one_name() -> None:
    assert checked_name("  Zoe\u0308 \n") == checked_name("Zo\u00eb") == "Zo\u00eb"
    assert checked_name("<b>Ann</b> O'Neil 王") == "<b>Ann</b> O'Neil 王"


@pytest.mark.parametrize(
    "wrong",
    [
        {"side": "A"},
        {"strength": 6},
        {"strength": 2.5},
        {"comment": "x" * 10_001},
        {"comment": "\ud800"},
        {"rubrics": ["x"] * 51},
        {"rubrics": ["x" * 301]},
        {"seconds": float("nan")},
        {"pair_id": "none"},
        {"set_id": "none"},
    ],
)
def test_a_vote_that_is_none_is_refused(app: App, tmp_path: Path, wrong: dict[str, Any]) -> None:
    set_id = set_of(app, tmp_path / "in", 1)
    given = {"set_id": set_id, "pair_id": app.store.pair_ids(set_id)[0], "annotator": "Ann", "side": "left", **wrong}
    with pytest.raises((ConfigError, SampleError)):
        app.votes.cast(**given)
    assert app.store.votes(set_id) == []


def test_a_set_that_there_is_not(app: App, tmp_path: Path) -> None:
    for ask in (
        lambda: app.votes.next("none", "Ann"),
        lambda: app.votes.shown("none", "p", "Ann"),
        lambda: app.votes.undo("none", "Ann"),
        lambda: app.votes.agreement("none"),
        lambda: app.votes.export("none", tmp_path / "x.jsonl"),
    ):
        with pytest.raises(ConfigError, match="there is no vote set 'none'"):
            ask()


def test_many_people_vote_at_once(app: App, tmp_path: Path) -> None:
    set_id = set_of(app, tmp_path / "in", 8)

    def work(name: str) -> int:
        count = 0
        while (shown := app.votes.next(set_id, name)) is not None:
            reveal = app.votes.cast(set_id, shown.pair_id, name, "left", comment=name)
            assert (reveal.vote.annotator, reveal.vote.choice) == (name, shown.left)
            count += 1
        return count

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(work, [f"person {i}" for i in range(20)])) == [8] * 20
    votes = app.store.votes(set_id)
    assert len(votes) == 160
    assert all(vote.comment == vote.annotator and vote.choice == vote.left for vote in votes)


# Agreement


def test_agreement_of_three_people_and_the_judge_by_hand(app: App, tmp_path: Path) -> None:
    set_id = set_of(app, tmp_path / "in", 12)
    vote_all(app, set_id, "Ann", letters("AAAABBBBtx.."))
    vote_all(app, set_id, "Ben", letters("AAABBBBAtx.s"))
    vote_all(app, set_id, "Cem", letters("AABB........"))
    for i, verdict in enumerate("AAAABBBB"):
        app.store.set_verdict(set_id, pair_of(app, set_id, f"s{i}"), verdict, 0.5)
    app.store.set_verdict(set_id, pair_of(app, set_id, "s9"), "tie", 0.5)
    found = app.votes.agreement(set_id)
    assert (found.annotators, found.voted, found.total, found.changed) == (("Ann", "Ben", "Cem"), 10, 12, 0)
    assert found.votes == {"A": 4 + 4 + 2, "B": 4 + 4 + 2, "tie": 2, "both_bad": 2, "skip": 1}
    assert [(one.first, one.second) for one in found.people] == [("Ann", "Ben"), ("Ann", "Cem"), ("Ben", "Cem")]
    ann_ben = found.people[0]
    # 8 of 10 the same; both say A 4, B 4, tie 1, both bad 1 times: p_e = (16 + 16 + 1 + 1) / 100
    assert (ann_ben.all.n, ann_ben.all.share) == (10, 0.8)
    assert ann_ben.all.kappa.value == pytest.approx((0.8 - 0.34) / (1 - 0.34))
    assert (ann_ben.decided.n, ann_ben.decided.agreed) == (8, 6)
    assert ann_ben.decided.kappa.value == pytest.approx(0.5)
    low, high = ann_ben.all.kappa.interval or (1, 0)
    assert low < 0.697 < high
    assert found.people[1].all.n == 4
    assert found.people[1].all.kappa.value is None or found.people[1].all.kappa.value == 0
    judge = {one.first: one for one in found.judge}
    assert (judge["Ann"].second, judge["Ann"].all.n, judge["Ann"].all.agreed) == (None, 9, 9)
    assert judge["Ann"].all.kappa.value == 1
    assert (judge["Ben"].all.n, judge["Ben"].all.agreed, judge["Ben"].decided.n) == (9, 7, 8)
    # most say AAABBBB on s0..s6; Ann B, Ben A on s7 is a tie; both bad on s9 counts as one
    assert found.majority is not None
    assert (found.majority.first, found.majority.all.n, found.majority.all.agreed) == ("", 9, 7)
    assert found.alpha.value is not None
    assert found.alpha.interval is not None
    assert found.rated_by_all == 4
    # s0 and s1 AAA, s2 AAB, s3 ABB: P = (1 + 1 + 1/3 + 1/3) / 4, p_e = (9/12)² + (3/12)²
    assert found.fleiss == pytest.approx((8 / 12 - 0.625) / 0.375)
    assert app.votes.agreement(set_id) == found


def test_what_cannot_be_told_is_none_and_not_zero(app: App, tmp_path: Path) -> None:
    set_id = set_of(app, tmp_path / "in", 4)
    empty = app.votes.agreement(set_id)
    assert (empty.annotators, empty.people, empty.judge, empty.majority) == ((), (), (), None)
    assert (empty.alpha.value, empty.fleiss, empty.voted) == (None, None, 0)
    vote_all(app, set_id, "Ann", letters("AA.."))
    vote_all(app, set_id, "Ben", letters("..AA"))
    vote_all(app, set_id, "Cem", letters("AA.."))
    found = app.votes.agreement(set_id)
    apart, same = found.people[0].all, found.people[1].all
    assert (apart.n, apart.share, apart.share_interval, apart.kappa.value, apart.kappa.interval) == (0, *[None] * 4)
    assert (same.n, same.share, same.kappa.value) == (2, 1.0, None)
    assert (found.fleiss, found.rated_by_all, found.alpha.value) == (None, 0, None)


def test_changed_votes_are_counted(app: App, tmp_path: Path) -> None:
    set_id = set_of(app, tmp_path / "in", 2)
    vote_all(app, set_id, "Ann", letters("AA"))
    vote_all(app, set_id, "Ann", letters("B"))
    app.votes.undo(set_id, "Ann")
    found = app.votes.agreement(set_id)
    assert (found.changed, found.votes["A"], found.votes["B"]) == (2, 1, 0)
