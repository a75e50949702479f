"""JSON read strictly: no duplicate keys, no NaN, no lone surrogates; lines and offsets for messages.

For `omnirm.sample`, which gives it meaning. Raises `SampleError` where the standard library is silent or raises
something else (deep nesting, numbers of thousands of digits, bytes that are not UTF-8).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omnirm.content import check_unicode, show, wrong
from omnirm.errors import SampleError

_MAX_DEPTH = 200
_SPACE = " \t\r\n"


def loads(text: str) -> Any:
    """Parses one JSON document; raises `SampleError` where it is not strictly JSON."""
    value, end = decode_at(text, _skip_space(text, 0))
    if _skip_space(text, end) != len(text):
        raise SampleError(f"found more after the end of the JSON value, at character {end}; write one value")
    return value


def decode_at(text: str, start: int) -> tuple[Any, int]:
    """Parses the JSON value that starts at `start`; gives it and the offset behind it."""
    try:
        return _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise SampleError(f"not JSON at character {error.pos - start}: {error.msg}; write one JSON value") from error
    except SampleError:
        raise
    except RecursionError as error:
        raise SampleError("nested too deeply to read; write it flatter") from error
    except ValueError as error:  # an integer of more digits than Python converts
        raise SampleError("a number of more digits than can be read; write it as a string") from error


def decode_utf8(data: bytes) -> str:
    """Bytes to text; raises `SampleError` where they are not UTF-8. A byte order mark is dropped."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SampleError(f"not UTF-8 at byte {error.start}; save the file as UTF-8") from error


def documents(path: Path) -> Iterator[tuple[int, Callable[[], Any]]]:
    """The JSON values of a `.jsonl` file (lazily) or the items of a `.json` file: line number, and how to get it."""
    if path.suffix.lower() != ".json":
        with open(path, "rb") as file:
            for number, raw in enumerate(file, start=1):
                if raw.strip():
                    yield number, lambda raw=raw: loads(decode_utf8(raw))  # type: ignore[misc]
        return
    with open(path, "rb") as file:
        data = file.read()
    try:
        text = decode_utf8(data)
        at = _skip_space(text, 0)
        if not text.startswith("[", at):
            value = loads(text)
            yield 1 + text.count("\n", 0, at), lambda: value
            return
    except SampleError as error:
        raise SampleError(f"{path}: {error}") from error
    yield from _items(path, text, at + 1)


def check_json(value: Any, path: str, depth: int = 0) -> None:
    """Raises `SampleError` unless `value` can be written as JSON and read back equal."""
    if depth > _MAX_DEPTH:
        raise wrong(path, f"more than {_MAX_DEPTH} levels", "write it flatter")
    if isinstance(value, str):
        check_unicode(value, path)
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int):
        if value.bit_length() > 4096:
            raise wrong(path, show(value), "write it as a string")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise wrong(path, show(value), "JSON has no such number; write null or a string")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise wrong(path, f"the key {show(key)}", "keys are strings")
            check_unicode(key, path)
            check_json(item, f"{path}.{key}", depth + 1)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            check_json(item, f"{path}[{i}]", depth + 1)
    else:
        raise wrong(path, show(value), "write JSON: an object, list, string, number, true, false or null")


def _items(path: Path, text: str, at: int) -> Iterator[tuple[int, Callable[[], Any]]]:
    line, counted, first = 1 + text.count("\n", 0, at), at, True
    while True:
        at = _skip_space(text, at)
        line, counted = line + text.count("\n", counted, at), at
        try:
            if text.startswith("]", at) and first:
                end = at
            else:
                value, end = decode_at(text, at)
                yield line, lambda value=value: value  # type: ignore[misc]
                end = _skip_space(text, end)
            if text.startswith(",", end):
                at, first = end + 1, False
                continue
            if not text.startswith("]", end):
                raise SampleError('found no "," or "]" after an item; write a list of samples')
            if _skip_space(text, end + 1) != len(text):
                raise SampleError("found more after the list; write one list of samples")
        except SampleError as error:
            raise SampleError(f"{path}:{line}: {error}") from error
        return


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise SampleError(f"{show(twice)}: found this key twice in one object; write it once")
    return data


def _no_constant(name: str) -> Any:
    raise SampleError(f"found {name}, which is not JSON; write null or a number")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise SampleError(f"found {show(digits)}, too large a number; write it smaller or as a string")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
