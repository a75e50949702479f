"""`omnirm study rubrics`: what rubric scaling and the meta-reward are worth on a labelled set, as figures and plots."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from omnirm.app import scaling, service
from omnirm.app.cli.boundary import (
    ALL_JUDGED,
    NONE_JUDGED,
    SOME_NOT_JUDGED,
    errors_as_lines,
    log_to_stderr,
    say,
    show_line,
)
from omnirm.app.cli.judge import Function, Orders, PlannerChoice
from omnirm.errors import ConfigError, SampleError

study = typer.Typer(help="Studies on labelled sets.", no_args_is_help=True, rich_markup_mode=None)


@study.callback()
def _group() -> None:
    """Studies on labelled sets."""


@study.command("rubrics")
def rubrics(
    samples_file: Annotated[Path, typer.Argument(metavar="SAMPLES", help="A .jsonl or .json file of labelled pairs.")],
    run: Annotated[Path, typer.Option(metavar="FOLDER", help="Every call is kept here; the same command resumes.")],
    model: Annotated[str, typer.Option(metavar="NAME", help="The judge: nano, a folder or a hub name.")] = "nano",
    disrm: Annotated[
        str, typer.Option(metavar="NAME", help="The reward model: nano, a folder, a hub name or a URL.")
    ] = "nano",
    refiner: Annotated[
        str, typer.Option(metavar="NAME", help="model (the judge's own), another model, or a URL.")
    ] = "model",
    count: Annotated[int, typer.Option("--rubrics", min=2, max=100, help="K, rubrics to plan for a pair.")] = 10,
    planner: Annotated[PlannerChoice, typer.Option(help="Where rubrics come from.")] = PlannerChoice.generated,
    planner_temperature: Annotated[float, typer.Option(min=0, help="Of planning.")] = 0.0,
    meta_reward: Annotated[Function, typer.Option(help="What the verdicts in the run folder go by.")] = (
        Function.consistency
    ),
    orders: Annotated[Orders, typer.Option(help="Show a pair in both orders or in one.")] = Orders.two,
    seed: Annotated[int, typer.Option(min=0, help="Of every draw, and of the bootstrap.")] = 0,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="cpu, cuda, ...")] = None,
    dtype: Annotated[str | None, typer.Option(metavar="NAME", help="float32, bfloat16, float16.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Requests answered at once.")] = None,
    at_once: Annotated[int, typer.Option(min=1, help="Pairs between two lines of progress.")] = 32,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="All figures.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Accuracies, one a line.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="A page with plots that needs no network.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="More log lines on stderr.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Accuracy by rubric rank for each meta-reward, votes, best-of-N, margins, ranges and confidence.

    Every pair is judged under K rubrics, each response is refined by the judge's comments, and the reward model scores
    before and after. Intervals are 95 % bootstrap intervals over pairs. Exit codes are those of omnirm judge; a pair
    that was left out counts as not judged.
    """
    log_to_stderr(verbose)
    judgments: list[Any] = []
    with ExitStack() as stack:
        stack.enter_context(errors_as_lines(debug=debug, judged=lambda: any(one.judged for one in judgments)))
        if not samples_file.is_file():
            raise SampleError(f"{samples_file}: no such file")
        if planner.value == "contrastive":
            raise ConfigError("contrastive rubrics are made from the label, so accuracy under them says nothing")
        _check_outputs(json, csv, html)
        options = scaling.ScalingOptions(
            strategy="meta", rubrics=count, planner=planner.value, planner_temperature=planner_temperature,
            disrm=disrm, refiner=refiner, function=meta_reward.value, run=run,
        )  # fmt: skip
        judging = service.JudgeOptions(
            format="pairwise-thinking",
            orders=int(orders.value) if orders.value.isdigit() else orders.value,
            seed=seed,
            allow_tie=True,
        )
        chosen = service.ModelOptions(name=model, device=device, dtype=dtype, batch_size=batch_size)
        scaled, folder = scaling.make_scaled_judge(chosen, judging, options)
        if folder is not None:
            stack.enter_context(folder)
        for result in scaling.scale_rows(scaled, service.read_rows(samples_file), run=folder, at_once=at_once):
            judgments.append(result.judgment)
            if len(judgments) % at_once == 0:
                say(f"{len(judgments)} pairs")
        if not judgments:
            raise SampleError(f"{samples_file}: no samples")
        about: dict[str, Any] = {
            "samples": samples_file.name, "judge": model, "DisRM": disrm, "refiner": refiner, "planner": planner.value,
            "rubrics asked for": count, "orders": orders.value, "seed": seed,
        }  # fmt: skip
        studied = report(judgments, about, seed=seed, json=json, csv=csv, html=html)
    raise typer.Exit(ALL_JUDGED if studied == len(judgments) else SOME_NOT_JUDGED if studied else NONE_JUDGED)


def _check_outputs(json: Path | None, csv: Path | None, html: Path | None) -> None:
    """Raises for what could not be written, before hours of work rather than after them."""
    from omnirm.app.study_report import check_plots

    for path in (json, csv, html):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise ConfigError(f"{path}: is a folder, or lies in none that exists; name a file to write")
    if html is not None:
        check_plots()


def report(
    judgments: list[Any], about: dict[str, Any], *, seed: int, json: Path | None, csv: Path | None, html: Path | None
) -> int:
    """Prints the short table and writes the files asked for; tells how many pairs were studied."""
    from rich.table import Table

    from omnirm.app import study_report
    from omnirm.report import make_console
    from omnirm.study import study as figures

    try:
        found = figures(judgments, seed=seed)
    except ConfigError as error:
        say(str(error))
        for reason in dict.fromkeys(r for one in judgments for r in one.reasons):
            say(f"  {show_line(reason)}")
        return 0
    console = make_console()
    if not console.is_terminal:
        console.width = 120  # a table in a file or a pipe keeps its rows on one line
    table = Table(*study_report.SUMMARY_HEAD, box=None, pad_edge=False)
    for row in study_report.summary(found):
        table.add_row(*row)
    console.print(table)
    for name, value in study_report.facts(found).items():
        console.print(f"{name}: {show_line(value)}", soft_wrap=True)
    if json is not None:
        json.write_text(study_report.as_json(found, about), encoding="utf-8")
    if csv is not None:
        csv.write_text(study_report.as_csv(found), encoding="utf-8")
    if html is not None:
        html.write_text(study_report.as_html(found, about), encoding="utf-8")
    return found.pairs
