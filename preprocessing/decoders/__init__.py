"""Which video decoders there are, which of them work here, and which one is used.

For `video.py` and `omnirm doctor`. The order is that of preference: PyAV measured fastest, needs nothing from the
system and ends in an error on damaged files. decord is used only when asked for by name, since damaged files can hang
or crash it. The environment variable OMNIRM_VIDEO_DECODER names one for a whole process.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from omnirm.preprocessing.decoders.base import Decoder

_CLASSES = {
    "pyav": ("omnirm.preprocessing.decoders.pyav", "PyAVDecoder"),
    "torchcodec": ("omnirm.preprocessing.decoders.torchcodec", "TorchcodecDecoder"),
    "decord": ("omnirm.preprocessing.decoders.decord", "DecordDecoder"),
    "pillow": ("omnirm.preprocessing.decoders.pillow", "PillowDecoder"),
}
_BY_ITSELF = ("pyav", "torchcodec")
_INSTALL = {
    "pyav": "pip install av",
    "torchcodec": "pip install torchcodec, and FFmpeg's shared libraries (for example: apt install ffmpeg)",
    "decord": "pip install decord",
    "pillow": "pip install pillow",
}


@dataclass(frozen=True, slots=True)
class DecoderStatus:
    """What is known of one decoder on this machine.

    Attributes:
        name: As given to `choose_decoder`.
        version: Empty where it cannot be loaded.
        usable: It was imported and its native libraries were loaded.
        automatic: It may be chosen when none is asked for.
        reason: Why it is not usable, in one line; empty otherwise.
        install: What to do to get it.
    """

    name: str
    version: str
    usable: bool
    automatic: bool
    reason: str
    install: str


def available_decoders() -> tuple[DecoderStatus, ...]:
    """The video decoders in order of preference, each tried once per process."""
    return tuple(_status(name) for name in ("pyav", "torchcodec", "decord"))


def choose_decoder(name: str | None = None) -> Decoder:
    """The decoder of that name, or the best usable one.

    Args:
        name: `pyav`, `torchcodec`, `decord` or `pillow` (animations); None for OMNIRM_VIDEO_DECODER, else the best.

    Raises:
        ValueError: No such decoder.
        ImportError: It is not usable here; the message says why and how to install it.
    """
    name = name or os.environ.get("OMNIRM_VIDEO_DECODER") or None
    if name is None:
        for candidate in _BY_ITSELF:
            if _status(candidate).usable:
                return _instance(candidate)
        name = _BY_ITSELF[0]
    if name not in _CLASSES:
        raise ValueError(f"no video decoder {name!r}; there are {', '.join(_CLASSES)}")
    status = _status(name)
    if not status.usable:
        raise ImportError(f"the video decoder {name} is not usable: {status.reason}; to get it: {status.install}")
    return _instance(name)


def _instance(name: str) -> Any:
    module, attribute = _CLASSES[name]
    return getattr(import_module(module), attribute)()


@cache
def _status(name: str) -> DecoderStatus:
    try:
        version = _instance(name).version()
    except (ImportError, OSError, RuntimeError, AttributeError) as error:  # what loading native libraries raises
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        return DecoderStatus(name, "", False, name in _BY_ITSELF, lines[0][:200], _INSTALL[name])
    return DecoderStatus(name, version, True, name in _BY_ITSELF, "", _INSTALL[name])
