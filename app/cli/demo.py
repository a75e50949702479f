"""`omnirm demo`: four pairs of the embedded model's world (text, image, video, audio), judged out of the box."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omnirm.app import service
from omnirm.app.cli.boundary import (
    ALL_JUDGED,
    NONE_JUDGED,
    SOME_NOT_JUDGED,
    errors_as_lines,
    log_to_stderr,
)
from omnirm.app.cli.judge import Format, show

if TYPE_CHECKING:
    from omnirm.sample import Sample


def demo(
    model: Annotated[str, typer.Option(help="Another model than the embedded one.")] = "nano",
    keep: Annotated[Path | None, typer.Option(help="Put the media files here and keep them.")] = None,
    format: Annotated[
        Format, typer.Option(help="auto thinks about text and gives the verdict alone on media.")
    ] = Format.thinking,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line instead of reports.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Judge four small pairs (text, image, video, audio) with the embedded model, in both orders, under rubrics.

    The model is called nano and knows only the toy world that these pairs come from. It thinks about all four and finds
    its own rubrics; where it gives the verdict alone (--format) it is shown the pair's gold rubric.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # nothing is fetched, and loading takes a second
    log_to_stderr(False)
    tally = service.Tally()
    with errors_as_lines(debug=debug), tempfile.TemporaryDirectory(prefix="omnirm-demo-") as temporary:
        from omnirm.nano.world import demo_samples

        samples = demo_samples(keep or Path(temporary))
        judge = service.make_judge(
            service.load_model(service.ModelOptions(name=model)), service.JudgeOptions(format=format.value)
        )
        rows = [service.Row(one.id, one if judge.thinks_about(one) else with_gold_rubric(one)) for one in samples]
        show(service.judge_rows(judge, rows), tally, as_json=json)
    raise typer.Exit({"all": ALL_JUDGED, "some": SOME_NOT_JUDGED, "none": NONE_JUDGED}[tally.outcome])


def with_gold_rubric(sample: Sample) -> Sample:
    """The sample under the rubric that its maker judged by, where it has no rubrics and its metadata names that one."""
    from omnirm.sample import parse_rubrics

    gold = sample.metadata.get("gold_rubric")
    return replace(sample, rubrics=parse_rubrics([gold])) if gold and not sample.rubrics else sample
