"""Reward models of one number: loaded, saved and run, for text and for media. For `scalar_head.py` and for training.

Two layouts, both safetensors only. Text: a sequence-classification checkpoint with one label (Skywork-Reward-V2 and
alike). Media: an ordinary Qwen-VL or Qwen-Omni checkpoint with `value_head.safetensors` beside it, as Skywork-VL-Reward
has it: `v_head.summary.weight` [1, hidden] and `.bias` [1] turn the last token's hidden state into the score.
Imports torch when it is imported. Knows no preference data and opens no media.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from omnirm.backends.hf_load import load_checkpoint, load_error, refuse_pickle
from omnirm.errors import BackendError, ConfigError

VALUE_HEAD = "value_head.safetensors"
_WEIGHT, _BIAS = "v_head.summary.weight", "v_head.summary.bias"


class RewardModel(torch.nn.Module):
    """A generative backbone read at its last token: `s = w h_last + b`, in float32.

    The backbone's language-model head is set aside: it would compute a vocabulary at every position for nothing.

    Args:
        backbone: a Qwen-VL or Qwen-Omni thinker model.
        weight: [1, hidden]; zeros when None, so that a new model begins without an opinion.
        bias: [1]; zero when None.
    """

    def __init__(self, backbone: Any, weight: torch.Tensor | None = None, bias: torch.Tensor | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self._lm_head = [backbone.lm_head]  # in a list: no module of this one
        backbone.lm_head = torch.nn.Identity()
        self.config = backbone.config
        self.config.num_labels = 1
        hidden = int(self.config.get_text_config().hidden_size)
        self.v_head = torch.nn.Linear(hidden, 1, dtype=torch.float32)
        with torch.no_grad():
            self.v_head.weight.copy_(torch.zeros(1, hidden) if weight is None else weight)
            self.v_head.bias.copy_(torch.zeros(1) if bias is None else bias)

    def forward(self, attention_mask: torch.Tensor, **inputs: Any) -> Any:
        """An output whose `logits` are the scores [B, 1]. Rows may be padded on either side."""
        from transformers.modeling_outputs import SequenceClassifierOutput

        hidden = self.backbone(attention_mask=attention_mask, **inputs).logits  # [B, L, hidden]
        places = torch.arange(attention_mask.shape[1], device=attention_mask.device)
        last = (places * attention_mask).argmax(dim=1)
        state = hidden[torch.arange(len(hidden), device=hidden.device), last]
        return SequenceClassifierOutput(logits=self.v_head(state.to(self.v_head.weight.dtype)))

    def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """As of the backbone, for the trainer."""
        self.backbone.gradient_checkpointing_enable(*args, **kwargs)

    def add_model_tags(self, tags: Sequence[str]) -> None:
        """The trainer's wish; a folder of ours carries no tags."""

    def save(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Writes the backbone as a checkpoint of its own family, and the head beside it.

        Args:
            folder: made if absent.
            dtype: of the stored backbone; its own when None.
        """
        from safetensors.torch import save_file

        self.backbone.lm_head = self._lm_head[0]
        try:
            state = self.backbone.state_dict()
            if dtype is not None:
                state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
            if self._lm_head[0].weight is self.backbone.get_input_embeddings().weight:
                state.pop("lm_head.weight", None)
            self.backbone.save_pretrained(folder, state_dict=state)
        finally:
            self.backbone.lm_head = torch.nn.Identity()
        head = {_WEIGHT: self.v_head.weight, _BIAS: self.v_head.bias}
        save_file({k: v.detach().float().cpu().contiguous() for k, v in head.items()}, str(folder / VALUE_HEAD))


class TextProcessor:
    """A tokenizer with the face of a processor, so that `InputEncoder` serves text-only models too."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def apply_chat_template(self, turns: Sequence[dict[str, Any]], **kwargs: Any) -> str:
        """The tokenizer's own template; contents are plain strings, as text-only templates expect them."""
        plain = [{"role": t["role"], "content": "".join(p["text"] for p in t["content"])} for t in turns]
        return self.tokenizer.apply_chat_template(plain, **kwargs)

    def __call__(self, text: list[str]) -> dict[str, Any]:
        """Input ids and attention."""
        return self.tokenizer(text)

    def save_pretrained(self, folder: Path | str) -> None:
        """Saves the tokenizer."""
        self.tokenizer.save_pretrained(folder)


def load_reward_model(
    path: str,
    device: str,
    dtype: Any,
    *,
    allow_pickle: bool = False,
    allow_remote_code: bool = False,
    revision: str | None = None,
    new_head: bool = False,
) -> tuple[Any, Any]:
    """Model (evaluation mode, on the device) and processor of a folder or hub name.

    Args:
        path: a reward model, or with `new_head` any text, Qwen-VL or Qwen-Omni model.
        device: where it runs.
        dtype: a torch type; a media model's head stays in float32.
        allow_pickle: load a text model or a backbone that is not safetensors. Such files can run any code.
        allow_remote_code: run code that comes with the checkpoint.
        revision: hub revision.
        new_head: begin with a new head where the checkpoint has none: for training.

    Raises:
        UnsafeCheckpoint: pickled weights or remote code, and not allowed.
        BackendError: nothing there, damaged files, or no reward model.
    """
    import transformers

    if not allow_pickle:
        refuse_pickle(path)
    common: dict[str, Any] = {"trust_remote_code": allow_remote_code, "revision": revision}
    try:
        config = transformers.AutoConfig.from_pretrained(path, **common)
    except Exception as error:  # damaged or missing files raise errors with no common parent
        raise load_error(path, error, allow_pickle) from error
    if not hasattr(config, "vision_config") and not hasattr(config, "thinker_config"):
        return _load_text(path, config, device, dtype, allow_pickle, common, new_head)
    backbone, processor = load_checkpoint(
        path, device, dtype, allow_pickle=allow_pickle, allow_remote_code=allow_remote_code, revision=revision
    )
    head = _read_head(path, revision, int(backbone.config.get_text_config().hidden_size))
    if not head and not new_head:
        raise BackendError(f"{path}: has no {VALUE_HEAD}, so it gives no scores; `omnirm train` trains a head")
    return RewardModel(backbone, head.get(_WEIGHT), head.get(_BIAS)).to(device).eval(), processor


def save_reward_model(model: Any, processor: Any, folder: Path | str, dtype: torch.dtype | None = None) -> Path:
    """Saves a reward model so that `load_reward_model` reads it; `dtype` of the stored weights, theirs when None."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model, RewardModel):
        model.save(folder, dtype)
    elif dtype is None:
        model.save_pretrained(folder)
    else:
        model.save_pretrained(folder, state_dict={k: v.to(dtype) for k, v in model.state_dict().items()})
    processor.save_pretrained(folder)
    return folder


def keep_layers(model: RewardModel, count: int) -> None:
    """Cuts the text model down to its first `count` layers: a small reward model from a larger base.

    Raises:
        ConfigError: the model has fewer.
    """
    decoder = model.backbone.get_decoder()
    text = getattr(decoder, "language_model", decoder)
    if not 1 <= count <= len(text.layers):
        raise ConfigError(f"layers = {count}, but the model has {len(text.layers)}: keep 1 to {len(text.layers)}")
    text.layers = text.layers[:count]
    config = model.config.get_text_config()
    config.num_hidden_layers = count
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:count]


def _load_text(
    path: str, config: Any, device: str, dtype: Any, allow_pickle: bool, common: dict[str, Any], new_head: bool
) -> tuple[Any, TextProcessor]:
    import transformers

    if new_head and "ForSequenceClassification" not in (config.architectures or [""])[0]:
        config.num_labels = 1
    if config.num_labels != 1:
        raise BackendError(
            f"{path}: has {config.num_labels} outputs, not one: it is no reward model; `omnirm train` makes one"
        )
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, **common)
        model, info = transformers.AutoModelForSequenceClassification.from_pretrained(
            path,
            config=config,
            dtype=dtype,
            use_safetensors=None if allow_pickle else True,
            output_loading_info=True,
            **common,
        )
    except Exception as error:  # as in load_checkpoint: libraries' errors have no common parent
        raise load_error(path, error, allow_pickle) from error
    missing = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    if lost := sorted(key for key in missing if not (new_head and key.startswith("score."))):
        raise BackendError(f"{path}: {len(lost)} weights are not in the checkpoint or have another shape ({lost[0]})")
    if not tokenizer.chat_template:
        raise BackendError(f"{path}: its tokenizer has no chat template, so a conversation cannot be written for it")
    if model.config.pad_token_id is not None:  # by which the model finds the last token
        tokenizer.pad_token_id = model.config.pad_token_id
    elif new_head:
        model.config.pad_token_id = tokenizer.pad_token_id
    return model.to(device).eval(), TextProcessor(tokenizer)


def _read_head(path: str, revision: str | None, hidden: int) -> dict[str, torch.Tensor]:
    """The head's tensors; empty where the checkpoint has no head.

    Raises:
        BackendError: a damaged file, or a head of another shape.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers.utils import cached_file

    file = cached_file(
        path,
        VALUE_HEAD,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if file is None:
        return {}
    try:
        head = load_file(file)
    except (OSError, SafetensorError) as error:
        raise BackendError(f"{path}/{VALUE_HEAD}: cannot be read: {error}") from error
    found = {name: list(head[name].shape) for name in (_WEIGHT, _BIAS) if name in head}
    if found.get(_WEIGHT) != [1, hidden] or found.get(_BIAS, [1]) != [1]:
        raise BackendError(
            f"{path}/{VALUE_HEAD}: has {found}, but needs {_WEIGHT} [1, {hidden}] and, if any, {_BIAS} [1]"
        )
    return head


__all__ = ["VALUE_HEAD", "RewardModel", "TextProcessor", "keep_layers", "load_reward_model", "save_reward_model"]
