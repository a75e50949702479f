"""The web app as a server: the page, its API and, where asked for, the MCP tools, behind one guard.

`create_app` makes the application; `serve` runs it until it is told to stop. What the server must never do is in
`guard.py` (paths, hosts, sizes, headers), `own_files.py` (files) and `uploads.py` (disk space).
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from omnirm.app.web.uploads import Keep, Uploads
from omnirm.errors import BackendError, ConfigError

if TYPE_CHECKING:
    import gradio as gr
    from fastapi import FastAPI

    from omnirm.app.studio import Studio, StudioSettings

_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
_DELETE_STATE_S = 600  # how often Gradio forgets the files that it deleted
_AT_ONCE = 256  # events and calls under way, those that wait for a job included; Gradio's own limit is 40
_CLOSE_S = 1.0  # requests that still run at the end get this long
_LEAVE_S = 4.0  # the process is gone this long after it was told to stop, whatever a model is doing


def create_app(
    studio: Studio,
    *,
    auth: Sequence[tuple[str, str]] | None = None,
    root_path: str = "",
    mcp: bool = False,
    host: str = "127.0.0.1",
    hosts: Sequence[str] = (),
    keep: Keep | None = None,
    page: Callable[[Studio], gr.Blocks] | None = None,
) -> FastAPI:
    """The application: the page at `/`, `/healthz`, and `/mcp` where asked for.

    Args:
        studio: What it shows and does; its media store's `uploads` is emptied and used for uploads.
        auth: (user, password) pairs that may log in; None lets everybody in.
        root_path: Prefix under which a proxy shows the app, as `/omnirm`.
        mcp: Offer the actions as MCP tools too.
        host: Address that will be listened on.
        hosts: Host names that are answered; empty for all.
        keep: How much is kept of uploads.
        page: Makes the page; the default is `omnirm.app.web.build.build`.

    Raises:
        MissingExtra: `mcp` without its package.
    """
    uploads = Uploads(studio.media.uploads, keep or Keep())
    uploads.empty()
    _settle_gradio(studio)
    import gradio as gr
    from fastapi import FastAPI

    from omnirm.app.web.guard import Guard
    from omnirm.app.web.look import dressed, first_screen, script_hashes
    from omnirm.app.web.own_files import only_own_files

    demo = (page or _page)(studio)
    demo.max_threads = _AT_ONCE
    demo.queue()
    demo.delete_cache = (_DELETE_STATE_S, int(uploads.keep.oldest_s))
    uploads.kept = lambda: _shown_by(demo)
    app = FastAPI(title="omnirm", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/healthz")
    def healthz() -> dict[str, Any]:
        return {"status": "ok", "models": {name: studio.models.loaded(name) for name in studio.models.names}}

    if mcp:
        from omnirm.app.web.mcp_server import add_mcp, one_of

        add_mcp(app, studio, host=host, allowed=one_of(dict(auth)) if auth else None)
    gr.mount_gradio_app(
        app,
        demo,
        path="/",
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
        auth=list(auth) if auth else None,
        root_path=root_path or None,
        allowed_paths=[str(studio.media.folder)],
        blocked_paths=[],
        show_error=False,
        max_file_size=studio.media.limits.max_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        run_history=False,
        pwa=False,
        mcp_server=False,
        footer_links=["api", "settings"],
        **dressed(),
    )
    only_own_files(demo, studio.media.uploads, [studio.media.folder])
    look: dict[str, Any] = {"scripts": script_hashes(), "first": first_screen()}
    app.add_middleware(Guard, media=studio.media, uploads=uploads, hosts=hosts, **look)
    return app


def serve(
    settings: StudioSettings,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    auth: Sequence[tuple[str, str]] | None = None,
    open_to_all: bool = False,
    root_path: str = "",
    share: bool = False,
    mcp: bool = False,
    say: Callable[[str], None] = print,
) -> int:
    """Run the app until SIGTERM or SIGINT; models load once the page is up.

    Args:
        settings: What it offers and where it keeps things.
        host: Address or name to listen on.
        port: 0 takes any that is free.
        auth: (user, password) pairs that may log in.
        open_to_all: Others than this machine may come in without a password.
        root_path: See `create_app`.
        share: Make a public link through Gradio's service.
        mcp: See `create_app`.
        say: Tells the address and what is noticed, a line each.

    Returns:
        0 after SIGTERM, 130 after SIGINT.

    Raises:
        ConfigError: others could come in without a password, the port is taken, or another process has the data folder.
        BackendError: no link could be had.
    """
    if (share or not is_loopback(host)) and not auth and not open_to_all:
        where = "a public link" if share else f"host {host}"
        raise ConfigError(
            f"{where} lets others in, and there is no password: give --auth USER:PASSWORD or --auth-file, "
            "or --no-auth-i-know if everybody who can reach it may use it"
        )
    stop = _Stop()
    with stop.listening(), contextlib.closing(_listen(host, port)) as listening:
        address = f"http://{_in_url(host)}:{listening.getsockname()[1]}"
        say(f"starting at {address}{root_path}")
        from omnirm.app.studio import open_studio

        with open_studio(settings) as studio:
            private = is_loopback(host) and not (auth or share or root_path)
            hosts = (*_LOCAL_NAMES, host) if private else ()
            app = create_app(studio, auth=auth, root_path=root_path, mcp=mcp, host=host, hosts=hosts)
            for note in studio.notes:
                say(note)

            def up() -> None:
                say(f"running at {address}{root_path} (stop with Ctrl+C)")
                if share:
                    say(f"public link: {_shared(listening)}")
                threading.Thread(target=_load, args=(studio, say), name="omnirm-load", daemon=True).start()

            _run(app, listening, stop, up)
    return stop.code


def leave(code: int) -> None:
    """End the process now, without Python's own clearing up, which takes seconds where models are loaded.

    Jobs go on at the next start, and the database loses nothing that was committed.
    """
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def is_loopback(host: str) -> bool:
    """Is an address reachable from this machine alone?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _settle_gradio(studio: Studio) -> None:
    """What Gradio reads from the environment while a page is built: its folders, and that it calls nobody."""
    os.environ["GRADIO_TEMP_DIR"] = str(studio.media.uploads)
    os.environ["GRADIO_EXAMPLES_CACHE"] = str(studio.media.uploads / "examples")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def _page(studio: Studio) -> gr.Blocks:
    from omnirm.app.web.build import build

    return build(studio)


def _shown_by(demo: gr.Blocks) -> Collection[str]:
    """Files that belong to the page itself: examples and first values."""
    return {str(file) for block in list(demo.blocks.values()) for file in block.keep_in_cache}


def _listen(host: str, port: int) -> socket.socket:
    """A socket on the address, before anything slow is done."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--host {host} --port {port}: no such address: {error}") from error
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen(2048)  # SO_REUSEADDR lets two bind, but only one listen
    except OSError as error:
        listening.close()
        reason = error.strerror or str(error)
        remedy = "give another --port (0 takes any that is free), or stop what uses it"
        raise ConfigError(f"cannot listen on {host}, port {port}: {reason}; {remedy}") from error
    return listening


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class _Stop:
    """Listens for the signals that end the server; what is slow to leave is left behind."""

    def __init__(self) -> None:
        self.code = 0
        self.server: Any = None
        self._told = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: Mapping[int, Any] = {one: signal.signal(one, self._handle) for one in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first, self._told = not self._told, True
        if not first:
            leave(self.code)
        self.code = 130 if number == signal.SIGINT else 0
        late = threading.Timer(_LEAVE_S, leave, (self.code,))
        late.daemon = True
        late.start()
        if self.server is None:
            raise SystemExit(self.code)
        self.server.should_exit = True


def _run(app: FastAPI, listening: socket.socket, stop: _Stop, up: Callable[[], None]) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        def capture_signals(self) -> Any:
            return contextlib.nullcontext()  # ours are listened to already, and end with exit codes of our own

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                up()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # pages that are open are no errors now
            await super().shutdown(sockets)

    config = uvicorn.Config(
        app,
        log_level="warning",
        ws="none",
        timeout_graceful_shutdown=int(_CLOSE_S),
        server_header=False,
        limit_concurrency=None,
    )
    stop.server = Server(config)
    stop.server.run(sockets=[listening])


def _load(studio: Studio, say: Callable[[str], None]) -> None:
    for name, reason in studio.models.load_all().items():
        say(f"model {name} could not be loaded: {reason}")


def _shared(listening: socket.socket) -> str:
    """A public address through Gradio's service, which the server is then reached by."""
    import secrets

    import httpx
    from gradio.networking import setup_tunnel

    try:
        return setup_tunnel("127.0.0.1", listening.getsockname()[1], secrets.token_urlsafe(32), None, None)
    except (RuntimeError, OSError, ValueError, httpx.HTTPError) as error:
        raise BackendError(f"no public link could be had: {error}; leave out --share") from error
