"""`omnirm export`: a trained model to hand on, with its card."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from omnirm.app.cli.boundary import errors_as_lines, log_to_stderr


def export(
    source: Annotated[Path, typer.Argument(help="A run's `final`, one of its checkpoints, or adapters of PEFT.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write; empty or new.")],
    base: Annotated[str, typer.Option(help="What adapters belong to, where they do not say.")] = "",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16; as they are by default.")] = "",
    results: Annotated[
        list[Path] | None, typer.Option(help="JSON file of measured results for the model card; may be repeated.")
    ] = None,
    title: Annotated[str, typer.Option(help="Heading of the model card; the run's name by default.")] = "",
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Merge adapters, write safetensors and a model card with data, recipe and measured results.

    What is written loads back with --model, and into vLLM. Its folder goes to stdout.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    log_to_stderr(False)
    with errors_as_lines(debug=debug):
        from omnirm.training.export import export as write

        folder = write(source, output, base=base, dtype=dtype, results=results or [], title=title)
    typer.echo(str(folder))
