"""What every face of omnirm does: load a judge, build or read samples, judge them one batch after the other, count.

For the CLI and the web app, which only ask and show. It prints nothing, reads no command line and knows no widget.
Heavy libraries are imported when a model is loaded, not before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from omnirm.errors import BackendError, OmnirmError, SampleError
from omnirm.types import Message, Modality, Part, Rubric

if TYPE_CHECKING:
    from omnirm.backends.base import Backend
    from omnirm.judge import Judge
    from omnirm.judgment import Judgment, PointJudgment
    from omnirm.preprocessing.types import Policy
    from omnirm.rubrics.trajectory import ScaledJudgment
    from omnirm.sample import Sample

Outcome = Literal["all", "some", "none"]


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which model, where it runs, and what it may read. None leaves a choice to the backend.

    media_roots: folders that media must lie in; empty allows any local file. isolate: decode in a worker process.
    """

    name: str = "nano"
    device: str | None = None
    dtype: str | None = None
    revision: str | None = None
    batch_size: int | None = None
    media_roots: tuple[Path, ...] = ()
    allow_remote: bool = False
    isolate: bool = False
    allow_pickle: bool = False
    allow_remote_code: bool = False


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """How to judge; see `omnirm.judge.Judge`. `rubrics` None keeps each sample's own."""

    format: str = "auto"
    orders: int | str = 2
    samples: int = 1
    temperature: float | None = None
    top_p: float = 1.0
    seed: int = 0
    allow_tie: bool = False
    tie_band: float | None = None
    max_new_tokens: int | None = None
    rubrics: tuple[Rubric, ...] | None = None
    pick: bool = False
    own: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """What a user typed or dropped in one place: media come first (images, videos, audios), then the text."""

    text: str | None = None
    images: tuple[Any, ...] = ()
    videos: tuple[Any, ...] = ()
    audios: tuple[Any, ...] = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """The content as parts; empty where nothing was given."""
        media: tuple[tuple[Modality, tuple[Any, ...]], ...] = (
            ("image", self.images),
            ("video", self.videos),
            ("audio", self.audios),
        )
        found = [Part(kind, value) for kind, values in media for value in values]
        return (*found, Part("text", self.text)) if self.text is not None else tuple(found)


@dataclass(frozen=True, slots=True)
class Row:
    """One sample of a file or stream, or why it is none (`error`). `where` is its id or place."""

    where: str
    sample: Sample | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """A row with its judgment."""

    row: Row
    judgment: Judgment | PointJudgment


@dataclass(slots=True)
class Tally:
    """Running counts of results. `consistent` and `right` are among `both_orders` and `labelled`."""

    total: int = 0
    judged: int = 0
    both_orders: int = 0
    consistent: int = 0
    labelled: int = 0
    right: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    def add(self, judgment: Judgment | PointJudgment | ScaledJudgment) -> None:
        """Counts one judgment."""
        self.total += 1
        self.judged += judgment.judged
        for reason in {reason.partition(":")[0] for reason in judgment.reasons}:
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if judgment.kind == "pairwise":
            self.both_orders += judgment.position_consistent is not None
            self.consistent += judgment.position_consistent is True
        if judgment.kind != "pointwise":
            self.labelled += judgment.label is not None
            self.right += judgment.correct is True

    @property
    def outcome(self) -> Outcome:
        """Were all samples judged, some, or none?"""
        return "none" if not self.judged else "all" if self.judged == self.total else "some"


def load_model(options: ModelOptions) -> Backend:
    """Loads a model.

    Raises:
        BackendError, MissingExtra: it cannot be loaded.
        ConfigError: it has no name that could be one.
        SampleError: a media root that is no folder.
    """
    from omnirm.backends.load import load_backend

    policy = media_policy(options)
    try:
        return load_backend(
            options.name,
            device=options.device,
            dtype=options.dtype,
            revision=options.revision,
            batch_size=options.batch_size,
            policy=policy,
            allow_pickle=options.allow_pickle or None,
            allow_remote_code=options.allow_remote_code or None,
        )
    except OmnirmError:
        raise
    except (OSError, RuntimeError) as e:  # what torch raises for a device that is not there, or no memory
        raise BackendError(f"{options.name}: {e}") from e


def media_policy(options: ModelOptions) -> Policy:
    """Which media may be opened. Raises `SampleError` for a media root that is no folder."""
    from omnirm.preprocessing.types import Policy

    for root in options.media_roots:
        if not root.is_dir():
            raise SampleError(f"media root {root}: no such folder")
    roots = tuple(root.resolve() for root in options.media_roots)
    return Policy(roots=roots, allow_remote=options.allow_remote, isolate=options.isolate)


def make_judge(backend: Backend, options: JudgeOptions) -> Judge:
    """A judge with these options. Raises `ConfigError` for impossible ones."""
    from omnirm.judge import Judge

    return Judge(
        backend,
        format=options.format,
        orders=options.orders,
        samples=options.samples,
        temperature=options.temperature,
        top_p=options.top_p,
        seed=options.seed,
        tie_band=options.tie_band,
        allow_tie=options.allow_tie,
        max_new_tokens=options.max_new_tokens,
        rubrics=options.rubrics,
        pick=options.pick,
        own=options.own,
    )


def build_sample(prompt: Content, candidates: Sequence[Content], *, id: str = "pair") -> Sample:
    """A sample from what a user gave.

    Raises:
        SampleError: a prompt or a candidate without any content.
    """
    from omnirm.sample import Candidate, Sample

    if not prompt.parts:
        raise SampleError("the prompt is empty: give its text, an image, a video or an audio")
    for name, candidate in zip("ABCDEFGHIJ", candidates, strict=False):
        if not candidate.parts:
            raise SampleError(f"candidate {name} is empty: give its text, an image, a video or an audio")
    return Sample(id, (Message("user", prompt.parts),), tuple(Candidate(one.parts) for one in candidates))


def read_rows(source: Path | IO[bytes], *, base: Path | None = None) -> Iterator[Row]:
    """The samples of a file (`.jsonl`, `.json`) or of a stream of JSON lines, one after the other.

    A wrong sample becomes a row with its error and loses nothing else; so does a second one of the same id. Relative
    media paths start from the file's folder, or from `base` for a stream.

    Raises:
        SampleError: the file as a whole is not of the documented form.
        OSError: it cannot be read.
    """
    from omnirm.sample import Sample
    from omnirm.strict_json import decode_utf8, documents, loads

    if isinstance(source, Path):
        if source.suffix.lower() not in (".json", ".jsonl", ".ndjson"):
            raise SampleError(f"{source}: sample files end in .jsonl or .json")
        stem, folder, found = source.stem, source.parent, documents(source)
    else:
        stem, folder = "stdin", base or Path()
        lines = (pair for pair in enumerate(source, start=1) if pair[1].strip())
        found = ((number, lambda raw=raw: loads(decode_utf8(raw))) for number, raw in lines)  # type: ignore[misc]
    seen: set[str] = set()
    for number, load in found:
        where = f"{stem}:{number}"
        try:
            sample = Sample.from_dict(load(), base=folder, default_id=where)
            if sample.id in seen:
                raise SampleError("an earlier sample has the same id; ids are unique in a file")
        except SampleError as e:
            yield Row(where, error=f"{where}: {e}")
            continue
        seen.add(sample.id)
        yield Row(sample.id, sample)


def judge_rows(
    judge: Judge, rows: Iterable[Row], *, method: Literal["rubric", "p-yes"] | None = None, at_once: int = 16
) -> Iterator[Result]:
    """Judges rows in batches of `at_once` samples; results come in the order of the rows.

    Args:
        judge: how to judge.
        rows: read as they are needed, so that a stream may be endless.
        method: score candidates one by one by this method; None compares pairs.
        at_once: samples for one call of the model.

    Raises:
        BackendError: the model failed as a whole. Results so far have been given.
    """
    rest = iter(rows)
    while batch := list(islice(rest, at_once)):
        good = [row.sample for row in batch if row.sample is not None]
        found: Iterator[Judgment | PointJudgment] = iter(
            judge.compare(good) if method is None else judge.score(good, method)
        )
        for row in batch:
            yield Result(row, next(found) if row.sample is not None else judge.not_judged(row.where, row.error, method))
