"""Content parts in JSON: how a text, an image, a video or an audio clip is written in a sample, and read back.

For `omnirm.sample`. Knows the two conventions in use (Qwen's processors and OpenAI's chat API); opens no media and
checks no file: a reference stays a string until a backend prepares it.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omnirm.errors import SampleError
from omnirm.types import Modality, Part

MEDIA: tuple[Modality, ...] = ("image", "video", "audio")
_WHOLE = ("nframes", "min_frames", "max_frames", "min_pixels", "max_pixels", "total_pixels")  # integers >= 1
_POSITIVE = ("fps", "duration")  # numbers > 0
_SECONDS = ("video_start", "video_end", "offset", "audio_start", "audio_end")  # numbers >= 0
_SWITCHES = ("use_audio_in_video",)  # true or false
OPTIONS: dict[str, tuple[str, ...]] = {
    "image": ("min_pixels", "max_pixels"),
    "video": (
        *("fps", "nframes", "min_frames", "max_frames", "min_pixels", "max_pixels", "total_pixels"),
        *("video_start", "video_end", "use_audio_in_video"),
    ),
    "audio": ("offset", "duration", "audio_start", "audio_end"),
}
_URL_TYPES: dict[str, Modality] = {"image_url": "image", "video_url": "video", "audio_url": "audio"}
_SCHEME = re.compile(r"(?:data:|file:|[A-Za-z][A-Za-z0-9+.-]*://)", re.IGNORECASE)
_AUDIO_FORMAT = re.compile(r"[a-z0-9][a-z0-9.+-]{0,15}")


def show(value: object) -> str:
    """A value as it stands in JSON, cut short, for an error message."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        short = value if len(value) <= 60 else value[:57] + "..."
        return json.dumps(short, ensure_ascii=not short.isprintable())
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else "an integer of more than 20 digits"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        keys = ", ".join(show(key) for key in list(value)[:6])
        return f"an object with the keys {keys}" if value else "an empty object"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}" if value else "an empty list"
    return f"a {type(value).__name__}"


def wrong(path: str, found: str, write: str) -> SampleError:
    """The error of one field: where, what was found, what to write."""
    path = path if len(path) <= 100 else path[:97] + "..."
    path = path if path.isprintable() else json.dumps(path)[1:-1]
    return SampleError(f"{path or 'sample'}: found {found}; {write}")


def check_unicode(text: str, path: str) -> str:
    """Returns `text`; raises `SampleError` where it holds half of a surrogate pair, which no tokenizer can encode."""
    if not _is_unicode(text):
        at = next(i for i, char in enumerate(text) if "\ud800" <= char <= "\udfff")
        found = f"a lone surrogate (U+{ord(text[at]):04X}) at character {at}"
        raise wrong(path, found, "write a whole character there, or U+FFFD")
    return text


def check_keys(data: Mapping[str, Any], allowed: Iterable[str], path: str) -> None:
    """Raises `SampleError` for the first key that is not in `allowed`."""
    known = tuple(allowed)
    for key in data:
        if key not in known:
            where = f"{path}.{key}" if path else str(key)
            raise wrong(where, "an unknown key", f"the keys here are {', '.join(known)}")


def is_relative(reference: str) -> bool:
    """True for a path that means something else in another folder (no scheme, not absolute)."""
    return not _SCHEME.match(reference) and not os.path.isabs(reference)


def parse_content(value: Any, path: str, base: Path | None = None) -> tuple[Part, ...]:
    """Reads a string, one part or a list of parts.

    Args:
        value: what JSON gave; media may also be objects (bytes, PIL image, array) in data made in Python.
        path: field path for messages, as `candidates[1].content`.
        base: folder that relative media paths start from; None leaves them as they are.

    Returns:
        At least one part; text is never trusted.

    Raises:
        SampleError: anything that is not of the documented form.
    """
    if isinstance(value, (str, Mapping)):
        return (_parse_part(value, path, base),)
    if not isinstance(value, (list, tuple)):
        raise wrong(path, show(value), "write a string or a list of content parts")
    if not value:
        raise wrong(path, "an empty list", 'write at least one part, "" for an empty text')
    return tuple(_parse_part(item, f"{path}[{i}]", base) for i, item in enumerate(value))


def dump_content(parts: Sequence[Part], path: str, rewrite: Callable[[str], str] | None = None) -> Any:
    """Writes parts as JSON-ready data: a string for a single text, else a list in Qwen's convention."""
    if len(parts) == 1 and parts[0].type == "text":
        return parts[0].value
    return [_dump_part(part, f"{path}[{i}]", rewrite) for i, part in enumerate(parts)]


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _parse_part(value: Any, path: str, base: Path | None) -> Part:
    if isinstance(value, str):
        return Part("text", check_unicode(value, path))
    if not isinstance(value, Mapping):
        raise wrong(path, show(value), 'write a string or an object such as {"type": "text", "text": "..."}')
    kind = value.get("type")
    if not isinstance(kind, str):
        raise wrong(f"{path}.type", show(kind), "write the type of the part: text, image, video or audio")
    if kind == "text":
        check_keys(value, ("type", "text"), path)
        text = value.get("text")
        if not isinstance(text, str):
            raise wrong(f"{path}.text", show(text), "write a string")
        return Part("text", check_unicode(text, f"{path}.text"))
    if kind in MEDIA:
        reference, source_path = value.get(kind), f"{path}.{kind}"
        modality: Modality = kind
        check_keys(value, ("type", kind, *OPTIONS[kind]), path)
    elif kind in _URL_TYPES:
        modality = _URL_TYPES[kind]
        check_keys(value, ("type", kind, *OPTIONS[modality]), path)
        reference, source_path = value.get(kind), f"{path}.{kind}"
        if isinstance(reference, Mapping):
            check_keys(reference, ("url", "detail") if kind == "image_url" else ("url",), source_path)
            reference, source_path = reference.get("url"), f"{source_path}.url"
    elif kind == "input_audio":
        check_keys(value, ("type", "input_audio", *OPTIONS["audio"]), path)
        modality, reference, source_path = "audio", _input_audio(value, path), f"{path}.input_audio"
    else:
        known = ", ".join(("text", *MEDIA, *_URL_TYPES, "input_audio"))
        raise wrong(f"{path}.type", show(kind), f"write one of {known}")
    options = _parse_options(value, modality, path)
    return Part(modality, _parse_reference(reference, source_path, modality, base), options)


def _input_audio(value: Mapping[str, Any], path: str) -> str:
    inner, path = value.get("input_audio"), f"{path}.input_audio"
    if not isinstance(inner, Mapping):
        raise wrong(path, show(inner), 'write {"data": "<base64>", "format": "wav"}')
    check_keys(inner, ("data", "format"), path)
    data, form = inner.get("data"), inner.get("format")
    if not isinstance(data, str) or not data:
        raise wrong(f"{path}.data", show(data), "write the audio file in base64")
    if not isinstance(form, str) or not _AUDIO_FORMAT.fullmatch(form):
        raise wrong(f"{path}.format", show(form), 'write the container, as "wav" or "mp3"')
    return f"data:audio/{form};base64,{data}"


def _parse_reference(value: Any, path: str, modality: Modality, base: Path | None) -> Any:
    if isinstance(value, (list, tuple)) and modality == "video":
        if not value:
            raise wrong(path, "an empty list", "write the frames of the video, or one file")
        return tuple(_parse_reference(item, f"{path}[{i}]", "image", base) for i, item in enumerate(value))
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        if not value.strip():
            raise wrong(path, show(value), f"write where the {modality} is: a path, file://, data: or a URL")
        if "\0" in value:
            raise wrong(path, "a path with a NUL character", "write a path without it")
        check_unicode(value, path)
        return os.path.join(os.path.abspath(base), value) if base is not None and is_relative(value) else value
    if value is None or isinstance(value, (bool, int, float, list, tuple, Mapping)):
        raise wrong(path, show(value), f"write where the {modality} is: a path, file://, data: or a URL")
    return value  # bytes, PIL image, array: judged by preprocessing


def _parse_options(value: Mapping[str, Any], modality: Modality, path: str) -> dict[str, float | int | bool]:
    options: dict[str, float | int | bool] = {}
    for name in OPTIONS[modality]:
        if name not in value:
            continue
        option, where = value[name], f"{path}.{name}"
        if name in _SWITCHES:
            if not isinstance(option, bool):
                raise wrong(where, show(option), "write true or false")
        elif isinstance(option, bool) or not isinstance(option, (int, float)):
            raise wrong(where, show(option), "write a number")
        elif abs(option) > 1e15 or not math.isfinite(option):
            raise wrong(where, show(option), "write a number of ordinary size")
        elif name in _WHOLE and (option != int(option) or option < 1):
            raise wrong(where, show(option), "write a whole number of at least 1")
        elif name in _POSITIVE and option <= 0:
            raise wrong(where, show(option), "write a number above 0")
        elif name in _SECONDS and option < 0:
            raise wrong(where, show(option), "write seconds from the start, 0 or more")
        options[name] = int(option) if name in _WHOLE else option
    if "fps" in options and "nframes" in options:
        raise wrong(path, "both fps and nframes", "write one of the two")
    for start, end in (("video_start", "video_end"), ("audio_start", "audio_end")):
        if end in options and options[end] <= options.get(start, 0):
            raise wrong(f"{path}.{end}", show(options[end]), f"write a number above {start}")
    if "audio_start" in options or "audio_end" in options:  # the other spelling of offset and duration
        if "offset" in options or "duration" in options:
            raise wrong(path, "both audio_start/audio_end and offset/duration", "write one of the two spellings")
        offset = options.pop("audio_start", 0)
        options["offset"] = offset
        if "audio_end" in options:
            options["duration"] = options.pop("audio_end") - offset
    return options


def _dump_part(part: Part, path: str, rewrite: Callable[[str], str] | None) -> dict[str, Any]:
    if part.type == "text":
        return {"type": "text", "text": part.value}

    def reference(value: Any, where: str) -> Any:
        if isinstance(value, str):
            return rewrite(value) if rewrite else value
        if isinstance(value, (list, tuple)) and part.type == "video":
            return [reference(item, f"{where}[{i}]") for i, item in enumerate(value)]
        raise wrong(where, f"a {type(value).__name__} in memory", "save it to a file and refer to that, to write JSON")

    return {"type": part.type, part.type: reference(part.value, f"{path}.{part.type}"), **part.options}
