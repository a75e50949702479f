"""The judge: samples in, judgments out. It renders prompts, asks a backend once for all, parses, and joins the votes.

For callers, the service and training. It decides nothing by a model's name, opens no media and reads no clock: the
backend prepares media, `omnirm.scoring.aggregate` does the sums.

    judge = Judge(load_backend("nano"))
    judgment = judge.compare(sample)            # a pair, in both orders
    judgments = judge.compare(many_samples)     # one batch; a bad sample loses only itself
    scores = judge.score(sample)                # every candidate on its own
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, overload

import omnirm
from omnirm.asking import Answer, Plan, Question, ask, call_seed
from omnirm.backends.base import Backend
from omnirm.errors import CapabilityError, ConfigError, SampleError
from omnirm.judgment import Decoding, Judgment, ModelInfo, PointJudgment
from omnirm.points import Readings, candidate_scores, p_yes_questions, rank, read_probabilities, read_scores
from omnirm.prompts.formats import Rendered, get_format
from omnirm.reading import read_pair
from omnirm.sample import Sample
from omnirm.scoring.aggregate import Order, Vote, aggregate_pair, check_tie_band
from omnirm.types import Letter, Rubric

PAIR_FORMATS = ("pairwise-thinking", "pairwise")
METHODS: dict[str, str] = {"rubric": "pointwise", "p-yes": "p-yes"}  # method of scoring -> format
Method = Literal["rubric", "p-yes"]
_ORDERS: dict[Any, tuple[Order, ...]] = {
    2: ("AB", "BA"),
    "both": ("AB", "BA"),
    1: ("AB",),
    "AB": ("AB",),
    "BA": ("BA",),
}
_LABELS: dict[Any, Letter] = {0: "A", 1: "B", "tie": "tie"}


class Judge:
    """A generative reward model at work.

    Args:
        backend: answers requests (`omnirm.backends`).
        format: `pairwise-thinking`, `pairwise` (verdict alone), or `auto`: thinking for samples of text only, the
            verdict alone where media are in play.
        orders: 2 or "both" shows every pair in both orders; 1 or "AB" in its own, "BA" in the swapped one.
        samples: readings per order (pairs) or per candidate (scores), joined by majority or mean.
        temperature: None is 0 for one sample and 0.7 for several. With 0 several samples would be one and the same.
        top_p: nucleus of sampling, in (0, 1].
        seed: every call's own seed is derived from it, the sample's id, the order or candidate, and the index of the
            sample.
        tie_band: half width, in probability, of the band around 1/2 that counts as a tie, in [0, 0.5].
        allow_tie: offer the model a tie as an answer.
        max_new_tokens: instead of each format's own limit.
        rubrics: judge every sample under these instead of the sample's own; None keeps the sample's.
        pick: where there are several rubrics and the judge thinks, it chooses the one that should decide and judges by
            that alone, all in one answer; `criteria` of a call say which. As judges trained by GRPO are asked.

        own: where there are rubrics and the judge thinks, it adds one to three of its own to them. As judges trained by
            PaTaRM are asked, with a task's primary rubric given.

    Raises:
        ConfigError: a setting outside its range, or settings that contradict each other.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        format: str = "auto",
        orders: int | str = 2,
        samples: int = 1,
        temperature: float | None = None,
        top_p: float = 1.0,
        seed: int = 0,
        tie_band: float | None = None,
        allow_tie: bool = False,
        max_new_tokens: int | None = None,
        rubrics: Sequence[Rubric] | None = None,
        pick: bool = False,
        own: bool = False,
    ) -> None:
        if pick and own:
            raise ConfigError("pick judges by one rubric of a list, own by all of it and more: take one of them")
        if pick and format == "pairwise":
            raise ConfigError("pick: a rubric is chosen in thinking, and pairwise has none: take pairwise-thinking")
        if format != "auto" and format not in PAIR_FORMATS:
            raise ConfigError(f"format {format!r}: a judge of pairs knows auto, {', '.join(PAIR_FORMATS)}")
        if orders not in _ORDERS or isinstance(orders, bool):
            raise ConfigError(f"orders {orders!r}: give 2 (or both), 1, AB or BA")
        if samples < 1:
            raise ConfigError(f"samples {samples}: give at least 1")
        if temperature is None:
            temperature = 0.0 if samples == 1 else 0.7
        if not 0 <= temperature < math.inf:
            raise ConfigError(f"temperature {temperature}: give 0 or more")
        if temperature == 0 and samples > 1:
            raise ConfigError(
                f"{samples} samples at temperature 0 are {samples} times the same answer: raise one, lower the other"
            )
        if not 0 < top_p <= 1:
            raise ConfigError(f"top_p {top_p}: give more than 0 and at most 1")
        if max_new_tokens is not None and max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens {max_new_tokens}: give at least 1")
        check_tie_band(tie_band)
        if rubrics and not (all(0 <= one.weight < math.inf for one in rubrics) and any(one.weight for one in rubrics)):
            raise ConfigError("weights of rubrics: give each 0 or more, and at least one more than 0")
        self.backend, self.format, self.orders, self.samples = backend, format, _ORDERS[orders], samples
        self.tie_band, self.allow_tie = tie_band, allow_tie
        self.decoding = Decoding(float(temperature), float(top_p), seed, max_new_tokens)
        self.rubrics, self.pick, self.own = None if rubrics is None else tuple(rubrics), pick, own

    @overload
    def compare(self, sample: Sample) -> Judgment: ...
    @overload
    def compare(self, sample: Iterable[Sample]) -> list[Judgment]: ...
    def compare(self, sample: Sample | Iterable[Sample]) -> Judgment | list[Judgment]:
        """Judges pairs: one sample gives one judgment, many give a list in their order, asked for in one batch.

        What goes wrong with a medium or an answer is in the judgment (`verdict` None, `reasons`), never an exception.

        Raises:
            SampleError, CapabilityError: one sample alone that is no pair, or has a modality that the model cannot
                take. Among many samples that is the `error` of its judgment instead.
            BackendError: the backend as a whole failed.
        """
        many = [sample] if isinstance(sample, Sample) else list(sample)
        plans = self._plans(many, self._pair_questions, alone=isinstance(sample, Sample))
        answers = ask(self.backend, plans)
        judgments = [self._pair_judgment(*row) for row in zip(many, plans, answers, strict=True)]
        return judgments[0] if isinstance(sample, Sample) else judgments

    @overload
    def score(self, sample: Sample, method: Method = "rubric") -> PointJudgment: ...
    @overload
    def score(self, sample: Iterable[Sample], method: Method = "rubric") -> list[PointJudgment]: ...
    def score(
        self, sample: Sample | Iterable[Sample], method: Method = "rubric"
    ) -> PointJudgment | list[PointJudgment]:
        """Judges every candidate on its own, any number of them.

        Args:
            sample: one or many.
            method: `rubric`: a score under each rubric and a total, 0 to 10. `p-yes`: the judge evaluates the
                response, then the probability of "Yes" to whether it is good is read from one position, 0 to 1;
                nothing is generated for that.

        Raises:
            ConfigError: an unknown method.
            CapabilityError: as in `compare`; and `p-yes` with a backend that gives no log-probabilities.
            SampleError, BackendError: as in `compare`.
        """
        if method not in METHODS:
            raise ConfigError(f"method {method!r}: give one of {', '.join(METHODS)}")
        if method == "p-yes" and not self.backend.capabilities.logprobs:
            raise CapabilityError(
                f"p-yes needs log-probabilities, and {self.backend.name} gives none; use method rubric"
            )
        many = [sample] if isinstance(sample, Sample) else list(sample)

        def plan_one(one: Sample) -> list[Question]:
            return self._point_questions(one, method)

        plans = self._plans(many, plan_one, alone=isinstance(sample, Sample))
        answers = ask(self.backend, plans)
        readings = [read_scores(one) for one in answers] if method == "rubric" else self._probabilities(answers)
        judgments = [self._point_judgment(method, *row) for row in zip(many, plans, readings, strict=True)]
        return judgments[0] if isinstance(sample, Sample) else judgments

    def not_judged(self, sample_id: str, error: str, method: Method | None = None) -> Judgment | PointJudgment:
        """The record of a sample that never came to be, e.g. a line of a file that is no sample: no verdict, and
        why."""
        if method is None:
            return Judgment(
                sample_id=sample_id,
                format=self.format,
                verdict=None,
                orders=self.orders,
                allow_tie=self.allow_tie,
                tie_band=self.tie_band,
                error=error,
                **self._common(),
            )
        return PointJudgment(
            sample_id=sample_id, format=METHODS[method], method=method, candidates=(), error=error, **self._common()
        )

    def thinks_about(self, sample: Sample) -> bool:
        """Does the judge think before it answers? With `auto` about text only (prompt switching)."""
        return sample.modalities <= {"text"} if self.format == "auto" else self.format == "pairwise-thinking"

    def format_for(self, sample: Sample) -> str:
        """The pairwise format that a sample is judged in."""
        return PAIR_FORMATS[0 if self.thinks_about(sample) else 1]

    def rubrics_for(self, sample: Sample) -> tuple[Rubric, ...]:
        """The rubrics that a sample is judged under."""
        return sample.rubrics if self.rubrics is None else self.rubrics

    # -- asking

    def _plans(self, samples: list[Sample], plan_one: Callable[[Sample], list[Question]], *, alone: bool) -> list[Plan]:
        plans: list[Plan] = []
        for sample in samples:
            try:
                self._check_modalities(sample)
                plans.append(plan_one(sample))
            except (SampleError, CapabilityError) as e:
                if alone:
                    raise
                plans.append(e)
        return plans

    def _check_modalities(self, sample: Sample) -> None:
        if missing := sorted(sample.modalities - self.backend.capabilities.modalities):
            takes = ", ".join(sorted(self.backend.capabilities.modalities))
            raise CapabilityError(f"sample {sample.id}: {self.backend.name} takes {takes}, not {', '.join(missing)}")

    def _pair_questions(self, sample: Sample) -> list[Question]:
        if len(sample.candidates) != 2:
            raise SampleError(
                f"sample {sample.id}: compare takes two candidates and this has {len(sample.candidates)}; "
                "score() judges any number, each on its own"
            )
        questions = []
        for order in self.orders:
            shown = sample if order == "AB" else sample.swapped()
            rubrics = self.rubrics_for(sample)
            thinks = self.thinks_about(sample)
            rendered = get_format(self.format_for(sample)).render(
                shown,
                rubrics=rubrics,
                allow_tie=self.allow_tie,
                pick=self.pick and len(rubrics) > 1 and thinks,
                own=self.own and bool(rubrics) and thinks,
            )
            questions += [self._question(sample, rendered, k, order=order) for k in range(self.samples)]
        return questions

    def _point_questions(self, sample: Sample, method: Method) -> list[Question]:
        thinks, rubrics = self.thinks_about(sample), self.rubrics_for(sample)
        options = {"thinking": thinks, "own": self.own and bool(rubrics) and thinks} if method == "rubric" else {}
        questions = []
        for index in range(len(sample.candidates)):
            rendered = get_format(METHODS[method]).render(sample, candidate=index, rubrics=rubrics, **options)
            questions += [self._question(sample, rendered, k, candidate=index) for k in range(self.samples)]
        return questions

    def _probabilities(self, thoughts: list[list[Answer]]) -> list[Readings]:
        second = [p_yes_questions(one) for one in thoughts]
        answers = ask(self.backend, [questions for questions, _, _ in second])
        return [
            [*failed, *read_probabilities(kept, given)]
            for (_, kept, failed), given in zip(second, answers, strict=True)
        ]

    def _question(
        self, sample: Sample, rendered: Rendered, k: int, *, order: Order = "AB", candidate: int = 0
    ) -> Question:
        limits = {} if self.decoding.max_new_tokens is None else {"max_new_tokens": self.decoding.max_new_tokens}
        request = rendered.request(
            temperature=self.decoding.temperature,
            top_p=self.decoding.top_p,
            seed=call_seed(self.decoding.seed, sample.id, f"{order} {candidate}", k),
            **limits,
        )
        return Question(rendered, request, k, order, candidate)

    # -- judgments

    def _pair_judgment(self, sample: Sample, plan: Plan, answers: list[Answer]) -> Judgment:
        base = Judgment(
            sample_id=sample.id,
            format=self.format_for(sample),
            verdict=None,
            label=_LABELS.get(sample.label),
            rubrics=self.rubrics_for(sample),
            orders=self.orders,
            allow_tie=self.allow_tie,
            tie_band=self.tie_band,
            **self._common(),
        )
        if not isinstance(plan, list):
            return replace(base, error=str(plan))
        calls = tuple(
            read_pair(one.question.order, one.question.rendered, one.completion, one.record) for one in answers
        )
        votes = [Vote(call.order, call.verdict, call.margin) for call in calls if call.verdict is not None]
        joined = aggregate_pair(votes, asked=len(calls), orders=self.orders, tie_band=self.tie_band)
        with_criteria = [call for call in calls if call.criteria]
        agreeing = [call for call in with_criteria if call.verdict == joined.verdict]
        speaker = next(iter([*agreeing, *with_criteria]), None)
        return replace(
            base,
            verdict=joined.verdict,
            confidence=joined.confidence,
            probability_a=joined.probability_a,
            margin=joined.margin,
            position_consistent=joined.position_consistent,
            order_verdicts=joined.order_verdicts,
            votes=joined.votes,
            coverage=joined.coverage,
            decided_by=joined.decided_by,
            criteria=speaker.criteria if speaker else (),
            calls=calls,
        )

    def _point_judgment(self, method: Method, sample: Sample, plan: Plan, readings: Readings) -> PointJudgment:
        base = PointJudgment(
            sample_id=sample.id,
            format=METHODS[method],
            method=method,
            thinking=method == "p-yes" or self.thinks_about(sample),
            candidates=(),
            label=sample.label,
            rubrics=self.rubrics_for(sample),
            **self._common(),
        )
        if not isinstance(plan, list):
            return replace(base, error=str(plan))
        scored = candidate_scores(sample, readings)
        ranking, best = rank(scored)
        coverage = math.fsum(one.coverage for one in scored) / len(scored)
        return replace(base, candidates=scored, ranking=ranking, best=best, coverage=coverage)

    def _common(self) -> dict[str, Any]:
        settings = getattr(self.backend, "media_settings", {})
        return {
            "model": ModelInfo(self.backend.name, self.backend.revision),
            "decoding": self.decoding,
            "library_version": omnirm.__version__,
            "samples": self.samples,
            "media_settings": json.loads(json.dumps(settings)),  # as a file would give it back
        }
