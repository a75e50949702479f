"""Votes as training data: labelled samples that `omnirm train` reads, with the counts behind each label.

For `voting.py`. It knows no database; people are counted, not named, and their comments stay where they are.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from omnirm.app.media_store import MediaStore
from omnirm.app.store.rows import CHOICES, Vote, VotePair
from omnirm.errors import ConfigError
from omnirm.sample import Label, Sample, write_samples
from omnirm.types import Part

Ties = Literal["drop", "keep"]
Media = Literal["paths", "copy"]


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export has written to `file`, and what it left out.

    count: samples; ties: dropped because no side won; too_few: dropped for too few votes; media: files copied.
    """

    file: Path
    count: int
    ties: int
    too_few: int
    media: int = 0


@dataclass(slots=True)
class _Counts:
    ties: int = 0
    too_few: int = 0
    media: set[Path] = field(default_factory=set)


def preference(votes: Sequence[Vote]) -> tuple[Label, int]:
    """What most people said, and how many of them said anything.

    "Both bad" prefers neither side and counts as a tie; who skipped said nothing. Where the first place is shared it is
    a tie, too. None where nobody said anything.
    """
    counts = Counter("tie" if one.choice == "both_bad" else one.choice for one in votes if one.choice != "skip")
    if not counts:
        return None, 0
    most = max(counts.values())
    first = [choice for choice, count in counts.items() if count == most]
    label: Label = "AB".index(first[0]) if len(first) == 1 and first[0] != "tie" else "tie"
    return label, sum(counts.values())


def export_votes(
    pairs: Sequence[VotePair],
    votes: Sequence[Vote],
    file: Path,
    store: MediaStore,
    *,
    ties: Ties = "drop",
    min_votes: int = 1,
    media: Media = "paths",
) -> ExportReport:
    """Writes a sample for every pair that people decided, in the order of the pairs; the file appears whole.

    Each is the pair's own sample with `label` (0, 1 or "tie") and `metadata.votes`: how often each choice was made, the
    ticked rubrics, and the label that the sample had before.

    Args:
        pairs: of a set.
        votes: on them.
        file: ends in .jsonl or .json; its folder is made.
        store: where the media lie.
        ties: drop them, or keep them with the label "tie".
        min_votes: fewer people than this leave a pair out, at least 1.
        media: `paths` refers to the media store by absolute paths; `copy` puts them into `<file's stem>_media` beside
            the file, which can then be moved with it.

    Raises:
        ConfigError: an unknown option, or no pair would be written.
        SampleError: the file's ending.
        OSError: it cannot be written.
    """
    if ties not in ("drop", "keep") or media not in ("paths", "copy") or min_votes < 1:
        raise ConfigError(
            f"export: ties {ties!r}, media {media!r}, min_votes {min_votes}; give drop or keep, paths or copy, and at "
            "least 1"
        )
    by_pair: dict[str, list[Vote]] = {}
    for vote in votes:
        by_pair.setdefault(vote.pair_id, []).append(vote)
    counts = _Counts()
    decided = list(_decided(pairs, by_pair, ties, min_votes, counts))
    if not decided:
        raise ConfigError(
            f"nothing to export: of {len(pairs)} pairs {counts.too_few} have fewer than {min_votes} votes, "
            f"{counts.ties} are ties; vote on more, or keep ties"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    if media == "copy":
        folder = file.parent / f"{file.stem}_media"
        decided = [_copied(sample, store, folder, counts.media) for sample in decided]
    count = write_samples(file, decided, relative=media == "copy")
    return ExportReport(file, count, counts.ties, counts.too_few, len(counts.media))


def _decided(
    pairs: Sequence[VotePair], votes: Mapping[str, Sequence[Vote]], ties: Ties, min_votes: int, counts: _Counts
) -> Iterator[Sample]:
    for pair in pairs:
        own = votes.get(pair.pair_id, ())
        label, said = preference(own)
        if said < min_votes:
            counts.too_few += 1
        elif label == "tie" and ties == "drop":
            counts.ties += 1
        else:
            sample = Sample.from_dict(pair.sample)
            yield replace(sample, label=label, metadata={**sample.metadata, "votes": _summary(own, sample.label)})


def _summary(votes: Sequence[Vote], before: Label) -> dict[str, Any]:
    found: dict[str, Any] = {choice: sum(one.choice == choice for one in votes) for choice in CHOICES}
    strengths = [one.strength for one in votes if one.strength is not None]
    if strengths:
        found["mean_strength"] = sum(strengths) / len(strengths)
    if ticked := Counter(name for one in votes for name in one.rubrics):
        found["rubrics"] = dict(ticked)
    if before is not None:
        found["label_before"] = before
    return found


def _copied(sample: Sample, store: MediaStore, folder: Path, copied: set[Path]) -> Sample:
    def value(reference: Any) -> Any:
        if isinstance(reference, list | tuple):
            return tuple(value(frame) for frame in reference)
        source = store.path(Path(reference).name)
        target = folder / source.name
        if target not in copied:
            folder.mkdir(exist_ok=True)
            part = folder / f".{source.name}.part"
            shutil.copyfile(source, part)
            part.replace(target)
            copied.add(target)
        return str(target)

    def parts(found: tuple[Part, ...]) -> tuple[Part, ...]:
        return tuple(part if part.type == "text" else replace(part, value=value(part.value)) for part in found)

    return replace(
        sample,
        prompt=tuple(replace(turn, parts=parts(turn.parts)) for turn in sample.prompt),
        candidates=tuple(replace(one, parts=parts(one.parts)) for one in sample.candidates),
    )
