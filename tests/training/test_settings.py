"""What a recipe may set, what the trainers make of it, and TOML that is refused with a line that helps."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from omnirm.errors import ConfigError
from omnirm.training.muon import MuonAdamW
from omnirm.training.settings import (
    TrainSettings,
    freeze,
    made,
    make_optimizer,
    newest_checkpoint,
    read_table,
    trainer_arguments,
)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"batch_size": 0}, "batch_size = 0"), ({"accumulation": -1}, "accumulation = -1"),
        ({"save_steps": 0}, "save_steps = 0"), ({"log_steps": 0}, "log_steps = 0"), ({"warmup": 1.5}, "warmup = 1.5"),
        ({"warmup": float("nan")}, "warmup = nan"), ({"optimizer": "sgd"}, "adamw or muon"),
        ({"sampling": "longest"}, "group_by_length"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        TrainSettings(**wrong)


@pytest.mark.parametrize(
    ("rows", "settings", "steps"),
    [
        (100, {}, 6),  # 100 // (2 x 8)
        (100, {"epochs": 3.0}, 18),  # 300 // 16
        (3, {}, 1),  # never none
        (100, {"max_steps": 7, "epochs": 3.0}, 7),
        (33, {"batch_size": 32, "accumulation": 1}, 1),
    ],
)
def test_steps(rows: int, settings: dict[str, Any], steps: int) -> None:
    assert TrainSettings(**settings).steps(rows) == steps


def test_transformers_and_trl_take_the_arguments(tmp_path: Path) -> None:
    from transformers import TrainingArguments
    from trl import SFTConfig

    settings = TrainSettings(
        learning_rate=3e-6, epochs=2.0, accumulation=4, warmup=0.25, workers=0, seed=7, gradient_checkpointing=True,
        report_to="tensorboard,wandb",
    )  # fmt: skip
    given_ = trainer_arguments(settings, tmp_path, 80)
    for cls in (TrainingArguments, SFTConfig):
        made_ = cls(**given_)
        assert (made_.learning_rate, made_.num_train_epochs, made_.seed, made_.data_seed) == (3e-6, 2.0, 7, 7)
        assert made_.warmup_steps == 5  # a quarter of 160 // (2 x 4) = 20 steps
        assert made_.gradient_checkpointing is True
        assert made_.report_to == ["tensorboard", "wandb"]


def test_bf16_is_taken_without_a_gpu_too(tmp_path: Path) -> None:
    from transformers import TrainingArguments

    arguments = TrainingArguments(**trainer_arguments(TrainSettings(bf16=True, use_cpu=True), tmp_path, 8))
    assert (arguments.bf16, arguments.device.type) == (True, "cpu")


def test_a_schedule_with_a_floor_ends_at_it(tmp_path: Path) -> None:
    from transformers import TrainingArguments, get_scheduler

    settings = TrainSettings(schedule="cosine_with_min_lr", min_lr_rate=0.05, learning_rate=1.0, max_steps=10)
    arguments = TrainingArguments(**trainer_arguments(settings, tmp_path, 8))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_scheduler(
        arguments.lr_scheduler_type, optimizer, num_warmup_steps=1, num_training_steps=10,
        scheduler_specific_kwargs=arguments.lr_scheduler_kwargs,
    )  # fmt: skip
    for _ in range(10):
        optimizer.step()
        schedule.step()
    assert schedule.get_last_lr()[0] == pytest.approx(0.05)


class Two(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.visual, self.text = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)


def test_frozen_parts_stay_and_others_move() -> None:
    model = Two()
    freeze(model, ("visual", "audio_tower"))
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {"text.weight", "text.bias"}
    freeze(model, ())
    assert model.text.weight.requires_grad


def test_the_optimizer() -> None:
    assert make_optimizer(Two(), TrainSettings()) is None
    assert isinstance(make_optimizer(Two(), TrainSettings(optimizer="muon")), MuonAdamW)


def test_the_newest_whole_checkpoint_by_number(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "new") is None
    assert newest_checkpoint(tmp_path) is None
    for name in ("checkpoint-9", "checkpoint-20", "checkpoint-x", "final", "checkpoint-30", "checkpoint-40"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"x")
        (tmp_path / name / "trainer_state.json").write_text("{}")
    (tmp_path / "checkpoint-100").write_text("a file")
    (tmp_path / "checkpoint-40" / "trainer_state.json").unlink()  # killed before it was written
    (tmp_path / "checkpoint-30" / "trainer_state.json").write_text('{"step"')  # and in the middle of it
    assert newest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-20")
    (tmp_path / "checkpoint-20" / "model.safetensors").unlink()
    assert newest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-9")


# -- TOML


@dataclass(frozen=True, kw_only=True)
class Plain:
    name: str
    count: int = 1
    rate: float = 0.5
    beta: float | None = None
    on: bool = False
    words: tuple[str, ...] = ()


def table(tmp_path: Path, text: str, *changes: str) -> Any:
    file = tmp_path / "r.toml"
    file.write_text(text, encoding="utf-8")
    return read_table(file, changes)


def test_values_take_their_types(tmp_path: Path) -> None:
    found = table(tmp_path, 'name = "x"\nrate = 2\nbeta = 1\non = true\nwords = ["a", "b"]\n')
    assert made(tmp_path, Plain, found) == Plain(name="x", rate=2.0, beta=1.0, on=True, words=("a", "b"))
    assert made(tmp_path, Plain, {"name": "x"}).beta is None
    assert made(tmp_path, Plain, None, name="extra") == Plain(name="extra")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, r"\['name'\] must be given"), ({"name": "x", "depth": 1}, r"unknown \['depth'\]; known are \['beta', "),
        ({"name": 3}, "name = 3: needs a value of type str"), ({"name": "x", "count": 1.0}, "count = 1.0"),
        ({"name": "x", "count": True}, "count = True"), ({"name": "x", "rate": "fast"}, "rate = 'fast'"),
        ({"name": "x", "rate": True}, "rate = True"), ({"name": "x", "on": 1}, "on = 1"),
        ({"name": "x", "words": "a"}, "words = 'a'"), ({"name": "x", "words": ["a", 1]}, "words = "),
        ("x", "write a table"), (7, "write a table"), ([{"name": "x"}], "write a table"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_with_the_file(value: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"^some/r\.toml.*{said}"):
        made(Path("some/r.toml"), Plain, value, "plain")


def test_a_setting_that_cannot_be_names_file_and_table() -> None:
    with pytest.raises(ConfigError, match=r"^r\.toml: \[sft\]: batch_size = 0"):
        made(Path("r.toml"), TrainSettings, {"batch_size": 0}, "sft")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("count=3", {"count": 3, "a": {"b": 1}}), ("a.b = 2", {"count": 1, "a": {"b": 2}}),
        ("a.c=[1, 2]", {"count": 1, "a": {"b": 1, "c": [1, 2]}}), ("new.deep.x=true", None),
        ("count=runs/x=y.parquet", {"count": "runs/x=y.parquet", "a": {"b": 1}}), ('count="3"', None),
        ("count=", {"count": "", "a": {"b": 1}}),
    ],
)  # fmt: skip
def test_changes_over_the_file(tmp_path: Path, change: str, found: Any) -> None:
    changed = table(tmp_path, "count = 1\n[a]\nb = 1\n", change)
    if found is not None:
        assert changed == found
    elif change.startswith("new"):
        assert changed["new"] == {"deep": {"x": True}}
    else:
        assert changed["count"] == "3"


@pytest.mark.parametrize("change", ["count", "=3", " = 3", "count.x=3", "", "a.b.c=1"])
def test_changes_that_are_none(tmp_path: Path, change: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        table(tmp_path, "count = 1\n[a]\nb = 1\n", change)


@pytest.mark.parametrize("text", [b"a = ", b"a = 1\na = 2", b"\xff\xfe", b"[a", b"a = 1979-13-01"])
def test_what_is_no_toml_is_named(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "r.toml").write_bytes(text)
    with pytest.raises(ConfigError, match=r"r\.toml: not TOML"):
        read_table(tmp_path / "r.toml")


@given(st.text(max_size=30))
def test_any_change_is_taken_or_an_error_of_ours(change: str) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(ConfigError):
        assert isinstance(table(Path(folder), "[a]\nb = 1\n", change), dict)
