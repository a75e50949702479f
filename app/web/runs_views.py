"""The Runs tab as HTML: the list of runs, a run's figures, its rows, one row, two runs compared, jobs.

Pure functions: values in, HTML out; the templates escape whatever a file, a model or a person wrote. Buttons carry what
they stand for in `data-` attributes, which the tab's handlers check again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from omnirm.app.runs.facts import texts_of
from omnirm.app.runs.statistics import Comparison, Difference, RunSummary
from omnirm.app.runs.values import IN_APP, Page, RunInfo, RunRow
from omnirm.app.web.media_view import candidate_html, prompt_html, safe_text
from omnirm.app.web.rendering import render
from omnirm.app.web.runs_words import ago, chance, duration, interval, number, points, says

if TYPE_CHECKING:
    from omnirm.app.jobs.jobs import JobStatus

PAGE = 50
INTRO = Markup('<p class="o-muted o-runs-intro">What was judged here and on the command line.</p>')
_SNIPPET = 110
_STATES = {"running": "being written now", "broken off": "may have broken off", "at rest": ""}
_JOB_STATES = {
    "queued": ("Waiting", ""), "running": ("Running", "a"), "done": ("Done", "good"), "failed": ("Failed", "bad"),
    "cancelled": ("Cancelled", ""),
}  # fmt: skip
_JOB_KINDS = {"judge": "Judge one sample", "judge-set": "Judge a set of pairs"}


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure at the head of a run."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A row as the list shows it.

    mark: `right`, `wrong`, `unread` or "". shows: has it anything to make small pictures of? pictures: their files.
    """

    row: RunRow
    name: str
    snippet: str
    mark: str
    shows: bool = False
    pictures: tuple[str, ...] = ()


def runs_html(runs: Sequence[RunInfo], *, now: datetime | None = None) -> str:
    """The list of runs."""
    moment = now or datetime.now(UTC)
    lines = [(one, ago(one.written, moment), _STATES[one.state]) for one in runs]
    empty = not any(one.rows or one.rows is None or one.id != IN_APP for one in runs)
    return render("runs_list.html", lines=lines, empty=empty, interval=interval, number=number)


def run_html(info: RunInfo, summary: RunSummary, *, now: datetime | None = None) -> str:
    """The head of an opened run: name, figures, problems, settings."""
    facts = [("Model", info.model), ("Strategy", info.strategy)]
    facts += [(key, value) for key, value in info.versions.items()]
    return render(
        "runs_head.html", info=info, tiles=_tiles(summary), facts=[one for one in facts if one[1]],
        settings=json.dumps(info.settings, indent=2, ensure_ascii=False) if info.settings else "",
        written=ago(info.written, now or datetime.now(UTC)), state=_STATES[info.state],
        reasons=summary.reasons[:5], groups=summary.by_modality, interval=interval, number=number,
    )  # fmt: skip


def rows_html(page: Page, selected: int | None = None, pictures: Sequence[tuple[str, ...]] | None = None) -> str:
    """The rows of a page as a list of buttons.

    Args:
        page: of the filtered rows.
        selected: a position among them.
        pictures: files of small pictures of each row; None where they are still to come, which keeps room for them.
    """
    lines = [line(row, () if pictures is None else pictures[i]) for i, row in enumerate(page.rows)]
    pages = max(1, ceil(page.total / PAGE))
    return render(
        "runs_rows.html", lines=lines, selected=selected, total=page.total, number=number, first=page.offset + 1,
        page=page.offset // PAGE, pages=pages,
    )  # fmt: skip


def row_html(
    run_id: str, row: RunRow, total: int, sample: Mapping[str, Any] | None, judgment: str, *, problem: str = ""
) -> str:
    """One row: where it stands, what was judged, then the judgment (HTML of `judgment_html`)."""
    return render(
        "runs_row.html", run_id=run_id, line=line(row), row=row, total=total, judgment=Markup(judgment), number=number,
        problems=[one for one in (row.problem, problem) if one], in_app=bool(row.permalink), sample=sample_html(sample),
    )  # fmt: skip


def sample_html(sample: Mapping[str, Any] | None) -> Markup:
    """Prompt and candidates with their media; "" for None."""
    if sample is None:
        return Markup()
    candidates = [Markup(candidate_html(one)) for one in sample["candidates"]]
    return render(
        "runs_sample.html", prompt=Markup(prompt_html(sample["prompt"])), letters=ascii_uppercase,
        candidates=candidates,
    )  # fmt: skip


def comparison_html(a: RunInfo, b: RunInfo, found: Comparison) -> str:
    """Two runs in figures."""
    return render(
        "runs_compared.html", a=a.title, b=b.title, found=found, number=number, interval=interval,
        says=says(found), difference=points(found.difference), chance=chance(found.p_value),
    )  # fmt: skip


def differing_html(found: Sequence[Difference], page: int, selected: str = "") -> str:
    """Samples with different verdicts, as a list of buttons."""
    pages = max(1, ceil(len(found) / PAGE))
    page = min(max(page, 0), pages - 1)
    shown = found[page * PAGE : (page + 1) * PAGE]
    return render(
        "runs_differing.html", shown=shown, total=len(found), page=page, pages=pages, number=number, selected=selected
    )


def beside_html(
    a: tuple[RunInfo, RunRow, str], b: tuple[RunInfo, RunRow, str], sample: Mapping[str, Any] | None
) -> str:
    """A sample with the judgments (HTML) of two runs beside each other."""
    sides = [
        (which, info.title, line(row), Markup(html))
        for which, (info, row, html) in zip(("First", "Second"), (a, b), strict=True)
    ]
    return render(
        "runs_beside.html", sides=sides, sample_id=a[1].sample_id, label=a[1].label or b[1].label,
        sample=sample_html(sample),
    )  # fmt: skip


def jobs_html(
    jobs: Sequence[JobStatus], titles: Mapping[str, str] | None = None, *, now: datetime | None = None
) -> str:
    """Running, waiting and recent jobs, those that are not over first; `titles`: what jobs are called, by id."""
    moment = now or datetime.now(UTC)
    known = sorted(jobs, key=_first_to_end)
    shown = [
        (one, *_JOB_STATES[one.state], _JOB_KINDS.get(one.kind, one.kind), _job_line(one, titles or {}, moment))
        for one in known
    ]
    return render("runs_jobs.html", jobs=shown)


def empty_html(title: str, text: str = "") -> str:
    """A place where nothing is yet."""
    return render("runs_empty.html", title=title, text=text)


def error_html(text: str) -> str:
    """What went wrong, in a box."""
    return render("runs_error.html", text=text)


def caption_html(title: str, text: str) -> str:
    """The title of a chart and what it says, in words."""
    return render("runs_caption.html", title=title, text=text)


def line(row: RunRow, pictures: Sequence[str] = ()) -> Line:
    """A row as lists show it."""
    texts = texts_of({"prompt": row.sample.get("prompt")}) if row.sample else ()
    snippet = " ".join(" ".join(texts).split())
    mark = "unread" if row.verdict is None else {True: "right", False: "wrong", None: ""}[row.correct]
    shows = any(kind in row.modalities for kind in ("image", "video"))
    return Line(row, row.title or row.sample_id, safe_text(_cut(snippet, _SNIPPET)), mark, shows, tuple(pictures))


def _tiles(summary: RunSummary) -> list[Tile]:
    labelled = f"of {number(summary.labelled)} with a label" if summary.labelled else "no labels to compare with"
    read = summary.accuracy_read
    tiles = [
        Tile("Judgments", number(summary.rows), f"{number(summary.judged)} with a verdict"),
        Tile("Right", interval(summary.accuracy), labelled + (f"; {interval(read)} of those read" if read and
             summary.accuracy and read.of < summary.accuracy.of else "")),
        Tile("Coverage", interval(summary.coverage), "verdicts that could be read"),
        Tile("Orders agree", interval(summary.consistency), "same verdict whichever stands first"),
        Tile("Tokens", number(summary.prompt_tokens + summary.completion_tokens), f"in {number(summary.calls)} calls"),
    ]  # fmt: skip
    return tiles


def _job_line(job: JobStatus, titles: Mapping[str, str], now: datetime) -> Mapping[str, Any]:
    progress = job.progress
    part = progress.done / progress.total if progress.total else None
    said = [progress.step, progress.detail] if job.state == "running" else []
    if job.state == "running" and progress.total:
        said.append(f"{progress.done} of {progress.total}")
    if job.state == "running" and progress.eta_s is not None:
        said.append(f"about {duration(progress.eta_s)} left")
    if job.state == "queued" and job.position is not None:
        said.append("next in line" if job.position == 0 else f"{job.position} before it")
    if job.started is not None and job.finished is not None:
        said.append(f"took {duration((job.finished - job.started).total_seconds())}")
    judgment = job.result.get("judgment")
    return {
        "part": part, "said": " · ".join(one for one in said if one), "when": ago(job.created, now),
        "title": titles.get(job.id, ""), "judgment": judgment if isinstance(judgment, str) else "", "error": job.error,
    }  # fmt: skip


def _first_to_end(job: JobStatus) -> tuple[bool, float, float]:
    """Running, then waiting in their order, then the others, the newest first."""
    if job.over:
        return True, 0.0, -job.created.timestamp()
    return False, -1.0 if job.position is None else job.position, job.created.timestamp()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
