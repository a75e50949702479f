"""How the store's values become rows and rows become values, and what of a judgment's record gets a column of its own.

For `omnirm.app.store.store`. It checks what is stored; it opens no database.
"""

from __future__ import annotations

import json
import math
import secrets
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from omnirm.app.store.rows import (
    CHOICES,
    JOB_STATES,
    MOST_STRENGTH,
    JobRow,
    StoredJudgment,
    Vote,
    VotePair,
    VoteSet,
)
from omnirm.content import check_unicode
from omnirm.errors import ConfigError, SampleError
from omnirm.sample import Sample

MODALITIES = ("text", "image", "video", "audio")
_ID = string.ascii_letters + string.digits
_MOST_WORDS = 20_000  # characters of a judgment that can be searched


@dataclass(frozen=True, slots=True)
class Columns:
    """What of a judgment can be filtered by."""

    kind: str
    model: str
    strategy: str
    verdict: str | None
    confidence: float | None
    label: str | None
    modalities: tuple[str, ...]
    words: str


def new_id() -> str:
    """12 random letters and digits: 71 bits."""
    return "".join(secrets.choice(_ID) for _ in range(12))


def dump(value: Any, what: str) -> str:
    """A mapping as ASCII JSON, half surrogate pairs included. Raises `SampleError` where it is none."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise SampleError(f"{what}: is not JSON ({error})") from error


def fold(text: str) -> str:
    """A text as it is searched: without case, in characters that every database takes."""
    return text.casefold().replace("\0", " ").encode("utf-8", "replace").decode()


def read_columns(record: Mapping[str, Any], sample: Mapping[str, Any], task: Mapping[str, Any], title: str) -> Columns:
    """The columns of a judgment. Raises `SampleError` for a sample or record that is none."""
    kind = record.get("kind")
    if not isinstance(kind, str) or not 1 <= len(kind) <= 40:
        raise SampleError(f"record: its kind is {kind!r}; give a judgment's to_dict()")
    judged = Sample.from_dict(sample)
    first = record
    if kind == "scaled" and (trajectories := record.get("trajectories")):
        first = trajectories[0]["judgment"]
    model = first.get("model", task.get("model", ""))
    verdict, label = record.get("verdict"), record.get("label")
    if kind == "pointwise":
        verdict, label = _letter(record.get("best")), _letter(label)
    texts = [part.value for turn in judged.prompt for part in turn.parts if part.type == "text"]
    texts += [part.value for one in judged.candidates for part in one.parts if part.type == "text"]
    return Columns(
        kind,
        check_unicode(str(model.get("name", "") if isinstance(model, Mapping) else model), "model"),
        str(record.get("strategy") or record.get("method") or "")[:40],
        verdict,
        record.get("confidence"),
        label,
        tuple(kind for kind in MODALITIES if kind in judged.modalities),
        fold("\n".join([title, *texts]))[:_MOST_WORDS],
    )


def read_judgment(row: Any) -> StoredJudgment:
    """A row of `judgments`."""
    return StoredJudgment(
        row.id,
        row.created,
        row.kind,
        row.title,
        row.model,
        row.strategy,
        row.verdict,
        row.confidence,
        row.label,
        tuple(row.modalities.strip(",").split(",")),
        json.loads(row.record),
        json.loads(row.sample),
        json.loads(row.task),
        row.job,
    )


def read_job(row: Any) -> JobRow:
    """A row of `jobs`."""
    return JobRow(
        row.id,
        row.kind,
        row.state,
        json.loads(row.spec),
        json.loads(row.progress),
        row.error,
        json.loads(row.result),
        row.created,
        row.started,
        row.finished,
    )


def read_set(row: Any) -> VoteSet:
    """A row of `vote_sets` with the number of its pairs as `size`."""
    return VoteSet(row.id, row.name, row.source, row.created, row.size)


def read_pair(row: Any) -> VotePair:
    """A row of `pairs`."""
    return VotePair(row.pair_id, row.position, json.loads(row.sample), row.verdict, row.probability_a, row.judgment)


def read_vote(row: Any) -> Vote:
    """A row of `votes` or `vote_history`."""
    return Vote(
        row.set_id,
        row.pair_id,
        row.annotator,
        row.choice,
        row.left,
        row.strength,
        tuple(json.loads(row.rubrics)),
        row.comment,
        row.seconds,
        row.created,
    )


def job_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of a changed job. Raises `ConfigError` for a key or state that is none, `SampleError` for no JSON."""
    known = ("state", "progress", "error", "result", "started", "finished")
    if not changes or (unknown := sorted(set(changes) - set(known))):
        found = repr(unknown[0]) if changes else "nothing"
        raise ConfigError(f"job: {found} cannot be changed; give some of {', '.join(known)}")
    values = dict(changes)
    if "state" in values:
        known_states([values["state"]])
    for name in ("progress", "result"):
        if name in values:
            values[name] = dump(values[name], name)
    if "error" in values:
        values["error"] = values["error"].encode("utf-8", "replace").decode()
    return values


def known_states(states: Iterable[str]) -> list[str]:
    """The states as they are. Raises `ConfigError` for one that is none."""
    found = list(states)
    for state in found:
        if state not in JOB_STATES:
            raise ConfigError(f"job: state {state!r} is none of {', '.join(JOB_STATES)}")
    return found


def pair_rows(set_id: str, pairs: Iterable[VotePair]) -> list[dict[str, Any]]:
    """Rows of a set's pairs, in order. Raises `ConfigError` for ids that are none, `SampleError` for no JSON."""
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for position, pair in enumerate(pairs):
        if not 1 <= len(pair.pair_id) <= 64 or "\0" in pair.pair_id or pair.pair_id in seen:
            raise ConfigError(f"pair {pair.pair_id[:80]!r}: give every pair an id of its own, of 1 to 64 characters")
        seen.add(pair.pair_id)
        rows.append(
            {
                "set_id": set_id,
                "pair_id": check_unicode(pair.pair_id, "pair_id"),
                "position": position,
                "sample": dump(pair.sample, f"pair {pair.pair_id}"),
                **verdict_columns(pair.verdict, pair.probability_a, pair.judgment),
            }
        )
    if not rows:
        raise ConfigError("vote set: there is no pair in it; give at least one")
    return rows


def verdict_columns(verdict: str | None, probability_a: float | None, judgment: str) -> dict[str, Any]:
    """Columns of what the judge said about a pair. Raises `ConfigError` for what cannot be."""
    if verdict not in ("A", "B", "tie", None):
        raise ConfigError(f"verdict {verdict!r}: give A, B, tie or None")
    if probability_a is not None and not 0 <= probability_a <= 1:
        raise ConfigError(f"probability_a {probability_a!r}: give a number from 0 to 1, or None")
    return {"verdict": verdict, "probability_a": probability_a, "judgment": check_unicode(judgment, "judgment")}


def vote_columns(vote: Vote) -> dict[str, Any]:
    """Columns of a vote. Raises `ConfigError` for what cannot be, `SampleError` for half a surrogate pair."""
    if vote.choice not in CHOICES:
        raise ConfigError(f"vote: choice {vote.choice!r} is none of {', '.join(CHOICES)}")
    if vote.left not in ("A", "B"):
        raise ConfigError(f"vote: {vote.left!r} stood left; give A or B")
    strength = vote.strength
    if strength is not None and (type(strength) is not int or not 1 <= strength <= MOST_STRENGTH):
        raise ConfigError(f"vote: strength {strength!r}; give a whole number from 1 to {MOST_STRENGTH}, or None")
    if vote.seconds is not None and not (math.isfinite(vote.seconds) and vote.seconds >= 0):
        raise ConfigError(f"vote: {vote.seconds!r} seconds; give a number of at least 0, or None")
    if not 1 <= len(vote.annotator) <= 64 or "\0" in vote.annotator:
        raise ConfigError(
            f"vote: annotator {vote.annotator[:80]!r}; give a name of 1 to 64 characters, none of them NUL"
        )
    return {
        "set_id": check_unicode(vote.set_id, "set_id"),
        "pair_id": check_unicode(vote.pair_id, "pair_id"),
        "annotator": check_unicode(vote.annotator, "annotator"),
        "choice": vote.choice,
        "left": vote.left,
        "strength": strength,
        "rubrics": dump([check_unicode(one, "rubrics") for one in vote.rubrics], "rubrics"),
        "comment": check_unicode(vote.comment, "comment"),
        "seconds": vote.seconds,
        "created": vote.created or datetime.now(UTC),
    }


def _letter(place: Any) -> str | None:
    return place if place is None or isinstance(place, str) else chr(ord("A") + place) if place < 26 else f"#{place}"
