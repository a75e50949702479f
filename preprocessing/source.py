"""From what a user refers to (path, URI, bytes) to bytes that may be read: the only place where anything is opened.

For the loaders of image, audio and video. Paths are resolved first and checked afterwards, so symbolic links and `..`
cannot leave the allowed roots; only regular files are opened, never a pipe or a device; sizes are checked before
anything is read or decoded. The network half is `remote.py`. Knows nothing of formats or decoders.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import io
import os
import re
import stat
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from omnirm.preprocessing.types import (
    MediaCorrupt,
    MediaError,
    MediaNotAllowed,
    MediaNotFound,
    MediaUnsupported,
    Policy,
    too_many_bytes,
)

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_BLOCK = 2**20
_SETTLED_S = 2.0  # a file changed more recently than this may change again without its time stamp moving


@dataclass(slots=True, eq=False)
class Source:
    """Bytes a policy allows to be read: a regular file on disk, or bytes in memory.

    Attributes:
        name: What was asked for, short and printable, for messages.
        size: Length in bytes.
        path: The file, symbolic links resolved; None for bytes in memory. Large files are not read into memory.
        data: The bytes; None for a file.
    """

    name: str
    size: int
    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)
    _stamp: tuple[int, int, int, int] = (0, 0, 0, 0)  # device, inode, size, time of change (ns) of the file checked
    _sha256: str = ""

    def open(self) -> BinaryIO:
        """A new readable, seekable stream over the content, at its start.

        Raises:
            MediaNotFound: The file has gone.
            MediaCorrupt: The file is no longer the one that was checked.
        """
        if self.data is not None:
            return io.BytesIO(self.data)
        assert self.path is not None
        descriptor, status = _open_regular(self.path, self.name)
        if _stamp(status) != self._stamp:
            os.close(descriptor)
            raise MediaCorrupt(self.name, "the file was changed or replaced while it was being read", "try again")
        return os.fdopen(descriptor, "rb")

    def read(self) -> bytes:
        """The whole content. For media that are decoded from memory; its size is within the policy's limit."""
        if self.data is not None:
            return self.data
        with self.open() as stream:
            content = stream.read(self.size + 1)
        if len(content) != self.size:
            raise MediaCorrupt(self.name, "the file was changed or replaced while it was being read", "try again")
        if not self._sha256:
            self._sha256 = hashlib.sha256(content).hexdigest()
        return content

    def head(self, count: int = 4096) -> bytes:
        """The first `count` bytes, or all there are."""
        if self.data is not None:
            return self.data[:count]
        with self.open() as stream:
            return stream.read(count)

    @property
    def sha256(self) -> str:
        """Hex digest of the content; streamed, and remembered for files that have not changed."""
        if not self._sha256:
            if self.data is not None:
                self._sha256 = hashlib.sha256(self.data).hexdigest()
            else:
                self._sha256 = _DIGESTS.digest(self)
        return self._sha256


Reference = str | os.PathLike[str] | bytes | bytearray | memoryview | Source


def open_source(ref: Any, policy: Policy | None = None) -> Source:
    """Check a reference against the policy and make its bytes available.

    Args:
        ref: A path, a `file://` or `data:` URI, an http(s) URL, bytes, or a `Source` (returned as it is).
        policy: What may be read; the default reads any local file and nothing remote.

    Returns:
        The source. A file is not read yet; a URL is.

    Raises:
        MediaNotFound: Nothing is there.
        MediaNotAllowed: Outside the roots, not a regular file, remote while remote is off, or a private address.
        MediaTooLarge: More than `policy.limits.max_bytes`.
        MediaCorrupt: Empty, or a damaged `data:` URI.
        MediaTimeout: A download took longer than `policy.limits.timeout_s`.
        MediaUnsupported: `ref` is of a type that cannot refer to a medium.
    """
    policy = policy or Policy()
    if isinstance(ref, Source):
        return ref
    if isinstance(ref, bytes | bytearray | memoryview):
        return _from_bytes(ref, describe(ref), policy)
    if isinstance(ref, os.PathLike):
        ref = os.fspath(ref)
        if isinstance(ref, bytes):
            ref = os.fsdecode(ref)
        return _from_path(ref, describe(ref), policy)
    if not isinstance(ref, str):
        raise MediaUnsupported(
            describe(ref), f"a {type(ref).__name__} does not refer to a medium", "give a path, a URI or bytes"
        )
    scheme = (_SCHEME.match(ref) or [""])[0].lower()
    if scheme == "data:":
        return _from_bytes(_decode_data_uri(ref, policy), describe(ref), policy)
    if scheme in ("http:", "https:"):
        from omnirm.preprocessing import remote

        return _from_bytes(remote.fetch(ref, describe(ref), policy), describe(ref), policy)
    if scheme == "file:":
        return _from_file_uri(ref, policy)
    if scheme and ref[len(scheme) :].startswith("//"):
        raise MediaNotAllowed(describe(ref), f"{scheme}// is not read", "download it first and give the path")
    return _from_path(ref, describe(ref), policy)


def describe(ref: Any) -> str:
    """A short printable name for a reference, without credentials, queries, payloads or control characters."""
    if isinstance(ref, Source):
        return ref.name
    if isinstance(ref, bytes | bytearray | memoryview):
        return f"<{len(ref)} bytes>"
    if isinstance(ref, os.PathLike):
        ref = os.fspath(ref)
        ref = os.fsdecode(ref) if isinstance(ref, bytes) else ref
    if not isinstance(ref, str):
        shape = getattr(ref, "shape", None) or getattr(ref, "size", None)
        return f"<{type(ref).__name__}{f' {tuple(shape)}' if isinstance(shape, tuple) else ''}>"
    if ref[:5].lower() == "data:":
        return f"<data: URI of {len(ref)} characters>"
    if ref[:7].lower() in ("http://", "https:/"):
        try:
            parts = urlsplit(ref)
            ref = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        except ValueError:
            ref = ref.partition("?")[0].rpartition("@")[2]
    ref = ref if len(ref) <= 200 else f"{ref[:90]}...{ref[-90:]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode("ascii") for c in ref)


def _from_bytes(data: bytes | bytearray | memoryview, name: str, policy: Policy) -> Source:
    if len(data) > policy.limits.max_bytes:
        raise too_many_bytes(name, len(data), policy)
    if not len(data):
        raise MediaCorrupt(name, "it is empty", "give a medium with content")
    return Source(name, len(data), data=bytes(data))


def _from_file_uri(ref: str, policy: Policy) -> Source:
    rest = ref[len("file:") :]
    if rest.startswith("//"):
        host, slash, tail = rest[2:].partition("/")
        if host.lower() not in ("", "localhost"):
            raise MediaNotAllowed(describe(ref), f"names another host ({host!r})", "write file:///absolute/path")
        rest = slash + tail
    name = describe(ref)
    decoded = unquote(rest, errors="surrogateescape")
    try:
        return _from_path(decoded, name, policy)
    except MediaNotFound:
        if decoded == rest:
            raise
        return _from_path(rest, name, policy)  # many write "file://" + path and escape nothing


def _from_path(path: str, name: str, policy: Policy) -> Source:
    if not path or "\0" in path:
        raise MediaNotAllowed(name, "is empty or holds a NUL character", "give a path")
    try:
        resolved = Path(path).resolve()
    except (OSError, RuntimeError, UnicodeError) as error:  # a loop of links, or characters no file name has
        raise MediaNotFound(name, f"is no usable path: {error}", "check the path") from error
    if policy.roots and not any(resolved.is_relative_to(Path(root).resolve()) for root in policy.roots):
        raise MediaNotAllowed(name, "lies outside the allowed folders", "move it there, or allow its folder")
    descriptor, status = _open_regular(resolved, name)
    os.close(descriptor)
    if status.st_size > policy.limits.max_bytes:
        raise too_many_bytes(name, status.st_size, policy)
    if status.st_size == 0:
        raise MediaCorrupt(name, "the file is empty", "copy or download it again")
    return Source(name, status.st_size, path=resolved, _stamp=_stamp(status))


def _open_regular(path: Path, name: str) -> tuple[int, os.stat_result]:
    """Open a regular file, and nothing else: looked at first, and never waiting for the other end of a pipe."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
    flags |= getattr(os, "O_BINARY", 0)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise MediaNotAllowed(name, "is not a regular file", "give a file, not a folder, pipe or device")
        descriptor = os.open(path, flags)
    except MediaError:
        raise
    except PermissionError as error:
        raise MediaNotAllowed(name, "the system denies reading it", "check the file's permissions") from error
    except (OSError, UnicodeError) as error:
        if getattr(error, "errno", None) == errno.ELOOP:
            raise MediaNotAllowed(name, "became a symbolic link while being opened", "try again") from error
        raise MediaNotFound(name, "there is no such file", "check the path") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise MediaNotAllowed(name, "is not a regular file", "give a file, not a folder, pipe or device")
    return descriptor, status


def _decode_data_uri(ref: str, policy: Policy) -> bytes:
    """The payload of a `data:` URI; its size is checked before it is decoded."""
    header, comma, payload = ref.partition(",")
    if not comma:
        raise MediaCorrupt(describe(ref), "a data: URI needs a comma before its payload", "write data:TYPE;base64,DATA")
    limit = policy.limits.max_bytes
    if not header.lower().rstrip().endswith(";base64"):
        if len(payload) > 3 * limit:
            raise too_many_bytes(describe(ref), len(payload) // 3, policy)
        return unquote_to_bytes(payload)
    if len(payload) * 3 // 4 > limit + 3:
        raise too_many_bytes(describe(ref), len(payload) * 3 // 4, policy)
    try:
        if "%" in payload[:64] or "%" in payload[-8:]:
            payload = unquote(payload)
        return base64.b64decode(payload.translate(_NO_WHITESPACE), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MediaCorrupt(describe(ref), f"its base64 is damaged: {error}", "encode the file again") from error


_NO_WHITESPACE = {ord(c): None for c in " \t\r\n"}


def _stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, max(status.st_mtime_ns, status.st_ctime_ns)


class _Digests:
    """Remembers the digests of files, so that a file judged under many rubrics is hashed once."""

    def __init__(self, entries: int = 4096) -> None:
        self._entries, self._lock = entries, threading.Lock()
        self._known: OrderedDict[tuple[int, int, int, int], str] = OrderedDict()

    def digest(self, source: Source) -> str:
        with self._lock:
            if source._stamp in self._known:
                self._known.move_to_end(source._stamp)
                return self._known[source._stamp]
        digest = hashlib.sha256()
        with source.open() as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
        settled = time.time() - source._stamp[3] / 1e9 > _SETTLED_S
        with self._lock:
            if settled:
                self._known[source._stamp] = digest.hexdigest()
            if len(self._known) > self._entries:
                self._known.popitem(last=False)
        return digest.hexdigest()


_DIGESTS = _Digests()
