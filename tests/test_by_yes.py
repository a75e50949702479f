"""Verdicts by P(Yes): means over thoughts by hand, failures that are no verdicts, and the token's own probability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from omnirm.backends.base import Capabilities
from omnirm.by_yes import compare_by_yes
from omnirm.errors import CapabilityError, ConfigError
from omnirm.judgment import read_judgment
from omnirm.sample import Sample
from omnirm.types import Completion, Request, TokenLogprob

PAIR = Sample.from_dict({"id": "p", "prompt": "Name a fruit.", "candidates": ["apple", "stone"], "label": 0})


class Judging:
    """Says Yes to the k-th thought on a response with the k-th of the numbers behind that response's word; a thought
    with a text for a number fails that way. No always has 0.01."""

    name, revision = "judging", ""

    def __init__(self, logprobs: bool = True, **numbers: Sequence[Any]) -> None:
        self.capabilities = Capabilities(frozenset({"text"}), logprobs=logprobs, context=1000)
        self.numbers = numbers
        self.asked: list[Request] = []
        self.drawn: dict[str, int] = {}

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        return [self.answer(request) for request in requests]

    def answer(self, request: Request) -> Completion:
        self.asked.append(request)
        shown = "".join(part.value for part in request.messages[1].parts)
        word = next(word for word in self.numbers if word in shown)
        if not request.track:
            k = self.drawn[word] = self.drawn.get(word, -1) + 1
            number = self.numbers[word][k]
            if isinstance(number, str):
                return Completion("" if number == "missing" else "So", "length" if number == "truncated" else "stop")
            return Completion(f"Thought {k}", "stop")
        k = int(request.messages[2].parts[0].value.split()[1])
        p = self.numbers[word][k]
        top = {"Yes": math.log(p) if p else -math.inf, "No": math.log(0.01)}
        return Completion("No", "length", logprobs=(TokenLogprob("No", math.log(0.01), top),))


def test_the_verdict_is_that_of_mean_probabilities() -> None:
    # means 0.3 and 0.25, P(A > B) = 0.3 / 0.55; the mean of log p would say B, and Yes against No would be near 1
    (found,) = compare_by_yes(Judging(apple=[0.55, 0.05], stone=[0.25, 0.25]), [PAIR], 2)
    assert found.verdict == "A"
    assert found.probability_a == pytest.approx(0.3 / 0.55)
    assert found.confidence == pytest.approx(0.3 / 0.55)
    assert found.margin == pytest.approx(math.log(0.3 / 0.25))
    assert (found.coverage, found.decided_by, found.correct, found.calls) == (1.0, "margin", True, ())
    assert read_judgment(found.to_json()) == found


def test_exchanging_the_candidates_exchanges_the_verdict() -> None:
    numbers = {"apple": [0.1, 0.3], "stone": [0.2, 0.5]}
    one, other = (
        compare_by_yes(Judging(**numbers), [PAIR], 2)[0],
        compare_by_yes(Judging(**numbers), [PAIR.swapped()], 2)[0],
    )
    assert (one.verdict, other.verdict) == ("B", "A")
    assert one.margin == pytest.approx(-other.margin)
    assert one.correct is other.correct is False


def test_thoughts_that_fail_are_left_out_and_no_thought_is_no_verdict() -> None:
    (found,) = compare_by_yes(Judging(apple=[0.2, "truncated", "missing"], stone=[0.1, 0.1, 0.6]), [PAIR], 3)
    assert found.verdict == "B"
    assert found.probability_a == pytest.approx(0.2 / (0.2 + 0.8 / 3))
    assert found.coverage == pytest.approx(4 / 6)
    assert {one.failure.reason for one in found.calls if one.failure} == {"truncated", "missing"}
    (none,) = compare_by_yes(Judging(apple=["truncated"], stone=[0.1]), [PAIR], 1)
    assert (none.verdict, none.probability_a, none.margin, none.correct) == (None, None, None, None)
    assert none.reasons


def test_equal_means_are_a_tie() -> None:
    (found,) = compare_by_yes(Judging(apple=[0.25], stone=[0.25]), [PAIR], 1)
    assert (found.verdict, found.probability_a, found.decided_by) == ("tie", 0.5, "nothing")
    (nothing,) = compare_by_yes(Judging(apple=[0.0], stone=[0.0]), [PAIR], 1)
    assert nothing.verdict == "tie"
    (certain,) = compare_by_yes(Judging(apple=[0.5], stone=[0.0]), [PAIR], 1)
    assert certain.verdict == "A"
    assert math.isfinite(certain.margin or math.inf)


def test_thoughts_are_sampled_with_seeds_of_their_own() -> None:
    backend = Judging(apple=[0.1] * 3, stone=[0.1] * 3)
    compare_by_yes(backend, [PAIR], 3, max_new_tokens=77)
    thoughts = [one for one in backend.asked if not one.track]
    assert len({one.seed for one in thoughts}) == 6
    assert {(one.temperature, one.top_p, one.max_new_tokens) for one in thoughts} == {(1.0, 1.0, 77)}


def test_what_is_no_pair_is_an_error_of_its_own_judgment() -> None:
    three = Sample.from_dict({"id": "three", "prompt": "x", "candidates": ["apple", "stone", "bone"]})
    image = Sample.from_dict(
        {"id": "i", "prompt": [{"type": "image", "image": "/x.png"}], "candidates": ["apple", "stone"]}
    )
    one, other, good = compare_by_yes(Judging(apple=[0.2], stone=[0.1]), [three, image, PAIR], 1)
    assert "three" in one.error
    assert "image" in other.error
    assert (one.verdict, other.verdict, good.verdict) == (None, None, "A")
    assert one.coverage == 0


def test_wrong_calls_are_errors() -> None:
    for n, temperature in ((0, 1.0), (2, 0.0), (1, -1.0)):
        with pytest.raises(ConfigError):
            compare_by_yes(Judging(), [PAIR], n, temperature=temperature)
    with pytest.raises(CapabilityError, match="log-probabilities"):
        compare_by_yes(Judging(logprobs=False), [PAIR])
