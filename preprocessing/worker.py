"""Running a decoder in a process of its own, with limits enforced from outside: what hangs or crashes is that process.

For `prepare`, when `Policy.isolate` is set. Worker processes are started on demand, kept, and replaced when they die or
are killed. Arguments travel to them pickled (they are ours); results come back without pickle (`wire.py`), for the
process may be in the hands of the file it decodes. Needs POSIX. Knows no decoder.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from omnirm.preprocessing import wire
from omnirm.preprocessing.source import describe
from omnirm.preprocessing.types import Limits, MediaCorrupt, MediaTimeout, MediaTooLarge

_START_S = 180.0  # for starting Python and importing; not part of a medium's time
_GRACE_S = 1.0  # a decoder that watches the clock itself gets this long to end by itself
_CALLS = 2000  # a worker is replaced after this many, so that leaks in decoders do not add up
_MAX_WORKERS = 8
_BOOT = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from omnirm.preprocessing.worker import serve; serve(int(sys.argv[2]), int(sys.argv[3]))"
)


def run_isolated(fn: Callable[..., Any], *args: Any, limits: Limits | None = None) -> Any:
    """Call a function in a worker process and return its result.

    The function's module may name imports that should not count against the memory limit in `ISOLATED_IMPORTS`, a
    tuple of module names. Safe to call from several threads; each call has a worker to itself, at most one per core.

    Args:
        fn: Importable by its module and name; returns plain values, numeric arrays or the media of `types.py`.
        *args: Picklable; the first is what errors are named after.
        limits: `timeout_s` and `memory_bytes` are enforced; the default is `Limits()`.

    Raises:
        MediaTimeout: The time limit passed; the process was killed.
        MediaTooLarge: The process ran out of the memory it may add.
        MediaCorrupt: The process died otherwise, as decoders do on damaged files.
        MediaError: Whatever of its kinds `fn` raised.
        RuntimeError: `fn` raised something else.
    """
    limits, name = limits or Limits(), describe(args[0]) if args else fn.__qualname__
    if fn.__module__ == "__main__" or "<" in fn.__qualname__:
        raise ValueError(f"{fn.__module__}.{fn.__qualname__} cannot be imported by a worker; move it into a module")
    call = pickle.dumps((fn.__module__, fn.__qualname__, args, limits), protocol=5)
    worker = _POOL.take()
    try:
        result = worker.call(call, name, limits)
    finally:
        _POOL.give_back(worker)
    if isinstance(result, wire.WireError):
        raise MediaCorrupt(name, f"its decoder answered nonsense: {result}", "convert it again") from result
    return wire.decode(*result)


def shutdown() -> None:
    """End all worker processes; new ones start when needed. Called by itself when Python exits."""
    _POOL.close()


class _Worker:
    """One worker process, seen from outside."""

    def __init__(self) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        _append_only(self.log)
        self.tray = _tray()
        command = [sys.executable, "-c", _BOOT, json.dumps(sys.path), str(os.getpid()), str(self.tray.fileno())]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            bufsize=0,
            start_new_session=True,
            pass_fds=(self.tray.fileno(),),
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._to, self._from = self.process.stdin.fileno(), self.process.stdout.fileno()
        for descriptor in (self._to, self._from):
            os.set_blocking(descriptor, False)
        self.calls = 0
        self.answered = True  # whether it stands between two calls, ready for the next

    def call(self, message: bytes, name: str, limits: Limits) -> Any:
        """One exchange: (header, arrays), or the `WireError` that its answer is."""
        self.answered = False
        self.calls += 1
        self.log.truncate(0)
        try:
            deadline = time.monotonic() + _START_S
            self._send(message, deadline)
            self._receive(memoryview(bytearray(1)), deadline)  # it has imported what it needs
        except (TimeoutError, BrokenPipeError, EOFError) as error:
            raise RuntimeError(f"the decoding process did not start\n{self._last_words()}") from error
        try:
            deadline = time.monotonic() + limits.timeout_s + _GRACE_S
            size = bytearray(8)
            self._receive(memoryview(size), deadline)
            length = struct.unpack("<Q", size)[0]
            if length > wire.MAX_HEADER:
                return wire.WireError(f"a header of {length} bytes")
            header = bytearray(length)
            self._receive(memoryview(header), deadline)
            message_back, arrays = wire.read_header(bytes(header), max(limits.memory_bytes, 2**30))
            self._collect(arrays)
        except wire.WireError as error:
            return error
        except TimeoutError:
            self.kill()
            seconds = limits.timeout_s
            raise MediaTimeout(name, f"decoding took over {seconds:g} s", "raise Limits.timeout_s") from None
        except (BrokenPipeError, EOFError):
            raise self._obituary(name, limits) from None
        self.answered = not message_back.get("retire")
        return message_back, arrays

    def _send(self, message: bytes, deadline: float) -> None:
        """Lay a call into the tray and tell its length: a pipe would carry large media slowly."""
        self.tray.truncate(0)
        _put(self.tray.fileno(), memoryview(message), 0)
        self._wait(self._to, select.POLLOUT, deadline)
        os.write(self._to, struct.pack("<Q", len(message)))

    def _receive(self, view: memoryview, deadline: float) -> None:
        while view:
            self._wait(self._from, select.POLLIN, deadline)
            count = os.readv(self._from, [view])
            if not count:
                raise EOFError
            view = view[count:]

    def _collect(self, arrays: list[np.ndarray]) -> None:
        """Fill arrays from the tray. Read, not mapped: the other side may cut the file short at any time."""
        at = 0
        for array in arrays:
            at = _take(self.tray.fileno(), _bytes(array), at)
        self.tray.truncate(0)

    @staticmethod
    def _wait(descriptor: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError

    def _obituary(self, name: str, limits: Limits) -> MediaTooLarge | MediaTimeout | MediaCorrupt:
        """What the death of the process says about the medium."""
        try:
            code = self.process.wait(5.0)
        except subprocess.TimeoutExpired:
            self.kill()
            code = 0
        last = self._last_words()
        if code == -signal.SIGXCPU:
            return MediaTimeout(name, f"decoding took over {limits.timeout_s:g} s of CPU", "raise Limits.timeout_s")
        if code == -signal.SIGKILL or any(word in last for word in ("bad_alloc", "out of memory", "MemoryError")):
            return MediaTooLarge(name, "decoding ran out of memory", "give less or raise Limits.memory_bytes")
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return MediaCorrupt(name, f"its decoder crashed ({how})", "the file is probably damaged; convert it again")

    def _last_words(self) -> str:
        self.log.seek(0)
        return self.log.read()[-4000:].decode("utf-8", "replace")

    def kill(self) -> None:
        """End the process and everything it started."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.log, self.tray):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


class _Pool:
    """Idle workers, and a bound on how many there are."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._starting = 0
        self._size = min(_MAX_WORKERS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)

    def take(self) -> _Worker:
        with self._change:
            while not self._idle and len(self._busy) + self._starting >= self._size:
                self._change.wait()
            while self._idle:
                worker = self._idle.pop()
                if worker.process.poll() is None:
                    self._busy.add(worker)
                    return worker
                worker.kill()
            self._starting += 1
        try:
            worker = _Worker()
        except BaseException:
            with self._change:
                self._starting -= 1
                self._change.notify()
            raise
        with self._change:
            self._starting -= 1
            self._busy.add(worker)
        return worker

    def give_back(self, worker: _Worker) -> None:
        healthy = worker.answered and worker.calls < _CALLS
        if not healthy:
            worker.kill()
        with self._change:
            if worker in self._busy:
                self._busy.discard(worker)
                if healthy:
                    self._idle.append(worker)
            self._change.notify()

    def close(self) -> None:
        with self._change:
            workers, self._idle = [*self._idle, *self._busy], []
            self._busy.clear()
        for worker in workers:
            worker.kill()

    def forget(self) -> None:
        """After a fork: the workers belong to the parent."""
        self.__init__()  # type: ignore[misc]


_POOL = _Pool()
atexit.register(shutdown)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_POOL.forget)


def _append_only(stream: Any) -> None:
    with contextlib.suppress(ImportError):
        import fcntl

        fcntl.fcntl(stream, fcntl.F_SETFL, fcntl.fcntl(stream, fcntl.F_GETFL) | os.O_APPEND)


def _tray() -> Any:
    """A file without a name, in memory where the system has that: arrays travel in it faster than through a pipe."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("omnirm"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def _put(tray: int, view: memoryview, at: int) -> int:
    """Write into the tray at an offset, and return the offset behind it."""
    while view:
        count = os.pwrite(tray, view, at)
        at, view = at + count, view[count:]
    return at


def _take(tray: int, view: memoryview, at: int) -> int:
    """Fill a buffer from an offset of the tray, and return the offset behind it."""
    while view:
        count = os.preadv(tray, [view], at)
        if not count:
            raise wire.WireError("arrays shorter than declared")
        at, view = at + count, view[count:]
    return at


def _bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data if array.nbytes else memoryview(b"")


# Below: inside the worker process.


def serve(parent: int, tray: int) -> None:
    """The worker's loop: read a call, run it under its limits, write its result; until the parent closes the pipe."""
    calls, results = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what libraries print must not mix with results
    threading.Thread(target=_outlive_nobody, args=(parent,), daemon=True).start()
    _limit("RLIMIT_CORE", 0)
    while len(size := calls.read(8)) == 8:
        message = bytearray(struct.unpack("<Q", size)[0])
        _take(tray, memoryview(message), 0)
        os.ftruncate(tray, 0)
        module_name, qualname, args, limits = pickle.loads(message)
        message = bytearray()
        module = importlib.import_module(module_name)
        for name in getattr(module, "ISOLATED_IMPORTS", ()):
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        _limit("RLIMIT_AS", _address_space() + limits.memory_bytes)
        _limit("RLIMIT_CPU", int(time.process_time() + limits.timeout_s * (os.cpu_count() or 1)) + 5)
        _limit("RLIMIT_FSIZE", limits.memory_bytes + 2**26)
        results.write(b"S")
        results.flush()
        header, arrays = _run(module, qualname, args)
        _limit("RLIMIT_AS", None)
        at = 0
        for array in arrays:
            at = _put(tray, _bytes(array), at)
        results.write(struct.pack("<Q", len(header)) + header)
        results.flush()
        header, arrays, args = b"", [], ()


def _run(module: Any, qualname: str, args: tuple[Any, ...]) -> tuple[bytes, list[np.ndarray]]:
    fn = module
    for part in qualname.split("."):
        fn = getattr(fn, part)
    try:
        return wire.encode(fn(*args))
    except MemoryError:
        name = describe(args[0]) if args else qualname
        error = MediaTooLarge(name, "decoding ran out of memory", "give less or raise Limits.memory_bytes")
        header = json.loads(wire.encode_error(error, ""))
        return json.dumps(header | {"retire": True}).encode(), []
    except Exception as error:  # the boundary of the process: whatever it is, it is told to the caller
        return wire.encode_error(error, traceback.format_exc()), []


def _limit(name: str, value: int | None) -> None:
    """Set a soft resource limit, None for as much as is allowed. Systems without it go on without it."""
    with contextlib.suppress(ImportError, AttributeError, ValueError, OSError):
        import resource

        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        value = hard if value is None else value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, hard))


def _address_space() -> int:
    """Bytes of address space this process has now."""
    try:
        with open("/proc/self/statm") as stream:
            return int(stream.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 2**33


def _outlive_nobody(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(2.0)
    os._exit(1)
