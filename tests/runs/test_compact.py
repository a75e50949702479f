"""Completions survive their recorded form exactly, and it is small."""

from __future__ import annotations

import json
import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnirm.errors import SampleError
from omnirm.runs.compact import dump_completion, load_completion
from omnirm.types import Completion, TokenLogprob

TEXT = st.text(st.characters(), max_size=8)  # lone surrogates included
NUMBER = st.floats(allow_nan=False) | st.floats(width=32, allow_nan=False)
TOKEN = st.builds(TokenLogprob, TEXT, NUMBER, st.dictionaries(st.sampled_from(["A", "B", "tie"]) | TEXT, NUMBER))


def through(completion: Completion) -> Completion:
    return load_completion(json.loads(json.dumps(dump_completion(completion), allow_nan=False)))


@settings(max_examples=50)
@given(st.lists(TOKEN, max_size=5), TEXT, st.booleans())
def test_any_completion_comes_back_equal(tokens: list[TokenLogprob], text: str, joined: bool) -> None:
    if joined:  # pieces that make up the text, as most models give them
        text = "".join(token.text for token in tokens)
    completion = Completion(text, "length", 7, 3, tuple(tokens), computed_prompt_tokens=5)
    back = through(completion)
    assert back == completion
    assert back.computed_prompt_tokens == 5
    assert [list(token.top) for token in back.logprobs] == [list(token.top) for token in tokens]
    assert json.dumps(dump_completion(back)) == json.dumps(dump_completion(completion))


def test_no_number_and_minus_zero_survive() -> None:
    completion = Completion("a", "stop", logprobs=(TokenLogprob("a", -0.0, {"A": -math.inf, "B": math.nan}),))
    token = through(completion).logprobs[0]
    assert math.copysign(1, token.logprob) == -1
    assert token.top["A"] == -math.inf
    assert math.isnan(token.top["B"])


def test_an_error_is_not_kept() -> None:
    assert dump_completion(Completion("", "error", error="media_error: gone")) is None


def test_a_thousand_tokens_take_a_quarter_of_their_plain_form() -> None:
    def single(value: float) -> float:
        return struct.unpack("f", struct.pack("f", value))[0]

    tokens = tuple(
        TokenLogprob(" word", single(-1 / (i + 1)), {"A": single(-i / 7), "B": single(-i / 3)}) for i in range(1000)
    )
    completion = Completion(" word" * 1000, "stop", logprobs=tokens)
    plain = json.dumps([[one.text, one.logprob, dict(one.top)] for one in tokens])
    assert len(json.dumps(dump_completion(completion)["logprobs"])) < len(plain) / 4
    assert through(completion) == completion


GOOD = dump_completion(
    Completion("ab", "stop", logprobs=(TokenLogprob("a", -1.0, {"A": -2.0}), TokenLogprob("b", 0.0)))
)


@pytest.mark.parametrize(
    "change",
    [
        {"pieces": [1]},
        {"pieces": [3, -1]},
        {"pieces": [1, 1, 1]},
        {"pieces": []},
        {"pieces": ["a", 1]},
        {"pieces": None},
        {"keys": [["A"]]},
        {"keys": [["A", "B"], []]},
        {"which": [0]},
        {"which": [0, 7]},
        {"which": ["x", 0]},
        {"values": "f:AAAA"},
        {"values": "f:!"},
        {"values": "q:" + "A" * 32},
        {"values": 4},
    ],
)
def test_a_damaged_record_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(SampleError):
        load_completion({**GOOD, "logprobs": {**GOOD["logprobs"], **change}})


@pytest.mark.parametrize(
    "plain", [None, 3, [], {}, {"text": "a"}, {"text": 1, "finish_reason": "stop"}, {**GOOD, "x": 1}]
)
def test_what_is_no_completion_is_refused(plain: object) -> None:
    with pytest.raises(SampleError):
        load_completion(plain)
