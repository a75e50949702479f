"""Finds run folders below the roots that a server was given, and says what they are. Nothing else is ever opened.

For `runs`. A run is named by its root and the path below it; only names that were found are known, so no name can lead
out of the roots. Links are not followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from omnirm.app.runs.facts import parse_line
from omnirm.errors import SampleError

_DEEPEST, _MOST_FOLDERS = 6, 20_000
_FILES = ("run.json", "judgments.jsonl", "samples.jsonl", "calls.jsonl", "lock")
_LARGEST_SETTINGS = 1 << 20
_BEHIND_S = 5.0  # calls newer than the last judgment by this much: the run broke off


@dataclass(frozen=True, slots=True)
class Folder:
    """A run folder.

    id: `<name of the root>/<path below it>`. root: the folder given. settings: of `run.json`, {} where there is none.
    state: `running` (a process holds its lock), `broken off` (calls were made after the last judgment), `at rest`.
    written: when it was last written, in seconds since 1970. problem: what is wrong with it as a whole.
    """

    id: str
    path: Path
    root: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    state: str = "at rest"
    written: float = 0.0
    has_judgments: bool = False
    has_samples: bool = False
    problem: str = ""

    @property
    def judgments(self) -> Path:
        """The file of its judgments."""
        return self.path / "judgments.jsonl"

    @property
    def samples(self) -> Path:
        """The file of its samples."""
        return self.path / "samples.jsonl"


def find(roots: Sequence[Path]) -> dict[str, Folder]:
    """All run folders below the roots by id, the one written last first. Roots that do not exist hold none."""
    locked, found = _locked_files(), list[Folder]()
    for name, root in _named(roots):
        for path in _run_folders(root):
            below = path.relative_to(root).as_posix()
            found.append(_described(name if below == "." else f"{name}/{below}", path, root, locked))
    found.sort(key=lambda one: (-one.written, one.id))
    return {one.id: one for one in found}


def _named(roots: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Every root once, with a name that no other has."""
    seen: dict[str, int] = {}
    for root in dict.fromkeys(Path(os.path.realpath(root)) for root in roots):
        name = root.name or "root"
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name}-{seen[name]}", root


def _run_folders(root: Path) -> Iterator[Path]:
    for folder, folders, files in islice(os.walk(root), _MOST_FOLDERS):
        path = Path(folder)
        if "run.json" in files or "judgments.jsonl" in files:
            folders.clear()
            yield path
        elif len(path.relative_to(root).parts) >= _DEEPEST:
            folders.clear()
        folders[:] = sorted(one for one in folders if not one.startswith("."))


def _described(id: str, path: Path, root: Path, locked: set[tuple[int, int]]) -> Folder:
    files = {name: _stat(path / name) for name in _FILES}
    links = sorted(name for name, one in files.items() if one is not None and not stat.S_ISREG(one.st_mode))
    plain = {name: one for name, one in files.items() if one is not None and name not in links}
    settings, versions, problem = _settings(path / "run.json") if "run.json" in plain else ({}, {}, "")
    if links:
        problem = f"{', '.join(links)} is not a plain file and is not read."
    calls, rows = plain.get("calls.jsonl"), plain.get("judgments.jsonl")
    lock = plain.get("lock")
    state = "at rest"
    if lock is not None and (lock.st_dev, lock.st_ino) in locked:
        state = "running"
    elif calls is not None and calls.st_size and (rows is None or calls.st_mtime > rows.st_mtime + _BEHIND_S):
        state = "broken off"
    written = max((one.st_mtime for name, one in plain.items() if name != "lock"), default=0.0)
    return Folder(
        id, path, root, settings, versions, state, written,
        "judgments.jsonl" in plain, "samples.jsonl" in plain, problem,
    )  # fmt: skip


def _settings(file: Path) -> tuple[Mapping[str, Any], Mapping[str, str], str]:
    try:
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as opened:
            data = opened.read(_LARGEST_SETTINGS + 1)
        known = parse_line(data)
        settings, versions = known["settings"], known.get("versions") or [{}]
        if len(data) > _LARGEST_SETTINGS or not isinstance(settings, dict) or not isinstance(versions[-1], dict):
            raise TypeError("not of the documented form")
        return settings, versions[-1], ""
    except (OSError, SampleError, KeyError, TypeError, AttributeError) as error:
        return {}, {}, f"run.json is damaged ({error}); its settings are not known."


def _stat(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _locked_files() -> set[tuple[int, int]]:
    """(device, inode) of every file that a process holds a POSIX lock on; empty where the system does not tell.

    The lock files themselves are never opened: closing one would end a lock that this process holds on it.
    """
    found = set()
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return set()
    for line in lines:
        for word in line.split():
            pieces = word.split(":")
            if len(pieces) == 3 and pieces[2].isdigit():
                try:
                    found.add((os.makedev(int(pieces[0], 16), int(pieces[1], 16)), int(pieces[2])))
                except ValueError:
                    continue
    return found
