"""The command `omnirm`. Each subcommand has a file here; this one only puts them together.

It imports no model library: `omnirm --help` is quick, and whatever is heavy is imported by the subcommand that needs
it.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from omnirm.app.cli.demo import demo
from omnirm.app.cli.doctor import doctor
from omnirm.app.cli.export import export
from omnirm.app.cli.judge import judge
from omnirm.app.cli.serve import serve
from omnirm.app.cli.study import study
from omnirm.app.cli.synth import synth
from omnirm.app.cli.train import train

app = typer.Typer(
    name="omnirm",
    help="A multimodal generative reward model: judges text, image, video and audio responses under rubrics.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: a third of the time
    pretty_exceptions_enable=False,
)
app.command("judge")(judge)
app.command("demo")(demo)
app.command("serve")(serve)
app.command("doctor")(doctor)
app.command("synth")(synth)
app.command("train")(train)
app.command("export")(export)
app.add_typer(study, name="study")


def _version(asked: bool) -> None:
    if asked:
        import omnirm

        typer.echo(f"omnirm {omnirm.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A multimodal generative reward model: judges text, image, video and audio responses under rubrics."""


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a terminal that cannot show a character is no reason to stop
    app()
