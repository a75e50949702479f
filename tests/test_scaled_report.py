"""The terminal view of a scaled judgment: what decided, how sure, what it took; and hostile text shown as text."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from scripted_rubrics import pair

from omnirm.judgment import Decoding, Judgment, ModelInfo
from omnirm.report import make_console
from omnirm.rubrics.trajectory import Compute, ScaledJudgment, Trajectory
from omnirm.scaled_report import print_scaled
from omnirm.types import CriterionAnalysis, Rubric

SAMPLE = pair("reply one", "reply two", label=0, id="sum")


def printed(judgment: ScaledJudgment, sample=None, *, terminal=False, width=110) -> str:
    file = io.StringIO()
    console = make_console(file=file, force_terminal=terminal, width=width, legacy_windows=False)
    print_scaled(judgment, sample, console=console)
    return file.getvalue()


def trajectory(index: int, name: str, verdict: str | None, reward: float | None = None, **more) -> Trajectory:
    rubric = Rubric(name, f"Is it {name}?")
    judgment = Judgment(
        "sum", "pairwise-thinking", verdict, ModelInfo("some-model"), Decoding(0.0, 1.0, 0), "0",
        criteria=(CriterionAnalysis(rubric, f"{name} on one", f"{name} on two"),),
    )  # fmt: skip
    return Trajectory(index, (rubric,), judgment, meta_rewards={"consistency": reward}, **more)


META = ScaledJudgment(
    "sum", "meta", "A", confidence=0.75, label="A", function="consistency", planner="generated",
    trajectories=(
        trajectory(0, "Tone", "B", -1.5, scores=(4.0, 3.0, 5.0, 3.5)),
        trajectory(1, "Truth", "A", 0.5, scores=(4.0, 3.0, 4.5, 3.5)),
        trajectory(2, "Length", None, None, failure="no verdict could be read"),
    ),
    ranking=(1, 0, 2), rubric_confidence=(0.25, 0.75, 0.0), votes=(("A", 1), ("B", 1)),
    dropped=((Rubric("Same"), "repeats the name of Tone"),), compute=Compute(14, 900, 300, 80, 6),
    disrm="some-disrm", refiner="some-refiner",
)  # fmt: skip


def test_the_ranked_rubrics_with_what_speaks_for_them():
    text = printed(META, SAMPLE)
    for expected in (
        "reply one", "reply two", "strategy meta", "Rubrics, best first", "consistency meta-reward +0.500",
        "consistency meta-reward -1.500", "consistency meta-reward none", "A 4.00 -> 4.50, B 3.00 -> 3.50",
        "Truth on one", "Truth on two", "A is better", "0.75", "softmax over meta-rewards", "A 1, B 1", "14 calls",
        "900 prompt tokens (300 computed)", "80 written", "6 responses scored", "right",
        "Same: repeats the name of Tone",
        "no verdict could be read", "some-model", "planner generated", "DisRM some-disrm", "refiner some-refiner",
    ):  # fmt: skip
        assert expected in text, expected
    order = [re.search(rf"\b{place}\. (\w+)", text)[1] for place in (1, 2, 3)]
    assert order == ["Truth", "Tone", "Length"]
    assert "-> unread" in text


def test_bars_are_as_long_as_the_confidence():
    bars = [len(found) for found in re.findall(r"\d ([#█]*)[-░]* (?:consistency)", printed(META))]
    assert bars == [18, 6, 0]  # of 24


@pytest.mark.parametrize(
    ("stopped", "words"),
    [("settled", "no further rubric could change the vote"), ("confident", "sure enough"), ("all", "")],
)
def test_a_vote_says_why_it_stopped(stopped, words):
    one = replace(META, strategy="vote", stopped=stopped, rubric_confidence=(), votes=(("A", 2), ("tie", 1)))
    text = printed(one)
    assert "share of votes" in text
    assert "A 2, tie 1" in text
    assert words in text
    assert ("stopped" in text) == bool(words)
    assert "meta-reward" not in text


def test_single_and_combined_name_the_criteria():
    own = replace(META.trajectories[1], rubrics=())
    text = printed(
        replace(META, strategy="single", trajectories=(own,), ranking=(0,), planner="", rubric_confidence=())
    )
    assert "the judge's own criteria" in text
    assert re.search(r"Truth\n.*Truth on one", text)
    assert "of the judgment" in text
    both = replace(META.trajectories[1], rubrics=(Rubric("Truth", weight=2), Rubric("Tone")))
    text = printed(replace(META, strategy="combined", trajectories=(both,), ranking=(0,), rubric_confidence=()))
    assert "Truth (weight 2) + Tone" in text


def test_what_went_wrong_is_plain_to_see():
    text = printed(ScaledJudgment("sum", "meta", None, error="planning: truncated: no end"), SAMPLE)
    assert "not judged" in text
    assert "planning: truncated: no end" in text
    text = printed(replace(META, fallback="vote weighted by verdict probabilities: no editor", verdict="B"))
    assert "Instead" in text
    assert "no editor" in text
    assert "wrong" in text


HOSTILE = "[red]x[/red]\x1b[31m\x1b]0;title\x07\u202eback\nnext line\x00"


def test_hostile_text_is_shown_and_never_obeyed():
    rubric = Rubric(HOSTILE, HOSTILE)
    base = META.trajectories[0]
    judgment = replace(
        base.judgment, model=ModelInfo(HOSTILE), criteria=(CriterionAnalysis(rubric, HOSTILE, HOSTILE),), error=HOSTILE
    )
    hostile = replace(base, judgment=judgment, rubrics=(rubric, rubric), failure=HOSTILE)
    text = printed(
        replace(
            META, sample_id=HOSTILE, trajectories=(hostile,), ranking=(0,), rubric_confidence=(1.0,), error=HOSTILE,
            dropped=((rubric, HOSTILE),), fallback=HOSTILE, disrm=HOSTILE, refiner=HOSTILE, planner=HOSTILE,
        ),
        pair(HOSTILE, HOSTILE),
    )  # fmt: skip
    for forbidden in ("\x1b", "\x07", "\u202e", "\x00"):
        assert forbidden not in text
    assert "[red]x[/red]" in text


@pytest.mark.parametrize("width", [20, 60, 200])
def test_any_width_and_a_terminal(width):
    assert "Truth" in printed(META, SAMPLE, terminal=True, width=width)
