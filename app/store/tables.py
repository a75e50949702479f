"""The tables of the app's store, as its newest migration leaves them.

For `store.py`. A change here needs a migration in `migrations/versions`; a test compares the two.
JSON is kept as ASCII text: every database takes every Unicode character that way, and gives back what it was given.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator

VERSION_TABLE = "omnirm_version"


class Moment(TypeDecorator[datetime]):
    """A timezone-aware datetime, kept in UTC without a zone, which every database can."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class AnyText(TypeDecorator[str]):
    """A text as an ASCII JSON string: PostgreSQL, for one, takes no NUL character in a text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else json.loads(value)


metadata = MetaData()

judgments = Table(
    "judgments",
    metadata,
    Column("number", Integer, primary_key=True),  # in the order in which they were added
    Column("id", String(12), nullable=False, unique=True),
    Column("created", Moment, nullable=False),
    Column("kind", String(40), nullable=False),
    Column("title", AnyText, nullable=False),
    Column("model", AnyText, nullable=False),
    Column("strategy", String(40), nullable=False),
    Column("verdict", String(8)),
    Column("confidence", Double),
    Column("label", String(8)),
    Column("modalities", String(40), nullable=False),  # ",text,image,"
    Column("record", Text, nullable=False),
    Column("sample", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("job", String(12), nullable=False),
    Column("words", Text, nullable=False),  # title and texts, casefolded, to search in
)

jobs = Table(
    "jobs",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String(12), nullable=False, unique=True),
    Column("kind", String(40), nullable=False),
    Column("state", String(12), nullable=False),
    Column("spec", Text, nullable=False),
    Column("progress", Text, nullable=False),
    Column("error", AnyText, nullable=False),
    Column("result", Text, nullable=False),
    Column("created", Moment, nullable=False),
    Column("started", Moment),
    Column("finished", Moment),
    Index("jobs_state", "state"),
)

vote_sets = Table(
    "vote_sets",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String(12), nullable=False, unique=True),
    Column("name", AnyText, nullable=False),
    Column("source", AnyText, nullable=False),
    Column("created", Moment, nullable=False),
)

pairs = Table(
    "pairs",
    metadata,
    Column("set_id", String(12), ForeignKey("vote_sets.id"), primary_key=True),
    Column("pair_id", String(64), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("sample", Text, nullable=False),
    Column("verdict", String(8)),
    Column("probability_a", Double),
    Column("judgment", String(12), nullable=False),
)


def _vote_columns() -> list[Any]:
    return [
        Column("number", Integer, primary_key=True),
        Column("set_id", String(12), nullable=False),
        Column("pair_id", String(64), nullable=False),
        Column("annotator", String(64), nullable=False),
        Column("choice", String(8), nullable=False),
        Column("left", String(1), nullable=False),
        Column("strength", Integer),
        Column("rubrics", Text, nullable=False),
        Column("comment", AnyText, nullable=False),
        Column("seconds", Double),
        Column("created", Moment, nullable=False),
        ForeignKeyConstraint(["set_id", "pair_id"], ["pairs.set_id", "pairs.pair_id"]),
    ]


votes = Table("votes", metadata, *_vote_columns(), UniqueConstraint("set_id", "pair_id", "annotator"))

vote_history = Table(
    "vote_history",
    metadata,
    *_vote_columns(),
    Column("ended", Moment, nullable=False),  # when it was replaced or taken back
    Index("vote_history_set", "set_id"),
)
