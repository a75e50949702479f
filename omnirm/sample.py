"""Samples: a prompt, the candidates that answer it, and what is known about them; read from and written to JSON.

For everybody who brings data. `docs/samples.md` has the format with examples. This file knows neither models nor
prompts, and opens no media: it only makes relative media paths mean what they mean beside the file they stand in.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from omnirm.content import check_keys, check_unicode, dump_content, is_relative, parse_content, show, wrong
from omnirm.errors import SampleError
from omnirm.strict_json import check_json, decode_utf8, documents, loads
from omnirm.types import Message, Modality, Part, Rubric

Label = int | Literal["tie"] | None
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One response to the prompt. `name` says where it comes from; no model is ever shown it."""

    parts: tuple[Part, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """What is judged. Refers to media, holds none; JSON-ready as long as every medium is a reference.

    Attributes:
        id: unique within a file.
        prompt: the conversation so far; the last turn is the user's.
        candidates: 1..N responses to it.
        label: index of the better candidate, "tie", or None where nobody knows.
        rubrics: criteria to judge under; empty where the judge finds its own.
        metadata: free-form JSON.

    Raises:
        SampleError: no turn, no candidate, empty content, a label that names no candidate, weights that are no weights.
    """

    id: str
    prompt: tuple[Message, ...]
    candidates: tuple[Candidate, ...]
    label: Label = None
    rubrics: tuple[Rubric, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id:
            raise wrong("id", show(self.id), "write a string that no other sample of the file has")
        check_unicode(self.id, "id")
        if not self.prompt:
            raise wrong("prompt", "no turn", "write at least one user turn")
        for i, turn in enumerate(self.prompt):
            if turn.role not in _ROLES:
                raise wrong(f"prompt[{i}].role", show(turn.role), "write system, user or assistant")
        if self.prompt[-1].role != "user":
            found = f"the role {self.prompt[-1].role}"
            raise wrong(
                f"prompt[{len(self.prompt) - 1}].role", found, "end with a user turn; responses go to candidates"
            )
        if not self.candidates:
            raise wrong("candidates", "none", "write at least one")
        _check_label(self.label, len(self.candidates))
        _check_weights(self.rubrics)
        prompt = tuple(replace(t, parts=_untrusted(t.parts, f"prompt[{i}]")) for i, t in enumerate(self.prompt))
        candidates = tuple(
            replace(c, parts=_untrusted(c.parts, f"candidates[{i}]")) for i, c in enumerate(self.candidates)
        )
        object.__setattr__(self, "prompt", prompt)
        object.__setattr__(self, "candidates", candidates)
        object.__setattr__(self, "rubrics", tuple(self.rubrics))

    @property
    def modalities(self) -> frozenset[Modality]:
        """The modalities of prompt and candidates; a video whose sound is asked for counts as audio too."""
        found: set[Modality] = set()
        for parts in (*(turn.parts for turn in self.prompt), *(one.parts for one in self.candidates)):
            for part in parts:
                found.add(part.type)
                if part.options.get("use_audio_in_video"):
                    found.add("audio")
        return frozenset(found)

    def swapped(self) -> Sample:
        """The same pair in the other order; the label follows. Raises `SampleError` unless there are two candidates."""
        if len(self.candidates) != 2:
            raise SampleError(f"sample {self.id}: {len(self.candidates)} candidates; only a pair can be swapped")
        label = 1 - self.label if isinstance(self.label, int) else self.label
        return replace(self, candidates=self.candidates[::-1], label=label)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, base: str | Path | None = None, default_id: str = "") -> Sample:
        """Reads the documented form.

        Args:
            data: parsed JSON. Media may also be objects in memory when it was made in Python.
            base: folder that relative media paths start from; None leaves them as they are.
            default_id: used where `id` is missing; by default a hash of the content.

        Raises:
            SampleError: names the field, what was found and what to write.
        """
        if not isinstance(data, Mapping):
            raise wrong("", show(data), "write an object with the keys prompt and candidates")
        check_keys(data, ("id", "prompt", "candidates", "label", "rubrics", "metadata"), "")
        for name in ("prompt", "candidates"):
            if name not in data:
                raise wrong(name, "nothing", "this key is required")
        folder = None if base is None else Path(base)
        metadata = data.get("metadata", {})
        if not isinstance(metadata, Mapping):
            raise wrong("metadata", show(metadata), "write an object")
        check_json(metadata, "metadata")
        prompt = _parse_prompt(data["prompt"], folder)
        candidates = _parse_candidates(data["candidates"], folder)
        rubrics = parse_rubrics(data.get("rubrics"))
        identity: Any = data.get("id")
        return cls(
            default_id or _content_id(data) if identity is None else identity,
            prompt,
            candidates,
            data.get("label"),
            rubrics,
            dict(metadata),
        )

    def to_dict(self, *, relative_to: str | Path | None = None) -> dict[str, Any]:
        """The documented form; what is empty is left out. `from_dict` gives an equal sample back.

        Args:
            relative_to: folder to write media paths relative to, where they lie below it (others become absolute).

        Raises:
            SampleError: a medium is an object in memory and has no reference to write.
        """
        rewrite = None if relative_to is None else _rewriter(Path(relative_to))
        if len(self.prompt) == 1 and self.prompt[0].role == "user":
            prompt = dump_content(self.prompt[0].parts, "prompt", rewrite)
        else:
            prompt = [
                {"role": turn.role, "content": dump_content(turn.parts, f"prompt[{i}].content", rewrite)}
                for i, turn in enumerate(self.prompt)
            ]
        candidates = []
        for i, candidate in enumerate(self.candidates):
            content = dump_content(candidate.parts, f"candidates[{i}]", rewrite)
            candidates.append({"name": candidate.name, "content": content} if candidate.name else content)
        data: dict[str, Any] = {"id": self.id, "prompt": prompt, "candidates": candidates}
        if self.label is not None:
            data["label"] = self.label
        if self.rubrics:
            data["rubrics"] = [dump_rubric(rubric) for rubric in self.rubrics]
        if self.metadata:
            data["metadata"] = dict(self.metadata)
        return data

    @classmethod
    def from_json(cls, text: str | bytes, *, base: str | Path | None = None) -> Sample:
        """Reads one JSON object; see `from_dict`."""
        return cls.from_dict(loads(decode_utf8(text) if isinstance(text, bytes) else text), base=base)

    def to_json(self, *, relative_to: str | Path | None = None) -> str:
        """One line of JSON; see `to_dict`."""
        data = self.to_dict(relative_to=relative_to)
        check_json(data.get("metadata", {}), "metadata")
        return json.dumps(data, ensure_ascii=False, allow_nan=False)


def read_samples(path: str | Path) -> Iterator[Sample]:
    """Reads a `.jsonl` file (one sample a line, empty lines skipped) or a `.json` file (one sample or a list).

    Relative media paths start from the file's folder. A sample without id is called `<file stem>:<line>`.

    Raises:
        SampleError: the first wrong sample, with file and line; also two samples of one id.
        OSError: the file cannot be read.
    """
    path = Path(path)
    if path.suffix.lower() not in (".json", ".jsonl", ".ndjson"):
        raise SampleError(f"{path}: found the ending {path.suffix or 'none'}; sample files end in .jsonl or .json")
    seen: dict[str, int] = {}
    for line, load in documents(path):
        try:
            sample = Sample.from_dict(load(), base=path.parent, default_id=f"{path.stem}:{line}")
            if sample.id in seen:
                raise wrong("id", show(sample.id), f"line {seen[sample.id]} has it already; ids are unique in a file")
        except SampleError as error:
            raise SampleError(f"{path}:{line}: {error}") from error
        seen[sample.id] = line
        yield sample


def write_samples(path: str | Path, samples: Iterable[Sample], *, relative: bool = True) -> int:
    """Writes samples to a `.jsonl` or `.json` file, which appears whole or not at all.

    Args:
        path: the file; its folder must exist.
        samples: read one at a time for `.jsonl`.
        relative: media below the file's folder are written relative to it, so that the folder can move.

    Returns:
        How many were written.

    Raises:
        SampleError: unknown ending, a sample that cannot be written, or two samples of one id.
    """
    path = Path(path)
    if path.suffix.lower() not in (".json", ".jsonl", ".ndjson"):
        raise SampleError(f"{path}: found the ending {path.suffix or 'none'}; sample files end in .jsonl or .json")
    folder = path.parent if relative else None
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    whole = path.suffix.lower() == ".json"
    seen: set[str] = set()
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            for sample in samples:
                if sample.id in seen:
                    raise SampleError(f"{path}: two samples have the id {show(sample.id)}; make ids unique")
                before = ("[\n" if not seen else ",\n") if whole else ""
                file.write(before + sample.to_json(relative_to=folder) + ("" if whole else "\n"))
                seen.add(sample.id)
            if whole:
                file.write("\n]\n" if seen else "[]\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return len(seen)


def parse_rubrics(value: Any, path: str = "rubrics") -> tuple[Rubric, ...]:
    """Reads a list of strings or of objects with `name`, `text`, `weight`, `source`. Raises `SampleError`."""
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise wrong(path, show(value), "write a list of rubrics")
    return tuple(_parse_rubric(item, f"{path}[{i}]") for i, item in enumerate(value))


def dump_rubric(rubric: Rubric) -> dict[str, Any]:
    """A rubric as JSON-ready data; defaults are left out."""
    data: dict[str, Any] = {"name": rubric.name}
    if rubric.text:
        data["text"] = rubric.text
    if rubric.weight != 1:
        data["weight"] = rubric.weight
    if rubric.source != "given":
        data["source"] = rubric.source
    return data


def _parse_rubric(value: Any, path: str) -> Rubric:
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        raise wrong(path, show(value), 'write a string or {"name": "...", "text": "...", "weight": 1}')
    check_keys(value, ("name", "text", "weight", "source"), path)
    strings = {}
    for key, default in (("name", ""), ("text", ""), ("source", "given")):
        item = value.get(key, default)
        if not isinstance(item, str):
            raise wrong(f"{path}.{key}", show(item), "write a string")
        strings[key] = check_unicode(item, f"{path}.{key}")
    if not strings["name"].strip():
        raise wrong(f"{path}.name", show(strings["name"]), "name the criterion")
    return Rubric(
        strings["name"], strings["text"], _weight(value.get("weight", 1.0), f"{path}.weight"), strings["source"]
    )


def _weight(value: Any, path: str) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not abs(value) <= 1e15 or value < 0 or not math.isfinite(value):
        raise wrong(path, show(value), "write a number of at least 0")
    return float(value)


def _check_weights(rubrics: Iterable[Rubric]) -> None:
    weights = [_weight(rubric.weight, f"rubrics[{i}].weight") for i, rubric in enumerate(rubrics)]
    if weights and not any(weights):
        raise wrong("rubrics", "no weight above 0", "give at least one rubric a weight")


def _check_label(label: Any, count: int) -> None:
    if label is None or label == "tie":
        if label == "tie" and count < 2:
            raise wrong("label", '"tie"', "a tie needs two candidates")
        return
    if isinstance(label, bool) or not isinstance(label, int):
        raise wrong("label", show(label), 'write the index of the better candidate, "tie" or null')
    if not 0 <= label < count:
        raise wrong("label", show(label), f"with {count} candidates it is an index from 0 to {count - 1}")


def _untrusted(parts: Iterable[Part], path: str) -> tuple[Part, ...]:
    parts = tuple(replace(part, trusted=False) if part.trusted else part for part in parts)
    if not parts:
        raise wrong(path, "no content", 'write at least one part, "" for an empty text')
    for part in parts:
        if part.type == "text":
            if not isinstance(part.value, str):
                raise wrong(path, show(part.value), "the value of a text part is a string")
            check_unicode(part.value, path)
    return parts


def _parse_prompt(value: Any, base: Path | None) -> tuple[Message, ...]:
    turns = isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) and "role" in item for item in value)
    if not turns:
        return (Message("user", parse_content(value, "prompt", base)),)
    messages = []
    for i, turn in enumerate(value):
        path = f"prompt[{i}]"
        if not isinstance(turn, Mapping) or "role" not in turn:
            raise wrong(path, show(turn), 'other items are turns: write {"role": "user", "content": ...}')
        check_keys(turn, ("role", "content"), path)
        if turn["role"] not in _ROLES:
            raise wrong(f"{path}.role", show(turn["role"]), "write system, user or assistant")
        if "content" not in turn:
            raise wrong(f"{path}.content", "nothing", "write a string or a list of content parts")
        messages.append(Message(turn["role"], parse_content(turn["content"], f"{path}.content", base)))
    return tuple(messages)


def _parse_candidates(value: Any, base: Path | None) -> tuple[Candidate, ...]:
    if not isinstance(value, (list, tuple)):
        raise wrong("candidates", show(value), "write a list, one item a candidate")
    candidates = []
    for i, item in enumerate(value):
        path = f"candidates[{i}]"
        if not isinstance(item, Mapping) or "type" in item:
            candidates.append(Candidate(parse_content(item, path, base)))
            continue
        check_keys(item, ("name", "content"), path)
        name = item.get("name", "")
        if not isinstance(name, str):
            raise wrong(f"{path}.name", show(name), "write a string")
        if "content" not in item:
            raise wrong(f"{path}.content", "nothing", "write a string or a list of content parts")
        check_unicode(name, f"{path}.name")
        candidates.append(Candidate(parse_content(item["content"], f"{path}.content", base), name))
    return tuple(candidates)


def _rewriter(folder: Path) -> Callable[[str], str]:
    root = os.path.abspath(folder)

    def rewrite(reference: str) -> str:
        if not is_relative(reference) and not os.path.isabs(reference):
            return reference  # a URI
        absolute = os.path.abspath(reference)
        return os.path.relpath(absolute, root) if absolute.startswith(root.rstrip(os.sep) + os.sep) else absolute

    return rewrite


def _content_id(data: Mapping[str, Any]) -> str:
    kept = {key: data[key] for key in ("prompt", "candidates", "rubrics") if key in data}
    text = json.dumps(kept, sort_keys=True, default=lambda value: type(value).__name__)
    return "sample-" + hashlib.sha256(text.encode()).hexdigest()[:12]
