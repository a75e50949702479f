"""JSON to an HTTP service and back, with bounded retries; and media as `data:` URIs on the way.

For reward models and editors behind a URL (`omnirm.scorers.http`, `omnirm.rubrics.refine`). The service is somebody
else's: its answers are untrusted, and no credential, query or header ever gets into a message. Knows no service's
contract, and no prompt.
"""

from __future__ import annotations

import base64
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit

from omnirm.errors import BackendError, ConfigError
from omnirm.preprocessing.sniff import require
from omnirm.preprocessing.source import describe, open_source
from omnirm.preprocessing.types import Policy
from omnirm.shown import shortened, visible
from omnirm.types import Part

_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})  # worth another try
_HOPELESS = frozenset({401, 403, 404, 405, 407, *range(300, 400)})  # true of every request to this service
_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0  # doubled from one retry to the next
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
T = TypeVar("T")
R = TypeVar("R")


class Refused(BackendError):
    """The service answered, and did not do this one request. Others may still be done."""


class Endpoint:
    """One URL that takes a JSON object by POST and answers with JSON.

    Args:
        url: http or https, without user name and password. No redirect is followed.
        timeout: seconds without a byte after which a request counts as failed.
        retries: how often a request is repeated after a time-out, a lost connection, or one of the statuses 408, 425,
            429, 500, 502, 503, 504; with pauses of 0.5, 1, 2, ... seconds.
        api_key: sent as a bearer token.
        most_bytes: longest answer that is read.

    Attributes:
        name: the URL without query, for messages and records.

    Raises:
        ConfigError: a URL, key or number that cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 60.0,
        retries: int = 2,
        api_key: str | None = None,
        most_bytes: int = 64 * 2**20,
    ) -> None:
        self.name = describe(url)
        host = _host(url, self.name)
        if not 0 < timeout < float("inf"):
            raise ConfigError(f"timeout {timeout}: give seconds above 0")
        if isinstance(retries, bool) or not 0 <= retries <= 20:
            raise ConfigError(f"retries {retries}: give 0 to 20")
        if api_key is not None and not (api_key and api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise ConfigError("api_key: it is empty or holds spaces or characters that no header can carry")
        self._url, self._timeout, self._retries, self._most, self._key = url, timeout, retries, most_bytes, api_key
        self._headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "omnirm"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
        if host in _LOOPBACK:
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def post(self, payload: Any) -> Any:
        """The answer, parsed.

        Raises:
            Refused: this request failed for good: another 4xx status, an answer that is no JSON or too long, or a
                failure of the passing kind that outlived the retries.
            BackendError: the service cannot be used at all: nobody there, or 401, 403, 404, 405, 407, a redirect.
        """
        body = json.dumps(payload, allow_nan=False).encode("ascii")
        for attempt in range(self._retries + 1):
            if attempt:
                _sleep(min(_PAUSE_S * 2 ** (attempt - 1), _LONGEST_PAUSE_S))
            try:
                return self._parse(self._once(body))
            except _PassingError as e:
                failure = e.failure
        raise failure

    def _once(self, body: bytes) -> bytes:
        request = urllib.request.Request(self._url, data=body, headers=self._headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                return response.read(self._most + 1)
        except urllib.error.HTTPError as e:
            message = f"{self.name} answers HTTP {e.code}{self._detail(e)}"
            if e.code in _HOPELESS:
                raise BackendError(f"{message}; check the URL, the model's name and the key") from None
            if e.code in _AGAIN:
                raise _PassingError(Refused(message)) from None
            raise Refused(message) from None
        except urllib.error.URLError as e:
            reason = e.reason.strerror if isinstance(e.reason, OSError) and e.reason.strerror else type(e.reason)
            reason = reason if isinstance(reason, str) else reason.__name__
            problem = BackendError(f"{self.name} cannot be reached ({reason}); check the URL and the service")
            raise _PassingError(problem) from None
        except TimeoutError:
            raise _PassingError(Refused(f"{self.name} gave no answer within {self._timeout:g} s")) from None
        except (OSError, http.client.HTTPException) as e:
            problem = Refused(f"{self.name} broke off its answer ({type(e).__name__})")
            raise _PassingError(problem) from None

    def _parse(self, data: bytes) -> Any:
        if len(data) > self._most:
            raise Refused(f"{self.name} answers with more than {self._most} bytes")
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise Refused(f"{self.name} answers with something that is not JSON") from None

    def _detail(self, error: urllib.error.HTTPError) -> str:
        """What the service says about an error, if it says so in one of the usual ways."""
        try:
            with error:
                said = json.loads(error.read(2**16))
        except (OSError, http.client.HTTPException, ValueError, RecursionError):
            return ""
        for key in ("error", "message", "detail"):
            if isinstance(said, dict) and said.get(key):
                said = said[key]
        if not isinstance(said, str):
            return ""
        if self._key is not None:
            said = said.replace(self._key, "***")
        return f": {visible(shortened(said, 300), newlines=False)}"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: it would carry content and key to another address."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class _PassingError(Exception):
    """A failure that may pass; `failure` is what to raise when it does not."""

    def __init__(self, failure: BackendError) -> None:
        super().__init__(str(failure))
        self.failure = failure


def in_parallel(function: Callable[[T], R], items: Sequence[T], workers: int) -> list[R]:
    """`function` of every item, in order, `workers` at a time. The first exception ends it: nothing new is begun."""
    with ThreadPoolExecutor(max_workers=workers) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def data_uri(part: Part, policy: Policy | None = None) -> str:
    """A medium as `data:<type>/<format>;base64,...`, its bytes as they are. A `data:` URI is checked and written anew.

    Raises:
        MediaError: it may not be read, or is no medium of the part's kind. Objects in memory other than bytes cannot
            be sent.
    """
    source = open_source(part.value, policy)
    found = require(source, part.type)  # type: ignore[arg-type]
    form = "".join(char if char.isalnum() else "-" for char in found.format)
    return f"data:{part.type}/{form};base64,{base64.b64encode(source.read()).decode('ascii')}"


def _host(url: str, name: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or any(c <= " " or c == "\x7f" for c in url):
        raise ConfigError(f"{name}: not a URL to post to; give http://host:port/path")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"{name}: the URL carries a user name or password; give the key as api_key")
    return host


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


__all__ = ["Endpoint", "Refused", "data_uri", "in_parallel"]
