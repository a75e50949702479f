"""Judging with more compute: what each strategy answers on pairs made by hand, what it asks, and what it tells."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_rubrics import model, names, pair, revise, says, shown_rubrics, step, writes

from omnirm.backends.scripted import ScriptedBackend
from omnirm.errors import BackendError, CapabilityError, ConfigError, SampleError
from omnirm.judge import Judge
from omnirm.rubrics.base import RubricSet
from omnirm.rubrics.generated import GeneratedPlanner
from omnirm.rubrics.meta import Meta
from omnirm.rubrics.refine import ModelRefiner
from omnirm.rubrics.strategies import ScaledJudge
from omnirm.rubrics.trajectory import STRATEGIES, ScaledJudgment
from omnirm.scorers.scripted import ScriptedScorer
from omnirm.types import ParseFailure, Rubric

NAMES = ("Correctness", "Brevity", "Tone", "Layout")


class Given:
    """A planner with the same rubrics for every sample; `bad` in the id is one it cannot plan for."""

    name = "given"

    def __init__(self, *rubrics: str | Rubric) -> None:
        self.rubrics = tuple(Rubric(one) if isinstance(one, str) else one for one in rubrics)

    def plan(self, samples):
        failure = ParseFailure("truncated", "no end")
        return [RubricSet(failure=failure) if "bad" in one.id else RubricSet(self.rubrics) for one in samples]


def table(*verdicts: str | None) -> dict[str, str | None]:
    return {f"R{i}": verdict for i, verdict in enumerate(verdicts)}


def scaled(
    verdicts: dict[str, str | None], strategy="vote", *, selection=None, format="pairwise", **more
) -> ScaledJudge:
    """The strategy over a planner of the table's single rubrics, and a judge that answers by the table."""
    picks = iter(selection or [])
    backend = model(judge=says(verdicts), selection=lambda request: f"{next(picks)}]]", refinement=revise)
    return ScaledJudge(
        Judge(backend, format=format, allow_tie=True), Given(*(n for n in verdicts if "+" not in n)), strategy, **more
    )


def steps(one: ScaledJudge) -> list[str]:
    return [step(request) for request in one.judge.backend.requests]


SAMPLE = pair("first", "second", label=0)

# -- vote


@pytest.mark.parametrize(
    ("verdicts", "verdict", "confidence", "votes", "ranking"),
    [
        (("B", "A", "A"), "A", 2 / 3, (("A", 2), ("B", 1)), (1, 2, 0)),
        (("B", "B", "B", "A"), "B", 3 / 4, (("A", 1), ("B", 3)), (0, 1, 2, 3)),
        (("A", "B"), "tie", 1 / 2, (("A", 1), ("B", 1)), (0, 1)),
        (("A", "tie", "B"), "tie", 1 / 2, (("A", 1), ("B", 1), ("tie", 1)), (1, 0, 2)),
        (("tie", "A", "tie"), "A", 2 / 3, (("A", 1), ("tie", 2)), (1, 0, 2)),
        ((None, "B", None), "B", 1.0, (("B", 1),), (1, 0, 2)),
    ],
)
def test_the_vote(verdicts, verdict, confidence, votes, ranking):
    judgment = scaled(table(*verdicts)).compare(SAMPLE)
    assert (judgment.verdict, judgment.votes, judgment.ranking) == (verdict, votes, ranking)
    assert judgment.confidence == pytest.approx(confidence)
    assert judgment.correct == (verdict == "A")
    assert (judgment.stopped, judgment.fallback, judgment.error) == ("all", "", "")
    assert [t.judgment.verdict for t in judgment.trajectories] == list(verdicts)
    assert [names(t.rubrics) for t in judgment.trajectories] == [[f"R{i}"] for i in range(len(verdicts))]


def test_no_readable_verdict_is_no_verdict():
    judgment = scaled(table(None, None)).compare(SAMPLE)
    assert (judgment.verdict, judgment.confidence, judgment.judged, judgment.correct) == (None, None, False, None)
    assert judgment.votes == ()
    assert any(reason.startswith(("missing", "malformed")) for reason in judgment.reasons)


def test_all_rubrics_of_all_samples_are_one_batch():
    one = scaled(table("A", "B", "A"))
    judgments = one.compare([pair("first", "second", id="s"), pair("second", "first x", id="t")])
    assert [judgment.verdict for judgment in judgments] == ["A", "B"]
    assert one.judge.backend.batches == [2 * 3 * 2]  # samples, rubrics, orders


# -- stopping


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["A", "B", "tie", None]), min_size=1, max_size=7))
def test_stopping_when_settled_changes_no_verdict_and_costs_no_more(verdicts):
    everything = scaled(table(*verdicts)).compare(SAMPLE)
    early = scaled(table(*verdicts), stop_when_settled=True).compare(SAMPLE)
    assert early.verdict == everything.verdict
    judged = len(early.trajectories)
    assert early.compute.calls == 2 * judged
    assert (early.stopped == "settled") == (judged < len(verdicts))
    lead = abs(verdicts[:judged].count("A") - verdicts[:judged].count("B"))
    assert judged == len(verdicts) or lead > len(verdicts) - judged
    before = verdicts[: judged - 1]
    assert abs(before.count("A") - before.count("B")) <= len(verdicts) - judged + 1  # not a rubric too late


def test_what_cannot_be_settled_yet_is_judged_at_once():
    one = scaled(table("A", "A", "B", "B", "A", "A", "B"), stop_when_settled=True)
    judgment = one.compare(SAMPLE)
    assert (judgment.verdict, judgment.stopped, len(judgment.trajectories)) == ("A", "settled", 6)
    assert one.judge.backend.batches == [8, 2, 2]  # four rubrics in both orders, then one at a time
    assert judgment.planned == one.planner.rubrics


def test_samples_stop_one_by_one():
    class ById(Given):
        def plan(self, samples):
            return [RubricSet(tuple(Rubric(f"{one.id}{i}") for i in range(3))) for one in samples]

    verdicts = {"s0": "A", "s1": "A", "s2": "A", "t0": "A", "t1": "B", "t2": "B"}
    judge = Judge(model(judge=says(verdicts)), format="pairwise")
    found = ScaledJudge(judge, ById(), "vote", stop_when_settled=True).compare(
        [pair("first", "second", id="s"), pair("first", "second", id="t")]
    )
    assert [(one.verdict, one.stopped, len(one.trajectories)) for one in found] == [
        ("A", "settled", 2),
        ("B", "all", 3),
    ]


@pytest.mark.parametrize(
    ("verdicts", "stop_at", "stopped", "judged", "verdict"),
    [
        (("A", "A", "A", "B", "B", "B", "B"), 1.0, "confident", 3, "A"),
        (("A", "B", "A", "A", "B", "B", "B"), 0.75, "confident", 4, "A"),
        (("B", "B", "A", "B", "A", "A", "A"), 0.75, "confident", 4, "B"),
        (("A", "B", "A", "B", "A", "B", "B"), 0.75, "all", 7, "B"),
        (("A", None, None, "A", "A", "B", "B"), 1.0, "confident", 5, "A"),  # three votes, not three rubrics
        (("A", "tie", "tie", "tie", "tie"), 0.7, "all", 5, "A"),  # ties stand behind nobody
        (("A", "A", "A"), 0.9, "all", 3, "A"),  # nothing was left to save
    ],
)
def test_stopping_when_enough_agree(verdicts, stop_at, stopped, judged, verdict):
    judgment = scaled(table(*verdicts), stop_at=stop_at).compare(SAMPLE)
    assert (judgment.stopped, len(judgment.trajectories), judgment.verdict) == (stopped, judged, verdict)
    if stopped == "confident":
        assert judgment.confidence >= stop_at


# -- selected, combined, single


def test_selected_is_the_judgment_under_the_most_critical_rubric():
    one = scaled(table("A", "B", "A"), "selected", selection=[2])
    judgment = one.compare(SAMPLE)
    assert (judgment.verdict, judgment.correct, judgment.votes) == ("B", False, ())
    (trajectory,) = judgment.trajectories
    assert (trajectory.index, trajectory.name) == (1, "R1")
    assert judgment.confidence == trajectory.judgment.confidence
    assert steps(one) == ["selection", "judge", "judge"]
    assert judgment.compute.calls == 3


def test_combined_shows_the_top_three_in_one_judgment():
    verdicts = {**dict.fromkeys(NAMES, "A"), "Layout + Correctness + Brevity": "B"}
    one = scaled(verdicts, "combined", selection=[4, 1, 1])
    judgment = one.compare(SAMPLE)
    asked = [shown_rubrics(request) for request in one.judge.backend.requests if step(request) == "judge"]
    assert asked == [["Layout", "Correctness", "Brevity"]] * 2  # both orders, nothing else
    assert (judgment.verdict, judgment.trajectories[0].name) == ("B", "Layout + Correctness + Brevity")
    assert judgment.trajectories[0].index == 3
    assert judgment.fallback == ""


def test_fewer_than_three_are_combined_without_being_asked_for():
    one = scaled({"R0": "A", "R1": "A", "R1 + R0": "B", "R0 + R1": "B"}, "combined", selection=[2])
    assert one.compare(SAMPLE).verdict == "B"
    assert steps(one) == ["selection", "judge", "judge"]


def test_a_selection_that_ends_early_says_so():
    one = scaled({**table("A", "A", "A", "A"), "R1": "B"}, "combined", selection=[2, 9])
    judgment = one.compare(SAMPLE)
    assert (judgment.verdict, judgment.trajectories[0].name) == ("B", "R1")
    assert "1 of 3 rubrics combined" in judgment.fallback
    assert "choice 9 of 3 rubrics" in judgment.fallback


@pytest.mark.parametrize("strategy", ["selected", "combined"])
def test_a_selection_that_fails_is_an_error_of_that_sample(strategy):
    judgment = scaled(table("A", "B", "A", "A"), strategy, selection=["none"]).compare(SAMPLE)
    assert (judgment.verdict, judgment.trajectories) == (None, ())
    assert judgment.error.startswith("selection: malformed")
    assert judgment.compute.calls == 1


def test_single_uses_no_planner():
    class Never:
        name = "never"

        def plan(self, samples):
            raise AssertionError("planned")

    judge = Judge(model(judge=says({"": "A", "Own": "B"})), format="pairwise-thinking")
    for planner in (None, Never()):
        one = ScaledJudge(judge, planner, "single")
        bare, own = one.compare([SAMPLE, pair("first", "second", id="t", rubrics=["Own"])])
        assert (bare.verdict, bare.planner, bare.planned, bare.trajectories[0].rubrics) == ("A", "", (), ())
        assert (own.verdict, names(own.trajectories[0].rubrics)) == ("B", ["Own"])
        assert bare.compute.calls == 2
        assert bare.trajectories[0].judgment == judge.compare(SAMPLE)


def test_single_keeps_the_judges_own_rubrics():
    judge = Judge(model(judge=says({"Mine": "B"})), format="pairwise", rubrics=[Rubric("Mine")])
    judgment = ScaledJudge(judge, strategy="single").compare(SAMPLE)
    assert (judgment.verdict, names(judgment.trajectories[0].rubrics)) == ("B", ["Mine"])


# -- planning


def test_the_planners_work_is_in_the_record():
    backend = model(planning=writes("R0: One.", "R1: Two.", "R0: Again."), judge=says(table("A", "A")))
    judge = Judge(backend, format="pairwise")
    judgment = ScaledJudge(judge, GeneratedPlanner(backend, count=5), "vote").compare(SAMPLE)
    assert (judgment.planner, names(judgment.planned)) == ("generated", ["R0", "R1"])
    assert [rubric.name for rubric, _ in judgment.dropped] == ["R0"]
    requests = backend.requests
    assert judgment.compute.calls == len(requests) == 1 + 2 * 2
    assert judgment.compute.completion_tokens > sum(t.compute.completion_tokens for t in judgment.trajectories) > 0
    assert judgment.compute.prompt_tokens > 0


def test_a_rubric_without_weight_does_not_judge():
    judge = Judge(model(judge=says(table("A", "B", "B"))), format="pairwise")
    planner = Given(Rubric("R0", weight=2), Rubric("R1", weight=0), Rubric("R2", weight=0))
    judgment = ScaledJudge(judge, planner, "vote").compare(SAMPLE)
    assert (judgment.verdict, names(judgment.planned), judgment.votes) == ("A", ["R0"], (("A", 1),))
    assert [(rubric.name, why) for rubric, why in judgment.dropped] == [
        ("R1", "has no weight"),
        ("R2", "has no weight"),
    ]
    none = ScaledJudge(judge, Given(Rubric("R1", weight=0)), "vote").compare(SAMPLE)
    assert (none.verdict, none.error) == (None, "planning: no rubric with a weight")


# -- what is wrong with one loses no other


def every(strategy: str) -> ScaledJudge:
    """The strategy over three rubrics, with a judge that takes text only and answers in any order of samples."""
    verdicts = {**table("A", "B", "A"), "R0 + R1 + R2": "A", "": "A"}
    backend = model(judge=says(verdicts), selection=lambda request: "1]]", refinement=revise)
    backend.capabilities = ScriptedBackend([], modalities={"text"}).capabilities
    scorer = ScriptedScorer(lambda item: float(item.response[0].value.startswith("first")))
    meta = Meta(scorer, ModelRefiner(backend))
    return ScaledJudge(Judge(backend, format="pairwise-thinking"), Given("R0", "R1", "R2"), strategy, meta=meta)


GOOD = [pair("first", "second", label=0, id="g1"), pair("first one", "second two", label=1, id="g2")]
THREE = pair("first", "second", None, id="three", candidates=["first", "second", "third"])
PICTURE = pair("first", "second", None, id="picture", prompt=[{"type": "image", "image": "x.png"}, "q"])
UNPLANNED = pair("first", "second", None, id="bad plan")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_alone_among_others_and_beside_bad_ones_a_sample_has_the_same_record(strategy):
    alone = [every(strategy).compare(one) for one in GOOD]
    assert [one.verdict for one in alone] == ["A", "A"]
    assert [one.correct for one in alone] == [True, False]
    assert every(strategy).compare(GOOD) == alone
    mixed = every(strategy).compare([THREE, GOOD[0], UNPLANNED, PICTURE, GOOD[1]])
    assert [mixed[1], mixed[4]] == alone
    assert "3 candidates" in mixed[0].error
    assert "image" in mixed[3].error
    assert [one.judged for one in mixed] == [False, True, strategy == "single", False, True]
    if strategy != "single":
        assert mixed[2].error == "planning: truncated: no end"
    assert mixed[0].reasons == (mixed[0].error,)
    assert every(strategy).compare([]) == []


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_records_survive_json(strategy):
    for judgment in every(strategy).compare([*GOOD, THREE, UNPLANNED]):
        text = judgment.to_json()
        assert "\n" not in text
        assert text.isascii()
        assert ScaledJudgment.from_dict(json.loads(text)) == judgment
        assert json.loads(text) == judgment.to_dict()


def test_a_record_of_another_form_is_refused():
    data = every("vote").compare(GOOD[0]).to_dict()
    for wrong in ({**data, "kind": "pairwise"}, {**data, "more": 1}, {**data, "ranking": ["0"]}, {"sample_id": "s"}):
        with pytest.raises(SampleError):
            ScaledJudgment.from_dict(wrong)


def test_one_sample_alone_that_cannot_be_judged_raises():
    with pytest.raises(SampleError, match="three: 3 candidates"):
        every("vote").compare(THREE)
    with pytest.raises(CapabilityError, match="takes text, not image"):
        every("vote").compare(PICTURE)


def test_an_answer_that_fails_costs_one_rubric_of_one_sample():
    good = says(table("A", "B", "A"))

    def judge(request):
        return (
            BackendError("out of memory")
            if shown_rubrics(request) == ["R1"] and "g1 " in str(request)
            else good(request)
        )

    backend = model(judge=judge)
    samples = [pair("first g1 ", "second", id="g1"), pair("first", "second", id="g2")]
    found = ScaledJudge(Judge(backend, format="pairwise"), Given("R0", "R1", "R2"), "vote").compare(samples)
    assert [one.votes for one in found] == [(("A", 2),), (("A", 2), ("B", 1))]
    assert "backend_error: out of memory" in found[0].reasons


# -- settings


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"strategy": "best"}, "give one of single, vote"),
        ({"planner": None}, "give a planner"),
        ({"strategy": "meta"}, "DisRM and a refiner"),
        ({"stop_at": 0.5}, "over 0.5"),
        ({"stop_at": 1.1}, "at most 1"),
        ({"temperature": 0.0}, "more than 0"),
        ({"temperature": float("inf")}, "more than 0"),
        ({"strategy": "selected", "stop_when_settled": True}, "no vote that could be stopped"),
        ({"strategy": "combined", "stop_at": 0.9}, "no vote that could be stopped"),
    ],
)
def test_settings_that_cannot_be(settings_, message):
    options = {"planner": Given("R0"), "strategy": "vote", **settings_}
    with pytest.raises(ConfigError, match=message):
        ScaledJudge(Judge(model()), **options)


def test_a_judge_with_rubrics_of_its_own_would_judge_all_alike():
    with pytest.raises(ConfigError, match="rubrics of its own"):
        ScaledJudge(Judge(model(), rubrics=[Rubric("Mine")]), Given("R0"), "vote")
