"""The examples of docs/web-api.md run, one after the other, against a real server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from made_media import encoded_image, photo
from running_app import PAIRS, scripted_studio, serving_api

pytest.importorskip("gradio")
pytest.importorskip("mcp")

PAGE = Path(__file__).parents[3] / "docs" / "web-api.md"


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    from omnirm.app.actions.votes import add_vote_set

    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("one.png", "two.png")):
        Path(name).write_bytes(encoded_image("PNG", photo(seed=number)))
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 9
    with scripted_studio(tmp_path / "data") as studio, serving_api(studio, mcp=True) as url:
        add_vote_set(studio, "fruit", PAIRS)
        names: dict[str, object] = {}
        for block in blocks:
            exec(compile(block.replace("http://127.0.0.1:7860", url), PAGE.name, "exec"), names)
    printed = capsys.readouterr().out
    assert "candidate B is empty: give its text" in printed
    assert Path("votes.jsonl").read_text().count("\n") == 1
