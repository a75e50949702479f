"""Where errors end: exit codes, one clear line on stderr instead of a traceback. For the subcommands."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from omnirm.errors import BackendError, ConfigError, MissingExtra, OmnirmError

ALL_JUDGED = 0
DEFECT = 1
USAGE = 2
SOME_NOT_JUDGED = 3
NONE_JUDGED = 4
INTERRUPTED = 130

EXIT_CODES = """\b
Exit codes:
  0  every sample was judged
  2  wrong use: flags, sample file, rubrics
  3  some samples were not judged (media, parsing); the others were
  4  no sample was judged, or the model could not be loaded
  1  a defect of omnirm; 130 interrupted
"""


@contextmanager
def errors_as_lines(*, debug: bool, judged: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Turns errors into one line and an exit code.

    Args:
        debug: let them through with their traceback.
        judged: tells whether any sample has come through; a model that fails then is 3, not 4.
    """
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except BrokenPipeError:  # the reader of our output has gone, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ALL_JUDGED) from None
    except KeyboardInterrupt:
        say("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except Exception as e:  # the boundary of the process
        if debug:
            raise
        code = exit_code(e, judged=judged())
        say(f"{one_line(e)}" if code != DEFECT else f"unexpected {type(e).__name__}: {one_line(e)} (see --debug)")
        raise typer.Exit(code) from e


def exit_code(error: Exception, *, judged: bool = False) -> int:
    """The exit code of an error."""
    if isinstance(error, BackendError | MissingExtra):
        return SOME_NOT_JUDGED if judged else NONE_JUDGED
    if isinstance(error, ConfigError | OmnirmError | OSError | UnicodeError):
        return USAGE
    return DEFECT


def say(text: str) -> None:
    """One line for people, on stderr."""
    typer.echo(f"omnirm: {text}", err=True)


def one_line(error: Exception) -> str:
    """The error's message on one line, safe to show."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return show_line(f"{error.filename}: {error.strerror}")
    return show_line(str(error)) or type(error).__name__


def show_line(text: str) -> str:
    """Untrusted text on one line, safe to show."""
    from omnirm.shown import visible

    return visible(" ".join(text.split()), newlines=False)


def log_to_stderr(verbose: bool) -> None:
    """Logs go to stderr: warnings, or with `verbose` what happens on the way. Progress bars only on a terminal."""
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO if verbose else logging.WARNING, format="omnirm: %(name)s: %(message)s"
    )
