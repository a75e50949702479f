"""The scripted backend behaves like a model where a pipeline can tell the difference."""

from __future__ import annotations

import math

import pytest

from omnirm.backends.base import Backend
from omnirm.backends.scripted import ScriptedBackend, log_odds, named, say, split_pieces
from omnirm.errors import BackendError, ConfigError
from omnirm.types import Completion, Message, Part, Request


def request(text: str = "hello", **changes) -> Request:
    return Request((Message("user", (Part("text", text),)),), **changes)


def test_it_is_a_backend():
    assert isinstance(ScriptedBackend(["x"]), Backend)


def test_a_list_answers_in_order_and_ends_clearly():
    backend = ScriptedBackend(["one", "two"])
    assert [c.text for c in backend.generate([request(), request()])] == ["one", "two"]
    assert [c.finish_reason for c in ScriptedBackend(["one"]).generate([request()])] == ["stop"]
    with pytest.raises(BackendError, match="2 answers"):
        backend.generate([request()])


def test_a_callable_sees_the_request():
    backend = ScriptedBackend(lambda r: r.messages[0].parts[0].value.upper())
    assert [c.text for c in backend.generate([request("a"), request("b")])] == ["A", "B"]
    assert backend.batches == [2]
    assert len(backend.requests) == 2


def test_a_completion_is_passed_through():
    made = Completion("x", "length", 3, 4)
    assert ScriptedBackend([made]).generate([request()]) == [made]


def test_one_injected_error_loses_nothing_else():
    backend = ScriptedBackend(["good", BackendError("media_error: a.png: empty"), "good"])
    done = backend.generate([request()] * 3)
    assert [c.finish_reason for c in done] == ["stop", "error", "stop"]
    assert done[1].error == "media_error: a.png: empty"


def test_a_raised_backend_error_is_a_failed_request_and_a_bug_is_a_bug():
    def answer(r: Request) -> str:
        raise BackendError("overloaded")

    assert ScriptedBackend(answer).generate([request()])[0].finish_reason == "error"
    with pytest.raises(ZeroDivisionError):
        ScriptedBackend(lambda r: str(1 / 0)).generate([request()])


def test_answers_longer_than_allowed_are_cut_like_a_models():
    done = ScriptedBackend(["one two three"]).generate([request(max_new_tokens=3)])[0]
    assert (done.text, done.finish_reason, done.completion_tokens) == ("one two", "length", 3)


def test_log_probabilities_of_tracked_strings():
    backend = ScriptedBackend(["A]]"], logprobs=log_odds(0.8))
    done = backend.generate([request(track=("A", "B"))])[0]
    assert [t.text for t in done.logprobs] == ["A", "]]"]
    assert done.logprobs[0].logprob == pytest.approx(math.log(0.8))
    assert done.logprobs[0].top == pytest.approx({"A": math.log(0.8), "B": math.log(0.2)})
    assert backend.capabilities.logprobs


def test_nothing_tracked_nothing_told():
    assert ScriptedBackend(["A]]"], logprobs=log_odds(0.8)).generate([request()])[0].logprobs == ()
    assert ScriptedBackend(["A]]"]).generate([request(track=("A", "B"))])[0].logprobs == ()


def test_log_probabilities_that_depend_on_the_request():
    backend = ScriptedBackend(lambda r: "A]]", logprobs=lambda r, piece: log_odds(0.9 if "x" in r.prefill else 0.1))
    first, second = backend.generate([request(prefill="x", track=("A",)), request(track=("A",))])
    assert first.logprobs[0].top["A"] > second.logprobs[0].top["A"]


def test_pieces_spell_the_text():
    text = "Verdict ba-be: [[A]]\n\n  ünï 中文 ]]"
    assert "".join(split_pieces(text)) == text
    assert "A" in split_pieces(text)


def test_a_string_is_no_script():
    with pytest.raises(ConfigError, match="list"):
        ScriptedBackend("A]]")


def test_ready_made_judges():
    short = request(prefill="Verdict ka-bu: [[")
    assert say("B")(short) == "B]]"
    thinking = say("A")(request("# ka-bu prompt\nx", prefill="<think>"))
    assert thinking.endswith("</think>\nVerdict ka-bu: [[A]]")
    drawn = {named("random").generate([request(prefill="[[", seed=seed)])[0].text for seed in range(20)}
    assert drawn == {"A]]", "B]]"}
    with pytest.raises(ConfigError, match="always-a"):
        named("nonsense")
