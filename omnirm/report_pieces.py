"""Pieces of terminal reports: bars, rubrics, untrusted text made safe to show.

For `report.py` and `scaled_report.py`.
"""

from __future__ import annotations

import math

from rich.table import Table
from rich.text import Text

from omnirm.shown import shortened, visible
from omnirm.types import Rubric

LONGEST = 2000  # characters shown of one text
STYLE = {"A": "cyan", "B": "magenta", "tie": "yellow"}
BAR = 24  # cells


def rubric_line(rubric: Rubric) -> Text:
    """Name, weight where it is not 1, and text."""
    text = Text().append(one_line(rubric.name), "bold")
    if rubric.weight != 1:
        text.append(f" (weight {rubric.weight:g})", "dim")
    if rubric.text:
        text.append(f"  {one_line(shortened(rubric.text, LONGEST))}")
    return text


def bar(value: float, top: float, ascii_only: bool, note: str) -> Text:
    """A number, a bar of `value / top`, and a note."""
    share = min(1.0, max(0.0, value / top)) if math.isfinite(value) else 0.0
    cells = round(share * BAR)
    full, empty = ("#", "-") if ascii_only else ("█", "░")
    style = "green" if share >= 0.8 else "yellow" if share >= 0.6 else "red"
    return Text.assemble((f"{value:.2f} ", "bold"), (full * cells, style), (empty * (BAR - cells), "dim"), f" {note}")


def grid() -> Table:
    """Two columns: names and what is said."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(no_wrap=True)
    rows.add_column(overflow="fold")
    return rows


def bold(name: str) -> Text:
    """A name in the first column."""
    return Text(name, "bold")


def block(text: str) -> Text:
    """Untrusted text, its line breaks kept."""
    return Text(visible(shortened(text, LONGEST)))


def one_line(text: str) -> str:
    """Untrusted text on one line."""
    return visible(text, newlines=False)
