"""From actions to what a server can offer: their arguments as a list, and a way to call them without holding a thread.

For the API and the MCP server. It knows neither Gradio nor MCP.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

import anyio

from omnirm.app.actions import judging as actions
from omnirm.app.actions import runs as run_actions
from omnirm.app.actions import votes as vote_actions
from omnirm.app.actions.judging import Medium

if TYPE_CHECKING:
    from pydantic import ValidationError

    from omnirm.app.studio import Studio

_POLL_S = (0.05, 0.5)  # between two looks at a job: at first, and at most


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of an action. kind: its type, without the text about it. required: it has no default."""

    name: str
    kind: Any
    about: str
    required: bool
    default: Any


@dataclass(frozen=True, slots=True)
class Action:
    """Something that can be called by name.

    begin: for actions that wait for a job, what starts it; the action itself is then only documentation.
    """

    name: str
    function: Callable[..., dict[str, Any]]
    begin: Callable[..., dict[str, Any]] | None = None

    @property
    def about(self) -> str:
        """What it does, in a sentence."""
        return (inspect.getdoc(self.function) or "").split("\n\n")[0]

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """Its arguments, those of `begin` first, without the studio."""
        found = _arguments(self.begin) if self.begin else ()
        return (*found, *_arguments(self.function))


ACTIONS: tuple[Action, ...] = (
    Action("judge", actions.judge, begin=actions.submit),
    Action("score", actions.score, begin=actions.submit_score),
    Action("submit", actions.submit),
    Action("submit_score", actions.submit_score),
    Action("judge_set", actions.judge_set),
    Action("job", actions.job),
    Action("cancel", actions.cancel),
    Action("judgment", actions.judgment),
    Action("models", actions.models),
    Action("medium", actions.medium),
    Action("vote_sets", vote_actions.vote_sets),
    Action("add_vote_set", vote_actions.add_vote_set),
    Action("next_pair", vote_actions.next_pair),
    Action("vote", vote_actions.vote),
    Action("undo_vote", vote_actions.undo_vote),
    Action("agreement", vote_actions.agreement),
    Action("export_votes", vote_actions.export_votes),
    Action("runs", run_actions.runs),
    Action("run_summary", run_actions.run_summary),
    Action("run_rows", run_actions.run_rows),
    Action("compare_runs", run_actions.compare_runs),
)


async def call(studio: Studio, action: Action, given: Mapping[str, Any]) -> dict[str, Any]:
    """Calls an action in a thread; while a job runs, no thread waits for it.

    Raises:
        OmnirmError, MediaError: as the action.
    """
    if action.begin is None:
        return await anyio.to_thread.run_sync(partial(action.function, studio, **given))
    rest = dict(given)
    full, wait_s = rest.pop("full"), rest.pop("wait_s")
    job = (await anyio.to_thread.run_sync(partial(action.begin, studio, **rest)))["job"]
    until = anyio.current_time() + wait_s
    pause, longest = _POLL_S
    while anyio.current_time() < until and not await anyio.to_thread.run_sync(_over, studio, job):
        await anyio.sleep(min(pause, max(0.0, until - anyio.current_time())))
        pause = min(longest, pause * 1.3)
    return await anyio.to_thread.run_sync(partial(actions.outcome, studio, job, full=full))


def why_invalid(error: ValidationError) -> str:
    """The first argument that is wrong, and how, in a line."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(piece) for piece in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


def with_media(kind: Any, medium: Any) -> Any:
    """The type of an argument with `medium` in place of the medium, and lists in place of sequences."""
    if kind == Medium:
        return medium
    origin = get_origin(kind)
    if origin is Sequence:
        return list[with_media(get_args(kind)[0], medium)]  # type: ignore[misc]
    return kind


def _over(studio: Studio, job: str) -> bool:
    return studio.jobs.status(job).over


def _arguments(function: Callable[..., Any]) -> tuple[Argument, ...]:
    hints = get_type_hints(function, include_extras=True)
    found = []
    for name, one in inspect.signature(function).parameters.items():
        if name == "studio" or one.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        kind, about = (get_args(hints[name]) if get_origin(hints[name]) is Annotated else (hints[name], ""))[:2]
        required = one.default is inspect.Parameter.empty
        default = list(one.default) if isinstance(one.default, tuple) else one.default
        found.append(Argument(name, kind, about, required, None if required else default))
    return tuple(found)
