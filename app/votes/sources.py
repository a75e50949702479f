"""Pairs to vote on, read from what people have: a sample file, two folders of files, or a finished run.

For `voting.py`. One wrong row is reported and loses nothing else. It stores nothing but media, and votes are
unknown to it.

    pairs.jsonl             samples with two candidates, see docs/samples.md
    folder/A/x.png ...      folder/B has the other answer under the same name (its ending may differ), of any modality;
                            folder/prompt/x.txt, or a line {"id": "x", "prompt": ...} of folder/prompts.jsonl, is what
                            was asked
    run/samples.jsonl       a run folder: with judgments.jsonl the judge's verdicts come along
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnirm.app.media_store import MediaStore, UploadRefused
from omnirm.app.service import read_rows
from omnirm.errors import SampleError
from omnirm.judgment import Judgment, PointJudgment
from omnirm.rubrics.trajectory import ScaledJudgment
from omnirm.runs.lines import whole_lines
from omnirm.sample import Candidate, Sample
from omnirm.strict_json import check_json, decode_utf8, documents
from omnirm.types import Letter, Message, Part

TEXT_ENDINGS = (".txt", ".md")
_MOST_TEXT = 1_000_000  # bytes of a text file
_RECORDS: dict[str, Any] = {"pairwise": Judgment, "pointwise": PointJudgment, "scaled": ScaledJudgment}


@dataclass(frozen=True, slots=True)
class Incoming:
    """One pair, its media in the media store, or why there is none (`error`). record: what a judge said about it."""

    where: str
    sample: Sample | None = None
    record: dict[str, Any] | None = None
    error: str = ""


def read_source(source: Path, media: MediaStore, roots: Sequence[Path] = ()) -> Iterator[Incoming]:
    """The pairs of a source, in its order.

    Args:
        source: a sample file or a folder.
        media: takes in every medium.
        roots: folders that media may lie in; the source's own folder always is one.

    Raises:
        SampleError: it is none of the documented forms.
        OSError: it cannot be read.
    """
    if source.is_dir():
        own = (source.resolve(), *roots)
        if (source / "A").is_dir() and (source / "B").is_dir():
            return _stored(_folder_pairs(source, media, own), media, own)
        if (source / "run.json").is_file() or (source / "judgments.jsonl").is_file():
            return _stored(_run_pairs(source), media, own)
        raise SampleError(
            f"{source}: has no pairs to vote on; give a .jsonl file of samples, a folder with the folders A and B, or "
            "a finished run"
        )
    if not source.is_file():
        raise SampleError(f"{source}: there is no such file or folder")
    found = (Incoming(row.where, row.sample, error=row.error) for row in read_rows(source))
    return _stored(found, media, (source.resolve().parent, *roots))


def said(record: Mapping[str, Any]) -> tuple[Letter | None, float | None]:
    """The verdict of a judgment's record, and the probability that A is better, in [0, 1].

    Of a scaled judgment it is told from the verdict's confidence; scores have none.
    """
    if record["kind"] == "pointwise":
        best = record.get("best")
        return ("A" if best == 0 else "B" if best == 1 else None), None
    verdict = record.get("verdict")
    if record["kind"] == "pairwise":
        return verdict, record.get("probability_a")
    confidence = record.get("confidence")
    if confidence is None or verdict is None:
        return verdict, None
    return verdict, {"A": confidence, "B": 1 - confidence, "tie": 0.5}[verdict]


def _stored(found: Iterator[Incoming], media: MediaStore, roots: Sequence[Path]) -> Iterator[Incoming]:
    for one in found:
        if one.sample is None:
            yield one
        elif (count := len(one.sample.candidates)) != 2:
            yield Incoming(one.where, error=f"{one.where}: {count} candidates; only pairs can be voted on")
        else:
            try:
                sample = media.take_in(one.sample, roots=roots)
                check_json(sample.to_dict(), one.where)
            except (UploadRefused, SampleError) as error:
                yield Incoming(one.where, error=f"{one.where}: {error}")
                continue
            yield Incoming(one.where, sample, one.record, one.error)


def _run_pairs(folder: Path) -> Iterator[Incoming]:
    if not (folder / "samples.jsonl").is_file():
        raise SampleError(f"{folder}: the run has kept no samples.jsonl; run it again with this version of omnirm")
    records: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(whole_lines(folder / "judgments.jsonl"), start=1):
        where = f"judgments:{number}"
        try:
            data = json.loads(line)
            if not isinstance(data, dict) or data.get("kind") not in _RECORDS:
                raise SampleError("its kind is unknown")
            _RECORDS[data["kind"]].from_dict(data)
        except (SampleError, ValueError, RecursionError) as error:
            yield Incoming(where, error=f"{where}: no judgment: {error}")
            continue
        records[data["sample_id"]] = data
    for row in read_rows(folder / "samples.jsonl"):
        yield Incoming(row.where, row.sample, records.get(row.where), row.error)


def _folder_pairs(folder: Path, media: MediaStore, roots: Sequence[Path]) -> Iterator[Incoming]:
    sides = [_by_stem(folder / name) for name in "AB"]
    prompts, problems = _prompts(folder, roots)
    yield from problems
    for stem in sorted(sides[0].keys() | sides[1].keys()):
        where = json.dumps(stem)[1:-1]
        if missing := [name for name, side in zip("AB", sides, strict=True) if stem not in side]:
            yield Incoming(where, error=f"{where}: has no file in {missing[0]}")
            continue
        try:
            candidates = tuple(Candidate(_content(side[stem], media, roots)) for side in sides)
            prompt = prompts.get(stem) or (Message("user", (Part("text", ""),)),)
            yield Incoming(where, Sample(stem, prompt, candidates))
        except (UploadRefused, SampleError) as error:
            yield Incoming(where, error=f"{where}: {error}")


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        if file.is_file() and not file.name.startswith("."):
            found.setdefault(file.stem, []).append(file)
    return found


def _content(files: Sequence[Path], media: MediaStore, roots: Sequence[Path]) -> tuple[Part, ...]:
    """Media first, then texts."""
    texts = [Part("text", _text(file, roots)) for file in files if file.suffix.lower() in TEXT_ENDINGS]
    stored = [media.add(file, roots=roots) for file in files if file.suffix.lower() not in TEXT_ENDINGS]
    return (*(Part(one.kind, str(one.path)) for one in stored), *texts)


def _text(file: Path, roots: Sequence[Path]) -> str:
    real = file.resolve()
    if not any(real.is_relative_to(root.resolve()) for root in roots):
        raise SampleError(f"{file.name}: leads outside of the folders that may be read")
    with open(real, "rb") as stream:
        data = stream.read(_MOST_TEXT + 1)
    if len(data) > _MOST_TEXT:
        raise SampleError(f"{file.name}: longer than {_MOST_TEXT} bytes; give a shorter text")
    return decode_utf8(data)


def _prompts(folder: Path, roots: Sequence[Path]) -> tuple[dict[str, tuple[Message, ...]], list[Incoming]]:
    prompts: dict[str, tuple[Message, ...]] = {}
    problems: list[Incoming] = []

    def wrong(where: str, error: Exception) -> None:
        problems.append(Incoming(where, error=f"{where}: {error}"))

    if (file := folder / "prompts.jsonl").is_file():
        for number, load in documents(file):
            try:
                data = load()
                if not isinstance(data, Mapping) or set(data) != {"id", "prompt"}:
                    raise SampleError('write {"id": "<name of the files>", "prompt": ...}')
                read = Sample.from_dict({**data, "candidates": [""]}, base=folder)
                prompts[read.id] = read.prompt
            except SampleError as error:
                wrong(f"prompts:{number}", error)
    if (texts := folder / "prompt").is_dir():
        for stem, files in _by_stem(texts).items():
            try:
                prompts[stem] = (Message("user", tuple(Part("text", _text(one, roots)) for one in files)),)
            except SampleError as error:
                wrong(f"prompt/{json.dumps(stem)[1:-1]}", error)
    return prompts, problems
