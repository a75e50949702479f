"""omnirm: a multimodal generative reward model. It judges text, image, video and audio responses under rubrics.

    from omnirm import Judge, Sample, load_backend
    judgment = Judge(load_backend("nano")).compare(Sample.from_dict({"prompt": "2 + 3?", "candidates": ["5", "6"]}))

Names are imported when they are used: `import omnirm` alone loads no model library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omnirm.backends.load import load_backend
    from omnirm.judge import Judge
    from omnirm.judgment import Judgment, PointJudgment, read_judgment
    from omnirm.sample import Candidate, Sample, read_samples, write_samples
    from omnirm.types import ParseFailure, Part, Rubric

    __version__: str

_HOME = {
    "Candidate": "omnirm.sample",
    "Judge": "omnirm.judge",
    "Judgment": "omnirm.judgment",
    "ParseFailure": "omnirm.types",
    "Part": "omnirm.types",
    "PointJudgment": "omnirm.judgment",
    "Rubric": "omnirm.types",
    "Sample": "omnirm.sample",
    "load_backend": "omnirm.backends.load",
    "read_judgment": "omnirm.judgment",
    "read_samples": "omnirm.sample",
    "write_samples": "omnirm.sample",
}

__all__ = [
    "Candidate",
    "Judge",
    "Judgment",
    "ParseFailure",
    "Part",
    "PointJudgment",
    "Rubric",
    "Sample",
    "load_backend",
    "read_judgment",
    "read_samples",
    "write_samples",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("omnirm")
        except PackageNotFoundError:  # a source tree that was never installed
            return "0+unknown"
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'omnirm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
