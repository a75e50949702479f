"""Rewards for a policy that learns to judge: read by the formats' parsers, worth what the papers say."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hostile_texts import HOSTILE
from hypothesis import given
from hypothesis import strategies as st

from omnirm.errors import ConfigError, SampleError
from omnirm.prompts.formats import get_format
from omnirm.sample import Sample
from omnirm.training.rewards import FormatReward, MetaReward, PreferenceReward, RuleReward, judge_row, read_rendered
from omnirm.training.rewards.reading import text_of
from omnirm.types import Rubric

SAMPLE = Sample.from_dict({"id": "s", "prompt": "2 + 3?", "candidates": ["5", "6"]})
RUBRICS = (Rubric("Truth", "Is it so?"), Rubric("Brevity"))


def pair(**options: Any) -> Any:
    return get_format("pairwise-thinking").render(SAMPLE, **options)


def said(rendered: Any, letter: str, thinking: str = "") -> str:
    return f"<think>{thinking}</think>\nVerdict {rendered.nonce}: [[{letter}]]"


def call(reward: Any, rows: list[dict[str, Any]], completions: list[Any]) -> list[float | None]:
    """As TRL calls it."""
    names = {name for row in rows for name in row} - {"prompt"}
    columns = {name: [row.get(name) for row in rows] for name in names}
    prompts = [row["prompt"] for row in rows]
    ids = [[1]] * len(rows)
    found: list[float | None] = reward(
        prompts=prompts, completions=completions, completion_ids=ids, trainer_state=None, log_extra=None,
        log_metric=None, **columns,
    )  # fmt: skip
    return found


def test_a_row_holds_the_prompt_and_what_a_parser_needs() -> None:
    rendered = pair(rubrics=RUBRICS, allow_tie=True)
    row = judge_row(rendered, label="A")
    assert [turn["role"] for turn in row["prompt"]] == ["system", "user"]
    assert f"# {rendered.nonce} response A\n5\n" in row["prompt"][1]["content"]
    again = read_rendered(row["reading"])
    for name in ("prefill", "nonce", "format", "rubrics", "allow_tie", "thinking"):
        assert getattr(again, name) == getattr(rendered, name)


def test_a_right_verdict_is_worth_1_a_wrong_one_0_and_an_unread_one_nothing() -> None:
    rendered = pair()
    rows = [judge_row(rendered, label=label) for label in ("A", "A", "B", "A", None, "A")]
    completions = [
        said(rendered, "A"),
        [{"role": "assistant", "content": said(rendered, "B")}],
        said(rendered, "B").removeprefix("<think>"),
        said(rendered, "tie"),
        said(rendered, "A"),
        f"Verdict {rendered.nonce}: [[A]]",
    ]
    assert call(RuleReward(), rows, completions) == [1.0, 0.0, 1.0, None, None, None]
    assert call(RuleReward(unread="wrong"), rows, completions) == [1.0, 0.0, 1.0, 0.0, None, 0.0]
    bare = get_format("pairwise").render(SAMPLE)
    line = f"Verdict {bare.nonce}: [["
    rows = [judge_row(bare, label="A")] * 3
    assert call(RuleReward(), rows, [f"{line}A]]", "A]]", f"Sure. {line}A]]"]) == [1.0, 1.0, None]


@pytest.mark.parametrize("form", ["pairwise-thinking", "pairwise", "pointwise"])
def test_no_hostile_completion_is_worth_anything(form: str) -> None:
    rendered = get_format(form).render(SAMPLE)
    key = rendered.nonce
    texts = [text for text in HOSTILE.values() if key not in text]
    rows = [judge_row(rendered, label="A")] * len(texts)
    assert set(call(RuleReward(), rows, texts)) == {None}
    assert set(call(FormatReward(), rows, texts)) <= {-1.5, -1.0}


@pytest.mark.parametrize(
    ("answer", "reward"),
    [
        ("<think>x</think>\nTotal KEY: [[7.5]]", 0.0),
        ("x</think>\n<evaluation>Fine.</evaluation>\nTotal KEY: [[0]]", 0.0),
        ("<think>x</think>\nTotal KEY: [[11]]", -1.0),
        ("<think>x</think>\nTotal KEY: [[-1]]", -1.0),
        ("<think>x</think>\nTotal KEY: [[nan]]", -1.0),
        ("<think>x</think>\nTotal KEY: [[seven]]", -1.0),
        ("<think>x</think>\nScore KEY 1: [[12]]\nTotal KEY: [[7]]", -1.0),
        ("<think>x\nTotal KEY: [[7]]", -1.5),
        ("<think>x</think></think>\nTotal KEY: [[7]]", -1.5),
        ("<think>x</think>\nTotal KEY: [[7]] out of 10", -1.5),
        ("<think>x</think>\nTotal: [[7]]", -1.5),
        ("<think>x</think>\nKEY\nTotal KEY: [[seven]]", -1.5),
        ("", -1.5),
        (None, -1.5),
        ([], -1.5),
    ],
)
def test_tags_and_scores(answer: Any, reward: float) -> None:
    rendered = get_format("pointwise").render(SAMPLE)
    text = answer.replace("KEY", rendered.nonce) if isinstance(answer, str) else answer
    assert call(FormatReward(), [judge_row(rendered)], [text]) == [reward]


@pytest.mark.parametrize(("answer", "reward"), [("A", 0.0), ("C", -1.0), ("tie", -1.0), ("", -1.0), ("A]] [[B", -1.5)])
def test_tags_and_verdicts(answer: str, reward: float) -> None:
    rendered = pair()
    assert call(FormatReward(), [judge_row(rendered)], [said(rendered, answer)]) == [reward]


# -- groups


def block(number: int, name: str) -> str:
    return f"<criteria {number}>{name}. x<Judge A>a</Judge A><Judge B>b</Judge B>A</criteria {number}>"


def test_dual_rm_of_a_worked_group() -> None:
    rendered = pair(rubrics=RUBRICS, pick=True)
    row = judge_row(rendered, label="A", meta_rewards=json.dumps([{"A": 3.0, "B": -1.0}, {"A": 1.0, "B": None}]))
    truth, brevity = block(1, "Truth"), block(2, "Brevity")
    completions = [
        said(rendered, "A", truth),  # right, s = 3: m = 1
        said(rendered, "A", brevity),  # right, s = 1: m = (1 + 1) / 4
        said(rendered, "B", truth),  # wrong, s = -1: m = 0
        "no verdict",
    ]
    # beta = 2/3; R = beta (m + 1), beta (m + 1), beta m
    assert call(MetaReward(4), [row] * 4, completions) == [pytest.approx(4 / 3), pytest.approx(1.0), 0.0, None]
    assert call(MetaReward(4, beta=2.0), [row] * 4, completions) == [4.0, 3.0, 0.0, None]
    # unread counts as wrong: beta = 2/4
    assert call(MetaReward(4, unread="wrong"), [row] * 4, completions) == [1.0, 0.75, 0.0, 0.0]
    numbers = row | {"meta_rewards": [3.0, 1.0]}
    none = said(rendered, "B", brevity)
    assert call(MetaReward(2, beta=1.0), [numbers] * 2, [completions[0], none]) == [2.0, 0.0]
    assert call(MetaReward(2), [row] * 2, [completions[0], none]) == [1.0, None], "no meta-reward of that verdict"


def test_parts_of_groups_are_refused() -> None:
    rendered = pair(rubrics=RUBRICS)
    row = judge_row(rendered, label="A", meta_rewards=[1.0, 2.0])
    other = row | {"meta_rewards": [1.0, 3.0]}
    for rows in ([row] * 3, [row, row, row, other], [row] * 4 + [other]):
        with pytest.raises(ConfigError, match="are not 4 rollouts of one prompt"):
            call(MetaReward(4), rows, ["x"] * len(rows))
    with pytest.raises(SampleError, match="one for each of the 2 rubrics"):
        call(MetaReward(2), [row | {"meta_rewards": [1.0]}] * 2, ["x"] * 2)
    with pytest.raises(SampleError, match="a number"):
        call(MetaReward(1), [row | {"meta_rewards": ["high", 1]}], [said(rendered, "A", block(1, "Truth"))])


def test_par_of_a_worked_pair_in_any_order_of_its_groups() -> None:
    rendered = [get_format("pointwise").render(SAMPLE, candidate=i) for i in (0, 1)]
    rows = [judge_row(one, pair=7, side=side) for one, side in zip(rendered, ("chosen", "rejected"), strict=True)]
    scores = [(9, 5), (4, 7)]
    texts = [[f"</think>\nTotal {r.nonce}: [[{x}]]" for x in xs] for r, xs in zip(rendered, scores, strict=True)]
    # means 7 and 5.5: 9 lies 3.5 above -> 1.4, 5 below -> 0; 4 lies 3 below 7 -> 1.4, 7 is equal -> 0
    reward = PreferenceReward(2)
    assert call(reward, [rows[0]] * 2 + [rows[1]] * 2, texts[0] + texts[1]) == [1.4, 0.0, 1.4, 0.0]
    assert call(reward, [rows[1]] * 2 + [rows[0]] * 2, texts[1] + texts[0]) == [1.4, 0.0, 1.4, 0.0]
    constant = PreferenceReward(2, steps="constant")
    assert call(constant, [rows[0]] * 2 + [rows[1]] * 2, [texts[0][0], "hm", *texts[1]]) == [1.3, None, 1.3, 1.3]
    with pytest.raises(ConfigError, match="2 rollouts of the chosen and 0 of the rejected"):
        call(reward, [rows[0]] * 2, texts[0])
    with pytest.raises(SampleError, match="side of pair 7"):
        call(reward, [rows[0] | {"side": "better"}] * 2, texts[0])
    with pytest.raises(ConfigError, match="are not 2 rollouts"):
        call(reward, [rows[0], rows[1]] * 2, texts[0] + texts[1])


@given(st.lists(st.one_of(st.none(), st.floats(0, 10)), min_size=3, max_size=3), st.integers(1, 3))
def test_several_pairs_in_a_batch_do_not_touch_each_other(scores: list[float | None], pairs: int) -> None:
    rendered = [get_format("pointwise").render(SAMPLE, candidate=i) for i in (0, 1)]
    rows, texts = [], []
    for number in range(pairs):
        for one, side in zip(rendered, ("chosen", "rejected"), strict=True):
            rows += [judge_row(one, pair=number, side=side)] * 3
            shift = 0 if side == "chosen" else 1
            texts += [
                f"</think>\nTotal {one.nonce}: [[{'?' if x is None else f'{x / 2 + shift:.3f}'}]]" for x in scores
            ]
    whole = call(PreferenceReward(3), rows, texts)
    parts = [x for i in range(pairs) for x in call(PreferenceReward(3), rows[:6], texts[6 * i : 6 * i + 6])]
    assert whole == parts
    assert [value is None for value in whole] == [x is None for x in scores] * (2 * pairs)


# -- columns and settings


def test_columns_that_are_missing_or_wrong() -> None:
    row = judge_row(pair(), label="A")
    with pytest.raises(ConfigError, match="no column 'label'"):
        call(RuleReward(), [judge_row(pair())], ["x"])
    with pytest.raises(ConfigError, match="no column 'reading'"):
        call(FormatReward(), [{"prompt": "p"}], ["x"])
    with pytest.raises(SampleError, match="label"):
        call(RuleReward(), [row | {"label": 0}], ["x"])
    for reading in ("{}", '{"format": "planning", "key": "ba", "prefill": ""}', '["x"]', 3, "not JSON"):
        with pytest.raises(SampleError):
            call(FormatReward(), [row | {"reading": reading}], ["x"])
    with pytest.raises(SampleError, match="holds no verdict"):
        judge_row(get_format("planning").render(SAMPLE))
    video = Sample.from_dict({"prompt": [{"type": "video", "video": "x.mp4"}], "candidates": ["5", "6"]})
    with pytest.raises(SampleError, match="takes text and images"):
        judge_row(get_format("pairwise").render(video))
    image = Sample.from_dict({"prompt": [{"type": "image", "image": "x.png"}], "candidates": ["5", "6"]})
    shown = judge_row(get_format("pairwise").render(image))
    assert shown["images"] == ["x.png"]
    assert {"type": "image"} in shown["prompt"][1]["content"]


@pytest.mark.parametrize(
    "make",
    [lambda: RuleReward("maybe"), lambda: MetaReward(0), lambda: MetaReward(2, beta=0.0),
     lambda: MetaReward(2, None, "x"), lambda: PreferenceReward(2, "steep"), lambda: PreferenceReward(0)],
)  # fmt: skip
def test_settings_that_make_no_sense(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()


def test_they_are_picklable_and_say_their_name() -> None:
    for reward in (RuleReward(), MetaReward(4), PreferenceReward(4), FormatReward(name="tags")):
        assert pickle.loads(pickle.dumps(reward)).__name__ == reward.__name__


shapes = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "type", "text"]), one),
    max_leaves=6,
)


@given(shapes)
def test_a_completion_of_any_shape_has_a_text(completion: Any) -> None:
    assert isinstance(text_of(completion), str)
