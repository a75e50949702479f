"""The actions on a real studio: database, jobs and media on disk, a scripted model that answers at once."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from running_app import PAIRS, scripted_studio

from omnirm.app.actions.judging import cancel, job, judge, judge_set, judgment, medium, models, outcome, score, submit
from omnirm.app.actions.runs import compare_runs, run_rows, run_summary, runs
from omnirm.app.actions.votes import add_vote_set, agreement, export_votes, next_pair, undo_vote, vote, vote_sets
from omnirm.app.jobs.jobs import Cancelled
from omnirm.app.media_store import UploadRefused
from omnirm.app.studio import Studio
from omnirm.errors import BackendError, ConfigError, SampleError
from omnirm.sample import Sample


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    with scripted_studio(tmp_path / "data", ("scripted:always-a", "scripted:always-b")) as opened:
        yield opened


def _png(file: Path, colour: str) -> Path:
    Image.new("RGB", (48, 32), colour).save(file)
    return file


def _as_data(file: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()


def _set(studio: Studio, name: str = "fruit") -> str:
    return add_vote_set(studio, name, PAIRS)["set"]


# -- judging


def test_judge_gives_verdict_sample_and_the_id_of_a_stored_judgment(studio: Studio):
    found = judge(studio, prompt="2 + 3?", a="5", b="6", orders=1, sample_id="sum-17", title="A sum")
    assert (found["state"], found["verdict"], found["model"]) == ("done", "A", "scripted:always-a")
    assert found["sample"]["id"] == "sum-17"
    assert found["sample"]["candidates"][1]["content"] == [{"type": "text", "text": "6"}]
    assert found["views"][0]["analysis_a"] == "First."
    again = judgment(studio, found["judgment"])
    assert again["record"]["sample_id"] == "sum-17"
    assert again["title"] == "A sum"
    json.dumps(again, allow_nan=False)


def test_the_model_that_was_named_judges(studio: Studio):
    assert models(studio)["models"] == ["scripted:always-a", "scripted:always-b"]
    assert judge(studio, prompt="?", a="1", b="2", orders=1, model="scripted:always-b")["verdict"] == "B"


def test_only_offered_models_are_loaded(studio: Studio, tmp_path: Path):
    with pytest.raises(ConfigError, match="not offered here"):
        judge(studio, prompt="?", a="1", b="2", model=str(tmp_path))


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ({"prompt": "?", "a": "1"}, SampleError, "candidate B is empty"),
        ({"a": "1", "b": "2"}, SampleError, "prompt is empty"),
        ({"prompt": "?", "a": "1", "b": "2", "samples": 0}, ConfigError, "samples 0"),
        ({"prompt": "?", "a": "1", "b": "2", "strategy": "vote", "planned": 0}, ConfigError, "planned 0"),
        ({"prompt": "?", "a": "1", "b": "2", "rubrics": [""]}, SampleError, "name the criterion"),
        ({"prompt": "?", "a": "1", "b": "2", "rubrics": [{"nam": "x"}]}, SampleError, "unknown key"),
        ({"prompt": "?", "a": "1", "b": "2", "strategy": "meta"}, ConfigError, "reward model"),
    ],
)
def test_what_cannot_be_judged_says_why_and_starts_nothing(
    studio: Studio, asked: dict[str, Any], error: type[Exception], says: str
):
    with pytest.raises(error, match=says):
        judge(studio, **asked)
    assert studio.jobs.recent() == []


def test_rubrics_by_hand_are_judged_under(studio: Studio):
    found = judge(
        studio, prompt="?", a="1", b="2", full=True,
        rubrics=["Right: is the sum right?", {"name": "Short", "weight": 2}],
    )  # fmt: skip
    given = [(one["name"], one["text"], one["weight"]) for one in found["record"]["rubrics"]]
    assert given == [("Right", "is the sum right?", 1.0), ("Short", "", 2.0)]


def test_a_strategy_gives_a_view_for_each_rubric(studio: Studio):
    found = judge(studio, prompt="?", a="1", b="2", orders=1, strategy="vote", rubrics=["One: x", "Two: y"])
    assert found["kind"] == "scaled"
    assert found["verdict"] == "A"
    assert [one["rubrics"] for one in found["views"]] == [["One"], ["Two"]]
    assert {one["verdict"] for one in found["views"]} == {"A"}
    assert "record" not in found


def test_media_come_as_data_uri_as_upload_and_as_reference(studio: Studio, tmp_path: Path):
    red, blue = _png(tmp_path / "red.png", "red"), _png(studio.media.uploads / "blue.png", "blue")
    found = judge(studio, prompt="Red?", a_files=[_as_data(red)], b_files=[blue], orders=1)
    assert found["modalities"] == ["text", "image"]
    (one,), (two,) = (candidate["content"] for candidate in found["sample"]["candidates"])
    assert Path(medium(studio, one["ref"])["path"]).read_bytes() == red.read_bytes()
    again = judge(studio, prompt="Red?", a_files=[one["ref"]], b_files=[two["ref"]], orders=1)
    assert again["sample"]["candidates"] == found["sample"]["candidates"]


@pytest.mark.parametrize("bad", ["/etc/passwd", "file:///etc/passwd", "../../etc/passwd", "red.png", "ab.png", ""])
def test_a_path_in_a_text_is_never_read(studio: Studio, bad: str):
    with pytest.raises(UploadRefused, match="is no medium"):
        judge(studio, prompt="?", a="1", b="2", a_files=[bad])


def test_a_file_outside_the_uploads_is_refused(studio: Studio, tmp_path: Path):
    red = _png(tmp_path / "red.png", "red")
    link = studio.media.uploads / "link.png"
    link.symlink_to(red)
    for file in (red, link):
        with pytest.raises(UploadRefused, match="outside the folders"):
            judge(studio, prompt="?", a="1", b="2", a_files=[file])


def test_urls_are_off_by_default(studio: Studio):
    with pytest.raises(UploadRefused, match="remote"):
        judge(studio, prompt="?", a="1", b="2", a_files=["http://127.0.0.1:9/x.png"])


def test_no_answer_names_a_folder_of_this_machine(studio: Studio, tmp_path: Path):
    red = _as_data(_png(tmp_path / "red.png", "red"))
    found = judge(studio, prompt="?", a_files=[red], b_files=[red], full=True)
    told = [found, judgment(studio, found["judgment"]), job(studio, found["job"]), runs(studio), models(studio)]
    told += [run_rows(studio, "app", full=True), run_summary(studio, "app"), vote_sets(studio)]
    assert str(tmp_path) not in json.dumps(told)


def test_score_ranks_candidates(tmp_path: Path):
    with scripted_studio(tmp_path / "data") as studio:
        found = score(studio, prompt="?", candidates=["one", "two", "three"], sample_id="ranked")
    assert found["kind"] == "pointwise"
    assert [one["index"] for one in found["views"]] == [0, 1, 2]
    assert set(found) >= {"best", "ranking", "judgment"}


@pytest.mark.parametrize("count", [0, 17])
def test_score_takes_1_to_16(studio: Studio, count: int):
    with pytest.raises(SampleError, match="give 1 to 16"):
        score(studio, prompt="?", candidates=["x"] * count)


# -- jobs


def test_a_job_that_was_started_can_be_followed_to_its_judgment(studio: Studio):
    started = submit(studio, prompt="?", a="1", b="2")
    assert started["state"] in ("queued", "running", "done")
    studio.jobs.wait(started["job"], timeout=30)
    done = job(studio, started["job"])
    assert done["state"] == "done"
    assert judgment(studio, done["result"]["judgment"])["verdict"] == "tie"
    assert cancel(studio, started["job"])["cancelled"] is False


def test_a_job_that_waits_can_be_cancelled_and_says_so(studio: Studio):
    studio.jobs.stop()  # nothing is taken from the queue now
    first, second = (submit(studio, prompt="?", a="1", b="2") for _ in range(2))
    assert (first["position"], second["position"]) == (0, 1)
    assert cancel(studio, first["job"])["state"] == "cancelled"
    assert job(studio, second["job"])["position"] == 0
    with pytest.raises(Cancelled, match="was cancelled"):
        outcome(studio, first["job"])


def test_a_wait_that_is_too_short_gives_the_job_and_no_verdict(studio: Studio):
    studio.jobs.stop()
    found = judge(studio, prompt="?", a="1", b="2", wait_s=0)
    assert found["state"] == "queued"
    assert "verdict" not in found


def test_a_job_that_failed_says_why(studio: Studio):
    red = _png(studio.media.uploads / "red.png", "red")
    studio.jobs.stop()
    started = submit(studio, prompt="?", a="1", b="2", prompt_files=[red])
    for file in studio.media.folder.glob("*/*.png"):
        file.unlink()
    studio.jobs.start()
    studio.jobs.wait(started["job"], timeout=30)
    with pytest.raises(BackendError, match="no such file"):
        outcome(studio, started["job"])


def test_unknown_ids_are_errors(studio: Studio):
    for call in (job, cancel, judgment, next_pair, agreement, export_votes, judge_set, run_rows, run_summary):
        arguments = ("nobody",) if call is not next_pair else ("nobody", "ann")
        with pytest.raises(ConfigError):
            call(studio, *arguments)


# -- votes


def test_a_pair_is_shown_blind(studio: Studio):
    """Neither the judge's verdict, nor names, label and metadata, nor which candidate is A, before the vote."""
    chosen = _set(studio)
    studio.jobs.wait(judge_set(studio, chosen, orders=1)["job"], timeout=60)
    assert all(pair.verdict == "A" for pair in studio.store.pairs(chosen))
    keys = {"set", "pair", "number", "total", "done", "prompt", "left", "right", "finished"}
    first_left = set()
    for annotator in (f"annotator {i}" for i in range(64)):
        shown = next_pair(studio, chosen, annotator)
        assert set(shown) == keys
        text = json.dumps(shown).lower()
        for word in ("maker", "hidden", "verdict", "label", "judge", "probability", '"a"', '"b"', "candidate"):
            assert word not in text
        first_left.add(shown["left"][0]["text"].split()[0])
    assert first_left == {"first", "second"}
    assert all(set(one) == {"set", "name", "pairs", "created"} for one in vote_sets(studio)["sets"])


def test_a_vote_is_kept_in_the_samples_order_and_the_judge_is_told_then(studio: Studio):
    chosen = _set(studio)
    studio.jobs.wait(judge_set(studio, chosen, orders=1)["job"], timeout=60)
    seen = set()
    for number in range(len(PAIRS)):
        shown = next_pair(studio, chosen, "ann")
        assert (shown["done"], shown["total"]) == (number, len(PAIRS))
        told = vote(studio, chosen, shown["pair"], "ann", "left", strength=3, rubrics=["Right"], comment="so")
        is_first = shown["left"][0]["text"].startswith("first")
        assert told["vote"]["choice"] == ("A" if is_first else "B")
        assert told["verdict"] == "A"
        assert told["agrees"] is is_first
        assert judgment(studio, told["judgment"])["verdict"] == "A"
        seen.add(shown["pair"])
    assert len(seen) == len(PAIRS)
    assert next_pair(studio, chosen, "ann") == {"set": chosen, "finished": True}


def test_a_vote_that_is_taken_back_is_asked_for_again(studio: Studio):
    chosen = _set(studio)
    shown = next_pair(studio, chosen, "ann")
    assert undo_vote(studio, chosen, "ann") == {"undone": False}
    vote(studio, chosen, shown["pair"], "ann", "tie")
    back = undo_vote(studio, chosen, "ann")
    assert back["undone"] is True
    assert {key: back[key] for key in shown if key != "finished"} == {
        key: value for key, value in shown.items() if key != "finished"
    }
    assert studio.store.votes(chosen) == []


def test_agreement_of_two_people(studio: Studio):
    chosen = _set(studio)
    for name in ("ann", "ben"):
        while not (shown := next_pair(studio, chosen, name))["finished"]:
            left_is_first = shown["left"][0]["text"].startswith("first")
            even = int(shown["left"][0]["text"].split()[-1]) % 2 == 0
            vote(studio, chosen, shown["pair"], name, "left" if left_is_first == even else "right")
    found = agreement(studio, chosen)
    assert found["annotators"] == ["ann", "ben"]
    assert found["people"][0]["all"]["n"] == len(PAIRS)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("media", ["path", "data"])
def test_an_export_is_what_the_trainer_reads(studio: Studio, tmp_path: Path, media: str):
    from omnirm.training.preferred import from_samples

    red, blue = (_as_data(_png(tmp_path / f"{name}.png", name)) for name in ("red", "blue"))
    sample = {
        "prompt": "Which is red?",
        "candidates": [[{"type": "image", "image": red}], [{"type": "image_url", "image_url": {"url": blue}}]],
    }
    added = add_vote_set(studio, "colours", [sample, {"prompt": "no candidates"}])
    assert added["pairs"] == 1
    assert added["problems"] == ["sample 2: candidates: found nothing; this key is required"]
    shown = next_pair(studio, added["set"], "ann")
    told = vote(studio, added["set"], shown["pair"], "ann", "right")
    exported = export_votes(studio, added["set"], media=media)
    assert exported["count"] == 1
    (row,) = from_samples([Sample.from_json(line) for line in exported["jsonl"].splitlines()])
    better = row.responses[0][0].value
    chosen = red if told["vote"]["choice"] == "A" else blue
    assert better == chosen if media == "data" else _as_data(Path(better)) == chosen


def test_samples_of_a_set_name_no_files_of_the_server(studio: Studio, tmp_path: Path):
    red = str(_png(tmp_path / "red.png", "red"))
    for part in ({"type": "image", "image": red}, {"type": "image_url", "image_url": {"url": f"file://{red}"}}):
        with pytest.raises(SampleError, match=r"no sample can be used.*is no medium"):
            add_vote_set(studio, "bad", [{"prompt": [part, "Red?"], "candidates": ["1", "2"]}])
    assert vote_sets(studio) == {"sets": []}


@pytest.mark.parametrize(
    ("change", "says"),
    [({"choice": "A"}, "left"), ({"strength": 6}, "strength"), ({"annotator": " "}, "annotator"), ({"pair": "x"}, "x")],
)
def test_votes_that_cannot_be(studio: Studio, change: dict[str, Any], says: str):
    chosen = _set(studio)
    good = {"set": chosen, "pair": next_pair(studio, chosen, "ann")["pair"], "annotator": "ann", "choice": "left"}
    with pytest.raises(ConfigError, match=says):
        vote(studio, **(good | change))
    assert studio.store.votes(chosen) == []


# -- runs


def test_two_runs_are_listed_read_and_compared(studio: Studio):
    chosen = _set(studio)
    for model in models(studio)["models"]:
        studio.jobs.wait(judge_set(studio, chosen, model=model, orders=1)["job"], timeout=60)
    judge(studio, prompt="?", a="1", b="2", title="alone")
    listed = runs(studio)["runs"]
    folders = {one["model"]: one["run"] for one in listed if one["run"] != "app"}
    assert set(folders) == set(models(studio)["models"])
    app = next(one for one in listed if one["run"] == "app")
    assert app["rows"] == 2 * len(PAIRS) + 1
    first = folders["scripted:always-a"]
    assert run_summary(studio, first)["summary"]["rows"] == len(PAIRS)
    page = run_rows(studio, first, result="wrong", limit=2)
    assert page["total"] == 3
    assert [row["verdict"] for row in page["rows"]] == ["A", "A"]
    assert page["rows"][0]["sample"]["candidates"][0]["name"] == "maker-one"
    assert "record" in run_rows(studio, first, limit=1, full=True)["rows"][0]
    found = compare_runs(studio, first, folders["scripted:always-b"])
    assert (found["in_both"], found["only_a"], found["only_b"]) == (6, 3, 3)
    assert len(found["differing"]) == 6


@pytest.mark.parametrize("run", ["../../etc", "/etc", "", "jobs/../..", "jobs"])
def test_a_run_is_named_by_its_id_alone(studio: Studio, run: str):
    with pytest.raises(ConfigError, match="no run"):
        run_rows(studio, run)


@pytest.mark.parametrize("limit", [0, 201])
def test_rows_come_by_pages(studio: Studio, limit: int):
    with pytest.raises(ConfigError, match="give 1 to 200"):
        run_rows(studio, "app", limit=limit)
