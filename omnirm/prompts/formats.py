"""The formats by name: `get_format("pairwise").render(sample)` makes a prompt, `.parse(...)` reads the answer.

For the judge, training data and anybody who adds a format: a template file, a class with `render` and `parse`, a line
here.
"""

from __future__ import annotations

from typing import Any

from omnirm.errors import ConfigError
from omnirm.prompts.p_yes import PYes
from omnirm.prompts.pairwise import Pairwise
from omnirm.prompts.pointwise import Pointwise
from omnirm.prompts.rendered import Format, Rendered
from omnirm.prompts.rubric_steps import Planning, RefinementFormat, SelectionFormat

_ALL: tuple[Any, ...] = (
    Pairwise("pairwise-thinking", thinking=True, max_new_tokens=2048),
    Pairwise("pairwise", thinking=False, max_new_tokens=8),
    Pointwise(),
    Planning(),
    SelectionFormat(),
    RefinementFormat(),
    PYes(),
)
FORMATS: dict[str, Any] = {item.name: item for item in _ALL}


def get_format(name: str) -> Any:
    """The format of that name. Raises `ConfigError` for an unknown one."""
    if name not in FORMATS:
        raise ConfigError(f"unknown format {name!r}; the formats are {', '.join(FORMATS)}")
    return FORMATS[name]


__all__ = ["FORMATS", "Format", "Rendered", "get_format"]
