"""From a completion to one reading: parsed by its format, with its log-probabilities, in the sample's own order.

For the judge. A completion that failed, whether in the backend, in a medium or in parsing, becomes a `ParseFailure`
here and never a vote or a score.
"""

from __future__ import annotations

import math
from dataclasses import replace

from omnirm.judgment import CallRecord, PairCall, PointCall
from omnirm.prompts.formats import Rendered, get_format
from omnirm.scoring.aggregate import Order, original_letter, original_margin, sigmoid
from omnirm.scoring.token_margin import pair_margin, verdict_margin
from omnirm.types import Completion, CriterionAnalysis, PairVerdict, ParseFailure, PointScore

MEDIA_ERROR = "media_error"


def read_pair(order: Order, rendered: Rendered, completion: Completion, record: CallRecord) -> PairCall:
    """One reading of a pair shown in `order`."""
    verdict = backend_failure(completion)
    if verdict is None:
        text = rendered.prefill + completion.text
        verdict = get_format(rendered.format).parse(rendered, text, completion.finish_reason)
    if not isinstance(verdict, PairVerdict):
        return PairCall(order, record, failure=without_text(verdict))
    criteria = verdict.criteria if order == "AB" else tuple(_turned(one) for one in verdict.criteria)
    return PairCall(
        order=order,
        call=record,
        shown_letter=verdict.letter,
        verdict=original_letter(verdict.letter, order),
        margin=original_margin(_margin(rendered, completion, verdict), order),
        criteria=criteria,
    )


def backend_failure(completion: Completion) -> ParseFailure | None:
    """The failure of a completion that the backend could not make: `media_error` or `backend_error`; None for any
    other."""
    if completion.finish_reason != "error":
        return None
    reason, _, detail = completion.error.partition(":")
    if reason.strip() == MEDIA_ERROR:
        return ParseFailure(MEDIA_ERROR, detail.strip())
    return ParseFailure("backend_error", completion.error)


def _margin(rendered: Rendered, completion: Completion, verdict: PairVerdict) -> float | None:
    if verdict.span is None or not completion.logprobs:
        return None
    start, end = (at - len(rendered.prefill) for at in verdict.span)
    return verdict_margin(completion.logprobs, completion.text, start, end)


def _turned(one: CriterionAnalysis) -> CriterionAnalysis:
    return replace(
        one,
        analysis_a=one.analysis_b,
        analysis_b=one.analysis_a,
        score_a=one.score_b,
        score_b=one.score_a,
        verdict=None if one.verdict is None else original_letter(one.verdict, "BA"),
    )


def read_point(rendered: Rendered, completion: Completion, record: CallRecord) -> PointCall:
    """One reading of one candidate: rubric scores and a total, 0 to 10."""
    parsed = backend_failure(completion)
    if parsed is None:
        text = rendered.prefill + completion.text
        parsed = get_format(rendered.format).parse(rendered, text, completion.finish_reason)
    if not isinstance(parsed, PointScore):
        return PointCall(record, failure=without_text(parsed))
    return PointCall(record, parsed.total, parsed.scores, parsed.analysis or parsed.thinking)


def read_p_yes(completion: Completion, record: CallRecord) -> PointCall:
    """One reading of one candidate: P(Yes) from the log-probabilities of the first token, 0 to 1."""
    failure = backend_failure(completion)
    if failure is not None:
        return PointCall(record, failure=failure)
    margin = pair_margin(completion.logprobs[0], "Yes", "No") if completion.logprobs else None
    if margin is None or math.isnan(margin):
        return PointCall(record, failure=ParseFailure("missing", "no log-probabilities of Yes and No"))
    return PointCall(record, sigmoid(margin))


def without_text(failure: ParseFailure) -> ParseFailure:
    """The failure without the answer's text, which the record of the call has anyway."""
    return replace(failure, text="")
