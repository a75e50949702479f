"""A running judgment as a page shows it: what is being done, how far it is, what it took so far, how long it may take.

Pure functions of a job's status. The box has one height, whatever is in it, so that nothing jumps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from omnirm.app.web import judgment_words as words
from omnirm.app.web.rendering import render

if TYPE_CHECKING:
    from omnirm.app.jobs.jobs import JobStatus

_STEPS = {
    "loading the model": "Loading the model",
    "planning rubrics": "Planning rubrics",
    "selecting rubrics": "Choosing among the rubrics",
    "judging": "Judging",
    "refining": "Revising the responses",
    "scoring": "Scoring the revisions",
}


def progress_html(status: JobStatus) -> str:
    """The box for a job as it stands; "" for one that is done, since its result is shown instead."""
    if status.state == "done":
        return ""
    if status.state == "failed":
        return message_html("This could not be judged.", status.error or "No reason is known.")
    if status.state == "cancelled":
        return render(
            "judge_notice.html", title="Cancelled.", text="Nothing was stored. Change what you like and judge again."
        )
    now = status.progress
    queued = status.state == "queued"
    share = None if queued or now.total <= 0 else min(1.0, now.done / now.total)
    return render(
        "judge_progress.html",
        title=_waiting(status.position) if queued else _STEPS.get(now.step, words.line(now.step, 80) or "Starting"),
        detail="" if queued else words.line(now.detail, 160),
        share=share,
        figures=() if queued else _figures(status),
        state=status.state,
    )


def message_html(title: str, text: str) -> str:
    """An error for people."""
    return render("judge_problem.html", title=title, text=words.line(text, 1000))


def time_left(seconds: float | None) -> str:
    """`about 40 s left`; "" where nobody knows."""
    if seconds is None or not seconds >= 0:
        return ""
    if seconds < 2:
        return "nearly done"
    if seconds < 90:
        return f"about {round(seconds / 5) * 5 if seconds > 10 else round(seconds)} s left"
    if seconds < 5400:
        return f"about {round(seconds / 60)} min left"
    return f"about {seconds / 3600:.1f} h left"


def _waiting(position: int | None) -> str:
    if not position:
        return "Next in line"
    return f"Waiting: {position} {'job' if position == 1 else 'jobs'} before yours"


def _figures(status: JobStatus) -> tuple[str, ...]:
    now = status.progress
    calls = f"{words.number(now.done)} of {words.number(now.total)} calls" if now.total else ""
    tokens = ""
    if now.prompt_tokens or now.completion_tokens:
        tokens = f"{words.number(now.prompt_tokens)} tokens read, {words.number(now.completion_tokens)} written"
    return tuple(one for one in (calls, tokens, time_left(now.eta_s)) if one)
