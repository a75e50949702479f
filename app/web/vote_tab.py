"""The Vote tab: choose a set, say who you are, vote on pair after pair without knowing which response is which.

The widgets and what happens when they are used. What is shown comes from `vote_views`, what is done from the studio's
`votes` and `jobs`. Where a person is stays on the server; the page gets no more than it shows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from markupsafe import Markup

from omnirm.app.web import vote_views as views
from omnirm.app.web.frame_rate import frame_seconds
from omnirm.app.web.judgment_views import judgment_html
from omnirm.app.web.vote_tools import VoteTools
from omnirm.errors import OmnirmError

if TYPE_CHECKING:
    from omnirm.app.studio import Studio
    from omnirm.app.votes.voting import Reveal, Shown

Updates = dict[Any, Any]

_VOTES: tuple[tuple[views.Side, str, str], ...] = (
    ("left", "Left is better", "vote-left"),
    ("tie", "Tie", "vote-tie"),
    ("both_bad", "Both bad", "vote-both-bad"),
    ("right", "Right is better", "vote-right"),
)
_LONGEST_COMMENT = 4000
_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
_IN_TURN: dict[str, Any] = {
    "concurrency_id": "vote",
    "concurrency_limit": 1,
    **_QUIET,
}  # a second click finds the first
_REMEMBER = """(set, name) => {
  localStorage.setItem("omnirm-vote-set", set || "");
  localStorage.setItem("omnirm-vote-name", name || "");
}"""
_RECALL_SET = """() => localStorage.getItem("omnirm-vote-set") || "" """
_RECALL = """() => localStorage.getItem("omnirm-vote-name") || "" """


@dataclass(frozen=True, slots=True)
class Place:
    """Where one person is. `left` and the rest of what is hidden never leave the server before the vote.

    shown_at: seconds of a monotonic clock when the pair was shown. voted: has this pair had its vote?
    """

    set_id: str = ""
    set_name: str = ""
    annotator: str = ""
    pair_id: str = ""
    left: str = ""
    shown_at: float = 0.0
    voted: bool = False


def vote_tab(studio: Studio) -> VoteTab:
    """Adds the tab's widgets to the Blocks that are open."""
    return VoteTab(studio)


class VoteTab:
    """Widgets and handlers. Handlers take widget values and give back what changes, by widget."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.place = gr.State(Place())
        self._make_setup()
        self.notice = gr.HTML(elem_id="vote-notice")
        self._make_stage()
        with gr.Column(visible=False, elem_id="vote-tools") as self.below:
            self.tools = VoteTools(studio)
            self.leave = gr.Button("Choose another set or name", elem_id="vote-leave", size="sm")
        self._wire()

    def on_load(self, demo: gr.Blocks) -> None:
        """What happens when the page is opened: the sets as they are now, the name that was used last."""
        demo.load(self.sets, self.recalled, [self.set, self.setup_note], js=_RECALL_SET, **_QUIET)
        demo.load(None, None, self.name, js=_RECALL, **_QUIET)

    # -- widgets

    def _make_setup(self) -> None:
        with gr.Column(elem_id="vote-setup") as self.setup:
            self.setup_note = gr.HTML(views.welcome_html(bool(self.studio.store.vote_sets())))
            self.recalled = gr.Textbox(visible=False)
            with gr.Row(equal_height=True):
                self.set = gr.Dropdown(
                    self._choices(), label="Set of pairs", elem_id="vote-set", filterable=False, scale=3, min_width=260
                )
                self.name = gr.Textbox(
                    label="Your name",
                    elem_id="vote-name",
                    max_length=64,
                    scale=2,
                    min_width=220,
                    placeholder="So that you can go on later",
                )
            with gr.Row():
                self.start = gr.Button("Start voting", variant="primary", elem_id="vote-start", scale=2)
                self.upload = gr.UploadButton(
                    "Upload pairs (.jsonl)", file_types=[".jsonl", ".json"], elem_id="vote-upload", scale=1
                )

    def _make_stage(self) -> None:
        with gr.Column(visible=False, elem_id="vote-stage") as self.stage:
            self.progress = gr.HTML()
            self.pair = gr.HTML(elem_id="vote-pair")
            with gr.Row(elem_id="vote-bar"):
                self.votes = {side: self._button(words, name, "o-vote-choice") for side, words, name in _VOTES}
            with gr.Row(elem_id="vote-steps"):
                self.undo = self._button("Undo", "vote-undo", "o-vote-step")
                self.votes["skip"] = self._button("Skip", "vote-skip", "o-vote-choice")
                self.next = self._button("Next pair", "vote-next", "o-vote-step", variant="primary")
            self.reveal = gr.HTML(elem_id="vote-reveal")
            self.keys = gr.HTML()
            with gr.Accordion("Say more before you vote (optional)", open=False, elem_id="vote-more"):
                self.strength = gr.Radio(list(views.STRENGTHS), label="How much better?", elem_id="vote-strength")
                self.rubrics = gr.CheckboxGroup([], label="What decided it?", elem_id="vote-rubrics")
                self.comment = gr.Textbox(label="Comment", lines=2, max_length=_LONGEST_COMMENT, elem_id="vote-comment")

    @staticmethod
    def _button(words: str, name: str, kind: str, variant: Any = "secondary") -> gr.Button:
        return gr.Button(words, elem_id=name, elem_classes=[kind], interactive=False, variant=variant, min_width=80)

    def _wire(self) -> None:
        buttons = list(self.votes.values())
        said = [self.strength, self.rubrics, self.comment]
        pair = [self.place, self.progress, self.pair, *buttons, self.undo, self.next, self.keys, *said, self.reveal]
        pair.append(self.notice)
        opened = [*pair, self.setup, self.stage, self.below, *self.tools.opened]
        for event in (self.start.click, self.name.submit):
            start = event(self.open, [self.set, self.name], opened, **_IN_TURN)
            start.then(None, [self.set, self.name], None, js=_REMEMBER, **_QUIET)
            self.tools.follow(start)
        self.upload.upload(self.take_in, [self.upload], [self.set, self.notice, self.setup_note], **_QUIET)
        for side, button in self.votes.items():
            button.click(self._voter(side), [self.place, *said], pair, **_IN_TURN)
        self.next.click(self.go_on, [self.place], pair, **_IN_TURN)
        self.undo.click(self.take_back, [self.place], pair, **_IN_TURN)
        self.leave.click(self.close, None, [self.setup, self.stage, self.below, self.set, self.notice], **_QUIET)

    # -- choosing a set

    def _choices(self) -> list[tuple[str, str]]:
        return [(f"{one.name} ({views.pairs_in_words(one.count)})", one.id) for one in self.studio.store.vote_sets()]

    def sets(self, recalled: str) -> tuple[Any, str]:
        """The sets that there are now, for the menu; chosen is the one that was open last, else the newest."""
        choices = self._choices()
        ids = [set_id for _, set_id in choices]
        chosen = recalled if recalled in ids else next(iter(ids), None)
        return gr.update(choices=choices, value=chosen), views.welcome_html(bool(choices))

    def take_in(self, file: str | None) -> Updates:
        """Makes a set of an uploaded file."""
        if not file:
            return {self.notice: ""}
        path = Path(file)
        try:
            report = self.studio.votes.import_set(path, name=path.stem)
        except OmnirmError as error:
            return {self.notice: views.notice_html("This file could not be used.", [str(error)], bad=True)}
        text = f"{views.pairs_in_words(report.count)} taken in. Write your name and start."
        return {
            self.set: gr.update(choices=self._choices(), value=report.set_id),
            self.notice: views.notice_html(text, [str(one) for one in report.problems][:20]),
            self.setup_note: views.welcome_html(True),
        }

    def open(self, set_id: str | None, name: str) -> Updates:
        """Shows the first pair that this person has not voted on."""
        found = self.studio.store.vote_set(set_id) if set_id else None
        if found is None:
            return {self.notice: views.notice_html("Choose a set of pairs first, or upload one.", bad=True)}
        if not (name or "").strip():
            return {
                self.notice: views.notice_html("Write your name first, so that your votes can be told apart.", bad=True)
            }
        place = Place(found.id, found.name, name.strip())
        try:
            changes = self._show(place, self.studio.votes.next(place.set_id, place.annotator))
        except OmnirmError as error:
            return {self.notice: views.notice_html(str(error), bad=True)}
        shown = {self.setup: gr.update(visible=False), self.stage: gr.update(visible=True)}
        return {**changes, **shown, self.below: gr.update(visible=True), **self.tools.open(place.set_id)}

    def close(self) -> Updates:
        """Back to the choice of set and name."""
        hidden, seen = gr.update(visible=False), gr.update(visible=True)
        choices = gr.update(choices=self._choices())
        return {self.setup: seen, self.stage: hidden, self.below: hidden, self.set: choices, self.notice: ""}

    # -- voting

    def _voter(self, side: views.Side) -> Any:
        def cast(place: Place, strength: int | None, rubrics: list[str], comment: str) -> Updates:
            return self.vote(place, side, strength, rubrics, comment)

        return cast

    def vote(
        self, place: Place, side: views.Side, strength: int | None, rubrics: list[str] | None, comment: str | None
    ) -> Updates:
        """Casts a vote and shows what was hidden; after `skip` the next pair comes at once."""
        if place.voted or not place.pair_id:
            return {self.place: place}
        seconds = round(max(0.0, time.monotonic() - place.shown_at), 2)
        degree = strength if side in ("left", "right") else None
        said: dict[str, Any] = {"strength": degree, "rubrics": tuple(rubrics or ()), "comment": comment or ""}
        try:
            reveal = self.studio.votes.cast(place.set_id, place.pair_id, place.annotator, side, seconds=seconds, **said)
            voted = replace(place, voted=True)
            if side == "skip":
                return self.go_on(voted)
            shown = self.studio.votes.shown(place.set_id, place.pair_id, place.annotator)
        except OmnirmError as error:
            return {self.notice: views.notice_html(str(error), bad=True)}
        return {
            self.place: voted,
            self.progress: self._progress(voted, shown),
            self.reveal: self._revealed(shown, reveal, side, degree),
            self.notice: "",
            **self._buttons(vote=False, undo=True, next=True),
        }

    def go_on(self, place: Place) -> Updates:
        """The next pair without this person's vote."""
        try:
            return self._show(place, self.studio.votes.next(place.set_id, place.annotator, after=place.pair_id or None))
        except OmnirmError as error:
            return {self.notice: views.notice_html(str(error), bad=True)}

    def take_back(self, place: Place) -> Updates:
        """The pair of the last vote once more, open again."""
        try:
            shown = self.studio.votes.undo(place.set_id, place.annotator)
            if shown is None:
                return {self.notice: views.notice_html("There is no vote of yours to undo."), self.undo: _on(False)}
            return self._show(place, shown)
        except OmnirmError as error:
            return {self.notice: views.notice_html(str(error), bad=True)}

    def _show(self, place: Place, shown: Shown | None) -> Updates:
        blank: Updates = {self.reveal: "", self.notice: "", self.strength: None, self.comment: ""}
        if shown is None:
            found = self.studio.store.vote_set(place.set_id)
            total = 0 if found is None else found.count
            done = len(self.studio.store.votes(place.set_id, annotator=place.annotator))
            progress = views.progress_html(
                number=None, total=total, done=done, set_name=place.set_name, annotator=place.annotator
            )
            return {
                self.place: replace(place, pair_id="", left="", voted=True),
                self.progress: progress,
                self.pair: views.done_html(total),
                self.keys: "",
                self.rubrics: gr.update(choices=[], value=[]),
                **blank,
                **self._buttons(vote=False, undo=done > 0, next=False),
            }
        sample = _plain_sample(shown.sample)
        at = replace(place, pair_id=shown.pair_id, left=shown.left, shown_at=time.monotonic(), voted=False)
        rates = [frame_seconds(video, self.studio.media.folder) for video in views.videos(sample)]
        frame = min((rate for rate in rates if rate), default=None)
        pair = views.pair_html(sample, shown.left, number=shown.number, total=shown.total, frame=frame)
        return {
            self.place: at,
            self.progress: self._progress(at, shown),
            self.pair: pair,
            self.keys: views.keys_html("data-vote-transport" in pair),
            self.rubrics: gr.update(choices=views.criteria(sample), value=[]),
            **blank,
            **self._buttons(vote=True, undo=shown.done > 0, next=False),
        }

    def _buttons(self, *, vote: bool, undo: bool, next: bool) -> Updates:
        return {**{one: _on(vote) for one in self.votes.values()}, self.undo: _on(undo), self.next: _on(next)}

    def _progress(self, place: Place, shown: Shown) -> str:
        return views.progress_html(
            number=shown.number, total=shown.total, done=shown.done, set_name=place.set_name, annotator=place.annotator
        )

    def _revealed(self, shown: Shown, reveal: Reveal, side: views.Side, strength: int | None) -> str:
        sample = _plain_sample(shown.sample)
        stored = self.studio.store.judgment(reveal.judgment) if reveal.judgment else None
        return views.reveal_html(
            sample,
            side=side,
            left=shown.left,
            strength=strength,
            verdict=reveal.verdict,
            probability_a=reveal.probability_a,
            agrees=reveal.agrees,
            label=reveal.label,
            judgment=None if stored is None else Markup(judgment_html(stored.record, stored.sample, show_sample=False)),
        )


def _on(on: bool) -> Any:
    return gr.update(interactive=on)


def _plain_sample(sample: Any) -> dict[str, Any]:
    return sample if isinstance(sample, dict) else sample.to_dict()
