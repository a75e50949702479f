"""Rows of training data from judged pairs: what is kept, from which trajectory, and what is dropped and why."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_rubrics import lines, says, shown_rubrics
from synthesis_pairs import REFINED, REWARDS, VERDICTS, asked, by_place, explored, explorer, pair, plan

from omnirm.errors import ConfigError
from omnirm.prompts.formats import get_format
from omnirm.sample import Sample, parse_rubrics
from omnirm.training.synthesis.choices import RowSettings, founded, listed
from omnirm.training.synthesis.explorer import canonical
from omnirm.training.synthesis.row_making import dpo_rows, grpo_rows, sft_rows

PICTURE = [{"type": "image", "image": "x.png"}, {"type": "text", "text": "q"}]
BLOCK = "<criteria {i}>{name}.<Judge A>{name} on {a}</Judge A><Judge B>{name} on {b}</Judge B>{letter}</criteria {i}>"


def by_step(rows):
    return {row.step: row for row in rows}


def reasons(made):
    return [(one.step, one.reason) for one in made.dropped]


def shown_text(row) -> str:
    return "\n".join("".join(str(part.value) for part in message.parts) for message in row.prompt.messages)


# -- SFT, DUAL RM


def test_the_best_right_trajectory_becomes_plan_selection_pick_and_judgment():
    (one,) = explored()
    made = sft_rows([one], RowSettings())
    rows = by_step(made.rows)
    assert set(rows) == {"planning", "selection", "picking", "judgment"}
    assert made.dropped == ()
    assert {row.meta_reward for row in made.rows} == {0.5}
    # right ones first (0.5, -1.0), then the wrong ones (0.25, -1.5)
    key = rows["planning"].prompt.prefill.split()[1]
    plan = f" Correctness\n2. Tone\n3. Layout\n4. Brevity\n# {key} end"
    assert rows["planning"].completion == plan
    assert "propose 4 criteria" in shown_text(rows["planning"])
    numbers = dict(re.findall(r"^(\d)\. (\w+)$", shown_text(rows["selection"]), re.MULTILINE))
    assert sorted(numbers.values()) == sorted(VERDICTS)
    assert numbers[rows["selection"].completion[0]] == "Correctness"
    first, second = ("first", "second") if one.label == "A" else ("second", "first")
    thinking = BLOCK.format(i=1, name="Correctness", a=first, b=second, letter=one.label)
    assert rows["judgment"].completion == f"{thinking}\n</think>\nVerdict {key}: [[{one.label}]]"
    assert rows["judgment"].prompt.prefill == "<think>"
    assert rows["picking"].completion == rows["judgment"].completion, "the name says which"
    assert rows["picking"].prompt.prefill == "<think>"
    kinds = [rows[step].thinking for step in ("judgment", "picking", "planning", "selection")]
    assert kinds == [True, True, False, False]


def test_every_completion_reads_back_by_its_own_format():
    (one,) = explored()
    rows = by_step(sft_rows([one], RowSettings()).rows)
    sample, rubrics = one.sample, [rubric for _, rubric in listed(one, 0)]
    best = [rubric for rubric in rubrics if rubric.name == "Correctness"]
    for step, name, options in (
        ("planning", "planning", {"count": 4}), ("selection", "selection", {"rubrics": rubrics}),
        ("judgment", "pairwise-thinking", {"rubrics": best}),
        ("picking", "pairwise-thinking", {"rubrics": rubrics, "pick": True}),
    ):  # fmt: skip
        rendered = get_format(name).render(sample, **options)
        assert rendered.messages == rows[step].prompt.messages
        parsed = get_format(name).parse(rendered, rendered.prefill + rows[step].completion, "stop")
        found = {"planning": lambda p: p.rubrics[0].name, "selection": lambda p: p.rubric.name,
                 "judgment": lambda p: p.criteria[0].rubric.name, "picking": lambda p: p.criteria[0].rubric.name,
                 }[step](parsed)  # fmt: skip
        assert found == "Correctness"
        if name == "pairwise-thinking":
            assert (len(parsed.criteria), parsed.letter) == (1, one.label)


def test_the_order_of_the_candidates_in_the_file_changes_no_row():
    one, other = explored(pair()), explored(pair().swapped())
    for orders in (RowSettings(), RowSettings(thinking_on="none")):
        assert sft_rows(one, orders).rows == sft_rows(other, orders).rows
    settings = RowSettings(eps=0.0, right_over_wrong="none")
    assert dpo_rows(one, settings).rows == dpo_rows(other, settings).rows != ()
    assert grpo_rows(one, settings).rows == grpo_rows(other, settings).rows != ()


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_pair_and_its_swap_have_one_canonical_order(a, b):
    try:
        sample = pair(a=a, b=b)
    except ValueError:
        return
    if a != b:
        assert canonical(sample) == canonical(sample.swapped())
        better = canonical(sample).candidates[canonical(sample).label].parts[0].value
        assert better == a


def test_the_seed_decides_the_order_of_lists_and_nothing_else():
    (one,) = explored()
    lists = {seed: [r.name for _, r in listed(one, seed)] for seed in range(8)}
    assert len({tuple(names) for names in lists.values()}) > 3
    for seed, names in lists.items():
        rows = by_step(sft_rows([one], RowSettings(seed=seed)).rows)
        assert rows["selection"].completion == f"{names.index('Correctness') + 1}]]"
        assert sft_rows([one], RowSettings(seed=seed)) == sft_rows([one], RowSettings(seed=seed))


@pytest.mark.parametrize(("on", "kinds"), [("text", (True, False)), ("all", (True, True)), ("none", (False, False))])
def test_prompt_switching(on, kinds):
    made = sft_rows(explored(pair(id="words"), pair(id="picture", prompt=PICTURE)), RowSettings(thinking_on=on))
    for id, thinking in zip(("words", "picture"), kinds, strict=True):
        rows = [row for row in made.rows if row.sample_id == id]
        assert len(rows) == (4 if thinking else 1)
        judgment = by_step(rows)["judgment"]
        assert judgment.thinking is thinking
        assert ("</think>" in judgment.completion) is thinking
        if not thinking:
            assert judgment.completion in ("A]]", "B]]")
            assert judgment.prompt.prefill.endswith("[[")
            assert "Correctness" in shown_text(judgment)
        assert any(p.type == "image" for m in judgment.prompt.messages for p in m.parts) == (id == "picture")


def test_a_pair_without_a_right_judgment_is_dropped():
    (one,) = explored(judge=says(dict.fromkeys(VERDICTS, "B")))
    made = sft_rows([one], RowSettings())
    assert (made.rows, reasons(made)) == ((), [("", "no judgment is right")])


def test_the_top_trajectory_alone_where_that_is_asked_for():
    wrong_on_top = {**VERDICTS, "Correctness": "B", "Brevity": "A"}  # then Brevity 0.5 (right: 3.5 - 3) is on top
    (one,) = explored(judge=says(wrong_on_top))
    assert by_step(sft_rows([one], RowSettings(pick="top")).rows)["judgment"].meta_reward == 0.5
    (one,) = explored(judge=says({"Correctness": "B", "Brevity": "B", "Tone": "A", "Layout": "B"}))
    # Correctness wrong: 3.5 - 4.5 = -1; Layout 0.25 wrong and on top; Tone right with -1
    assert reasons(sft_rows([one], RowSettings(pick="top"))) == [("", "the top judgment is not good")]
    assert by_step(sft_rows([one], RowSettings()).rows)["judgment"].meta_reward == -1.0


def test_what_the_format_does_not_accept_is_counted_and_the_next_best_taken():
    good = says(VERDICTS)

    def judge(request):
        text = good(request)
        if shown_rubrics(request) == ["Correctness"]:  # writes about a criterion that nobody asked for
            text = text.replace(
                "\n</think>", "\n<criteria 2>Extra.<Judge A>a</Judge A><Judge B>b</Judge B>A</criteria 2></think>"
            )
        return text

    (one,) = explored(judge=judge)
    made = sft_rows([one], RowSettings())
    assert by_step(made.rows)["judgment"].meta_reward == REWARDS["Tone"]
    assert [(d.step, d.reason) for d in made.dropped] == [("judgment", "format malformed")]


def test_a_verdict_that_does_not_follow_from_its_criterion_is_not_learned():
    good = says(VERDICTS)

    def judge(request):
        text = good(request)
        if shown_rubrics(request) == ["Correctness"]:
            text = re.sub(r"[AB]</criteria", "tie</criteria", text)
        return text

    (one,) = explored(judge=judge)
    assert by_step(sft_rows([one], RowSettings()).rows)["judgment"].meta_reward == REWARDS["Tone"]
    assert by_step(sft_rows([one], RowSettings(founded=False)).rows)["judgment"].meta_reward == REWARDS["Correctness"]


@pytest.mark.parametrize(
    ("winners", "verdict", "holds"),
    [("A", "A", True), ("B", "A", False), ("t", "A", False), ("-", "A", True), ("AB", "B", True), ("tA", "A", True),
     ("ABB", "A", False), ("tt", "B", False), ("A-", "B", True)],
)  # fmt: skip
def test_what_follows_from_criteria(winners, verdict, holds):
    (one,) = explored()
    t = one.judgment.trajectories[0]
    (criterion,) = t.judgment.criteria
    letters = {"A": "A", "B": "B", "t": "tie", "-": None}
    criteria = tuple(replace(criterion, verdict=letters[w]) for w in winners)
    assert founded(replace(t, judgment=replace(t.judgment, criteria=criteria, verdict=verdict))) is holds


def test_pairs_that_say_nothing_are_asked_nothing():
    one = explorer()
    three = Sample.from_dict({"id": "three", "prompt": "q", "candidates": ["a", "b", "c"], "label": 0})
    found = one.explore([pair(None, "none"), pair("tie", "tie"), three])
    assert asked(one) == []
    for make in (sft_rows, dpo_rows, grpo_rows):
        made = make(found, RowSettings())
        assert made.rows == ()
        assert [d.reason for d in made.dropped] == ["no label A or B", "no label A or B", "no pair"]


def test_a_pair_without_rubrics_loses_no_other():
    def planning(request):
        return "nothing" if "bad" in str(request.messages[1]) else plan(request)

    made = sft_rows(explored(pair(id="1", prompt="bad"), pair(id="2"), planning=planning), RowSettings())
    assert {row.sample_id for row in made.rows} == {"2"}
    assert [(d.sample_id, d.reason) for d in made.dropped] == [("1", "planning")]


def test_the_sft_margin_of_patarm():
    (one,) = explored()
    assert sft_rows([replace(one, margin=2.5)], RowSettings(sft_margin=2.0)).rows
    for margin in (2.0, None, -3.0):
        made = sft_rows([replace(one, margin=margin)], RowSettings(sft_margin=2.0))
        assert (made.rows, reasons(made)) == ((), [("", "pointwise margin not over 2")])


# -- DPO, DUAL RM


def test_selection_pairs_prefer_the_rubric_of_the_wider_meta_reward():
    (one,) = explored()
    made = dpo_rows([one], RowSettings(eps=1.0, pair_limit=None))
    rows = [row for row in made.rows if row.step == "selection"]
    # 0.5, 0.25, -1.0, -1.5: more than 1 apart are 2.0, 1.75, 1.5, 1.25
    names = [rubric.name for _, rubric in listed(one, 0)]
    found = [(names[int(r.chosen[0]) - 1], names[int(r.rejected[0]) - 1]) for r in rows]
    assert found == [("Correctness", "Brevity"), ("Layout", "Brevity"), ("Correctness", "Tone"), ("Layout", "Tone")]
    assert [r.meta_chosen - r.meta_rejected for r in rows] == [2.0, 1.75, 1.5, 1.25]
    assert {row.step for row in made.rows} == {"selection", "picking"}  # one reading a rubric: no judgment pairs
    limited = dpo_rows([one], RowSettings(eps=1.0, pair_limit=2)).rows
    assert [row for row in limited if row.step == "selection"] == rows[:2]
    # with right over wrong only Correctness over Brevity is left (Tone is right, Layout wrong)
    both = dpo_rows([one], RowSettings(eps=1.0, right_over_wrong="both")).rows
    assert [row for row in both if row.step == "selection"] == rows[:1]


def picks(row) -> tuple[str, str]:
    """The names that the two answers of a picking row judge under; they are in the prompt's list."""
    listed = re.findall(r"^\d\. (\w+)$", shown_text(row), re.MULTILINE)
    found = []
    for text in (row.chosen, row.rejected):
        (name,) = re.match(r"<criteria 1>(\w+)\.", text).groups()
        assert name in listed
        found.append(name)
    return found[0], found[1]


def test_picking_pairs_prefer_a_whole_answer_whose_rubric_and_verdict_are_good():
    (one,) = explored()
    rows = [r for r in dpo_rows([one], RowSettings(eps=1.0, pair_limit=None)).rows if r.step == "picking"]
    # of the four selection pairs those with a right one on top: Correctness (right) over Brevity (wrong) and Tone
    # (right, and a lower meta-reward); Layout is wrong
    assert [picks(row) for row in rows] == [("Correctness", "Brevity"), ("Correctness", "Tone")]
    assert [(r.meta_chosen, r.meta_rejected, r.thinking) for r in rows] == [(0.5, -1.5, True), (0.5, -1.0, True)]
    rubrics = [rubric for _, rubric in listed(one, 0)]
    rendered = get_format("pairwise-thinking").render(one.sample, rubrics=rubrics, pick=True)
    for row in rows:
        assert row.prompt.messages == rendered.messages
        for text, rubric, right in zip(
            (row.chosen, row.rejected), picks(row), (True, rubric_is_right(row)), strict=True
        ):
            parsed = get_format("pairwise-thinking").parse(rendered, rendered.prefill + text, "stop")
            assert [c.rubric.name for c in parsed.criteria] == [rubric]
            assert (parsed.letter == one.label) is right
    # of those, the wider margin stays where there may be one only
    limited = [r for r in dpo_rows([one], RowSettings(eps=1.0, pair_limit=1)).rows if r.step == "picking"]
    assert limited == rows[:1]


def rubric_is_right(row) -> bool:
    return picks(row)[1] in ("Correctness", "Tone")


def test_picking_pairs_from_both_orders_are_one_prompt_turned_round():
    def judge(request):
        return re.sub(r"[AB]</criteria", "</criteria", by_place(request))

    (one,) = explored(judge=judge, judging={"orders": 2})
    made = dpo_rows([one], RowSettings(eps=0.0, pair_limit=None))
    rows = [row for row in made.rows if row.step == "picking"]
    assert any(len(set(picks(row))) == 1 for row in rows)
    assert any(len(set(picks(row))) == 2 for row in rows)
    for row in rows:
        # a good answer is right, and this judge is right where the better response (`first`) stands first
        assert re.search(r"response A\nfirst", shown_text(row))
        assert row.chosen.endswith("[[A]]")
        for text in (row.chosen, row.rejected):
            assert re.search(r"<Judge A>\w+ on first</Judge A><Judge B>\w+ on second</Judge B>", text)


def test_nothing_is_picked_on_media_nor_from_a_list_of_one():
    settings = RowSettings(eps=0.0, pair_limit=None)
    (picture,) = explored(pair(prompt=PICTURE), judging={"orders": 2})
    (single,) = explored(
        judging={"orders": 2}, judge=by_place, planning=lambda request: lines(request, ["Correctness"])
    )
    assert len(single.judgment.planned) == 1
    for one in (picture, single):
        assert one.judgment.trajectories
        rows = [*sft_rows([one], settings).rows, *dpo_rows([one], settings).rows]
        assert rows
        assert "picking" not in {row.step for row in rows}


def test_judgment_pairs_from_both_orders_are_one_prompt_turned_round():
    # whatever stands first: right in one order, wrong in the other; no winner named, so nothing contradicts itself
    def judge(request):
        return re.sub(r"[AB]</criteria", "</criteria", by_place(request))

    (one,) = explored(judge=judge, judging={"orders": 2})
    made = dpo_rows([one], RowSettings(eps=0.0, pair_limit=None))
    rows = [row for row in made.rows if row.step == "judgment"]
    # verdict right / wrong: Correctness 0.5 / -1, Brevity 3.5-3 / 3.5-5, Tone 3-4 / 3-4 (t2 > t1: -1 or t1-s1 = -1),
    # Layout 4.25-4.75 / 4.25-4: the wrong one is better there
    assert [(r.meta_chosen, r.meta_rejected) for r in rows] == [(0.5, -1.5), (0.5, -1.0)]
    for row in rows:
        assert row.chosen.replace("[[A]]", "[[B]]") == row.rejected
        assert re.search(r"response A\nfirst", shown_text(row))  # the order in which the place was right
        assert "<Judge A>Correctness on first" in row.chosen or "<Judge A>Brevity on first" in row.chosen


def test_a_text_that_calls_responses_by_letter_is_not_turned_round():
    def judge(request):
        return re.sub(r"[AB]</criteria", "</criteria", by_place(request)).replace(" on first", " worse than B")

    (one,) = explored(judge=judge, judging={"orders": 2})
    made = dpo_rows([one], RowSettings(eps=0.0))
    assert not [row for row in made.rows if row.step == "judgment"]
    assert ("judgment", "format unsuitable") in reasons(made)


def test_judgment_pairs_from_several_samples_keep_every_word():
    def judge(request):
        return says(dict.fromkeys(VERDICTS, "AB"[request.seed % 2]))(request).replace("</criteria", "</criteria")

    (one,) = explored(judge=judge, judging={"samples": 6, "temperature": 1.0})
    assert len(one.judgment.trajectories) == 24
    texts = {t.judgment.calls[0].call.text for t in one.judgment.trajectories}
    rows = [r for r in dpo_rows([one], RowSettings(eps=0.0, pair_limit=None)).rows if r.step == "judgment"]
    assert rows
    assert all(row.chosen in texts and row.rejected in texts for row in rows)
    assert len({(row.prompt.to_json(), row.chosen, row.rejected) for row in rows}) == len(rows)


def test_media_pairs_prefer_one_verdict_over_the_other():
    (one,) = explored(pair(prompt=PICTURE), judge=by_place, judging={"orders": 2})
    rows = [r for r in dpo_rows([one], RowSettings(eps=0.0, founded=False)).rows if r.step == "judgment"]
    assert {(r.chosen, r.rejected, r.thinking) for r in rows} == {("A]]", "B]]", False)}


rewards = st.lists(st.one_of(st.none(), st.floats(-50, 50, allow_nan=False)), min_size=8, max_size=8)


@given(
    rewards,
    st.lists(st.sampled_from("AB"), min_size=8, max_size=8),
    st.floats(0, 30),
    st.sampled_from(("none", "judgment", "both")),
)
def test_pairs_never_violate_the_margin(values, verdicts, eps, over):
    one = _BOTH[0]
    trajectories = tuple(
        replace(t, meta_rewards={"consistency": value}, judgment=replace(t.judgment, verdict=verdict))
        for t, value, verdict in zip(one.judgment.trajectories, values, verdicts, strict=True)
    )
    changed = replace(one, judgment=replace(one.judgment, trajectories=trajectories))
    settings = RowSettings(eps=eps, right_over_wrong=over, pair_limit=None, thinking_on="none")
    thinking = dpo_rows([changed], replace(settings, thinking_on="all", founded=False)).rows
    for row in (row for row in thinking if row.step == "picking"):
        assert row.meta_chosen - row.meta_rejected > eps
        assert row.chosen != row.rejected
        shown_first = "A" if re.search(r"response A\nfirst", shown_text(row)) else "B"
        assert row.chosen.endswith(f"[[{shown_first}]]")
    for row in dpo_rows([changed], settings).rows:
        assert row.meta_chosen - row.meta_rejected > eps
        assert row.chosen != row.rejected
        if row.step == "judgment" and over != "none":
            shown_first = "A" if re.search(r"response A\nfirst", shown_text(row)) else "B"
            assert (row.chosen, row.rejected) == (f"{shown_first}]]", f"{'B' if shown_first == 'A' else 'A'}]]")


_BOTH = explored(judging={"orders": 2})


def test_eps_as_a_quantile_drops_that_share():
    (one,) = explored()
    # margins of the six pairs of rubrics: 0.25 0.5 1.25 1.5 1.75 2.0; half of them are dropped
    made = dpo_rows([one], RowSettings(eps_quantile=0.5, pair_limit=None))
    assert dict(made.eps)["selection"] == 1.25
    assert [r.meta_chosen - r.meta_rejected for r in made.rows if r.step == "selection"] == [2.0, 1.75, 1.5]
    assert dict(made.eps)["judgment"] is None  # one reading a rubric: nothing to compare


# -- GRPO


def test_a_grpo_row_has_the_fixed_list_and_its_scores():
    (one,) = explored()
    (row,) = grpo_rows([one], RowSettings()).rows
    assert Sample.from_json(row.sample) == one.sample
    assert row.label == one.label
    rubrics = parse_rubrics(json.loads(row.rubrics))
    assert [r.name for r in rubrics] == [r.name for _, r in listed(one, 0)]
    table = dict(zip([r.name for r in rubrics], json.loads(row.scores), strict=True))
    swap = one.label == "B"
    for name, (t1, t2) in REFINED.items():
        assert table[name] == ([3, 4, t2, t1] if swap else [4, 3, t1, t2])


def test_a_score_that_is_missing_is_null():
    (one,) = explored(judge=says({**VERDICTS, "Tone": None}))
    (row,) = grpo_rows([one], RowSettings()).rows
    names = [r["name"] for r in json.loads(row.rubrics)]
    assert json.loads(row.scores)[names.index("Tone")] == [None] * 4
    (none,) = explored(judge=says(dict.fromkeys(VERDICTS)))
    made = grpo_rows([none], RowSettings())
    assert (made.rows, reasons(made)) == ((), [("", "no rubric has all four scores")])


@pytest.mark.parametrize(("right", "kept"), [(0, False), (1, True), (6, True), (7, False), (8, False)])
def test_the_rollout_filter_of_patarm(right, kept):
    (one,) = explored()
    wrong = "B" if one.label == "A" else "A"
    rolled = replace(one, rollouts=(one.label,) * right + (wrong,) * (7 - right) + (None,) * (right < 8))
    assert len(rolled.rollouts) == 8
    assert bool(grpo_rows([rolled], RowSettings()).rows) is kept


# -- GRM-Omni


def grm(*samples, table=None, **more):
    table = {**VERDICTS, "Correctness + Brevity + Tone": "B", **(table or {})}
    return explored(*samples, method="grm-omni", judge=says(table), **more)


def test_a_wrong_judgment_is_answered_by_the_three_best_criteria_together():
    # ranked: Correctness 0.5 (right), Layout 0.25 (wrong), Tone -1 (right): two of three are right
    (one,) = grm()
    made = dpo_rows([one], RowSettings(method="grm-omni"))
    (row,) = made.rows
    a, b = ("first", "second") if one.label == "A" else ("second", "first")
    wrong = "B" if one.label == "A" else "A"
    key = re.search(r"^# (\S+) prompt$", shown_text(row), re.MULTILINE)[1]

    def blocks(**winners):
        found = enumerate(winners.items(), start=1)
        return "\n".join(BLOCK.format(i=i, name=name, a=a, b=b, letter=letter) for i, (name, letter) in found)

    better = blocks(Correctness=one.label, Layout=wrong, Tone=one.label)
    worse = blocks(Correctness=wrong, Brevity=wrong, Tone=wrong)
    assert row.chosen == f"{better}\n</think>\nVerdict {key}: [[{one.label}]]"
    assert row.rejected == f"{worse}\n</think>\nVerdict {key}: [[{wrong}]]"
    assert "rubrics\n" not in shown_text(row).split("# " + key + " prompt")[1]  # nobody gave it these criteria
    assert row.meta_chosen == pytest.approx((0.5 + 0.25 - 1.0) / 3)
    assert row.meta_rejected is None
    assert sft_rows([one], RowSettings(method="grm-omni")).rows == ()


def test_a_right_judgment_is_learned_and_asks_no_more():
    one = explorer(method="grm-omni", judge=says({**VERDICTS, "Correctness + Brevity + Tone": "A"}))
    (found,) = one.explore([pair()])
    assert asked(one) == ["planning", "judge"]
    (row,) = sft_rows([found], RowSettings(method="grm-omni")).rows
    assert (row.step, row.thinking) == ("judgment", True)
    assert row.completion.count("<criteria") == 3
    assert reasons(dpo_rows([found], RowSettings(method="grm-omni"))) == [("", "the first judgment is not wrong")]


def test_grm_omni_on_media_takes_the_verdict_alone():
    settings = RowSettings(method="grm-omni")
    (one,) = grm(pair(prompt=PICTURE))
    (row,) = dpo_rows([one], settings).rows
    assert {row.chosen, row.rejected} == {"A]]", "B]]"}
    assert row.chosen == f"{one.label}]]"


def test_an_improved_judgment_that_is_wrong_again_is_dropped():
    (one,) = grm(table={"Correctness": "B", "Tone": "B"})
    assert reasons(dpo_rows([one], RowSettings(method="grm-omni"))) == [
        ("", "the improved judgment is not right either")
    ]


def test_grm_omni_needs_one_order_and_two_rounds():
    with pytest.raises(ConfigError, match="one order"):
        explorer(method="grm-omni", judging={"orders": 2})


@pytest.mark.parametrize(
    "wrong",
    [{"thinking_on": "media"}, {"pick": "best"}, {"right_over_wrong": "all"}, {"eps": -1.0}, {"eps": float("nan")},
     {"eps_quantile": 1.0}, {"eps": 1.0, "eps_quantile": 0.5}, {"pair_limit": 0}],
)  # fmt: skip
def test_settings_that_cannot_be(wrong):
    with pytest.raises(ConfigError):
        RowSettings(**wrong)
