"""Loads a Qwen checkpoint and its processor, safely: weights from safetensors, code from transformers itself.

For `hf.py`. Media settings that go with a checkpoint are read here too. Knows no request and no sample.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from omnirm.errors import BackendError, ConfigError, MissingExtra, UnsafeCheckpoint
from omnirm.preprocessing.types import AudioSettings, ImageSettings, Settings, VideoSettings

#: full checkpoints whose text-generating part is a class of its own
_THINKERS = {
    "qwen2_5_omni": "Qwen2_5OmniThinkerForConditionalGeneration",
    "qwen3_omni_moe": "Qwen3OmniMoeThinkerForConditionalGeneration",
}
#: a checkpoint may carry media settings of its own in this file
SETTINGS_FILE = "omnirm.json"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def torch_dtype(name: str | None, device: str) -> Any:
    """The torch type of that name, or what suits the device. Raises `ConfigError` for an unknown name."""
    import torch

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name is None:
        return torch.float32 if device == "cpu" else torch.bfloat16
    if name not in known:
        raise ConfigError(f"dtype {name!r}: choose one of {', '.join(known)}")
    return known[name]


def load_checkpoint(
    path: str,
    device: str,
    dtype: Any,
    *,
    allow_pickle: bool,
    allow_remote_code: bool,
    revision: str | None,
    quantize: str = "",
) -> tuple[Any, Any]:
    """Model (evaluation mode, on the device) and processor of a folder or hub name.

    `quantize` is `4bit` for weights in NF4 (of bitsandbytes), to train adapters on them.

    Raises:
        UnsafeCheckpoint: pickled weights or remote code, and not allowed.
        BackendError: nothing there, damaged files, a family of models that is not supported, or weights that do not
            fill the model.
    """
    import transformers

    if not allow_pickle:
        refuse_pickle(path)
    common: dict[str, Any] = {"trust_remote_code": allow_remote_code, "revision": revision}
    try:
        config = transformers.AutoConfig.from_pretrained(path, **common)
        cls = getattr(transformers, _THINKERS.get(config.model_type, "AutoModelForMultimodalLM"))
        processor = transformers.AutoProcessor.from_pretrained(path, **common)
        model, info = cls.from_pretrained(
            path,
            dtype=dtype,
            use_safetensors=None if allow_pickle else True,
            output_loading_info=True,
            **_quantized(quantize, device, dtype),
            **common,
        )
    except Exception as error:  # damaged files: JSON, tokenizers and safetensors raise errors with no common parent
        raise load_error(path, error, allow_pickle) from error
    if lost := sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}):
        raise BackendError(
            f"{path}: {len(lost)} weights are not in the checkpoint or have another shape ({lost[0]}): "
            "it is incomplete, or not of the architecture that its config names"
        )
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise BackendError(f"{path}: {type(processor).__name__} is no Qwen-Omni or Qwen-VL processor; those can judge")
    return (model if quantize else model.to(device)).eval(), processor


def _quantized(quantize: str, device: str, dtype: Any) -> dict[str, Any]:
    if not quantize:
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtra("weights in 4 bits need the package 'bitsandbytes': pip install bitsandbytes")
    import transformers

    config = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return {"quantization_config": config, "device_map": {"": device}}


def refuse_pickle(path: str) -> None:
    """Raises `UnsafeCheckpoint` for a folder whose weights are all pickled."""
    folder = Path(path)
    if not folder.is_dir() or list(folder.glob("*.safetensors")):
        return
    if pickled := sorted(p.name for pattern in _PICKLED for p in folder.glob(pattern)):
        raise UnsafeCheckpoint(
            f"{path}: only pickled weights ({pickled[0]}), which can run any code when loaded: convert them to "
            "safetensors, or pass allow_pickle if you trust their source"
        )


def load_error(path: str, error: Exception, allow_pickle: bool) -> BackendError:
    """What to tell the user when a library could not load a checkpoint."""
    text = str(error)
    if "trust_remote_code" in text:
        return UnsafeCheckpoint(f"{path}: needs code of its own to run; pass allow_remote_code if you trust its source")
    if not Path(path).is_dir() and not allow_pickle and "safetensors" in text:
        return UnsafeCheckpoint(
            f"{path}: no safetensors weights; convert them, or pass allow_pickle if you trust their source"
        )
    first = text.strip().splitlines()[0] if text.strip() else "no reason given"
    return BackendError(f"{path}: cannot be loaded: {type(error).__name__}: {first}")


def checkpoint_settings(path: str, processor: Any) -> Settings:
    """Media settings: the checkpoint's `omnirm.json` where there is one, else qwen-omni-utils' budgets at the family's
    factor.

    Raises:
        BackendError: the file is not `{"media": {"image": {...}, "video": {...}, "audio": {...}}}`.
    """
    factor = processor.image_processor.patch_size * processor.image_processor.merge_size
    area = factor * factor
    rate = getattr(getattr(processor, "feature_extractor", None), "sampling_rate", 16000)
    settings = Settings(
        ImageSettings(factor, 4 * area, 16384 * area),
        VideoSettings(factor, min_pixels=128 * area, max_pixels=768 * area, total_pixels=int(128000 * area * 0.9)),
        AudioSettings(rate),
    )
    file = Path(path) / SETTINGS_FILE
    if not file.is_file():
        return settings
    try:
        return merge_settings(settings, json.loads(file.read_text(encoding="utf-8"))["media"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackendError(
            f"{file}: not the documented form ({error}); remove it or write {{'media': {{...}}}}"
        ) from error


def merge_settings(settings: Settings, changes: Mapping[str, Mapping[str, Any]]) -> Settings:
    """Settings with some values changed, e.g. `{"video": {"fps": 1}}`.

    Raises:
        ConfigError: an unknown group or key.
    """
    merged = settings
    for group, values in changes.items():
        if group not in ("image", "video", "audio"):
            raise ConfigError(f"media settings: {group!r} is none of image, video, audio")
        known = {f.name for f in fields(getattr(settings, group))}
        if unknown := set(values) - known:
            raise ConfigError(f"media settings of {group}: unknown {sorted(unknown)}; known are {sorted(known)}")
        merged = replace(merged, **{group: replace(getattr(merged, group), **values)})
    return merged


def checkpoint_revision(path: str, model: Any) -> str:
    """The hub commit, or a hash of the local config and weight files; "" where unknown.

    Of a weight file over 256 MB only the name, the size and the first 4 MB count.
    """
    if commit := getattr(model.config, "_commit_hash", None):
        return str(commit)
    folder = Path(path)
    if not folder.is_dir():
        return ""
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")]):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
                if size > 1 << 28:
                    break
    return digest.hexdigest()[:16]
