"""A judgment to read on a terminal: prompt, candidates, rubrics, verdict, both orders, confidence, model.

For the CLI and notebooks. Whatever a user or a model wrote is shown as text and never obeyed: no markup, no control
characters, no hidden reordering. Colours only on a terminal and without NO_COLOR; boxes only on a terminal. It opens
no media.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import unquote, urlsplit

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from omnirm.judgment import CandidateScore, Judgment, PairCall, PointJudgment
from omnirm.report_pieces import STYLE, bar, block, bold, grid, one_line, rubric_line
from omnirm.sample import Sample
from omnirm.shown import shortened, visible
from omnirm.types import CriterionAnalysis, Letter, Message, Part

NANO_NOTE = (
    "nano is a toy model: it knows only the small world of shapes, tones and tasks that it was trained on. "
    "For real text and media name a real model, e.g. --model Qwen/Qwen2.5-Omni-7B (text, image, video, audio), "
    "Qwen/Qwen3-Omni-30B-A3B-Instruct (the same) or Qwen/Qwen3-VL-8B-Instruct (text, image, video)."
)
_SIDE_BY_SIDE = 90  # columns that two candidates need beside each other


def print_report(
    judgment: Judgment | PointJudgment,
    sample: Sample | None = None,
    *,
    console: Console | None = None,
    note: bool = True,
) -> None:
    """Prints a judgment, with prompt and candidates where the sample is given; `note`: say what the model is not."""
    (console or make_console()).print(Report(judgment, sample, note=note))


def model_note(judgment: Judgment | PointJudgment) -> str:
    """What a reader must know about the model that judged; "" where there is nothing."""
    return NANO_NOTE if judgment.model.name == "nano" else ""


def make_console(**options: Any) -> Console:
    """A console that takes nothing in its input for markup. `options` as `rich.console.Console`."""
    return Console(markup=False, highlight=False, emoji=False, **options)


class Report:
    """A judgment as something that rich can print."""

    def __init__(self, judgment: Judgment | PointJudgment, sample: Sample | None = None, *, note: bool = True) -> None:
        self.judgment, self.sample, self.note = judgment, sample, note

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        judgment = self.judgment
        yield from sample_head(judgment.sample_id, judgment.format, self.sample, console, options)
        if isinstance(judgment, Judgment):
            yield from _pair(judgment, options.ascii_only)
        else:
            yield from _points(judgment, options.ascii_only)
        yield from _footer(judgment)
        if self.note and model_note(judgment):
            yield Text(model_note(judgment), "yellow")


# -- what was judged


def sample_head(
    sample_id: str, how: str, sample: Sample | None, console: Console, options: ConsoleOptions
) -> Iterable[RenderableType]:
    """What was judged: a rule with the sample's id, then prompt and candidates where the sample is given."""
    title = Text.assemble(("sample ", "dim"), (one_line(sample_id), "bold"), (f"  {how}", "dim"))
    yield Rule(title, align="left", style="dim", characters="-" if options.ascii_only else "─")
    if sample is not None:
        boxed = console.is_terminal and not options.ascii_only
        yield from _prompt(sample)
        yield _candidates(sample, boxed, options.max_width >= _SIDE_BY_SIDE)


def _prompt(sample: Sample) -> Iterable[RenderableType]:
    yield Text("Prompt", "bold")
    for turn in sample.prompt:
        yield Padding(_turn(turn, alone=len(sample.prompt) == 1), (0, 0, 0, 2), expand=False)


def _turn(turn: Message, *, alone: bool) -> Text:
    body = _content(turn.parts)
    return body if alone else Text.assemble((f"{one_line(turn.role)}: ", "dim"), body)


def _candidates(sample: Sample, boxed: bool, side_by_side: bool) -> RenderableType:
    blocks: list[RenderableType] = []
    for index, candidate in enumerate(sample.candidates):
        letter = candidate_name(index, len(sample.candidates))
        title = Text().append(letter, f"bold {STYLE.get(letter, '')}")
        if candidate.name:
            title.append(f"  {one_line(candidate.name)}", "dim")
        body = _content(candidate.parts)
        if boxed:
            blocks.append(Panel(body, title=title, title_align="left", border_style=STYLE.get(letter, "dim")))
        else:
            blocks.append(Group(title, Padding(body, (0, 0, 0, 2), expand=False)))
    if boxed and side_by_side and len(blocks) == 2:
        table = Table.grid(expand=True)
        table.add_column(ratio=1)
        table.add_column(ratio=1)
        table.add_row(*blocks)
        return table
    return Group(*blocks)


def candidate_name(index: int, count: int) -> str:
    """A, B for a pair; 1, 2, 3 ... for any other number."""
    return "AB"[index] if count == 2 else str(index + 1)


def _content(parts: Sequence[Part]) -> Text:
    lines = [block(part.value) if part.type == "text" else Text(describe_medium(part), "italic") for part in parts]
    return Text("\n").join(lines)


def describe_medium(part: Part) -> str:
    """Kind, name and size of a medium in one line, e.g. `[video] clip.mp4, 120 KB`; the file is not opened."""
    value, details = part.value, []
    if isinstance(value, str | os.PathLike):
        name, size = _reference(str(value))
        details = [name] if size is None else [name, _bytes(size)]
    elif isinstance(value, bytes | bytearray):
        details = ["in memory", _bytes(len(value))]
    elif isinstance(value, list | tuple):
        details = [f"{len(value)} frames"]
    else:
        shape = getattr(value, "shape", None) or getattr(value, "size", None)
        details = [f"{type(value).__name__} in memory"]
        if isinstance(shape, tuple):
            details.append("x".join(str(one) for one in shape))
    details += [f"{key}={value}" for key, value in part.options.items()]
    return one_line(f"[{part.type}] {', '.join(details)}")


def _reference(reference: str) -> tuple[str, int | None]:
    if reference.startswith("data:"):
        head, _, data = reference.partition(",")
        return head, len(data) * 3 // 4 if head.endswith(";base64") else len(data)
    path = reference
    if "://" in reference:
        try:
            parts = urlsplit(reference)
        except ValueError:
            return reference, None
        path = unquote(parts.path)
        if parts.scheme != "file":
            return f"{PurePath(path).name or '/'} at {parts.hostname}", None
    try:
        return PurePath(path).name or path, os.stat(path).st_size
    except (OSError, ValueError):
        return f"{PurePath(path).name or path} (no such file)", None


def _bytes(size: int) -> str:
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if size >= step:
            return f"{size / step:.3g} {unit}"
    return f"{size} bytes"


# -- a pair


def _pair(judgment: Judgment, ascii_only: bool) -> Iterable[RenderableType]:
    criteria = {one.rubric.name: one for one in judgment.criteria}
    silent = [rubric for rubric in judgment.rubrics if rubric.name not in criteria]
    if judgment.criteria or silent:
        yield Text("Rubrics", "bold")
    for one in judgment.criteria:
        yield from _criterion(one, judgment.calls)
    for rubric in silent:
        yield Padding(rubric_line(rubric), (0, 0, 0, 2), expand=False)
    if judgment.rubrics and not judgment.criteria and judgment.judged:
        yield Padding(
            Text(f"({judgment.format} gives the verdict alone, without analyses)", "dim"), (0, 0, 0, 2), expand=False
        )
    rows = grid()
    rows.add_row(bold("Verdict"), _verdict(judgment))
    if judgment.confidence is not None:
        rows.add_row(bold("Confidence"), bar(judgment.confidence, 1.0, ascii_only, _confidence_note(judgment)))
    if judgment.calls:
        rows.add_row(bold("Orders"), _orders(judgment))
        rows.add_row(bold("Readings"), _readings(judgment))
    if judgment.label is not None:
        rows.add_row(bold("Label"), _label(judgment))
    for reason in judgment.reasons:
        rows.add_row(bold("Not read"), Text(visible(shortened(reason, 500)), "red"))
    yield rows


def _criterion(one: CriterionAnalysis, calls: Sequence[PairCall]) -> Iterable[RenderableType]:
    line = rubric_line(one.rubric)
    if one.verdict is not None:
        same = [c.verdict for call in calls for c in call.criteria if c.rubric.name == one.rubric.name]
        line.append("  -> ", "dim")
        line.append(one.verdict, f"bold {STYLE[one.verdict]}")
        line.append(f" ({same.count(one.verdict)} of {len(same)} readings)", "dim")
    yield Padding(line, (0, 0, 0, 2), expand=False)
    for letter, analysis, score in (("A", one.analysis_a, one.score_a), ("B", one.analysis_b, one.score_b)):
        if analysis or score is not None:
            row = Table.grid(padding=(0, 1))
            row.add_row(
                Text(letter if score is None else f"{letter} {score:g}", f"bold {STYLE[letter]}"), block(analysis)
            )
            yield Padding(row, (0, 0, 0, 4), expand=False)


def _verdict(judgment: Judgment) -> Text:
    names: dict[Letter | None, str] = {"A": "A is better", "B": "B is better", "tie": "tie", None: "not judged"}
    text = Text().append(names[judgment.verdict], f"bold {STYLE.get(judgment.verdict or '', 'red')}")
    why = {
        "margin": "no majority: the log-probabilities decided",
        "tie_band": "within the tie band",
        "nothing": "no majority, and no log-probabilities to decide by" if judgment.verdict == "tie" else "",
        "votes": "",
    }[judgment.decided_by]
    if why:
        text.append(f"  ({why})", "dim")
    return text


def _confidence_note(judgment: Judgment) -> str:
    if judgment.margin is None:
        return "share of votes"
    return f"margin {judgment.margin:+.2f} nats (A against B)"


def _orders(judgment: Judgment) -> Text:
    first = {"AB": "A shown first", "BA": "B shown first"}
    text = Text()
    for order, verdict in judgment.order_verdicts:
        text.append(f"{first[order]}: ")
        text.append(verdict or "unread", f"bold {STYLE.get(verdict or '', 'red')}")
        text.append("   ")
    if judgment.position_consistent is not None:
        agree = judgment.position_consistent
        text.append(
            "position-consistent" if agree else "position-INCONSISTENT: the place mattered",
            "green" if agree else "yellow",
        )
    return text


def _readings(judgment: Judgment) -> Text:
    read, asked = sum(n for _, n in judgment.votes), len(judgment.calls)
    votes = ", ".join(f"{letter} {n}" for letter, n in judgment.votes if n)
    return Text(
        f"{read} of {asked} could be read" + (f" ({votes})" if votes else ""), "" if read == asked else "yellow"
    )


def _label(judgment: Judgment) -> Text:
    text = Text(judgment.label or "")
    if judgment.correct is not None:
        text.append("  right" if judgment.correct else "  wrong", "green" if judgment.correct else "red")
    return text


# -- candidates one by one


def _points(judgment: PointJudgment, ascii_only: bool) -> Iterable[RenderableType]:
    top = 10.0 if judgment.method == "rubric" else 1.0
    for one in judgment.candidates:
        yield from _scored(one, len(judgment.candidates), top, ascii_only)
    rows = grid()
    if judgment.best is not None and len(judgment.candidates) > 1:
        rows.add_row(bold("Best"), Text(candidate_name(judgment.best, len(judgment.candidates)), "bold"))
    if not judgment.judged:
        rows.add_row(bold("Verdict"), Text("not judged" if not judgment.ranking else "partly judged", "bold red"))
    rows.add_row(bold("Readings"), Text(f"{judgment.coverage:.0%} could be read"))
    for reason in judgment.reasons:
        rows.add_row(bold("Not read"), Text(visible(shortened(reason, 500)), "red"))
    yield rows


def _scored(one: CandidateScore, count: int, top: float, ascii_only: bool) -> Iterable[RenderableType]:
    letter = candidate_name(one.index, count)
    title = Text().append(f"Score of {letter}  ", f"bold {STYLE.get(letter, '')}")
    if one.score is None:
        title.append("not judged", "bold red")
    else:
        note = f"of {top:g}" + (f", spread {one.spread:.2f}" if one.spread else "")
        title.append_text(bar(one.score, top, ascii_only, note))
    yield title
    for rubric, score in one.scores:
        yield Padding(rubric_line(rubric).append(f"  {score:.3g}", "bold"), (0, 0, 0, 2), expand=False)
    analysis = next((call.analysis for call in one.calls if call.analysis), "")
    if analysis:
        yield Padding(block(analysis), (0, 0, 0, 2), expand=False)


# -- pieces


def _footer(judgment: Judgment | PointJudgment) -> Iterable[RenderableType]:
    revision = f" @ {one_line(judgment.model.revision)[:12]}" if judgment.model.revision else ""
    decoding = judgment.decoding
    how = f"temperature {decoding.temperature:g}, seed {decoding.seed}, samples {judgment.samples}"
    yield Text(f"{one_line(judgment.model.name)}{revision}; {how}; omnirm {judgment.library_version}", "dim")
