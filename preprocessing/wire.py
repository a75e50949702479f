"""Results of a decoding process as bytes that are safe to read, even if a hostile file took that process over.

For `worker.py` alone. A result is a JSON header and raw arrays behind it. Reading it can build numbers, strings,
lists, numeric arrays and the classes of `types.py`, and nothing else: no pickle.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np

from omnirm.preprocessing import types

MAX_HEADER = 64 * 2**20
_MEDIA = {cls.__name__: cls for cls in (types.Image, types.Audio, types.Video)}
_ERRORS = {
    cls.__name__: cls
    for cls in (
        *(types.MediaError, types.MediaNotFound, types.MediaNotAllowed, types.MediaUnsupported),
        *(types.MediaCorrupt, types.MediaTooLarge, types.MediaTimeout),
    )
}


class WireError(ValueError):
    """The bytes are no result this module wrote."""


def encode(value: Any) -> tuple[bytes, list[np.ndarray]]:
    """The header and the arrays of a result.

    Raises:
        TypeError: The result holds something that cannot travel.
    """
    arrays: list[np.ndarray] = []
    tree = _pack(value, arrays)
    shapes = [[array.dtype.str, list(array.shape)] for array in arrays]
    return json.dumps({"value": tree, "arrays": shapes}).encode(), arrays


def encode_error(error: BaseException, trace: str) -> bytes:
    """The header of a failure; media errors keep their kind."""
    if isinstance(error, types.MediaError) and type(error).__name__ in _ERRORS:
        parts = [error.reference, error.reason, error.remedy]
        return json.dumps({"media_error": type(error).__name__, "parts": parts}).encode()
    return json.dumps({"failure": f"{type(error).__name__}: {error}", "trace": trace[-8000:]}).encode()


def read_header(header: bytes, max_bytes: int) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The parsed header and empty arrays, to be filled with the bytes that follow it.

    Raises:
        WireError: It is malformed, or its arrays would take more than `max_bytes`.
    """
    try:
        message = json.loads(header)
        plan = [(np.dtype(name), tuple(int(n) for n in shape)) for name, shape in message.get("arrays", [])]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise WireError(f"malformed header: {error}") from error
    for dtype, shape in plan:
        if dtype.kind not in "biuf" or min(shape, default=0) < 0:
            raise WireError(f"array of type {dtype} and shape {shape}")
    if sum(dtype.itemsize * math.prod(shape) for dtype, shape in plan) > max_bytes:
        raise WireError(f"arrays of more than {max_bytes} bytes")
    return message, [np.empty(shape, dtype) for dtype, shape in plan]


def decode(message: dict[str, Any], arrays: list[np.ndarray]) -> Any:
    """The result, or the media error it carries, raised.

    Raises:
        MediaError: The call ended in one.
        RuntimeError: The call failed otherwise; with the other process's traceback.
        WireError: It is malformed.
    """
    try:
        if "media_error" in message:
            reference, reason, remedy = (str(part) for part in message["parts"])
            raise _ERRORS[message["media_error"]](reference, reason, remedy)
        if "failure" in message:
            raise RuntimeError(f"in the decoding process: {message['failure']}\n{message['trace']}")
        return _unpack(message["value"], arrays)
    except (KeyError, IndexError, TypeError, RecursionError) as error:
        raise WireError(f"malformed result: {error!r}") from error


def _pack(value: Any, arrays: list[np.ndarray]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf":
            raise TypeError(f"an array of {value.dtype} cannot leave the decoding process")
        arrays.append(np.ascontiguousarray(value))
        return {"array": len(arrays) - 1}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_pack(item, arrays) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[_pack(key, arrays), _pack(item, arrays)] for key, item in value.items()]}
    if type(value).__name__ in _MEDIA and isinstance(value, _MEDIA[type(value).__name__]):
        fields = {f.name: _pack(getattr(value, f.name), arrays) for f in dataclasses.fields(value)}
        return {"media": type(value).__name__, "fields": fields}
    raise TypeError(f"a {type(value).__name__} cannot leave the decoding process")


def _unpack(tree: Any, arrays: list[np.ndarray]) -> Any:
    if not isinstance(tree, dict):
        return tree
    if "array" in tree:
        return arrays[tree["array"]]
    if "list" in tree:
        return [_unpack(item, arrays) for item in tree["list"]]
    if "tuple" in tree:
        return tuple(_unpack(item, arrays) for item in tree["tuple"])
    if "dict" in tree:
        return {_unpack(key, arrays): _unpack(item, arrays) for key, item in tree["dict"]}
    fields = {name: _unpack(item, arrays) for name, item in tree["fields"].items()}
    return _MEDIA[tree["media"]](**fields)
