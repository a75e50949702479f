"""Pairs judged by P(Yes): n thoughts on each response, and the response with the larger mean P("Yes") is the better.

For judges trained by DWRL, whose `P(A > B) = mean p_A / (mean p_A + mean p_B)` this is, with p the probability of the
token "Yes" among all tokens, as in training. `Judge.score(..., method="p-yes")` weighs Yes against No alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import omnirm
from omnirm.asking import Answer, Plan, Question, ask, call_seed
from omnirm.backends.base import Backend
from omnirm.errors import CapabilityError, ConfigError, OmnirmError, SampleError
from omnirm.judgment import Decoding, Judgment, ModelInfo, PairCall
from omnirm.points import Readings, p_yes_questions
from omnirm.prompts.formats import get_format
from omnirm.reading import backend_failure
from omnirm.sample import Sample
from omnirm.scoring.aggregate import MAX_MARGIN, sigmoid
from omnirm.types import Letter, ParseFailure

_LABELS: dict[object, Letter] = {0: "A", 1: "B", "tie": "tie"}


def compare_by_yes(
    backend: Backend,
    samples: Iterable[Sample],
    n: int = 4,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    max_new_tokens: int | None = None,
) -> list[Judgment]:
    """Judges pairs. Each response is judged on its own, so there is no order to be biased by.

    Args:
        backend: gives log-probabilities.
        samples: pairs; another sample gets a judgment with an `error`.
        n: thoughts on each response.
        temperature: of the thoughts; training has 1. With 0 one thought is all there is: n must be 1.
        seed: every thought's own seed is derived from it.
        max_new_tokens: of a thought; None is the format's 1000.

    Returns:
        In order. `margin` is log mean p_A - log mean p_B, `probability_a` its sigmoid, `coverage` the share of thoughts
        that could be used. A response without one leaves the verdict None. `calls` has the thoughts that failed.

    Raises:
        ConfigError: n or the temperature out of range.
        CapabilityError: the backend gives no log-probabilities.
        BackendError: it failed as a whole.
    """
    if n < 1 or not 0 <= temperature < math.inf or (n > 1 and temperature == 0):
        raise ConfigError(f"n = {n} at temperature {temperature}: give at least 1 thought, and above 0 for several")
    if not backend.capabilities.logprobs:
        raise CapabilityError(f"P(Yes) needs log-probabilities, and {backend.name} gives none")
    many = list(samples)
    decoding = Decoding(float(temperature), 1.0, seed, max_new_tokens)
    plans = [_planned(backend, sample, n, decoding) for sample in many]
    thoughts = [p_yes_questions(answers) for answers in ask(backend, plans)]
    answers = ask(backend, [questions for questions, _, _ in thoughts])
    return [
        _judgment(backend, sample, plan, failed, given, n, decoding)
        for sample, plan, (_, _, failed), given in zip(many, plans, thoughts, answers, strict=True)
    ]


def _planned(backend: Backend, sample: Sample, n: int, decoding: Decoding) -> Plan:
    try:
        if len(sample.candidates) != 2:
            raise SampleError(f"sample {sample.id}: a pair has two candidates and this has {len(sample.candidates)}")
        if missing := sorted(sample.modalities - backend.capabilities.modalities):
            raise CapabilityError(f"sample {sample.id}: {backend.name} takes no {', '.join(missing)}")
        rendered = [get_format("p-yes").render(sample, candidate=c, rubrics=sample.rubrics) for c in (0, 1)]
    except OmnirmError as error:
        return error
    limit = {} if decoding.max_new_tokens is None else {"max_new_tokens": decoding.max_new_tokens}
    questions = []
    for c, one in enumerate(rendered):
        for k in range(n):
            own = call_seed(decoding.seed, sample.id, f"yes {c}", k)
            request = one.request(temperature=decoding.temperature, seed=own, **limit)
            questions.append(Question(one, request, k, candidate=c))
    return questions


def _judgment(
    backend: Backend, sample: Sample, plan: Plan, failed: Readings, given: Sequence[Answer], n: int, decoding: Decoding
) -> Judgment:
    base = Judgment(
        sample_id=sample.id,
        format="p-yes",
        verdict=None,
        model=ModelInfo(backend.name, backend.revision),
        decoding=decoding,
        library_version=omnirm.__version__,
        orders=("AB",),
        samples=n,
        label=_LABELS.get(sample.label),
        rubrics=sample.rubrics,
        error="" if isinstance(plan, list) else str(plan),
    )
    calls = [PairCall("AB", one.call, failure=one.failure) for _, one in failed]
    logp: tuple[list[float], list[float]] = ([], [])
    for answer in given:
        failure = backend_failure(answer.completion)
        found = answer.completion.logprobs[0].top.get("Yes") if answer.completion.logprobs else None
        if failure is None and (found is None or math.isnan(found)):
            failure = ParseFailure("missing", "no log-probability of Yes")
        if failure is None and found is not None:
            logp[answer.question.candidate].append(found)
        else:
            calls.append(PairCall("AB", answer.record, failure=failure))
    base = replace(base, calls=tuple(calls), coverage=(len(logp[0]) + len(logp[1])) / (2 * n))
    if not logp[0] or not logp[1]:
        return base
    margin = _log_mean(logp[0]) - _log_mean(logp[1])
    if math.isnan(margin):  # both 0
        margin = 0.0
    margin = max(-MAX_MARGIN, min(MAX_MARGIN, margin))
    probability = sigmoid(margin)
    return replace(
        base,
        verdict="A" if margin > 0 else "B" if margin < 0 else "tie",
        probability_a=probability,
        confidence=max(probability, 1 - probability),
        margin=margin,
        decided_by="margin" if margin else "nothing",
    )


def _log_mean(logs: Sequence[float]) -> float:
    """log of the mean of exp(x)."""
    top = max(logs)
    return top if top == -math.inf else top + math.log(math.fsum(math.exp(x - top) for x in logs) / len(logs))


__all__ = ["compare_by_yes"]
