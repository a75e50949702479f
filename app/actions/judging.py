"""What can be done with a studio from a program: judge, follow jobs, vote blindly, read runs.

For the API of the web app and the MCP server, which only hand arguments in and results out; also usable as they are:

    with open_studio(StudioSettings(data=Path("omnirm-data"))) as studio:
        found = judge(studio, prompt="2 + 3?", a="5", b="6")

Each function takes the studio and typed arguments, each with a sentence about itself, and gives a dict of JSON values.
Media go in as `data:` URIs, as URLs where those are on, as references that an earlier answer named, or as files that
were uploaded; they come out as references (`ref`), never as paths. Votes are in `vote_actions.py`, runs in
`run_actions.py`, and all of them in `ACTIONS`.

All of them raise `ConfigError` or `SampleError` for what cannot be, `UploadRefused` for a medium that is not taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from omnirm.app.jobs.jobs import Cancelled
from omnirm.app.jobs.tasks import JudgeSetTask, JudgeTask
from omnirm.app.plain_values import medium_source, plain, sample_shown
from omnirm.app.runs.facts import reasons_of
from omnirm.app.scaling import PlannerName, ScalingOptions, check
from omnirm.app.service import Content, JudgeOptions, build_sample
from omnirm.app.studio import Studio  # not for types alone: the signatures are read when the app starts
from omnirm.errors import BackendError, ConfigError, SampleError
from omnirm.rubrics.trajectory import Strategy
from omnirm.sample import parse_rubrics
from omnirm.types import Rubric

if TYPE_CHECKING:
    from omnirm.app.jobs.jobs import JobStatus
    from omnirm.app.store.store import StoredJudgment

Medium = str | Path  # a data: URI, a URL, a reference; or the path of an upload
Files = Annotated[Sequence[Medium], "media that stand before the text"]
Rubrics = Annotated[
    Sequence[str | dict[str, Any]],
    'criteria, "Name: what it asks" or {"name": "...", "text": "...", "weight": 2}; none: the judge finds its own',
]
Model = Annotated[str, "one of the names that `models` gives; empty: the first of them"]
How = Annotated[
    Literal["plain", "single", "vote", "selected", "combined", "meta"],
    "plain judges once; the others plan rubrics and spend more compute, see the documentation of scaling",
]
Planned = Annotated[int, "with a strategy: how many rubrics to plan, 1 to 100"]
Planner = Annotated[PlannerName, "with a strategy: where rubrics come from"]
DisRM = Annotated[str, "with the strategy meta: the reward model, one that `models` gives"]
Format = Annotated[
    Literal["auto", "pairwise", "pairwise-thinking"], "auto thinks about text and gives the verdict alone on media"
]
Orders = Annotated[Literal[1, 2], "show the pair in one order or in both"]
Samples = Annotated[int, "readings in each order, 1 to 64"]
Temperature = Annotated[float | None, "of sampling; none: 0 for one reading, 0.7 for several"]
Seed = Annotated[int, "fixes every draw"]
AllowTie = Annotated[bool, "offer the model a tie as an answer"]
Title = Annotated[str, "what people see in lists; empty: the beginning of the prompt"]
SampleId = Annotated[str, "the id of the sample in the record"]
Full = Annotated[bool, "the whole record too: every call, word for word"]
Wait = Annotated[float, "seconds to wait; where that is not enough the job goes on, and `job` follows it"]
Job = Annotated[str, "id of a job"]

_MOST_CANDIDATES = 16
_MOST_MEDIA = 16  # in one prompt or response
_TITLE_LENGTH = 80


def models(studio: Studio) -> dict[str, Any]:
    """The models that can be chosen, the reward models for the strategy meta, and the limits for media."""
    settings = studio.settings
    return {
        "models": list(studio.models.names),
        "disrms": list(settings.disrms),
        "remote_media": settings.allow_remote,
        "limits": plain(settings.limits),
    }


def submit(
    studio: Studio,
    prompt: Annotated[str, "what was asked"] = "",
    a: Annotated[str, "the text of response A"] = "",
    b: Annotated[str, "the text of response B"] = "",
    prompt_files: Files = (),
    a_files: Files = (),
    b_files: Files = (),
    rubrics: Rubrics = (),
    model: Model = "",
    strategy: How = "plain",
    planned: Planned = 5,
    planner: Planner = "generated",
    disrm: DisRM = "",
    format: Format = "auto",
    orders: Orders = 2,
    samples: Samples = 1,
    temperature: Temperature = None,
    seed: Seed = 0,
    allow_tie: AllowTie = False,
    title: Title = "",
    sample_id: SampleId = "pair",
) -> dict[str, Any]:
    """Start judging which of two responses is better, and give the job's id at once; `job` follows it."""
    given = _rubrics(rubrics)
    judging, scaling = _options(
        given, strategy, planned, planner, disrm,
        format=format, orders=orders, samples=samples, temperature=temperature, seed=seed, allow_tie=allow_tie,
    )  # fmt: skip
    asked = _content(studio, prompt, prompt_files, "the prompt")
    pair = [_content(studio, a, a_files, "response A"), _content(studio, b, b_files, "response B")]
    sample = build_sample(asked, pair, id=sample_id or "pair")
    task = JudgeTask(
        sample=sample.to_dict(), mode="compare", model=_model(studio, model), judging=judging, scaling=scaling,
        title=title or _title(prompt),
    )  # fmt: skip
    return job(studio, studio.jobs.submit("judge", task.to_dict()))


def judge(studio: Studio, *, full: Full = False, wait_s: Wait = 300.0, **asked: Any) -> dict[str, Any]:
    """Judge which of two responses to a prompt is better and why: verdict, confidence, and each rubric's view.

    `asked` is what `submit` takes.
    """
    return _waited(studio, submit(studio, **asked)["job"], full, wait_s)


def submit_score(
    studio: Studio,
    prompt: Annotated[str, "what was asked"] = "",
    candidates: Annotated[Sequence[str], "the texts of the responses, 1 to 16"] = (),
    prompt_files: Files = (),
    candidate_files: Annotated[Sequence[Sequence[Medium]], "for each response, in order, its media"] = (),
    rubrics: Rubrics = (),
    model: Model = "",
    method: Annotated[
        Literal["rubric", "p-yes"], "scores from 0 to 10 by rubric, or the probability of Yes"
    ] = "rubric",
    samples: Samples = 1,
    temperature: Temperature = None,
    seed: Seed = 0,
    title: Title = "",
    sample_id: SampleId = "pair",
) -> dict[str, Any]:
    """Start scoring responses one by one, and give the job's id at once; `job` follows it."""
    count = max(len(candidates), len(candidate_files))
    if not 1 <= count <= _MOST_CANDIDATES:
        raise SampleError(f"{count} responses: give 1 to {_MOST_CANDIDATES}")
    given = _rubrics(rubrics)
    judging, _ = _options(given, "plain", samples=samples, temperature=temperature, seed=seed)
    asked = _content(studio, prompt, prompt_files, "the prompt")
    texts = [*candidates, *[""] * (count - len(candidates))]
    media = [*candidate_files, *[()] * (count - len(candidate_files))]
    responses = [
        _content(studio, text, files, f"response {number}")
        for number, (text, files) in enumerate(zip(texts, media, strict=True), start=1)
    ]
    sample = build_sample(asked, responses, id=sample_id or "pair")
    task = JudgeTask(
        sample=sample.to_dict(), mode="score", model=_model(studio, model), judging=judging, method=method,
        title=title or _title(prompt),
    )  # fmt: skip
    return job(studio, studio.jobs.submit("judge", task.to_dict()))


def score(studio: Studio, *, full: Full = False, wait_s: Wait = 300.0, **asked: Any) -> dict[str, Any]:
    """Score responses to a prompt one by one and rank them, best first.

    `asked` is what `submit_score` takes.
    """
    return _waited(studio, submit_score(studio, **asked)["job"], full, wait_s)


def judge_set(
    studio: Studio,
    set: Annotated[str, "id of a vote set, see `vote_sets`"],
    model: Model = "",
    strategy: How = "plain",
    planned: Planned = 5,
    planner: Planner = "generated",
    disrm: DisRM = "",
    format: Format = "auto",
    orders: Orders = 2,
    samples: Samples = 1,
    temperature: Temperature = None,
    seed: Seed = 0,
    allow_tie: AllowTie = False,
) -> dict[str, Any]:
    """Start judging every pair of a vote set, so that people and the judge can be compared; `job` follows it."""
    judging, scaling = _options(
        (), strategy, planned, planner, disrm,
        format=format, orders=orders, samples=samples, temperature=temperature, seed=seed, allow_tie=allow_tie,
    )  # fmt: skip
    if studio.store.vote_set(set) is None:
        raise ConfigError(f"vote set {set!r}: there is none; vote_sets lists them")
    task = JudgeSetTask(set, _model(studio, model), judging, scaling)
    return job(studio, studio.jobs.submit("judge-set", task.to_dict()))


def job(studio: Studio, job: Job) -> dict[str, Any]:
    """Where a job stands: queued (and how many are before it), running (step, counts, time left), or its end."""
    return _status(studio.jobs.status(job))


def cancel(studio: Studio, job: Job) -> dict[str, Any]:
    """Stop a job that waits or runs. What it has judged by then stays."""
    studio.jobs.status(job)  # an unknown id is an error, and no "nothing to cancel"
    cancelled = studio.jobs.cancel(job)
    return {"cancelled": cancelled, **_status(studio.jobs.status(job))}


def judgment(studio: Studio, judgment: Annotated[str, "id of a stored judgment"], full: Full = True) -> dict[str, Any]:
    """A stored judgment with its sample and the whole record."""
    found = studio.store.judgment(judgment)
    if found is None:
        raise ConfigError(f"judgment {judgment!r}: there is none of this id")
    return _judgment(studio, found, full)


def medium(studio: Studio, ref: Annotated[str, "a reference to a medium, as answers have it"]) -> dict[str, Any]:
    """The file behind a reference."""
    stored = studio.media.add(studio.media.path(ref))
    return {"ref": ref, "kind": stored.kind, "bytes": stored.bytes, "path": str(stored.path)}


def outcome(studio: Studio, job: str, *, full: bool = False) -> dict[str, Any]:
    """What came of a judge job: its judgment, or where it stands while it is not over.

    Raises:
        BackendError: it failed; the message says why.
        Cancelled: somebody cancelled it.
    """
    status = studio.jobs.status(job)
    if status.state == "failed":
        raise BackendError(status.error or "the job failed")
    if status.state == "cancelled":
        raise Cancelled(f"job {job} was cancelled")
    answer = _status(status)
    if status.state == "done" and status.result.get("judgment"):
        answer |= judgment(studio, status.result["judgment"], full)
    return answer


def _waited(studio: Studio, job: str, full: bool, wait_s: float) -> dict[str, Any]:
    studio.jobs.wait(job, timeout=wait_s)
    return outcome(studio, job, full=full)


def _status(status: JobStatus) -> dict[str, Any]:
    return {
        "job": status.id,
        "state": status.state,
        "position": status.position,
        "progress": plain(status.progress),
        "error": status.error,
        "result": plain(status.result),
    }


def _judgment(studio: Studio, found: StoredJudgment, full: bool) -> dict[str, Any]:
    record = plain(found.record)
    answer: dict[str, Any] = {
        "judgment": found.id,
        "created": found.created.isoformat(),
        "kind": found.kind,
        "title": found.title,
        "model": found.model,
        "strategy": found.strategy,
        "verdict": found.verdict,
        "confidence": found.confidence,
        "label": found.label,
        "modalities": list(found.modalities),
        "sample": sample_shown(found.sample, studio.media.folder),
        "views": _views(record),
        "reasons": list(reasons_of(record)),
    }
    if found.kind == "pointwise":
        answer |= {"best": record.get("best"), "ranking": record.get("ranking")}
    return answer | {"record": record} if full else answer


def _views(record: dict[str, Any]) -> list[dict[str, Any]]:
    """What each rubric (of a scaled judgment, each trajectory; of scores, each response) says, without the calls."""
    if record.get("kind") == "scaled":
        return [
            {
                "rubrics": [rubric["name"] for rubric in one["rubrics"]],
                "verdict": one["judgment"]["verdict"],
                "confidence": one["judgment"]["confidence"],
                "criteria": one["judgment"]["criteria"],
                "meta_rewards": one["meta_rewards"],
            }
            for one in record["trajectories"]
        ]
    if record.get("kind") == "pointwise":
        return [{key: one[key] for key in ("index", "score", "spread", "scores")} for one in record["candidates"]]
    return list(record.get("criteria", ()))


def _options(
    given: tuple[Rubric, ...],
    strategy: How,
    planned: int = 5,
    planner: PlannerName = "generated",
    disrm: str = "",
    **judging: Any,
) -> tuple[JudgeOptions, ScalingOptions | None]:
    if not 1 <= judging["samples"] <= 64:
        raise ConfigError(f"samples {judging['samples']}: give 1 to 64")
    if not 1 <= planned <= 100:
        raise ConfigError(f"planned {planned}: give 1 to 100 rubrics")
    if strategy == "plain":
        return JudgeOptions(**judging, rubrics=given or None), None
    asked: Strategy = strategy
    scaling = ScalingOptions(strategy=asked, rubrics=planned, planner=planner, given=given, disrm=disrm or None)
    options = JudgeOptions(**judging)
    check(scaling, options)
    return options, scaling


def _content(studio: Studio, text: str, files: Sequence[Medium], where: str) -> Content:
    """The text and media of one place, the media taken into the store."""
    if len(files) > _MOST_MEDIA:
        raise SampleError(f"{where}: {len(files)} media, at most {_MOST_MEDIA}")
    media: dict[str, list[str]] = {"image": [], "video": [], "audio": []}
    for file in files:
        stored = studio.media.add(medium_source(studio, file))
        media[stored.kind].append(str(stored.path))
    return Content(text or None, tuple(media["image"]), tuple(media["video"]), tuple(media["audio"]))


def _rubrics(values: Sequence[str | dict[str, Any]]) -> tuple[Rubric, ...]:
    """Rubrics as `Name: what it asks` or as objects. Raises `SampleError`."""
    read = []
    for value in values:
        if isinstance(value, str):
            name, _, text = value.partition(":")
            value = {"name": name.strip(), "text": text.strip()}
        read.append(value)
    return parse_rubrics(read)


def _model(studio: Studio, name: str) -> str:
    names = studio.models.names
    if name and name not in names:
        raise ConfigError(f"model {name!r}: not offered here; there are {', '.join(names)}")
    return name or _first(names)


def _first(names: Sequence[str]) -> str:
    return names[0] if names else ""


def _title(prompt: str) -> str:
    line = " ".join(prompt.split())
    return line if len(line) <= _TITLE_LENGTH else line[: _TITLE_LENGTH - 1] + "…"
