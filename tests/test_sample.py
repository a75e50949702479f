"""Samples: both conventions of content parts, every wrong input named by its place, and round trips."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirm.errors import SampleError
from omnirm.sample import Candidate, Sample, read_samples, write_samples
from omnirm.types import Message, Part, Rubric

PAIR = {"id": "p", "prompt": "What is 2 + 3?", "candidates": ["5", "6"], "label": 0}


def pair(**changes: Any) -> dict[str, Any]:
    return {**PAIR, **changes}


def with_part(part: Any) -> dict[str, Any]:
    return pair(candidates=["5", [part]])


def test_a_minimal_sample() -> None:
    sample = Sample.from_dict({"prompt": "hi", "candidates": ["hello"]})
    assert sample.prompt == (Message("user", (Part("text", "hi"),)),)
    assert sample.candidates == (Candidate((Part("text", "hello"),)),)
    assert (sample.label, sample.rubrics, sample.metadata) == (None, (), {})
    assert sample.id.startswith("sample-")


def test_an_id_that_is_not_given_depends_on_the_content() -> None:
    ids = {Sample.from_dict({"prompt": prompt, "candidates": ["x"]}).id for prompt in ("a", "a", "b")}
    assert len(ids) == 2


def test_turns_names_rubrics_and_metadata() -> None:
    sample = Sample.from_dict(
        {
            "id": "full",
            "prompt": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": [{"type": "text", "text": "Hello."}]},
                {"role": "user", "content": ["Bye", {"type": "image", "image": "a.png"}]},
            ],
            "candidates": [
                {"name": "model-1", "content": "See you."},
                {"content": [{"type": "text", "text": "Bye."}]},
                "Hm",
            ],
            "label": "tie",
            "rubrics": ["Politeness", {"name": "Brevity", "text": "It is short.", "weight": 2, "source": "gold"}],
            "metadata": {"from": ["somewhere", {"row": 7}], "anything": None},
        }
    )
    assert [turn.role for turn in sample.prompt] == ["system", "user", "assistant", "user"]
    assert sample.prompt[3].parts == (Part("text", "Bye"), Part("image", "a.png"))
    assert [one.name for one in sample.candidates] == ["model-1", "", ""]
    assert sample.rubrics == (Rubric("Politeness"), Rubric("Brevity", "It is short.", 2.0, "gold"))
    assert sample.metadata["from"][1]["row"] == 7
    assert Sample.from_json(sample.to_json()) == sample


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "image", "image": "a.png"}, Part("image", "a.png")),
        ({"type": "image", "image": "a.png", "max_pixels": 784}, Part("image", "a.png", {"max_pixels": 784})),
        ({"type": "video", "video": "a.mp4", "fps": 0.5}, Part("video", "a.mp4", {"fps": 0.5})),
        ({"type": "video", "video": ["1.png", "2.png"]}, Part("video", ("1.png", "2.png"))),
        (
            {
                "type": "video",
                "video": "a.mp4",
                "nframes": 8.0,
                "video_start": 1,
                "video_end": 2.5,
                "use_audio_in_video": True,
            },
            Part("video", "a.mp4", {"nframes": 8, "video_start": 1, "video_end": 2.5, "use_audio_in_video": True}),
        ),
        (
            {"type": "audio", "audio": "a.wav", "offset": 1, "duration": 2},
            Part("audio", "a.wav", {"offset": 1, "duration": 2}),
        ),
        (
            {"type": "audio", "audio": "a.wav", "audio_start": 1.5, "audio_end": 4},
            Part("audio", "a.wav", {"offset": 1.5, "duration": 2.5}),
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://x.org/a.png", "detail": "high"}},
            Part("image", "https://x.org/a.png"),
        ),
        ({"type": "image_url", "image_url": "data:image/png;base64,AAAA"}, Part("image", "data:image/png;base64,AAAA")),
        (
            {"type": "video_url", "video_url": {"url": "file:///a.mp4"}, "fps": 1},
            Part("video", "file:///a.mp4", {"fps": 1}),
        ),
        ({"type": "audio_url", "audio_url": {"url": "a.wav"}}, Part("audio", "a.wav")),
        (
            {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
            Part("audio", "data:audio/wav;base64,UklGRg=="),
        ),
        ({"type": "text", "text": ""}, Part("text", "")),
        ("plain", Part("text", "plain")),
    ],
)
def test_content_parts_of_both_conventions(part: Any, expected: Part) -> None:
    sample = Sample.from_dict(with_part(part))
    assert sample.candidates[1].parts == (expected,)
    assert Sample.from_json(sample.to_json()) == sample


def test_one_part_stands_for_a_list_of_one() -> None:
    assert Sample.from_dict(pair(candidates=["x", {"type": "image", "image": "a.png"}])) == Sample.from_dict(
        pair(candidates=["x", [{"type": "image", "image": "a.png"}]])
    )


DEEP: Any = "x"
for _ in range(500):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("data", "field", "found"),
    [
        ([1, 2], "sample", "a list of 2"),
        ({"candidates": ["a"]}, "prompt", "nothing"),
        ({"prompt": "a"}, "candidates", "nothing"),
        (pair(extra=1), "extra", "an unknown key"),
        (pair(id=7), "id", "7"),
        (pair(id=""), "id", '""'),
        (pair(prompt=None), "prompt", "null"),
        (pair(prompt=5), "prompt", "5"),
        (pair(prompt=[]), "prompt", "an empty list"),
        (pair(prompt=[{"role": "bot", "content": "x"}]), "prompt[0].role", '"bot"'),
        (pair(prompt=[{"role": ["user"], "content": "x"}]), "prompt[0].role", "a list of 1"),
        (pair(prompt=[{"role": "user"}]), "prompt[0].content", "nothing"),
        (pair(prompt=[{"role": "user", "content": []}]), "prompt[0].content", "an empty list"),
        (pair(prompt=[{"role": "user", "content": "x", "name": "y"}]), "prompt[0].name", "an unknown key"),
        (pair(prompt=[{"role": "user", "content": "x"}, "y"]), "prompt[1]", '"y"'),
        (
            pair(prompt=[{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]),
            "prompt[1].role",
            "assistant",
        ),
        (pair(candidates=[]), "candidates", "none"),
        (pair(candidates="5"), "candidates", '"5"'),
        (pair(candidates={"a": 1}), "candidates", "an object with the keys"),
        (pair(candidates=["5", None]), "candidates[1]", "null"),
        (pair(candidates=["5", []]), "candidates[1]", "an empty list"),
        (pair(candidates=["5", {"text": "6"}]), "candidates[1].text", "an unknown key"),
        (pair(candidates=["5", {"name": "m"}]), "candidates[1].content", "nothing"),
        (pair(candidates=["5", {"name": 3, "content": "x"}]), "candidates[1].name", "3"),
        (pair(label=True), "label", "true"),
        (pair(label=2), "label", "2"),
        (pair(label=-1), "label", "-1"),
        (pair(label=0.0), "label", "0.0"),
        (pair(label="A"), "label", '"A"'),
        (pair(label=10**400), "label", "more than 20 digits"),
        (pair(label="tie", candidates=["5"]), "label", '"tie"'),
        (pair(rubrics="be true"), "rubrics", '"be true"'),
        (pair(rubrics=[""]), "rubrics[0].name", '""'),
        (pair(rubrics=[{"text": "x"}]), "rubrics[0].name", '""'),
        (pair(rubrics=[{"name": "x", "weigth": 1}]), "rubrics[0].weigth", "an unknown key"),
        (pair(rubrics=[{"name": "x", "weight": -1}]), "rubrics[0].weight", "-1"),
        (pair(rubrics=[{"name": "x", "weight": True}]), "rubrics[0].weight", "true"),
        (pair(rubrics=[{"name": "x", "weight": float("nan")}]), "rubrics[0].weight", "nan"),
        (pair(rubrics=[{"name": "x", "weight": 10**400}]), "rubrics[0].weight", "more than 20 digits"),
        (pair(rubrics=[{"name": "x", "weight": 0}, {"name": "y", "weight": 0}]), "rubrics", "no weight above 0"),
        (pair(metadata=[1]), "metadata", "a list of 1"),
        (pair(metadata={"a": [1, {"b": float("inf")}]}), "metadata.a[1].b", "inf"),
        (pair(metadata={"a": {1, 2}}), "metadata.a", "a set"),
        (pair(metadata={3: 1}), "metadata", "the key 3"),
        (pair(metadata={"a": 10**5000}), "metadata.a", "more than 20 digits"),
        (pair(metadata={"a": DEEP}), "metadata.a" + "[0]" * 29 + "...", "more than 200 levels"),
        (pair(**{"a\u202eb\n": 1}), "a\\u202eb\\n", "an unknown key"),
        (pair(label="\x1b[2J"), "label", '"\\u001b[2J"'),
        (pair(metadata={"a": "x\ud800"}), "metadata.a", "lone surrogate (U+D800) at character 1"),
        (pair(prompt="\udfff"), "prompt", "lone surrogate (U+DFFF) at character 0"),
        (pair(id="\ud800"), "id", "lone surrogate"),
        (with_part(3), "candidates[1][0]", "3"),
        (with_part({"text": "x"}), "candidates[1][0].type", "null"),
        (with_part({"type": "img", "img": "a.png"}), "candidates[1][0].type", '"img"'),
        (with_part({"type": "text", "text": 5}), "candidates[1][0].text", "5"),
        (
            with_part({"type": "text", "text": "x\ud83d"}),
            "candidates[1][0].text",
            "lone surrogate (U+D83D) at character 1",
        ),
        (with_part({"type": "text", "text": "x", "image": "y"}), "candidates[1][0].image", "an unknown key"),
        (with_part({"type": "image"}), "candidates[1][0].image", "null"),
        (with_part({"type": "image", "image": ""}), "candidates[1][0].image", '""'),
        (with_part({"type": "image", "image": 5}), "candidates[1][0].image", "5"),
        (with_part({"type": "image", "image": ["a.png"]}), "candidates[1][0].image", "a list of 1"),
        (with_part({"type": "image", "image": "a\0.png"}), "candidates[1][0].image", "NUL"),
        (with_part({"type": "image", "image": "a.png", "fps": 1}), "candidates[1][0].fps", "an unknown key"),
        (with_part({"type": "image", "image": "a.png", "max_pixels": "big"}), "candidates[1][0].max_pixels", '"big"'),
        (with_part({"type": "image", "image": "a.png", "max_pixels": 0}), "candidates[1][0].max_pixels", "0"),
        (with_part({"type": "image", "image": "a.png", "max_pixels": 1.5}), "candidates[1][0].max_pixels", "1.5"),
        (with_part({"type": "image", "image": "a.png", "max_pixels": True}), "candidates[1][0].max_pixels", "true"),
        (
            with_part({"type": "image", "image": "a.png", "max_pixels": 10**400}),
            "candidates[1][0].max_pixels",
            "20 digits",
        ),
        (with_part({"type": "video", "video": "a.mp4", "fps": 0}), "candidates[1][0].fps", "0"),
        (with_part({"type": "video", "video": "a.mp4", "fps": float("inf")}), "candidates[1][0].fps", "inf"),
        (
            with_part({"type": "video", "video": "a.mp4", "fps": 1, "nframes": 4}),
            "candidates[1][0]",
            "both fps and nframes",
        ),
        (
            with_part({"type": "video", "video": "a.mp4", "use_audio_in_video": 1}),
            "candidates[1][0].use_audio_in_video",
            "1",
        ),
        (with_part({"type": "video", "video": "a.mp4", "video_start": -1}), "candidates[1][0].video_start", "-1"),
        (
            with_part({"type": "video", "video": "a.mp4", "video_start": 3, "video_end": 2}),
            "candidates[1][0].video_end",
            "2",
        ),
        (with_part({"type": "video", "video": []}), "candidates[1][0].video", "an empty list"),
        (with_part({"type": "video", "video": ["a.png", 2]}), "candidates[1][0].video[1]", "2"),
        (
            with_part({"type": "audio", "audio": "a.wav", "audio_start": 3, "audio_end": 3}),
            "candidates[1][0].audio_end",
            "3",
        ),
        (
            with_part({"type": "audio", "audio": "a.wav", "audio_start": 3, "offset": 3}),
            "candidates[1][0]",
            "both audio_start",
        ),
        (
            with_part({"type": "image_url", "image_url": {"uri": "x"}}),
            "candidates[1][0].image_url.uri",
            "an unknown key",
        ),
        (with_part({"type": "image_url", "image_url": {}}), "candidates[1][0].image_url.url", "null"),
        (with_part({"type": "input_audio", "input_audio": "x"}), "candidates[1][0].input_audio", '"x"'),
        (
            with_part({"type": "input_audio", "input_audio": {"format": "wav"}}),
            "candidates[1][0].input_audio.data",
            "null",
        ),
        (
            with_part({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "w/v;x"}}),
            "candidates[1][0].input_audio.format",
            '"w/v;x"',
        ),
    ],
)
def test_a_wrong_sample_names_the_field_and_what_was_found(data: Any, field: str, found: str) -> None:
    with pytest.raises(SampleError) as caught:
        Sample.from_dict(data)
    message = str(caught.value)
    assert message.startswith(f"{field}: found "), message
    assert found in message, message
    assert re.search(r"; .{5,}", message), "says what to write"
    assert message.isprintable()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"prompt": "a", "candidates": ["b"]', "not JSON at character"),
        ('{"prompt": "a", "candidates": ["b"]} {}', "more after the end"),
        ('{"prompt": "a", "prompt": "b", "candidates": ["c"]}', '"prompt": found this key twice'),
        ('{"prompt": "a", "candidates": [{"name": "x", "name": "x", "content": "y"}]}', '"name": found this key twice'),
        ('{"prompt": "a", "candidates": ["b"], "metadata": {"x": NaN}}', "NaN"),
        ('{"prompt": "a", "candidates": ["b"], "metadata": {"x": -Infinity}}', "-Infinity"),
        ('{"prompt": "a", "candidates": ["b"], "metadata": {"x": 1e999}}', "too large a number"),
        ('{"prompt": "a", "candidates": ["b"], "label": ' + "1" * 5000 + "}", "more digits than can be read"),
        ('{"prompt": "\\ud800", "candidates": ["b"]}', "lone surrogate"),
        ("[" * 100_000, "nested too deeply"),
        ("", "not JSON"),
        ("null", "found null"),
    ],
)
def test_text_that_is_not_strictly_json(text: str, said: str) -> None:
    with pytest.raises(SampleError, match=re.escape(said)):
        Sample.from_json(text)


def test_bytes_are_utf8() -> None:
    assert Sample.from_json('\ufeff{"prompt": "é", "candidates": ["b"]}'.encode()).prompt[0].parts[0].value == "é"
    with pytest.raises(SampleError, match="not UTF-8 at byte 12"):
        Sample.from_json('{"prompt": "é", "candidates": ["b"]}'.encode("latin-1"))


def test_the_constructor_checks_too_and_trusts_nothing() -> None:
    turn, candidate = (
        Message("user", (Part("text", "hi", trusted=True),)),
        Candidate((Part("text", "yo", trusted=True),)),
    )
    sample = Sample("x", (turn,), (candidate,))
    assert not sample.prompt[0].parts[0].trusted
    assert not sample.candidates[0].parts[0].trusted
    for wrong in (
        lambda: Sample("", (turn,), (candidate,)),
        lambda: Sample("x", (), (candidate,)),
        lambda: Sample("x", (turn,), ()),
        lambda: Sample("x", (turn,), (Candidate(()),)),
        lambda: Sample("x", (turn,), (candidate,), label=1),
        lambda: Sample("x", (turn,), (Candidate((Part("text", 5),)),)),
        lambda: Sample("x", (turn,), (candidate,), rubrics=(Rubric("r", weight=float("nan")),)),
    ):
        with pytest.raises(SampleError):
            wrong()


@pytest.mark.parametrize(("label", "swapped"), [(0, 1), (1, 0), ("tie", "tie"), (None, None)])
def test_a_swap_takes_the_label_along(label: Any, swapped: Any) -> None:
    sample = Sample.from_dict(pair(label=label))
    other = sample.swapped()
    assert [one.parts[0].value for one in other.candidates] == ["6", "5"]
    assert other.label == swapped
    assert other.swapped() == sample


def test_only_a_pair_can_be_swapped() -> None:
    with pytest.raises(SampleError, match="3 candidates"):
        Sample.from_dict(pair(candidates=["1", "2", "3"])).swapped()


def test_modalities() -> None:
    def modalities(*parts: Any) -> set[str]:
        return set(Sample.from_dict({"prompt": "x", "candidates": [list(parts)]}).modalities)

    video = {"type": "video", "video": "a.mp4"}
    assert modalities("y") == {"text"}
    assert modalities({"type": "image", "image": "a.png"}) == {"text", "image"}
    assert modalities(video) == {"text", "video"}
    assert modalities({**video, "use_audio_in_video": False}) == {"text", "video"}
    assert modalities({**video, "use_audio_in_video": True}) == {"text", "video", "audio"}


def test_media_in_memory_are_taken_but_not_written(tmp_path: Path) -> None:
    sample = Sample.from_dict(with_part({"type": "image", "image": b"\x89PNG"}), base=tmp_path)
    assert sample.candidates[1].parts[0].value == b"\x89PNG"
    with pytest.raises(SampleError, match=re.escape("candidates[1][0].image: found a bytes in memory")):
        sample.to_json()


# --- files


def lines(path: Path, *items: Any) -> Path:
    path.write_text(
        "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in items), encoding="utf-8"
    )
    return path


def test_media_paths_start_from_the_folder_of_the_file(tmp_path: Path) -> None:
    parts = [
        "a.png",
        "sub/b.png",
        "/abs/c.png",
        "file:///d.png",
        "data:image/png;base64,AA==",
        "https://x.org/e.png",
        "../f.png",
    ]
    sample = pair(candidates=["x", [{"type": "image", "image": one} for one in parts]])
    (read,) = read_samples(lines(tmp_path / "s.jsonl", sample))
    values = [part.value for part in read.candidates[1].parts]
    assert values[:2] == [str(tmp_path / "a.png"), str(tmp_path / "sub/b.png")]
    assert values[2:6] == parts[2:6]
    assert Path(values[6]).resolve() == tmp_path.parent / "f.png"


def test_a_folder_of_samples_can_move(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    media = [
        {"type": "image", "image": "m/a.png"},
        {"type": "video", "video": ["1.png", "2.png"]},
        {"type": "audio", "audio": "/x.wav"},
    ]
    (sample,) = read_samples(lines(old / "s.jsonl", pair(candidates=["x", media])))
    write_samples(old / "again.jsonl", [sample])
    assert json.loads((old / "again.jsonl").read_text())["candidates"][1] == media
    old.rename(new)
    (moved,) = read_samples(new / "again.jsonl")
    assert [part.value for part in moved.candidates[1].parts] == [
        str(new / "m/a.png"),
        (str(new / "1.png"), str(new / "2.png")),
        "/x.wav",
    ]


def test_paths_written_as_they_are(tmp_path: Path) -> None:
    sample = Sample.from_dict(with_part({"type": "image", "image": str(tmp_path / "a.png")}))
    write_samples(tmp_path / "s.jsonl", [sample], relative=False)
    assert str(tmp_path / "a.png") in (tmp_path / "s.jsonl").read_text()


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".ndjson"])
def test_files_come_back(tmp_path: Path, ending: str) -> None:
    samples = [Sample.from_dict(pair(id=f"s{i}", prompt=f"line \u2028 break \n {i} é 😀")) for i in range(3)]
    path = tmp_path / f"s{ending}"
    assert write_samples(path, iter(samples)) == 3
    assert list(read_samples(path)) == samples
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert write_samples(path, []) == 0
    assert list(read_samples(path)) == []


def test_one_sample_may_be_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text("\n" + json.dumps({"prompt": "a", "candidates": ["b"]}, indent=2))
    (sample,) = read_samples(path)
    assert sample.id == "one:2"


def test_byte_order_mark_windows_line_ends_and_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(pair()).encode() + b"\r\n\r\n" + json.dumps(pair(id="q")).encode())
    assert [one.id for one in read_samples(path)] == ["p", "q"]


@pytest.mark.parametrize(
    ("content", "where", "said"),
    [
        (b'{"prompt": "a", "candidates": ["b"]}\n{"prompt": "a"}\n', ":2: ", "candidates: found nothing"),
        (b'{"prompt": "a", "candidates": ["b"]}\n\n{"prompt" "a"}\n', ":3: ", "not JSON at character 10"),
        (
            b'{"prompt": "a", "candidates": ["b"]}\n{"prompt": "\xe9", "candidates": ["b"]}',
            ":2: ",
            "not UTF-8 at byte 12",
        ),
        (b'{"id": "x", "prompt": "a", "candidates": ["b"]}\n' * 2, ":2: ", 'id: found "x"; line 1 has it already'),
        (b"[" * 100_000, ":1: ", "nested too deeply"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, content: bytes, where: str, said: str) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(content)
    with pytest.raises(SampleError) as caught:
        list(read_samples(path))
    assert str(caught.value).startswith(f"{path}{where}")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("content", "where", "said"),
    [
        ('[\n{"prompt": "a", "candidates": ["b"]},\n\n{"prompt": "a"}\n]', ":4: ", "candidates: found nothing"),
        ('[\n{"prompt": "a", "candidates": ["b"]}\n{"prompt": "a"}]', ":2: ", 'no "," or "]"'),
        ('[\n{"prompt": "a", "candidates": ["b"]},\n]', ":3: ", "not JSON"),
        ('[{"prompt": "a", "candidates": ["b"]}] x', ":1: ", "more after the list"),
        ("", ": ", "not JSON"),
        ("{", ": ", "not JSON"),
    ],
)
def test_a_wrong_item_of_a_list_is_named_by_its_line(tmp_path: Path, content: str, where: str, said: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(content)
    with pytest.raises(SampleError) as caught:
        list(read_samples(path))
    assert str(caught.value).startswith(f"{path}{where}")
    assert said in str(caught.value)


def test_good_samples_before_a_wrong_one_are_still_read(tmp_path: Path) -> None:
    samples = read_samples(lines(tmp_path / "s.jsonl", pair(), "broken"))
    assert next(samples).id == "p"
    with pytest.raises(SampleError):
        next(samples)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = lines(tmp_path / "s.jsonl", pair())
    before = path.read_bytes()
    with pytest.raises(SampleError, match='two samples have the id "p"'):
        write_samples(path, [Sample.from_dict(PAIR)] * 2)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["s.jsonl"]


@pytest.mark.parametrize("action", [lambda path: list(read_samples(path)), lambda path: write_samples(path, [])])
def test_other_endings_are_refused(tmp_path: Path, action: Any) -> None:
    with pytest.raises(SampleError, match=re.escape("found the ending .csv; sample files end in .jsonl or .json")):
        action(tmp_path / "s.csv")


# --- properties

TEXTS = st.text(max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
REFERENCES = TEXTS.filter(lambda text: text.strip() and "\0" not in text)
PARTS = st.one_of(
    st.builds(lambda text: Part("text", text), TEXTS),
    st.builds(lambda ref, n: Part("image", ref, {"max_pixels": n}), REFERENCES, st.integers(1, 10**9)),
    st.builds(lambda ref, fps: Part("video", ref, {"fps": fps}), REFERENCES, st.floats(0.01, 60)),
    st.builds(lambda ref, s: Part("audio", ref, {"offset": s}), REFERENCES, st.floats(0, 1e4)),
)
CONTENT = st.lists(PARTS, min_size=1, max_size=3).map(tuple)
TURNS = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), CONTENT), max_size=2)
NAMES = TEXTS.filter(lambda text: text.strip())
SAMPLES = st.builds(
    lambda name, turns, last, candidates, label, rubrics, metadata: Sample(
        name, (*turns, Message("user", last)), tuple(candidates), label, tuple(rubrics), metadata
    ),
    TEXTS.filter(bool),
    TURNS,
    CONTENT,
    st.lists(st.builds(Candidate, CONTENT, TEXTS), min_size=2, max_size=4),
    st.sampled_from([None, 0, 1, "tie"]),
    st.lists(st.builds(Rubric, NAMES, TEXTS, st.floats(0.001, 1e6), TEXTS), max_size=3),
    st.dictionaries(TEXTS, JSON, max_size=3),
)


@given(SAMPLES)
def test_every_sample_comes_back_from_json(sample: Sample) -> None:
    text = sample.to_json()
    assert "\n" not in text
    assert Sample.from_json(text) == sample
    assert Sample.from_json(text.encode()) == sample


@given(JSON)
def test_any_json_is_a_sample_or_a_sample_error(data: Any) -> None:
    for shaped in (
        data,
        pair(prompt=data),
        pair(candidates=[data]),
        pair(rubrics=[data]),
        pair(label=data),
        with_part(data),
    ):
        with contextlib.suppress(SampleError):  # and nothing else
            sample = Sample.from_dict(shaped)
            assert Sample.from_json(sample.to_json()) == sample


def test_real_audio_data_survives_as_a_uri() -> None:
    data = base64.b64encode(bytes(range(256))).decode()
    sample = Sample.from_dict(with_part({"type": "input_audio", "input_audio": {"data": data, "format": "mp3"}}))
    head, body = sample.candidates[1].parts[0].value.split(",")
    assert head == "data:audio/mp3;base64"
    assert base64.b64decode(body) == bytes(range(256))
