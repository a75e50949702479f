"""A real HTTP server on this machine that answers by a function, for the tests of whatever talks to a service."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: what to answer: a JSON value (status 200), or (status, body bytes, headers); None hangs up without an answer
Reply = Any


class LocalServer:
    """`url` to talk to; `seen`: (path, headers, payload) of each request in order of arrival."""

    def __init__(self, reply: Callable[[Any], Reply]) -> None:
        self.reply, self.seen = reply, []
        self.lock = threading.Lock()
        self.url = ""


@contextmanager
def serving(reply: Callable[[Any], Reply]) -> Iterator[LocalServer]:
    """A server for as long as the block lasts; `reply` gets each request's payload."""
    told = LocalServer(reply)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with told.lock:
                told.seen.append((self.path, dict(self.headers), payload))
            answer = told.reply(payload)
            if answer is None:
                self.close_connection = True
                return
            whole = isinstance(answer, tuple)
            status, body, headers = answer if whole else (200, json.dumps(answer).encode(), {})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def status(code: int, said: Any = None) -> tuple[int, bytes, dict[str, str]]:
    """An error in JSON."""
    return code, json.dumps(said).encode(), {}
