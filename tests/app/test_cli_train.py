"""`omnirm train` as a user meets it: the list, a rehearsal, and a clear line and exit code for every mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from omnirm.app.cli import app
from omnirm.app.cli.train import recipes

HEAD = 'method = "sft"\nname = "x"\ninit = "nano"\ndata = "none.parquet"\n'


def run(*arguments: str):
    return CliRunner().invoke(app, ["train", *arguments])


def test_the_list():
    done = run("--list")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert len(lines) == len(recipes()) > 10
    assert any(line.startswith("grm-omni-7b-sft ") and "SFT" in line for line in lines)
    assert all(first for _, first in recipes())


@pytest.mark.parametrize("name", ["grm-omni-7b-sft", "grm-omni-7b-sft.toml"])
def test_a_rehearsal(name, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    done = run(name, "--dry-run", "--set", "sft.bf16=false", "--set", "sft.gradient_checkpointing=false")
    assert done.exit_code == 0, done.stderr
    (folder,) = done.stdout.splitlines()  # what the trainers print is not among results
    assert Path(folder).is_relative_to(tmp_path)
    assert (Path(folder) / "model.safetensors").is_file()
    assert "grm-omni-7b-sft: two steps on a random qwen2_5_omni and 8 made-up rows" in done.stderr
    assert "for the rehearsal max_steps = 2 (recipe: -1)" in done.stderr
    assert "saved, loaded back and asked" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name a recipe; `omnirm train --list`"),
        (["no-such-recipe"], "no-such-recipe: no such file"),
        (["grm-omni-7b-sft", "--set", "sft.colour=1"], "unknown ['colour']"),
        (["grm-omni-7b-sft", "--set", "colour"], "write key=value"),
        (["grm-omni-7b-sft", "--set", "lora.rank=deep"], "rank = 'deep'"),
        (["grm-omni-7b-sft", "--set", "data=nowhere.parquet"], "nowhere.parquet"),
        (["patarm-8b", "--set", "data=nowhere.jsonl"], "nowhere.jsonl"),
        (["nano-disrm", "--dry-run"], "--dry-run is for recipes of judges"),
        (["grm-omni-7b-sft", "--dry-run", "--set", "init=some/other-model"], "of no known family"),
    ],
)
def test_a_clear_line_for_what_is_wrong(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("text", ["method = ", HEAD + "x = 1\n", HEAD.replace("sft", "ppo"), HEAD + "[dpo]\n"])
def test_a_recipe_of_ones_own_that_is_wrong_is_named(tmp_path, text):
    (tmp_path / "mine.toml").write_text(text)
    done = run(str(tmp_path / "mine.toml"))
    assert done.exit_code == 2
    assert "mine.toml" in done.stderr


def test_a_file_that_hides_a_packaged_recipe_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("grm-omni-7b-sft").write_text(HEAD + "mine = 1\n")
    assert "unknown ['mine']" in run("grm-omni-7b-sft").stderr


def test_a_model_that_is_not_there(tmp_path):
    from omnirm.training.rows import SFTRow, Shown, write_rows

    write_rows(tmp_path / "r.parquet", [SFTRow("s", "judgment", False, Shown(()), "A]]")], SFTRow)
    flags = ["--set", f"init={tmp_path / 'gone'}", "--set", f"data={tmp_path / 'r.parquet'}", "--output", str(tmp_path)]
    done = run("grm-omni-7b-sft", *flags)
    assert done.exit_code == 4, done.output
    assert "gone" in done.stderr


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "omnirm.training.recipe", raising=False)
    monkeypatch.setitem(sys.modules, "omnirm.training.dpo", None)

    class Missing:
        def find_spec(self, name, path=None, target=None):
            if name == "omnirm.training.recipe":
                raise ModuleNotFoundError("No module named 'trl'", name="trl")

    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    done = run("grm-omni-7b-sft")
    assert done.exit_code == 4
    assert "pip install 'omnirm[train]'" in done.stderr


def test_as_a_module_for_launchers():
    done = subprocess.run([sys.executable, "-m", "omnirm.app.cli", "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in ("judge", "synth", "train", "export"))


@pytest.mark.parametrize("command", ["train", "export"])
def test_no_heavy_library_for_the_help(command):
    from test_imports import HEAVY, HELP, imported_by

    assert imported_by(HELP.format(arguments=[command, "--help"])) & set(HEAVY) == set()


def test_other_processes_say_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(sys.modules["omnirm.app.cli.train"], "_run", lambda *_: tmp_path)
    assert run("x").stdout == f"{tmp_path}\n"
    monkeypatch.setenv("RANK", "1")
    assert run("x").stdout == ""
