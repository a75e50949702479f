"""Below the pairs of the Vote tab: how people agree, the votes as training data, and the judge let loose on the set.

Three panels that work on one vote set. What they show comes from `vote_views`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from omnirm.app.jobs.tasks import JudgeSetTask
from omnirm.app.scaling import ScalingOptions
from omnirm.app.web import vote_views as views
from omnirm.errors import OmnirmError

if TYPE_CHECKING:
    from omnirm.app.jobs.jobs import JobStatus
    from omnirm.app.studio import Studio
    from omnirm.app.votes.export import Ties

Updates = dict[Any, Any]

_WAYS = (("One verdict for each pair", "single"), ("Rubric by rubric (slower, says why)", "rubrics"))
_TIES = (("Leave them out", "drop"), ("Keep them", "keep"))
_RUBRICS = 4
_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
_PRESS_DOWNLOAD = """() => setTimeout(() => {
  const found = document.querySelector("#vote-download");
  if (found && !found.disabled) found.click();
}, 400)"""


class VoteTools:
    """The three panels. The page remembers `set_id`, the set that is open, and `job`, which judges it."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.set_id, self.job = gr.State(""), gr.State("")
        with gr.Accordion("Agreement", open=False, elem_id="vote-agreement") as self.agreement_panel:
            self.agreement = gr.HTML()
            self.count = gr.Button("Count again", elem_id="vote-count", size="sm")
        with gr.Accordion("Export the votes", open=False, elem_id="vote-export"):
            gr.HTML(views.export_help_html())
            with gr.Row():
                self.ties = gr.Radio(list(_TIES), value="drop", label="Pairs without a winner")
                self.least = gr.Number(1, label="Fewest votes for a pair", minimum=1, precision=0)
            self.export = gr.Button("Export votes", elem_id="vote-export-button")
            self.exported = gr.HTML()
            self.download = gr.DownloadButton("Download the votes", visible=False, elem_id="vote-download")
        with gr.Accordion("Let the judge judge this set", open=False, elem_id="vote-judge"):
            with gr.Row():
                names = studio.models.names
                self.model = gr.Dropdown(list(names), value=names[0], label="Model", filterable=False)
                self.way = gr.Radio(list(_WAYS), value="single", label="How")
            with gr.Row():
                self.judge = gr.Button("Let the judge judge this set", elem_id="vote-judge-button")
                self.cancel = gr.Button("Stop", visible=False, elem_id="vote-judge-stop", variant="stop")
            self.judging = gr.HTML(elem_id="vote-judging")
        self._wire()

    def _wire(self) -> None:
        for event in (self.agreement_panel.expand, self.count.click):
            event(self.agreed, [self.set_id], self.agreement, **_QUIET)
        exported = self.export.click(
            self.write, [self.set_id, self.ties, self.least], [self.exported, self.download], **_QUIET
        )
        exported.then(None, None, None, js=_PRESS_DOWNLOAD, **_QUIET)
        asked = self.judge.click(
            self.ask_judge, [self.set_id, self.model, self.way], [self.job, *self.watched], **_QUIET
        )
        self.follow(asked)
        self.cancel.click(self.stop_judge, [self.job], self.judging, **_QUIET)

    @property
    def opened(self) -> list[Any]:
        """What `open` changes."""
        return [self.set_id, self.job, self.agreement, self.exported, self.download]

    @property
    def watched(self) -> list[Any]:
        """What changes while the judge is at work."""
        return [self.judging, self.judge, self.cancel]

    def open(self, set_id: str) -> Updates:
        """The panels for another set; follow up with `follow`."""
        return {
            self.set_id: set_id,
            self.job: self._running_job(set_id),
            self.agreement: self.agreed(set_id),
            self.exported: "",
            self.download: gr.update(visible=False),
        }

    def follow(self, event: Any) -> None:
        """Shows the progress of the judge after an event that may have set `job`."""
        event.then(self.watch, [self.job], self.watched, concurrency_limit=None, **_QUIET)

    def agreed(self, set_id: str) -> str:
        """How people agree with each other and with the judge."""
        try:
            return views.agreement_html(self.studio.votes.agreement(set_id)) if set_id else ""
        except OmnirmError as error:
            return views.notice_html(str(error), bad=True)

    def write(self, set_id: str, ties: Ties, least: float | None) -> Updates:
        """Writes the votes to a file that can be downloaded; it is swept away with Gradio's other files."""
        folder = Path(self.download.GRADIO_CACHE) / "votes" / secrets.token_hex(16)
        folder.mkdir(parents=True)
        file = folder / "votes.jsonl"
        try:
            report = self.studio.votes.export(set_id, file, ties=ties, min_votes=int(least or 1))
        except OmnirmError as error:
            hidden = gr.update(visible=False)
            return {self.exported: views.notice_html(str(error), bad=True), self.download: hidden}
        self.download.temp_files.add(str(file))
        found = gr.update(value=str(file), visible=True, label=f"Download {report.count} labelled pairs")
        return {self.exported: views.exported_html(report), self.download: found}

    def ask_judge(self, set_id: str, model: str, way: str) -> Updates:
        """Starts the judge on this set, unless it is at it already."""
        scaling = ScalingOptions(strategy="vote", rubrics=_RUBRICS) if way == "rubrics" else None
        try:
            task = JudgeSetTask(set_id, model, scaling=scaling)
            job = self._running_job(set_id) or self.studio.jobs.submit("judge-set", task.to_dict())
        except OmnirmError as error:
            return {self.judging: views.judging_html(state="failed", detail=str(error))}
        return {self.job: job, **self._judging(self.studio.jobs.status(job))}

    def watch(self, job: str) -> Iterator[Updates]:
        """Follows the judge until it is done."""
        if not job:
            yield {self.judging: "", self.judge: _on(True), self.cancel: gr.update(visible=False)}
            return
        try:
            for status in self.studio.jobs.watch(job):
                yield self._judging(status)
        except OmnirmError as error:
            yield {self.judging: views.judging_html(state="failed", detail=str(error)), self.judge: _on(True)}

    def stop_judge(self, job: str) -> str:
        """Stops the judge; what it has judged is kept."""
        try:
            if job:
                self.studio.jobs.cancel(job)
        except OmnirmError as error:
            return views.notice_html(str(error), bad=True)
        return views.judging_html(state="running", detail="Stopping.")

    def _judging(self, status: JobStatus) -> Updates:
        progress = status.progress
        shown = views.judging_html(
            state=status.state,
            done=progress.done,
            total=progress.total,
            detail=status.error or ("" if status.over else progress.detail or progress.step),
            position=status.position,
            eta_s=progress.eta_s,
        )
        return {self.judging: shown, self.judge: _on(status.over), self.cancel: gr.update(visible=not status.over)}

    def _running_job(self, set_id: str) -> str:
        jobs = (one for one in self.studio.jobs.recent() if one.kind == "judge-set" and not one.over)
        for one in jobs:
            row = self.studio.store.job(one.id)
            if row is not None and row.spec.get("set") == set_id:
                return one.id
        return ""


def _on(on: bool) -> Any:
    return gr.update(interactive=on)
