"""What a judge found, with all that is needed to audit it: `Judgment` of a pair, `PointJudgment` of single candidates.

For callers, reports and files. Frozen, JSON-ready and free of clocks and paths of the machine beyond the sample's own
references: the same sample, model and settings give the same record. It knows nothing about how a verdict is reached.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Literal

from omnirm.errors import SampleError
from omnirm.records import from_plain, to_plain
from omnirm.scoring.aggregate import DecidedBy, Order
from omnirm.types import CriterionAnalysis, Letter, Message, ParseFailure, Rubric


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The model that answered. `revision` is "" where the backend does not know it."""

    name: str
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How completions were drawn. `max_new_tokens` None: each format's own limit (each call has the number used)."""

    temperature: float
    top_p: float
    seed: int
    max_new_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class CallRecord:
    """What was asked of the model in one call and what it answered, word for word.

    prompt_sha256: of the rendered messages and the prefill (`prompt_hash`); template_hash: of the format's fixed text.
    text: the completion as it came, without `prefill`; untrusted.
    computed_prompt_tokens: those of `prompt_tokens` that were computed for this call (see `Completion`): what calls
        share counts once. It depends on what was asked together and does not count when records are compared.
    least_prompt_tokens: the least of them that had to be computed, alike.
    """

    sample_index: int
    seed: int
    prompt_sha256: str
    template_hash: str
    nonce: str
    prefill: str
    text: str
    finish_reason: str
    max_new_tokens: int
    prompt_tokens: int = 0
    completion_tokens: int = 0
    computed_prompt_tokens: int = field(default=0, compare=False)
    least_prompt_tokens: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class PairCall:
    """One reading of a pair. Exactly one of `verdict` and `failure` is set.

    shown_letter: the verdict as the model wrote it; verdict, margin, criteria: turned into the sample's own order.
    margin: log p(A) - log p(B) of the verdict token in nats, None where the backend gave no log-probabilities.
    """

    order: Order
    call: CallRecord
    shown_letter: Letter | None = None
    verdict: Letter | None = None
    margin: float | None = None
    criteria: tuple[CriterionAnalysis, ...] = ()
    failure: ParseFailure | None = None


@dataclass(frozen=True, slots=True)
class PointCall:
    """One reading of one candidate. Exactly one of `score` and `failure` is set.

    scores: under each rubric; analysis: what the judge wrote about the candidate.
    thought: with `p-yes` the first turn, which wrote the analysis; `call` is then the question behind it.
    """

    call: CallRecord
    score: float | None = None
    scores: tuple[tuple[Rubric, float], ...] = ()
    analysis: str = ""
    failure: ParseFailure | None = None
    thought: CallRecord | None = None


@dataclass(frozen=True, slots=True)
class Judgment:
    """The judgment of a pair, in the sample's own order (first candidate = A).

    verdict: `A`, `B`, `tie`, or None when nothing could be read (see `reasons`).
    probability_a, confidence, margin, position_consistent, order_verdicts, votes, coverage, decided_by: see
        `omnirm.scoring.aggregate.PairAggregate`.
    rubrics: those that were given; criteria: what the judge wrote under each rubric, from the first call that agrees
        with the verdict (each call's own are in `calls`).
    label: the sample's label as a letter, where it has one.
    error: why the sample was never shown to the model ("" when it was).
    """

    sample_id: str
    format: str
    verdict: Letter | None
    model: ModelInfo
    decoding: Decoding
    library_version: str
    confidence: float | None = None
    probability_a: float | None = None
    margin: float | None = None
    position_consistent: bool | None = None
    order_verdicts: tuple[tuple[Order, Letter | None], ...] = ()
    votes: tuple[tuple[Letter, int], ...] = ()
    coverage: float = 0.0
    decided_by: DecidedBy = "nothing"
    orders: tuple[Order, ...] = ("AB", "BA")
    samples: int = 1
    allow_tie: bool = False
    tie_band: float | None = None
    label: Letter | None = None
    rubrics: tuple[Rubric, ...] = ()
    criteria: tuple[CriterionAnalysis, ...] = ()
    calls: tuple[PairCall, ...] = ()
    media_settings: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    kind: Literal["pairwise"] = "pairwise"

    @property
    def judged(self) -> bool:
        """Is there a verdict?"""
        return self.verdict is not None

    @property
    def correct(self) -> bool | None:
        """Does the verdict equal the label? None without a label or without a verdict."""
        return None if self.label is None or self.verdict is None else self.verdict == self.label

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why calls gave no verdict, e.g. `truncated: no </think>`; every reason once."""
        return _reasons(self.error, [one.failure for one in self.calls])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return to_plain(self)

    def to_json(self) -> str:
        """One line of ASCII JSON; `from_json` gives back an equal judgment."""
        return _dump(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Judgment:
        """Raises `SampleError` for anything that `to_dict` does not give."""
        return from_plain(cls, data)

    @classmethod
    def from_json(cls, text: str | bytes) -> Judgment:
        """Raises `SampleError` for anything that `to_json` does not give."""
        return from_plain(cls, _load(text))


@dataclass(frozen=True, slots=True)
class CandidateScore:
    """One candidate judged on its own.

    score: mean over the samples that could be read, in the scale of the method; None when none could.
    spread: their standard deviation; scores: mean under each rubric; coverage: readable / asked.
    """

    index: int
    name: str = ""
    score: float | None = None
    spread: float | None = None
    scores: tuple[tuple[Rubric, float], ...] = ()
    coverage: float = 0.0
    calls: tuple[PointCall, ...] = ()


@dataclass(frozen=True, slots=True)
class PointJudgment:
    """The judgment of candidates one by one.

    method: `rubric` (scores 0 to 10) or `p-yes` (probability of "Yes", 0 to 1).
    thinking: did the judge think before it answered?
    ranking: indices of the scored candidates, best first; equal scores stay in the sample's order.
    best: index of the candidate with the highest score; None when the first place is shared, nothing could be read,
        or a candidate without a score might be better.
    label: index of the preferred candidate, or `tie`, where the sample has a label.
    """

    sample_id: str
    format: str
    method: Literal["rubric", "p-yes"]
    candidates: tuple[CandidateScore, ...]
    model: ModelInfo
    decoding: Decoding
    library_version: str
    ranking: tuple[int, ...] = ()
    best: int | None = None
    coverage: float = 0.0
    samples: int = 1
    thinking: bool = True
    label: int | Literal["tie"] | None = None
    rubrics: tuple[Rubric, ...] = ()
    media_settings: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    kind: Literal["pointwise"] = "pointwise"

    @property
    def judged(self) -> bool:
        """Has every candidate a score?"""
        return bool(self.candidates) and all(one.score is not None for one in self.candidates)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why calls gave no score; every reason once."""
        return _reasons(self.error, [one.failure for candidate in self.candidates for one in candidate.calls])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return to_plain(self)

    def to_json(self) -> str:
        """One line of ASCII JSON; `from_json` gives back an equal judgment."""
        return _dump(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PointJudgment:
        """Raises `SampleError` for anything that `to_dict` does not give."""
        return from_plain(cls, data)

    @classmethod
    def from_json(cls, text: str | bytes) -> PointJudgment:
        """Raises `SampleError` for anything that `to_json` does not give."""
        return from_plain(cls, _load(text))


def read_judgment(text: str | bytes) -> Judgment | PointJudgment:
    """A line of JSON of either kind.

    Raises:
        SampleError: not a judgment.
    """
    data = _load(text)
    kind = data.get("kind") if isinstance(data, dict) else None
    if kind == "pairwise":
        return Judgment.from_dict(data)
    if kind == "pointwise":
        return PointJudgment.from_dict(data)
    raise SampleError(f"judgment: kind {kind!r} is neither 'pairwise' nor 'pointwise'")


def prompt_hash(messages: tuple[Message, ...], prefill: str) -> str:
    """SHA-256 (hex) of what was rendered: roles, part types, texts, media references, options, prefill.

    A medium given as a reference counts by the reference, one given as bytes, PIL image, array or tensor by its
    content.
    """
    digest = hashlib.sha256()
    for message in messages:
        _feed(digest, "role", message.role)
        for part in message.parts:
            _feed(digest, part.type, json.dumps(to_plain(part.options), sort_keys=True, default=str))
            _feed(digest, "value", part.value)
    _feed(digest, "prefill", prefill)
    return digest.hexdigest()


def _feed(digest: Any, name: str, value: Any) -> None:
    if isinstance(value, list | tuple):  # the frames of a video
        digest.update(f"{name} list {len(value)}\n".encode())
        for one in value:
            _feed(digest, name, one)
        return
    if isinstance(value, str | PathLike):
        data = str(value).encode("utf-8", "surrogatepass")
    elif isinstance(value, bytes | bytearray):
        name, data = f"{name} bytes", bytes(value)
    else:
        if hasattr(value, "detach"):  # a torch tensor
            value = value.detach().cpu().numpy()
        shape = getattr(value, "shape", None) or getattr(value, "size", "")
        kind = getattr(value, "mode", None) or getattr(value, "dtype", "")
        content = value.tobytes() if hasattr(value, "tobytes") else repr(value).encode("utf-8", "surrogatepass")
        data = f"{type(value).__name__} {shape} {kind} ".encode() + content
    digest.update(f"{name} {len(data)}\n".encode() + data)


def _reasons(error: str, failures: list[ParseFailure | None]) -> tuple[str, ...]:
    texts = [error] if error else []
    texts += [f"{f.reason}: {f.detail}" if f.detail else f.reason for f in failures if f is not None]
    return tuple(dict.fromkeys(texts))


def _dump(judgment: Judgment | PointJudgment) -> str:
    return json.dumps(to_plain(judgment), allow_nan=False)


def _load(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as e:
        raise SampleError(f"judgment: not JSON ({e})") from e
