"""`omnirm train` killed with SIGKILL goes on from its last checkpoint: loss curve and weights are those of a run that
nothing disturbed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from omnirm.nano.build import Size, build_model, build_processor, save_checkpoint, train_tokenizer
from omnirm.nano.instructions import vocabulary
from omnirm.training.dry_run import sample_rows
from omnirm.training.rows import DPORow, GRPORow, SFTRow, write_rows

STEPS = 40
SIZE = Size(hidden=64, layers=2, intermediate=64, vision_hidden=32, vision_layers=1, audio_hidden=32, audio_layers=1)
KINDS: dict[str, Any] = {"sft": SFTRow, "dpo": DPORow, "grpo": GRPORow}
SETTINGS = {
    "sft": "batch_size = 2",
    "dpo": "batch_size = 2",
    "grpo": 'batch_size = 4\ngenerations = 2\nminibatches = 1\nmax_new_tokens = 8\nreward = "rule"\nunread = "wrong"',
}
CODE = "from omnirm.app.cli import main; main()"


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    tokenizer = train_tokenizer("qwen3_vl", vocabulary(200), 600, ("Yes", "No"))
    return save_checkpoint(
        build_model("qwen3_vl", tokenizer, SIZE), build_processor("qwen3_vl", tokenizer, SIZE), folder
    )


def recipe(folder: Path, start: Path, method: str) -> list[str]:
    """The command that trains, over rows of text, images and video."""
    rows = [row for i in range(3) for row in sample_rows(method, "qwen3_vl", folder / f"media-{i}")]
    write_rows(folder / "rows.parquet", rows, KINDS[method])
    file = folder / "recipe.toml"
    file.write_text(
        f'method = "{method}"\nname = "run"\ninit = "{start}"\ndata = "{folder / "rows.parquet"}"\n'
        f'device = "cpu"\ndtype = "float32"\n[{method}]\nlearning_rate = 1e-3\naccumulation = 1\nepochs = 100.0\n'
        f"max_steps = {STEPS}\nsave_steps = 4\nlog_steps = 1\nworkers = 0\n{SETTINGS[method]}\n",
        encoding="utf-8",
    )
    return [sys.executable, "-c", CODE, "train", str(file), "--threads", "1"]


def curve(folder: Path) -> list[tuple[int, float]]:
    state = json.loads((folder / f"run/checkpoint-{STEPS}/trainer_state.json").read_text(encoding="utf-8"))
    return [(one["step"], one["loss"]) for one in state["log_history"] if "loss" in one]


@pytest.mark.slow
@pytest.mark.parametrize("method", list(KINDS))
def test_a_killed_training_goes_on_with_the_same_curve(start: Path, tmp_path: Path, method: str) -> None:
    command = recipe(tmp_path, start, method)
    quiet = dict(os.environ, HF_HUB_OFFLINE="1")
    subprocess.run([*command, "--output", str(tmp_path / "whole")], check=True, env=quiet, capture_output=True)
    killed = tmp_path / "killed"
    kills = 0
    for least in (4, 20):  # steps that must have been saved before the kill
        process = subprocess.Popen(
            [*command, "--output", str(killed)], env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None:
            saved = [int(x.name.rpartition("-")[2]) for x in killed.glob("run/checkpoint-*") if not x.suffix]
            if max(saved, default=0) >= least:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.05)
        process.wait()
    assert kills == 2, "the training was over before it could be killed: give it more steps"
    subprocess.run([*command, "--output", str(killed)], check=True, env=quiet, capture_output=True)
    expected, found = curve(tmp_path / "whole"), curve(killed)
    assert [step for step, _ in found] == list(range(1, STEPS + 1))
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in expected], rel=1e-4, abs=1e-6)
    one, other = (load_file(folder / "run/final/model.safetensors") for folder in (tmp_path / "whole", killed))
    assert one.keys() == other.keys()
    for name, weight in one.items():
        torch.testing.assert_close(weight, other[name], rtol=1e-3, atol=1e-5, msg=name)
