"""What a run was started with (`run.json`): written once, and compared whenever the run goes on.

For run folders. Knows no calls and no rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omnirm.errors import ConfigError, SampleError
from omnirm.runs.lines import dump_line, write_all

_FORM = 1  # of the folder; raised when an older omnirm could not go on with it
_OWN = {"lock", "run.json", "run.json.new"}
_PACKAGES = ("omnirm", "torch", "transformers", "vllm")  # those that can change an answer


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a file gives them back. Raises `ConfigError` where they are not JSON-ready."""
    try:
        return json.loads(dump_line(settings, "settings of a run"))
    except SampleError as error:
        raise ConfigError(str(error)) from error


def keep_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Writes `run.json` into a new folder; in an old one sees to it that the settings are the same.

    The versions of the packages that can change an answer are noted, each set once. Others are no hindrance: the key of
    a call holds the prompt itself.

    Raises:
        ConfigError: other settings (it names them), another form, a damaged file, or a folder that is no run.
        OSError: it cannot be read or written.
    """
    file, versions = folder / "run.json", _versions()
    if not file.exists():
        if strange := sorted({entry.name for entry in folder.iterdir()} - _OWN):
            raise ConfigError(f"{folder}: is no run folder (it holds {strange[0]}); name a new or empty one")
        _write(folder, settings, [versions])
        return
    try:
        known = json.loads(file.read_bytes())
        form, before, seen = known["omnirm_run"], known["settings"], list(known["versions"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{file}: is damaged ({error}); put it right or name a new folder") from error
    if form != _FORM:
        raise ConfigError(f"{file}: has form {form!r} and this omnirm knows {_FORM}; use the omnirm that wrote it")
    if differing := list(_differences(before, settings)):
        raise ConfigError(
            f"{folder}: holds a run with other settings: {'; '.join(differing)}. "
            "Give the same to go on with it, or name another folder"
        )
    if versions not in seen:
        _write(folder, settings, [*seen, versions])


def _write(folder: Path, settings: dict[str, Any], versions: list[Any]) -> None:
    data = {"omnirm_run": _FORM, "settings": settings, "versions": versions}
    new = folder / "run.json.new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        write_all(descriptor, json.dumps(data, indent=2).encode() + b"\n", new)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(new, folder / "run.json")


def _differences(before: Any, now: Any, where: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            name = f"{where}.{key}" if where else key
            if key not in now or key not in before:
                yield f"{name} (only {'then' if key in before else 'now'})"
            else:
                yield from _differences(before[key], now[key], name)
    elif before != now or isinstance(before, bool) != isinstance(now, bool):
        yield f"{where or 'settings'} ({_short(before)} then, {_short(now)} now)"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
