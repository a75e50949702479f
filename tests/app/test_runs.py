"""Stored runs as the Runs tab and the API read them: real run folders, damaged ones, hostile ones, long ones."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from scripted_rubrics import model, says, writes
from typer.testing import CliRunner

from omnirm.app.cli import app
from omnirm.app.runs import reading as run_reading
from omnirm.app.runs.facts import facts_of, facts_of_line
from omnirm.app.runs.folders import find
from omnirm.app.runs.runs import IN_APP, RowFilters, Runs
from omnirm.app.store.store import Store
from omnirm.backends import scripted
from omnirm.backends.load import load_backend
from omnirm.errors import ConfigError
from omnirm.judge import Judge
from omnirm.runs import RunFolder
from omnirm.sample import Sample

HOSTILE = "evil\x1b[31m <script>alert(1)</script> ../../etc/passwd"


def sample(id: str, label: int | None = 0, **more) -> dict:
    return {"id": id, "prompt": f"question {id}", "candidates": ["first", "second"], "label": label, **more}


def judged(folder: Path, rows: list[dict], *, strategy: str = "vote", name: str = "test") -> Path:
    """A run folder made by the command itself."""
    file = folder.parent / f"{folder.name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--model", f"scripted:{name}", "--format", "pairwise-thinking", "--strategy", strategy, "--rubrics", "3"]
    done = CliRunner().invoke(app, ["judge", str(file), *flags, "--run", str(folder), "--json"])
    assert done.exit_code in (0, 3), done.output
    return folder


@pytest.fixture
def judges(monkeypatch):
    """Two judges with three rubrics: `scripted:test` mostly prefers what begins with `first`, `scripted:other` not."""
    for name, verdicts in (("test", {"Truth": "A", "Noise": "B", "Sense": "A", "": "A"}),
                           ("other", {"Truth": "B", "Noise": "B", "Sense": "A", "": "B"})):  # fmt: skip
        good = model(planning=writes("Truth", "Noise", "Sense"), judge=says(verdicts))
        monkeypatch.setitem(
            scripted.NAMED, name, lambda good=good, name=name: scripted.ScriptedBackend(good._script, name=name)
        )


@pytest.fixture
def runs(judges, tmp_path):
    root = tmp_path / "runs"
    root.mkdir()
    rows = [sample("s0"), sample("s1"), sample("s2", 1), sample("s3", None), sample("three", None)]
    rows[-1]["candidates"] = ["first", "second", "third"]
    judged(root / "one", rows)
    return Runs([root])


# -- a run as it is


def test_a_run_is_listed_with_accuracy_and_coverage(runs):
    (info,) = runs.list()
    assert (info.id, info.model, info.strategy, info.state) == ("runs/one", "scripted:test", "vote", "at rest")
    assert (info.rows, info.labelled, info.judged) == (5, 3, 4)
    assert (info.accuracy.count, info.accuracy.of) == (2, 3)
    assert 0.2 < info.accuracy.low < 2 / 3 < info.accuracy.high < 0.95
    assert info.coverage.value == 0.8
    assert info.problems == ()
    assert info.finished


def test_rows_have_sample_and_record(runs):
    page = runs.rows("runs/one")
    assert (page.total, [row.sample_id for row in page.rows]) == (5, ["s0", "s1", "s2", "s3", "three"])
    first, third, last = page.rows[0], page.rows[2], page.rows[4]
    assert (first.verdict, first.label, first.correct, first.modalities) == ("A", "A", True, ("text",))
    assert first.sample["prompt"] == "question s0"
    assert first.record["strategy"] == "vote"
    assert (third.verdict, third.correct) == ("A", False)
    assert (last.verdict, last.correct) == (None, None)
    assert last.reasons
    assert runs.row("runs/one", 2).sample_id == "s2"


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({"result": "right"}, ["s0", "s1"]),
        ({"result": "wrong"}, ["s2"]),
        ({"result": "unread"}, ["three"]),
        ({"result": "unlabelled"}, ["s3", "three"]),
        ({"verdict": "A"}, ["s0", "s1", "s2", "s3"]),
        ({"verdict": "B"}, []),
        ({"modality": "text"}, ["s0", "s1", "s2", "s3", "three"]),
        ({"modality": "image"}, []),
        ({"orders": "agree"}, ["s0", "s1", "s2", "s3"]),
        ({"orders": "disagree"}, []),
        ({"text": "QUESTION S2"}, ["s2"]),
        ({"text": "noise on second"}, ["s0", "s1", "s2", "s3"]),  # what the judge wrote
        ({"text": "position_consistent"}, []),  # a key of the record, which nobody wrote
        ({"text": "three", "result": "unread"}, ["three"]),
    ],
)
def test_filters(runs, filters, ids):
    page = runs.rows("runs/one", filters=RowFilters(**filters))
    assert [row.sample_id for row in page.rows] == ids
    assert page.total == len(ids)


def test_pages_and_order_by_confidence(tmp_path):
    folder = tmp_path / "sure"
    with RunFolder(folder, {}) as run:
        for i, sure in enumerate([0.7, None, 0.9, 0.5]):
            run.append("judgments", pairwise(f"s{i}", confidence=sure))
    runs = Runs([folder])
    (info,) = runs.list()
    ids = [row.sample_id for row in runs.rows(info.id, filters=RowFilters(sort="least confident")).rows]
    assert ids == ["s3", "s0", "s2", "s1"]
    page = runs.rows(info.id, filters=RowFilters(sort="most confident"), offset=1, limit=2)
    assert [(row.sample_id, row.position) for row in page.rows] == [("s0", 1), ("s3", 2)]
    assert runs.rows(info.id, offset=90).rows == ()
    with pytest.raises(ConfigError, match="limit 0"):
        runs.rows(info.id, limit=0)
    with pytest.raises(ConfigError, match="result 'good'"):
        RowFilters(result="good")


def test_disagreeing_orders_and_plain_judgments(tmp_path):
    samples = [Sample.from_dict(sample("s0")), Sample.from_dict(sample("s1", 1))]
    with RunFolder(tmp_path / "plain", {"model": "scripted:always-a"}) as run:
        for judgment in Judge(run.backend(load_backend("scripted:always-a"))).compare(samples):
            run.append("judgments", judgment)
        for judgment in Judge(load_backend("scripted:always-a")).score(samples[:1]):
            run.append("judgments", judgment)
    runs = Runs([tmp_path])
    (info,) = runs.list()
    assert [row.sample_id for row in runs.rows(info.id, filters=RowFilters(orders="disagree")).rows] == ["s0", "s1"]
    assert runs.summary(info.id).consistency.value == 0.0
    assert "keeps no samples" in info.problems[0]
    assert runs.row(info.id, 0).sample is None
    assert runs.row(info.id, 2).record["kind"] == "pointwise"


def test_the_quick_way_reads_what_the_slow_way_reads(runs):
    for line in (runs.folder("runs/one") / "judgments.jsonl").read_bytes().splitlines():
        assert facts_of_line(line) == facts_of(json.loads(line))
    forged = json.loads(line) | {"sample_id": 's","verdict":"B","planned":[', "error": ',"stopped":"all","label":"A'}
    for record in (forged, forged | {"verdict": "A", "label": "B"}):
        line = json.dumps(record, separators=(",", ":")).encode()
        assert facts_of_line(line) == facts_of(record)


# -- runs that change, are damaged, or are none


def test_a_run_that_grows_shrinks_and_is_written_anew(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    runs = Runs([tmp_path])
    with RunFolder(folder, {"model": "m"}) as run:
        run.append("judgments", pairwise("s0"))
        run.append("judgments", pairwise("s1"))
        assert [(one.rows, one.state) for one in runs.list()] == [(2, "running")]
        read: list[bytes] = []
        monkeypatch.setattr(run_reading, "facts_of_line", lambda line: read.append(line) or facts_of_line(line))
        run.append("judgments", pairwise("s2"))
        assert [one.rows for one in runs.list()] == [3]
        assert len(read) == 1  # only what is new
    with RunFolder(folder, {"model": "m"}) as run:
        run.append("judgments", pairwise("s9", verdict="B"))  # replaces the first row, and drops all behind it
        run.append("judgments", pairwise("s1"))
        run.finish()
    assert [row.sample_id for row in runs.rows("run" if "run" in ids(runs) else ids(runs)[0]).rows] == ["s9", "s1"]
    assert runs.list()[0].state == "at rest"


def test_torn_and_foreign_lines_are_named_and_lose_nothing_else(tmp_path):
    good = json.dumps(pairwise("s0"))
    lines = [
        good,
        "{",
        "[1]",
        '{"kind":"recipe"}',
        '{"kind":"pairwise","sample_id":"x"}',
        "",
        "\x00\x01\xff",
        good[:40],
    ]
    (tmp_path / "judgments.jsonl").write_bytes("\n".join(lines).encode("latin-1"))
    (tmp_path / "run.json").write_text("{not json")
    runs = Runs([tmp_path])
    (info,) = runs.list()
    assert info.rows == 1
    said = "\n".join(info.problems)
    assert "run.json is damaged" in said
    for line, what in (
        (2, "not JSON"),
        (3, "not an object"),
        (4, "the key kind"),
        (5, "no whole judgment"),
        (7, "JSON"),
    ):
        assert f"line {line}: " in said
        assert what in said.split(f"line {line}: ")[1].split("\n")[0]
    assert "the last line is not finished (40 bytes left out)" in said


def test_many_damaged_lines_are_counted(tmp_path):
    (tmp_path / "judgments.jsonl").write_text("{\n" * 1000)
    (info,) = Runs([tmp_path]).list()
    assert info.rows == 0
    assert len(info.problems) == 6
    assert "995 more lines" in info.problems[-1]


def test_damage_inside_a_long_line_shows_when_the_row_is_opened(runs):
    file = runs.folder("runs/one") / "judgments.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    lines[0] = lines[0].replace(b'"trajectories":[{', b'"trajectories":[}', 1)
    file.write_bytes(b"".join(lines))
    page = runs.rows("runs/one")
    assert [row.sample_id for row in page.rows] == ["s0", "s1", "s2", "s3", "three"]
    assert "can no longer be read" in page.rows[0].problem
    assert page.rows[1].problem == ""


def test_a_line_that_is_too_long_is_no_row(tmp_path, monkeypatch):
    monkeypatch.setattr(run_reading, "LONGEST_LINE", 4096)
    good = json.dumps(pairwise("s0"))
    (tmp_path / "judgments.jsonl").write_text(f"{'x' * 9000}\n{good}\n")
    (info,) = Runs([tmp_path]).list()
    assert info.rows == 1
    assert "longer than" in info.problems[0]


@pytest.mark.parametrize(
    "run",
    ["", ".", "..", "../secret", "runs/../../secret", "/etc", "runs/one/", "runs/one\0", "runs/%2e%2e", "app", HOSTILE],
)
def test_only_runs_that_were_found_can_be_named(runs, tmp_path, run):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "judgments.jsonl").write_text(json.dumps(pairwise("secret")) + "\n")
    for ask in (runs.info, runs.rows, runs.summary, runs.folder, lambda id: runs.row(id, 0),
                lambda id: runs.compare(id, "runs/one")):  # fmt: skip
        with pytest.raises(ConfigError):
            ask(run)


def test_links_are_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "judgments.jsonl").write_text(json.dumps(pairwise("secret")) + "\n")
    root = tmp_path / "runs"
    (root / "file").mkdir(parents=True)
    (root / "folder").symlink_to(secret)
    (root / "file" / "judgments.jsonl").symlink_to(secret / "judgments.jsonl")
    (root / "file" / "run.json").write_text('{"omnirm_run": 1, "settings": {}, "versions": []}')
    (root / "pipe").mkdir()
    os.mkfifo(root / "pipe" / "judgments.jsonl")
    runs = Runs([root])
    infos = {one.id: one for one in runs.list()}
    assert set(infos) == {"runs/file", "runs/pipe"}
    assert [one.rows for one in infos.values()] == [0, 0]
    assert "not a plain file" in infos["runs/file"].problems[0]


def test_names_that_files_carry_stay_what_they_are(judges, tmp_path):
    root = tmp_path / "runs"
    root.mkdir()
    judged(root / "x<script>y", [sample(HOSTILE)])
    runs = Runs([root, root, tmp_path / "nowhere"])
    (info,) = runs.list()
    assert info.id == "runs/x<script>y"
    assert runs.row(info.id, 0).sample_id == HOSTILE


def test_a_run_that_broke_off_and_one_without_judgments(tmp_path):
    with RunFolder(tmp_path / "new", {"model": "m"}) as run:
        load_backend("scripted:always-a")
        run.record("generate", [("0" * 64, {"text": "A"})])
    with RunFolder(tmp_path / "old", {"model": "m"}) as run:
        run.append("judgments", pairwise("s0"))
        run.record("generate", [("0" * 64, {"text": "A"})])
    os.utime(tmp_path / "old" / "judgments.jsonl", (time.time() - 100,) * 2)
    states = {one.id.split("/")[-1]: (one.state, one.rows, one.finished) for one in Runs([tmp_path]).list()}
    assert states == {"new": ("broken off", 0, False), "old": ("broken off", 1, False)}


def test_looking_at_a_run_leaves_its_lock_alone(tmp_path):
    with RunFolder(tmp_path / "run", {}) as run:
        run.append("judgments", pairwise("s0"))
        Runs([tmp_path]).list()
        assert next(iter(find([tmp_path]).values())).state == "running"  # also for another process
        child = os.fork()
        if child == 0:
            try:
                RunFolder(tmp_path / "run", {})
                os._exit(1)
            except ConfigError:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0


# -- judgments made in the app


def test_judgments_made_in_the_app(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'app.db'}")
    runs = Runs([tmp_path / "none"], store)
    assert [(one.id, one.rows) for one in runs.list()] == [(IN_APP, 0)]
    picture = sample("b", 0, prompt=[{"type": "image", "image": "/x.png"}, {"type": "text", "text": "which cat?"}])
    first = store.add_judgment(pairwise("a"), sample("a"), title="The first")
    second = store.add_judgment(pairwise("b", verdict="B"), picture, title=HOSTILE)
    (info,) = runs.list()
    assert (info.rows, info.accuracy.count, info.accuracy.of) == (2, 1, 2)
    page = runs.rows(IN_APP)
    assert [(row.permalink, row.title) for row in page.rows] == [(second, HOSTILE), (first, "The first")]
    assert page.rows[0].modalities == ("text", "image")
    assert page.rows[1].sample == sample("a")
    assert [r.permalink for r in runs.rows(IN_APP, filters=RowFilters(text="CAT")).rows] == [second]
    assert [r.permalink for r in runs.rows(IN_APP, filters=RowFilters(modality="image")).rows] == [second]
    assert dict(runs.summary(IN_APP).by_modality)["image"].count == 0
    third = store.add_judgment(pairwise("c"), sample("c"))
    assert runs.rows(IN_APP).rows[0].permalink == third
    with pytest.raises(ConfigError, match="choose two runs"):
        runs.compare(IN_APP, IN_APP)
    store.close()


def test_the_folder_of_a_single_judgment_is_not_listed_twice(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'app.db'}")
    jobs = {kind: store.add_job(kind, {}) for kind in ("judge", "judge-set")}
    for job in jobs.values():
        with RunFolder(tmp_path / "jobs" / job, {}) as run:
            run.append("judgments", pairwise("s0"))
    assert [one.id for one in Runs([tmp_path / "jobs"], store).list()] == [IN_APP, f"jobs/{jobs['judge-set']}"]
    store.close()


# -- two runs


def test_two_runs_sample_by_sample(judges, tmp_path):
    root = tmp_path / "runs"
    root.mkdir()
    rows = [sample("s0"), sample("s1"), sample("s2", 1), sample("s3", None)]
    judged(root / "one", [*rows, sample("only here")])
    judged(root / "two", [*rows[:3], sample("s3", None, prompt="another question")], name="other")
    runs = Runs([root])
    found = runs.compare("runs/one", "runs/two")
    assert (found.in_both, found.alone_a, found.alone_b, found.labelled) == (4, 1, 0, 3)
    assert (found.both_right, found.only_a, found.only_b, found.neither) == (0, 2, 1, 0)
    assert found.difference.value == pytest.approx(1 / 3)
    assert found.difference.low < 0 < found.difference.high
    assert found.p_value == 1.0
    assert [(one.sample_id, one.verdict_a, one.verdict_b, one.label) for one in found.differing] == [
        ("s0", "A", "B", "A"), ("s1", "A", "B", "A"), ("s2", "A", "B", "B"), ("s3", "A", "B", None),
    ]  # fmt: skip
    assert found.other_content == 1
    assert runs.row("runs/two", found.differing[2].number_b).sample_id == "s2"
    with pytest.raises(ConfigError, match="same run"):
        runs.compare("runs/one", "runs/one")


# -- long runs


def test_fifty_thousand_rows_are_listed_and_paged_quickly(tmp_path):
    folder = tmp_path / "long"
    folder.mkdir()
    record = json.dumps(pairwise("@@", reply="because " * 40), separators=(",", ":"))
    with open(folder / "judgments.jsonl", "w") as judgments, open(folder / "samples.jsonl", "w") as samples:
        for i in range(50_000):
            judgments.write(record.replace("@@", f"s{i}") + "\n")
            samples.write(json.dumps(sample(f"s{i}")) + "\n")
    runs = Runs([folder])
    started = time.process_time()
    (info,) = runs.list()
    assert info.rows == 50_000
    assert time.process_time() - started < 6  # about 2 s here
    started = time.process_time()
    page = runs.rows("long", filters=RowFilters(result="right", sort="most confident"), offset=40_000)
    assert (page.total, len(page.rows)) == (50_000, 50)
    assert [one.rows for one in runs.list()] == [50_000]
    assert time.process_time() - started < 1
    started = time.process_time()
    assert runs.rows("long", filters=RowFilters(text="question s49999")).total == 1
    assert time.process_time() - started < 4


def test_a_list_does_not_wait_for_counting(tmp_path):
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "judgments.jsonl").write_text(json.dumps(pairwise("s")) + "\n")
    runs = Runs([tmp_path])
    assert [one.rows for one in runs.list(patience=0)] == [None] * 3
    assert [one.rows for one in runs.list()] == [1] * 3
    assert [one.rows for one in runs.list(patience=0)] == [1] * 3


def ids(runs: Runs) -> list[str]:
    return [one.id for one in runs.list()]


def pairwise(id: str, *, verdict: str = "A", confidence: float | None = 0.8, reply: str = "A") -> dict:
    """A plain judgment of a pair labelled A, as a run folder holds it."""
    judge = Judge(scripted.ScriptedBackend(lambda _: f"{verdict}]]"), format="pairwise", orders="AB")
    record = judge.compare([Sample.from_dict(sample(id))])[0].to_dict()
    record["calls"][0]["call"]["text"] = reply
    return record | {"verdict": verdict, "confidence": confidence}
