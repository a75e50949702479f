"""Loading: nothing that a checkpoint brings is run, and whatever is wrong with it is said with its path."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omnirm.backends.hf import HFBackend
from omnirm.backends.hf_load import checkpoint_settings, merge_settings
from omnirm.backends.load import load_backend
from omnirm.errors import BackendError, ConfigError, UnsafeCheckpoint
from omnirm.preprocessing.types import Settings, VideoSettings


@pytest.fixture
def folder(checkpoint: Callable[[Any], Path], tmp_path: Path) -> Path:
    """A copy of a checkpoint, to be spoilt."""
    return Path(shutil.copytree(checkpoint("qwen3_vl"), tmp_path / "checkpoint"))


def change(file: Path, **values: Any) -> None:
    data = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(data | values), encoding="utf-8")


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_pickled_weights_are_refused_and_not_opened(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "run"
    for name in ("pytorch_model.bin", "model.pt", "weights.pth", "weights.pkl"):
        for weights in folder.glob("*.safetensors"):
            weights.unlink()
        (folder / name).write_bytes(pickle.dumps({"model.embed_tokens.weight": Payload(mark)}))
        with pytest.raises(UnsafeCheckpoint, match=f"only pickled weights \\({name}\\).*pass allow_pickle") as caught:
            HFBackend(str(folder), device="cpu")
        assert str(folder) in str(caught.value)
        assert not mark.exists()
        (folder / name).unlink()
    pickle.loads(pickle.dumps(Payload(mark)))
    assert mark.exists()  # it would have run


def test_pickled_weights_beside_safetensors_are_ignored(folder: Path, tmp_path: Path) -> None:
    for name in ("pytorch_model.bin", "spk_dict.pt", "adapter_model.bin", "training_args.bin", "optimizer.pt"):
        (folder / name).write_bytes(pickle.dumps(Payload(tmp_path / "run")))
    HFBackend(str(folder), device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_pickled_adapter_is_not_run(folder: Path, tmp_path: Path) -> None:
    (folder / "adapter_model.bin").write_bytes(pickle.dumps({"lora": Payload(tmp_path / "run")}))
    adapter = {"peft_type": "LORA", "base_model_name_or_path": str(folder), "r": 2, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    with pytest.raises(BackendError, match="adapter"):
        HFBackend(str(folder), device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("where", ["config", "processor", "tokenizer", "generate"])
def test_code_of_a_checkpoint_is_not_run(folder: Path, tmp_path: Path, where: str) -> None:
    mark = tmp_path / "run"
    code = f"import pathlib\npathlib.Path({str(mark)!r}).mkdir()\nclass Theirs: ...\ndef generate(*a, **k): ...\n"
    (folder / "theirs.py").write_text(code)
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(code)
    refused = True
    if where == "config":
        auto = {"AutoConfig": "theirs.Theirs", "AutoModelForMultimodalLM": "theirs.Theirs"}
        change(folder / "config.json", model_type="theirs", auto_map=auto)
    elif where == "processor":
        change(folder / "processor_config.json", processor_class="Theirs", auto_map={"AutoProcessor": "theirs.Theirs"})
    elif where == "tokenizer":
        auto = {"AutoTokenizer": ["theirs.Theirs", "theirs.Theirs"]}
        change(folder / "tokenizer_config.json", tokenizer_class="Theirs", auto_map=auto)
        refused = False  # transformers reads tokenizer.json without it
    else:
        refused = False
    if refused:
        with pytest.raises(UnsafeCheckpoint, match="needs code of its own to run; pass allow_remote_code") as caught:
            HFBackend(str(folder), device="cpu")
        assert str(folder) in str(caught.value)
    else:
        HFBackend(str(folder), device="cpu")
    assert not mark.exists()


def test_code_for_a_known_architecture_is_left_aside(folder: Path, tmp_path: Path) -> None:
    (folder / "theirs.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'run')!r}).mkdir()\n")
    auto = {"AutoConfig": "theirs.Theirs", "AutoModelForMultimodalLM": "theirs.Theirs"}
    change(folder / "config.json", auto_map=auto)
    HFBackend(str(folder), device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_chat_template_is_sandboxed(folder: Path, tmp_path: Path) -> None:
    """Escapes out of a template end in an error completion; nothing is run."""
    from omnirm.types import Message, Part, Request

    for attack in (
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.mkdir('" + str(tmp_path / "run") + "') }}",
        "{{ messages.append(1) }}",
    ):
        (folder / "chat_template.jinja").write_text(attack)
        backend = HFBackend(str(folder), device="cpu")
        [completion] = backend.generate([Request((Message("user", (Part("text", "Hi"),)),), max_new_tokens=1)])
        assert "refuses the conversation: SecurityError" in completion.error, attack
    assert not (tmp_path / "run").exists()


def test_a_chat_template_that_leaves_something_out_is_refused(folder: Path) -> None:
    from omnirm.types import Message, Part, Request

    (folder / "chat_template.jinja").write_text("{{ messages[-1]['content'][0]['text'] }}")
    backend = HFBackend(str(folder), device="cpu")
    turns = (Message("system", (Part("text", "Be fair"),)), Message("user", (Part("text", "Hi"),)))
    lost, whole = backend.generate([Request(turns, max_new_tokens=1), Request(turns[1:], max_new_tokens=1)])
    assert "leaves out" in lost.error
    assert whole.error == ""


def _cut(file: Path, keep: int) -> None:
    file.write_bytes(file.read_bytes()[:keep])


SPOILT: dict[str, Callable[[Path], None]] = {
    "weights cut in the header": lambda f: _cut(f / "model.safetensors", 100),
    "weights cut in the data": lambda f: _cut(f / "model.safetensors", 50_000),
    "weights empty": lambda f: _cut(f / "model.safetensors", 0),
    "weights garbage": lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 1000) and None,
    "weights absent": lambda f: (f / "model.safetensors").unlink(),
    "config cut": lambda f: _cut(f / "config.json", 40),
    "config empty": lambda f: _cut(f / "config.json", 0),
    "config absent": lambda f: (f / "config.json").unlink(),
    "config a list": lambda f: (f / "config.json").write_text("[]") and None,
    "config of an unknown model": lambda f: change(f / "config.json", model_type="no_such_model"),
    "tokenizer cut": lambda f: _cut(f / "tokenizer.json", 400),
    "tokenizer garbage": lambda f: (f / "tokenizer.json").write_text("{}") and None,
    "tokenizer absent": lambda f: (f / "tokenizer.json").unlink(),
    "processor cut": lambda f: _cut(f / "processor_config.json", 30),
    "everything absent": lambda f: [p.unlink() for p in f.iterdir()] and None,
    "settings cut": lambda f: _cut(f / "omnirm.json", 20),
    "settings a list": lambda f: (f / "omnirm.json").write_text("[]") and None,
    "settings unknown": lambda f: (f / "omnirm.json").write_text('{"media": {"image": {"dpi": 3}}}') and None,
    "settings of no medium": lambda f: (f / "omnirm.json").write_text('{"media": {"smell": {}}}') and None,
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_damaged_checkpoint_is_an_error_that_names_it(folder: Path, how: str) -> None:
    SPOILT[how](folder)
    with pytest.raises(BackendError) as caught:
        HFBackend(str(folder), device="cpu")
    assert str(folder) in str(caught.value)
    assert not isinstance(caught.value, UnsafeCheckpoint)
    assert len(str(caught.value).splitlines()) == 1


def test_missing_weights_are_not_made_up(folder: Path) -> None:
    """transformers fills what is missing with random numbers and a warning; a judge must not."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if "layers.1.mlp" in name)
    save_file({k: v for k, v in weights.items() if k != lost}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BackendError, match="1 weights are not in the checkpoint or have another shape"):
        HFBackend(str(folder), device="cpu")
    save_file(
        {k: v[:-1] if k == lost else v for k, v in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(BackendError, match=str(folder)):
        HFBackend(str(folder), device="cpu")


def test_a_model_of_text_alone_is_no_judge_of_media(tmp_path: Path, checkpoint: Any) -> None:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(vocab_size=1024, hidden_size=64, intermediate_size=64, num_hidden_layers=1, head_dim=32,
                         num_attention_heads=2, num_key_value_heads=2)  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(tmp_path / "text")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(checkpoint("qwen3_vl") / name, tmp_path / "text")
    with pytest.raises(BackendError, match=str(tmp_path / "text")):
        HFBackend(str(tmp_path / "text"), device="cpu")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no_such_folder"):
        HFBackend(str(tmp_path / "no_such_folder"), device="cpu")
    with pytest.raises(BackendError, match="nobody/no-such-model"):
        load_backend("nobody/no-such-model", device="cpu")


def test_options_that_do_not_exist(folder: Path) -> None:
    with pytest.raises(ConfigError, match="dtype 'int3'"):
        HFBackend(str(folder), device="cpu", dtype="int3")
    with pytest.raises(ConfigError, match="batch_size 0"):
        HFBackend(str(folder), device="cpu", batch_size=0)


def test_another_dtype(folder: Path) -> None:
    import torch

    from omnirm.types import Message, Part, Request

    backend = HFBackend(str(folder), device="cpu", dtype="bfloat16")
    assert next(backend.model.parameters()).dtype == torch.bfloat16
    import numpy as np

    image = Part("image", np.zeros((64, 64, 3), np.uint8))
    video = Part("video", np.zeros((4, 64, 64, 3), np.uint8), {"sample_fps": 2.0})
    request = Request((Message("user", (image, video, Part("text", "Hi"))),), max_new_tokens=2, track=("A",))
    assert backend.generate([request])[0].finish_reason in ("stop", "length")
    assert backend.decoding(request)["dtype"] == "bfloat16"


def test_a_checkpoints_own_sampling_settings_change_nothing(folder: Path) -> None:
    from omnirm.types import Message, Part, Request

    request = Request((Message("user", (Part("text", "Hi"),)),), max_new_tokens=6, track=("A", "B"))
    before = HFBackend(str(folder), device="cpu").generate([request])
    wild = {"do_sample": True, "temperature": 3.0, "top_k": 2, "repetition_penalty": 5.0, "no_repeat_ngram_size": 1,
            "suppress_tokens": [65], "max_length": 3, "min_new_tokens": 50}  # fmt: skip
    change(folder / "generation_config.json", **wild)
    assert HFBackend(str(folder), device="cpu").generate([request]) == before


def test_the_revision_changes_with_the_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    before = HFBackend(str(folder), device="cpu").revision
    assert HFBackend(str(folder), device="cpu").revision == before
    weights = load_file(folder / "model.safetensors")
    name = next(iter(weights))
    save_file(weights | {name: weights[name] + 1}, folder / "model.safetensors", {"format": "pt"})
    assert HFBackend(str(folder), device="cpu").revision != before


def test_media_settings_come_with_the_checkpoint(folder: Path) -> None:
    backend = HFBackend(str(folder), device="cpu")
    assert backend.settings.image.max_pixels == 16 * 32 * 32
    assert backend.settings.video.max_frames == 6
    given = Settings(video=VideoSettings(factor=32, max_frames=2))
    assert HFBackend(str(folder), device="cpu", settings=given).settings == given
    (folder / "omnirm.json").unlink()
    family = checkpoint_settings(str(folder), backend.processor)
    assert (family.image.factor, family.image.min_pixels, family.image.max_pixels) == (32, 4 * 1024, 16384 * 1024)
    assert (family.video.min_pixels, family.video.max_pixels) == (128 * 1024, 768 * 1024)
    assert family.video.total_pixels == int(128000 * 1024 * 0.9)


def test_settings_are_changed_by_name() -> None:
    changed = merge_settings(Settings(), {"video": {"fps": 1.0}, "image": {"max_pixels": 100_000}})
    assert (changed.video.fps, changed.image.max_pixels, changed.audio) == (1.0, 100_000, Settings().audio)
    with pytest.raises(ConfigError, match="unknown \\['dpi'\\]"):
        merge_settings(Settings(), {"image": {"dpi": 300}})
    with pytest.raises(ConfigError, match="'smell' is none of"):
        merge_settings(Settings(), {"smell": {}})
