"""The configurations for `accelerate launch` are what accelerate's own loader and launcher take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import omnirm.training

FOLDER = Path(omnirm.training.__path__[0]) / "recipes" / "accelerate"


def load(name: str) -> Any:
    from accelerate.commands.config.config_args import load_config_from_file

    return load_config_from_file(str(FOLDER / f"{name}.yaml"))


def launched(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What `accelerate launch` tells the processes that it starts."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env, prepare_simple_launcher_cmd_env

    monkeypatch.setattr("accelerate.commands.launch.is_deepspeed_available", lambda: True, raising=False)
    file = str(FOLDER / f"{name}.yaml")
    args = launch_command_parser().parse_args(["--config_file", file, "-m", "omnirm.app.cli", "train", "x"])
    args, defaults, _ = _validate_launch_command(args)
    assert defaults is not None
    if name == "one-gpu":
        command, env = prepare_simple_launcher_cmd_env(args)
        assert command[-4:] == ["-m", "omnirm.app.cli", "train", "x"]
        return env
    return prepare_multi_gpu_env(args)


@pytest.mark.parametrize(("name", "processes", "kind"), [("one-gpu", 1, "NO"), ("fsdp2", 8, "FSDP"),
                                                         ("zero3", 8, "DEEPSPEED")])  # fmt: skip
def test_accelerate_reads_it(name: str, processes: int, kind: str) -> None:
    found = load(name)
    assert (found.num_processes, found.distributed_type.value, found.mixed_precision) == (processes, kind, "bf16")


def test_all_are_tested() -> None:
    assert {file.stem for file in FOLDER.glob("*.yaml")} == {"one-gpu", "fsdp2", "zero3"}


def test_one_gpu_is_started_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched("one-gpu", monkeypatch)["ACCELERATE_MIXED_PRECISION"] == "bf16"


def test_fsdp2_shares_everything_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.utils import FullyShardedDataParallelPlugin

    for key, value in launched("fsdp2", monkeypatch).items():
        if key.startswith(("FSDP_", "ACCELERATE_")):
            monkeypatch.setenv(key, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.cpu_ram_efficient_loading is True
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"
    assert plugin.auto_wrap_policy.__name__ == "transformer_auto_wrap_policy"
    assert not plugin.activation_checkpointing


def test_every_family_names_the_layers_to_gather_one_by_one(tiny: Any) -> None:
    model = tiny.model()
    classes = {type(module).__name__ for module in model.modules()}
    assert set(model._no_split_modules) & classes


def test_zero3_saves_one_model() -> None:
    found = load("zero3").deepspeed_config
    assert (found["zero_stage"], found["zero3_save_16bit_model"], found["zero3_init_flag"]) == (3, True, True)
