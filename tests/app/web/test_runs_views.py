"""The Runs tab as HTML and figures: what a person reads there, and that nothing which was judged can be markup."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest

from omnirm.app.jobs.jobs import JobStatus, Progress
from omnirm.app.runs.facts import RowFacts
from omnirm.app.runs.statistics import compare, share, summarise
from omnirm.app.runs.values import IN_APP, Page, RunInfo, RunRow
from omnirm.app.web import plots
from omnirm.app.web import runs_views as views
from omnirm.app.web.runs_words import ago, captions, chance, duration, interval, number, points

NOW = datetime(2025, 1, 8, 12, tzinfo=UTC)
PAYLOADS = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "<svg onload=alert(1)>", "[x](javascript:alert(1))",
    "{{ 7 * 7 }}", "${alert(1)}", "' onmouseover='alert(1)", "</button></li><iframe src=//evil>", "\x1b[31m\u202eevil",
)  # fmt: skip
TAGS = {
    "article", "a", "audio", "b", "button", "caption", "dd", "details", "div", "dl", "dt", "figcaption", "figure", "h2",
    "h3", "h4", "header", "img", "li", "nav", "ol", "p", "pre", "section", "span", "summary", "table", "tbody", "td",
    "th", "thead", "tr", "ul", "video",
}  # fmt: skip


def info(**more) -> RunInfo:
    known = RunInfo("runs/one", "runs/one", "nano", "vote", rows=60, labelled=60, judged=59, accuracy=share(24, 60))
    return replace(known, **{"coverage": share(59, 60), "written": NOW - timedelta(minutes=5), **more})


def row(position: int = 0, **more) -> RunRow:
    known = RunRow(
        position, position, f"s{position}", "A", "A", True, 0.75, ("text",), True, (),
        {"id": "s", "prompt": "which is it?", "candidates": ["one", "two"]}, {},
    )  # fmt: skip
    return replace(known, **more)


def facts(id: str, verdict: str | None = "A", label: str | None = "A", sure: float | None = 0.8) -> RowFacts:
    right = None if verdict is None or label is None else verdict == label
    return RowFacts(id, "pairwise", verdict, label, sure, right, 1, 1, 2, 100, 5)


SUMMARY = summarise(
    [facts("a"), facts("b", "B", sure=0.95), facts("c", None), facts("d", "tie", None), facts("e", sure=0.93)],
    [("text",), ("text", "image"), ("text",), (), ("image",)],
)


class Read(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += f" {data.strip()}" if data.strip() else ""


def text(html: str) -> str:
    return " ".join(Read(html).text.split())


# -- what a person reads


def test_the_list_says_what_there_is():
    said = text(views.runs_html([info(), info(id="b", rows=None, accuracy=None, coverage=None)], now=NOW))
    assert "runs/one nano vote 5 minutes ago 60 judgments 40 % right (29–53) 98 % coverage" in said
    assert "not counted judgments" in said
    assert "being written now" in text(views.runs_html([info(state="running")], now=NOW))
    assert "2 notes" in text(views.runs_html([info(problems=("x", "y"))], now=NOW))


@pytest.mark.parametrize("runs", [[], [RunInfo(IN_APP, "Judgments made in the app", rows=0)]])
def test_an_empty_list_says_how_it_gets_filled(runs):
    said = text(views.runs_html(runs, now=NOW))
    assert "Nothing has been judged yet." in said
    assert "--runs FOLDER" in said


def test_the_head_has_figures_problems_and_settings():
    html = views.run_html(info(problems=("line 3: not JSON.",), settings={"model": "nano"}), SUMMARY, now=NOW)
    said = text(html)
    assert "Judgments 5 4 with a verdict" in said
    assert "Right 50 % (15–85) of 4 with a label; 67 % (21–94) of those read" in said
    assert "Coverage 80 %" in said
    assert "Tokens 525 in 10 calls" in said
    assert "1 note on what could not be read line 3: not JSON." in said
    assert '"model": "nano"' in said
    unlabelled = text(views.run_html(info(), summarise([facts("a", label=None)], [()]), now=NOW))
    assert "Right – no labels to compare with" in unlabelled


def test_rows_are_buttons_with_what_came_out():
    rows = (
        row(0), row(1, verdict="B", correct=False, orders_agree=False, modalities=("text", "image")),
        row(2, verdict=None, correct=None, confidence=None), row(3, label=None, correct=None, title="Mine"),
    )  # fmt: skip
    html = views.rows_html(Page(70, 0, rows), selected=1, pictures=[(), ("/m/a.png",), (), ()])
    page = Read(html)
    assert [value for key, value in page.attributes if key == "data-position"] == ["0", "1", "2", "3"]
    assert "B s1 ✗ wrong which is it? 75 % sure image orders disagree" in page.text
    assert "? s2 unread" in page.text
    assert "A Mine which is it?" in page.text
    assert "70 judgments, 1 to 4 shown" in page.text
    assert [value for key, value in page.attributes if key == "data-page"] == ["-1", "1"]
    assert page.attributes.count(("aria-current", "true")) == 1
    assert [value for key, value in page.attributes if key == "src"] == ["gradio_api/file=/m/a.png"]
    assert ("disabled", None) in page.attributes
    assert "No judgment passes these filters." in views.rows_html(Page(0, 0, ()))


def test_one_row_with_its_sample_and_judgment():
    one = row(4, permalink="abc", problem="gone")
    html = views.row_html("runs/one", one, 9, one.sample, "<b>judged</b>", problem="no sample")
    page = Read(html)
    assert "5 of 9 right label A" in page.text
    assert "gone no sample" in page.text
    assert "Prompt which is it? A one B two judged" in page.text
    assert ("href", "?judgment=abc") in page.attributes
    assert ("data-row", "4") in page.attributes
    assert "Prompt" not in text(views.row_html("runs/one", one, 9, None, ""))


def test_two_runs_in_words():
    a = [facts(str(i)) for i in range(40)]
    b = [facts(str(i), "A" if i < 20 else "B") for i in range(40)]
    said = text(views.comparison_html(info(title="one"), info(title="two"), compare(a, b)))
    assert "The first run is right more often, beyond what chance would explain." in said
    assert "20 both right 20 only the first" in said
    assert "0 only the second 0 neither" in said
    assert "First minus second +50.0 points (+3" in said
    assert "p < 0.001" in said
    assert "Same verdict 20 of 40 samples in both" in said
    assert "No clear difference" in text(views.comparison_html(info(), info(), compare(a, a)))
    assert "share no sample" in text(views.comparison_html(info(), info(), compare(a, [facts("z")])))
    alone = compare([facts("1", label=None)], [facts("1", "B", None)])
    assert "no labels" in text(views.comparison_html(info(), info(), alone))


def test_differing_samples_and_both_judgments():
    found = compare([facts(str(i)) for i in range(60)], [facts(str(i), "B") for i in range(60)]).differing
    page = Read(views.differing_html(found, 1, "55"))
    assert [value for key, value in page.attributes if key == "data-sample"] == [str(i) for i in range(50, 60)]
    assert "first: A second: B label A" in page.text
    assert "No sample to show here." in views.differing_html((), 0)
    sides = (info(title="one"), row(), "<i>1</i>"), (info(title="two"), row(1, correct=False), "<i>2</i>")
    said = text(views.beside_html(*sides, row().sample))
    assert "Prompt which is it? A one B two First: one right 1 Second: two wrong 2" in said


def job(state: str, id: str = "j", **more) -> JobStatus:
    known = JobStatus(id, "judge", state, Progress(), None, "", {}, NOW - timedelta(hours=2), None, None)
    return replace(known, **more)


def test_jobs():
    jobs = [
        job("done", result={"judgment": "abc"}, started=NOW - timedelta(seconds=95), finished=NOW),
        job("failed", error="no such model"),
        job("queued", "q2", position=1), job("queued", "q1", position=0),
        job("running", "r", progress=Progress("judging", 3, 12, "rubric 1 of 4: Truth", eta_s=20.0)),
    ]  # fmt: skip
    page = Read(views.jobs_html(jobs, {"q1": "Two cats"}, now=NOW))
    assert [value for key, value in page.attributes if key == "data-cancel"] == ["r", "q1", "q2"]
    assert "judging · rubric 1 of 4: Truth · 3 of 12 · about 20 s left" in page.text
    assert "Waiting Judge one sample Two cats 2 hours ago" in page.text
    assert "next in line" in page.text
    assert "1 before it" in page.text
    assert "no such model" in page.text
    assert "took 2 min" in page.text
    assert ("href", "?judgment=abc") in page.attributes
    assert ("aria-valuenow", "25") in page.attributes
    assert "No jobs yet." in views.jobs_html([])


def test_numbers_times_and_chances():
    assert [ago(NOW - timedelta(seconds=s), NOW) for s in (1, 60, 3599, 7200, 90_000)] == [
        "just now", "1 minute ago", "59 minutes ago", "2 hours ago", "1 day ago",
    ]  # fmt: skip
    assert ago(NOW - timedelta(days=30), NOW) == "09 Dec 2024"
    assert (ago(None, NOW), ago(NOW + timedelta(hours=1), NOW)) == ("", "just now")
    assert [number(n) for n in (None, 0, 1234, 5_210_000)] == ["–", "0", "1,234", "5.2 million"]
    assert [duration(s) for s in (0.2, 59, 600, 9000)] == ["less than a second", "59 s", "10 min", "2.5 h"]
    assert (interval(None), points(None), chance(None), chance(0.0314)) == ("–", "–", "–", "p = 0.031")


# -- nothing that was judged is markup


@pytest.mark.parametrize("payload", PAYLOADS)
def test_whatever_a_file_or_a_model_wrote_stays_text(payload):
    hostile = info(
        id=payload, title=payload, model=payload, strategy=payload, problems=(payload,), settings={payload: payload},
        versions={payload: payload},
    )  # fmt: skip
    sample = {"id": payload, "prompt": payload, "candidates": [payload, {"name": payload, "content": payload}]}
    bad = row(sample_id=payload, title=payload, sample=sample, permalink=payload, problem=payload, label=payload)
    bad = replace(bad, label=None, modalities=("image",), correct=None)
    summary = summarise([replace(facts(payload, None), reason=payload), facts("b")], [("image",)] * 2)
    found = compare([facts(payload)], [facts(payload, "B")])
    pages = [
        views.runs_html([hostile], now=NOW),
        views.run_html(hostile, summary, now=NOW),
        views.rows_html(Page(1, 0, (bad,)), 0, [(payload,)]),
        views.row_html(payload, bad, 1, sample, "", problem=payload),
        views.comparison_html(hostile, hostile, found),
        views.differing_html(found.differing, 0, payload),
        views.beside_html((hostile, bad, ""), (hostile, bad, ""), sample),
        views.jobs_html(
            [job("failed", payload, kind=payload, error=payload, result={"judgment": payload})], {payload: payload}
        ),
        views.jobs_html([job("running", payload, kind=payload, progress=Progress(payload, 1, 2, payload))]),
        *(views.caption_html(*one) for one in captions(summary).values()),
        views.error_html(payload),
        views.empty_html(payload, payload),
    ]
    for html in pages:
        page = Read(html)
        assert set(page.tags) <= TAGS
        assert not [key for key, _ in page.attributes if key.startswith("on")]
        assert not [v for k, v in page.attributes if k in ("href", "src") and v and ":" in v.split("=")[0]]
        assert "\x1b" not in page.text
        assert "\u202e" not in page.text


# -- figures


def test_figures_have_the_numbers_and_load_nothing():
    for draw in (plots.accuracy_by_modality, plots.confidence_histogram, plots.reliability, plots.verdict_balance,
                 plots.tokens):  # fmt: skip
        figure = draw(SUMMARY)
        data = figure.to_json()
        assert "http" not in data
        layout = json.loads(data)["layout"]
        assert (layout["paper_bgcolor"], layout["plot_bgcolor"]) == ("rgba(0,0,0,0)", "rgba(0,0,0,0)")
        assert layout["dragmode"] is False
    bars = plots.accuracy_by_modality(SUMMARY).data[0]
    assert dict(zip((name.strip() for name in bars.y), bars.x, strict=True)) == {"text": 50.0, "image": 50.0}
    right, wrong, unknown = plots.confidence_histogram(SUMMARY).data
    assert (sum(right.y), sum(wrong.y), sum(unknown.y)) == (2, 1, 1)
    verdicts, labels = plots.verdict_balance(SUMMARY).data
    assert list(verdicts.x) == ["A", "B", "tie", "unread"]
    assert list(verdicts.y) == [40.0, 20.0, 20.0, 20.0]
    assert list(labels.y) == [100.0, 0.0, 0.0, 0.0]
    assert sum(plots.tokens(SUMMARY).data[0].y) == 5


def test_figures_of_nothing():
    empty = summarise([], [])
    bare = summarise([RowFacts("a", "pointwise", "A")], [()])
    assert plots.verdict_balance(empty) is None
    for draw in (plots.accuracy_by_modality, plots.confidence_histogram, plots.reliability, plots.tokens):
        assert draw(empty) is None
        assert draw(bare) is None
    assert captions(empty)["balance"] == ("Verdicts", "No judgment yet.")
    assert captions(bare)["reliability"][1] == "Needs labels and a confidence."
    assert captions(SUMMARY)["modality"][1].startswith("Lowest on ")
