"""The plots of a run as plotly figures. Pure functions of its figures; None where there is nothing to plot.

Backgrounds are clear and colours of middle brightness, so that a figure is readable on light and on dark; text and grid
take the page's colours by style sheet (`static/runs.css`). Figures load nothing and ignore dragging, so that a page can
be scrolled over them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omnirm.app.runs.statistics import RunSummary, Share

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

HEIGHT = 250
ACCENT, RIGHT, WRONG, PLAIN, A, B = "#4a7fe0", "#2f9e5f", "#d9534f", "#7d8899", "#3f86d9", "#c2762b"
_TEXT, _LINE = "#7a8699", "rgba(128, 140, 155, 0.35)"
_TOKEN_BINS = 24
_COLOURS = {"A": A, "B": B, "tie": ACCENT, "unread": PLAIN}


def accuracy_by_modality(summary: RunSummary) -> Figure | None:
    """Accuracy with its 95 % interval for each kind of sample; labelled rows whose sample is known."""
    if not summary.by_modality:
        return None
    groups = summary.by_modality[::-1]  # plotly draws from below
    figure = _figure()
    figure.add_bar(
        orientation="h", y=[f"{name} " for name, _ in groups], x=[100 * one.value for _, one in groups],
        marker_color=ACCENT, width=0.5, error_x=_whiskers([one for _, one in groups]),
        customdata=[[one.of, 100 * one.low, 100 * one.high] for _, one in groups],
        hovertemplate="%{y}: %{x:.1f} % right [%{customdata[1]:.1f}, %{customdata[2]:.1f}] of %{customdata[0]}"
        "<extra></extra>",
    )  # fmt: skip
    return _axes(figure, x="right, %", x_range=(0, 100), grid="x")


def confidence_histogram(summary: RunSummary) -> Figure | None:
    """How many judgments have which confidence; right, wrong and without label stacked."""
    if not any(one.right + one.wrong + one.unlabelled for one in summary.bins):
        return None
    figure = _figure()
    middle = [50 * (one.low + one.high) for one in summary.bins]
    for name, colour, counts in (
        ("right", RIGHT, [one.right for one in summary.bins]),
        ("wrong", WRONG, [one.wrong for one in summary.bins]),
        ("no label", PLAIN, [one.unlabelled for one in summary.bins]),
    ):
        if any(counts):
            figure.add_bar(
                x=middle, y=counts, name=name, marker_color=colour, width=9,
                hovertemplate=f"%{{y}} {name} at about %{{x}} %<extra></extra>",
            )  # fmt: skip
    figure.update_layout(barmode="stack")
    return _axes(figure, x="confidence, %", y="judgments", x_range=(0, 100))


def reliability(summary: RunSummary) -> Figure | None:
    """Accuracy against confidence: on the diagonal a judge is right as often as it says."""
    known = [
        (one.mean, one.right_share) for one in summary.bins if one.mean is not None and one.right_share is not None
    ]
    if not known:
        return None
    figure = _figure()
    figure.add_scatter(
        x=[0, 100], y=[0, 100], mode="lines", name="as sure as right", hoverinfo="skip",
        line={"color": PLAIN, "dash": "dot", "width": 1.5},
    )  # fmt: skip
    most = max(one.of for _, one in known)
    figure.add_scatter(
        x=[100 * mean for mean, _ in known], y=[100 * one.value for _, one in known], mode="lines+markers",
        name="this run", cliponaxis=False, line={"color": ACCENT}, error_y=_whiskers([one for _, one in known]),
        marker={"size": [7 + 9 * (one.of / most) ** 0.5 for _, one in known], "color": ACCENT},
        customdata=[[one.of] for _, one in known],
        hovertemplate="%{x:.0f} % sure, %{y:.0f} % right (%{customdata[0]} judgments)<extra></extra>",
    )  # fmt: skip
    return _axes(figure, x="confidence, %", y="right, %", x_range=(0, 100), y_range=(0, 100))


def verdict_balance(summary: RunSummary) -> Figure | None:
    """Shares of the verdicts, beside those of the labels where there are some."""
    if not summary.rows:
        return None
    names = [name for name, _ in summary.verdicts]
    names += [name for name, _ in summary.labels if name not in names]
    verdicts, labels = dict(summary.verdicts), dict(summary.labels)
    figure = _figure()
    figure.add_bar(
        x=names, y=[100 * verdicts.get(name, 0) / summary.rows for name in names], name="verdicts",
        marker_color=[_COLOURS.get(name, ACCENT) for name in names],
        customdata=[verdicts.get(name, 0) for name in names],
        hovertemplate="%{customdata} verdicts %{x} (%{y:.0f} %)<extra></extra>",
    )  # fmt: skip
    if labels:
        figure.add_bar(
            x=names, y=[100 * labels.get(name, 0) / summary.labelled for name in names], name="labels",
            marker={
                "color": "rgba(0, 0, 0, 0)",
                "line": {"color": [_COLOURS.get(name, ACCENT) for name in names], "width": 2},
            },
            customdata=[labels.get(name, 0) for name in names],
            hovertemplate="%{customdata} labels %{x} (%{y:.0f} %)<extra></extra>",
        )  # fmt: skip
    figure.update_layout(barmode="group", bargap=0.35)
    return _axes(figure, y="share, %", legend=False)


def tokens(summary: RunSummary) -> Figure | None:
    """How many tokens a judgment took, prompts and answers together."""
    import numpy as np

    values = np.array([one for one in summary.tokens_by_row if one])
    if not values.size:
        return None
    counts, edges = np.histogram(values, bins=min(_TOKEN_BINS, len(np.unique(values))))
    figure = _figure()
    figure.add_bar(
        x=((edges[:-1] + edges[1:]) / 2).tolist(), y=counts.tolist(), width=(0.92 * np.diff(edges)).tolist(),
        marker_color=ACCENT, customdata=np.round(np.stack([edges[:-1], edges[1:]], axis=1)).tolist(),
        hovertemplate="%{y} judgments took %{customdata[0]:,.0f} to %{customdata[1]:,.0f} tokens<extra></extra>",
    )  # fmt: skip
    return _axes(figure, x="tokens of a judgment", y="judgments")


def _figure() -> Figure:
    from plotly.graph_objects import Figure

    return Figure()


def _whiskers(shares: list[Share]) -> dict[str, Any]:
    return {
        "type": "data", "symmetric": False, "thickness": 1.6, "width": 5, "color": PLAIN,
        "array": [100 * (one.high - one.value) for one in shares],
        "arrayminus": [100 * (one.value - one.low) for one in shares],
    }  # fmt: skip


def _axes(
    figure: Figure, *, x: str = "", y: str = "", x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None, grid: str = "y", legend: bool = True,
) -> Figure:  # fmt: skip
    figure.update_layout(
        template="none", height=figure.layout.height or HEIGHT, paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)", margin={"l": 8, "r": 14, "t": 10, "b": 8}, dragmode=False,
        font={"family": "system-ui, sans-serif", "size": 12.5, "color": _TEXT},
        showlegend=legend and len(figure.data) > 1,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
        hoverlabel={"bgcolor": "#1b2430", "bordercolor": "#1b2430", "font": {"color": "#ffffff"}},
    )  # fmt: skip
    same = {"fixedrange": True, "automargin": True, "zeroline": False, "gridcolor": _LINE, "linecolor": _LINE}
    figure.update_xaxes(title=x or None, range=x_range, showgrid=grid == "x", showline=True, **same)
    figure.update_yaxes(title=y or None, range=y_range, showgrid=grid == "y", **same)
    return figure
