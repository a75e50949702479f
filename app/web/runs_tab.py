"""The Runs tab: the list of stored runs, one run opened (figures, charts, its judgments one by one), comparing, jobs.

The widgets and what happens when they are used. What is shown comes from `runs_views` and `plots`, what is known from
the studio's `runs`. What a page sends back is checked there: ids of runs that were found, numbers of rows that exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from omnirm.app.runs.facts import MODALITIES
from omnirm.app.runs.values import Page, RowFilters, RunRow
from omnirm.app.web import runs_views as views
from omnirm.app.web.judgment_views import judgment_html
from omnirm.app.web.runs_charts import ChartsPanel
from omnirm.app.web.runs_compare import ComparePanel
from omnirm.app.web.runs_jobs import JobsPanel
from omnirm.app.web.runs_media import with_stored_media
from omnirm.app.web.runs_scripts import CLICKS, FOLLOW, TO_LIST
from omnirm.app.web.runs_thumbs import Thumbnails
from omnirm.errors import OmnirmError

if TYPE_CHECKING:
    from omnirm.app.studio import Studio

Updates = dict[Any, Any]

_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
_RESULTS = [
    ("All", "all"), ("Right", "right"), ("Wrong", "wrong"), ("Unread", "unread"), ("No label", "unlabelled"),
]  # fmt: skip
_ORDERS = [("Any", "all"), ("Orders disagree", "disagree"), ("Orders agree", "agree")]
_SORTS = [("As judged", "as judged"), ("Least confident", "least confident"), ("Most confident", "most confident")]
_ANY = ("Any", "")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one reader is: the run, the page of the list, and the judgment among the filtered ones.

    fresh: was the page of the list drawn just now, so that its small pictures are still to come?
    """

    run: str = ""
    page: int = 0
    position: int = 0
    total: int = 0
    fresh: bool = False


def runs_tab(studio: Studio) -> RunsTab:
    """Adds the tab's widgets to the Blocks that are open."""
    return RunsTab(studio)


class RunsTab:
    """Widgets and handlers. Handlers take widget values and give back what changes, by widget."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.thumbnails = Thumbnails(studio.media, media_roots(studio))
        self.place = gr.State(Place())
        with gr.Tabs(elem_id="runs-tabs") as self.tabs:
            with gr.Tab("Browse", id="browse") as self.browse_tab:
                self._make_list()
                self._make_run(studio)
            with gr.Tab("Compare two runs", id="compare") as self.compare_tab:
                self.comparing = ComparePanel(studio)
            with gr.Tab("Jobs", id="jobs") as self.jobs_tab:
                self.jobs = JobsPanel(studio)
        self._wire()

    def on_load(self, demo: gr.Blocks) -> None:
        """What happens when the page is opened: the list as it is now, and the run of `?run=ID` where one is named."""
        outer = next((one for one in demo.blocks.values() if getattr(one, "elem_id", None) == "tabs"), None)
        own = next((one for one in demo.blocks.values() if isinstance(one, gr.Tab) and one.id == "runs"), None)
        demo.load(self.listed, None, [self.runs], **_QUIET)
        if own is not None:
            own.select(self.listed, None, [self.runs], **_QUIET)

        def named(request: gr.Request) -> Updates:
            asked = dict(request.query_params) if request else {}
            if "run" not in asked:
                return {self.place: Place()}
            changes = self.open(asked["run"], _whole(asked.get("row")))
            return changes if outer is None else {**changes, outer: gr.Tabs(selected="runs")}

        opened = demo.load(named, None, self._opened + ([outer] if outer is not None else []), **_QUIET)
        self.follow(opened, opened=True)

    # -- widgets

    def _make_list(self) -> None:
        with gr.Column(elem_id="runs-list") as self.list_view:
            with gr.Row(equal_height=True, elem_classes=["o-runs-top"]):
                self.list_note = gr.HTML(views.INTRO)
                self.refresh = gr.Button("Look again", elem_id="runs-refresh", size="sm", scale=0, min_width=110)
            self.runs = gr.HTML(views.empty_html("Looking for runs …"), elem_id="runs-found", js_on_load=CLICKS)

    def _make_run(self, studio: Studio) -> None:
        with gr.Column(visible=False, elem_id="runs-one") as self.run_view:
            self.back = gr.Button("← All runs", elem_id="runs-back", size="sm", scale=0)
            self.head = gr.HTML(elem_id="runs-head")
            self.charts = ChartsPanel(studio)
            with gr.Row(elem_classes=["o-runs-filters"], elem_id="runs-filters"):
                self.result = _menu("Show", _RESULTS, "runs-result")
                self.verdict = _menu("Verdict", [_ANY], "runs-verdict")
                self.orders = _menu("Orders", _ORDERS, "runs-orders")
                self.modality = _menu("Medium", [_ANY, *((one, one) for one in MODALITIES)], "runs-modality")
                self.sort = _menu("Sort", _SORTS, "runs-sort")
                self.text = gr.Textbox(
                    label="Search", placeholder="Words, then Enter", elem_id="runs-text", min_width=150, max_length=300
                )
            with gr.Row(elem_classes=["o-runs-browser"]):
                with gr.Column(scale=2, min_width=300):
                    self.rows = gr.HTML(elem_id="runs-rows", js_on_load=CLICKS)
                with gr.Column(scale=5, min_width=320, elem_id="runs-detail"):
                    with gr.Row(elem_classes=["o-runs-steps"]):
                        self.previous = gr.Button("Previous", elem_id="runs-previous", size="sm", min_width=90)
                        self.next = gr.Button("Next", elem_id="runs-next", size="sm", min_width=90)
                    self.detail = gr.HTML(elem_id="runs-judgment")

    def _wire(self) -> None:
        self.filters = [self.result, self.verdict, self.orders, self.modality, self.sort, self.text]
        browsed = [self.place, self.rows, self.detail, self.previous, self.next]
        self._opened: list[Any] = [
            *browsed, self.list_view, self.run_view, self.list_note, self.head,
            *self.charts.plots, self.charts.view, *self.filters,
        ]  # fmt: skip
        seen = [self.place, *self.filters]

        def follow(event: Any, *, opened: bool = False) -> None:
            event = event.then(None, js=FOLLOW, **_QUIET)
            if opened:
                event = event.then(self._draw, [self.place], self.charts.drawn, **_QUIET)
            event.then(self.pictured, seen, [self.rows], **_QUIET).then(None, js=FOLLOW, **_QUIET)

        self.follow = follow
        self.refresh.click(self.listed, None, [self.runs], **_QUIET)
        follow(self.runs.click(self.chosen, None, self._opened, **_QUIET), opened=True)
        self.back.click(self.close, None, [self.list_view, self.run_view, self.place], **_QUIET).then(
            None, js=TO_LIST, **_QUIET
        )
        for one in self.filters:
            event = one.submit if isinstance(one, gr.Textbox) else one.input  # type: ignore[attr-defined]
            follow(event(self.filtered, seen, browsed, **_QUIET))
        follow(self.rows.click(self.picked, seen, browsed, **_QUIET))
        for button, step in ((self.previous, -1), (self.next, 1)):
            follow(button.click(self._stepper(step), seen, browsed, **_QUIET))
        self.compare_tab.select(self.comparing.choices, [self.place], self.comparing.menus, **_QUIET)
        self.jobs_tab.select(self.jobs.start, None, self.jobs.watched, **_QUIET)
        for tab in (self.browse_tab, self.compare_tab):
            tab.select(self.jobs.stop, None, [self.jobs.timer], **_QUIET)

    # -- the list

    def listed(self) -> Iterator[str]:
        """The runs; goes on until all of them are counted."""
        try:
            for patience in (0.5, *[2.0] * 60):
                found = self.studio.runs.list(patience=patience)
                yield views.runs_html(found)
                if all(one.rows is not None for one in found):
                    return
        except (OmnirmError, OSError) as error:
            yield views.error_html(str(error))

    def chosen(self, event: gr.EventData) -> Updates:
        """Opens the run that was clicked."""
        return self.open(str(event._data.get("run", "")))

    def close(self) -> tuple[Any, Any, Place]:
        """Back to the list."""
        return gr.update(visible=True), gr.update(visible=False), Place()

    # -- a run

    def open(self, run: str, row: int | None = None) -> Updates:
        """Shows a run with its first judgment, or the one of that number."""
        runs = self.studio.runs
        try:
            info, summary = runs.info(run), runs.summary(run)
            shown = self._show(Place(run), RowFilters(), row or 0, whole=True)
        except (OmnirmError, OSError) as error:
            return {self.list_note: views.error_html(str(error)), self.place: Place()}
        changes: Updates = {
            **shown,
            **self.charts.emptied(bool(summary.rows)),
            self.list_view: gr.update(visible=False),
            self.run_view: gr.update(visible=True),
            self.list_note: views.INTRO,
            self.head: views.run_html(info, summary),
        }
        for menu in (self.result, self.orders, self.sort):
            changes[menu] = menu.value
        verdicts = [(_verdict_name(one), one) for one, _ in summary.verdicts if one != "unread"]
        changes[self.verdict] = gr.update(choices=[_ANY, *verdicts], value="")
        return {**changes, self.modality: "", self.text: ""}

    def _draw(self, place: Place) -> Updates:
        return self.charts.draw(place.run)

    def filtered(self, place: Place, *filters: Any) -> Updates:
        """The first judgment that passes the filters."""
        return self._browse(place, filters, 0, whole=True)

    def picked(self, event: gr.EventData, place: Place, *filters: Any) -> Updates:
        """The judgment, or the page of the list, that was clicked."""
        page = _whole(event._data.get("page"))
        if page is not None:
            return self._browse(place, filters, page * views.PAGE, whole=True)
        return self._browse(place, filters, _whole(event._data.get("position")) or 0)

    def pictured(self, place: Place, *filters: Any) -> Any:
        """The list once more, with small pictures, where it was drawn just now and has any."""
        if not place.run or not place.fresh:
            return gr.skip()
        try:
            offset = place.page * views.PAGE
            page = self.studio.runs.rows(place.run, filters=_filters(filters), offset=offset, limit=views.PAGE)
        except (OmnirmError, OSError):
            return gr.skip()  # what is shown already says it
        pictures = self.thumbnails.of_samples([row.sample for row in page.rows])
        return views.rows_html(page, place.position, pictures) if any(pictures) else gr.skip()

    def _stepper(self, step: int) -> Any:
        def go(place: Place, *filters: Any) -> Updates:
            return self._browse(place, filters, place.position + step)

        return go

    def _browse(self, place: Place, values: tuple[Any, ...], position: int, *, whole: bool = False) -> Updates:
        if not place.run:
            return {self.place: place}
        try:
            return self._show(place, _filters(values), position, whole=whole)
        except (OmnirmError, OSError) as error:
            return {self.detail: views.error_html(str(error)), self.place: place}

    def _show(self, place: Place, filters: RowFilters, position: int, *, whole: bool = False) -> Updates:
        """The judgment at a position, and the page of the list it is on where that changed (or `whole`)."""
        number = max(0, min(position, place.total - 1)) if place.total and not whole else max(0, position)
        page = number // views.PAGE
        found = self.studio.runs.rows(place.run, filters=filters, offset=page * views.PAGE, limit=views.PAGE)
        if not found.rows and found.total:  # fewer than before: back to the beginning
            return self._show(replace(place, total=found.total), filters, 0, whole=True)
        row = next((one for one in found.rows if one.position == number), None)
        whole = whole or page != place.page or found.total != place.total
        now = Place(place.run, page, number, found.total, fresh=whole)
        changes: Updates = {
            self.place: now,
            self.detail: self._detail(now, row, found),
            self.previous: gr.update(interactive=row is not None and number > 0),
            self.next: gr.update(interactive=row is not None and number + 1 < found.total),
        }
        if whole:
            changes[self.rows] = views.rows_html(found, number)
        return changes

    def _detail(self, place: Place, row: RunRow | None, page: Page) -> str:
        if row is None:
            return views.empty_html("Nothing to show.", "" if page.total else "No judgment passes these filters.")
        sample, problem = with_stored_media(row.sample, self.studio.media, media_roots(self.studio))
        judgment = judgment_html(row.record, sample, show_sample=False) if row.record else ""
        return views.row_html(place.run, row, page.total, sample, judgment, problem=problem)


def media_roots(studio: Studio) -> tuple[Any, ...]:
    """Folders that media of runs may lie in: those named for media, and those of the runs themselves."""
    return (*studio.settings.media_roots, *studio.settings.runs)


def _filters(values: tuple[Any, ...]) -> RowFilters:
    """From the widgets, whose empty value is None. Raises `ConfigError` for a choice that there is not."""
    result, verdict, orders, modality, sort, text = ((one or "") for one in values)  # checked by RowFilters
    shown: Any = result or "all", orders or "all", sort or "as judged"
    return RowFilters(shown[0], shown[1], verdict, modality, text, shown[2])


def _menu(label: str, choices: list[tuple[str, str]], name: str) -> gr.Dropdown:
    return gr.Dropdown(choices, value=choices[0][1], label=label, elem_id=name, filterable=False, min_width=130)


def _verdict_name(verdict: str) -> str:
    return "Tie" if verdict == "tie" else f"{verdict} is better"


def _whole(value: Any) -> int | None:
    """A number that came from a page; None for anything else."""
    return int(value) if isinstance(value, int | str) and str(value).isdecimal() and len(str(value)) < 10 else None
