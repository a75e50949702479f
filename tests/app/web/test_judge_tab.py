"""The Judge tab: what a filled form means, examples, progress, and judging through the real jobs on a real page."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from made_media import encoded_image

from omnirm.app.jobs.jobs import JobStatus, Progress
from omnirm.app.jobs.tasks import JudgeTask
from omnirm.app.service import ModelOptions
from omnirm.app.studio import Studio, StudioSettings, open_studio
from omnirm.errors import ConfigError, OmnirmError, SampleError
from omnirm.rubrics.primary import primary_rubrics
from omnirm.sample import Sample

gr = pytest.importorskip("gradio")

from omnirm.app.web.examples import EXAMPLES, fill  # noqa: E402
from omnirm.app.web.judge_form import Form, Place, from_task, library, own_rubrics, to_task  # noqa: E402
from omnirm.app.web.judge_tab import JudgeTab, judge_tab  # noqa: E402
from omnirm.app.web.progress_view import progress_html, time_left  # noqa: E402

PAIR = Form(prompt=Place("2 + 3?"), responses=(Place("5"), Place("6")))


@pytest.fixture(scope="module")
def studio(tmp_path_factory) -> Iterator[Studio]:
    models = (ModelOptions("scripted:always-a"), ModelOptions("nano"))
    with (
        pytest.MonkeyPatch.context() as patch,
        open_studio(StudioSettings(data=tmp_path_factory.mktemp("data"), models=models)) as opened,
    ):
        patch.setenv("GRADIO_TEMP_DIR", str(opened.media.uploads))
        yield opened


@pytest.fixture(scope="module")
def tab(studio) -> JudgeTab:
    with gr.Blocks() as demo:
        made = judge_tab(studio)
        made.on_load(demo)
    return made


def values_of(tab: JudgeTab, form: Form) -> dict[Any, Any]:
    """The widgets' values with the form in them, as Gradio would hand them in."""
    found = {one: getattr(one, "value", None) for one in tab.widgets.inputs}
    for widget, update in tab.fill(form).items():
        if isinstance(update, dict) and "value" in update:
            found[widget] = update["value"]
        elif not isinstance(update, dict):
            found[widget] = update
    return {widget: value for widget, value in found.items() if widget in tab.widgets.inputs}


def everything(steps: Any) -> list[dict[Any, Any]]:
    async def collected() -> list[dict[Any, Any]]:
        return [step async for step in steps]

    return asyncio.run(asyncio.wait_for(collected(), 120))


def status(state: str = "running", **values: Any) -> JobStatus:
    progress = values.pop("progress", Progress())
    now = datetime.now(UTC)
    return JobStatus(
        "j", "judge", state, progress, values.pop("position", None), values.pop("error", ""), {}, now, now, None
    )


# -- the form


def test_a_filled_form_is_a_task_that_comes_back_as_the_same_form(studio):
    form = replace(PAIR, strategy="vote", source="own", own="Truth (weight 2): is it true?\nTone", samples=2, seed=7)
    task = to_task(form, studio)
    assert task.mode == "compare"
    assert task.model == "scripted:always-a"
    assert task.scaling is not None
    assert [(one.name, one.weight) for one in task.scaling.given] == [("Truth", 2), ("Tone", 1)]
    assert (task.judging.samples, task.judging.seed, task.judging.rubrics) == (2, 7, None)
    again = from_task(JudgeTask.from_dict(task.to_dict()).to_dict())
    assert again == replace(form, model="scripted:always-a")


def test_one_judgment_takes_rubrics_without_a_strategy(studio):
    own = to_task(replace(PAIR, source="own", own="Truth: is it true?"), studio)
    assert own.scaling is None
    assert [one.name for one in own.judging.rubrics or ()] == ["Truth"]
    found = to_task(replace(PAIR, source="library", task="math"), studio)
    assert found.judging.rubrics == (primary_rubrics()["math"],)
    planned = to_task(replace(PAIR, source="library", task="math", strategy="vote", count=3), studio)
    assert planned.scaling is not None
    assert (planned.scaling.planner, planned.scaling.task, planned.scaling.rubrics) == ("primary", "math", 3)


def test_scoring_and_ranking_have_no_strategy(studio):
    responses = tuple(Place(str(i)) for i in range(5))
    task = to_task(replace(PAIR, mode="rank", responses=responses, strategy="vote", method="p-yes"), studio)
    assert (task.mode, task.method, task.scaling) == ("score", "p-yes", None)
    assert len(Sample.from_dict(task.sample).candidates) == 5
    one = to_task(replace(PAIR, mode="score"), studio)
    assert len(Sample.from_dict(one.sample).candidates) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": Place("  ")}, "The prompt is empty"),
        ({"responses": (Place("5"), Place(" \n"))}, "Response B is empty"),
        ({"mode": "score", "responses": (Place(),)}, "The response is empty"),
        ({"mode": "rank", "responses": (Place("5"),)}, "cannot be ranked"),
        ({"mode": "rank", "responses": (Place("5"),) * 9}, "give 1 to 8"),
        ({"mode": "argue"}, "responses to argue"),
        ({"model": "/etc/passwd"}, "is not offered here"),
        ({"source": "own", "own": "\n \n"}, "no rubric of your own"),
        ({"source": "library", "task": "cooking"}, "no rubric for cooking"),
        ({"strategy": "vote", "source": "library", "task": "cooking"}, "no rubric for cooking"),
        ({"prompt": Place("x" * 300_000)}, "too long"),
        ({"prompt": Place("?", ("/etc/passwd",))}, "passwd"),
        ({"prompt": Place("?", ("a",) * 9)}, "too many"),
        ({"strategy": "meta", "format": "pairwise"}, "strategy meta"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(studio, change, said):
    with pytest.raises(OmnirmError, match=said):
        to_task(replace(PAIR, **change), studio)


def test_dropped_files_are_taken_for_what_they_are_not_for_their_names(studio):
    folder = studio.media.uploads
    folder.mkdir(exist_ok=True)
    named_wrong = folder / "song.mp3"
    named_wrong.write_bytes(encoded_image("PNG"))
    task = to_task(replace(PAIR, responses=(Place("", (str(named_wrong),)), Place("6"))), studio)
    (part,) = Sample.from_dict(task.sample).candidates[0].parts
    assert part.type == "image"
    assert str(part.value).endswith(".png")
    assert from_task(task.to_dict()).responses[0].files == (part.value,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no rubric"),
        (": what", "line 1"),
        ("A\nA: twice", "called A"),
        ("A (weight heavy): x", "no number"),
        ("A (weight -1): x", "not between"),
        ("A (weight nan): x", "not between"),
        ("A (weight 0): x", "above 0"),
        ("\n".join(f"r{i}" for i in range(21)), "too many"),
    ],
)
def test_rubrics_that_cannot_be_read(text, said):
    with pytest.raises(SampleError, match=said):
        own_rubrics(text)


def test_a_rubric_is_text_and_names_no_file(tmp_path):
    file = tmp_path / "rubrics.json"
    file.write_text('[{"name": "stolen"}]')
    (rubric,) = own_rubrics(f"@{file}")
    assert rubric.name == f"@{file}"


def test_the_library_has_every_primary_rubric():
    assert [task for _, task in library()] == list(primary_rubrics())


def test_a_task_that_the_form_has_no_place_for_is_none():
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    task = JudgeTask({"id": "s", "prompt": turns, "candidates": ["a", "b"]})
    assert from_task(task.to_dict()) is None
    assert from_task({}) is None


# -- examples


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.name)
def test_every_example_is_a_task_with_its_media_in_the_store(studio, example):
    form = fill(example, studio.media)
    task = to_task(form, studio)
    for place in (form.prompt, *form.responses):
        for file in place.files:
            assert studio.media.folder in studio.media.path(file.rpartition("/")[2]).parents
    assert len(form.responses) == len(Sample.from_dict(task.sample).candidates)


def test_there_is_an_example_of_each_modality(studio):
    found = {
        kind
        for one in EXAMPLES
        for kind in Sample.from_dict(to_task(fill(one, studio.media), studio).sample).modalities
    }
    assert found == {"text", "image", "video", "audio"}


# -- progress


def test_progress_says_the_step_the_rubric_the_tokens_and_the_time_left():
    now = Progress("judging", 3, 12, "rubric 2 of 5: <b>tone</b>", 12345, 678, 41.0)
    html = progress_html(status(progress=now))
    for words in (
        "Judging",
        "rubric 2 of 5: &lt;b&gt;tone",
        "3 of 12 calls",
        "12\u202f345 tokens read",
        "about 40 s left",
    ):
        assert words in html
    assert 'aria-valuenow="25"' in html


def test_a_job_that_waits_says_how_many_are_before_it():
    assert "Next in line" in progress_html(status("queued", position=0))
    assert "1 job before yours" in progress_html(status("queued", position=1))
    assert "3 jobs before yours" in progress_html(status("queued", position=3))


def test_ends_are_told():
    assert progress_html(status("done")) == ""
    assert "no memory &lt;left&gt;" in progress_html(status("failed", error="no memory <left>"))
    assert "Cancelled" in progress_html(status("cancelled"))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, ""), (0.5, "nearly done"), (7, "about 7 s left"), (42, "about 40 s left"), (600, "about 10 min left")],
)
def test_time_left(seconds, words):
    assert time_left(seconds) == words


# -- judging


def test_what_is_read_from_the_widgets_is_what_was_filled_in(tab):
    form = replace(PAIR, model="nano", strategy="meta", disrm="nano", seed=3, count=4)
    assert tab.read(values_of(tab, form)) == form


def test_judging_ends_with_a_stored_judgment_and_its_address(studio, tab):
    w = tab.widgets
    steps = everything(tab.judge(values_of(tab, PAIR)))
    job = next(step[w.job] for step in steps if step.get(w.job))
    last = steps[-1]
    found = studio.store.judgment(last[w.shown])
    assert found is not None
    assert found.job == job
    assert found.task["sample"]["candidates"] == ["5", "6"]
    assert last[w.record] == found.record
    assert f"?judgment={found.id}" in last[w.link]
    assert "o-judge-result" in last[w.result]
    assert last[w.judge]["interactive"] is True


def test_an_unfinished_form_is_no_job(studio, tab):
    before = len(studio.store.jobs())
    (step,) = everything(tab.judge(values_of(tab, replace(PAIR, prompt=Place()))))
    assert "The prompt is empty" in step[tab.widgets.progress]
    assert len(studio.store.jobs()) == before


class Address:
    """What `gr.Request` has of a page's address."""

    def __init__(self, **query: str) -> None:
        self.query_params = query


def test_a_link_shows_the_judgment_again_and_fills_the_form(studio, tab):
    w = tab.widgets
    id = everything(tab.judge(values_of(tab, PAIR)))[-1][w.shown]
    (step,) = everything(tab.arrive(Address(judgment=id)))
    assert step[w.shown] == id
    assert step[w.prompt.text]["value"] == "2 + 3?"
    assert "o-judge-result" in step[w.result]


def test_a_page_that_is_reloaded_follows_its_job(studio, tab):
    w = tab.widgets
    job = studio.jobs.submit("judge", to_task(PAIR, studio).to_dict())
    steps = everything(tab.arrive(Address(job=job)))
    assert steps[0][w.job] == job
    assert studio.store.judgment(steps[-1][w.shown]) is not None


@pytest.mark.parametrize("query", [{"judgment": "nothing"}, {"job": "nothing"}, {"judgment": "<script>" * 20}])
def test_an_address_of_nothing_says_so(tab, query):
    (step,) = everything(tab.arrive(Address(**query)))
    assert "Nothing found" in step[tab.widgets.progress]


def test_a_job_can_be_cancelled(studio, tab):
    w = tab.widgets
    slow = studio.jobs.submit(
        "judge", to_task(replace(PAIR, model="nano", strategy="vote", count=20), studio).to_dict()
    )
    job = studio.jobs.submit("judge", to_task(PAIR, studio).to_dict())
    tab.cancel(job)
    tab.cancel(slow)
    last = everything(tab.follow(job))[-1]
    assert "Cancelled" in last[w.progress]
    assert w.shown not in last
    assert studio.jobs.wait(slow, timeout=120).state == "cancelled"
    assert tab.cancel("")[w.cancel]["interactive"] is False


def test_dropped_files_are_shown_or_refused_at_once(studio, tab):
    folder = studio.media.uploads
    folder.mkdir(exist_ok=True)
    good, bad = folder / "a.png", folder / "<b>bad.png"
    good.write_bytes(encoded_image("PNG"))
    bad.write_bytes(b"<svg onload=alert(1)>")
    html = tab.preview([str(good), str(bad)])
    assert "<img" in html
    assert 'role="alert"' in html
    assert "<b>" not in html
    assert "<svg" not in html
    for outside in ("/etc/passwd", "/etc/hostname", "../../etc/passwd"):
        html = tab.preview([outside])
        assert 'role="alert"' in html
        assert "gradio_api/file" not in html


@pytest.mark.parametrize(
    ("mode", "count", "seen"), [("compare", 2, 2), ("score", 2, 1), ("rank", 2, 3), ("rank", 8, 8)]
)
def test_a_question_has_as_many_places_as_it_needs(tab, mode, count, seen):
    found = tab.switch(mode, count, "single", "model", "rubric")
    assert [found[slot.column]["visible"] for slot in tab.widgets.responses] == [i < seen for i in range(8)]
    assert found[tab.widgets.settings["strategy"]]["visible"] is (mode == "compare")


def test_unknown_jobs_are_no_traceback(studio):
    with pytest.raises(ConfigError):
        studio.jobs.status("nothing")
