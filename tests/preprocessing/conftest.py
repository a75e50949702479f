"""Fixtures for the tests of preprocessing: the folder of real media where there is one, and a writer of files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


def _media_folder() -> Path | None:
    named = os.environ.get("OMNIRM_MEDIA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2].parent / "shared" / "data" / "media"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def media() -> Path:
    """The folder of real media files; tests that need it are skipped without it."""
    folder = _media_folder()
    if folder is None:
        pytest.skip("no media folder: set OMNIRM_MEDIA")
    return folder


@pytest.fixture(scope="session")
def media_or_none() -> Path | None:
    """The folder of real media files, or None."""
    return _media_folder()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes], Path]:
    """Writes a file into the test's own folder and gives its path."""

    def writer(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return writer
