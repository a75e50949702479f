"""A decoder that hangs, crashes or eats memory harms its own process only, and ends in a typed error in time."""

from __future__ import annotations

import _signal
import builtins
import ctypes
import operator
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from omnirm.preprocessing import wire, worker
from omnirm.preprocessing.audio import load_audio
from omnirm.preprocessing.types import (
    Audio,
    AudioSettings,
    Image,
    Limits,
    MediaCorrupt,
    MediaError,
    MediaNotFound,
    MediaTimeout,
    MediaTooLarge,
    Policy,
    Video,
)
from omnirm.preprocessing.worker import run_isolated


@pytest.fixture(scope="module", autouse=True)
def _no_workers_left_behind():
    yield
    worker.shutdown()


def test_results_come_back_as_they_were():
    assert run_isolated(operator.add, (1, "a"), (None, 2.5)) == (1, "a", None, 2.5)
    zeros = run_isolated(np.arange, 0, 12, 2)
    np.testing.assert_array_equal(zeros, np.arange(0, 12, 2))


def test_one_process_serves_many_calls():
    assert len({run_isolated(os.getpid) for _ in range(5)}) == 1
    assert run_isolated(os.getpid) != os.getpid()


@pytest.mark.parametrize(
    ("crash", "arguments"),
    [(os.abort, ()), (ctypes.string_at, (1,)), (os._exit, (7,)), (_signal.raise_signal, (8,))],
    ids=["abort", "segmentation fault", "exit", "floating point exception"],
)
def test_a_crash_is_an_error_of_that_medium_only(crash, arguments):
    with pytest.raises(MediaCorrupt, match="crashed"):
        run_isolated(crash, *arguments)
    assert run_isolated(operator.add, 1, 1) == 2


def test_a_hang_is_killed_in_time():
    before = time.monotonic()
    with pytest.raises(MediaTimeout, match=r"0\.3 s"):
        run_isolated(time.sleep, 60, limits=Limits(timeout_s=0.3))
    assert time.monotonic() - before < 0.3 + worker._GRACE_S + 30  # starting a process on a busy machine included
    assert run_isolated(operator.add, 1, 1) == 2


def test_a_busy_loop_is_killed_too():
    with pytest.raises(MediaTimeout):
        run_isolated(pow, 3, 10**9, limits=Limits(timeout_s=0.2))


def test_memory_over_the_limit_is_refused_and_the_limit_is_per_call():
    with pytest.raises(MediaTooLarge, match="memory"):
        run_isolated(builtins.bytearray, 2**28, limits=Limits(memory_bytes=2**26))
    assert run_isolated(np.ones, 2**23, limits=Limits(memory_bytes=2**29)).nbytes == 2**26


def test_being_killed_from_outside_reads_as_out_of_memory():
    with pytest.raises(MediaTooLarge):
        run_isolated(_signal.raise_signal, 9)


def test_other_failures_show_the_other_traceback():
    with pytest.raises(RuntimeError, match="invalid literal"):
        run_isolated(int, "x")


def test_what_cannot_travel_is_named():
    with pytest.raises(RuntimeError, match="cannot leave"):
        run_isolated(threading.current_thread)
    with pytest.raises(ValueError, match="cannot be imported"):
        run_isolated(lambda: 1)


def test_media_errors_keep_their_kind_and_parts(tmp_path):
    missing = tmp_path / "missing.wav"
    with pytest.raises(MediaNotFound) as caught:
        run_isolated(load_audio, missing, AudioSettings(), Policy())
    assert caught.value.reference == str(missing)
    assert isinstance(caught.value, FileNotFoundError)


def test_many_threads_share_few_processes():
    def one(index: int) -> str:
        try:
            if index % 5 == 3:
                return run_isolated(os.abort)
            return str(run_isolated(operator.mul, index, 2))
        except MediaError as error:
            return type(error).__name__

    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(one, range(20)))
    assert got == ["MediaCorrupt" if i % 5 == 3 else str(2 * i) for i in range(20)]
    assert len(worker._POOL._idle) <= worker._POOL._size


def test_what_libraries_print_does_not_mix_with_results():
    assert run_isolated(builtins.print, "S" * 100) is None
    assert run_isolated(os.write, 1, b"\0" * 4096) == 4096
    assert run_isolated(operator.add, 1, 1) == 2


def test_a_forked_child_gets_workers_of_its_own():
    ours = run_isolated(os.getpid)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(write, str(run_isolated(os.getpid)).encode())
        finally:
            worker.shutdown()
            os._exit(0)
    os.waitpid(child, 0)
    theirs = int(os.read(read, 100))
    os.close(read), os.close(write)
    assert theirs != ours
    assert run_isolated(os.getpid) == ours


def test_media_survive_the_wire():
    frames = np.random.default_rng(0).integers(0, 256, (4, 3, 28, 56), dtype=np.uint8)
    audio = Audio(np.linspace(-1, 1, 100, dtype=np.float32), 16000, "x", "ab")
    video = Video(frames, (0, 2, 5, 9), (0.0, 0.5, 1.0, 1.5), 29.97, 10, 2.0, 2.0, "y", "cd", audio)
    header, arrays = wire.encode({"media": [video, Image(frames[0], (3, 28), "ef")]})
    message, empty = wire.read_header(header, 2**20)
    for source, target in zip(arrays, empty, strict=True):
        target[...] = source
    back = wire.decode(message, empty)["media"]
    np.testing.assert_array_equal(back[0].frames, frames)
    np.testing.assert_array_equal(back[0].audio.samples, audio.samples)
    assert back[0].indices == video.indices
    assert back[0].timestamps == video.timestamps
    assert back[1].original_size == (3, 28)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"value": {"media": "os.system", "fields": {}}}',
        b'{"value": {"array": 3}}',
        b'{"value": {"media": "Image", "fields": {"nonsense": 1}}}',
        b'{"media_error": "SystemExit", "parts": ["a", "b", "c"]}',
        b'{"arrays": [["O", [1]]], "value": null}',
        b'{"arrays": [["<f4", [-1]]], "value": null}',
        b'{"arrays": [["<f8", [1000000000, 1000]]], "value": null}',
        b"[" * 100_000,
    ],
)
def test_a_taken_over_process_cannot_send_more_than_data(header):
    def read():
        return wire.decode(*wire.read_header(header, 2**20))

    with pytest.raises(wire.WireError):
        read()
