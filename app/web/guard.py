"""What stands before every request: which paths and hosts are answered, how large a request may be, and the headers
that tell browsers to run nothing but our own scripts.

An ASGI middleware around the whole app, Gradio's routes included. It knows no widget and no studio.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException

from omnirm.app.media_store import MediaStore, UploadRefused
from omnirm.app.web.own_files import is_below
from omnirm.app.web.uploads import Uploads

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

API = "/gradio_api/"
MOST_JSON = 64 * 2**20  # bytes of a request that is no upload
_DRAIN = 64 * 2**20  # bytes of a refused request that are still read, so that the client hears the answer
_FILES_AT_ONCE = 8  # files of the largest size in one upload
_UNUSED = (  # parts of Gradio that this app does not use: proxies, editors, recordings, histories, code of components
    *("proxy=", "vibe-", "undo-vibe-", "run-history", "runs", "dev/", "deep_link", "process_recording"),
    *("custom_component/", "profiling/", "stream/"),
)
_PAGE_POLICY = (
    "default-src 'self'; script-src 'self' {scripts} 'unsafe-eval'; script-src-attr 'none'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; frame-src 'none'; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_FILE_POLICY = "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; sandbox"
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "geolocation=(), payment=(), usb=()",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer instead of what was asked for."""

    status: int
    said: str


class Guard:
    """The middleware.

    Args:
        app: What is guarded.
        media: Whose files may be fetched, besides uploads.
        uploads: Room for what is uploaded.
        hosts: Names that the server answers to; empty for any. It keeps other pages' scripts from reaching a server on
            this machine under a name of their own (DNS rebinding).
        scripts: Hashes of the scripts that a page may put in itself, as a content security policy names them.
        first: Markup that stands in the page until its scripts have made the rest.
    """

    def __init__(
        self,
        app: App,
        *,
        media: MediaStore,
        uploads: Uploads,
        hosts: Sequence[str] = (),
        scripts: Sequence[str] = (),
        first: str = "",
    ) -> None:
        self._app, self._media, self._uploads = app, media, uploads
        self._hosts = frozenset(host.lower() for host in hosts)
        self._scripts, self._first = " ".join(scripts), first.encode()
        self._folders: tuple[Path, ...] = (uploads.folder.resolve(),)
        self._most_upload = _FILES_AT_ONCE * media.limits.max_bytes + 2**20

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = _Headers(scope)
        refusal = self._refusal(scope, headers)
        path = scope["path"]
        uploading = refusal is None and path == f"{API}upload" and scope["method"] == "POST"
        if uploading and not await asyncio.to_thread(self._uploads.take, headers.length or 0):
            refusal = Refusal(503, "There are too many uploads at this moment. Try again in two minutes.")
        is_file = path.startswith((f"{API}file=", f"{API}file/"))
        answer = _Answer(send, is_file=is_file, scripts=self._scripts, first=self._first)
        if refusal is not None:
            await _drain(receive, headers.length)
            await answer.refuse(refusal)
            return
        if scope["method"] in ("GET", "HEAD") and "text/html" in headers.get("accept"):
            headers.remove("accept-encoding")  # the page is read on its way out
        most = self._most_upload if path == f"{API}upload" else MOST_JSON
        await self._app(scope, _counted(receive, most), answer)

    def _refusal(self, scope: Scope, headers: _Headers) -> Refusal | None:
        path: str = scope["path"]
        if self._hosts and headers.host not in self._hosts:
            return Refusal(421, "This server is not called by that name. Open it at the address that it printed.")
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and _from_elsewhere(headers):
            return Refusal(403, "Requests from other sites are not taken.")
        most = self._most_upload if path == f"{API}upload" else MOST_JSON
        if headers.length is not None and headers.length > most:
            return _too_large(most)
        if not path.startswith(API):
            return Refusal(404, "Not found.") if path.startswith("/monitoring") else None
        asked = path.removeprefix(API)
        if asked.startswith(_UNUSED):
            return Refusal(404, "Not found.")
        if asked.startswith(("file=", "file/")) and not self._may_fetch(asked[5:]):
            return Refusal(403, "This file is not served. Only media of this app and your own uploads are.")
        return None

    def _may_fetch(self, file: str) -> bool:
        """A file that the media store names, or a regular file among the uploads."""
        if is_below(file, self._folders):
            return Path(file).is_absolute() and Path(file).is_file()
        try:
            return Path(file).is_absolute() and self._media.path(Path(file).name) == Path(file).resolve()
        except (UploadRefused, OSError, ValueError, RuntimeError):
            return False


class _Headers:
    """The request's headers, by lower-case name."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def get(self, name: str) -> str:
        wanted = name.encode()
        return next((v.decode("latin-1") for k, v in self._scope["headers"] if k == wanted), "")

    def remove(self, name: str) -> None:
        self._scope["headers"] = [(k, v) for k, v in self._scope["headers"] if k != name.encode()]

    @property
    def host(self) -> str:
        """The host asked for, without its port."""
        try:
            return (urlsplit(f"//{self.get('host')}").hostname or "").lower()
        except ValueError:
            return ""

    @property
    def length(self) -> int | None:
        """The declared length of the body."""
        text = self.get("content-length")
        return int(text) if text.isascii() and text.isdecimal() else None


def _from_elsewhere(headers: _Headers) -> bool:
    """Was a request sent by a page of another site? Browsers tell; programs need not."""
    site = headers.get("sec-fetch-site")
    if site in ("same-origin", "none"):
        return False
    if site == "cross-site":
        return True
    origin = headers.get("origin")
    if not origin:
        return False
    try:
        host = urlsplit(origin).netloc.lower()
    except ValueError:
        return True
    return not host or host not in (headers.get("host").lower(), headers.get("x-forwarded-host").lower())


def _too_large(most: int) -> Refusal:
    return Refusal(413, f"This is more than the {most / 2**20:.4g} MB that one request may have. Send less.")


def _counted(receive: Receive, most: int) -> Receive:
    """`receive` that ends a body which goes beyond its limit; a body need not declare its length."""
    count = 0

    async def counted() -> Message:
        nonlocal count
        message = await receive()
        if message["type"] == "http.request":
            count += len(message.get("body", b""))
            if count > most:
                raise HTTPException(413, _too_large(most).said)  # which the app's own handlers turn into an answer
        return message

    return counted


async def _drain(receive: Receive, length: int | None) -> None:
    """Read what a refused client still sends, within reason: else it may not get to hear why."""
    count = 0
    while length and count < min(length, _DRAIN):
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            return
        count += len(message.get("body", b""))


class _Answer:
    """The way back: adds the headers, and gives the scripts of a page the one-time word that lets them run."""

    def __init__(self, send: Send, *, is_file: bool, scripts: str = "", first: bytes = b"") -> None:
        self._send, self._is_file, self._scripts, self._first = send, is_file, scripts, first
        self._start: Message | None = None
        self._page: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(k.lower(), v) for k, v in message["headers"]]
            kind = next((v for k, v in headers if k == b"content-type"), b"")
            if kind.startswith(b"text/html") and not self._is_file:
                self._start = {**message, "headers": headers}
                return
            policy = _FILE_POLICY if self._is_file else _PAGE_POLICY.format(scripts="")
            await self._begin({**message, "headers": headers}, policy)
        elif message["type"] == "http.response.body" and self._start is not None:
            self._page.append(message.get("body", b""))
            if not message.get("more_body"):
                await self._finish_page(self._start)
        else:
            await self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Answer in place of the app."""
        body = refusal.said.encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
        await self._begin({"type": "http.response.start", "status": refusal.status, "headers": headers}, _FILE_POLICY)
        await self._send({"type": "http.response.body", "body": body})

    async def _finish_page(self, start: Message) -> None:
        nonce = secrets.token_urlsafe(18)
        page = b"".join(self._page).replace(b"<script", f'<script nonce="{nonce}"'.encode())
        page = page.replace(b"<gradio-app", self._first + b"<gradio-app", 1)
        changed = (b"content-length", b"cache-control", b"etag")
        headers = [(k, v) for k, v in start["headers"] if k not in changed]
        headers += [(b"content-length", str(len(page)).encode()), (b"cache-control", b"no-store")]
        await self._begin(
            {**start, "headers": headers}, _PAGE_POLICY.format(scripts=f"'nonce-{nonce}' {self._scripts}")
        )
        await self._send({"type": "http.response.body", "body": page})

    async def _begin(self, start: Message, policy: str) -> None:
        ours = _HEADERS | {"content-security-policy": policy}
        headers = [(k, v) for k, v in start["headers"] if k.decode("latin-1") not in ours]
        headers += [(name.encode(), value.encode()) for name, value in ours.items()]
        await self._send({**start, "headers": headers})
