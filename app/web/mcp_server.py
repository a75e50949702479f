"""The actions of the app as MCP tools, at `/mcp` of the same server.

Media go in as `data:` URIs or as references (as URLs where those are on); `medium` gives an image or a sound to the
model that asks. Needs the package `mcp`. Called by the server; it knows no page.
"""

from __future__ import annotations

import base64
import inspect
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from omnirm.app.actions.votes import media_type
from omnirm.app.web.calls import ACTIONS, Action, call, why_invalid, with_media
from omnirm.errors import MissingExtra, OmnirmError
from omnirm.preprocessing.types import MediaError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from mcp.server import MCPServer
    from starlette.types import ASGIApp, Receive, Scope, Send

    from omnirm.app.studio import Studio

_INSTRUCTIONS = (
    "Judges which of two responses to a prompt is better and why, for text, images, video and sound. `judge` waits for "
    "the verdict; `submit` and `job` do not. Media are given as data: URIs; answers name stored media by `ref`."
)
_READS = ("job", "judgment", "models", "medium", "vote_sets", "next_pair", "agreement", "export_votes", "runs",
          "run_summary", "run_rows", "compare_runs")  # fmt: skip
_MOST_BODY = 64 * 2**20  # bytes of one call


def mcp_server(studio: Studio) -> MCPServer:
    """The tools. Raises `MissingExtra` where the package `mcp` is not installed."""
    try:
        from mcp.server import MCPServer
        from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
        from mcp.types import ToolAnnotations
    except ImportError as error:
        raise MissingExtra("--mcp needs the package mcp: pip install 'omnirm[app]'") from error
    from pydantic import ValidationError

    class Server(MCPServer):  # whose errors are one line
        async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
            try:
                return await super().call_tool(name, arguments, context)
            except UnexpectedToolError:
                raise
            except ToolError as error:
                cause = error.__cause__
                wrong = why_invalid(cause) if isinstance(cause, ValidationError) else str(cause or error)
                raise ToolError(wrong) from error

    server: MCPServer = Server("omnirm", instructions=_INSTRUCTIONS, log_level="WARNING")
    for action in ACTIONS:
        server.add_tool(
            _tool(studio, action),
            name=action.name,
            description=action.about,
            annotations=ToolAnnotations(read_only_hint=action.name in _READS, open_world_hint=False),
        )
    return server


def add_mcp(
    app: FastAPI,
    studio: Studio,
    *,
    path: str = "/mcp",
    host: str = "127.0.0.1",
    allowed: Callable[[str, str], bool] | None = None,
) -> None:
    """Adds the MCP server (streamable HTTP, without sessions) to an application, before anything is mounted at `/`.

    Args:
        app: its lifespan is extended by the server's.
        studio: what the tools work on.
        path: where it is reached.
        host: the server listens on; on a loopback address requests with another `Host` or `Origin` are refused.
        allowed: is this name with this password let in (HTTP Basic)? None lets everybody in.
    """
    from starlette.routing import Route

    served = mcp_server(studio).streamable_http_app(
        streamable_http_path=path, stateless_http=True, json_response=True, max_request_body_size=_MOST_BODY, host=host
    )
    before = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(of: Any) -> AsyncIterator[Mapping[str, Any] | None]:
        async with before(of) as state, served.router.lifespan_context(served):
            yield state

    app.router.lifespan_context = cast(Any, lifespan)
    app.router.routes.append(Route(path, endpoint=served if allowed is None else _Locked(served, allowed)))


class _Locked:
    """An application behind HTTP Basic authentication."""

    def __init__(self, app: ASGIApp, allowed: Callable[[str, str], bool]) -> None:
        self._app, self._allowed = app, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.datastructures import Headers
        from starlette.responses import PlainTextResponse

        if scope["type"] == "http":
            kind, _, encoded = Headers(scope=scope).get("authorization", "").partition(" ")
            name, password = _credentials(encoded) if kind.lower() == "basic" else ("", "")
            if not self._allowed(name, password):
                refused = PlainTextResponse(
                    "give the name and password of this server", 401, {"WWW-Authenticate": 'Basic realm="omnirm"'}
                )
                return await refused(scope, receive, send)
        return await self._app(scope, receive, send)


def one_of(users: Mapping[str, str]) -> Callable[[str, str], bool]:
    """A check of name and password against these, in a time that tells nothing about them."""

    def allowed(name: str, password: str) -> bool:
        found = False
        for known, secret in users.items():
            same_name = secrets.compare_digest(name.encode(), known.encode())
            found |= secrets.compare_digest(password.encode(), secret.encode()) and same_name
        return found

    return allowed


def _credentials(encoded: str) -> tuple[str, str]:
    try:
        name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:  # no base64, no UTF-8
        return "", ""
    return name, password


def _tool(studio: Studio, action: Action) -> Callable[..., Any]:
    """The function behind a tool: its signature is the action's, each argument with its description."""
    from mcp.server.mcpserver.exceptions import ToolError
    from pydantic import Field

    async def tool(**given: Any) -> Any:
        try:
            answer = await call(studio, action, given)
        except (OmnirmError, MediaError) as error:
            raise ToolError(" ".join(str(error).split())) from error
        return _contents(answer) if action.function.__name__ == "medium" else answer

    kinds = {
        one.name: Annotated[with_media(one.kind, str), Field(description=one.about or one.name)]
        for one in action.arguments
    }
    result: Any = Any if action.name == "medium" else dict[str, Any]
    tool.__name__ = tool.__qualname__ = action.name
    tool.__doc__ = action.about
    tool.__annotations__ = {**kinds, "return": result}
    tool.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                one.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if one.required else one.default,
                annotation=kinds[one.name],
            )
            for one in action.arguments
        ],
        return_annotation=result,
    )
    return tool


def _contents(answer: Mapping[str, Any]) -> Any:
    """A medium as MCP content: images and sounds that models can take in, videos as a file."""
    from mcp.types import AudioContent, BlobResourceContents, EmbeddedResource, ImageContent

    file = Path(answer["path"])
    mime = media_type(file, answer["kind"])
    data = base64.b64encode(file.read_bytes()).decode()
    if answer["kind"] == "image":
        return ImageContent(type="image", data=data, mime_type=mime)
    if answer["kind"] == "audio":
        return AudioContent(type="audio", data=data, mime_type=mime)
    blob = BlobResourceContents(uri=f"omnirm://medium/{answer['ref']}", blob=data, mime_type=mime)
    return EmbeddedResource(type="resource", resource=blob)
