"""Where the app keeps what must not be lost: judgments, jobs, sets of pairs to vote on, and votes.

For the services behind the web app. SQLite by default, any SQLAlchemy URL; migrations run when it is opened. Safe for
use from many threads, and by several processes: every method is one short transaction, and what it stored is on disk
when it returns. It keeps values and finds them; what a job or a vote means is for others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, func, insert, literal, select, update

from omnirm.app.store import tables, values
from omnirm.app.store.database import Database, StoreError
from omnirm.app.store.rows import (
    CHOICES,
    JOB_STATES,
    Choice,
    JobRow,
    JobState,
    StoredJudgment,
    Vote,
    VotePair,
    VoteSet,
)
from omnirm.content import check_unicode
from omnirm.errors import ConfigError

_MOST_ROWS = 1_000_000


class Store:
    """The store of one database.

    Args:
        url: an SQLAlchemy URL, see `omnirm.app.store.database.Database`.

    Raises:
        ConfigError: a bad URL, a database that cannot be opened, or one of a newer version.
        StoreError: in every method, where the database cannot be read or written.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    def close(self) -> None:
        """Closes every connection."""
        self._database.close()

    # Judgments

    def add_judgment(
        self,
        record: Mapping[str, Any],
        sample: Mapping[str, Any],
        *,
        title: str = "",
        job: str = "",
        task: Mapping[str, Any] | None = None,
    ) -> str:
        """Stores a judgment (its `to_dict`) with its sample; gives its id, 12 characters that are safe in a URL.

        Raises:
            SampleError: the sample is not of the documented form, or something is not JSON.
        """
        columns = values.read_columns(record, sample, task or {}, check_unicode(title, "title"))
        row = {
            "id": values.new_id(),
            "created": datetime.now(UTC),
            "kind": columns.kind,
            "title": title,
            "model": columns.model,
            "strategy": columns.strategy,
            "verdict": columns.verdict,
            "confidence": columns.confidence,
            "label": columns.label,
            "modalities": f",{','.join(columns.modalities)},",
            "record": values.dump(record, "record"),
            "sample": values.dump(sample, "sample"),
            "task": values.dump(task or {}, "task"),
            "job": job,
            "words": columns.words,
        }
        with self._database.write() as connection:
            connection.execute(insert(tables.judgments).values(row))
        return str(row["id"])

    def judgment(self, id: str) -> StoredJudgment | None:
        """The judgment of this id, None where there is none."""
        found = self._rows(select(tables.judgments).where(tables.judgments.c.id == check_unicode(id, "id")))
        return values.read_judgment(found[0]) if found else None

    def judgments(
        self,
        *,
        limit: int = 100,
        offset: int = 0,
        kind: str | None = None,
        model: str | None = None,
        verdict: str | None = None,
        modality: str | None = None,
        text: str = "",
    ) -> list[StoredJudgment]:
        """Judgments, newest first, that pass every filter given.

        Args:
            limit: at most so many.
            offset: leave out so many before.
            kind: `pairwise`, `pointwise` or `scaled`.
            model: its name.
            verdict: `A`, `B`, `tie`, ..., or `none` for those that could not be read.
            modality: one that the prompt or a candidate has.
            text: words that must all occur in the title, prompt or candidates, in any letter case.
        """
        where = _filters(kind, model, verdict, modality, text)
        wanted = select(tables.judgments).where(*where).order_by(tables.judgments.c.number.desc())
        found = self._rows(wanted.limit(_rows(limit)).offset(_rows(offset)))
        return [values.read_judgment(row) for row in found]

    def count_judgments(
        self,
        *,
        kind: str | None = None,
        model: str | None = None,
        verdict: str | None = None,
        modality: str | None = None,
        text: str = "",
    ) -> int:
        """How many judgments pass these filters; see `judgments`."""
        where = _filters(kind, model, verdict, modality, text)
        return int(self._rows(select(func.count()).select_from(tables.judgments).where(*where))[0][0])

    # Jobs

    def add_job(self, kind: str, spec: Mapping[str, Any]) -> str:
        """Stores a job in state `queued`; gives its id. Raises `SampleError` for a spec that is not JSON."""
        row = {
            "id": values.new_id(),
            "kind": check_unicode(kind, "kind"),
            "state": "queued",
            "spec": values.dump(spec, "spec"),
            "progress": "{}",
            "error": "",
            "result": "{}",
            "created": datetime.now(UTC),
        }
        with self._database.write() as connection:
            connection.execute(insert(tables.jobs).values(row))
        return str(row["id"])

    def job(self, id: str) -> JobRow | None:
        """The job of this id, None where there is none."""
        found = self._rows(select(tables.jobs).where(tables.jobs.c.id == check_unicode(id, "id")))
        return values.read_job(found[0]) if found else None

    def jobs(self, *, states: Sequence[str] = (), limit: int = 100, newest_first: bool = False) -> list[JobRow]:
        """Jobs in one of these states (any where there is none), oldest first unless it is said otherwise."""
        column = tables.jobs.c
        wanted = select(tables.jobs).order_by(column.number.desc() if newest_first else column.number)
        if states:
            wanted = wanted.where(column.state.in_(values.known_states(states)))
        return [values.read_job(row) for row in self._rows(wanted.limit(_rows(limit)))]

    def update_job(self, id: str, *, only_if: Sequence[str] = (), **changes: Any) -> bool:
        """Changes a job in one step, and only while it is in one of the states `only_if`, where there are some.

        Args:
            id: of the job.
            only_if: states it must be in.
            changes: `state`, `progress` (dict), `error` (str), `result` (dict), `started`, `finished` (datetimes).

        Returns:
            Was it changed? False for an unknown job, and for one in another state.

        Raises:
            ConfigError: another key, or an unknown state.
            SampleError: a value that is not JSON.
        """
        row = values.job_changes(changes)
        where = [tables.jobs.c.id == check_unicode(id, "id")]
        if only_if:
            where.append(tables.jobs.c.state.in_(values.known_states(only_if)))
        with self._database.write() as connection:
            return connection.execute(update(tables.jobs).where(*where).values(row)).rowcount == 1

    # Votes

    def add_vote_set(self, name: str, source: str, pairs: Sequence[VotePair]) -> str:
        """Stores a set of pairs in this order, all or none; gives its id.

        Raises:
            ConfigError: no pair, two of one id, or an id or verdict that is none.
            SampleError: a sample that is not JSON.
        """
        own = values.new_id()
        rows = values.pair_rows(own, pairs)
        row = {
            "id": own,
            "name": check_unicode(name, "name"),
            "source": source.encode("utf-8", "replace").decode(),  # a file's name need not be Unicode
            "created": datetime.now(UTC),
        }
        with self._database.write() as connection:
            connection.execute(insert(tables.vote_sets).values(row))
            connection.execute(insert(tables.pairs), rows)
        return own

    def vote_sets(self) -> list[VoteSet]:
        """Every set, newest first."""
        return [values.read_set(row) for row in self._rows(_sets().order_by(tables.vote_sets.c.number.desc()))]

    def vote_set(self, id: str) -> VoteSet | None:
        """The set of this id, None where there is none."""
        found = self._rows(_sets().where(tables.vote_sets.c.id == check_unicode(id, "id")))
        return values.read_set(found[0]) if found else None

    def pairs(self, set_id: str) -> list[VotePair]:
        """The pairs of a set in its order; none for an unknown set."""
        column = tables.pairs.c
        wanted = select(tables.pairs).where(column.set_id == check_unicode(set_id, "set_id")).order_by(column.position)
        return [values.read_pair(row) for row in self._rows(wanted)]

    def pair_ids(self, set_id: str) -> list[str]:
        """The ids of the pairs of a set in its order, without reading the pairs."""
        column = tables.pairs.c
        wanted = select(column.pair_id).where(column.set_id == check_unicode(set_id, "set_id"))
        return [row.pair_id for row in self._rows(wanted.order_by(column.position))]

    def pair(self, set_id: str, pair_id: str) -> VotePair | None:
        """One pair, None where there is none."""
        found = self._rows(select(tables.pairs).where(*_pair_is(tables.pairs, set_id, pair_id)))
        return values.read_pair(found[0]) if found else None

    def set_verdict(
        self, set_id: str, pair_id: str, verdict: str | None, probability_a: float | None, judgment: str = ""
    ) -> None:
        """Stores what the judge says about a pair; it replaces what was there.

        Raises:
            ConfigError: no such pair, a verdict other than A, B, tie or None, or a probability outside [0, 1].
        """
        row = values.verdict_columns(verdict, probability_a, judgment)
        with self._database.write() as connection:
            where = _pair_is(tables.pairs, set_id, pair_id)
            done = connection.execute(update(tables.pairs).where(*where).values(row))
        if not done.rowcount:
            raise ConfigError(f"no pair {pair_id!r} in a vote set {set_id!r}")

    def put_vote(self, vote: Vote) -> None:
        """Stores a vote. An earlier one of this annotator on this pair is replaced, and kept in the history.

        Raises:
            ConfigError: no such pair, or a choice, side, strength or time that is none.
        """
        row = values.vote_columns(vote)
        where = _pair_is(tables.pairs, vote.set_id, vote.pair_id)
        with self._database.write() as connection:  # votes on one pair take their turn
            if connection.execute(select(tables.pairs.c.pair_id).where(*where).with_for_update()).first() is None:
                raise ConfigError(f"no pair {vote.pair_id!r} in a vote set {vote.set_id!r}")
            _end_vote(connection, vote.set_id, vote.pair_id, vote.annotator)
            connection.execute(insert(tables.votes).values(row))

    def remove_vote(self, set_id: str, pair_id: str, annotator: str) -> bool:
        """Takes a vote back; it stays in the history. Was there one?"""
        with self._database.write() as connection:
            return _end_vote(connection, set_id, pair_id, annotator)

    def votes(self, set_id: str, *, annotator: str | None = None) -> list[Vote]:
        """The votes of a set, or of one annotator in it, in the order in which they were given."""
        return self._votes(tables.votes, set_id, annotator)

    def past_votes(self, set_id: str, *, annotator: str | None = None) -> list[Vote]:
        """Votes that were replaced or taken back, oldest first."""
        return self._votes(tables.vote_history, set_id, annotator)

    def _votes(self, table: Any, set_id: str, annotator: str | None) -> list[Vote]:
        wanted = select(table).where(table.c.set_id == check_unicode(set_id, "set_id")).order_by(table.c.number)
        if annotator is not None:
            wanted = wanted.where(table.c.annotator == check_unicode(annotator, "annotator"))
        return [values.read_vote(row) for row in self._rows(wanted)]

    def _rows(self, wanted: Select[Any]) -> Sequence[Row[Any]]:
        with self._database.read() as connection:
            return connection.execute(wanted).all()


def _rows(count: int) -> int:
    return max(0, min(count, _MOST_ROWS))


def _sets() -> Select[Any]:
    column = tables.vote_sets.c
    count = select(func.count()).where(tables.pairs.c.set_id == column.id).scalar_subquery()
    return select(column.id, column.name, column.source, column.created, count.label("size"))


def _pair_is(table: Any, set_id: str, pair_id: str) -> list[ColumnElement[bool]]:
    return [table.c.set_id == check_unicode(set_id, "set_id"), table.c.pair_id == check_unicode(pair_id, "pair_id")]


def _end_vote(connection: Connection, set_id: str, pair_id: str, annotator: str) -> bool:
    """Moves a vote to the history. Was there one?"""
    where = [
        *_pair_is(tables.votes, set_id, pair_id),
        tables.votes.c.annotator == check_unicode(annotator, "annotator"),
    ]
    kept = [column for column in tables.votes.c if column.name != "number"]
    found = select(*kept, literal(datetime.now(UTC), tables.Moment)).where(*where)
    connection.execute(insert(tables.vote_history).from_select([*(column.name for column in kept), "ended"], found))
    return connection.execute(delete(tables.votes).where(*where)).rowcount > 0


def _filters(
    kind: str | None, model: str | None, verdict: str | None, modality: str | None, text: str
) -> list[ColumnElement[bool]]:
    column = tables.judgments.c
    found: list[ColumnElement[bool]] = []
    if kind is not None:
        found.append(column.kind == check_unicode(kind, "kind"))
    if model is not None:
        found.append(column.model == check_unicode(model, "model"))
    if verdict is not None:
        unread = verdict == "none"
        found.append(column.verdict.is_(None) if unread else column.verdict == check_unicode(verdict, "verdict"))
    if modality is not None:
        found.append(column.modalities.contains(f",{check_unicode(modality, 'modality')},", autoescape=True))
    for word in values.fold(text[:1000]).split()[:20]:
        found.append(column.words.contains(word, autoescape=True))
    return found


__all__ = [
    "CHOICES",
    "JOB_STATES",
    "Choice",
    "JobRow",
    "JobState",
    "Store",
    "StoreError",
    "StoredJudgment",
    "Vote",
    "VotePair",
    "VoteSet",
]
