"""`omnirm train`: trains models from recipe files. Each method is a subcommand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from omnirm.app.cli.boundary import errors_as_lines, log_to_stderr

train = typer.Typer(help="Train models from recipe files.", no_args_is_help=True, rich_markup_mode=None)


@train.callback()
def _train() -> None:
    """Train models from recipe files."""


@train.command("bt")
def bt(
    recipe: Annotated[Path, typer.Argument(help="A TOML file, as training/recipes/nano-disrm.toml.")],
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Over what the file says, as layers=2 or bt.seed=1."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder of runs; this one's is named by the recipe.")] = Path("runs"),
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of torch.")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Train a scalar reward model (DisRM) by Bradley-Terry on pairs of text, images, video and audio.

    Checkpoints are saved on the way, and the same command goes on where it stopped. The folder of the final model
    goes to stdout; it is what --disrm takes.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    log_to_stderr(False)
    with errors_as_lines(debug=debug):
        folder = _run_bt(recipe, change or [], output, threads)
    typer.echo(str(folder))


def _run_bt(recipe: Path, changes: list[str], output: Path, threads: int | None) -> Path:
    from omnirm.errors import MissingExtra
    from omnirm.training.bt import read_recipe
    from omnirm.training.bt import train as train_recipe

    found = read_recipe(recipe, changes)
    if threads:
        import torch

        torch.set_num_threads(threads)
    try:
        return train_recipe(found, output)
    except ModuleNotFoundError as e:
        if (e.name or "").partition(".")[0] not in ("trl", "datasets", "accelerate"):
            raise
        raise MissingExtra(f"training needs the package {e.name!r}: pip install 'omnirm[train]'") from e
