"""The pieces of the Vote tab as HTML. Pure: from values to markup; what people and models wrote is text.

What is shown before a vote is made from the prompt, the two contents and which of them stands left, and says neither
which one is A nor where it comes from, nor what a judge or a label says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup

from omnirm.app.web.media_view import Content, candidate_html, prompt_html
from omnirm.app.web.rendering import percent, render

if TYPE_CHECKING:
    from omnirm.app.votes.export import ExportReport
    from omnirm.app.votes.voting import Agreement
    from omnirm.scoring.agreement import TwoRaters

Letter = Literal["A", "B"]
Side = Literal["left", "right", "tie", "both_bad", "skip"]

SAID: Mapping[str, str] = {
    "left": "Left is better",
    "right": "Right is better",
    "tie": "a tie",
    "both_bad": "both are bad",
    "skip": "skipped",
}
STRENGTHS: tuple[tuple[str, int], ...] = (("A little", 1), ("Clearly", 3))
KEYS: tuple[tuple[str, str], ...] = (
    ("1", "left"),
    ("2", "right"),
    ("0", "tie"),
    ("x", "both bad"),
    ("s", "skip"),
    ("n", "next"),
    ("u", "undo"),
)
PLAYER_KEYS: tuple[tuple[str, str], ...] = (("space", "play or pause both"), (", .", "frame"), ("m", "whose sound"))
_GENERAL = ("Follows the prompt", "Correct", "Complete", "Clear")
_OF_MEDIA = {"image": "Looks better", "video": "Looks better", "audio": "Sounds better"}
_MOST_CRITERIA = 12
FEW = 10  # fewer pairs in common say nothing about agreement
_FRAME_S = 1 / 30  # where the frame rate is not known


def pair_html(
    sample: Mapping[str, Any], left: Letter, *, number: int, total: int, frame: float | None = None
) -> Markup:
    """Prompt, left and right response, and the bar that plays both where both have something to play.

    Args:
        sample: in the documented form, with two candidates.
        left: which of them stands left.
        number: of the pair, as people count.
        total: pairs in the set.
        frame: seconds between the frames of the faster of two videos, where that is known.
    """
    first, second = sample["candidates"]
    sides = (first, second) if left == "A" else (second, first)
    together = _together(*sides)
    step = 0.1 if together == "audio" else frame or _FRAME_S
    return render(
        "vote_pair.html",
        number=number,
        total=total,
        prompt=Markup(prompt_html(sample["prompt"])),
        left=Markup(candidate_html(sides[0])),
        right=Markup(candidate_html(sides[1])),
        together=together,
        beside=all(set(_kinds(side)) == {"video"} for side in sides),
        frame=f"{step:.6f}",
    )


def videos(sample: Mapping[str, Any]) -> tuple[str, ...]:
    """References of the two candidates' first videos, where they have any."""
    found = []
    for candidate in sample["candidates"]:
        part = next((p for p in _parts(candidate) if isinstance(p, Mapping) and p.get("type") == "video"), None)
        if part is not None and isinstance(part.get("video"), str):
            found.append(part["video"])
    return tuple(found)


def criteria(sample: Mapping[str, Any]) -> list[str]:
    """What can be ticked: the sample's own rubrics by name, then general ones that suit its candidates; each once."""
    own = [rubric if isinstance(rubric, str) else str(rubric.get("name", "")) for rubric in sample.get("rubrics") or ()]
    kinds = {kind for candidate in sample["candidates"] for kind in _kinds(candidate)}
    looks = [words for kind, words in _OF_MEDIA.items() if kind in kinds]
    return [name for name in dict.fromkeys((*own, *_GENERAL, *looks)) if name.strip()][:_MOST_CRITERIA]


def progress_html(*, number: int | None, total: int, done: int, set_name: str, annotator: str) -> Markup:
    """How far one person is in one set; `number` None: there is no pair left."""
    return render(
        "vote_progress.html",
        heading="All done" if number is None else f"Pair {number} of {total}",
        total=total,
        done=done,
        share=_share(done, total),
        set_name=set_name,
        annotator=annotator,
    )


def keys_html(playable: bool) -> Markup:
    """The legend of keys, and the switch that turns them off."""
    return render("vote_keys.html", keys=(*KEYS, *PLAYER_KEYS) if playable else KEYS)


def done_html(total: int) -> Markup:
    """What stands in the place of a pair when there is none left."""
    return render("vote_done.html", total=total)


def reveal_html(
    sample: Mapping[str, Any],
    *,
    side: Side,
    left: Letter,
    strength: int | None = None,
    verdict: str | None = None,
    probability_a: float | None = None,
    agrees: bool | None = None,
    label: str | None = None,
    judgment: Markup | None = None,
) -> Markup:
    """What was hidden until the vote: which response was which, what the judge says, what the label says.

    Args:
        sample: as for `pair_html`; the names of its candidates are shown now.
        side: what the person said.
        left: the candidate that stood left.
        strength: as in `STRENGTHS`.
        verdict: the judge's, `A`, `B` or `tie`; None where it has not judged.
        probability_a: the judge's, that A is better.
        agrees: does the person agree with the judge; None where that cannot be said.
        label: what the file says, `A`, `B` or `tie`.
        judgment: the judgment as HTML, where it is stored.
    """
    right: Letter = "B" if left == "A" else "A"
    names = {letter: _name(one) for letter, one in zip("AB", sample["candidates"], strict=True)}
    degree = next((f", {words.lower()}" for words, value in STRENGTHS if value == strength), "")
    return render(
        "vote_reveal.html",
        said=f"You said: {SAID[side]}{degree if side in ('left', 'right') else ''}.",
        left=left,
        right=right,
        left_name=names[left],
        right_name=names[right],
        agrees=agrees,
        verdict=verdict,
        judged=_judged(verdict, probability_a, left, asked=judgment is not None),
        labelled="" if label is None else f"The file says: {_where(label, left)}.",
        judgment=judgment,
    )


def judging_html(
    *,
    state: str,
    done: int = 0,
    total: int = 0,
    detail: str = "",
    position: int | None = None,
    eta_s: float | None = None,
) -> Markup:
    """How far the judge is with a set."""
    headings = {
        "queued": "Waiting for its turn.",
        "running": "The judge is at work.",
        "done": "The judge is done.",
        "failed": "The judge could not go on.",
        "cancelled": "Stopped.",
    }
    said = [detail] if detail else []
    if state == "queued" and position:
        said.insert(0, f"{position} {'job' if position == 1 else 'jobs'} before this one")
    if state == "running" and total:
        said.insert(0, f"{done} of {total} steps")
    if state == "running" and eta_s is not None:
        said.append(f"about {_duration(eta_s)} left")
    return render(
        "vote_judging.html",
        heading=headings.get(state, state),
        detail=" · ".join(said),
        done=done,
        total=total,
        share=100.0 if state == "done" else _share(done, total),
        failed=state == "failed",
    )


def welcome_html(any_sets: bool) -> Markup:
    """What this tab is for, and what to do where there is nothing to vote on yet."""
    return render("vote_welcome.html", any_sets=any_sets)


def notice_html(text: str, lines: Sequence[str] = (), *, bad: bool = False) -> Markup:
    """A sentence for the person at the screen, with a list below where there is one."""
    return render("vote_notice.html", text=text, lines=list(lines), bad=bad)


def agreement_html(agreement: Agreement) -> Markup:
    """How far people agree with each other and with the judge, and where that cannot be said yet."""
    rows = [_row(f"{one.first} and {one.second}", one.all) for one in agreement.people]
    rows += [_row(f"{one.first} and the judge", one.all) for one in agreement.judge]
    if agreement.majority is not None and len(agreement.annotators) > 1:
        rows.append(_row("What most people say and the judge", agreement.majority.all))
    people = len(agreement.annotators)
    who = "1 person has" if people == 1 else f"{people} people have"
    where = f"on {agreement.voted} of {agreement.total} pairs"
    summary = f"{who} voted so far, {where}." if people else "Nobody has voted yet."
    return render("vote_agreement.html", summary=summary, rows=rows, notes=_notes(agreement))


def export_help_html() -> Markup:
    """What the exported file is good for."""
    return render("vote_export_help.html")


def exported_html(report: ExportReport) -> Markup:
    """What an export has written and left out."""
    left_out = [
        f"{pairs_in_words(report.ties)} without a winner left out." if report.ties else "",
        f"{pairs_in_words(report.too_few)} with too few votes left out." if report.too_few else "",
    ]
    return notice_html(" ".join([f"{pairs_in_words(report.count)} written.", *filter(None, left_out)]))


@dataclass(frozen=True, slots=True)
class _Row:
    """Two raters as the table shows them."""

    who: str
    n: int
    share: str
    share_interval: str
    kappa: str
    kappa_interval: str


def _row(who: str, raters: TwoRaters) -> _Row:
    share, kappa = raters.share_interval, raters.kappa
    few = raters.n < FEW
    return _Row(
        who,
        raters.n,
        percent(raters.share),
        f"{100 * share[0]:.0f} to {100 * share[1]:.0f} %" if share else "",
        "too few pairs" if few else "–" if kappa.value is None else f"{kappa.value:.2f}",
        f"{kappa.interval[0]:.2f} to {kappa.interval[1]:.2f}" if kappa.interval and not few else "",
    )


def _notes(agreement: Agreement) -> list[str]:
    between = [*agreement.people, *agreement.judge]
    notes = []
    if agreement.voted and len(agreement.annotators) < 2:
        notes.append("Agreement between people needs votes of two people on the same pairs.")
    if agreement.voted and not agreement.judge:
        notes.append("The judge has not judged this set yet, so nobody can be compared with it.")
    if any(one.all.n < FEW for one in between):
        notes.append(f"With fewer than {FEW} pairs in common there are too few votes to say how far two agree.")
    elif any(one.all.kappa.value is None for one in between):
        notes.append("Kappa is not defined (–) where both always say the same thing.")
    if len(agreement.annotators) > 2 and agreement.alpha.value is not None:
        span = agreement.alpha.interval
        interval = f" ({span[0]:.2f} to {span[1]:.2f})" if span else ""
        notes.append(f"All people together: Krippendorff's alpha {agreement.alpha.value:.2f}{interval}.")
    if agreement.changed:
        changed = "1 vote was" if agreement.changed == 1 else f"{agreement.changed} votes were"
        notes.append(f"{changed} changed or taken back afterwards.")
    if between:
        notes.append("Kappa: 1 is full agreement, 0 what chance gives. Below each figure its 95 % interval.")
    return notes


def pairs_in_words(count: int) -> str:
    """`1 pair`, `12 pairs`."""
    return f"{count} {'pair' if count == 1 else 'pairs'}"


def _together(left: Content, right: Content) -> str:
    """`video` or `audio` where both sides have something to play, else ""."""
    kinds = [set(_kinds(side)) & {"video", "audio"} for side in (left, right)]
    if not all(kinds):
        return ""
    return "video" if any("video" in found for found in kinds) else "audio"


def _kinds(candidate: Content) -> list[str]:
    """The kinds of a candidate's parts; a video that is given as pictures counts as an image."""
    kinds = []
    for part in _parts(candidate):
        kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
        kinds.append("image" if kind == "video" and not isinstance(part.get("video"), str) else str(kind))
    return kinds


def _parts(candidate: Content) -> Sequence[Any]:
    content = candidate["content"] if isinstance(candidate, Mapping) and "content" in candidate else candidate
    return content if isinstance(content, list | tuple) else [content]


def _name(candidate: Any) -> str:
    return str(candidate.get("name", "")) if isinstance(candidate, Mapping) else ""


def _judged(verdict: str | None, probability_a: float | None, left: Letter, *, asked: bool) -> str:
    if verdict is None:
        return "The judge gave no verdict on this pair." if asked else "The judge has not judged this pair yet."
    sentence = f"The judge says: {_where(verdict, left)}"
    if probability_a is None or verdict not in ("A", "B"):
        return f"{sentence}."
    return f"{sentence}, with a probability of {percent(probability_a if verdict == 'A' else 1 - probability_a)}."


def _where(letter: str, left: Letter) -> str:
    if letter not in ("A", "B"):
        return "a tie"
    return f"{letter}, {'left' if letter == left else 'right'}, is better"


def _share(done: int, total: int) -> float:
    return round(100 * done / total, 1) if total else 0.0


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, math.ceil(seconds))} s"
    return f"{math.ceil(seconds / 60)} min"
