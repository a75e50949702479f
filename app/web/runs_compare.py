"""The Compare panel of the Runs tab: two runs on the samples that both judged, in figures and sample by sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from omnirm.app.runs.statistics import Difference
from omnirm.app.runs.values import IN_APP, RunInfo, RunRow
from omnirm.app.web import runs_views as views
from omnirm.app.web.judgment_views import judgment_html
from omnirm.app.web.runs_media import with_stored_media
from omnirm.app.web.runs_scripts import CLICKS
from omnirm.errors import OmnirmError

if TYPE_CHECKING:
    from omnirm.app.studio import Studio

Updates = dict[Any, Any]

_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
_WHICH = [("All with different verdicts", "all"), ("Only the first is right", "a"), ("Only the second is right", "b")]


@dataclass(frozen=True, slots=True)
class Pair:
    """The two runs being compared, which of the differing samples are listed, and which page of them."""

    a: str = ""
    b: str = ""
    which: str = "all"
    page: int = 0


class ComparePanel:
    """Widgets and handlers of the panel."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.pair = gr.State(Pair())
        with gr.Row(equal_height=True, elem_classes=["o-runs-filters"]):
            self.first = gr.Dropdown([], label="First run", elem_id="runs-first", scale=3, min_width=200)
            self.second = gr.Dropdown([], label="Second run", elem_id="runs-second", scale=3, min_width=200)
            self.compare = gr.Button("Compare", variant="primary", elem_id="runs-compare", scale=1, min_width=110)
        self.menus = [self.first, self.second]
        self.found = gr.HTML(
            views.empty_html("Choose two runs over the same samples.", "They are matched by the ids of their samples."),
            elem_id="runs-compared",
        )
        with gr.Column(visible=False, elem_id="runs-differing") as self.below:
            self.which = gr.Dropdown(
                _WHICH, value="all", label="Samples", elem_id="runs-which", filterable=False, min_width=200
            )
            with gr.Row(elem_classes=["o-runs-browser"]):
                with gr.Column(scale=2, min_width=280):
                    self.listed = gr.HTML(elem_id="runs-differences", js_on_load=CLICKS)
                with gr.Column(scale=5, min_width=320):
                    self.beside = gr.HTML(elem_id="runs-beside")
        changed = [self.pair, self.found, self.below, self.which, self.listed, self.beside]
        self.compare.click(self.run, [self.first, self.second], changed, **_QUIET)
        self.which.input(self.narrow, [self.pair, self.which], changed, **_QUIET)
        self.listed.click(self.pick, [self.pair], changed, **_QUIET)

    def choices(self, place: Any) -> list[Any]:
        """The runs that can be chosen; the one that is open in the list is chosen already."""
        found = [one for one in self.studio.runs.list() if one.id != IN_APP and one.rows != 0]
        choices = [(one.title, one.id) for one in found]
        opened = place.run if any(one.id == place.run for one in found) else None
        return [gr.update(choices=choices, **({"value": opened} if opened else {})), gr.update(choices=choices)]

    def run(self, first: str | None, second: str | None) -> Updates:
        """The figures of two runs, and the first sample on which they differ."""
        if not first or not second:
            return self._refused("Choose a first and a second run.")
        pair = Pair(first, second)
        try:
            runs = self.studio.runs
            found = runs.compare(first, second)
            html = views.comparison_html(runs.info(first), runs.info(second), found)
            listed = self._listed(pair, found.differing)
        except (OmnirmError, OSError) as error:
            return self._refused(str(error))
        return {**listed, self.found: html, self.below: gr.update(visible=found.in_both > 0), self.which: "all"}

    def narrow(self, pair: Pair, which: str) -> Updates:
        """Other ones of the differing samples."""
        return self._again(replace(pair, which=which if which in ("a", "b") else "all", page=0))

    def pick(self, event: gr.EventData, pair: Pair) -> Updates:
        """The sample, or the page of the list, that was clicked."""
        page = str(event._data.get("page", ""))
        if page.isdecimal() and len(page) < 8:
            return self._again(replace(pair, page=int(page)))
        return self._again(pair, str(event._data.get("sample", "")))

    def _again(self, pair: Pair, sample: str = "") -> Updates:
        if not pair.a:
            return {self.pair: pair}
        try:
            return self._listed(pair, self.studio.runs.compare(pair.a, pair.b).differing, sample)
        except (OmnirmError, OSError) as error:
            return self._refused(str(error))

    def _listed(self, pair: Pair, differing: Sequence[Difference], sample: str = "") -> Updates:
        shown = [one for one in differing if _wanted(one, pair.which)]
        first = shown[pair.page * views.PAGE] if pair.page * views.PAGE < len(shown) else None
        chosen = next((one for one in shown if one.sample_id == sample), first)
        return {
            self.pair: pair,
            self.listed: views.differing_html(shown, pair.page, chosen.sample_id if chosen else ""),
            self.beside: self._beside(pair, chosen) if chosen else "",
        }

    def _beside(self, pair: Pair, one: Difference) -> str:
        runs = self.studio.runs
        a: tuple[RunInfo, RunRow] = runs.info(pair.a), runs.row(pair.a, one.number_a)
        b: tuple[RunInfo, RunRow] = runs.info(pair.b), runs.row(pair.b, one.number_b)
        roots = (*self.studio.settings.media_roots, *self.studio.settings.runs)
        sample, _ = with_stored_media(a[1].sample or b[1].sample, self.studio.media, roots)
        html = [judgment_html(row.record, sample, show_sample=False) if row.record else "" for _, row in (a, b)]
        return views.beside_html((*a, html[0]), (*b, html[1]), sample)

    def _refused(self, text: str) -> Updates:
        return {self.found: views.error_html(text), self.below: gr.update(visible=False), self.pair: Pair()}


def _wanted(one: Difference, which: str) -> bool:
    if which == "all":
        return True
    return one.label is not None and (one.verdict_a if which == "a" else one.verdict_b) == one.label
