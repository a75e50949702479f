"""The Judge tab: put in a prompt and responses, press Judge, see which is better and why.

What happens when the widgets of `judge_widgets` are used. What was filled in becomes a task (`judge_form`), the task a
job of the studio, and its judgment the page (`judgment_views`). A page that is reloaded finds its job or judgment again
by its address (`?job=`, `?judgment=`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.utils import get_upload_folder
from markupsafe import Markup

from omnirm.app.web.examples import EXAMPLES, Example, fill
from omnirm.app.web.judge_form import (
    MODES,
    MOST_FILES,
    MOST_RESPONSES,
    SETTINGS,
    Form,
    Mode,
    Place,
    from_task,
    response_label,
    to_task,
)
from omnirm.app.web.judge_widgets import Widgets, empty_html, hint_html
from omnirm.app.web.judgment_views import judgment_html
from omnirm.app.web.judgment_words import line
from omnirm.app.web.media_view import content_html
from omnirm.app.web.progress_view import message_html, progress_html
from omnirm.app.web.rendering import render
from omnirm.errors import OmnirmError

if TYPE_CHECKING:
    from omnirm.app.store.store import StoredJudgment
    from omnirm.app.studio import Studio

Updates = dict[Any, Any]

_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
_LIVE: dict[str, Any] = {**_QUIET, "concurrency_limit": None}  # a page that waits for its job holds nobody up
_LOOK_S = 0.25  # seconds between two looks at a job
_SHAPING = ("strategy", "source", "method")  # settings that decide what else is to be seen
_TO_JOB = "(id) => omnirmJudge.address('job', id)"
_TO_JUDGMENT = "(id) => omnirmJudge.address('judgment', id)"


def judge_tab(studio: Studio) -> JudgeTab:
    """Adds the tab's widgets to the Blocks that are open."""
    return JudgeTab(studio)


class JudgeTab:
    """Widgets and handlers. Handlers take widget values and give back what changes, by widget."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.widgets = Widgets(studio.models.names, studio.settings.disrms)
        self._wire()

    def on_load(self, demo: gr.Blocks) -> None:
        """What happens when the page is opened: the job or judgment that its address names."""
        demo.load(self.arrive, None, self._everything, **_LIVE)

    # -- wiring

    @property
    def _outcome(self) -> list[Any]:
        w = self.widgets
        return [w.judge, w.cancel, w.progress, w.link, w.result, w.full, w.record, w.job, w.shown]

    @property
    def _filled(self) -> list[Any]:
        w = self.widgets
        slots = [part for slot in w.slots for part in (slot.column, slot.text, slot.files)]
        rest = [w.mode, w.count, *w.rows, w.growing, w.hint, w.add, w.remove, w.planning, w.ranking]
        return [*slots, *rest, *w.settings.values()]

    @property
    def _everything(self) -> list[Any]:
        return [*self._filled, *self._outcome]

    def _wire(self) -> None:
        w = self.widgets
        for slot in w.slots:
            slot.files.change(self.preview, [slot.files], [slot.preview], **_QUIET)
        shape = [w.mode, w.count, *(w.settings[name] for name in _SHAPING)]
        laid = [*self._filled, w.result]
        w.mode.input(self.switch, shape, laid, **_QUIET)
        for name in _SHAPING:
            w.settings[name].input(self.shape, shape, laid, **_QUIET)
        w.add.click(self.more, shape, laid, **_QUIET)
        w.remove.click(self.fewer, shape, laid, **_QUIET)
        for button, example in zip(w.examples, EXAMPLES, strict=True):
            button.click(self._filler(example), None, [*self._filled, w.progress], **_QUIET)
        w.clear.click(self.cleared, None, self._everything, **_QUIET)
        w.judge.click(self.judge, w.inputs, self._outcome, **_LIVE)
        w.cancel.click(self.cancel, [w.job], [w.cancel, w.progress], **_QUIET)
        w.job.change(None, [w.job], None, js=_TO_JOB, **_QUIET)
        w.shown.change(None, [w.shown], None, js=_TO_JUDGMENT, **_QUIET)

    # -- filling in

    def preview(self, files: list[str] | None) -> str:
        """What was dropped, to look at; files that are refused are named with the reason."""
        shown, refused = [], []
        for file in (files or [])[:MOST_FILES]:
            try:
                stored = self.studio.media.add(file, roots=_uploads())
            except OmnirmError as error:
                refused.append(line(str(error)))
            else:
                shown.append({"type": stored.kind, stored.kind: str(stored.path)})
        if len(files or []) > MOST_FILES:
            refused.append(f"At most {MOST_FILES} files in one place: remove some.")
        content = Markup(content_html(shown, compact=len(shown) > 1)) if shown else ""
        return render("judge_preview.html", content=content, refused=refused)

    def switch(self, mode: Mode, count: int, strategy: str, source: str, method: str) -> Updates:
        """Another question: other places to fill in, and another hint where the result will be."""
        wanted = max(3, count) if mode == "rank" else {"compare": 2, "score": 1}[mode]
        return {**self.shape(mode, wanted, strategy, source, method), self.widgets.result: empty_html(mode)}

    def more(self, mode: Mode, count: int, strategy: str, source: str, method: str) -> Updates:
        """One response more."""
        return self.shape(mode, min(MOST_RESPONSES, count + 1), strategy, source, method)

    def fewer(self, mode: Mode, count: int, strategy: str, source: str, method: str) -> Updates:
        """The last response goes."""
        slot = self.widgets.responses[max(2, count - 1)]
        return {**self.shape(mode, max(2, count - 1), strategy, source, method), slot.text: "", slot.files: None}

    def shape(self, mode: Mode, count: int, strategy: str, source: str, method: str) -> Updates:
        """Which places and settings are to be seen."""
        w, pair = self.widgets, mode == "compare"
        plans = pair and strategy != "single"
        found: Updates = {
            w.count: count,
            w.hint: hint_html(mode, strategy, method),
            w.growing: gr.update(visible=mode == "rank"),
        }
        found |= {w.add: gr.update(interactive=count < MOST_RESPONSES), w.remove: gr.update(interactive=count > 2)}
        found |= {row: gr.update(visible=2 * i < count) for i, row in enumerate(w.rows)}
        for i, slot in enumerate(w.responses):
            label = response_label(mode if i < count else "rank", i)
            found[slot.column] = gr.update(visible=i < count)
            found[slot.text] = gr.update(label=label)
            found[slot.files] = gr.update(label=f"{label}: images, video, sound")
        seen = {
            "strategy": pair,
            "method": not pair,
            "own": source == "own",
            "task": source == "library",
            "count": plans and source != "own",
            "format": pair,
            "orders": pair,
            "allow_tie": pair,
            "stop_when_settled": strategy == "vote",
            "planner": source == "model",
        }
        found |= {w.settings[name]: gr.update(visible=visible) for name, visible in seen.items()}
        found[w.planning] = gr.update(visible=plans and (source == "model" or strategy == "vote"))
        found[w.ranking] = gr.update(visible=plans and strategy == "meta")
        return found

    def _filler(self, example: Example) -> Any:
        def filled() -> Updates:
            try:
                return {**self.fill(fill(example, self.studio.media)), self.widgets.progress: ""}
            except OmnirmError as error:
                return {self.widgets.progress: message_html("This example cannot be filled in.", str(error))}

        return filled

    def fill(self, form: Form) -> Updates:
        """The form into the widgets."""
        w = self.widgets
        found = self.shape(form.mode, len(form.responses), form.strategy, form.source, form.method)
        found[w.mode] = form.mode
        places = [form.prompt, *form.responses, *[Place()] * (MOST_RESPONSES - len(form.responses))]
        for slot, place in zip(w.slots, places, strict=True):
            _put(found, slot.text, place.text)
            _put(found, slot.files, list(place.files) or None)
        for name in SETTINGS:
            value = getattr(form, name)
            if name == "model" and value not in w.models:
                value = w.models[0]
            if name == "disrm" and value not in w.disrms:
                value = w.disrms[0] if w.disrms else None
            _put(found, w.settings[name], value)
        return found

    def cleared(self) -> Updates:
        """An empty form, and no result."""
        w = self.widgets
        blank: Updates = {w.progress: "", w.link: "", w.result: empty_html("compare"), w.record: None, w.shown: ""}
        return {**self.fill(Form()), **blank, w.full: gr.update(visible=False), w.job: "", **self._idle()}

    def read(self, values: Updates) -> Form:
        """The form from the widgets' values."""
        w = self.widgets
        mode: Mode = values[w.mode] if values[w.mode] in MODES else "compare"
        places = [Place(values[one.text] or "", tuple(values[one.files] or ())) for one in w.slots]
        settings = {name: values[w.settings[name]] for name in SETTINGS}
        settings |= {"seed": int(settings["seed"] or 0), "disrm": settings["disrm"] or ""}
        settings |= {name: int(settings[name]) for name in ("count", "orders", "samples")}
        return Form(mode=mode, prompt=places[0], responses=tuple(places[1 : 1 + values[w.count]]), **settings)

    # -- judging

    async def judge(self, values: Updates) -> AsyncIterator[Updates]:
        """Starts a job and follows it."""
        w = self.widgets
        try:
            task = await asyncio.to_thread(lambda: to_task(self.read(values), self.studio, roots=_uploads()))
            id = await asyncio.to_thread(self.studio.jobs.submit, "judge", task.to_dict())
        except OmnirmError as error:
            yield {w.progress: message_html("Not yet.", str(error)), **self._idle()}
            return
        blank: Updates = {w.link: "", w.result: "", w.record: None, w.shown: ""}
        yield {w.job: id, **blank, w.full: gr.update(visible=False), **self._busy()}
        async for updates in self.follow(id):
            yield updates

    async def follow(self, id: str) -> AsyncIterator[Updates]:
        """A job until it is over, then its judgment."""
        w, last = self.widgets, None
        while True:
            status = await asyncio.to_thread(self.studio.jobs.status, id)
            if status.over:
                break
            if (box := progress_html(status)) != last:
                last = box
                yield {w.progress: box, **self._busy()}
            await asyncio.sleep(_LOOK_S)
        done: Updates = {w.progress: progress_html(status), **self._idle()}
        found = await asyncio.to_thread(self.studio.store.judgment, str(status.result.get("judgment", "")))
        yield {**done, **(self.show(found) if found is not None else {})}

    def cancel(self, id: str) -> Updates:
        """Asks the job to stop; it does so before its next call of the model."""
        try:
            stopping = self.studio.jobs.cancel(id) if id else False
        except OmnirmError as error:
            return {self.widgets.progress: message_html("This could not be cancelled.", str(error))}
        return {self.widgets.cancel: gr.update(interactive=False, value="Cancelling …" if stopping else "Cancel")}

    def show(self, found: StoredJudgment, *, open_sample: bool = False) -> Updates:
        """A stored judgment as the result."""
        w = self.widgets
        return {
            w.link: render("judge_link.html", id=found.id),
            w.result: judgment_html(found.record, found.sample, open_sample=open_sample),
            w.record: dict(found.record),
            w.full: gr.update(visible=True),
            w.shown: found.id,
        }

    # -- coming back

    async def arrive(self, request: gr.Request) -> AsyncIterator[Updates]:
        """What the page's address names: a stored judgment, or a job that may still run."""
        w = self.widgets
        judgment, job = (str(request.query_params.get(name) or "")[:64] for name in ("judgment", "job"))
        if judgment:
            found = await asyncio.to_thread(self.studio.store.judgment, judgment)
            if found is None:
                text = "There is no judgment of this address here. It may have been made on another server."
                yield {w.progress: message_html("Nothing found.", text)}
                return
            form = await asyncio.to_thread(from_task, found.task)
            yield {**(self.fill(form) if form else {}), **self.show(found, open_sample=form is None)}
        elif job:
            row = await asyncio.to_thread(self.studio.store.job, job)
            if row is None or row.kind != "judge":
                yield {w.progress: message_html("Nothing found.", "There is no such job here. Start a new one.")}
                return
            form = await asyncio.to_thread(from_task, row.spec)
            yield {**(self.fill(form) if form else {}), w.job: job}
            async for updates in self.follow(job):
                yield updates
        else:
            yield {w.progress: ""}

    def _busy(self) -> Updates:
        return {self.widgets.judge: gr.update(interactive=False), self.widgets.cancel: gr.update(interactive=True)}

    def _idle(self) -> Updates:
        off = gr.update(interactive=False, value="Cancel")
        return {self.widgets.judge: gr.update(interactive=True), self.widgets.cancel: off}


def _put(found: Updates, widget: Any, value: Any) -> None:
    """A value beside what is already changed of a widget."""
    found[widget] = {**found[widget], "value": value} if widget in found else gr.update(value=value)


def _uploads() -> tuple[Path, ...]:
    return (Path(get_upload_folder()),)
