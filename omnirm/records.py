"""Frozen dataclasses to plain JSON values and back, exactly. For judgments and other records; it opens no file.

Understood: str, int, float, bool, None, `Literal`, unions with None, tuples, string-keyed mappings, nested dataclasses.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from omnirm.errors import SampleError

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """The value as dicts, lists and scalars, ready for `json.dumps`."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(one) for one in value]
    return value


def from_plain(kind: type[T], data: Any, where: str = "") -> T:
    """The dataclass `kind` from what `to_plain` gave.

    Raises:
        SampleError: an unknown or missing key, or a value of another type; the message has its place.
    """
    return _read(kind, data, where or kind.__name__)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _read(kind: Any, data: Any, where: str) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return data
    if origin in (Union, types.UnionType):
        return _read_union(get_args(kind), data, where)
    if origin is Literal:
        if data not in get_args(kind) or isinstance(data, bool):
            raise SampleError(f"{where}: {data!r} is none of {list(get_args(kind))}")
        return data
    if origin is tuple:
        return _read_tuple(get_args(kind), data, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        value_kind = get_args(kind)[1]
        return {key: _read(value_kind, one, f"{where}.{key}") for key, one in _expect(dict, data, where).items()}
    if isinstance(kind, type) and is_dataclass(kind):
        return _read_dataclass(kind, data, where)
    if kind is float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            raise SampleError(f"{where}: {data!r} is not a number")
        return float(data)
    if kind is int and isinstance(data, bool):
        raise SampleError(f"{where}: {data!r} is not a whole number")
    return _expect(kind, data, where)


def _read_union(kinds: tuple[Any, ...], data: Any, where: str) -> Any:
    if data is None and type(None) in kinds:
        return None
    rest = [kind for kind in kinds if kind is not type(None)]
    for kind in rest[:-1]:
        try:
            return _read(kind, data, where)
        except SampleError:
            continue
    return _read(rest[-1], data, where)


def _read_tuple(kinds: tuple[Any, ...], data: Any, where: str) -> tuple[Any, ...]:
    items = _expect(list, data, where)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_read(kinds[0], one, f"{where}[{i}]") for i, one in enumerate(items))
    if len(items) != len(kinds):
        raise SampleError(f"{where}: {len(items)} values instead of {len(kinds)}")
    return tuple(_read(kind, one, f"{where}[{i}]") for i, (kind, one) in enumerate(zip(kinds, items, strict=True)))


def _read_dataclass(kind: Any, data: Any, where: str) -> Any:
    given = _expect(dict, data, where)
    names = {f.name for f in fields(kind)}
    if unknown := sorted(set(given) - names):
        raise SampleError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(sorted(names))}")
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    if missing := sorted(needed - set(given)):
        raise SampleError(f"{where}: the key {missing[0]!r} is missing")
    hints = _hints(kind)
    return kind(**{name: _read(hints[name], one, f"{where}.{name}") for name, one in given.items()})


def _expect(kind: Any, data: Any, where: str) -> Any:
    if not isinstance(data, kind):
        raise SampleError(f"{where}: {type(data).__name__} instead of {kind.__name__}")
    return data
