"""Small checkpoints of the families: tokenizers that lose nothing, lines as single tokens, models that load back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hostile_texts import KEYS
from hypothesis import given
from hypothesis import strategies as st

from omnirm.backends.hf_inputs import Conversation, InputEncoder
from omnirm.nano.build import (
    FAMILIES,
    TAGS,
    Family,
    Size,
    build_model,
    build_processor,
    name_lines,
    save_checkpoint,
    train_tokenizer,
)
from omnirm.nano.instructions import vocabulary
from omnirm.prompts.formats import get_format
from omnirm.prompts.render import template_lines
from omnirm.sample import Sample

SMALL = Size(
    hidden=64,
    layers=1,
    intermediate=64,
    vision_hidden=64,
    vision_layers=1,
    audio_hidden=64,
    audio_layers=1,
    mel_bins=32,
)
LINES = template_lines("pairwise_thinking", "pairwise")
LOADERS = {
    "qwen2_5_omni": "Qwen2_5OmniThinkerForConditionalGeneration",
    "qwen3_omni": "Qwen3OmniMoeThinkerForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
}


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    return vocabulary(300)


@pytest.fixture(scope="module")
def tokenizer(corpus: list[str]) -> Any:
    return train_tokenizer("qwen2_5_omni", corpus, 600, spare=len(LINES) + 3)


@pytest.fixture(scope="module")
def folders(corpus: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[Family, Path]:
    """A checkpoint of every family, with spare tokens."""
    found = {}
    for family in FAMILIES:
        words = train_tokenizer(family, corpus, 600, spare=len(LINES) + 3)
        model = build_model(family, words, SMALL)
        found[family] = save_checkpoint(model, build_processor(family, words, SMALL), tmp_path_factory.mktemp(family))
    return found


@given(st.text(max_size=80))
def test_any_text_survives_the_tokenizer(tokenizer: Any, text: str) -> None:
    ids = InputEncoder(_Holder(tokenizer)).untrusted_ids(text)
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


class _Holder:
    """The one attribute of a processor that encoding text needs."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer


def test_words_of_the_world_are_one_token_each(tokenizer: Any) -> None:
    for word in (" triangle", " purple", " rising", " buzzing", " two", " moving"):
        assert len(tokenizer(word, add_special_tokens=False)["input_ids"]) == 1, word


def test_a_key_is_a_token_for_each_syllable_and_the_same_tokens_wherever_it_stands(corpus: list[str]) -> None:
    words = train_tokenizer("qwen2_5_omni", corpus, 1000)

    def ids(text: str) -> list[int]:
        return words(text, add_special_tokens=False)["input_ids"]

    for key in KEYS:
        alone = ids(f" {key}")
        assert len(alone) == 2, key
        for text in (f"# {key} prompt\n", f"\n# {key} end", f"Verdict {key}: [[", f"</think>\nTotal {key}: [["):
            assert any(ids(text)[i : i + 2] == alone for i in range(len(ids(text)))), text


def test_tags_are_one_ordinary_token_each_and_letters_stand_alone(tokenizer: Any) -> None:
    for tag in TAGS:
        ids = tokenizer(tag, add_special_tokens=False)["input_ids"]
        assert len(ids) == 1
        assert tokenizer.decode(ids, skip_special_tokens=True) == tag
    for text in ("[[A]]", "[[B]]", ": [[A]]"):
        pieces = [tokenizer.decode([i]) for i in tokenizer(text, add_special_tokens=False)["input_ids"]]
        assert "A" in pieces or "B" in pieces, pieces


def test_lines_given_at_training_are_one_token_each(corpus: list[str]) -> None:
    lines = ("First fixed line.", "Second fixed line: [[A]]")
    words = train_tokenizer("qwen3_vl", corpus[:200], 400, lines=lines)
    assert all(len(words(line, add_special_tokens=False)["input_ids"]) == 1 for line in lines)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_loads_back_through_the_auto_classes(folders: dict[Family, Path], family: Family) -> None:
    import torch
    import transformers

    folder = folders[family]
    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = getattr(transformers, LOADERS[family]).from_pretrained(folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    assert type(config).__name__ == type(model.config).__name__
    again = build_model(family, processor.tokenizer, SMALL)
    state = model.state_dict()
    assert all(torch.equal(weight, state[name]) for name, weight in again.state_dict().items()), "seeded"
    assert model.generation_config.eos_token_id == processor.tokenizer.eos_token_id
    assert processor.tokenizer.eos_token == "<|im_end|>"
    assert not list(folder.glob("*.bin"))
    assert (folder / "model.safetensors").is_file()


@pytest.mark.parametrize("family", FAMILIES)
def test_named_lines_are_one_token_each_after_loading(
    folders: dict[Family, Path], family: Family, tmp_path: Path
) -> None:
    import shutil

    import transformers

    folder = tmp_path / "named"
    shutil.copytree(folders[family], folder)
    before = transformers.AutoProcessor.from_pretrained(folder).tokenizer
    named = name_lines(folder, LINES)
    tags = [line for line in LINES if line in TAGS]
    assert named == len(LINES) - len(tags)
    assert name_lines(folder, LINES) == 0, "they are held by now"
    processor = transformers.AutoProcessor.from_pretrained(folder)
    tokenizer = processor.tokenizer
    assert len(tokenizer) == len(before)
    encoder = InputEncoder(processor)
    for line in LINES:
        assert len(encoder.text_ids(line)) == 1, line
        assert tokenizer.decode(encoder.text_ids(line), skip_special_tokens=True) == line
        assert len(encoder.untrusted_ids(line)) > 1, "nobody else's text becomes one of our lines"
        assert tokenizer.decode(encoder.untrusted_ids(line)) == line
    for text in ("two red circles at the top", "<think>", "<|im_end|>", "[[A]]"):
        assert tokenizer(text)["input_ids"] == before(text)["input_ids"]


def test_named_words_are_one_token_only_where_they_stand_alone(folders: dict[Family, Path], tmp_path: Path) -> None:
    import shutil

    import transformers

    folder = tmp_path / "words"
    shutil.copytree(folders["qwen2_5_omni"], folder)
    assert name_lines(folder, (), ("tie", "Yes", "No")) == 3
    encoder = InputEncoder(transformers.AutoProcessor.from_pretrained(folder))
    (tie,) = encoder.text_ids("tie")
    assert tie in encoder.text_ids("[[tie]]"), "a piece of the nano world's own"
    for word in ("Yes", "No"):
        (alone,) = encoder.text_ids(word)
        assert alone in encoder.text_ids(f"[[{word}]]")
        if word != "tie":  # a piece of the vocabulary too
            assert alone not in encoder.text_ids(f"{word}s and x{word}")
        assert alone not in encoder.untrusted_ids(word)
    assert encoder.tokenizer.decode(encoder.text_ids("No. a tie? Yes")) == "No. a tie? Yes"


def test_the_judges_instruction_costs_two_tokens_a_line(folders: dict[Family, Path], tmp_path: Path) -> None:
    import shutil

    import transformers

    folder = tmp_path / "named"
    shutil.copytree(folders["qwen2_5_omni"], folder)
    name_lines(folder, LINES)
    encoder = InputEncoder(transformers.AutoProcessor.from_pretrained(folder))
    sample = Sample.from_dict({"prompt": "draw a circle", "candidates": ["a", "b"]})
    for name in ("pairwise", "pairwise-thinking"):
        rendered = get_format(name).render(sample)
        (system,) = rendered.messages[0].parts
        lines = system.value.splitlines()
        assert len(encoder.text_ids(system.value)) == 2 * len(lines) - 1
        ids = encoder([Conversation(rendered.messages, (), rendered.prefill)])["input_ids"]
        assert ids.shape[1] < 110


def test_more_lines_than_spare_tokens_are_an_error_and_change_nothing(
    folders: dict[Family, Path], tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "full"
    shutil.copytree(folders["qwen3_vl"], folder)
    before = (folder / "tokenizer.json").read_bytes()
    with pytest.raises(ValueError, match="spare tokens are left"):
        name_lines(folder, [f"line {i}" for i in range(len(LINES) + 4)])
    assert (folder / "tokenizer.json").read_bytes() == before
    assert name_lines(folder, ["one", "one", "two"]) == 2
    held = [t["content"] for t in json.loads((folder / "tokenizer.json").read_text())["added_tokens"]]
    assert len(held) == len(set(held))


def test_every_seed_gives_other_weights(tokenizer: Any) -> None:
    import torch

    one, same, other = (build_model("qwen2_5_omni", tokenizer, SMALL, seed).lm_head.weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
