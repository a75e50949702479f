"""A model to hand on: adapters merged, weights that load, and a card that no text of others can break."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from omnirm.app.cli import app
from omnirm.backends.hf import HFBackend
from omnirm.errors import BackendError, ConfigError
from omnirm.nano.build import save_checkpoint
from omnirm.training.dry_run import sample_rows
from omnirm.training.export import card, export
from omnirm.training.models import LoraSettings
from omnirm.training.recipe import Recipe
from omnirm.training.rows import SFTRow, write_rows
from omnirm.training.sft import SFTSettings


@pytest.fixture(scope="module")
def run(tiny_of: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with adapters: checkpoint-2 holds them, `final` is merged. The data has a card."""
    tiny, folder = tiny_of("qwen2_5_omni"), tmp_path_factory.mktemp("run")
    save_checkpoint(tiny.model(), tiny.processor, folder / "start")
    rows = [row for row in sample_rows("sft", "qwen2_5_omni", folder / "media") if row.thinking] * 2
    write_rows(folder / "rows.parquet", rows, SFTRow)
    (folder / "rows.md").write_text("# the data\n")
    settings = SFTSettings(
        learning_rate=0.05, batch_size=1, accumulation=1, max_steps=2, save_steps=2, log_steps=1, workers=0, warmup=0.0
    )
    recipe = Recipe(
        "sft", "mine", str(folder / "start"), str(folder / "rows.parquet"), ("org/set",), device="cpu",
        settings=settings, lora=LoraSettings(rank=4),
    )  # fmt: skip
    recipe.train(folder)
    return folder / "mine"


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_adapters_of_a_run_are_merged_into_what_the_run_itself_made(run: Path, tmp_path: Path) -> None:
    assert (run / "checkpoint-2" / "adapter_config.json").is_file()
    results = tmp_path / "results.json"
    results.write_text(json.dumps([{"set": "test", "accuracy": 0.81234, "n": 100}, {"set": "hard", "accuracy": None}]))
    folder = export(run / "checkpoint-2", tmp_path / "out", results=[results])
    before, found, final = weights(run.parent / "start"), weights(folder), weights(run / "final")
    assert set(found) == set(final)
    assert all(torch.allclose(found[name], final[name], atol=1e-6) for name in found)
    assert any(not torch.equal(found[name], before[name]) for name in found)
    assert not list(folder.glob("adapter*"))
    backend = HFBackend(str(folder), device="cpu")
    assert next(backend.model.parameters()).dtype == torch.float32
    text = (folder / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: transformers\npipeline_tag: any-to-any\n")
    for line in ("# mine", "- method: sft, from `", "made of: org/set", "- adapters of rank 4, merged",
                 "- loss ", " at step 1, ", " at step 2", "learning_rate = 0.05",
                 "| set | accuracy | n |", "| test | 0.8123 | 100 |", "| hard |  |  |", "`results.json`:"):  # fmt: skip
        assert line in text, line
    assert "transformers 5." in text
    assert (folder / "data-rows.md").read_text() == "# the data\n"
    assert json.loads((folder / "recipe.json").read_text())["name"] == "mine"


def test_a_final_model_in_another_dtype(run: Path, tmp_path: Path) -> None:
    folder = export(run / "final", tmp_path / "out", dtype="bfloat16", title="My judge")
    found = weights(folder)
    assert {one.dtype for one in found.values()} == {torch.bfloat16}
    text = (folder / "README.md").read_text()
    assert "# My judge" in text
    assert "Nothing was measured" in text
    assert " at step 2" in text  # of the run's last checkpoint
    again = export(folder, tmp_path / "again")  # what was exported can be exported
    assert "# mine" in (again / "README.md").read_text()


def test_adapters_alone_say_what_they_belong_to(run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(run / "checkpoint-2", alone / "adapters")
    folder = export(alone / "adapters", tmp_path / "out")
    assert "How it was trained is not recorded" in (folder / "README.md").read_text()
    config = json.loads((alone / "adapters" / "adapter_config.json").read_text())
    (alone / "adapters" / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": None}))
    with pytest.raises(ConfigError, match="give --base"):
        export(alone / "adapters", tmp_path / "none")
    other = export(alone / "adapters", tmp_path / "other", base=str(run.parent / "start"))
    assert all(torch.equal(a, b) for a, b in zip(weights(folder).values(), weights(other).values(), strict=True))


def test_what_cannot_be_exported(run: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept.txt").write_text("mine")
    with pytest.raises(ConfigError, match="full: is not empty"):
        export(run / "final", tmp_path / "full")
    assert [one.name for one in (tmp_path / "full").iterdir()] == ["kept.txt"]
    with pytest.raises(ConfigError, match="neither a model"):
        export(tmp_path, tmp_path / "out")
    with pytest.raises(BackendError, match="gone"):
        export(run / "checkpoint-2", tmp_path / "out", base=str(tmp_path / "gone"))
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ConfigError, match=r"bad\.json: cannot be read as JSON"):
        export(run / "final", tmp_path / "out", results=[tmp_path / "bad.json"])
    bare = tmp_path / "bare"
    shutil.copytree(run / "final", bare / "x", ignore=shutil.ignore_patterns("*processor*"))
    with pytest.raises(ConfigError, match="has no processor"):
        export(bare / "x", tmp_path / "out")
    shutil.copytree(run / "final", tmp_path / "odd" / "final")
    (tmp_path / "odd" / "recipe.json").write_text("[1]")
    with pytest.raises(ConfigError, match="no record of a recipe"):
        export(tmp_path / "odd" / "final", tmp_path / "out")
    assert not (tmp_path / "out").exists()


HOSTILE = "x | y\n\n# heading\n---\n<script>alert(1)</script> [l](javascript:a) `c` \u202e"


def test_text_of_others_breaks_neither_table_nor_heading_nor_front_matter() -> None:
    recipe = {
        "method": HOSTILE, "init": f"org/{HOSTILE}", "data": HOSTILE, "sources": [HOSTILE], "lora": {"rank": 2},
        "packages": {"torch": HOSTILE}, "settings": {HOSTILE: HOSTILE},
    }  # fmt: skip
    results = [(HOSTILE, [{HOSTILE: HOSTILE, "n": 1}]), ("plain", {HOSTILE: HOSTILE})]
    lines = card(HOSTILE, "Qwen3VLForConditionalGeneration", recipe, [], results).split("\n")
    front = lines[1 : lines.index("---", 1)]
    assert [line.partition(":")[0] for line in front] == ["library_name", "pipeline_tag", "tags", "base_model"]
    assert lines.count("---") == 2
    assert [line for line in lines if line.startswith("#")][1:] == ["## How it was trained", "## Measured"]
    assert sum(line.startswith("# ") for line in lines) == 1
    outside = [line for line in lines if not line.startswith("    ")]
    assert not any("<script>" in line.replace("\\<", "") and "`" not in line for line in outside)
    table = [line for line in lines if line.startswith("| ")]
    assert len(table) == 2
    assert all(line.replace("\\|", "").count("|") == 3 for line in table)
    assert not any("\u202e" in line for line in lines)


@pytest.mark.parametrize(
    ("model", "tag"),
    [("Qwen2_5OmniThinkerForConditionalGeneration", "any-to-any"), ("Qwen3OmniMoeThinker", "any-to-any"),
     ("Qwen3VLForConditionalGeneration", "image-text-to-text"), ("Other", "text-generation")],
)  # fmt: skip
def test_what_kind_of_model_it_is(model: str, tag: str) -> None:
    assert f"pipeline_tag: {tag}" in card("t", model, {})


def test_the_command(run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(run / "checkpoint-2"), "-o", str(tmp_path / "out")])
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'out'}\n"), done.stderr
    again = CliRunner().invoke(app, ["export", str(run / "final"), "-o", str(tmp_path / "out")])
    assert (again.exit_code, again.stdout) == (2, "")
    assert "is not empty" in again.stderr
    gone = CliRunner().invoke(
        app, ["export", str(run / "checkpoint-2"), "-o", str(tmp_path / "new"), "--base", str(tmp_path / "gone")]
    )
    assert gone.exit_code == 4
    assert len(gone.stderr.splitlines()) == 1
