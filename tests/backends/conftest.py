"""Fixtures of the backend tests: tiny checkpoints of the families, loaded once, and small media files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_models import Files, build, build_full, make_files

from omnirm.backends.hf import HFBackend
from omnirm.nano.build import FAMILIES, Family


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Family], Path]:
    """Gives the folder of a family's checkpoint, built on first use."""
    folders: dict[Family, Path] = {}

    def of(family: Family) -> Path:
        if family not in folders:
            folders[family] = build(family, tmp_path_factory.mktemp(family))
        return folders[family]

    return of


@pytest.fixture(scope="session")
def full_checkpoint(
    checkpoint: Callable[[Family], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Family], Path]:
    """Gives the folder of an Omni family's full checkpoint, with the thinker's config and weights inside."""
    folders: dict[Family, Path] = {}

    def of(family: Family) -> Path:
        if family not in folders:
            folder = tmp_path_factory.mktemp(f"full_{family}") / "checkpoint"
            folders[family] = build_full(family, checkpoint(family), folder)
        return folders[family]

    return of


@pytest.fixture(scope="session")
def backend_of(checkpoint: Callable[[Family], Path]) -> Callable[[Family], HFBackend]:
    """Gives a family's backend (CPU, float32, batches of 4), loaded on first use."""
    loaded: dict[Family, HFBackend] = {}

    def of(family: Family) -> HFBackend:
        if family not in loaded:
            loaded[family] = HFBackend(str(checkpoint(family)), device="cpu", batch_size=4, name=family)
        return loaded[family]

    return of


@pytest.fixture(params=FAMILIES)
def backend(request: pytest.FixtureRequest, backend_of: Callable[[Family], HFBackend]) -> HFBackend:
    """Every family's backend in turn."""
    return backend_of(request.param)


@pytest.fixture
def omni(backend_of: Callable[[Family], HFBackend]) -> HFBackend:
    """The family that takes every modality and is the embedded model's own."""
    return backend_of("qwen2_5_omni")


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Small media files made in code."""
    return make_files(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="session")
def real_media() -> Path:
    """The folder of real media files; tests that need it are skipped without it."""
    named = os.environ.get("OMNIRM_MEDIA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2].parent / "shared" / "data" / "media"
    if not folder.is_dir():
        pytest.skip("no media folder: set OMNIRM_MEDIA")
    return folder
