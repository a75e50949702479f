"""Rows of training data through Parquet and JSON: what went in comes out, and what is damaged is named."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirm.errors import SampleError
from omnirm.training.rows import STEPS, DPORow, GRPORow, SFTRow, Shown, read_rows, write_rows
from omnirm.types import Message, Part

CLIP = Part("video", "clips/a.mp4", {"fps": 1.5, "use_audio_in_video": True, "max_frames": 8})
SHOWN = Shown(
    (
        Message("system", (Part("text", "ours <think>", trusted=True),)),
        Message("user", (Part("text", "theirs <|im_end|>"), CLIP, Part("text", "", trusted=True))),
        Message("assistant", (Part("text", "é 三\n\u2028"),)),
    ),
    "<think>",
)
SFT = SFTRow("s", "judgment", True, SHOWN, "A]]", 0.5)
DPO = DPORow("s", "picking", True, SHOWN, "A]]", "B]]", -1.0, None)
GRPO = GRPORow("s", "{}", "[]", "[]", "A")


@pytest.mark.parametrize("row", [SFT, replace(SFT, thinking=False, meta_reward=None), DPO, GRPO])
def test_a_row_comes_back_as_it_was(tmp_path: Path, row: Any) -> None:
    assert write_rows(tmp_path / "new" / "rows.parquet", [row, row], type(row)) == 2
    assert read_rows(tmp_path / "new" / "rows.parquet", type(row)) == [row, row]
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["rows.parquet"]  # nothing unfinished is left


def test_what_is_ours_and_what_is_not_stay_apart(tmp_path: Path) -> None:
    write_rows(tmp_path / "r.parquet", [SFT], SFTRow)
    (row,) = read_rows(tmp_path / "r.parquet", SFTRow)
    assert [[p.trusted for p in m.parts] for m in row.prompt.messages] == [[True], [False, False, True], [False]]
    assert row.prompt.messages[1].parts[1].options == {"fps": 1.5, "use_audio_in_video": True, "max_frames": 8}


texts = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False)
parts = st.one_of(
    st.builds(Part, st.just("text"), texts, trusted=st.booleans()),
    st.builds(Part, st.sampled_from(("image", "video", "audio")), texts, st.dictionaries(texts, numbers, max_size=3)),
)
messages = st.builds(Message, st.sampled_from(("system", "user", "assistant")), st.lists(parts, max_size=4).map(tuple))


@given(st.lists(messages, max_size=4).map(tuple), texts)
def test_every_prompt_comes_back_as_it_was(turns: tuple[Message, ...], prefill: str) -> None:
    shown = Shown(turns, prefill)
    line = shown.to_json()
    assert "\n" not in line
    assert Shown.from_json(line) == shown


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.one_of(texts, json_values.map(json.dumps), st.builds(lambda m, p: json.dumps({"messages": m, "prefill": p}),
                                                               json_values, json_values)))  # fmt: skip
def test_any_other_text_is_an_error_of_ours_or_a_prompt(text: str) -> None:
    try:
        found = Shown.from_json(text)
    except SampleError:
        return
    assert Shown.from_json(found.to_json()) == found


def changed(change: Callable[[dict[str, Any]], None]) -> str:
    data = json.loads(SHOWN.to_json())
    change(data)
    return json.dumps(data)


def part(data: dict[str, Any]) -> dict[str, Any]:
    return data["messages"][1]["parts"][1]


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", '"text"', "{}", '{"messages": []}', '{"prefill": ""}', "[" * 5000, '{"messages": NaN}',
        '{"messages": [], "prefill": "", "prefill": "x"}',
        changed(lambda d: d.update(prefill=3)),
        changed(lambda d: d.update(messages="user")),
        changed(lambda d: d["messages"][0].update(role="tool")),
        changed(lambda d: d["messages"][0].update(role=["system"])),
        changed(lambda d: d["messages"][0].pop("role")),
        changed(lambda d: d["messages"][0].update(parts=7)),
        changed(lambda d: d["messages"][0].update(parts=["text"])),
        changed(lambda d: part(d).update(type="tensor")),
        changed(lambda d: part(d).update(value={"path": "x"})),
        changed(lambda d: part(d).update(value=None)),
        changed(lambda d: part(d).update(options="fps")),
        changed(lambda d: part(d).update(options=[["fps", 1]])),
        changed(lambda d: part(d)["options"].update(fps="fast")),
        changed(lambda d: part(d)["options"].update(fps=[1])),
        changed(lambda d: part(d).pop("value")),
    ],
)  # fmt: skip
def test_a_prompt_of_another_form_is_an_error(text: str) -> None:
    with pytest.raises(SampleError):
        Shown.from_json(text)


def test_no_medium_can_call_itself_ours() -> None:
    found = Shown.from_json(changed(lambda d: part(d).update(trusted=True)))
    assert not found.messages[1].parts[1].trusted
    for value in (1, "true", [True]):  # only true itself
        found = Shown.from_json(changed(lambda d, v=value: d["messages"][1]["parts"][0].update(trusted=v)))  # type: ignore[misc]
        assert not found.messages[1].parts[0].trusted


def test_a_medium_that_is_in_memory_only_cannot_be_written(tmp_path: Path) -> None:
    shown = Shown((Message("user", (Part("image", b"\x89PNG"),)),))
    with pytest.raises(SampleError, match="a image is a bytes: name a file or an address"):
        write_rows(tmp_path / "r.parquet", [replace(SFT, prompt=shown)], SFTRow)
    assert not list(tmp_path.iterdir())


# -- files


def write(path: Path, **columns: list[Any]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)
    return path


def columns(**changes: list[Any]) -> dict[str, list[Any]]:
    plain: dict[str, list[Any]] = {
        "sample_id": ["one", "two"], "step": ["judgment"] * 2, "thinking": [True] * 2,
        "prompt": [SHOWN.to_json()] * 2, "completion": ["A]]"] * 2, "meta_reward": [0.5, None],
    }  # fmt: skip
    return plain | changes


def test_a_file_that_others_wrote_is_read_and_more_columns_do_no_harm(tmp_path: Path) -> None:
    file = write(tmp_path / "r.parquet", **columns(source=["x", "y"], meta_reward=[1, None]))
    assert [(row.sample_id, row.meta_reward) for row in read_rows(file, SFTRow)] == [("one", 1.0), ("two", None)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"thinking": [True, None]}, "row 1: thinking is None"),
        ({"thinking": [1, 0]}, "row 0: thinking is 1"),
        ({"completion": ["A", None]}, "row 1: completion is None"),
        ({"sample_id": [1, 2]}, "row 0: sample_id is 1"),
        ({"meta_reward": ["high", "low"]}, "row 0: meta_reward is 'high'"),
        ({"meta_reward": [True, False]}, "row 0: meta_reward is True"),
        ({"prompt": [SHOWN.to_json(), "{"]}, "row 1: .*not of the documented form"),
        ({"prompt": [None, None]}, "row 0: prompt is None"),
        ({"step": ["judgment", None]}, "row 1: step is None"),
    ],
)
def test_a_value_of_another_type_is_named(tmp_path: Path, changes: dict[str, list[Any]], said: str) -> None:
    file = write(tmp_path / "r.parquet", **columns(**changes))
    with pytest.raises(SampleError, match=f"r.parquet: {said}"):
        read_rows(file, SFTRow)


def test_rows_of_one_kind_are_none_of_another(tmp_path: Path) -> None:
    write_rows(tmp_path / "sft.parquet", [SFT], SFTRow)
    with pytest.raises(SampleError, match=r"sft.parquet: row 0 lacks \['chosen', .*it is no DPORow"):
        read_rows(tmp_path / "sft.parquet", DPORow)


def test_files_that_hold_no_rows(tmp_path: Path) -> None:
    with pytest.raises(SampleError, match=r"none\.parquet: cannot be read as Parquet"):
        read_rows(tmp_path / "none.parquet", SFTRow)
    with pytest.raises(SampleError, match="cannot be read as Parquet"):
        read_rows(tmp_path, SFTRow)
    write_rows(tmp_path / "empty.parquet", [], SFTRow)
    with pytest.raises(SampleError, match="no row; there is nothing to train on"):
        read_rows(tmp_path / "empty.parquet", SFTRow)
    whole = write(tmp_path / "whole.parquet", **columns()).read_bytes()
    for name, damaged in (("text", b'{"sample_id": 1}'), ("cut", whole[: len(whole) // 2]), ("nothing", b"")):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(SampleError, match=f"{name}: cannot be read as Parquet"):
            read_rows(tmp_path / name, SFTRow)


def test_every_flipped_byte_is_rows_or_an_error_of_ours(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.parquet", **columns()).read_bytes()
    for at in range(0, len(whole), 37):
        (tmp_path / "r.parquet").write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            rows = read_rows(tmp_path / "r.parquet", SFTRow)
        except SampleError:
            continue
        assert all(isinstance(row.prompt, Shown) for row in rows)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    write_rows(tmp_path / "r.parquet", [SFT], SFTRow)
    before = (tmp_path / "r.parquet").read_bytes()
    bad = replace(SFT, prompt=Shown((Message("user", (Part("image", object()),)),)))
    with pytest.raises(SampleError):
        write_rows(tmp_path / "r.parquet", [SFT, bad], SFTRow)
    assert (tmp_path / "r.parquet").read_bytes() == before


def test_not_a_number_is_no_reward(tmp_path: Path) -> None:
    write_rows(tmp_path / "r.parquet", [replace(SFT, meta_reward=math.nan)], SFTRow)
    (row,) = read_rows(tmp_path / "r.parquet", SFTRow)
    assert row.meta_reward is None


def test_the_steps_are_those_that_the_synthesis_writes() -> None:
    assert STEPS == ("planning", "selection", "judgment", "picking", "refinement")
