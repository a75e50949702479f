"""A scaled judgment to read on a terminal: the verdict, then the ranked rubrics with meta-reward and confidence bars.

For the CLI and notebooks; what was said of untrusted text in `report.py` holds here.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.text import Text

from omnirm.report import make_console, sample_head
from omnirm.report_pieces import STYLE, bar, block, bold, grid, one_line, rubric_line
from omnirm.rubrics.trajectory import ScaledJudgment, Trajectory
from omnirm.sample import Sample
from omnirm.shown import shortened, visible

_NAMES = {"A": "A is better", "B": "B is better", "tie": "tie", None: "not judged"}
_STOPPED = {
    "all": "",
    "settled": ", stopped: no further rubric could change the vote",
    "confident": ", stopped: sure enough",
}


def print_scaled(judgment: ScaledJudgment, sample: Sample | None = None, *, console: Console | None = None) -> None:
    """Prints a scaled judgment, with prompt and candidates where the sample is given. Opens no medium."""
    (console or make_console()).print(ScaledReport(judgment, sample))


class ScaledReport:
    """A scaled judgment as something that rich can print."""

    def __init__(self, judgment: ScaledJudgment, sample: Sample | None = None) -> None:
        self.judgment, self.sample = judgment, sample

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        judgment, ascii_only = self.judgment, options.ascii_only
        yield from sample_head(judgment.sample_id, f"strategy {judgment.strategy}", self.sample, console, options)
        if judgment.ranking:
            yield Text("Rubrics, best first" if judgment.strategy != "single" else "Rubrics", "bold")
        for place, index in enumerate(judgment.ranking, 1):
            share = judgment.rubric_confidence[index] if judgment.rubric_confidence else None
            yield from _trajectory(judgment.trajectories[index], place, share, judgment, ascii_only)
        yield _sums(judgment, ascii_only)
        models = list(dict.fromkeys(t.judgment.model.name for t in judgment.trajectories))
        used = (("planner", judgment.planner), ("DisRM", judgment.disrm), ("refiner", judgment.refiner))
        parts = [*models, *(f"{what} {name}" for what, name in used if name)]
        yield Text("; ".join(one_line(part) for part in parts), "dim")


def _trajectory(
    one: Trajectory, place: int, share: float | None, judgment: ScaledJudgment, ascii_only: bool
) -> Iterable[RenderableType]:
    verdict = one.judgment.verdict
    line = Text(f"{place:2d}. ")
    for i, rubric in enumerate(one.rubrics):
        line.append(" + " if i else "").append_text(rubric_line(rubric))
    if not one.rubrics:
        line.append("the judge's own criteria", "italic")
    line.append("  -> ", "dim").append(verdict or "unread", f"bold {STYLE.get(verdict or '', 'red')}")
    yield Padding(line, (0, 0, 0, 1), expand=False)
    if judgment.strategy == "meta":
        reward = (one.meta_rewards or {}).get(judgment.function)
        note = f"{judgment.function} meta-reward " + ("none" if reward is None else f"{reward:+.3f}")
        if None not in one.scores:
            s1, s2, t1, t2 = one.scores
            note += f"   A {s1:.2f} -> {t1:.2f}, B {s2:.2f} -> {t2:.2f}"
        yield Padding(bar(share or 0.0, 1.0, ascii_only, note), (0, 0, 0, 5), expand=False)
    for criterion in one.judgment.criteria:
        if len(one.rubrics) != 1:
            yield Padding(Text(one_line(criterion.rubric.name), "bold"), (0, 0, 0, 5), expand=False)
        for letter, analysis in (("A", criterion.analysis_a), ("B", criterion.analysis_b)):
            if analysis:
                row = grid()
                row.add_row(Text(letter, f"bold {STYLE[letter]}"), block(analysis))
                yield Padding(row, (0, 0, 0, 5), expand=False)
    if one.failure:
        yield Padding(Text(visible(shortened(one.failure, 300)), "red"), (0, 0, 0, 5), expand=False)


def _sums(judgment: ScaledJudgment, ascii_only: bool) -> RenderableType:
    rows = grid()
    rows.add_row(bold("Verdict"), Text(_NAMES[judgment.verdict], f"bold {STYLE.get(judgment.verdict or '', 'red')}"))
    if judgment.confidence is not None:
        what = "softmax over meta-rewards" if judgment.rubric_confidence else "share of votes"
        if judgment.strategy in ("single", "selected", "combined"):
            what = "of the judgment"
        rows.add_row(bold("Confidence"), bar(judgment.confidence, 1.0, ascii_only, what))
    if judgment.votes:
        votes = ", ".join(f"{letter} {n}" for letter, n in judgment.votes)
        rows.add_row(bold("Votes"), Text(votes + _STOPPED[judgment.stopped]))
    compute = judgment.compute
    tokens = f"{compute.prompt_tokens} prompt tokens"
    if compute.computed_prompt_tokens:
        least = f", {compute.least_prompt_tokens} at least" if compute.least_prompt_tokens else ""
        tokens += f" ({compute.computed_prompt_tokens} computed{least})"
    scored = f", {compute.scored} responses scored" if compute.scored else ""
    rows.add_row(bold("Compute"), Text(f"{compute.calls} calls, {tokens}, {compute.completion_tokens} written{scored}"))
    if judgment.label is not None:
        said = "" if judgment.correct is None else "  right" if judgment.correct else "  wrong"
        rows.add_row(bold("Label"), Text(judgment.label).append(said, "green" if judgment.correct else "red"))
    if judgment.fallback:
        rows.add_row(bold("Instead"), Text(visible(shortened(judgment.fallback, 300)), "yellow"))
    for rubric, why in judgment.dropped:
        rows.add_row(bold("Dropped"), Text(f"{one_line(rubric.name)}: {one_line(shortened(why, 200))}", "dim"))
    for reason in judgment.reasons:
        rows.add_row(bold("Not read"), Text(visible(shortened(reason, 500)), "red"))
    return rows
