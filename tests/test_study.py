"""Study figures on four pairs worked out by hand, their intervals, and the files they go into."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnirm.app import study_report
from omnirm.errors import ConfigError, MissingExtra
from omnirm.judgment import Decoding, Judgment, ModelInfo
from omnirm.rubrics.trajectory import Compute, ScaledJudgment, Trajectory
from omnirm.study import RANKINGS, UNRANKED, study
from omnirm.types import Rubric


def pair(id: str, label: str | None, verdicts, rewards=None, strategy="meta", calls=10) -> ScaledJudgment:
    """A judged pair; the same rewards for all three functions, None for a rubric without one."""
    base = Judgment(id, "pairwise", None, ModelInfo("m"), Decoding(0.0, 1.0, 0), "0", label=label)
    rewards = rewards or [None] * len(verdicts)
    trajectories = tuple(
        Trajectory(
            i, (Rubric(f"R{i}"),), replace(base, verdict=verdict),
            meta_rewards={"consistency": reward, "relative": reward, "direct": None if reward is None else -reward},
        )
        for i, (verdict, reward) in enumerate(zip(verdicts, rewards, strict=True))
    )  # fmt: skip
    return ScaledJudgment(id, strategy, None, label=label, trajectories=trajectories, compute=Compute(calls, scored=8))


# In the order of the meta-reward: A A B, B A B, B A -, B A tie. Right: 1 1 0, 1 0 1, 0 1 0, 1 0 0.
FOUR = [
    pair("one", "A", ["A", "B", "A"], [0.5, -1.0, 2.0], calls=10),
    pair("two", "B", ["A", "B", "B"], [1.0, 3.0, -2.0], calls=10),
    pair("three", "A", ["B", "A", None], [2.0, 1.0, None], calls=10),
    pair("four", "B", ["B", "tie", "A"], [0.0, None, -1.0], calls=14),
]


def values(figures) -> list[float]:
    return [figure.value for figure in figures]


def by_name(found, name="consistency"):
    (one,) = [ranking for ranking in found.rankings if ranking.ranking == name]
    return one


def test_figures_worked_out_by_hand():
    found = study(FOUR)
    assert (found.pairs, found.rubrics, found.left_out) == (4, 3, ())
    assert found.mean.value == pytest.approx((2 / 3 + 2 / 3 + 1 / 3 + 1 / 3) / 4)
    assert found.coverage == pytest.approx(11 / 12)
    assert found.rewarded == pytest.approx(10 / 12)
    assert found.compute["calls"] == 11
    assert found.compute["scored"] == 8
    assert [one.ranking for one in found.rankings] == list(RANKINGS)
    one = by_name(found)
    assert values(one.by_rank) == [0.75, 0.5, 0.25]
    assert values(one.vote) == [0.75, 0.25, 0.5]  # of two: A; tie; tie; tie. Of three: A; B; tie; tie
    assert values(one.best) == [0.75, 1.0, 1.0]
    assert one.margin.value == 0.5
    assert one.above_mean.value == pytest.approx((1 / 3 + 1 / 3 - 1 / 3 + 2 / 3) / 4)
    assert one.rewards == (-2.0, -0.75, 0.75, 1.75, 3.0)  # of -2 -1 -1 0 0.5 1 1 2 2 3
    assert by_name(found, "relative").by_rank == one.by_rank
    assert {figure.pairs for figure in (*one.by_rank, *one.vote, one.margin)} == {4}


def test_without_a_ranking_the_planners_order_counts():
    one = by_name(study(FOUR), UNRANKED)
    assert values(one.by_rank) == [0.5, 0.5, 0.5]
    assert values(one.vote) == [0.5, 0.25, 0.5]
    assert values(one.best) == [0.5, 1.0, 1.0]
    assert (one.margin.value, one.above_mean.value) == (0.0, pytest.approx(0.0))
    assert (one.rewards, one.confidence) == ((), ())


def test_a_ranking_the_wrong_way_round_loses():
    one = by_name(study(FOUR), "direct")  # minus the others: ranks 1 0 2, 2 0 1, 1 0 2, 2 0 1
    assert values(one.by_rank) == [(0 + 1 + 1 + 0) / 4, (1 + 0 + 0 + 1) / 4, (1 + 1 + 0 + 0) / 4]


def test_confidence_by_rank_and_temperature():
    one = by_name(study(FOUR[2:3]))
    assert [temperature for temperature, _ in one.confidence] == [1.0, 5.0, 10.0]
    for temperature, shares in one.confidence:
        top = 1 / (1 + math.exp(-1 / temperature))
        assert shares == pytest.approx((top, 1 - top, 0.0))


def test_what_cannot_be_studied_is_left_out_and_named():
    odd = [
        pair("unlabelled", None, ["A"], [1.0]),
        pair("tied", "tie", ["A"], [1.0]),
        replace(pair("refused", "A", []), error="no refiner"),
        pair("empty", "A", []),
        pair("voted", "A", ["A", "B"], strategy="vote"),
    ]
    found = study([odd[0], *FOUR, *odd[1:]])
    assert dict(found.left_out) == {
        "unlabelled": "no label A or B",
        "tied": "no label A or B",
        "refused": "no refiner",
        "empty": "no rubric was judged",
        "voted": "strategy vote gives no meta-rewards",
    }
    assert replace(found, left_out=()) == study(FOUR)
    with pytest.raises(ConfigError, match="nothing to study"):
        study(odd)
    with pytest.raises(ConfigError, match="nothing to study"):
        study([])


def test_fewer_rubrics_than_others():
    found = study([FOUR[0], pair("short", "B", ["B"], [1.0])])
    one = by_name(found)
    assert values(one.by_rank) == [1.0, 1.0, 0.0]
    assert [figure.pairs for figure in one.by_rank] == [2, 1, 1]
    assert values(one.vote) == [1.0, 1.0, 1.0]
    assert one.margin.value == 0.5  # its last rubric is its first


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("AB"),
            st.lists(
                st.tuples(st.sampled_from(["A", "B", "tie", None]), st.none() | st.floats(-50, 50)),
                min_size=1,
                max_size=4,
            ),
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(0, 5),
)
def test_intervals_hold_their_value_and_bounds_hold(pairs, seed):
    judgments = [
        pair(str(i), label, [v for v, _ in rubrics], [r for _, r in rubrics])
        for i, (label, rubrics) in enumerate(pairs)
    ]
    found = study(judgments, seed=seed)
    assert study(judgments, seed=seed) == found
    for ranking, name, _, figure in study_report.rows(found):
        floor = -1.0 if "margin" in name else 0.0
        assert floor <= figure.low <= figure.value <= figure.high <= 1.0, (ranking, name)
    for one in found.rankings:
        assert all(vote.value <= best.value for vote, best in zip(one.vote, one.best, strict=True))
        assert values(one.best) == sorted(values(one.best))
        assert (one.vote[0].value, one.best[0].value) == (one.by_rank[0].value,) * 2
    json.loads(study_report.as_json(found, {}))


def test_intervals_depend_on_the_seed_and_values_do_not():
    many = [pair(str(i), "A", ["A"] * (i % 5) + ["B"] * (i % 7 + 1)) for i in range(35)]
    means = [study(many, seed=seed).mean for seed in range(3)]
    assert len({figure.value for figure in means}) == 1
    assert len({(figure.low, figure.high) for figure in means}) > 1


def test_the_interval_is_as_wide_as_theory_has_it():
    many = [pair(str(i), "A", ["A" if i % 2 else "B"], [1.0]) for i in range(400)]
    figure = study(many).mean
    assert figure.high - figure.low == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 400), rel=0.08)


def test_differences_are_paired():
    always_one_better = [pair(str(i), "A", ["A", "B"], [1.0, 0.0]) for i in range(20)]
    margin = by_name(study(always_one_better)).margin
    assert (margin.low, margin.value, margin.high) == (1.0, 1.0, 1.0)


# -- files

HOSTILE = "</script><script>alert(1)</script><img src=//evil.example/x onerror=alert(2)>\x1b[31m"


class Tags(HTMLParser):
    """Tags with their attributes, and the text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = self.code = ""
        self.inside = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside in ("script", "style"):
            self.code += data
        else:
            self.text += data


@pytest.fixture(scope="module")
def page() -> str:
    hostile = replace(pair(HOSTILE, "tie", ["A"], [1.0]), error=HOSTILE)
    hostile = replace(hostile, trajectories=(replace(hostile.trajectories[0], rubrics=(Rubric(HOSTILE),)),))
    return study_report.as_html(study([hostile, *FOUR]), {"samples": HOSTILE, HOSTILE: "judge {x} %s"})


def test_the_page_is_one_file_without_references(page):
    for tag, attributes in Tags(page).found:
        assert not {"src", "href", "srcset", "action", "data"} & set(attributes), (tag, attributes)
        assert tag not in ("link", "iframe", "object", "base")
    assert "default-src 'none'" in page
    assert "Plotly.newPlot" in page


def test_the_page_shows_hostile_names_as_text(page):
    tags = Tags(page)
    assert "alert(1)" not in tags.code
    assert not [tag for tag, attributes in tags.found if tag == "img" or "onerror" in attributes]
    assert "</script><script>alert(1)" in tags.text
    assert "\x1b" not in page
    assert "judge {x} %s" in tags.text


def test_the_page_has_the_figures(page):
    text = Tags(page).text
    for expected in ("75.0 [", "consistency", UNRANKED, "verdicts that could be read", "91.7 %", "left out", "11.0"):
        assert expected in text, expected
    for plot in ("Vote@N", "Best-of-N", "Accuracy of the rubric at each rank", "Range of the meta-rewards", "T = 10"):
        assert plot in page, plot


def test_csv_and_json_hold_every_figure():
    found = study(FOUR)
    rows = list(csv.DictReader(io.StringIO(study_report.as_csv(found))))
    assert len(rows) == 1 + len(RANKINGS) * (3 * 3 + 2)
    (top,) = [r for r in rows if (r["ranking"], r["figure"], r["n"]) == ("consistency", "accuracy at rank", "1")]
    assert float(top["value"]) == 0.75
    assert float(top["low"]) <= 0.75 <= float(top["high"])
    assert int(top["pairs"]) == 4
    data = json.loads(study_report.as_json(found, {"judge": "nano", "samples": HOSTILE}))
    assert data["about"] == {"judge": "nano", "samples": HOSTILE}
    assert data["study"]["rankings"][0]["by_rank"][0]["value"] == 0.75
    assert data["study"]["pairs"] == 4


def test_computed_tokens_are_told_where_they_are_known():
    assert "computed prompt tokens of a pair" not in study_report.facts(study(FOUR))
    told = [replace(one, compute=replace(one.compute, computed_prompt_tokens=50)) for one in FOUR]
    assert study_report.facts(study(told))["computed prompt tokens of a pair"] == "50.0"


def test_plots_ask_for_plotly(monkeypatch):
    monkeypatch.setattr(study_report, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"omnirm\[app\]"):
        study_report.as_html(study(FOUR), {})


def test_figures_are_plain_numbers():
    found = study(FOUR)
    for _, _, _, figure in study_report.rows(found):
        assert not isinstance(figure.value, np.floating)
        assert math.isfinite(figure.value)
