"""Models to be trained: loading them whole or with adapters, and saving what came out. For all recipes of judges."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnirm.backends.hf_inputs import InputEncoder
from omnirm.errors import ConfigError
from omnirm.preprocessing.types import Media, Settings
from omnirm.types import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSettings:
    """Adapters in place of all weights; rank 0 trains the weights themselves.

    targets: names of the layers that get adapters. quantize: `4bit` (QLoRA) or "".
    """

    rank: int = 0
    alpha: int = 32
    dropout: float = 0.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    quantize: str = ""

    def __post_init__(self) -> None:
        if self.rank < 0 or self.alpha <= 0:
            raise ConfigError(
                f"rank = {self.rank}, alpha = {self.alpha}: give a rank of 0 or more and an alpha above 0"
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout = {self.dropout}: give a share from 0 to less than 1")
        if self.rank and not self.targets:
            raise ConfigError("targets: name the layers that get adapters, or leave it out")
        if self.quantize not in ("", "4bit"):
            raise ConfigError(f"quantize {self.quantize!r}: write 4bit, or leave it out")
        if self.quantize and not self.rank:
            raise ConfigError("quantize: quantised weights cannot be trained themselves; give the adapters a rank")


@dataclass(frozen=True)
class Trainable:
    """A model in training.

    model: with adapters where there are some. processor: the family's. settings: media budgets.
    source: folder or hub name that it came from.
    """

    model: Any
    processor: Any
    settings: Settings
    source: str

    @property
    def encoder(self) -> InputEncoder:
        """Encodes conversations for it."""
        return InputEncoder(self.processor)

    def prepare(self, part: Part) -> Media:
        """Decodes one medium as the judge does."""
        return preparer(self.settings)(part)

    def save(self, folder: Path, dtype: str = "", trainer: Any = None) -> Path:
        """Writes weights (adapters merged), processor and media budgets, in safetensors, for `Judge` and vLLM.

        Where several processes train, the weights are gathered by the trainer; adapters are then saved as they are
        and `omnirm export` merges them.

        Args:
            folder: made where it is not there.
            dtype: of the saved weights; "" keeps theirs. Not for several processes.
            trainer: what trained it; all processes must call.
        """
        from omnirm.backends.hf_load import SETTINGS_FILE, torch_dtype

        folder.mkdir(parents=True, exist_ok=True)
        if trainer is not None and trainer.accelerator.num_processes > 1:
            trainer.save_model(str(folder))
            if not trainer.accelerator.is_main_process:
                return folder
        else:
            model = self.model
            if hasattr(model, "merge_and_unload"):
                model = model.merge_and_unload()
            if dtype:
                model = model.to(torch_dtype(dtype, "cpu"))
            model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        if (own := Path(self.source) / SETTINGS_FILE).is_file():  # media budgets go with the model
            shutil.copy(own, folder)
        return folder


def load_trainable(
    source: str, *, device: str = "", dtype: str = "", lora: LoraSettings = LoraSettings(), revision: str | None = None
) -> Trainable:
    """Loads a judge to train it, in training mode.

    Args:
        source: folder or hub name of a Qwen2.5-Omni, Qwen3-Omni or Qwen3-VL model, or `nano`.
        device: the best there is when "".
        dtype: of the weights; float32 on a CPU and bfloat16 elsewhere when "".
        lora: adapters.
        revision: hub revision.

    Raises:
        BackendError: it cannot be loaded.
        ConfigError: an unknown dtype, or quantisation without its package.
    """
    import torch

    from omnirm.backends.hf_load import checkpoint_settings, load_checkpoint, torch_dtype
    from omnirm.backends.load import checkpoint_path

    path = checkpoint_path(source)
    place = device or (f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu")
    model, processor = load_checkpoint(
        path,
        place,
        torch_dtype(dtype or None, place),
        allow_pickle=False,
        allow_remote_code=False,
        revision=revision,
        quantize=lora.quantize,
    )
    model.train()
    if lora.rank:
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=_targets(model, lora.targets),
            task_type="CAUSAL_LM",
        )
        model = get_peft_model(model, config)
    return Trainable(model, processor, checkpoint_settings(path, processor), path)


def preparer(settings: Settings) -> Callable[[Part], Any]:
    """What decodes one medium of a row, drawings of the nano world included."""
    from omnirm.nano.writer import Drawing
    from omnirm.preprocessing import Policy
    from omnirm.preprocessing import prepare as decode

    def prepare(part: Part) -> Any:
        value = part.value.render()[0] if isinstance(part.value, Drawing) else part.value
        return decode(value, part.type, settings, Policy(), part.options)  # type: ignore[arg-type]

    return prepare


def _targets(model: Any, names: tuple[str, ...]) -> list[str]:
    """Whole names of the text model's layers: the towers of images and sound have layers of the same names."""
    import torch

    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and name.rpartition(".")[2] in names
        and not any(tower in name for tower in ("visual", "audio_tower"))
    ]
    if not found:
        raise ConfigError(f"no layer of the model is named {', '.join(names)}; set lora.targets")
    return found


__all__ = ["LoraSettings", "Trainable", "load_trainable", "preparer"]
