"""The pieces of the vote tab: blind before the vote, plain after it."""

from __future__ import annotations

import pytest
from markupsafe import Markup

from omnirm.app.votes.export import ExportReport
from omnirm.app.votes.voting import Agreement, Between
from omnirm.app.web import vote_views as views
from omnirm.scoring.agreement import Coefficient, two_raters

HOSTILE = "<img src=x onerror=alert(1)>\"'{{7*7}}"
PAIR = {
    "id": "gpt-first",
    "prompt": "Why is the sky blue?",
    "candidates": [{"name": "model-one", "content": "Scattering."}, {"name": "model-two", "content": "The sea."}],
    "label": 0,
    "rubrics": [{"name": "Accuracy", "text": "Right?", "weight": 2.0}, "Brevity"],
    "metadata": {"winner": "model-one"},
}


def clip(left="a.mp4", right="b.mp4", kind="video"):
    candidates = [[{"type": kind, kind: f"/m/{left}"}], [{"type": kind, kind: f"/m/{right}"}]]
    return {"id": "c", "prompt": "A ball.", "candidates": candidates}


def shown(sample, left="A"):
    return str(views.pair_html(sample, left, number=3, total=40))


def test_left_and_right_are_as_drawn():
    assert shown(PAIR).index("Scattering.") < shown(PAIR).index("The sea.")
    assert shown(PAIR, "B").index("Scattering.") > shown(PAIR, "B").index("The sea.")


def test_nothing_but_prompt_and_responses_decides_what_is_shown_before_the_vote():
    """The same two responses in the same places give the same HTML, whichever is A and whatever is known of them."""
    bare = {"id": "x", "prompt": PAIR["prompt"], "candidates": ["Scattering.", "The sea."]}
    turned = {"id": "y", "prompt": PAIR["prompt"], "candidates": ["The sea.", "Scattering."], "label": 1}
    assert shown(PAIR) == shown(bare) == shown(turned, "B")
    for word in ("model-one", "model-two", "gpt-first", "winner", "judge", "verdict"):
        assert word not in shown(PAIR)


def test_the_bar_that_plays_both_is_there_when_both_can_play():
    assert "data-vote-transport" in shown(clip())
    assert "data-vote-transport" in shown(clip("a.wav", "b.wav", "audio"))
    assert "data-vote-transport" not in shown(PAIR)
    one_sided = {**clip(), "candidates": [clip()["candidates"][0], "a text"]}
    assert "data-vote-transport" not in shown(one_sided)
    frames = {**clip(), "candidates": [[{"type": "video", "video": ["/1.png", "/2.png"]}]] * 2}
    assert "data-vote-transport" not in shown(frames)


def test_frames_are_as_long_as_was_said():
    assert 'data-vote-frame="0.040000"' in views.pair_html(clip(), "A", number=1, total=1, frame=0.04)
    assert 'data-vote-frame="0.100000"' in shown(clip("a.wav", "b.wav", "audio"))


def test_sound_of_two_clips_is_heard_from_both_and_of_two_recordings_from_one():
    assert '<option value="both" selected>' in shown(clip())
    assert '<option value="left" selected>' in shown(clip("a.wav", "b.wav", "audio"))


def test_controls_of_the_bar_have_names():
    html = shown(clip())
    assert html.count("<button") == 3
    for name in ("Play both", "One frame back", "One frame on", "Position of both", "Sound", "Volume", "Speed"):
        assert name in html


def test_videos_are_the_files_of_both_sides():
    assert views.videos(clip()) == ("/m/a.mp4", "/m/b.mp4")
    assert views.videos(PAIR) == ()


def test_criteria_are_the_samples_own_then_general_ones():
    own = views.criteria(PAIR)
    assert own[:2] == ["Accuracy", "Brevity"]
    assert "Looks better" not in own
    assert "Looks better" in views.criteria(clip())
    assert "Sounds better" in views.criteria(clip("a.wav", "b.wav", "audio"))
    many = {**PAIR, "rubrics": [f"r{i}" for i in range(40)] + ["r1", " "]}
    assert len(views.criteria(many)) == len(set(views.criteria(many))) == 12


def test_the_reveal_says_who_stood_where_and_what_the_judge_thinks():
    html = views.reveal_html(
        PAIR, side="left", left="B", strength=3, verdict="A", probability_a=0.873, agrees=False, label="A"
    )
    assert "You said: Left is better, clearly." in html
    assert "Left was B: model-two" in html
    assert "Right was A: model-one" in html
    assert "The judge says: A, right, is better, with a probability of 87 %." in html
    assert "You and the judge differ" in html
    assert "The file says: A, right, is better." in html
    assert 'data-vote-left="B"' in html


@pytest.mark.parametrize(
    ("verdict", "probability", "said"),
    [
        (None, None, "The judge has not judged this pair yet."),
        ("B", 0.1, "The judge says: B, right, is better, with a probability of 90 %."),
        ("tie", 0.5, "The judge says: a tie."),
        ("A", None, "The judge says: A, left, is better."),
    ],
)
def test_the_judge_in_a_sentence(verdict, probability, said):
    html = views.reveal_html(PAIR, side="tie", left="A", verdict=verdict, probability_a=probability)
    assert said in html
    assert "agree" not in html
    assert "You said: a tie." in html


def test_a_judgment_without_a_verdict_is_no_tie_and_no_silence():
    html = views.reveal_html(PAIR, side="left", left="A", judgment=Markup("<p>It broke off.</p>"))
    assert "The judge gave no verdict on this pair." in html
    assert "What became of the judgment" in html
    assert "<p>It broke off.</p>" in html


def test_progress_counts_and_ends():
    html = views.progress_html(number=13, total=40, done=12, set_name="Skies", annotator="Ada")
    assert "Pair 13 of 40" in html
    assert "12 of 40 done" in html
    assert 'aria-valuenow="12"' in html
    assert "width: 30.0%" in html
    assert "All done" in views.progress_html(number=None, total=40, done=40, set_name="Skies", annotator="Ada")
    assert "all 40 pairs" in views.done_html(40)
    assert "no pairs" in views.done_html(0)


def test_keys_of_players_are_named_where_there_are_players():
    assert "play or pause both" in views.keys_html(True)
    assert "play or pause both" not in views.keys_html(False)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"state": "queued", "position": 2}, ["Waiting for its turn.", "2 jobs before this one"]),
        ({"state": "queued", "position": 0}, ["Waiting for its turn."]),
        (
            {"state": "running", "done": 3, "total": 12, "eta_s": 200.0},
            ["3 of 12 steps", "about 4 min", "width: 25.0%"],
        ),
        ({"state": "done"}, ["The judge is done.", "width: 100.0%"]),
        ({"state": "failed", "detail": "no memory"}, ["could not go on", "no memory", 'role="alert"']),
        ({"state": "cancelled"}, ["Stopped."]),
    ],
)
def test_the_judge_at_work(status, said):
    html = views.judging_html(**status)
    for words in said:
        assert words in html


def agreement(first, second, judge=None):
    between = Between("Ada", "Grace", two_raters(first, second), two_raters(first, second))
    against = () if judge is None else (Between("Ada", None, two_raters(first, judge), two_raters(first, judge)),)
    voted = len(first)
    return Agreement(("Ada", "Grace"), {}, voted, 40, (between,), against, None, Coefficient(None), None, voted, 0)


def test_agreement_has_figures_with_intervals():
    html = views.agreement_html(agreement("AABBABABABAB", "AABBABABABBA", "AABBABABABAB"))
    assert "Ada and Grace" in html
    assert "Ada and the judge" in html
    assert "83 %" in html
    assert "55 to 95 %" in html  # Wilson's interval of 10 of 12
    assert "0.67" in html
    assert "too few" not in html


def test_few_votes_are_said_to_be_few():
    html = views.agreement_html(agreement("AB", "AB"))
    assert "too few pairs" in html
    assert "too few votes to say" in html
    assert "1.00" not in html
    assert "The judge has not judged this set yet" in html


def test_kappa_that_is_not_defined_is_a_dash_and_no_zero():
    html = views.agreement_html(agreement("A" * 12, "A" * 12))
    assert "100 %" in html
    assert "not defined" in html
    assert "0.00" not in html


def test_nobody_voted():
    empty = Agreement((), {}, 0, 40, (), (), None, Coefficient(None), None, 0, 0)
    assert "Nobody has voted yet." in views.agreement_html(empty)


def test_the_export_says_what_was_left_out(tmp_path):
    html = views.exported_html(ExportReport(tmp_path / "v.jsonl", 1, 2, 0))
    assert "1 pair written." in html
    assert "2 pairs without a winner left out." in html
    assert "too few" not in html
    assert "omnirm train recipe.toml" in views.export_help_html()


def test_what_people_write_is_text():
    pair = {"id": HOSTILE, "prompt": HOSTILE, "candidates": [{"name": HOSTILE, "content": HOSTILE}, HOSTILE]}
    hostile = Between(HOSTILE, HOSTILE, two_raters("A", "A"), two_raters("A", "A"))
    pieces = [
        shown(pair),
        views.progress_html(number=1, total=1, done=0, set_name=HOSTILE, annotator=HOSTILE),
        views.reveal_html(pair, side="left", left="A", verdict=HOSTILE, label=HOSTILE),
        views.notice_html(HOSTILE, [HOSTILE], bad=True),
        views.judging_html(state="failed", detail=HOSTILE),
        views.agreement_html(Agreement((HOSTILE,), {}, 1, 1, (hostile,), (), None, Coefficient(None), None, 1, 0)),
    ]
    for html in pieces:
        assert "<img" not in html
        assert "49" not in html
        assert "&lt;img" in html or html is pieces[2]
