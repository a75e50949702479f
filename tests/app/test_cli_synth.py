"""`omnirm synth` as a user meets it: what is printed and written, and a clear line for every mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripted_rubrics import model, revise, says, step
from synthesis_pairs import VERDICTS, plan, score
from typer.testing import CliRunner

from omnirm.app import scaling
from omnirm.app.cli import app
from omnirm.backends import scripted
from omnirm.scorers import scripted as scorers
from omnirm.training.rows import DPORow, SFTRow, read_rows

TABLE = {**VERDICTS, "Correctness + Brevity + Tone": "B"}
MODELS = ["--model", "scripted:test", "--disrm", "scripted:table"]


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def asked(monkeypatch):
    """The steps asked of the model `scripted:test`, whose meta-rewards `synthesis_pairs` works out."""
    good, found = model(planning=plan, judge=says(TABLE), refinement=revise), []

    def answer(request):
        found.append(step(request))
        return good._script(request)

    monkeypatch.setitem(scripted.NAMED, "test", lambda: scripted.ScriptedBackend(answer, name="scripted:test"))
    monkeypatch.setitem(scorers.NAMED, "table", score)
    return found


def samples(folder: Path, *rows: dict | str) -> str:
    path = folder / "pairs.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def row(id: str, label: int | None = 0) -> dict:
    return {"id": id, "prompt": f"question {id}", "candidates": ["first", "second"], "label": label}


def test_dual_rm(asked, tmp_path):
    file, out = samples(tmp_path, row("a"), row("b")), tmp_path / "run"
    flags = ["synth", file, "--run", str(out), *MODELS, "--method", "dual-rm", "--rubrics", "4"]
    done = run(*flags, "--orders", "1", "--eps", "1")
    assert done.exit_code == 0, done.output
    assert f"{out / 'sft.parquet'}: 8 rows (judgment 2, picking 2, planning 2, selection 2)" in done.stdout
    assert f"{out / 'dpo.parquet'}: 12 rows (picking 4, selection 8)" in done.stdout
    assert "eps: selection 1, judgment 1" in done.stdout
    card = (out / "sft.md").read_text()
    assert "| judge | scripted:test @ unknown revision |" in card
    assert "| method | dual-rm |" in card
    calls = len(asked)
    assert calls == 2 * (1 + 4 + 8)
    again = run(*flags, "--orders", "1", "--eps", "1.5", "--thinking-on", "none")
    assert again.exit_code == 0
    assert len(asked) == calls  # other rows, no other call
    assert {one.completion for one in read_rows(out / "sft.parquet", SFTRow)} <= {"A]]", "B]]"}
    assert run(*flags, "--orders", "2").exit_code == 2  # another run


def test_grm_omni(asked, tmp_path):
    file, out = samples(tmp_path, row("a")), tmp_path / "run"
    done = run("synth", file, "--run", str(out), *MODELS, "--method", "grm-omni")
    assert done.exit_code == 0, done.output
    assert asked.count("planning") == 2
    assert asked.count("judge") == 1 + 4  # the model knows no more than four
    (one,) = read_rows(out / "dpo.parquet", DPORow)
    assert one.chosen.count("<criteria") == one.rejected.count("<criteria") == 6 / 2
    assert "| first | 3 |" in (out / "dpo.md").read_text()


def test_what_is_left_out_is_told(asked, tmp_path):
    file = samples(tmp_path, row("a"), row("evil\x1b[31m", None), "{")
    done = run("synth", file, "--run", str(tmp_path / "run"), *MODELS, "--method", "dual-rm", "--rubrics", "4")
    assert done.exit_code == 3
    assert "left out of sft: no label A or B: 1" in done.stdout
    assert "pairs:3" in done.stderr
    assert "| lines that are no sample | 1 |" in (tmp_path / "run" / "sft.md").read_text()
    nothing = run(
        "synth", samples(tmp_path, row("n", None)), "--run", str(tmp_path / "n"), *MODELS, "--method", "dual-rm"
    )
    assert nothing.exit_code == 4


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--eps", "1", "--eps-quantile", "0.5"], "give one of them"),
        (["--method", "grm-omni", "--orders", "2"], "one order"),
        (["--check-against", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--method", "best"], "--method"),
        (["--thinking-on", "media"], "--thinking-on"),
        (["--rubrics", "1"], "--rubrics"),
    ],
)
def test_a_clear_line_before_anything_is_loaded(monkeypatch, tmp_path, flags, said):
    def never(*_):
        raise AssertionError("loaded")

    monkeypatch.setattr(scaling, "load_model", never)
    done = run("synth", samples(tmp_path, row("a")), "--run", str(tmp_path / "run"), "--method", "dual-rm", *flags)
    assert done.exit_code == 2
    assert said in done.stderr
    assert not (tmp_path / "run").exists()


def test_no_heavy_library_for_the_help():
    from test_imports import HEAVY, HELP, imported_by

    assert imported_by(HELP.format(arguments=["synth", "--help"])) & set(HEAVY) == set()
