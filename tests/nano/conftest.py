"""Many lessons of the judge, made and read once."""

from __future__ import annotations

import pytest
from nano_tasks import Answered, answered

from omnirm.nano.lessons import Lesson, lesson


@pytest.fixture(scope="session")
def lessons() -> list[Lesson]:
    """The lessons of the first seeds, in the shares of the mix."""
    return [lesson(seed) for seed in range(6000)]


@pytest.fixture(scope="session")
def found(lessons: list[Lesson]) -> Answered:
    """The same lessons, read: by kind, each with its task and its parsed answer."""
    return answered(lessons)
