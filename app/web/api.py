"""The endpoints that `gradio_client` and plain HTTP can call: every action of the app by its own name.

Called once inside the page's Blocks. Files are what the client uploaded (`handle_file`); nothing is copied or fetched
on the way here, and only the media store decides what may be read. `docs/web-api.md` shows each endpoint.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from omnirm.app.actions.judging import Medium
from omnirm.app.web.calls import ACTIONS, Action, Argument, call, why_invalid, with_media
from omnirm.errors import OmnirmError, SampleError
from omnirm.preprocessing.types import MediaError

if TYPE_CHECKING:
    from omnirm.app.studio import Studio

_FILE = "gradio.FileData"  # what marks a file in Gradio's JSON
_FILE_SCHEMA: dict[str, Any] = {  # Gradio's own is ten times as long, and every page has one for each argument
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "meta": {"type": "object", "properties": {"_type": {"const": _FILE}}},
    },
}
_MOST_WAITING = 128  # calls that wait for a verdict at a time, so that there is always room for short ones
_URL = ("http://", "https://")


def add_api(studio: Studio) -> None:
    """Adds the endpoints to the Blocks that are being built."""
    import gradio as gr
    from gradio.context import get_blocks_context

    blocks = get_blocks_context()
    for action in ACTIONS:
        added = gr.api(
            _endpoint(studio, action),
            api_name=action.name,
            api_description=action.about,
            concurrency_limit=_MOST_WAITING if action.begin else None,
            concurrency_id="waiting" if action.begin else None,
        )
        parts: Any = blocks.fns[added["id"]]  # type: ignore[union-attr]
        for argument, component in zip(action.arguments, parts.inputs, strict=True):
            component.label, component._api_info = argument.name, _schema(argument)
        for component in parts.outputs:
            component.label = "answer"
        for component in (*parts.inputs, *parts.outputs):
            component.async_move_resource_to_block_cache = _untouched


def _endpoint(studio: Studio, action: Action) -> Callable[..., Any]:
    """The function behind an endpoint: its signature is the action's, with uploaded files for media."""
    import gradio as gr
    from gradio.data_classes import FileData

    arguments = action.arguments
    validated = partial(_validated, _model(action))

    async def endpoint(*values: Any) -> dict[str, Any]:
        try:
            given = validated(dict(zip((one.name for one in arguments), values, strict=True)))
            return _with_files(await call(studio, action, given))
        except (OmnirmError, MediaError) as error:
            raise gr.Error(" ".join(str(error).split()), print_exception=False) from error

    kinds = {one.name: with_media(one.kind, FileData) for one in arguments}
    endpoint.__name__ = endpoint.__qualname__ = action.name
    endpoint.__doc__ = action.about
    endpoint.__annotations__ = {**kinds, "return": dict}
    endpoint.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                one.name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=inspect.Parameter.empty if one.required else one.default,
                annotation=kinds[one.name],
            )
            for one in arguments
        ],
        return_annotation=dict,
    )
    return endpoint


def _model(action: Action) -> Any:
    """A pydantic model of the arguments, since Gradio passes on whatever JSON came."""
    from pydantic import ConfigDict, create_model

    fields: dict[str, Any] = {
        one.name: (with_media(one.kind, Medium), ... if one.required else one.default) for one in action.arguments
    }
    return create_model(action.name, __config__=ConfigDict(extra="forbid"), **fields)


def _validated(model: Any, values: dict[str, Any]) -> dict[str, Any]:
    """The arguments with their types, uploaded files as paths.

    Raises:
        SampleError: an argument of another type; the message names it.
    """
    from pydantic import ValidationError

    known = {name: _medium(value) for name, value in values.items()}
    try:
        checked = model.model_validate(known)
    except ValidationError as error:
        raise SampleError(why_invalid(error)) from error
    return {name: getattr(checked, name) for name in known}


def _medium(value: Any) -> Any:
    """The value with each of Gradio's files in it as what the media store takes: a path, or the text of a URL."""
    if isinstance(value, list):
        return [_medium(one) for one in value]
    if not _is_file(value):
        return value
    where = value["path"]
    return where if where.lower().startswith(_URL) else Path(where)


def _is_file(value: Any) -> bool:
    if not isinstance(value, Mapping) or not isinstance(value.get("path"), str):
        return False
    meta = value.get("meta")
    return isinstance(meta, Mapping) and meta.get("_type") == _FILE


def _with_files(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer with the path that `medium` gives as a file, which the client fetches."""
    if "path" not in answer:
        return answer
    return {**answer, "path": {"path": answer["path"], "meta": {"_type": _FILE}}}


def _schema(argument: Argument) -> dict[str, Any]:
    """The JSON schema of an argument, a file as clients recognise one, with its text where the API page looks."""
    from pydantic import TypeAdapter, WithJsonSchema

    file = Annotated[str, WithJsonSchema(_FILE_SCHEMA)]
    return {**TypeAdapter(with_media(argument.kind, file)).json_schema(), "additional_description": argument.about}


async def _untouched(where: Any) -> Any:
    """In place of Gradio's copy into its cache, which would also fetch a URL that somebody named."""
    return where
