"""Rubrics split into checks, filtered and weighted, with numbers worked by hand."""

from __future__ import annotations

import pytest
from scripted_rubrics import judge, lines, model, names, pair, section

from omnirm.backends.scripted import ScriptedBackend
from omnirm.errors import ConfigError
from omnirm.judge import Judge
from omnirm.rubrics.base import Planner, RubricSet
from omnirm.rubrics.decomposed import DecomposedPlanner
from omnirm.rubrics.gold import GoldPlanner
from omnirm.sample import Sample
from omnirm.types import Completion, ParseFailure, Request, Rubric

PARTS = {"Fruit": ["plum", "pear"], "Style": ["short", "clear", "plum"], "Coarse": ["red", "blue", "round"]}


def splits(request: Request) -> str:
    """Splits the rubrics that are in `PARTS`, and gives every other one back as it is."""
    name = section(request, "rubrics").removeprefix("1. ").partition(":")[0]
    return lines(request, PARTS.get(name, [name]))


class Given:
    """A planner that gives every sample the same rubrics."""

    name = "given"

    def __init__(self, *rubrics: Rubric | str) -> None:
        self.rubrics = tuple(Rubric(one) if isinstance(one, str) else one for one in rubrics)

    def plan(self, samples) -> list[RubricSet]:
        return [RubricSet(self.rubrics) for _ in samples]


def planner(backend: ScriptedBackend, *rubrics: Rubric | str, **options) -> DecomposedPlanner:
    return DecomposedPlanner(Given(*rubrics), backend, judge(backend), **options)


def weights(rubrics: RubricSet) -> dict[str, float]:
    return {rubric.name: round(rubric.weight, 6) for rubric in rubrics.rubrics}


def test_checks_share_the_weight_of_their_rubric() -> None:
    backend = model(decompose=splits)
    (one,) = planner(backend, Rubric("Fruit", weight=3), "Short").plan([pair("plum pear short", "")])
    assert weights(one) == {"plum": 1.5, "pear": 1.5, "Short": 1}
    assert [rubric.source for rubric in one.rubrics] == ["decomposed", "decomposed", "given"]
    assert len(one.calls) == 2 + 3 * 2
    assert backend.batches == [2, 6]


def test_a_repeated_check_goes_to_the_rubric_that_had_it_first() -> None:
    backend = model(decompose=splits)
    (one,) = planner(backend, "Fruit", "Style").plan([pair("plum pear short clear", "")])
    # plum is a check of Fruit (with pear); Style keeps two of its three
    assert weights(one) == {"plum": 0.5, "pear": 0.5, "short": 0.5, "clear": 0.5}
    assert [(rubric.name, why) for rubric, why in one.dropped] == [("plum", "repeats plum")]


def test_checks_against_the_majority_are_dropped_and_the_others_take_their_weight() -> None:
    # red and blue say A, round says B: in weights 2/3 against 1/3
    backend = model(decompose=splits)
    (one,) = planner(backend, "Coarse").plan([pair("red blue", "round")])
    assert weights(one) == {"red": 0.5, "blue": 0.5}
    assert [(rubric.name, why) for rubric, why in one.dropped] == [("round", "judging by it gives B, against A")]


def test_the_majority_counts_ideas_and_not_checks() -> None:
    # three checks of one rubric say A, two rubrics that are whole say B: 1 against 2
    backend = model(decompose=splits)
    (one,) = planner(backend, "Coarse", "Plum", "Pear").plan([pair("red blue round", "plum pear")])
    assert weights(one) == {"Plum": 1, "Pear": 1}
    # one against one is no majority: nothing is dropped
    (even,) = planner(backend, "Coarse", "Plum").plan([pair("red blue round", "plum")])
    assert weights(even) == {"red": 0.333333, "blue": 0.333333, "round": 0.333333, "Plum": 1}


def test_the_label_counts_only_where_that_is_wanted() -> None:
    backend = model(decompose=splits)
    sample = pair("red blue", "round", label=1)
    assert names(planner(backend, "Coarse").plan([sample])[0].rubrics) == ["red", "blue"]
    assert weights(planner(backend, "Coarse", labels=True).plan([sample])[0]) == {"round": 1}
    tie = pair("red blue", "round", label="tie")
    assert names(planner(backend, "Coarse", labels=True).plan([tie])[0].rubrics) == ["red", "blue", "round"]
    unknown = pair("red blue", "round", label=None)
    assert names(planner(backend, "Coarse", labels=True).plan([unknown])[0].rubrics) == ["red", "blue"]


def test_a_plan_does_not_depend_on_the_label_unless_wanted() -> None:
    backend = model(decompose=splits)
    first, second = (planner(backend, "Coarse", "Fruit").plan([pair("red plum", "round", label=n)]) for n in (0, 1))
    assert first == second


def test_ties_and_unreadable_judgments_are_not_against_anything() -> None:
    def judged(request: Request):
        name = section(request, "rubrics").removeprefix("1. ")
        if name == "blue":
            return Completion("", "error", error="out of memory")
        return "B]]" if name == "red" and section(request, "response B") == "one" else "A]]"

    # red says A in both orders, blue can not be read, round says whatever stands first: a tie
    (one,) = planner(model(decompose=splits, judge=judged), "Coarse").plan([pair("one", "two")])
    assert names(one.rubrics) == ["red", "blue", "round"]
    assert one.dropped == ()


def test_where_nothing_is_left_that_is_a_failure() -> None:
    backend = model(decompose=splits)
    (one,) = planner(backend, "Coarse", labels=True).plan([pair("red blue round", "", label=1)])
    assert one.rubrics == ()
    assert (one.failure.reason, one.failure.detail) == ("missing", "none of 3 checks is left with a weight")
    (nothing,) = planner(backend, Rubric("Plum", weight=0)).plan([pair("plum", "")])
    assert (nothing.rubrics, nothing.failure.reason) == ((), "missing")


@pytest.mark.parametrize("answer", ["garbage", " \n# KEY end", " Only one\n# KEY end", Completion("", "error")])
def test_a_rubric_that_could_not_be_split_stays_whole(answer) -> None:
    def decompose(request: Request):
        return answer.replace("KEY", request.prefill.split()[1]) if isinstance(answer, str) else answer

    whole = Rubric("Plum", "It has plums.", 2.0, "gold")
    (one,) = planner(model(decompose=decompose), whole).plan([pair("plum", "")])
    assert one.rubrics == (whole,)
    assert one.failure is None


def many(n: int) -> list[Sample]:
    """Pairs on which `sweet` and `tasty` always go together, and `cheap` goes its own way."""
    return [
        pair(*(("sweet tasty", "cheap"), ("sweet tasty cheap", ""), ("", "sweet tasty cheap"))[i % 3], id=f"s{i}")
        for i in range(n)
    ]


def test_of_checks_that_always_agree_the_first_is_kept() -> None:
    done = planner(model(decompose=splits), "Sweet", "Tasty", "Cheap").plan(many(9))
    assert [names(one.rubrics) for one in done] == [["Sweet"], ["Sweet", "Cheap"], ["Sweet", "Cheap"]] * 3
    assert (Rubric("Tasty"), "goes along with Sweet") in done[0].dropped
    assert weights(done[1]) == {"Sweet": 1, "Cheap": 1}


def test_a_few_pairs_say_nothing_about_correlation() -> None:
    done = planner(model(decompose=splits), "Sweet", "Tasty").plan(many(7))
    assert [names(one.rubrics) for one in done] == [["Sweet", "Tasty"]] * 7


def test_checks_of_other_samples_with_the_same_name_count_even_where_one_is_missing() -> None:
    class Uneven:
        name = "uneven"

        def plan(self, samples):
            pairs = [RubricSet((Rubric("Sweet"), Rubric("tasty!"))), RubricSet((Rubric("Tasty"),))]
            return [pairs[i % 5 == 4] for i in range(len(samples))]

    backend = model(decompose=splits, judge=lambda request: "A]]" if _sweet_first(request) else "B]]")
    done = DecomposedPlanner(Uneven(), backend, judge(backend)).plan(
        [pair("sweet", "sour", id=f"s{i}") for i in range(10)]
    )
    assert [names(one.rubrics) for one in done[:5]] == [["Sweet"]] * 4 + [["Tasty"]]


def _sweet_first(request: Request) -> bool:
    return "sweet" in section(request, "response A")


def test_failures_of_the_planner_and_odd_samples_lose_only_themselves() -> None:
    three = Sample.from_dict({"id": "three", "prompt": "q", "candidates": ["plum", "b", "c"], "rubrics": ["Fruit"]})
    backend = model(decompose=splits)
    gold = DecomposedPlanner(GoldPlanner(), backend, judge(backend))
    done = gold.plan([pair("plum pear", "", rubrics=["Fruit"]), pair("a", "b"), three])
    assert names(done[0].rubrics) == ["plum", "pear"]
    assert done[1].failure == ParseFailure("missing", "sample s has no gold rubric")
    assert weights(done[2]) == {"plum": 0.5, "pear": 0.5}  # no pair: split, not filtered
    assert backend.batches == [2, 4]


def test_no_samples_no_calls_and_settings_are_checked() -> None:
    backend = model()
    one = planner(backend, "Plum")
    assert one.plan([]) == []
    assert backend.batches == []
    assert one.name == "decomposed given"
    assert isinstance(one, Planner)
    with pytest.raises(ConfigError, match="rubrics of its own"):
        DecomposedPlanner(Given(), backend, Judge(backend, rubrics=[Rubric("X")]))
    with pytest.raises(ConfigError, match="count 0"):
        planner(backend, parts=0)
