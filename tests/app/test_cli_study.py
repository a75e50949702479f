"""`omnirm study rubrics` as a user meets it: figures, files, resuming, and a clear line for every mistake."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from scripted_rubrics import model, revise, says, step, writes
from typer.testing import CliRunner

from omnirm.app import scaling
from omnirm.app.cli import app
from omnirm.backends import scripted
from omnirm.runs import read_rows
from omnirm.scorers import scripted as scorers

HOSTILE = "evil\x1b[31m <script>alert(1)</script>"


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def asked(monkeypatch):
    """The steps asked of `scripted:test`: of its three rubrics Truth and Sense are right where `first` is labelled. The
    reward model `scripted:begins` likes what begins with `first`, so consistency puts Noise last."""
    good = model(
        planning=writes("Noise", "Truth", "Sense"),
        judge=says({"Noise": "B", "Truth": "A", "Sense": "A"}), refinement=revise,
    )  # fmt: skip
    found: list[str] = []

    def answer(request):
        found.append(step(request))
        return good._script(request)

    monkeypatch.setitem(scripted.NAMED, "test", lambda: scripted.ScriptedBackend(answer, name="scripted:test"))
    monkeypatch.setitem(scorers.NAMED, "begins", lambda item: float(item.response[0].value.startswith("first")))
    return found


def samples(folder: Path, *rows: dict | str, name: str = "set.jsonl") -> str:
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def row(id: str, label: int | str | None = 0, **more) -> dict:
    return {"id": id, "prompt": "q", "candidates": ["first", "second"], "label": label, **more}


PAIRS = [row("s0"), row("s1"), row("s2"), row("s3", 1)]
MODELS = ["--model", "scripted:test", "--disrm", "scripted:begins", "--rubrics", "3"]


def test_figures_on_the_screen_and_in_files(asked, tmp_path):
    files = {kind: tmp_path / f"study.{kind}" for kind in ("json", "csv", "html")}
    flags = [part for kind, path in files.items() for part in (f"--{kind}", str(path))]
    done = run("study", "rubrics", samples(tmp_path, *PAIRS), *MODELS, "--run", str(tmp_path / "run"), *flags)
    assert done.exit_code == 0, done.output
    lines = {line.split("  ")[0].strip(): line for line in done.stdout.splitlines()}
    assert "75.0 [" in lines["consistency"]  # Truth first: right for three of four
    assert "25.0 [" in lines["planner's order"]  # Noise first
    assert "pairs: 4" in done.stdout
    assert "accuracy of a rubric drawn at random: 58.3 [" in done.stdout  # (3 * 2/3 + 1/3) / 4
    assert "verdicts that could be read: 100.0 %" in done.stdout
    assert "calls of a pair: 13.0" in done.stdout  # a plan, 3 x 2 orders, 3 x 2 refinements
    assert "scored of a pair: 8.0" in done.stdout
    data = json.loads(files["json"].read_text())
    assert (data["about"]["samples"], data["about"]["rubrics asked for"]) == ("set.jsonl", 3)
    assert data["study"]["rankings"][0]["by_rank"][0]["value"] == 0.75
    table = list(csv.DictReader(files["csv"].open()))
    assert {one["ranking"] for one in table} == {"any", "consistency", "relative", "direct", "planner's order"}
    assert "Plotly.newPlot" in files["html"].read_text()
    assert len(list(read_rows(tmp_path / "run", "judgments"))) == 4


def test_the_same_again_asks_nothing_and_gives_the_same_files(asked, tmp_path):
    file, kept = samples(tmp_path, *PAIRS), tmp_path / "study.json"
    flags = ["study", "rubrics", file, *MODELS, "--run", str(tmp_path / "run"), "--json", str(kept)]
    first = run(*flags)
    written, needed = kept.read_bytes(), len(asked)
    assert needed == 4 * 13
    again = run(*flags)
    assert (again.stdout, kept.read_bytes(), len(asked)) == (first.stdout, written, needed)
    assert run(*flags, "--rubrics", "4").exit_code == 2  # another run


def test_pairs_that_are_left_out_are_named_and_told_by_the_exit_code(asked, tmp_path):
    file = samples(
        tmp_path, *PAIRS, row(HOSTILE, None), row("three", None, candidates=["first", "second", "third"]), "{"
    )
    page = tmp_path / "study.html"
    done = run("study", "rubrics", file, *MODELS, "--run", str(tmp_path / "run"), "--html", str(page))
    assert done.exit_code == 3
    assert "left out: 3 pairs" in done.stdout
    assert "no label A or B" in done.stdout
    assert "\x1b" not in done.stdout
    assert "<script>alert(1)" not in page.read_text()


def test_nothing_to_study(asked, tmp_path):
    picture = row("p", candidates=[{"type": "image", "image": "a.png"}, {"type": "image", "image": f"{HOSTILE}.png"}])
    done = run("study", "rubrics", samples(tmp_path, picture), *MODELS, "--run", str(tmp_path / "run"))
    assert done.exit_code == 4
    assert "nothing to study" in done.stderr
    assert "refines no image responses" in done.stderr
    assert asked == []
    empty = samples(tmp_path, name="empty.jsonl")
    done = run("study", "rubrics", empty, *MODELS, "--run", str(tmp_path / "run2"))
    assert (done.exit_code, "no samples" in done.stderr) == (2, True)


def test_progress_goes_to_stderr(asked, tmp_path):
    file = samples(tmp_path, *PAIRS)
    done = run("study", "rubrics", file, *MODELS, "--run", str(tmp_path / "run"), "--at-once", "2")
    assert "2 pairs" in done.stderr
    assert "4 pairs" in done.stderr


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--html", "nowhere/study.html"], "nowhere/study.html"),
        (["--json", "."], "name a file"),
        (["--planner", "contrastive"], "made from the label"),
        (["--rubrics", "1"], "--rubrics"),
        (["--seed", "-1"], "--seed"),
        (["--meta-reward", "best"], "--meta-reward"),
    ],
)
def test_a_clear_line_before_anything_is_loaded(monkeypatch, tmp_path, flags, said):
    def never(*_):
        raise AssertionError("loaded")

    monkeypatch.setattr(scaling, "load_model", never)
    done = run("study", "rubrics", samples(tmp_path, *PAIRS), "--run", str(tmp_path / "run"), *MODELS, *flags)
    assert done.exit_code == 2
    assert said in done.stderr
    assert not (tmp_path / "run").exists()


def test_the_files_must_be_there(tmp_path):
    done = run("study", "rubrics", str(tmp_path / "none.jsonl"), "--run", str(tmp_path / "run"), *MODELS)
    assert (done.exit_code, "no such file" in done.stderr) == (2, True)
