"""A judge as the reward of any policy: right numbers in the right places, None where nothing is known."""

from __future__ import annotations

import asyncio
import logging
import pickle
import threading
import time
from typing import Any

import pytest
from hostile_texts import HOSTILE
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_judging import UNREADABLE, batches, judge, verdict

from omnirm.backends.scripted import ScriptedBackend, log_odds, say
from omnirm.errors import BackendError, CapabilityError, ConfigError
from omnirm.judge import Judge
from omnirm.rubrics.gold import GoldPlanner
from omnirm.rubrics.strategies import ScaledJudge
from omnirm.training.rewards import JudgeReward
from omnirm.types import Completion, Request, Rubric


def ask(reward: JudgeReward, prompts: Any, completions: Any, **columns: Any) -> list[float | None]:
    return asyncio.run(reward(prompts, completions, [[1]] * len(completions), **columns))


def goods(*counts: int) -> list[str]:
    return ["good " * n + "end" for n in counts]


def test_totals_are_rewards_in_order_from_one_call_of_the_backend() -> None:
    one = judge()
    assert ask(JudgeReward(one), ["p", "q", "p", "r"], goods(3, 0, 10, 7)) == [0.3, 0.0, 1.0, 0.7]
    assert batches(one) == [4]


def test_conversations_of_trl_are_judged_by_what_the_assistant_said_last() -> None:
    prompts = [
        [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
        [{"role": "user", "content": [{"type": "text", "text": "Hi", "image": None}]}],
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "good good "}],
    ]
    completions = [
        [{"role": "assistant", "content": "good"}],
        [
            {"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]},
            {"role": "tool", "content": "good good good"},
            {"role": "assistant", "content": [{"type": "text", "text": "good good"}]},
        ],
        [{"role": "assistant", "content": "good"}],
    ]
    one = judge()
    assert ask(JudgeReward(one), prompts, completions) == [0.1, 0.2, 0.3]
    assert "Be kind." in str(one.backend.requests[0].messages)  # type: ignore[attr-defined]


def test_nobody_is_asked_twice_about_the_same_response() -> None:
    one = judge()
    assert ask(JudgeReward(one), ["p"] * 5, goods(1, 2, 1, 1, 2)) == [0.1, 0.2, 0.1, 0.1, 0.2]
    assert batches(one) == [2]


# -- references


def test_a_reference_is_beaten_tied_or_lost_to() -> None:
    one = judge()
    reward = JudgeReward(one, "reference", reference="gold")
    columns = {"gold": [*goods(2, 2, 2), [{"role": "assistant", "content": "good good end"}], None]}
    found = ask(reward, ["p"] * 5, [*goods(3, 1), "good good other", *goods(2, 2)], **columns)
    assert found == [1.0, 0.0, 0.5, 0.5, None]
    assert batches(one) == [6], "an equal response is not asked about, each other pair in both orders"


@pytest.mark.parametrize("outcome", ["probability", "win"])
def test_a_judge_that_likes_a_place_gives_nobody_more_than_a_half(outcome: Any) -> None:
    reward = JudgeReward(Judge(ScriptedBackend(say("A"))), "reference", outcome=outcome)
    assert ask(reward, ["p"] * 2, ["x", "y"], reference=["z", "z"]) == [0.5, 0.5]


def test_a_pair_that_could_be_read_in_one_order_only_is_not_judged() -> None:
    def one_order(request: Request) -> str:
        texts = [p.value for m in request.messages for p in m.parts if p.type == "text"]
        return say("A")(request) if texts.index("mine") < texts.index("theirs") else "hm"

    one = Judge(ScriptedBackend(one_order))
    (found,) = JudgeReward(one, "reference").rewards(["p"], ["mine"], reference=["theirs"])
    assert found.value is None
    assert found.reason.startswith("read in one order only: ")


@given(a=st.integers(0, 4), b=st.integers(0, 4), p=st.floats(0.05, 0.95))
def test_exchanging_response_and_reference_turns_the_reward_round(a: int, b: int, p: float) -> None:
    texts = [f"{text} {i}" for i, text in enumerate(goods(a, b))]
    backend = ScriptedBackend(verdict, logprobs={**log_odds(p), "tie": -20.0})
    reward = JudgeReward(Judge(backend, allow_tie=True, format="pairwise"), "reference")
    there, back = ask(reward, ["p"] * 2, texts, reference=texts[::-1])
    assert there is not None
    assert back is not None
    assert there + back == pytest.approx(1.0)


def test_probabilities_are_those_of_the_judgment() -> None:
    backend = ScriptedBackend(["A]]", "B]]"], logprobs=lambda request, piece: log_odds(0.8 if piece == "A" else 0.3))
    reward = JudgeReward(Judge(backend, format="pairwise"), "reference")
    # order AB: log(0.8 / 0.2) = 1.3863; order BA: -log(0.3 / 0.7) = 0.8473; mean 1.1168; sigmoid 0.7534
    assert ask(reward, ["p"], ["x"], reference=["y"]) == [pytest.approx(0.7534, abs=1e-4)]


def test_a_scaled_judge_votes_over_the_rubrics_of_the_column() -> None:
    def by_rubric(request: Request) -> str:
        asks = "\n".join(str(p.value) for p in request.messages[1].parts)
        turned = asks.index("mine") > asks.index("theirs")
        return say("B" if ("Brevity" in asks) != turned else "A")(request)

    reward = JudgeReward(ScaledJudge(Judge(ScriptedBackend(by_rubric)), GoldPlanner(), "vote"), "reference")
    rubrics = [["Truth", "Tone", "Brevity"], ["Truth", "Brevity"]]
    found = ask(reward, ["p"] * 2, ["mine", "mine"], reference=["theirs"] * 2, rubrics=rubrics)
    assert found == [pytest.approx(2 / 3), 0.5]


# -- groups


def test_in_a_group_each_is_rewarded_by_whom_it_beats() -> None:
    one = judge()
    # p: 3 beats 1, 0 and 0 -> 1; 1 beats both 0s and loses to 3 -> 2/3; each 0 ties with the other -> (0 + 0 + 1/2) / 3
    found = ask(JudgeReward(one, "group"), ["p", "q", "p", "p", "q", "p"], goods(0, 2, 3, 1, 5, 0))
    assert found == [pytest.approx(1 / 6), 0.0, 1.0, pytest.approx(2 / 3), 1.0, pytest.approx(1 / 6)]
    assert batches(one) == [2 * (3 + 1)], "three different pairs of p, one of q, in both orders, at once"


def test_ranks_are_shares_of_the_group_that_is_behind() -> None:
    reward = JudgeReward(judge(), "group", outcome="rank")
    # two in front tie: (2 + 1/2) / 3; then 1/3 and 0
    assert ask(reward, ["p"] * 4, ["good good a", "good good b", "good", ""]) == [2.5 / 3, 2.5 / 3, 1 / 3, 0.0]


def test_who_cannot_be_judged_costs_the_others_nothing() -> None:
    found = JudgeReward(judge(), "group").rewards(["p"] * 4, [*goods(1, 2), UNREADABLE, *goods(3)])
    assert [one.value for one in found] == [0.0, 0.5, None, 1.0]
    assert found[2].reason.startswith("0 of 3 pairs readable: ")
    ranked = ask(JudgeReward(judge(), "group", outcome="rank"), ["p"] * 3, [*goods(1), UNREADABLE, *goods(3)])
    assert ranked == [0.0, None, 1.0]


def test_a_batch_without_groups_is_refused_and_a_lone_completion_is_not_judged() -> None:
    with pytest.raises(ConfigError, match="nothing to compare"):
        ask(JudgeReward(judge(), "group"), ["p", "q"], ["a", "b"])
    assert ask(JudgeReward(judge(), "group"), ["p", "p", "q"], ["good", "x", "good"]) == [1.0, 0.0, None]
    with pytest.raises(ConfigError, match="group_size is 4"):
        ask(JudgeReward(judge(), "group", group_size=4), ["p", "p", "q", "q"], ["a", "b", "c", "d"])
    with pytest.raises(ConfigError, match="nothing to compare"):
        ask(JudgeReward(judge(), "group"), ["p", "p"], ["a", "b"], rubrics=[["Truth"], ["Tone"]])


counts = st.lists(st.integers(0, 4), min_size=2, max_size=7)


@settings(max_examples=40)
@given(counts, st.sampled_from([None, 2, 4]), st.randoms(use_true_random=False))
def test_rewards_of_a_group_lie_between_0_and_1_have_the_mean_a_half_and_follow_their_completion(
    numbers: list[int], opponents: int | None, random: Any
) -> None:
    texts = [f"{text} {i}" for i, text in enumerate(goods(*numbers))]
    found = ask(JudgeReward(judge(), "group", opponents=opponents), ["p"] * len(texts), texts)
    assert all(value is not None and 0 <= value <= 1 for value in found)
    assert sum(found) / len(found) == pytest.approx(0.5)  # type: ignore[arg-type]
    shuffled = random.sample(range(len(texts)), len(texts))
    again = ask(JudgeReward(judge(), "group", opponents=opponents), ["p"] * len(texts), [texts[i] for i in shuffled])
    assert again == [found[i] for i in shuffled]
    if opponents is None:
        for i, a in enumerate(numbers):
            for j, b in enumerate(numbers):
                assert (found[i] > found[j]) == (a > b)  # type: ignore[operator]


def test_a_ring_of_opponents_asks_about_fewer_pairs() -> None:
    one = judge()
    ask(JudgeReward(one, "group", opponents=2), ["p"] * 8, [f"{i}" for i in range(8)])
    assert batches(one) == [8 * 2], "8 x 2 / 2 pairs, in both orders, where all would be 28"


# -- what nobody can judge


def test_what_cannot_be_judged_has_no_reward_and_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    metrics: dict[str, float] = {}
    extra: dict[str, list[Any]] = {}
    completions: list[Any] = [
        "good", UNREADABLE, None, [], [{"role": "user", "content": "good"}], 7, "\ud800 good",
        [{"role": "assistant", "content": [{"type": "image"}]}], [{"role": "assistant", "content": [{"type": "x"}]}],
    ]  # fmt: skip
    reward = JudgeReward(judge(), name="kind")
    with caplog.at_level(logging.WARNING):
        found = ask(reward, ["p"] * 9, completions, log_metric=metrics.__setitem__, log_extra=extra.__setitem__)
    assert found == [0.1] + [None] * 8
    assert metrics == {"kind/coverage": 1 / 9}
    assert extra["kind/reason"][0] == ""
    assert all(extra["kind/reason"][1:])
    assert "kind: 8 of 9 not judged" in caplog.text


def test_a_backend_that_fails_on_one_or_on_all() -> None:
    def some(request: Request) -> str | Completion | Exception:
        if "broken" in str(request.messages):
            return Completion("", "error", error="media_error: x.png is no image")
        return verdict(request)

    assert ask(JudgeReward(judge(some)), ["p"] * 2, ["good", "broken"]) == [0.1, None]

    class Down(ScriptedBackend):
        def generate(self, requests: Any) -> Any:
            raise error

    for error in (BackendError("gone"), ConnectionError("refused"), RuntimeError("CUDA out of memory")):
        reward = JudgeReward(Judge(Down(verdict)), patience=5)
        found = reward.rewards(["p"] * 3, ["a", "b", "c"])
        assert [one.value for one in found] == [None] * 3
        assert str(error) in found[0].reason
        with pytest.raises(BackendError, match="6 completions in a row got no reward"):
            ask(reward, ["p"] * 3, ["a", "b", "c"])


def test_a_bug_is_not_taken_for_a_verdict_that_is_missing() -> None:
    class Buggy(ScriptedBackend):
        def generate(self, requests: Any) -> Any:
            raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        ask(JudgeReward(Judge(Buggy(verdict))), ["p"], ["x"])


def test_what_comes_too_late_is_not_judged_and_holds_up_nobody() -> None:
    let_go = threading.Event()

    def slow(request: Request) -> str:
        if "slow" in str(request.messages):
            let_go.wait(20)
        return verdict(request)

    reward = JudgeReward(judge(slow), timeout=0.3, batch_size=1, concurrency=2)
    start = time.monotonic()
    found = reward.rewards(["p"] * 4, ["good", "slow good good", *goods(3, 4)])
    assert time.monotonic() - start < 5
    assert [one.value for one in found] == [0.1, None, 0.3, 0.4]
    assert found[1].reason == "not judged within 0.3 s"
    assert ask(reward, ["p"], goods(5)) == [0.5], "the other slot is free"
    only = JudgeReward(judge(slow), timeout=0.3)
    assert ask(only, ["p"], ["slow"]) == [None]
    assert ask(only, ["p"], goods(5)) == [None], "one slot: a backend is never asked twice at once"
    let_go.set()
    time.sleep(0.2)
    assert ask(only, ["p"], goods(5)) == [0.5]


def test_the_event_loop_goes_on_while_the_judge_thinks() -> None:
    began, seen = threading.Event(), threading.Event()

    def waiting(request: Request) -> str:
        began.set()
        assert seen.wait(20), "the loop stood still"
        return verdict(request)

    async def both() -> list[float | None]:
        task = asyncio.ensure_future(JudgeReward(judge(waiting))(["p"], ["good"]))
        while not began.is_set():
            await asyncio.sleep(0.01)
        seen.set()
        return await task

    assert asyncio.run(both()) == [0.1]


def test_at_most_so_many_calls_at_once() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def counted(request: Request) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return verdict(request)

    one = judge(counted)
    reward = JudgeReward(one, concurrency=3, batch_size=2)
    assert ask(reward, ["p"] * 9, goods(*range(9))) == [n / 10 for n in range(9)]
    assert most == 3
    assert sorted(batches(one)) == [1, 2, 2, 2, 2]


def test_calls_at_the_same_time_wait_for_each_other_however_long_it_takes() -> None:
    def slow(request: Request) -> str:
        time.sleep(0.05)
        return verdict(request)

    reward = JudgeReward(judge(slow))

    async def three() -> list[list[float | None]]:
        return await asyncio.gather(*(reward(["p"], goods(n)) for n in (1, 2, 3)))

    assert asyncio.run(three()) == [[0.1], [0.2], [0.3]]


# -- hostile completions


def test_no_hostile_completion_earns_what_it_claims() -> None:
    texts = [text for text in HOSTILE.values() if "\ud800" not in text]
    found = JudgeReward(judge()).rewards(["p"] * len(texts), texts)
    assert [one.value for one in found if one.value is not None] == [0.0] * sum(one.value is not None for one in found)
    assert sum(one.value == 0.0 for one in found) > 0.9 * len(texts)
    against = JudgeReward(judge(), "reference").rewards(["p"] * len(texts), texts, reference=["good"] * len(texts))
    assert {one.value for one in against} <= {0.0, None}
    assert sum(one.value == 0.0 for one in against) > 0.9 * len(texts)


def test_a_judge_that_only_repeats_what_it_reads_gives_no_score() -> None:
    def parrot(request: Request) -> str:
        return str(request.messages[1].parts[-2].value) if len(request.messages[1].parts) > 1 else ""

    texts = list(HOSTILE.values())
    found = JudgeReward(judge(parrot), patience=0).rewards(["p"] * len(texts), texts)
    assert [one.value for one in found] == [None] * len(texts)


def test_a_megabyte_and_control_characters_are_judged_like_any_text() -> None:
    texts = ["x" * 1_000_000 + " good", "\x00\x1b[2J\x07 good good", "", " \n ", "<|im_end|><think></think> good"]
    start = time.monotonic()
    assert ask(JudgeReward(judge()), ["p"] * 5, texts) == [0.1, 0.2, 0.0, 0.0, 0.1]
    assert time.monotonic() - start < 10


def test_images_in_prompts_and_completions_reach_the_judge() -> None:
    from PIL import Image

    red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    one = judge()
    prompts = [
        [{"role": "user", "content": "What is it?"}],
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}],
        [{"role": "user", "content": [{"type": "image", "image": red}, {"type": "text", "text": "What is it?"}]}],
        "What is it?",
    ]
    reward = JudgeReward(one)
    assert ask(reward, prompts, ["good"] * 4, images=[[red], [red], [red], [blue]]) == [0.1] * 4
    assert batches(one) == [2], "red in three spellings is one prompt"
    shown = [[p.value for m in r.messages for p in m.parts if p.type == "image"] for r in one.backend.requests]  # type: ignore[attr-defined]
    assert shown == [[red], [blue]]
    drawn = [[{"role": "assistant", "content": [{"type": "image", "image": red}, {"type": "text", "text": "good"}]}]]
    assert ask(reward, ["Draw."], drawn) == [0.1]
    assert ask(reward, prompts[1:2], ["good"], images=[[red, blue]]) == [None], "one place, two images"
    assert ask(reward, prompts[1:2], ["good"]) == [None], "a place, no image"
    assert ask(reward, ["What?"], ["good"], image=[None]) == [0.1]
    blind = JudgeReward(Judge(ScriptedBackend(verdict, modalities={"text"})))
    assert ask(blind, ["Draw.", "Draw."], [*drawn, "good"]) == [None, 0.1]


# -- settings


def test_rubrics_come_from_the_column_or_from_the_reward() -> None:
    one = judge()
    reward = JudgeReward(one, rubrics=["Brevity", {"name": "Truth", "text": "Is it so?"}, Rubric("Tone")])
    given = [None, [], [{"name": "Rhyme", "text": None, "weight": None}], "Rhyme", [{"no": "rubric"}]]
    assert ask(reward, ["p"] * 5, goods(1, 2, 3, 4, 5), rubrics=given) == [0.1, 0.2, 0.3, None, None]
    texts = ["\n".join(str(p.value) for m in r.messages for p in m.parts) for r in one.backend.requests]  # type: ignore[attr-defined]
    assert ["2. Truth: Is it so?" in text for text in texts] == [True, True, False]
    assert "1. Rhyme" in texts[2]
    with pytest.raises(ConfigError, match="rubrics of its own"):
        ask(JudgeReward(judge(rubrics=[Rubric("Tone")])), ["p"], ["x"], rubrics=[["Truth"]])


def test_it_travels_without_its_model_and_loads_it_once() -> None:
    reward = JudgeReward("scripted:always-a", "reference", name="a", judge_settings={"samples": 1})
    assert ask(reward, ["p"], ["x"], reference=["y"]) == [0.5]
    again = pickle.loads(pickle.dumps(reward))
    assert again._judge is None
    assert ask(again, ["p"], ["x"], reference=["y"]) == [0.5]
    assert again.load()._judge is again.load()._judge
    assert again.__name__ == "a"
    with pytest.raises(ConfigError, match="no such script"):
        JudgeReward("scripted:nobody").load()


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"mode": "best"}, "mode 'best'"),
        ({"method": "stars"}, "method 'stars'"),
        ({"outcome": "rank"}, "outcome rank"),
        ({"mode": "group", "opponents": 3}, "opponents 3"),
        ({"concurrency": 0}, "concurrency 0"),
        ({"timeout": 0}, "timeout 0"),
        ({"judge_settings": {"samples": 2}}, "given by name"),
    ],
)
def test_settings_that_make_no_sense(how: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        JudgeReward(judge(), **how)


def test_what_only_shows_with_the_judge_or_the_columns() -> None:
    with pytest.raises(CapabilityError, match="p-yes"):
        JudgeReward(judge(), method="p-yes")
    with pytest.raises(ConfigError, match="only compares"):
        JudgeReward(ScaledJudge(judge(), GoldPlanner(), "vote"))
    with pytest.raises(ConfigError, match="no column 'reference'"):
        ask(JudgeReward(judge(), "reference"), ["p"], ["x"], gold=["y"])
    with pytest.raises(ConfigError, match="column 'rubrics'"):
        ask(JudgeReward(judge()), ["p"], ["x"], rubrics=[["a"], ["b"]])
    assert ask(JudgeReward(judge()), [], []) == []


turns = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "type", "text"]), one),
    max_leaves=6,
)


@given(st.lists(st.tuples(st.just("p") | turns, st.just("good") | turns, turns), min_size=1, max_size=4))
def test_whatever_shape_the_rows_have_each_gets_a_reward_or_none(rows: list[tuple[Any, Any, Any]]) -> None:
    prompts, completions, rubrics = zip(*rows, strict=True)
    found = JudgeReward(judge(), patience=0).rewards(prompts, completions, rubrics=list(rubrics))
    assert len(found) == len(rows)
    assert all((one.value is None) != (one.reason == "") for one in found)
