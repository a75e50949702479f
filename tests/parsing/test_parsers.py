"""Parsers by table: what each answer is read as, and why it is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirm.parsing.criteria import parse_criteria
from omnirm.parsing.p_yes import parse_answer, parse_thought
from omnirm.parsing.pairwise import parse_pair
from omnirm.parsing.planning import RubricPlan, parse_plan
from omnirm.parsing.pointwise import parse_point
from omnirm.parsing.refinement import Refinement, parse_refinement
from omnirm.parsing.selection import Selection, parse_selection
from omnirm.types import PairVerdict, ParseFailure, PointScore, Rubric

KEY = "ka-bu"
RUBRICS = (Rubric("Truth", "It is true."), Rubric("Form", "A list.", 2.0))
BLOCK = "<criteria 1>Truth. It is true.<Judge A>Right.</Judge A><Judge B>Wrong.</Judge B>A</criteria 1>"
THINK = f"<think>{BLOCK}</think>\n"


def outcome(parsed: Any) -> Any:
    """The letter, total, index, ... of a value, or the reason of a failure."""
    if isinstance(parsed, ParseFailure):
        return parsed.reason
    if isinstance(parsed, PairVerdict):
        return parsed.letter
    return parsed.total if isinstance(parsed, PointScore) else parsed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"Verdict {KEY}: [[A]]", "A"),
        (f"Verdict {KEY}: [[B]]", "B"),
        (f"Verdict {KEY}: [[A]]\n", "A"),
        (f"Verdict {KEY}: [[A]] \r\n \n", "A"),
        (f"Verdict {KEY}: [[tie]]", "malformed"),
        (f"Verdict {KEY}: [[C]]", "malformed"),
        (f"Verdict {KEY}: [[a]]", "malformed"),
        (f"Verdict {KEY}: [[]]", "malformed"),
        (f"Verdict {KEY}: [[A", "malformed"),
        (f"Verdict {KEY}: [[A]", "malformed"),
        (f"Verdict {KEY}: [[ A ]]", "malformed"),
        (f"Verdict {KEY}: [[A]].", "malformed"),
        (f"Verdict {KEY}: [[A]] because it is true", "malformed"),
        (f"Verdict {KEY}: [[A]]\nbecause it is true", "malformed"),
        (f"Verdict {KEY}: [[A]]\u200b", "malformed"),
        (f"Verdict {KEY}: [[\u0410]]", "malformed"),
        (f"Verdict {KEY}: [[\uff21]]", "malformed"),
        (f" Verdict {KEY}: [[A]]", "malformed"),
        (f"**Verdict {KEY}: [[A]]**", "malformed"),
        (f"verdict {KEY}: [[A]]", "malformed"),
        (f"Verdict {KEY}:[[A]]", "malformed"),
        (f"Verdict {KEY} : [[A]]", "malformed"),
        (f"The better one:\nVerdict {KEY}: [[A]]", "malformed"),
        (f"Verdict {KEY}: [[A]]\nVerdict {KEY}: [[A]]", "malformed"),
        (f"Verdict {KEY}: [[A]]\nVerdict {KEY}: [[B]]", "ambiguous"),
        (f"Verdict {KEY}: [[A]] Verdict {KEY}: [[B]]", "malformed"),
        ("Verdict ka-bo: [[A]]", "missing"),
        ("Verdict KA-BU: [[A]]", "missing"),
        ("Verdict kabu: [[A]]", "missing"),
        ("Verdict ka bu: [[A]]", "missing"),
        ("Verdict ka\u2013bu: [[A]]", "missing"),
        ("Verdict ka: [[A]]", "missing"),
        ("Verdict ka-bu-zo: [[A]]", "malformed"),
        ("Verdict zo-ka-bu: [[A]]", "malformed"),
        ("Verdict # ka-bu: [[A]]", "malformed"),
        ("Verdict: [[A]]", "missing"),
        ("[[A]]", "missing"),
        ("A", "missing"),
        ("", "missing"),
        (f"{THINK}Verdict {KEY}: [[A]]", "malformed"),
    ],
)
def test_a_verdict_without_thinking(text: str, expected: str) -> None:
    assert outcome(parse_pair(text, "stop", nonce=KEY, thinking=False)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{THINK}Verdict {KEY}: [[B]]", "B"),
        (f"<think></think>Verdict {KEY}: [[B]]", "B"),
        (f"<think>no blocks, just thoughts</think>\n\nVerdict {KEY}: [[B]]\n", "B"),
        (f"{THINK}In short, B is better.\nVerdict {KEY}: [[B]]", "B"),
        (f"<think>a draft: Verdict {KEY}: [[A]]?</think>\nVerdict {KEY}: [[B]]", "B"),
        (f"<think>the <think> tag and [[A]]</think>\nVerdict {KEY}: [[B]]", "B"),
        (f"<think>\nVerdict {KEY}: [[B]]\n</think>\nVerdict {KEY}: [[B]]", "B"),
        (f"<think>\nVerdict {KEY}: [[A]]\n</think>\nVerdict {KEY}: [[B]]", "ambiguous"),
        (f"{THINK}Verdict {KEY}: [[A]]\nVerdict {KEY}: [[B]]", "ambiguous"),
        (f"{THINK}Verdict {KEY}: [[B]]\nVerdict {KEY}: [[B]]", "malformed"),
        (f"{THINK}Verdict {KEY}: [[B]]\nThat is all.", "malformed"),
        (f"{THINK}Verdict {KEY}: [[B]]\n</think>", "malformed"),
        (f"<think>quoting </think> is bad</think>\nVerdict {KEY}: [[B]]", "malformed"),
        (f"<think>{BLOCK}\nVerdict {KEY}: [[B]]", "truncated"),
        (f"<think>{BLOCK}", "truncated"),
        ("<think>", "truncated"),
        (f"<think>\nVerdict {KEY}: [[B]]\n</think>", "missing"),
        (f"{THINK}[[B]]", "missing"),
        (f"{THINK}Verdict zu-zu: [[B]]", "missing"),
        (THINK, "missing"),
        (f"{BLOCK}</think>\nVerdict {KEY}: [[B]]", "malformed"),
        (f" {THINK}Verdict {KEY}: [[B]]", "malformed"),
        (f"Verdict {KEY}: [[B]]", "malformed"),
        ("", "malformed"),
    ],
)
def test_a_verdict_after_thinking(text: str, expected: str) -> None:
    assert outcome(parse_pair(text, "stop", nonce=KEY, thinking=True)) == expected


def test_a_tie_counts_only_where_it_was_offered() -> None:
    text = f"{THINK}Verdict {KEY}: [[tie]]"
    assert outcome(parse_pair(text, "stop", nonce=KEY, thinking=True, allow_tie=True)) == "tie"
    assert outcome(parse_pair(text, "stop", nonce=KEY, thinking=True)) == "malformed"


@pytest.mark.parametrize("thinking", [True, False])
def test_an_answer_that_was_cut_off_or_never_made_is_no_verdict(thinking: bool) -> None:
    text = (THINK if thinking else "") + f"Verdict {KEY}: [[A]]"
    assert outcome(parse_pair(text, "stop", nonce=KEY, thinking=thinking)) == "A"
    assert outcome(parse_pair(text, "length", nonce=KEY, thinking=thinking)) == "truncated"
    assert outcome(parse_pair(text, "error", nonce=KEY, thinking=thinking)) == "backend_error"


def test_the_span_is_the_verdict_letter() -> None:
    text = f"{THINK}A and B: A.\nVerdict {KEY}: [[tie]]\n"
    verdict = parse_pair(text, "stop", nonce=KEY, thinking=True, allow_tie=True)
    assert isinstance(verdict, PairVerdict)
    assert verdict.span is not None
    assert text[slice(*verdict.span)] == "tie"
    assert verdict.span[0] == text.rindex("tie")


def test_a_failure_keeps_the_text_and_says_why() -> None:
    failure = parse_pair("<think>hm", "stop", nonce=KEY, thinking=True)
    assert isinstance(failure, ParseFailure)
    assert failure.text == "<think>hm"
    assert "</think>" in failure.detail


# --- analyses


def test_analyses_are_read_block_by_block() -> None:
    second = "<criteria 2>Form: a list.<Judge A>Prose.</Judge A>\n<Judge B>A list.</Judge B> B. </criteria 2>"
    one, two = parse_criteria(f"Let me see.\n{BLOCK}\n{second}")
    assert (one.rubric.name, one.rubric.text, one.rubric.source) == ("Truth", "It is true.", "generated")
    assert (one.analysis_a, one.analysis_b, one.verdict) == ("Right.", "Wrong.", "A")
    assert (two.rubric.name, two.rubric.text) == ("Form", "a list.")
    assert (two.analysis_a, two.analysis_b, two.verdict) == ("Prose.", "A list.", "B")
    assert one.score_a is None
    assert one.score_b is None


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("<criteria 1>Truth. It is true.</criteria 1>", ("", "", None)),
        ("<criteria 1>Truth.<Judge A>x</Judge A>A</criteria 1>", ("x", "", None)),
        ("<criteria 1>Truth.<Judge A>x</Judge A><Judge B>y", ("x", "y", None)),
        ("<criteria 1>Truth.<Judge A>x</Judge A><Judge B>y</Judge B>A", ("x", "y", None)),
        ("<criteria 1>Truth.<Judge A>x</Judge A><Judge B>y</Judge B>C</criteria 1>", ("x", "y", None)),
        ("<criteria 1>Truth.<Judge A>x</Judge A><Judge B>y</Judge B>tie</criteria 1>", ("x", "y", "tie")),
        ("<criteria 1>Truth.<Judge A>x</Judge A><Judge B>y</Judge B>A</criteria 2>", ("x", "y", None)),
    ],
)
def test_what_a_judge_left_out_is_not_invented(block: str, expected: tuple[str, str, str | None]) -> None:
    (one,) = parse_criteria(block)
    assert one.rubric.name == "Truth"
    assert (one.analysis_a, one.analysis_b, one.verdict) == expected


def test_analyses_find_their_given_rubrics() -> None:
    def block(number: int, name: str) -> str:
        return f"<criteria {number}>{name}. Why.<Judge A>a</Judge A><Judge B>b</Judge B>A</criteria {number}>"

    def matched(*blocks: str) -> list[Rubric]:
        return [one.rubric for one in parse_criteria("".join(blocks), RUBRICS)]

    assert matched(block(1, "Truth"), block(2, "Form")) == list(RUBRICS)
    assert matched(block(1, "form"), block(2, "TRUTH")) == [RUBRICS[1], RUBRICS[0]]  # by name
    assert matched(block(2, "Layout")) == [RUBRICS[1]]  # by number
    assert matched(block(7, "Style")) == [Rubric("Style", "Why.", source="generated")]
    assert matched(block(1, "Truth"), block(1, "Truth")) == [RUBRICS[0], Rubric("Truth", "Why.", source="generated")]


@given(st.text(alphabet="<>/criteaJudgAB 123.\n", max_size=300))
def test_no_thinking_breaks_the_reader(thinking: str) -> None:
    assert isinstance(parse_criteria(thinking, RUBRICS), tuple)


# --- pointwise

FREE = "<rubrics>\n1. Truth: it is true.\n2. Form: a list.\n</rubrics>\n<evaluation>Mostly true.</evaluation>\n"
SCORES = f"Score {KEY} 1: [[8]]\nScore {KEY} 2: [[6.5]]\n"


def test_a_pointwise_judgment_with_rubrics_of_its_own() -> None:
    score = parse_point(f"<think>hm</think>\n{FREE}{SCORES}Total {KEY}: [[7.5]]\n", "stop", nonce=KEY, thinking=True)
    assert isinstance(score, PointScore)
    assert (score.total, score.thinking, score.analysis) == (7.5, "hm", "Mostly true.")
    assert [(rubric.name, rubric.text, value) for rubric, value in score.scores] == [
        ("Truth", "it is true.", 8.0),
        ("Form", "a list.", 6.5),
    ]


def test_a_pointwise_judgment_under_given_rubrics() -> None:
    score = parse_point(f"{SCORES}Total {KEY}: [[7]]", "stop", nonce=KEY, thinking=False, rubrics=RUBRICS)
    assert isinstance(score, PointScore)
    assert score.scores == ((RUBRICS[0], 8.0), (RUBRICS[1], 6.5))
    fewer = parse_point(f"Score {KEY} 2: [[6]]\nTotal {KEY}: [[7]]", "stop", nonce=KEY, thinking=False, rubrics=RUBRICS)
    assert isinstance(fewer, PointScore)
    assert fewer.scores == ((RUBRICS[1], 6.0),)  # rubric 1 has no score, and gets none


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"Total {KEY}: [[7]]", 7.0),
        (f"Total {KEY}: [[0]]", 0.0),
        (f"Total {KEY}: [[10]]", 10.0),
        (f"Total {KEY}: [[10.0]]", 10.0),
        (f"Total {KEY}: [[10.1]]", "out_of_range"),
        (f"Total {KEY}: [[11]]", "out_of_range"),
        (f"Total {KEY}: [[100]]", "out_of_range"),
        (f"Total {KEY}: [[-1]]", "out_of_range"),
        (f"Total {KEY}: [[-0]]", "out_of_range"),
        (f"Total {KEY}: [[nan]]", "out_of_range"),
        (f"Total {KEY}: [[NaN]]", "out_of_range"),
        (f"Total {KEY}: [[inf]]", "out_of_range"),
        (f"Total {KEY}: [[-Infinity]]", "out_of_range"),
        (f"Total {KEY}: [[1e400]]", "out_of_range"),
        (f"Total {KEY}: [[7/10]]", "malformed"),
        (f"Total {KEY}: [[7,5]]", "malformed"),
        (f"Total {KEY}: [[seven]]", "malformed"),
        (f"Total {KEY}: [[\uff17]]", "malformed"),
        (f"Total {KEY}: [[\u0667]]", "malformed"),
        (f"Total {KEY}: [[]]", "malformed"),
        (f"Total {KEY}: [[7]] of 10", "malformed"),
        (f"Total {KEY}: [[7]]\nScore {KEY} 1: [[7]]", "malformed"),
        (f"It is good.\nTotal {KEY}: [[7]]", "malformed"),
        (f"Score {KEY} 1: [[12]]\nTotal {KEY}: [[7]]", "out_of_range"),
        (f"Score {KEY} 1: [[x]]\nTotal {KEY}: [[7]]", "malformed"),
        (f"Score {KEY} 1: [[3]]\nScore {KEY} 1: [[4]]\nTotal {KEY}: [[7]]", "ambiguous"),
        (f"Total {KEY}: [[6]]\nTotal {KEY}: [[7]]", "ambiguous"),
        (f"Total {KEY}: [[7]]\nTotal {KEY}: [[7]]", "malformed"),
        (f"Score {KEY} 1: [[3]]", "malformed"),
        ("Total zu-zu: [[7]]", "missing"),
        ("Score: 7", "missing"),
        ("", "missing"),
    ],
)
def test_a_total(text: str, expected: float | str) -> None:
    assert outcome(parse_point(text, "stop", nonce=KEY, thinking=False)) == expected


def test_a_total_counts_only_behind_the_thinking() -> None:
    for text, expected in [
        (f"<think>Total {KEY}: [[3]]", "truncated"),
        (f"<think>\nTotal {KEY}: [[3]]\n</think>", "missing"),
        (f"<think>\nTotal {KEY}: [[3]]\n</think>\nTotal {KEY}: [[7]]", "ambiguous"),
        (f"<think>\nScore {KEY} 1: [[3]]\n</think>\n{FREE}Total {KEY}: [[7]]", 7.0),
        (f"<think></think>{FREE}{SCORES}and {KEY} again\nTotal {KEY}: [[7]]", "malformed"),
    ]:
        assert outcome(parse_point(text, "stop", nonce=KEY, thinking=True)) == expected, text
    drafted = parse_point(
        f"<think>\nScore {KEY} 1: [[3]]\n</think>\n{FREE}Total {KEY}: [[7]]", "stop", nonce=KEY, thinking=True
    )
    assert isinstance(drafted, PointScore)
    assert drafted.scores == ()


# --- planning, selection, refinement, p-yes


def plan(lines: str, asked: int = 3, existing: tuple[Rubric, ...] = ()) -> RubricPlan | ParseFailure:
    return parse_plan(f"# {KEY} rubrics\n{lines}\n# {KEY} end", "stop", nonce=KEY, asked=asked, existing=existing)


def test_planned_rubrics() -> None:
    planned = plan("1. Truth: it is true.\n2) **Form**: a list.\n\n 3. Reach. It covers all.")
    assert isinstance(planned, RubricPlan)
    assert [(one.name, one.text, one.source) for one in planned.rubrics] == [
        ("Truth", "it is true.", "generated"),
        ("Form", "a list.", "generated"),
        ("Reach", "It covers all.", "generated"),
    ]
    assert (planned.asked, planned.short, planned.repeated) == (3, 0, 0)


def test_repeated_and_missing_rubrics_are_visible() -> None:
    planned = plan("1. Truth: it is true.\n2. TRUTH!: other words.\n3. Facts: It is  true\n4. Form: a list.", asked=5)
    assert isinstance(planned, RubricPlan)
    assert [one.name for one in planned.rubrics] == ["Truth", "Form"]
    assert (planned.repeated, planned.short) == (2, 3)
    further = plan("1. truth: again.\n2. Reach: all of it.", asked=2, existing=RUBRICS)
    assert isinstance(further, RubricPlan)
    assert [one.name for one in further.rubrics] == ["Reach"]
    assert outcome(plan("1. Truth: once more.", existing=RUBRICS)) == "missing"


def test_no_more_rubrics_than_were_asked_for() -> None:
    planned = plan("\n".join(f"{i}. Name{i}: text {i}" for i in range(1, 9)))
    assert isinstance(planned, RubricPlan)
    assert len(planned.rubrics) == 3


@pytest.mark.parametrize(
    ("text", "finish", "expected"),
    [
        (f"# {KEY} rubrics\n1. Truth: true.", "stop", "truncated"),
        (f"# {KEY} rubrics\n1. Truth: true.\n# {KEY} end", "length", "truncated"),
        (f"# {KEY} rubrics\n1. Truth: true.\n# zu-zu end", "stop", "truncated"),
        (f"# {KEY} rubrics\n1. Truth: true.\n# {KEY} end\nDone.", "stop", "malformed"),
        (f"# {KEY} rubrics\n1. Truth: true.\n#{KEY} end", "stop", "malformed"),
        (f"#{KEY} rubrics\n1. Truth: true.\n# {KEY} end", "stop", "malformed"),
        (f"# {KEY}-zo rubrics\n1. Truth: true.\n# {KEY} end", "stop", "malformed"),
        (f"# {KEY} rubrics\n1. Truth: true.\n# {KEY}-zo end", "stop", "malformed"),
        (f"# {KEY} rubrics\n1. Truth: true.\n# {KEY} response A\n# {KEY} end", "stop", "malformed"),
        (f"# {KEY} rubrics\nTruth, I think.\n# {KEY} end", "stop", "missing"),
        (f"# {KEY} rubrics\n# {KEY} end", "stop", "missing"),
        ("1. Truth: true.", "stop", "malformed"),
        ("", "error", "backend_error"),
    ],
)
def test_a_plan_that_cannot_be_read(text: str, finish: str, expected: str) -> None:
    assert outcome(parse_plan(text, finish, nonce=KEY, asked=3)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"Choice {KEY}: [[1]]", Selection(0, RUBRICS[0])),
        (f"Choice {KEY}: [[2]]\n", Selection(1, RUBRICS[1])),
        (f"Choice {KEY}: [[02]]", Selection(1, RUBRICS[1])),
        (f"Choice {KEY}: [[0]]", "out_of_range"),
        (f"Choice {KEY}: [[3]]", "out_of_range"),
        (f"Choice {KEY}: [[999999]]", "out_of_range"),
        (f"Choice {KEY}: [[-1]]", "malformed"),
        (f"Choice {KEY}: [[\u0661]]", "malformed"),
        (f"Choice {KEY}: [[1, 2]]", "malformed"),
        (f"Choice {KEY}: [[Truth]]", "malformed"),
        (f"Choice {KEY}: [[1]]\nChoice {KEY}: [[2]]", "ambiguous"),
        (f"I choose\nChoice {KEY}: [[1]]", "malformed"),
        ("Choice zu-zu: [[1]]", "missing"),
        ("1", "missing"),
    ],
)
def test_a_selection(text: str, expected: Selection | str) -> None:
    assert outcome(parse_selection(text, "stop", nonce=KEY, rubrics=RUBRICS)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"# {KEY} revised\nBetter.\n</revised {KEY}>", Refinement("Better.")),
        (f"# {KEY} revised\n  two\n\nlines \n</revised {KEY}>\n", Refinement("  two\n\nlines ")),
        (f"# {KEY} revised\n</revised zu-zu>\n</think>\n</revised {KEY}>", Refinement("</revised zu-zu>\n</think>")),
        (f"# {KEY} revised\nka bu, kabu, KA-BU\n</revised {KEY}>", Refinement("ka bu, kabu, KA-BU")),
        (f"# {KEY} revised\nBetter.\n</revised{KEY}>", "malformed"),
        (f"# {KEY} revised\n\n</revised {KEY}>", "missing"),
        (f"# {KEY} revised\nBetter.", "truncated"),
        (f"# {KEY} revised\nBetter. </revised {KEY}>", "malformed"),
        (f"# {KEY} revised\nBetter.\n</revised {KEY}>\nI changed a word.", "malformed"),
        (f"# {KEY} revised\nOne.\n</revised {KEY}>\nTwo.\n</revised {KEY}>", "malformed"),
        ("Better.", "malformed"),
    ],
)
def test_a_refinement(text: str, expected: Refinement | str) -> None:
    assert outcome(parse_refinement(text, "stop", nonce=KEY)) == expected


def test_the_two_turns_of_p_yes() -> None:
    assert parse_thought(" It is good.\n", "stop") == "It is good."
    assert outcome(parse_thought(" \n", "stop")) == "missing"
    assert outcome(parse_thought("It is", "length")) == "truncated"
    assert outcome(parse_thought("", "error")) == "backend_error"
    assert parse_answer("Yes", "length") == "Yes"
    assert parse_answer(" No\n", "stop") == "No"
    assert outcome(parse_answer("yes", "length")) == "malformed"
    assert outcome(parse_answer("", "stop")) == "missing"
    assert outcome(parse_answer("", "error")) == "backend_error"
