"""Processors and fresh models of every family, tiny, that speak the nano world's words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_models import Files, make_files

from omnirm.backends.hf_inputs import Conversation, InputEncoder
from omnirm.nano.build import FAMILIES, Family, Size, build_model, build_processor, train_tokenizer
from omnirm.nano.instructions import vocabulary
from omnirm.nano.writer import Drawing
from omnirm.preprocessing import AudioSettings, ImageSettings, Media, Settings, VideoSettings, prepare
from omnirm.training.collate import MediaCollator
from omnirm.types import Part


@dataclass(frozen=True)
class Tiny:
    """A family's processor and what goes with it."""

    family: Family
    processor: Any
    size: Size
    settings: Settings

    @property
    def encoder(self) -> InputEncoder:
        return InputEncoder(self.processor)

    @property
    def hears(self) -> bool:
        return "audio" in self.encoder.modalities

    def model(self, seed: int = 0) -> Any:
        """New random weights."""
        return build_model(self.family, self.processor.tokenizer, self.size, seed)

    def prepare(self, part: Part) -> Media:
        value = part.value.render()[0] if isinstance(part.value, Drawing) else part.value
        return prepare(value, part.type, self.settings, None, part.options)  # type: ignore[arg-type]

    def collator(self, build: Callable[[Any], Conversation], max_tokens: int = 2000) -> MediaCollator:
        return MediaCollator(self.encoder, build, self.prepare, max_tokens)


@cache
def _tiny(family: Family) -> Tiny:
    factor = 28 if family == "qwen2_5_omni" else 32
    area = (3 * factor) ** 2
    size = Size(
        hidden=64, layers=2, intermediate=128, vision_hidden=64, vision_layers=2, audio_hidden=64, audio_layers=1,
        min_pixels=area, max_pixels=area, mel_bins=32, audio_seconds=8,
    )  # fmt: skip
    tokenizer = train_tokenizer(family, vocabulary(300), 600)
    settings = Settings(
        ImageSettings(factor, area, area),
        VideoSettings(factor, fps=2.0, min_frames=4, max_frames=8, min_pixels=area, max_pixels=area),
        AudioSettings(16000),
    )
    return Tiny(family, build_processor(family, tokenizer, size), size, settings)


@pytest.fixture(scope="session", params=FAMILIES)
def tiny(request: pytest.FixtureRequest) -> Tiny:
    """Every family in turn."""
    return _tiny(request.param)


@pytest.fixture(scope="session")
def tiny_of() -> Callable[[Family], Tiny]:
    """A family by name."""
    return _tiny


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Small media files made in code."""
    return make_files(tmp_path_factory.mktemp("media"))


@pytest.fixture
def asked_recipes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The recipes that an experiment would train, in order; none is trained."""
    from omnirm.training.recipe import read_recipe

    seen: list[Any] = []

    def caught(path: Path, changes: Any) -> Any:
        recipe = read_recipe(path, changes)
        seen.append(recipe)

        def trained(root: Path) -> Path:
            final: Path = root / recipe.name / "final"
            final.mkdir(parents=True)
            (final / "omnirm.json").write_text("{}")
            return final

        return SimpleNamespace(train=trained)

    monkeypatch.setattr("omnirm.training.recipe.read_recipe", caught)
    return seen
