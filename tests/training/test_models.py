"""Models to train: adapters where they belong, and a saved model that answers as the trained one did."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import Files

from omnirm.backends.hf import HFBackend
from omnirm.backends.hf_inputs import Conversation
from omnirm.backends.load import nano_folder
from omnirm.errors import BackendError, ConfigError
from omnirm.nano.build import save_checkpoint
from omnirm.preprocessing import Image
from omnirm.training.models import LoraSettings, Trainable, load_trainable, preparer
from omnirm.types import Message, Part, Request

LORA = LoraSettings(rank=4, alpha=8)


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of nano, with media budgets of its own."""
    folder = tmp_path_factory.mktemp("nano") / "copy"
    shutil.copytree(nano_folder(), folder)
    return folder


@pytest.fixture(scope="module")
def tiny_folder(tiny_of: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of a family's random model."""
    folders: dict[str, Path] = {}

    def of(family: str) -> Path:
        if family not in folders:
            tiny = tiny_of(family)
            folders[family] = save_checkpoint(tiny.model(), tiny.processor, tmp_path_factory.mktemp(family) / "model")
        return folders[family]

    return of


def logits(model: Any, encoder: Any) -> Any:
    batch = encoder([Conversation((Message("user", (Part("text", "list fig, plum"),)),))])
    with torch.no_grad():
        return model.eval()(**batch, use_cache=False).logits


def perturbed(model: Any) -> Any:
    """Adapters as after training: B is no longer zero, so they say something."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn_like(weight) * 0.2)
    return model


def test_nano_loads_in_training_mode_with_its_media_budgets(nano: Path) -> None:
    one = load_trainable(str(nano), device="cpu")
    assert one.model.training
    assert all(p.requires_grad and p.dtype == torch.float32 for p in one.model.parameters())
    assert one.source == str(nano)
    assert one.settings == HFBackend(str(nano), device="cpu").settings
    assert load_trainable("nano", device="cpu").source == str(nano_folder())


def test_dtype(nano: Path) -> None:
    assert next(load_trainable(str(nano), device="cpu", dtype="bfloat16").model.parameters()).dtype == torch.bfloat16
    with pytest.raises(ConfigError, match="dtype 'int8'"):
        load_trainable(str(nano), device="cpu", dtype="int8")


def test_adapters_never_in_the_towers_and_nothing_else_is_trained(tiny: Any, tiny_folder: Any) -> None:
    one = load_trainable(str(tiny_folder(tiny.family)), device="cpu", lora=LORA)
    trained = {name for name, weight in one.model.named_parameters() if weight.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    assert not [name for name in trained if "visual" in name or "audio_tower" in name]
    assert {re.search(r"(\w+)\.lora_A", name)[1] for name in trained if "lora_A" in name} >= {"q_proj", "o_proj"}  # type: ignore[index]
    layers = {re.search(r"layers\.(\d+)\.", name)[1] for name in trained}  # type: ignore[index]
    assert layers == {str(i) for i in range(tiny.size.layers)}
    assert one.model.training


def test_named_targets_and_names_of_nothing(nano: Path) -> None:
    one = load_trainable(str(nano), device="cpu", lora=LoraSettings(rank=2, targets=("q_proj",)))
    trained = [name for name, weight in one.model.named_parameters() if weight.requires_grad]
    assert all(".q_proj.lora_" in name for name in trained)
    with pytest.raises(ConfigError, match=r"no layer of the model is named query; set lora\.targets"):
        load_trainable(str(nano), device="cpu", lora=LoraSettings(rank=2, targets=("query",)))


@pytest.mark.parametrize("lora", [LoraSettings(), LORA])
def test_a_saved_model_answers_as_the_trained_one(tiny: Any, tiny_folder: Any, tmp_path: Path, lora: Any) -> None:
    one = load_trainable(str(tiny_folder(tiny.family)), device="cpu", lora=lora)
    before = logits(one.model, one.encoder)
    perturbed(one.model)
    if not lora.rank:
        with torch.no_grad():
            one.model.get_input_embeddings().weight.mul_(-3.0)
    trained = logits(one.model, one.encoder)
    assert not torch.allclose(trained, before, atol=1e-4)
    folder = one.save(tmp_path / "new" / "final")
    assert folder == tmp_path / "new" / "final"
    assert not list(folder.glob("adapter*"))
    assert not list(folder.glob("*.bin"))
    backend = HFBackend(str(folder), device="cpu")
    assert torch.allclose(logits(backend.model, backend.encoder), trained, atol=1e-4)
    (answer,) = backend.generate([Request((Message("user", (Part("text", "hello"),)),), max_new_tokens=2)])
    assert answer.error == ""


def test_media_budgets_go_with_the_model(nano: Path, tmp_path: Path) -> None:
    (nano / "omnirm.json").write_text(json.dumps({"media": {"image": {"max_pixels": 7056, "min_pixels": 784}}}))
    one = load_trainable(str(nano), device="cpu")
    one.save(tmp_path / "final")
    assert (tmp_path / "final" / "omnirm.json").read_bytes() == (nano / "omnirm.json").read_bytes()
    back = load_trainable(str(tmp_path / "final"), device="cpu")
    assert back.settings == one.settings
    assert back.settings.image.max_pixels == 7056


def test_the_dtype_of_what_is_saved(nano: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    load_trainable(str(nano), device="cpu").save(tmp_path / "half", "float16")
    with safe_open(tmp_path / "half" / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118


def test_several_processes_leave_saving_to_the_trainer(tiny_of: Any, tmp_path: Path) -> None:
    tiny = tiny_of("qwen3_vl")
    one, saved = Trainable(tiny.model(), tiny.processor, tiny.settings, ""), []

    def trainer(main: bool) -> Any:
        return SimpleNamespace(
            accelerator=SimpleNamespace(num_processes=2, is_main_process=main), save_model=saved.append
        )

    for rank in (0, 1):
        one.save(tmp_path / str(rank), trainer=trainer(rank == 0))
    assert saved == [str(tmp_path / "0"), str(tmp_path / "1")]  # gathering needs every process
    assert list((tmp_path / "0").glob("tokenizer*"))
    assert not list((tmp_path / "1").iterdir())


def test_quantisation_needs_adapters_and_its_package(nano: Path) -> None:
    with pytest.raises(ConfigError, match="quantize '8bit': write 4bit"):
        LoraSettings(rank=4, quantize="8bit")
    with pytest.raises(ConfigError, match="give the adapters a rank"):
        LoraSettings(quantize="4bit")
    with pytest.raises((ConfigError, BackendError), match="bitsandbytes"):
        load_trainable(str(nano), device="cpu", lora=LoraSettings(rank=4, quantize="4bit"))


@pytest.mark.parametrize("wrong", [{"rank": -1}, {"rank": 4, "alpha": 0}, {"rank": 4, "dropout": 1.0},
                                   {"rank": 4, "dropout": -0.1}, {"rank": 4, "targets": ()}])  # fmt: skip
def test_adapters_that_cannot_be(wrong: Any) -> None:
    with pytest.raises(ConfigError):
        LoraSettings(**wrong)


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=re.escape(str(tmp_path))):
        load_trainable(str(tmp_path), device="cpu")


def test_media_are_decoded_as_the_judge_does(nano: Path, files: Files) -> None:
    one = load_trainable(str(nano), device="cpu")
    found = one.prepare(Part("image", str(files.images[0])))
    assert isinstance(found, Image)
    assert (found.pixels == copy.copy(preparer(one.settings))(Part("image", str(files.images[0]))).pixels).all()
