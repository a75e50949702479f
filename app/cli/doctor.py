"""`omnirm doctor`: what is installed and usable here, and what to install for what is missing."""

from __future__ import annotations

from typing import Annotated

import typer

from omnirm.app.cli.boundary import ALL_JUDGED, NONE_JUDGED, errors_as_lines


def doctor(
    json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Tell what is installed and usable: decoders, devices, extras, families of models, the embedded model.

    Exits with 0 when this installation can judge, and with 4 when something that every judgment needs is missing.
    """
    with errors_as_lines(debug=debug):
        from omnirm.app.doctor import examine, print_findings

        findings = examine()
        if json:
            typer.echo(findings.to_json())
        else:
            print_findings(findings)
    raise typer.Exit(ALL_JUDGED if findings.can_judge else NONE_JUDGED)
