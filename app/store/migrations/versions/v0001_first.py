"""The first tables: judgments, jobs, sets of pairs, votes and their history."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "judgments",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(12), nullable=False, unique=True),
        sa.Column("created", sa.DateTime, nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("strategy", sa.String(40), nullable=False),
        sa.Column("verdict", sa.String(8)),
        sa.Column("confidence", sa.Double),
        sa.Column("label", sa.String(8)),
        sa.Column("modalities", sa.String(40), nullable=False),
        sa.Column("record", sa.Text, nullable=False),
        sa.Column("sample", sa.Text, nullable=False),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("job", sa.String(12), nullable=False),
        sa.Column("words", sa.Text, nullable=False),
    )
    op.create_table(
        "jobs",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(12), nullable=False, unique=True),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("progress", sa.Text, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("created", sa.DateTime, nullable=False),
        sa.Column("started", sa.DateTime),
        sa.Column("finished", sa.DateTime),
    )
    op.create_index("jobs_state", "jobs", ["state"])
    op.create_table(
        "vote_sets",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(12), nullable=False, unique=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("created", sa.DateTime, nullable=False),
    )
    op.create_table(
        "pairs",
        sa.Column("set_id", sa.String(12), sa.ForeignKey("vote_sets.id"), primary_key=True),
        sa.Column("pair_id", sa.String(64), primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("sample", sa.Text, nullable=False),
        sa.Column("verdict", sa.String(8)),
        sa.Column("probability_a", sa.Double),
        sa.Column("judgment", sa.String(12), nullable=False),
    )
    op.create_table("votes", *_vote_columns(), sa.UniqueConstraint("set_id", "pair_id", "annotator"))
    op.create_table("vote_history", *_vote_columns(), sa.Column("ended", sa.DateTime, nullable=False))
    op.create_index("vote_history_set", "vote_history", ["set_id"])


def downgrade() -> None:
    for name in ("vote_history", "votes", "pairs", "vote_sets", "jobs", "judgments"):
        op.drop_table(name)


def _vote_columns() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("set_id", sa.String(12), nullable=False),
        sa.Column("pair_id", sa.String(64), nullable=False),
        sa.Column("annotator", sa.String(64), nullable=False),
        sa.Column("choice", sa.String(8), nullable=False),
        sa.Column("left", sa.String(1), nullable=False),
        sa.Column("strength", sa.Integer),
        sa.Column("rubrics", sa.Text, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("seconds", sa.Double),
        sa.Column("created", sa.DateTime, nullable=False),
        sa.ForeignKeyConstraint(["set_id", "pair_id"], ["pairs.set_id", "pairs.pair_id"]),
    ]
