"""Builds small checkpoints of the Qwen families from their own config classes: tokenizer, processor and random weights.

For omnirm-nano's training and for tests that run every family end to end. Everything loads back through the Auto
classes; the special tokens and chat template follow each family's own conventions. Knows neither prompts nor tasks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Family = Literal["qwen2_5_omni", "qwen3_omni", "qwen3_vl"]
FAMILIES: tuple[Family, ...] = ("qwen2_5_omni", "qwen3_omni", "qwen3_vl")

#: ordinary (not special) tokens of the judgment formats: one token each
TAGS = (
    "<think>", "</think>",
    "<criteria 1>", "</criteria 1>", "<criteria 2>", "</criteria 2>", "<criteria 3>", "</criteria 3>",
    "<Judge A>", "</Judge A>", "<Judge B>", "</Judge B>",
)  # fmt: skip
_CORE = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_VISION = {
    "qwen2_5_omni": ("<|vision_bos|>", "<|vision_eos|>", "<|vision_pad|>", "<|IMAGE|>", "<|VIDEO|>"),
    "qwen3_omni": ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
    "qwen3_vl": ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
}
_AUDIO = {
    "qwen2_5_omni": ("<|audio_bos|>", "<|audio_eos|>", "<|AUDIO|>"),
    "qwen3_omni": ("<|audio_start|>", "<|audio_end|>", "<|audio_pad|>"),
    "qwen3_vl": (),
}
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class Size:
    """Widths and depths. Heads are 32 wide, which is also the least that vLLM takes on a CPU."""

    hidden: int = 192
    layers: int = 6
    intermediate: int = 512
    vision_hidden: int = 128
    vision_layers: int = 3
    audio_hidden: int = 128
    audio_layers: int = 2
    min_pixels: int = 84 * 84
    max_pixels: int = 84 * 84
    mel_bins: int = 64
    audio_seconds: int = 4
    fps: float = 2.0
    rope_theta: float = 10_000.0
    init_std: float = 0.02


def train_tokenizer(
    family: Family, corpus: Iterable[str], vocab_size: int = 1000, lines: Sequence[str] = (), spare: int = 0
) -> Any:
    """A byte-level BPE with Qwen's word pattern and special tokens; each of `lines` and `TAGS` is one ordinary token.

    `spare` reserves ids for lines that are added later with `rename_spare`.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE(byte_fallback=False))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    core.train_from_iterator(corpus, trainer)
    specials = (*_CORE, *_VISION[family], *_AUDIO[family])
    core.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in specials])
    ordinary = (*TAGS, *lines, *(f"<|spare_{i}|>" for i in range(spare)))
    core.add_tokens([AddedToken(t, special=False, normalized=False) for t in ordinary])
    named = dict(zip(("vision_bos_token", "vision_eos_token", "image_token", "video_token"),
                     (specials[3], specials[4], specials[6], specials[7]), strict=True))  # fmt: skip
    if _AUDIO[family]:
        named |= dict(zip(("audio_bos_token", "audio_eos_token", "audio_token"), _AUDIO[family], strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=named,
        padding_side="left",
        model_max_length=4096,
    )


def name_lines(folder: Path | str, lines: Sequence[str], words: Sequence[str] = ()) -> int:
    """Gives spare tokens of a saved tokenizer to lines and words that it has no token for yet; returns how many.

    Prompts' fixed lines become one token each, so that a small model reads a long instruction in a few steps; words,
    where they stand alone, so that their probability can be read from one position.

    Raises:
        ValueError: more lines than spare tokens.
    """
    file = Path(folder) / "tokenizer.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    held = {t["content"] for t in data["added_tokens"]}
    missing = [line for line in dict.fromkeys((*lines, *words)) if line not in held]
    spare = [t for t in data["added_tokens"] if t["content"].startswith("<|spare_")]
    if len(missing) > len(spare):
        raise ValueError(f"{len(missing)} lines, but {len(spare)} spare tokens are left")
    for token, line in zip(spare, missing, strict=False):
        token["content"] = line
        token["single_word"] = line in words
    file.write_text(json.dumps(data, ensure_ascii=False, indent=2), encoding="utf-8")
    return len(missing)


def chat_template(family: Family) -> str:
    """A chat template in the family's own convention: ChatML with media markers where the parts stand."""
    begin, end, _, image, video = _VISION[family]
    branches = (
        "{%- if part['type'] == 'image' %}"
        + begin
        + image
        + end
        + "{%- elif part['type'] == 'video' %}"
        + begin
        + video
        + end
    )
    if _AUDIO[family]:
        abegin, aend, audio = _AUDIO[family]
        branches += "{%- elif part['type'] == 'audio' %}" + abegin + audio + aend
    branches += "{%- else %}{{ part['text'] }}{%- endif %}"
    return (
        "{%- for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
        "{%- if message['content'] is string %}{{ message['content'] }}{%- else %}"
        "{%- for part in message['content'] %}"
        + branches
        + "{%- endfor %}{%- endif %}{{ '<|im_end|>\\n' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"
    )


def build_processor(family: Family, tokenizer: Any, size: Size = Size()) -> Any:
    """The family's own processor around that tokenizer, with pixel and audio budgets of `size`."""
    import transformers as t

    pixels = {"shortest_edge": size.min_pixels, "longest_edge": size.max_pixels}
    template = chat_template(family)
    if family == "qwen3_vl":
        image = t.Qwen2VLImageProcessor(patch_size=16, size=pixels, image_mean=[0.5] * 3, image_std=[0.5] * 3)
        video = t.Qwen3VLVideoProcessor(patch_size=16, size=pixels, fps=size.fps)
        return t.Qwen3VLProcessor(
            image_processor=image, tokenizer=tokenizer, video_processor=video, chat_template=template
        )
    patch = 14 if family == "qwen2_5_omni" else 16
    image = t.Qwen2VLImageProcessor(patch_size=patch, size=pixels)
    video = t.Qwen2VLVideoProcessor(patch_size=patch, size=pixels)
    audio = t.WhisperFeatureExtractor(
        feature_size=size.mel_bins, chunk_length=size.audio_seconds, return_attention_mask=True
    )
    cls = t.Qwen2_5OmniProcessor if family == "qwen2_5_omni" else t.Qwen3OmniMoeProcessor
    return cls(
        image_processor=image,
        video_processor=video,
        feature_extractor=audio,
        tokenizer=tokenizer,
        chat_template=template,
    )


def build_model(family: Family, tokenizer: Any, size: Size = Size(), seed: int = 0) -> Any:
    """The family's own model class with random weights, float32."""
    import torch
    import transformers as t

    torch.manual_seed(seed)

    def token(name: str) -> int:
        return tokenizer.convert_tokens_to_ids(name)

    begin, end, _, image, video = (token(x) for x in _VISION[family])
    vocab = (len(tokenizer) + 63) // 64 * 64
    heads = size.hidden // 32
    text: dict[str, Any] = {
        "vocab_size": vocab, "hidden_size": size.hidden, "intermediate_size": size.intermediate,
        "num_hidden_layers": size.layers, "num_attention_heads": heads, "num_key_value_heads": heads,
        "max_position_embeddings": 8192, "tie_word_embeddings": True, "initializer_range": size.init_std,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": size.rope_theta, "mrope_section": [4, 6, 6]},
    }  # fmt: skip
    vision: dict[str, Any] = {
        "depth": size.vision_layers, "hidden_size": size.vision_hidden, "intermediate_size": size.vision_hidden * 2,
        "num_heads": size.vision_hidden // 32, "out_hidden_size": size.hidden, "spatial_merge_size": 2,
    }  # fmt: skip
    audio: dict[str, Any] = {
        "num_mel_bins": size.mel_bins, "encoder_layers": size.audio_layers,
        "encoder_attention_heads": size.audio_hidden // 32, "encoder_ffn_dim": size.audio_hidden * 2,
        "d_model": size.audio_hidden, "output_dim": size.hidden,
    }  # fmt: skip
    if family == "qwen2_5_omni":
        vision |= {"patch_size": 14, "window_size": 112, "fullatt_block_indexes": list(range(size.vision_layers))}
        abegin, aend, atoken = (token(x) for x in _AUDIO[family])
        config = t.Qwen2_5OmniThinkerConfig(
            vision_config=vision, audio_config=audio, text_config=text,
            image_token_index=image, video_token_index=video, audio_token_index=atoken,
            audio_start_token_id=abegin, audio_end_token_id=aend, vision_start_token_id=begin, vision_end_token_id=end,
            user_token_id=tokenizer("user")["input_ids"][0], pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=True,
        )  # fmt: skip
        model = t.Qwen2_5OmniThinkerForConditionalGeneration(config)
    elif family == "qwen3_vl":
        text |= {"head_dim": 32}
        vision |= {"patch_size": 16, "num_position_embeddings": 256, "deepstack_visual_indexes": [0]}
        config = t.Qwen3VLConfig(
            vision_config=vision, text_config=text, image_token_id=image, video_token_id=video,
            vision_start_token_id=begin, vision_end_token_id=end, tie_word_embeddings=True,
        )  # fmt: skip
        model = t.Qwen3VLForConditionalGeneration(config)
    else:
        text |= {
            "head_dim": 32,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": size.intermediate // 2,
        }
        text["rope_parameters"] |= {"mrope_interleaved": True}
        vision |= {"patch_size": 16, "num_position_embeddings": 256, "deepstack_visual_indexes": [0]}
        audio |= {"downsample_hidden_size": 32, "n_window": 50}
        abegin, aend, atoken = (token(x) for x in _AUDIO[family])
        config = t.Qwen3OmniMoeThinkerConfig(
            vision_config=vision, audio_config=audio, text_config=text, image_token_id=image, video_token_id=video,
            audio_token_id=atoken, audio_start_token_id=abegin, audio_end_token_id=aend, vision_start_token_id=begin,
            vision_end_token_id=end, user_token_id=tokenizer("user")["input_ids"][0], tie_word_embeddings=True,
        )  # fmt: skip
        model = t.Qwen3OmniMoeThinkerForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def save_checkpoint(model: Any, processor: Any, folder: Path | str) -> Path:
    """Saves weights (safetensors), config, tokenizer and processor so that the Auto classes load them back."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
