"""Judgments as records: exact JSON round trip, strict reading, hashes of prompts."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnirm.errors import SampleError
from omnirm.judgment import (
    CallRecord,
    CandidateScore,
    Decoding,
    Judgment,
    ModelInfo,
    PairCall,
    PointCall,
    PointJudgment,
    prompt_hash,
    read_judgment,
)
from omnirm.types import CriterionAnalysis, Message, ParseFailure, Part, Rubric

# any text that a model or a user can produce, lone surrogates included
text = st.text(st.characters(exclude_categories=()), max_size=12).filter(
    lambda one: not re.search("[\ud800-\udbff][\udc00-\udfff]", one)  # two halves in a row are one character in JSON
)
number = st.floats(allow_nan=False, allow_infinity=False)
letter = st.sampled_from(["A", "B", "tie"])
rubric = st.builds(Rubric, text, text, st.floats(0, 1e6), text)
criterion = st.builds(CriterionAnalysis, rubric, text, text, st.none() | number, st.none() | number, st.none() | letter)
call = st.builds(
    CallRecord, st.integers(0, 99), st.integers(0, 2**63), text, text, text, text, text, text, st.integers(1, 9999)
)
failure = st.builds(ParseFailure, text, text, text)
pair_call = st.builds(
    PairCall, st.sampled_from(["AB", "BA"]), call, letter, letter, st.none() | number,
    st.lists(criterion, max_size=2).map(tuple), st.none() | failure,
)  # fmt: skip
rubric_scores = st.lists(st.tuples(rubric, number), max_size=2).map(tuple)
point_call = st.builds(PointCall, call, st.none() | number, rubric_scores, text, st.none() | failure)
json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | number | text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2),
    max_leaves=4,
)
media = st.dictionaries(text, json_value, max_size=2)
decoding = st.builds(Decoding, number, number, st.integers(), st.none() | st.integers(1, 99))
model = st.builds(ModelInfo, text, text)
judgment = st.builds(
    Judgment, text, text, st.none() | letter, model, decoding, text,
    confidence=st.none() | number, probability_a=st.none() | number, margin=st.none() | number,
    position_consistent=st.none() | st.booleans(),
    order_verdicts=st.just((("AB", "A"), ("BA", None))), votes=st.just((("A", 2), ("B", 0), ("tie", 1))),
    coverage=number, decided_by=st.sampled_from(["votes", "margin", "tie_band", "nothing"]),
    orders=st.sampled_from([("AB",), ("BA",), ("AB", "BA")]), samples=st.integers(1, 9), allow_tie=st.booleans(),
    tie_band=st.none() | number, label=st.none() | letter, rubrics=st.lists(rubric, max_size=2).map(tuple),
    criteria=st.lists(criterion, max_size=2).map(tuple), calls=st.lists(pair_call, max_size=2).map(tuple),
    media_settings=media, error=text,
)  # fmt: skip
candidate = st.builds(
    CandidateScore, st.integers(0, 9), text, st.none() | number, st.none() | number, rubric_scores, number,
    st.lists(point_call, max_size=2).map(tuple),
)  # fmt: skip
point_judgment = st.builds(
    PointJudgment, text, text, st.sampled_from(["rubric", "p-yes"]), st.lists(candidate, max_size=2).map(tuple), model,
    decoding, text, ranking=st.lists(st.integers(0, 9), max_size=3).map(tuple), best=st.none() | st.integers(0, 9),
    coverage=number, label=st.none() | st.integers(0, 3) | st.just("tie"), media_settings=media, error=text,
)  # fmt: skip

MODEL, DECODING = ModelInfo("scripted"), Decoding(0.0, 1.0, 0)


@settings(max_examples=60, deadline=None)
@given(judgment | point_judgment)
def test_json_round_trip_is_exact(one):
    line = one.to_json()
    assert type(one).from_json(line) == one
    assert read_judgment(line) == one
    assert line.isascii()
    assert "\n" not in line
    assert type(one).from_json(line).to_json() == line


def test_numbers_keep_their_last_digit():
    one = Judgment("s", "pairwise", "A", MODEL, DECODING, "0", confidence=0.1 + 0.2, margin=1e-300)
    assert Judgment.from_json(one.to_json()).confidence == 0.1 + 0.2
    assert Judgment.from_json(one.to_json()).margin == 1e-300


def good() -> dict:
    record = CallRecord(0, 1, "h", "t", "n", "", "[[A]]", "stop", 8)
    return Judgment("s", "pairwise", "A", MODEL, DECODING, "0", calls=(PairCall("AB", record, "A", "A"),)).to_dict()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(surprise=1), "surprise"),
        (lambda d: d.pop("model"), "model"),
        (lambda d: d.update(verdict="C"), "verdict"),
        (lambda d: d.update(confidence="0.5"), "confidence"),
        (lambda d: d.update(confidence=True), "confidence"),
        (lambda d: d.update(samples=1.5), "samples"),
        (lambda d: d.update(samples=True), "samples"),
        (lambda d: d.update(kind="pointwise"), "pointwise"),
        (lambda d: d.update(calls={}), "calls"),
        (lambda d: d["calls"][0].update(order="CD"), r"calls\[0\].order"),
        (lambda d: d["calls"][0]["call"].pop("text"), "text"),
        (lambda d: d.update(order_verdicts=[["AB"]]), "order_verdicts"),
    ],
)
def test_anything_else_is_refused_with_its_place(change, says):
    data = good()
    change(data)
    with pytest.raises(SampleError, match=says):
        read_judgment(json.dumps(data)) if data.get("kind") == "pairwise" else Judgment.from_dict(data)


@pytest.mark.parametrize("line", ["", "{", "[]", "null", '{"kind": "listwise"}', "[" * 100_000])
def test_no_judgment_at_all(line):
    with pytest.raises(SampleError):
        read_judgment(line)


def test_infinite_numbers_never_reach_a_file():
    with pytest.raises(ValueError, match="JSON"):
        Judgment("s", "pairwise", "A", MODEL, DECODING, "0", margin=float("inf")).to_json()


def test_reasons_say_each_thing_once():
    record = CallRecord(0, 1, "h", "t", "n", "", "", "length", 8)
    failed = PairCall("AB", record, failure=ParseFailure("truncated", "no </think>"))
    one = Judgment("s", "pairwise", None, MODEL, DECODING, "0", calls=(failed, failed))
    assert one.reasons == ("truncated: no </think>",)
    assert not one.judged


def test_correct_needs_label_and_verdict():
    assert Judgment("s", "p", "A", MODEL, DECODING, "0", label="A").correct is True
    assert Judgment("s", "p", "tie", MODEL, DECODING, "0", label="A").correct is False
    assert Judgment("s", "p", None, MODEL, DECODING, "0", label="A").correct is None
    assert Judgment("s", "p", "A", MODEL, DECODING, "0").correct is None


def test_prompt_hash_sees_every_part():
    def hashed(*parts: Part, role="user", prefill="") -> str:
        return prompt_hash((Message(role, parts),), prefill)

    text_a = Part("text", "a")
    hashes = [
        hashed(text_a),
        hashed(Part("text", "b")),
        hashed(text_a, text_a),
        hashed(Part("text", "aa")),
        hashed(Part("image", "a")),
        hashed(Part("image", b"a")),
        hashed(Part("video", "a", {"fps": 1})),
        hashed(Part("video", "a", {"fps": 2})),
        hashed(Part("video", ("a", "b"))),
        hashed(Part("video", ("b", "a"))),
        hashed(text_a, role="system"),
        hashed(text_a, prefill="x"),
    ]
    assert len(set(hashes)) == len(hashes)
    assert hashed(text_a) == hashes[0]


def test_prompt_hash_of_media_in_memory_is_by_content():
    import numpy as np
    from PIL import Image

    def hashed(value) -> str:
        return prompt_hash((Message("user", (Part("image", value),)),), "")

    red, red_again, blue = (Image.new("RGB", (4, 4), colour) for colour in ("red", "red", "blue"))
    assert hashed(red) == hashed(red_again)
    assert len({hashed(red), hashed(blue), hashed(np.zeros((2, 8))), hashed(np.zeros((4, 4)))}) == 4
