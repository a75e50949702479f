"""Scoring candidates one by one, with scripted models: rubric scores, P(Yes), rankings, and failures that stay
failures."""

from __future__ import annotations

import math
import re

import pytest

from omnirm.backends.scripted import ScriptedBackend, prompt_text
from omnirm.errors import BackendError, CapabilityError, ConfigError
from omnirm.judge import Judge
from omnirm.judgment import PointJudgment
from omnirm.sample import Sample
from omnirm.types import Request

SECTION = re.compile(r"^# (\S+) response\n(.*?)(?=^# \1 )", re.MULTILINE | re.DOTALL)


def sample(*candidates: str, id: str = "s", **more) -> Sample:
    return Sample.from_dict({"id": id, "prompt": "q", "candidates": list(candidates), **more})


def response(request: Request) -> str:
    return SECTION.search(prompt_text(request))[2].strip()


def key(request: Request) -> str:
    return SECTION.search(prompt_text(request))[1]


def scorer(request: Request) -> str:
    """Gives the number that the response is; thinks where it is asked to."""
    number = response(request)
    if request.prefill.endswith("[["):
        return f"{number}]]"
    return (
        f"hm</think>\n<rubrics>1. Size: how large</rubrics>\n<evaluation>It is {number}.</evaluation>\n"
        f"Score {key(request)} 1: [[{number}]]\nTotal {key(request)}: [[{number}]]"
    )


def test_every_candidate_has_its_own_score():
    backend = ScriptedBackend(scorer)
    one = Judge(backend).score(sample("3", "9", "5.5"))
    assert [c.score for c in one.candidates] == [3.0, 9.0, 5.5]
    assert (one.ranking, one.best, one.coverage, one.judged) == ((1, 2, 0), 1, 1.0, True)
    assert one.candidates[1].calls[0].analysis == "It is 9."
    assert [(r.name, x) for r, x in one.candidates[0].scores] == [("Size", 3.0)]
    assert backend.batches == [3]
    assert PointJudgment.from_json(one.to_json()) == one


def test_media_are_scored_without_thinking_and_text_with():
    image = Sample.from_dict({"id": "i", "prompt": [{"type": "image", "image": "x.png"}], "candidates": ["7"]})
    text, media = Judge(ScriptedBackend(scorer)).score([sample("4"), image])
    assert (text.thinking, media.thinking) == (True, False)
    assert (text.candidates[0].score, media.candidates[0].score) == (4.0, 7.0)


def test_samples_are_averaged():
    numbers = iter(["4", "7", "7"])

    def answer(request: Request) -> str:
        return f"x</think>\nTotal {key(request)}: [[{next(numbers)}]]"

    one = Judge(ScriptedBackend(answer), samples=3).score(sample("x"))
    assert one.candidates[0].score == pytest.approx(6.0)
    assert one.candidates[0].spread == pytest.approx(math.sqrt(2))


def test_equal_scores_have_no_best():
    one = Judge(ScriptedBackend(scorer)).score(sample("5", "5"))
    assert (one.ranking, one.best) == ((0, 1), None)


def test_a_score_that_could_not_be_read_is_no_score():
    one = Judge(ScriptedBackend(scorer)).score(sample("3", "11", "-1", "ten"))
    assert [c.score for c in one.candidates] == [3.0, None, None, None]
    assert [c.calls[0].failure.reason for c in one.candidates[1:3]] == ["out_of_range", "out_of_range"]
    assert (one.ranking, one.best, one.coverage, one.judged) == ((0,), None, 0.25, False)


def test_one_bad_medium_loses_one_candidate():
    def answer(request: Request):
        return BackendError("media_error: a.wav: empty") if response(request) == "bad" else scorer(request)

    done = Judge(ScriptedBackend(answer)).score([sample("3", "bad"), sample("4", id="t")])
    assert [[c.score for c in one.candidates] for one in done] == [[3.0, None], [4.0]]
    assert done[0].reasons == ("media_error: a.wav: empty",)


def yes_backend(**more) -> ScriptedBackend:
    """Thinks a sentence, then says Yes with the probability that the response is."""

    def answer(request: Request):
        if request.track:
            return "Yes"
        return BackendError("media_error: x") if response(request) == "broken" else f"It is {response(request)}."

    def odds(request: Request, piece: str):
        p = float(response(request))
        return {"Yes": math.log(p * 0.9), "No": math.log((1 - p) * 0.9)}

    return ScriptedBackend(answer, logprobs=odds, **more)


def test_p_yes_reads_a_probability_and_generates_nothing_for_it():
    backend = yes_backend()
    one = Judge(backend).score(sample("0.9", "0.25"), method="p-yes")
    assert [c.score for c in one.candidates] == pytest.approx([0.9, 0.25])
    assert (one.best, one.method, one.format) == (0, "p-yes", "p-yes")
    assert backend.batches == [2, 2]  # all thoughts, then all questions
    assert [r.max_new_tokens for r in backend.requests[2:]] == [1, 1]
    call = one.candidates[0].calls[0]
    assert call.analysis == "It is 0.9."
    assert call.thought.prompt_sha256 != call.call.prompt_sha256
    assert PointJudgment.from_json(one.to_json()) == one


def test_p_yes_over_several_thoughts_is_a_mean():
    backend = yes_backend()
    one = Judge(backend, samples=3).score(sample("0.5"), method="p-yes")
    assert one.candidates[0].score == pytest.approx(0.5)
    assert len(one.candidates[0].calls) == 3
    assert len({request.seed for request in backend.requests[:3]}) == 3


def test_a_thought_that_failed_is_never_asked_about():
    backend = yes_backend()
    done = Judge(backend).score([sample("broken", "0.75"), sample("0.5", id="t")], method="p-yes")
    assert [[c.score for c in one.candidates] for one in done] == [[None, pytest.approx(0.75)], [pytest.approx(0.5)]]
    assert done[0].candidates[0].calls[0].failure.reason == "media_error"
    assert backend.batches == [3, 2]


def test_p_yes_cut_thought_is_truncated():
    one = Judge(yes_backend(), max_new_tokens=2).score(sample("0.5"), method="p-yes")
    assert one.candidates[0].calls[0].failure.reason == "truncated"
    assert not one.judged


def test_p_yes_needs_log_probabilities():
    with pytest.raises(CapabilityError, match="log-probabilities"):
        Judge(ScriptedBackend(["x"])).score(sample("1"), method="p-yes")
    silent = ScriptedBackend(lambda r: "Yes" if r.track else "fine", logprobs={"A": -1.0})
    one = Judge(silent).score(sample("1"), method="p-yes")
    assert (one.candidates[0].score, one.reasons) == (None, ("missing: no log-probabilities of Yes and No",))


def test_unknown_method():
    with pytest.raises(ConfigError, match="p-yes"):
        Judge(ScriptedBackend([])).score(sample("1"), method="stars")
