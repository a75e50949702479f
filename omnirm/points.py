"""Candidates judged one by one: scores from answers, the second turn of P(Yes), means, a ranking. For the judge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from omnirm.asking import Answer, Plan, Question
from omnirm.judgment import CallRecord, CandidateScore, PointCall
from omnirm.prompts.formats import get_format
from omnirm.reading import backend_failure, read_p_yes, read_point, without_text
from omnirm.sample import Sample
from omnirm.scoring.aggregate import aggregate_scores
from omnirm.types import ParseFailure, Rubric

Readings = list[tuple[int, PointCall]]  # (index of the candidate, one reading of it)


def read_scores(answers: Sequence[Answer]) -> Readings:
    """Readings of the pointwise format."""
    return [(one.question.candidate, read_point(one.question.rendered, one.completion, one.record)) for one in answers]


def p_yes_questions(answers: Sequence[Answer]) -> tuple[Plan, list[Answer], Readings]:
    """The second turn for every thought that came out well.

    Returns:
        The questions, the thoughts they belong to (same length), and the readings that ended here as failures.
    """
    form = get_format("p-yes")
    questions: list[Question] = []
    thoughts: list[Answer] = []
    failed: Readings = []
    for one in answers:
        rendered, request = one.question.rendered, one.question.request
        thought: str | ParseFailure | None = backend_failure(one.completion)
        if thought is None:
            thought = form.parse(rendered, rendered.prefill + one.completion.text, one.completion.finish_reason)
        if isinstance(thought, ParseFailure):
            failed.append((one.question.candidate, PointCall(one.record, failure=without_text(thought))))
            continue
        second = form.render_question(rendered, thought)
        questions.append(replace(one.question, rendered=second, request=second.request(seed=request.seed)))
        thoughts.append(one)
    return questions, thoughts, failed


def read_probabilities(thoughts: Sequence[Answer], answers: Sequence[Answer]) -> Readings:
    """Readings of P(Yes): the answers to the second turn, each with its thought."""
    readings: Readings = []
    for thought, answer in zip(thoughts, answers, strict=True):
        call = read_p_yes(answer.completion, answer.record)
        readings.append(
            (answer.question.candidate, replace(call, analysis=thought.completion.text.strip(), thought=thought.record))
        )
    return readings


def candidate_scores(sample: Sample, readings: Readings) -> tuple[CandidateScore, ...]:
    """One score a candidate: means over the readings that succeeded."""
    calls: list[list[PointCall]] = [[] for _ in sample.candidates]
    for index, call in sorted(readings, key=lambda one: (one[0], _record(one[1]).sample_index)):
        calls[index].append(call)
    return tuple(_score(i, candidate.name, tuple(calls[i])) for i, candidate in enumerate(sample.candidates))


def rank(scored: Sequence[CandidateScore]) -> tuple[tuple[int, ...], int | None]:
    """Indices of the scored candidates, best first (equal scores in the sample's order), and the one and only best.

    There is no best where the first place is shared, or where a candidate without a score might be better.
    """
    scores = {one.index: one.score for one in scored if one.score is not None}
    ranking = tuple(sorted(scores, key=lambda i: -scores[i]))
    alone = len(ranking) == 1 or (len(ranking) > 1 and scores[ranking[0]] > scores[ranking[1]])
    return ranking, ranking[0] if alone and len(ranking) == len(scored) else None


def _record(call: PointCall) -> CallRecord:
    return call.thought or call.call


def _score(index: int, name: str, calls: tuple[PointCall, ...]) -> CandidateScore:
    joined = aggregate_scores([call.score for call in calls if call.score is not None], asked=len(calls))
    per_rubric: dict[Rubric, list[float]] = {}
    for call in calls:
        for rubric, score in call.scores:
            per_rubric.setdefault(rubric, []).append(score)
    means = tuple((rubric, math.fsum(scores) / len(scores)) for rubric, scores in per_rubric.items())
    return CandidateScore(index, name, joined.mean, joined.spread, means, joined.coverage, calls)
