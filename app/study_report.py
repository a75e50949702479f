"""A rubric study as files: JSON, CSV, and one self-contained HTML page with its plots. For the study command."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from omnirm.errors import MissingExtra
from omnirm.shown import visible
from omnirm.study import Figure, Study

_NAMES = {"by_rank": "accuracy at rank", "vote": "Vote@N", "best": "best-of-N"}


def as_json(study: Study, about: dict[str, Any]) -> str:
    """Everything, with what was run."""
    return json.dumps({"about": about, "study": asdict(study)}, indent=1, allow_nan=False) + "\n"


def rows(study: Study) -> Iterator[tuple[str, str, int, Figure]]:
    """(ranking, figure, rank or N, value) of every accuracy."""
    yield ("any", "mean over rubrics", 0, study.mean)
    for one in study.rankings:
        for attribute, name in _NAMES.items():
            for n, figure in enumerate(getattr(one, attribute), 1):
                yield (one.ranking, name, n, figure)
        yield (one.ranking, "margin top - bottom", 0, one.margin)
        yield (one.ranking, "margin top - mean", 0, one.above_mean)


def as_csv(study: Study) -> str:
    """One accuracy a line."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("ranking", "figure", "n", "value", "low", "high", "pairs"))
    for ranking, name, n, f in rows(study):
        writer.writerow((ranking, name, n or "", f"{f.value:.6f}", f"{f.low:.6f}", f"{f.high:.6f}", f.pairs))
    return out.getvalue()


def check_plots() -> None:
    """Raises `MissingExtra` where plotly is not installed: before a long run rather than after it."""
    if find_spec("plotly") is None:
        raise MissingExtra("plots need plotly: pip install 'omnirm[app]', or leave out --html")


def as_html(study: Study, about: dict[str, Any]) -> str:
    """A page that needs no network.

    Raises:
        MissingExtra: plotly is not installed.
    """
    check_plots()
    go, offline = import_module("plotly.graph_objects"), import_module("plotly.offline")

    def lines(attribute: str, title: str, x: str) -> Any:
        figure = go.Figure()
        for one in study.rankings:
            points = getattr(one, attribute)
            y = [100 * p.value for p in points]
            figure.add_scatter(
                x=list(range(1, len(points) + 1)), y=y, name=one.ranking, mode="lines+markers",
                error_y={
                    "type": "data", "symmetric": False, "thickness": 1,
                    "array": [100 * (p.high - p.value) for p in points],
                    "arrayminus": [100 * (p.value - p.low) for p in points],
                },
            )  # fmt: skip
        figure.add_hline(y=100 * study.mean.value, line_dash="dot", annotation_text="mean over rubrics")
        return _titled(figure, title, x, "right, %")

    def confidences() -> Any:
        figure = go.Figure()
        for one in study.rankings:
            for temperature, values in one.confidence:
                figure.add_scatter(
                    x=list(range(1, len(values) + 1)), y=list(values), name=f"{one.ranking}, T = {temperature:g}",
                    mode="lines+markers", visible=True if one.ranking == "consistency" else "legendonly",
                )  # fmt: skip
        return _titled(figure, "Confidence by rank", "rank", "softmax of the meta-reward")

    def ranges() -> Any:
        figure = go.Figure()
        for one in study.rankings:
            if one.rewards:
                low, q1, median, q3, high = one.rewards
                figure.add_box(
                    name=one.ranking,
                    lowerfence=[low],
                    q1=[q1],
                    median=[median],
                    q3=[q3],
                    upperfence=[high],
                    x=[one.ranking],
                )
        return _titled(figure, "Range of the meta-rewards", "", "DisRM's scale")

    figures = [
        lines("by_rank", "Accuracy of the rubric at each rank", "rank"),
        lines("vote", "Vote@N", "rubrics"),
        lines("best", "Best-of-N", "rubrics"),
        ranges(),
        confidences(),
    ]
    plots = "\n".join(f.to_html(full_html=False, include_plotlyjs=False) for f in figures)
    listed = "".join(f"<tr><th>{_safe(k)}</th><td>{_safe(v)}</td></tr>" for k, v in {**about, **facts(study)}.items())
    table = "".join(f"<tr>{''.join(f'<td>{_safe(cell)}</td>' for cell in row)}</tr>" for row in summary(study))
    head = "".join(f"<th>{name}</th>" for name in SUMMARY_HEAD)
    return _PAGE.format(script=offline.get_plotlyjs(), head=head, facts=listed, table=table, plots=plots)


def summary(study: Study) -> list[tuple[str, ...]]:
    """The rows of a short table: ranking, top rank, last rank, margin, top above the mean, Vote@K."""
    return [
        (one.ranking, *(_cell(f) for f in (one.by_rank[0], one.by_rank[-1], one.margin, one.above_mean, one.vote[-1])))
        for one in study.rankings
    ]


SUMMARY_HEAD = ("ranking", "top rank", "last rank", "top - last", "top - mean", "vote of all")


def facts(study: Study) -> dict[str, str]:
    """What holds for all rankings."""
    found = {
        "pairs": str(study.pairs),
        "rubrics of a pair, at most": str(study.rubrics),
        "accuracy of a rubric drawn at random": _cell(study.mean),
        "verdicts that could be read": f"{100 * study.coverage:.1f} %",
        "rubrics with a meta-reward": f"{100 * study.rewarded:.1f} %",
    }
    found |= {f"{name.replace('_', ' ')} of a pair": f"{value:.1f}" for name, value in study.compute.items() if value}
    if least := study.compute.get("least_prompt_tokens"):
        found["computed, over the least possible"] = f"{study.compute['computed_prompt_tokens'] / least:.3f}"
    if study.left_out:
        found["left out"] = f"{len(study.left_out)} pairs, e.g. {study.left_out[0][0]}: {study.left_out[0][1]}"
    return found


def _cell(f: Figure) -> str:
    return f"{100 * f.value:.1f} [{100 * f.low:.1f}, {100 * f.high:.1f}]"


def _titled(figure: Any, title: str, x: str, y: str) -> Any:
    figure.update_layout(
        title=title, xaxis_title=x, yaxis_title=y, template="plotly_white", height=420, margin={"l": 60, "r": 20}
    )
    return figure


def _safe(value: Any) -> str:
    return html.escape(visible(str(value), newlines=False))


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<title>Rubric study</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c }}
table {{ border-collapse: collapse; margin: 1rem 0 }}
th, td {{ text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #ddd; vertical-align: top }}
</style><script>{script}</script></head><body>
<h1>Rubric study</h1>
<p>Accuracy in percent with 95 % bootstrap intervals over pairs.
A verdict that could not be read, and a tie, are not right.</p>
<table><tr>{head}</tr>{table}</table>
{plots}
<h2>What was run</h2><table>{facts}</table>
</body></html>
"""
