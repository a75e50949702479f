"""The vote tab over a real store: what the page gets before and after a vote, sessions, export, the judge at work."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clips import make_clip
from made_media import encoded_image

from omnirm.app.jobs.jobs import JobService
from omnirm.app.jobs.tasks import JudgeSetHandler
from omnirm.app.media_store import MediaStore
from omnirm.app.models import Models
from omnirm.app.service import ModelOptions
from omnirm.app.store.store import Store
from omnirm.app.votes.voting import Voting
from omnirm.preprocessing.types import Policy
from omnirm.sample import read_samples

gr = pytest.importorskip("gradio")

from omnirm.app.web.vote_tab import Place, vote_tab  # noqa: E402

SOON = 60.0


def pairs(count: int = 4) -> list[dict[str, Any]]:
    return [
        {
            "id": f"gpt-wins-{i}",
            "prompt": f"Question {i}?",
            "candidates": [
                {"name": "strong-model", "content": f"First answer to {i}."},
                {"name": "weak-model", "content": f"Second answer to {i}."},
            ],
            "label": i % 2,
            "rubrics": ["Accuracy"],
            "metadata": {"winner": "strong-model"},
        }
        for i in range(count)
    ]


def written(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture
def studio(tmp_path):
    data = tmp_path / "data"
    store, media = Store(f"sqlite:///{tmp_path / 'omnirm.db'}"), MediaStore(data / "media", policy=Policy())
    models = Models((ModelOptions("scripted:always-a"),), disrms=())
    jobs = JobService(store, data / "jobs", {"judge-set": JudgeSetHandler(models, store)})
    jobs.start()
    yield SimpleNamespace(store=store, media=media, models=models, jobs=jobs, votes=Voting(store, media))
    jobs.stop()
    store.close()


@pytest.fixture
def tab(studio):
    with gr.Blocks():
        yield vote_tab(studio)


@pytest.fixture
def skies(studio, tmp_path):
    return studio.votes.import_set(written(tmp_path / "skies.jsonl", pairs()), name="Skies").set_id


def sent(tab, changes: dict[Any, Any]) -> str:
    """All that goes to the page; what stays on the server is left out."""
    hidden = (tab.place, tab.tools.job, tab.tools.set_id)
    return json.dumps([str(value) for widget, value in changes.items() if widget not in hidden], ensure_ascii=False)


def open_(button: Any) -> bool:
    return button["interactive"]


def votable(tab, changes) -> set[bool]:
    return {open_(changes[button]) for button in tab.votes.values()}


def test_before_the_vote_the_page_knows_nothing_that_is_hidden(tab, studio, skies):
    """Whatever the judge says, the page gets the same; and none of the words that would tell."""
    for pair in studio.store.pairs(skies):
        studio.store.set_verdict(skies, pair.pair_id, "A", 0.93125)
    one = tab.open(skies, "Ada")
    for pair in studio.store.pairs(skies):
        studio.store.set_verdict(skies, pair.pair_id, "B", 0.07125)
    other = tab.open(skies, "Ada")
    assert sent(tab, one) == sent(tab, other)
    for secret in ("strong-model", "weak-model", "gpt-wins", "winner", "93", "data-vote-left", one[tab.place].pair_id):
        assert secret not in sent(tab, one)
    assert votable(tab, one) == {True}
    assert not open_(one[tab.next])


def test_states_with_hidden_things_are_kept_on_the_server(tab):
    for state in (tab.place, tab.tools.job, tab.tools.set_id):
        assert isinstance(state, gr.State)


def test_the_page_itself_names_no_candidate(studio, skies):
    with gr.Blocks() as demo:
        vote_tab(studio)
    config = json.dumps(demo.get_config_file(), default=str)
    assert "Skies" in config
    assert "strong-model" not in config
    assert "gpt-wins" not in config


def test_no_handler_is_offered_to_programs(studio, skies):
    with gr.Blocks() as demo:
        vote_tab(studio).on_load(demo)
    assert {fn.api_visibility for fn in demo.fns.values()} == {"private"}


def test_the_vote_is_stored_in_the_samples_order_and_what_was_hidden_is_shown(tab, studio, skies):
    for pair in studio.store.pairs(skies):
        studio.store.set_verdict(skies, pair.pair_id, "A", 0.9)
    place = tab.open(skies, "Ada")[tab.place]
    changes = tab.vote(place, "left", 3, ["Accuracy", "Clear"], "because")
    (vote,) = studio.store.votes(skies)
    assert (vote.choice, vote.left, vote.strength) == (place.left, place.left, 3)
    assert vote.rubrics == ("Accuracy", "Clear")
    assert vote.comment == "because"
    assert 0 <= vote.seconds < SOON
    html = str(changes[tab.reveal])
    assert "You said: Left is better, clearly." in html
    assert "strong-model" in html
    assert "The judge says: A" in html
    assert ("You and the judge agree" if place.left == "A" else "You and the judge differ") in html
    assert votable(tab, changes) == {False}
    assert open_(changes[tab.next])
    assert open_(changes[tab.undo])
    assert "1 of 4 done" in str(changes[tab.progress])


@pytest.mark.parametrize("side", ["tie", "both_bad"])
def test_votes_for_neither_have_no_strength(tab, studio, skies, side):
    tab.vote(tab.open(skies, "Ada")[tab.place], side, 3, [], "")
    (vote,) = studio.store.votes(skies)
    assert (vote.choice, vote.strength) == (side, None)


def test_a_second_click_changes_nothing(tab, studio, skies):
    place = tab.open(skies, "Ada")[tab.place]
    voted = tab.vote(place, "left", None, [], "")[tab.place]
    before = studio.store.votes(skies)
    assert list(tab.vote(voted, "right", None, [], "")) == [tab.place]
    assert studio.store.votes(skies) == before
    assert list(tab.vote(Place(), "right", None, [], "")) == [tab.place]


def test_skip_shows_the_next_pair_and_hides_what_the_judge_says(tab, studio, skies):
    for pair in studio.store.pairs(skies):
        studio.store.set_verdict(skies, pair.pair_id, "A", 0.9)
    place = tab.open(skies, "Ada")[tab.place]
    changes = tab.vote(place, "skip", 3, [], "")
    assert changes[tab.place].pair_id != place.pair_id
    assert changes[tab.reveal] == ""
    assert "strong-model" not in sent(tab, changes)
    assert studio.store.votes(skies)[0].choice == "skip"


def test_undo_opens_the_last_pair_again(tab, studio, skies):
    place = tab.open(skies, "Ada")[tab.place]
    first = tab.vote(place, "left", None, [], "")[tab.place]
    second = tab.go_on(first)[tab.place]
    changes = tab.take_back(second)
    assert changes[tab.place].pair_id == place.pair_id
    assert not changes[tab.place].voted
    assert changes[tab.place].left == place.left
    assert changes[tab.reveal] == ""
    assert votable(tab, changes) == {True}
    again = tab.take_back(changes[tab.place])
    assert "no vote of yours to undo" in str(again[tab.notice])


def test_a_session_goes_on_where_it_stopped_and_ends(tab, studio, skies):
    place = tab.open(skies, "Ada")[tab.place]
    seen = [place.pair_id]
    tab.vote(place, "left", None, [], "")
    for _ in range(3):  # the page is opened anew each time
        place = tab.open(skies, " Ada ")[tab.place]
        seen.append(place.pair_id)
        tab.vote(place, "right", None, [], "")
    assert sorted(seen) == sorted(pair.pair_id for pair in studio.store.pairs(skies))
    changes = tab.go_on(replace(place, voted=True))
    assert "You have voted on all 4 pairs" in str(changes[tab.pair])
    assert votable(tab, changes) == {False}
    assert open_(changes[tab.undo])
    assert not open_(changes[tab.next])
    assert tab.open(skies, "Grace")[tab.place].pair_id  # somebody else begins at the beginning


def test_a_reload_shows_the_same_sides(tab, skies):
    assert sent(tab, tab.open(skies, "Ada")) == sent(tab, tab.open(skies, "Ada"))


@pytest.mark.parametrize(
    ("known", "name", "said"),
    [
        (False, "Ada", "Choose a set"),
        (None, "Ada", "Choose a set"),
        (True, "  ", "Write your name"),
        (True, "x" * 65, "1 to 64"),
        (True, "a\nb", "1 to 64"),
    ],
)
def test_what_is_missing_is_said(tab, skies, known, name, said):
    set_id = {True: skies, False: "nothing", None: None}[known]
    changes = tab.open(set_id, name)
    assert list(changes) == [tab.notice]
    assert said in str(changes[tab.notice])
    assert 'role="alert"' in str(changes[tab.notice])


def test_uploaded_pairs_become_a_set_and_bad_rows_are_named(tab, studio, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(encoded_image("PNG"))
    (tmp_path / "up").mkdir()
    rows = [
        *pairs(2),
        {"prompt": "no candidates"},
        {"prompt": "p", "candidates": [[{"type": "image", "image": str(secret)}], "b"]},
    ]
    changes = tab.take_in(str(written(tmp_path / "up" / "mine <b>.jsonl", rows)))
    (found,) = studio.store.vote_sets()
    assert (changes[tab.set]["value"], found.count) == (found.id, 2)
    notice = str(changes[tab.notice])
    assert "2 pairs taken in" in notice
    assert "candidates" in notice
    assert "outside the folders" in notice
    assert "<b>" not in notice


def test_an_upload_that_is_no_set_is_refused_in_a_sentence(tab, studio, tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b"\xff\xfe\x00")
    notice = str(tab.take_in(str(tmp_path / "x.jsonl"))[tab.notice])
    assert "could not be used" in notice
    assert studio.store.vote_sets() == []


def test_the_menu_has_the_last_set_chosen_or_the_newest(tab, studio, skies, tmp_path):
    newer = studio.votes.import_set(written(tmp_path / "b.jsonl", pairs(1)), name="Newer").set_id
    assert tab.sets(skies)[0]["value"] == skies
    assert tab.sets("")[0]["value"] == tab.sets("gone")[0]["value"] == newer
    assert ("Newer (1 pair)", newer) in tab.sets("")[0]["choices"]


def test_without_sets_it_says_what_to_do(tab):
    assert "There are no pairs to vote on yet" in str(tab.sets("")[1])


def test_two_videos_come_with_a_bar_and_the_finer_frame_rate(tab, studio, tmp_path):
    for name, fps in (("a", 25), ("b", 10)):
        make_clip(tmp_path / f"{name}.mp4", frames=fps, fps=fps)
    sides = [[{"type": "video", "video": f"{name}.mp4"}] for name in "ab"]
    file = written(tmp_path / "clips.jsonl", [{"prompt": "A ball.", "candidates": sides}])
    set_id = studio.votes.import_set(file).set_id
    pair = str(tab.open(set_id, "Ada")[tab.pair])
    assert 'data-vote-frame="0.04' in pair
    assert pair.count("<video") == 2
    assert str(tmp_path / "a.mp4") not in pair  # only what lies in the media store is served


def test_votes_are_exported_for_training(tab, studio, skies):
    changes = tab.open(skies, "Ada")
    for _ in range(4):
        tab.vote(changes[tab.place], "left", None, [], "")
        changes = tab.go_on(changes[tab.place])
    found = tab.tools.write(skies, "drop", 1)
    assert "4 pairs written" in str(found[tab.tools.exported])
    samples = list(read_samples(found[tab.tools.download]["value"]))
    lefts = {vote.pair_id: vote.choice for vote in studio.store.votes(skies)}
    assert len(samples) == 4
    assert sorted("AB"[sample.label] for sample in samples) == sorted(lefts.values())
    assert found[tab.tools.download]["value"] in tab.tools.download.temp_files  # swept away with Gradio's own


def test_an_export_of_nothing_says_so(tab, skies):
    found = tab.tools.write(skies, "drop", 1)
    assert "nothing to export" in str(found[tab.tools.exported])
    assert found[tab.tools.download]["visible"] is False


def test_agreement_is_counted(tab, skies):
    for name in ("Ada", "Grace"):
        tab.vote(tab.open(skies, name)[tab.place], "tie", None, [], "")
    assert "2 people have voted so far" in str(tab.tools.agreed(skies))
    assert "no vote set" in str(tab.tools.agreed("gone"))
    assert tab.tools.agreed("") == ""


def test_the_judge_judges_the_set_and_its_cards_are_shown_after_the_vote(tab, studio, skies):
    started = tab.tools.ask_judge(skies, "scripted:always-a", "single")
    job = started[tab.tools.job]
    seen = [str(changes[tab.tools.judging]) for changes in tab.tools.watch(job)]
    assert studio.jobs.status(job).state == "done"
    assert "The judge is done." in seen[-1]
    assert {pair.verdict for pair in studio.store.pairs(skies)} <= {"A", "B", "tie"}
    changes = tab.open(skies, "Ada")
    assert changes[tab.tools.job] == ""
    assert "judge" not in str(changes[tab.pair])
    reveal = str(tab.vote(changes[tab.place], "left", None, [], "")[tab.reveal])
    assert "Why the judge says so" in reveal
    assert "First answer to" not in reveal  # the pair stands above already


def test_a_judge_at_work_is_found_again_and_not_started_twice(tab, studio, skies):
    studio.jobs.stop()  # nothing is done; the job stays queued
    job = tab.tools.ask_judge(skies, "scripted:always-a", "rubrics")[tab.tools.job]
    assert tab.tools.ask_judge(skies, "scripted:always-a", "single")[tab.tools.job] == job
    assert tab.open(skies, "Ada")[tab.tools.job] == job
    tab.tools.stop_judge(job)
    assert studio.jobs.status(job).state == "cancelled"
    assert tab.open(skies, "Ada")[tab.tools.job] == ""


def test_a_model_that_is_not_offered_cannot_be_asked(tab, studio, skies):
    job = tab.tools.ask_judge(skies, "/etc/passwd", "single")[tab.tools.job]
    assert "could not go on" in [str(changes[tab.tools.judging]) for changes in tab.tools.watch(job)][-1]
    assert studio.jobs.status(job).state == "failed"
