"""`omnirm train`: trains a model from a recipe file, or rehearses the recipe on a small random model."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from omnirm.app.cli.boundary import errors_as_lines, log_to_stderr

_TRAINING = ("trl", "datasets", "accelerate", "peft", "pyarrow")


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(help="A TOML file, or the name of a recipe that comes with omnirm.", show_default=False),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Over what the file says, as data=rows.parquet or dpo.beta=0.2."
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder of runs; this one's is named by the recipe.")] = Path("runs"),
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Take two steps on a small random model of the family and made-up rows."),
    ] = False,
    listed: Annotated[bool, typer.Option("--list", help="List the recipes that come with omnirm.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of torch.")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Train a judge (SFT, DPO, GRPO, PAR, DWRL) or a scalar reward model (Bradley-Terry) from a recipe file.

    Checkpoints are saved on the way, and the same command goes on where it stopped. The folder of the final model
    goes to stdout; it is what --model takes, or --disrm for a reward model. For several GPUs:
    accelerate launch --config_file <file> -m omnirm.app.cli train RECIPE; see docs/training.md.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    log_to_stderr(False)
    if listed:
        for name, first in recipes():
            typer.echo(f"{name:24} {first}")
        return
    with errors_as_lines(debug=debug), redirect_stdout(sys.stderr):  # the trainers print what they log
        folder = _run(recipe, change or [], output, dry_run, threads)
    if int(os.environ.get("RANK", "0")) == 0:
        typer.echo(str(folder))


def recipes() -> list[tuple[str, str]]:
    """Name and first comment line of every recipe that comes with omnirm."""
    found = []
    for file in sorted(_folder().glob("*.toml")):
        first = file.read_text(encoding="utf-8").partition("\n")[0]
        found.append((file.stem, first.removeprefix("#").strip()))
    return found


def _run(name: str | None, changes: list[str], output: Path, dry_run: bool, threads: int | None) -> Path:
    from omnirm.errors import ConfigError, MissingExtra

    if name is None:
        raise ConfigError("name a recipe; `omnirm train --list` shows those that come with omnirm")
    path = Path(name)
    if not path.is_file() and (own := _folder() / f"{path.name.removesuffix('.toml')}.toml").is_file():
        path = own
    try:
        from omnirm.training.recipe import Recipe, read_recipe

        if threads:
            import torch

            torch.set_num_threads(threads)
        found = read_recipe(path, changes)
        if not dry_run:
            return found.train(output)
        if not isinstance(found, Recipe):
            raise ConfigError(f"{path}: --dry-run is for recipes of judges; this one trains in minutes as it is")
        return _rehearse(found)
    except ModuleNotFoundError as e:
        if (e.name or "").partition(".")[0] not in _TRAINING:
            raise
        raise MissingExtra(f"training needs the package {e.name!r}: pip install 'omnirm[train]'") from e


def _rehearse(recipe: Any) -> Path:
    from omnirm.training.dry_run import rehearse

    folder = Path(tempfile.mkdtemp(prefix=f"omnirm-{recipe.name}-"))
    done = rehearse(recipe, folder)
    typer.echo(f"{recipe.name}: two steps on a random {done.family} and {done.rows} made-up rows", err=True)
    for line in done.changed:
        typer.echo(f"  for the rehearsal {line}", err=True)
    typer.echo(f"  losses {', '.join(f'{x:.4g}' for x in done.losses)}; saved, loaded back and asked", err=True)
    return done.folder


def _folder() -> Path:
    import omnirm.training

    return Path(omnirm.training.__path__[0]) / "recipes"
