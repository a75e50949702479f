"""Voting from a program: sets of pairs, the next pair for a person, votes, how people agree, votes as training data.

Beside `judging.py`, which says how these functions are meant. A pair is shown blind: what stands left and what
stands right, no names, no order of the sample, nothing that the judge said. The answer to a vote has the judge's view.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from omnirm.app.media_store import UploadRefused
from omnirm.app.plain_values import content_shown, medium_source, plain, prompt_shown
from omnirm.app.studio import Studio  # not for types alone: the signatures are read when the app starts
from omnirm.errors import ConfigError, SampleError
from omnirm.sample import Sample
from omnirm.types import Modality, Part

if TYPE_CHECKING:
    from omnirm.app.votes.voting import Shown

SetId = Annotated[str, "id of a vote set, see `vote_sets`"]
PairId = Annotated[str, "id of the pair, as `next_pair` gave it"]
Annotator = Annotated[str, "the name of who votes, 1 to 64 characters"]
_MOST_SAMPLES = 10_000
_MOST_EMBEDDED = 200 * 2**20  # bytes of media in one export
_MIME = {"jpg": "jpeg", "tif": "tiff", "mp3": "mpeg", "ogv": "ogg", "mov": "quicktime"}


def vote_sets(studio: Studio) -> dict[str, Any]:
    """The sets of pairs that can be voted on."""
    return {
        "sets": [
            {"set": one.id, "name": one.name, "pairs": one.count, "created": plain(one.created)}
            for one in studio.store.vote_sets()
        ]
    }


def add_vote_set(
    studio: Studio,
    name: Annotated[str, "what people see"],
    samples: Annotated[
        Sequence[dict[str, Any]],
        "pairs in the form of sample files; media as data: URIs, or as references that answers named",
    ],
) -> dict[str, Any]:
    """Make a new set of pairs to vote on. Samples that cannot be used are told in `problems` and left out."""
    if not 1 <= len(samples) <= _MOST_SAMPLES:
        raise SampleError(f"{len(samples)} samples: give 1 to {_MOST_SAMPLES}")
    taken, problems = [], []
    for number, data in enumerate(samples, start=1):
        try:
            sample = Sample.from_dict(data, default_id=f"pair:{number}")
            taken.append(_with_media(sample, lambda value, kind: str(_taken_in(studio, value, kind))))
        except (SampleError, UploadRefused) as error:
            problems.append(f"sample {number}: {error}")
    if not taken:
        raise SampleError(f"no sample can be used; {problems[0]}")
    with tempfile.TemporaryDirectory(prefix="set-", dir=studio.settings.data) as folder:
        file = Path(folder) / "pairs.jsonl"
        file.write_text("".join(sample.to_json() + "\n" for sample in taken), encoding="utf-8")
        report = studio.votes.import_set(file, name=name.strip() or "From a program")
    return {"set": report.set_id, "pairs": report.count, "problems": [*problems, *plain(report.problems)]}


def next_pair(
    studio: Studio,
    set: SetId,
    annotator: Annotator,
    after: Annotated[str, "leave out this pair and those before it, to come back to them later"] = "",
) -> dict[str, Any]:
    """The next pair that this person has not voted on: the prompt and what stands left and right, nothing else."""
    _known_set(studio, set)
    shown = studio.votes.next(set, annotator, after=after or None)
    if shown is None:
        return {"set": set, "finished": True}
    return {"finished": False, **_shown(studio, shown)}


def vote(
    studio: Studio,
    set: SetId,
    pair: PairId,
    annotator: Annotator,
    choice: Annotated[Literal["left", "right", "tie", "both_bad", "skip"], "which one is better"],
    strength: Annotated[int | None, "how much better, from 1 (slightly) to 5 (by far)"] = None,
    rubrics: Annotated[Sequence[str], "names of the criteria that decided"] = (),
    comment: Annotated[str, "why, in your own words"] = "",
    seconds: Annotated[float | None, "how long it took from seeing to voting"] = None,
) -> dict[str, Any]:
    """Vote on a pair; a later vote of the same person replaces it. The answer says what the judge thinks."""
    _known_pair(studio, set, pair)
    reveal = studio.votes.cast(
        set, pair, annotator, choice, strength=strength, rubrics=tuple(rubrics), comment=comment, seconds=seconds
    )
    return plain(reveal)


def undo_vote(studio: Studio, set: SetId, annotator: Annotator) -> dict[str, Any]:
    """Take back this person's last vote in the set, and show that pair again."""
    _known_set(studio, set)
    shown = studio.votes.undo(set, annotator)
    return {"undone": False} if shown is None else {"undone": True, **_shown(studio, shown)}


def agreement(studio: Studio, set: SetId) -> dict[str, Any]:
    """How people agree with each other and with the judge: shares, Cohen's kappa with intervals, all of them together.

    What cannot be told (too few votes in common, everybody always said the same) is null.
    """
    _known_set(studio, set)
    return plain(studio.votes.agreement(set))


def export_votes(
    studio: Studio,
    set: SetId,
    ties: Annotated[Literal["drop", "keep"], "what becomes of pairs without a winner"] = "drop",
    min_votes: Annotated[int, "leave out pairs with fewer votes, at least 1"] = 1,
    media: Annotated[
        Literal["path", "data"], "path: where they lie on the server; data: inside the export, as data: URIs"
    ] = "path",
) -> dict[str, Any]:
    """The votes as samples with labels, one JSON object a line: what `omnirm train` reads, in `jsonl`."""
    _known_set(studio, set)
    with tempfile.TemporaryDirectory(prefix="export-", dir=studio.settings.data) as folder:
        file = Path(folder) / "votes.jsonl"
        report = studio.votes.export(set, file, ties=ties, min_votes=min_votes)
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    if media == "data":
        lines = _embedded(studio, lines)
    return {"set": set, **plain(report), "jsonl": "".join(line + "\n" for line in lines)}


def _shown(studio: Studio, shown: Shown) -> dict[str, Any]:
    """A pair as it is shown to people. The sample's own order, names, label and metadata stay here."""
    sample = Sample.from_dict(shown.sample)
    first, second = (content_shown(one.parts, studio.media.folder) for one in sample.candidates)
    left, right = (first, second) if shown.left == "A" else (second, first)
    return {
        "set": shown.set_id,
        "pair": shown.pair_id,
        "number": shown.number,
        "total": shown.total,
        "done": shown.done,
        "prompt": prompt_shown(sample, studio.media.folder),
        "left": left,
        "right": right,
    }


def _known_set(studio: Studio, set: str) -> None:
    if studio.store.vote_set(set) is None:
        raise ConfigError(f"vote set {set!r}: there is none; vote_sets lists them")


def _known_pair(studio: Studio, set: str, pair: str) -> None:
    _known_set(studio, set)
    if studio.store.pair(set, pair) is None:
        raise ConfigError(f"pair {pair!r}: there is none in the vote set {set}")


def _taken_in(studio: Studio, value: Any, kind: Modality) -> Path:
    if not isinstance(value, str):
        raise UploadRefused("a medium is written as a text: a data: URI or a reference")
    return studio.media.add(medium_source(studio, value), expected=kind).path


def _embedded(studio: Studio, lines: Sequence[str]) -> list[str]:
    """The samples with their media as data: URIs, so that they mean the same on any machine."""
    room = _MOST_EMBEDDED

    def inside(value: str, kind: Modality) -> str:
        nonlocal room
        file = studio.media.path(Path(value).name)
        room -= file.stat().st_size
        if room < 0:
            raise ConfigError(f"the media of this set are over {_MOST_EMBEDDED // 2**20} MB: export with media=path")
        return data_uri(file, kind)

    return [_with_media(Sample.from_json(line), inside).to_json() for line in lines]


def _with_media(sample: Sample, change: Callable[[Any, Modality], str]) -> Sample:
    """The sample with the value of every medium changed; frames of a video one by one."""

    def part(one: Part) -> Part:
        if one.type == "text":
            return one
        if one.type == "video" and isinstance(one.value, tuple):
            return replace(one, value=tuple(change(frame, "image") for frame in one.value))
        return replace(one, value=change(one.value, one.type))

    return replace(
        sample,
        prompt=tuple(replace(turn, parts=tuple(map(part, turn.parts))) for turn in sample.prompt),
        candidates=tuple(replace(one, parts=tuple(map(part, one.parts))) for one in sample.candidates),
    )


def data_uri(file: Path, kind: str) -> str:
    """A stored medium as a `data:` URI."""
    return f"data:{media_type(file, kind)};base64,{base64.b64encode(file.read_bytes()).decode()}"


def media_type(file: Path, kind: str) -> str:
    """The MIME type of a stored medium, by the ending that its content gave it."""
    ending = file.suffix.lstrip(".")
    return f"{kind}/{_MIME.get(ending, ending)}"
