"""The mean of judges: numbers by hand, each weight once, a folder that judges, and mistakes named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from omnirm.backends.hf import HFBackend
from omnirm.errors import BackendError, ConfigError
from omnirm.judge import Judge
from omnirm.nano.build import save_checkpoint
from omnirm.sample import Sample
from omnirm.training.average import average, main


@pytest.fixture(scope="module")
def judges(tiny_of: Any, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three judges of one shape: a, a + 1 and a + 4, parameter by parameter."""
    tiny, root = tiny_of("qwen2_5_omni"), tmp_path_factory.mktemp("judges")
    made = []
    for number, more in enumerate((0.0, 1.0, 4.0)):
        model = tiny.model()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.full_like(parameter, 0.25) + more)
        made.append(str(save_checkpoint(model, tiny.processor, root / str(number))))
    return made


def weights(folder: Path | str) -> dict[str, Any]:
    return load_file(Path(folder) / "model.safetensors")


def test_every_weight_is_the_weighted_mean(judges: list[str], tmp_path: Path) -> None:
    found = weights(average([(judges[0], 1.0), (judges[1], 2.0), (judges[2], 1.0)], tmp_path / "mean"))
    assert found.keys() == weights(judges[0]).keys()
    assert all(torch.allclose(one, torch.full_like(one, 0.25 + (0 + 2 + 4) / 4)) for one in found.values())


def test_one_with_itself_is_itself(judges: list[str], tmp_path: Path) -> None:
    found, own = weights(average([(judges[2], 0.3), (judges[2], 5)], tmp_path / "mean")), weights(judges[2])
    assert all(torch.allclose(found[name], own[name]) for name in own)


def test_it_judges_and_is_saved_as_asked(judges: list[str], tmp_path: Path) -> None:
    out = tmp_path / "mean"
    main([str(out), judges[0], f"{judges[1]}=3", "--dtype", "float16"])
    assert {one.dtype for one in weights(out).values()} == {torch.float16}
    sample = Sample.from_dict({"id": "x", "prompt": "p", "candidates": ["a", "b"]})
    judgment = Judge(HFBackend(str(out), device="cpu", dtype="float32"), format="pairwise").compare(sample)
    assert len(judgment.calls) == 2


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([("0", 1.0)], "two judges or more"),
        ([("0", 1.0), ("1", 0.0)], "weight 0.0"),
        ([("0", 1.0), ("1", float("nan"))], "weight nan"),
    ],
)
def test_wrong_use_is_said_before_anything_is_loaded(given: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=says):
        average(given, tmp_path / "out")


def test_what_is_there_stays_and_other_shapes_have_no_mean(judges: list[str], tiny_of: Any, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    with pytest.raises(ConfigError, match="not empty"):
        average([(judges[0], 1), (judges[1], 1)], tmp_path / "full")
    other = tiny_of("qwen3_vl")
    folder = save_checkpoint(other.model(), other.processor, tmp_path / "other")
    with pytest.raises(ConfigError, match="has other weights"):
        average([(judges[0], 1), (str(folder), 1)], tmp_path / "out")
    with pytest.raises(BackendError):
        average([(judges[0], 1), (str(tmp_path / "nowhere"), 1)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["folder=", "folder=two"])
def test_a_weight_that_is_no_number_is_named(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["out", text, "b"])
    assert "FOLDER=WEIGHT" in capsys.readouterr().err
