"""What docs/scaling.md shows does what it says there."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

from omnirm.rubrics.trajectory import STRATEGIES, Compute, ScaledJudgment, Trajectory

PAGE = (Path(__file__).parent.parent / "docs" / "scaling.md").read_text(encoding="utf-8")


def test_the_examples_print_what_stands_beside_them(capsys):
    space: dict = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "scaling.md", "exec"), space)
    printed = capsys.readouterr().out.splitlines()
    expected = [line.partition("  # ")[2] for block in blocks for line in block.splitlines() if "print(" in line]
    assert printed == [line.split(": ")[0] for line in expected]
    assert ast.literal_eval(expected[1]) == [0.5, -1.5, -1.0]


def test_every_strategy_and_field_is_named():
    tables = "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))
    for name in STRATEGIES:
        assert f"| `{name}` |" in tables
    for kind in (ScaledJudgment, Trajectory, Compute):
        for field in fields(kind):
            assert f"`{field.name}`" in tables, field.name
