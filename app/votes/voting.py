"""Blind votes: who sees which pair, what stood left, what they said, and how far people and the judge agree.

For the vote tab, the API and the command line. Until a person has voted on a pair, nothing that leaves here tells them
what the judge, the label or a candidate's name says. Order and sides are drawn from the names of set, pair and
annotator, so that a session that is taken up again shows the same thing, without anything being kept for it.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omnirm.app.media_store import MediaStore
from omnirm.app.store.rows import CHOICES, Choice, Vote, VotePair, VoteSet
from omnirm.app.store.store import Store
from omnirm.app.votes.export import ExportReport, Media, Ties, export_votes, preference
from omnirm.app.votes.sources import read_source, said
from omnirm.errors import ConfigError, SampleError
from omnirm.scoring.agreement import Coefficient, TwoRaters, everyone, fleiss_kappa, two_raters

Side = Literal["left", "right", "tie", "both_bad", "skip"]
SIDES: tuple[Side, ...] = ("left", "right", "tie", "both_bad", "skip")
MOST_COMMENT = 10_000
MOST_RUBRICS = 50
MOST_RUBRIC_NAME = 300
_MOST_PROBLEMS = 1000


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of an import. problems: rows that were left out, a sentence each."""

    set_id: str
    count: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JudgeSays:
    """What is told after the vote: verdict and probability that A is better, the sample's label (`A`, `B`, `tie`), the
    names of the candidates, and the id of the judgment in the store. Everything may be missing."""

    verdict: str | None
    probability_a: float | None
    agrees: bool | None
    label: str | None
    judgment: str
    names: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Shown:
    """A pair as one annotator sees it.

    number: its place in the annotator's order, from 1; total: pairs in the set; done: voted on by the annotator.
    sample: in its own order; without label, names and metadata until the annotator has voted.
    left: the candidate that stands left. vote, judge: None until the annotator has voted.
    """

    set_id: str
    pair_id: str
    number: int
    total: int
    done: int
    sample: dict[str, Any]
    left: Literal["A", "B"]
    vote: Vote | None = None
    judge: JudgeSays | None = None


@dataclass(frozen=True, slots=True)
class Reveal:
    """What is told right after a vote; see `JudgeSays`.

    agrees: None where the judge said nothing or the vote is a skip; "both bad" prefers neither and agrees with a tie.
    """

    vote: Vote
    verdict: str | None
    probability_a: float | None
    agrees: bool | None
    label: str | None
    judgment: str
    names: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Between:
    """Two annotators, or an annotator and the judge (`second` is None), on the pairs of which both said something.

    all: over A, B, tie (and both bad, between people; with the judge it counts as a tie). decided: where both said A or
    B.
    """

    first: str
    second: str | None
    all: TwoRaters
    decided: TwoRaters


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far people agree with each other and with the judge.

    annotators: those who voted; votes: by choice; voted: pairs with a vote that is no skip, of `total`.
    people: each two of them; judge: each with the judge; majority: what most say, with the judge (`first` is "").
    alpha: Krippendorff's, over everybody; fleiss: Fleiss' kappa over the `rated_by_all` pairs that everybody rated.
    changed: votes that were replaced or taken back, mostly after the judge's verdict was told.
    """

    annotators: tuple[str, ...]
    votes: dict[str, int]
    voted: int
    total: int
    people: tuple[Between, ...]
    judge: tuple[Between, ...]
    majority: Between | None
    alpha: Coefficient
    fleiss: float | None
    rated_by_all: int
    changed: int


class Voting:
    """Everything about votes, over a store and its media. Safe to use from many threads.

    An annotator is a name of 1 to 64 printable characters; blanks around it do not count. Every method that takes a
    set, a pair or an annotator raises `ConfigError` where there is none of that id or the name is none.
    """

    def __init__(self, store: Store, media: MediaStore) -> None:
        self._store, self._media = store, media

    def sets(self) -> list[VoteSet]:
        """Every set, newest first."""
        return self._store.vote_sets()

    def import_set(self, source: Path, *, name: str = "", roots: Sequence[Path] = ()) -> ImportReport:
        """Takes in a set of pairs; `omnirm.app.votes.sources` has the forms. Its media go to the media store.

        Args:
            source: a sample file, a folder with A and B, or a finished run.
            name: for people; the file's or folder's name where it is empty.
            roots: folders that media may lie in, besides the source's own.

        Raises:
            SampleError: none of these forms, or no pair in it can be used; the message has the first reason.
            OSError: it cannot be read.
        """
        pairs: list[VotePair] = []
        problems: list[str] = []
        for one in read_source(source, self._media, roots):
            if one.sample is None:
                problems.append(one.error)
                continue
            sample = one.sample.to_dict()
            verdict, probability, judgment = None, None, ""
            if one.record is not None:
                verdict, probability = said(one.record)
                judgment = self._store.add_judgment(one.record, sample, title=one.sample.id)
            own = hashlib.sha256(one.sample.id.encode()).hexdigest()[:16]
            pairs.append(VotePair(own, len(pairs), sample, verdict, probability, judgment))
        if not pairs:
            raise SampleError(f"{source}: no pair to vote on; {problems[0] if problems else 'it is empty'}")
        shown = (name or source.resolve().name).encode("utf-8", "replace").decode()
        set_id = self._store.add_vote_set(shown, str(source.resolve()), pairs)
        if (more := len(problems) - _MOST_PROBLEMS) > 0:
            problems[_MOST_PROBLEMS:] = [f"and {more} more"]
        return ImportReport(set_id, len(pairs), tuple(problems))

    def next(self, set_id: str, annotator: str, *, after: str | None = None) -> Shown | None:
        """The first pair that this annotator has not voted on, in their own order; None where none is left.

        Args:
            set_id: of the set.
            annotator: who votes.
            after: begin behind this pair, and come round to it last.
        """
        annotator = checked_name(annotator)
        order = self._order(set_id, annotator)
        voted = {vote.pair_id for vote in self._store.votes(set_id, annotator=annotator)}
        start = order.index(after) + 1 if after in order else 0
        for pair_id in (*order[start:], *order[:start]):
            if pair_id not in voted:
                return self.shown(set_id, pair_id, annotator)
        return None

    def shown(self, set_id: str, pair_id: str, annotator: str) -> Shown:
        """A pair as this annotator sees it, voted on or not."""
        annotator = checked_name(annotator)
        order = self._order(set_id, annotator)
        pair = self._pair(set_id, pair_id)
        votes = {vote.pair_id: vote for vote in self._store.votes(set_id, annotator=annotator)}
        vote = votes.get(pair_id)
        return Shown(
            set_id,
            pair_id,
            order.index(pair_id) + 1,
            len(order),
            len(votes),
            _blind(pair.sample) if vote is None else pair.sample,
            left_of(set_id, pair_id, annotator) if vote is None else vote.left,
            vote,
            None if vote is None else _judge_says(pair, vote),
        )

    def cast(
        self,
        set_id: str,
        pair_id: str,
        annotator: str,
        side: Side,
        *,
        strength: int | None = None,
        rubrics: Sequence[str] = (),
        comment: str = "",
        seconds: float | None = None,
    ) -> Reveal:
        """Stores a vote and tells what the judge says. A second vote on a pair replaces the first.

        Args:
            set_id, pair_id, annotator: who votes on what.
            side: as the annotator saw it.
            strength: how much better, 1 to 5; without effect where no side was chosen.
            rubrics: names of criteria that decided, at most 50 of 300 characters.
            comment: at most 10 000 characters.
            seconds: from seeing the pair to voting.

        Raises:
            ConfigError: one of these is not as described.
            SampleError: half a surrogate pair in a text.
        """
        annotator = checked_name(annotator)
        pair = self._pair(set_id, pair_id)
        if side not in SIDES:
            raise ConfigError(f"vote {side!r}: give one of {', '.join(SIDES)}")
        if len(comment) > MOST_COMMENT:
            raise ConfigError(f"comment: {len(comment)} characters; write at most {MOST_COMMENT}")
        if len(rubrics) > MOST_RUBRICS or any(len(one) > MOST_RUBRIC_NAME for one in rubrics):
            raise ConfigError(f"rubrics: tick at most {MOST_RUBRICS}, each of at most {MOST_RUBRIC_NAME} characters")
        left = left_of(set_id, pair_id, annotator)
        choice: Choice = side if side in ("tie", "both_bad", "skip") else _at(side, left)  # type: ignore[assignment]
        vote = Vote(
            set_id,
            pair_id,
            annotator,
            choice,
            left,
            strength if choice in ("A", "B") else None,
            tuple(dict.fromkeys(rubrics)),
            comment,
            seconds,
        )
        self._store.put_vote(vote)
        judge = _judge_says(pair, vote)
        return Reveal(vote, judge.verdict, judge.probability_a, judge.agrees, judge.label, judge.judgment, judge.names)

    def undo(self, set_id: str, annotator: str) -> Shown | None:
        """Takes the annotator's last vote back and shows its pair again; None where there is no vote."""
        annotator = checked_name(annotator)
        self._order(set_id, annotator)
        votes = self._store.votes(set_id, annotator=annotator)
        if not votes:
            return None
        last = votes[-1].pair_id
        self._store.remove_vote(set_id, last, annotator)
        return self.shown(set_id, last, annotator)

    def agreement(self, set_id: str) -> Agreement:
        """How far people agree with each other and with the judge; the same votes give the same figures."""
        pairs = self._pairs(set_id)
        votes = self._store.votes(set_id)
        by_person: dict[str, dict[str, str]] = {}
        by_pair: dict[str, list[Vote]] = {}
        for vote in votes:
            if vote.choice != "skip":
                by_person.setdefault(vote.annotator, {})[vote.pair_id] = vote.choice
                by_pair.setdefault(vote.pair_id, []).append(vote)
        names = sorted(by_person)
        judge = {pair.pair_id: pair.verdict for pair in pairs if pair.verdict is not None}
        most = {pair_id: _LETTERS[preference(own)[0]] for pair_id, own in by_pair.items()}
        counts = [Counter(vote.choice for vote in own) for own in by_pair.values()]
        full = [one for one in counts if len(names) >= 2 and sum(one.values()) == len(names)]
        chosen = Counter(vote.choice for vote in votes)
        return Agreement(
            tuple(names),
            {choice: chosen[choice] for choice in CHOICES},
            len(by_pair),
            len(pairs),
            tuple(_between(a, b, by_person[a], by_person[b]) for i, a in enumerate(names) for b in names[i + 1 :]),
            tuple(_between(name, None, _preferences(by_person[name]), judge) for name in names if judge),
            _between("", None, most, judge) if most and judge else None,
            everyone(counts),
            fleiss_kappa(full),
            len(full),
            len(self._store.past_votes(set_id)),
        )

    def export(
        self,
        set_id: str,
        file: Path,
        *,
        ties: Ties = "drop",
        min_votes: int = 1,
        format: Literal["samples"] = "samples",
        media: Media = "paths",
    ) -> ExportReport:
        """Writes the pairs that people decided as labelled samples, which `omnirm train` reads.

        See `omnirm.app.votes.export.export_votes`, also for what it raises.
        """
        if format != "samples":
            raise ConfigError(f"format {format!r}: give samples")
        pairs = self._pairs(set_id)
        votes = self._store.votes(set_id)
        return export_votes(pairs, votes, file, self._media, ties=ties, min_votes=min_votes, media=media)

    def _order(self, set_id: str, annotator: str) -> list[str]:
        found = self._store.pair_ids(set_id)
        if not found:
            raise ConfigError(f"there is no vote set {set_id!r}")
        return sorted(found, key=lambda pair_id: _drawn("order", set_id, pair_id, annotator))

    def _pairs(self, set_id: str) -> list[VotePair]:
        found = self._store.pairs(set_id)
        if not found:
            raise ConfigError(f"there is no vote set {set_id!r}")
        return found

    def _pair(self, set_id: str, pair_id: str) -> VotePair:
        found = self._store.pair(set_id, pair_id)
        if found is None:
            raise ConfigError(f"there is no pair {pair_id!r} in a vote set {set_id!r}")
        return found


def checked_name(annotator: str) -> str:
    """The name as it is stored (NFC, without blanks around it). Raises `ConfigError` for one that is none."""
    name = unicodedata.normalize("NFC", annotator).strip()
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise ConfigError(f"annotator {annotator[:80]!r}: give a name of 1 to 64 printable characters")
    return name


def left_of(set_id: str, pair_id: str, annotator: str) -> Literal["A", "B"]:
    """The candidate that stands left when this annotator sees this pair: either with probability 1/2."""
    return "AB"[_drawn("side", set_id, pair_id, annotator)[0] & 1]  # type: ignore[return-value]


_LETTERS: dict[Any, str] = {0: "A", 1: "B", "tie": "tie"}


def _drawn(*names: str) -> bytes:
    return hashlib.sha256("\0".join(names).encode()).digest()


def _at(side: str, left: Literal["A", "B"]) -> Literal["A", "B"]:
    return left if side == "left" else "B" if left == "A" else "A"


def _blind(sample: Mapping[str, Any]) -> dict[str, Any]:
    """The sample without what could tell which one is better."""
    kept = {key: sample[key] for key in ("id", "prompt", "rubrics") if key in sample}
    named = [one["content"] if isinstance(one, Mapping) and "content" in one else one for one in sample["candidates"]]
    return {**kept, "candidates": named}


def _judge_says(pair: VotePair, vote: Vote) -> JudgeSays:
    label = pair.sample.get("label")
    names = [one.get("name", "") if isinstance(one, Mapping) else "" for one in pair.sample["candidates"]]
    agrees = None if pair.verdict is None or vote.choice == "skip" else _preference(vote.choice) == pair.verdict
    return JudgeSays(pair.verdict, pair.probability_a, agrees, _LETTERS.get(label), pair.judgment, (names[0], names[1]))


def _preference(choice: str) -> str:
    return "tie" if choice == "both_bad" else choice


def _preferences(choices: Mapping[str, str]) -> dict[str, str]:
    return {pair_id: _preference(choice) for pair_id, choice in choices.items()}


def _between(first: str, second: str | None, one: Mapping[str, str], other: Mapping[str, str]) -> Between:
    both = [(one[pair_id], other[pair_id]) for pair_id in sorted(one.keys() & other.keys())]
    decided = [pair for pair in both if set(pair) <= {"A", "B"}]
    return Between(
        first,
        second,
        two_raters([a for a, _ in both], [b for _, b in both]),
        two_raters([a for a, _ in decided], [b for _, b in decided]),
    )
