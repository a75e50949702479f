"""The app's store on a real database: what goes in comes out, from many threads, after a kill, after an upgrade."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine

from omnirm.app.store.store import Store, StoreError, Vote, VotePair
from omnirm.app.store.tables import VERSION_TABLE, metadata
from omnirm.backends.load import load_backend
from omnirm.errors import ConfigError, OmnirmError, SampleError
from omnirm.judge import Judge
from omnirm.sample import Sample

SAMPLE = {"id": "sum", "prompt": "2 + 3?", "candidates": ["5", "6"], "label": 0}
RECORD = {"kind": "pairwise", "sample_id": "sum", "verdict": "A", "confidence": 0.75, "model": {"name": "nano"}}


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'omnirm.db'}"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(url_of(tmp_path))
    yield store
    store.close()


def set_of(store: Store, count: int = 3) -> str:
    return store.add_vote_set("sums", "made", [VotePair(f"p{i}", 0, SAMPLE) for i in range(count)])


# Judgments


def test_a_real_judgment_comes_back_with_its_columns(store: Store) -> None:
    sample = Sample.from_dict(SAMPLE)
    judgment = Judge(load_backend("scripted:always-a")).compare(sample)
    before = datetime.now(UTC)
    id = store.add_judgment(judgment.to_dict(), sample.to_dict(), title="A sum", job="j1", task={"mode": "compare"})
    found = store.judgment(id)
    assert found is not None
    assert (len(id), id.isalnum(), found.id) == (12, True, id)
    assert (found.kind, found.title, found.model, found.strategy) == ("pairwise", "A sum", judgment.model.name, "")
    assert (found.verdict, found.confidence, found.label) == (judgment.verdict, judgment.confidence, "A")
    assert (found.modalities, found.job, found.task) == (("text",), "j1", {"mode": "compare"})
    assert (found.record, found.sample) == (judgment.to_dict(), sample.to_dict())
    assert found.created.tzinfo is UTC
    assert timedelta(0) <= found.created - before < timedelta(minutes=1)


def test_scores_of_single_candidates_have_the_best_as_verdict(store: Store) -> None:
    sample = Sample.from_dict({"prompt": "q", "candidates": ["a", "b", "c"], "label": 2})
    judgment = Judge(load_backend("scripted:always-a")).score(sample)
    found = store.judgment(store.add_judgment({**judgment.to_dict(), "best": 1}, sample.to_dict()))
    assert found is not None
    assert (found.kind, found.strategy, found.verdict, found.label) == ("pointwise", judgment.method, "B", "C")


def test_a_scaled_judgment_is_filed_under_the_model_of_its_trajectories(store: Store) -> None:
    record = {"kind": "scaled", "strategy": "vote", "verdict": None, "trajectories": [{"judgment": RECORD}]}
    found = store.judgment(store.add_judgment(record, SAMPLE))
    assert found is not None
    assert (found.model, found.strategy, found.verdict) == ("nano", "vote", None)
    early = store.judgment(store.add_judgment({**record, "trajectories": []}, SAMPLE, task={"model": "asked"}))
    assert early is not None
    assert early.model == "asked"


def test_judgments_are_found_newest_first_by_every_filter(store: Store) -> None:
    cat = {"prompt": [{"type": "image", "image": "/a.png"}, "Which cat?"], "candidates": ["Die Straße", "100% wool"]}
    ids = [
        store.add_judgment(RECORD, SAMPLE, title="first"),
        store.add_judgment({**RECORD, "verdict": None, "model": {"name": "other"}}, cat, title="İstanbul"),
        store.add_judgment({**RECORD, "kind": "pointwise", "best": None}, cat, title="third"),
    ]

    def found(**filters: Any) -> list[int]:
        rows = store.judgments(**filters)
        filters = {name: one for name, one in filters.items() if name not in ("limit", "offset")}
        assert store.count_judgments(**filters) >= len(rows)
        return [ids.index(one.id) for one in rows]

    assert found() == [2, 1, 0]
    assert found(limit=1) == [2]
    assert found(limit=2, offset=1) == [1, 0]
    assert found(limit=0) == found(offset=10**30) == found(limit=-1) == []
    assert found(kind="pairwise") == [1, 0]
    assert found(model="other") == [1]
    assert found(verdict="none") == [2, 1]
    assert found(verdict="A") == [0]
    assert found(modality="image") == [2, 1]
    assert found(modality="image,text") == []
    assert found(text="STRASSE wool") == [2, 1]
    assert found(text="100%") == [2, 1]
    assert found(text="1_0%") == found(text="\\") == []
    assert found(text="i̇stanbul") == [1]
    assert found(text="' OR 1=1 --") == []
    assert store.count_judgments(modality="image", kind="pairwise") == 1


@pytest.mark.parametrize(
    ("record", "sample", "title", "says"),
    [
        ({}, SAMPLE, "", "kind is None"),
        (RECORD, {"prompt": "q"}, "", "candidates"),
        (RECORD, {**SAMPLE, "prompt": "\ud800"}, "", "lone surrogate"),
        (RECORD, SAMPLE, "half \udfff", "title: found a lone surrogate"),
        ({**RECORD, "margin": float("nan")}, SAMPLE, "", "record: is not JSON"),
        ({**RECORD, "margin": object()}, SAMPLE, "", "record: is not JSON"),
    ],
)
def test_what_cannot_be_kept_is_refused_and_nothing_is_stored(
    store: Store, record: dict[str, Any], sample: dict[str, Any], title: str, says: str
) -> None:
    with pytest.raises(SampleError, match=says):
        store.add_judgment(record, sample, title=title)
    assert store.judgments() == []


ANY_TEXT = st.text(st.characters(exclude_categories=()))  # every code point, halves of surrogate pairs too
WHOLE_TEXT = st.text(st.characters(exclude_categories=("Cs",)))
NAMES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=64)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(written=JSON, prompt=WHOLE_TEXT, answer=WHOLE_TEXT, title=WHOLE_TEXT)
def test_any_unicode_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, written: Any, prompt: str, answer: str, title: str
) -> None:
    store = shared_store(tmp_path_factory)
    sample = Sample.from_dict({"prompt": prompt, "candidates": [answer, ""]}).to_dict()
    record = {**RECORD, "raw": written}
    found = store.judgment(store.add_judgment(record, sample, title=title, task={"text": written}))
    assert found is not None
    assert (found.record, found.sample, found.title, found.task) == (record, sample, title, {"text": written})
    for word in title.split()[:3]:
        assert found.id in {one.id for one in store.judgments(text=word, limit=10_000)}


@given(comment=WHOLE_TEXT, name=NAMES, rubric=WHOLE_TEXT)
def test_any_unicode_in_a_vote_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, comment: str, name: str, rubric: str
) -> None:
    store = shared_store(tmp_path_factory)
    set_id = set_of(store, 1)
    vote = Vote(set_id, "p0", name, "A", "B", rubrics=(rubric,), comment=comment)
    store.put_vote(vote)
    assert store.votes(set_id, annotator=name) == [vote]


_shared: list[Store] = []


def shared_store(folders: pytest.TempPathFactory) -> Store:
    """One store for all examples of hypothesis."""
    if not _shared:
        _shared.append(Store(url_of(folders.mktemp("shared"))))
    return _shared[0]


# Jobs


def test_a_job_goes_through_its_states(store: Store) -> None:
    id = store.add_job("judge", {"model": "nano", "n": [1, None]})
    queued = store.job(id)
    assert queued is not None
    assert (queued.kind, queued.state, queued.spec) == ("judge", "queued", {"model": "nano", "n": [1, None]})
    assert (queued.progress, queued.error, queued.result, queued.started) == ({}, "", {}, None)
    now = datetime.now(UTC)
    assert store.update_job(id, only_if=["queued"], state="running", started=now)
    assert not store.update_job(id, only_if=["queued"], state="running")
    assert store.update_job(id, progress={"done": 3})
    assert store.update_job(id, only_if=("running", "queued"), state="failed", error="half \ud800", result={"x": 1})
    done = store.job(id)
    assert done is not None
    assert (done.state, done.progress, done.error, done.result) == ("failed", {"done": 3}, "half ?", {"x": 1})
    assert done.started == now
    assert store.job("nobody") is None
    assert not store.update_job("nobody", state="done")


def test_jobs_are_listed_oldest_first_by_state(store: Store) -> None:
    ids = [store.add_job("judge", {}) for _ in range(3)]
    store.update_job(ids[1], state="done")
    assert [one.id for one in store.jobs()] == ids
    assert [one.id for one in store.jobs(states=["queued"])] == [ids[0], ids[2]]
    assert [one.id for one in store.jobs(limit=1)] == ids[:1]
    assert [one.id for one in store.jobs(limit=1, newest_first=True)] == ids[2:]
    assert store.jobs(states=["done", "failed"])[0].id == ids[1]


@pytest.mark.parametrize("changes", [{}, {"kind": "x"}, {"state": "lost"}, {"state": None}])
def test_a_job_takes_no_other_change(store: Store, changes: dict[str, Any]) -> None:
    id = store.add_job("judge", {})
    with pytest.raises(ConfigError):
        store.update_job(id, **changes)
    with pytest.raises(ConfigError, match="'lost' is none of"):
        store.update_job(id, only_if=["lost"], state="done")


def test_a_job_is_started_by_one_of_many_threads(store: Store) -> None:
    ids = [store.add_job("judge", {}) for _ in range(20)]
    with ThreadPoolExecutor(8) as pool:
        started = list(
            pool.map(lambda id: store.update_job(id, only_if=["queued"], state="running"), [*ids, *ids, *ids, *ids])
        )
    assert sum(started) == len(ids)


# Votes


def test_a_set_keeps_its_pairs_in_order(store: Store) -> None:
    pairs = [VotePair("second", 9, SAMPLE, "A", 0.75, "j1"), VotePair("first", 3, {**SAMPLE, "x": "\ud800"})]
    set_id = store.add_vote_set("sums", "/data/\udcff.jsonl", pairs)
    other = set_of(store, 1)
    assert [one.id for one in store.vote_sets()] == [other, set_id]
    found = store.vote_set(set_id)
    assert found is not None
    assert (found.name, found.source, found.count, found.created.tzinfo) == ("sums", "/data/?.jsonl", 2, UTC)
    assert store.pairs(set_id) == [
        VotePair("second", 0, SAMPLE, "A", 0.75, "j1"),
        VotePair("first", 1, {**SAMPLE, "x": "\ud800"}),
    ]
    assert store.pair_ids(set_id) == ["second", "first"]
    assert store.pair(set_id, "first") == store.pairs(set_id)[1]
    assert store.pair(set_id, "none") is store.vote_set("none") is None
    assert store.pairs("none") == []
    store.set_verdict(set_id, "first", "tie", 0.5, "j2")
    assert store.pairs(set_id)[1].verdict == "tie"
    assert (store.pairs(set_id)[1].probability_a, store.pairs(set_id)[1].judgment) == (0.5, "j2")
    assert store.pairs(other)[0].verdict is None


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [VotePair("p", 0, SAMPLE), VotePair("p", 1, SAMPLE)],
        [VotePair("", 0, SAMPLE)],
        [VotePair("p" * 65, 0, SAMPLE)],
        [VotePair("p", 0, SAMPLE, "C")],
        [VotePair("p", 0, SAMPLE, "A", 1.5)],
        [VotePair("good", 0, SAMPLE), VotePair("p", 0, {"x": float("nan")})],
    ],
)
def test_a_set_that_is_none_is_refused_as_a_whole(store: Store, pairs: list[VotePair]) -> None:
    with pytest.raises((ConfigError, SampleError)):
        store.add_vote_set("n", "s", pairs)
    assert store.vote_sets() == []


def test_a_later_vote_replaces_and_the_earlier_is_kept(store: Store) -> None:
    set_id = set_of(store)
    first = Vote(set_id, "p0", "Ann", "A", "B", 2, ("Clarity", "Tone"), "so\0so", 1.5)
    store.put_vote(first)
    store.put_vote(Vote(set_id, "p1", "Ann", "tie", "A"))
    store.put_vote(Vote(set_id, "p0", "Ben", "skip", "A"))
    second = Vote(set_id, "p0", "Ann", "both_bad", "B")
    store.put_vote(second)
    assert [(one.annotator, one.pair_id, one.choice) for one in store.votes(set_id)] == [
        ("Ann", "p1", "tie"),
        ("Ben", "p0", "skip"),
        ("Ann", "p0", "both_bad"),
    ]
    assert store.past_votes(set_id) == [first]
    assert store.past_votes(set_id, annotator="Ben") == []
    assert store.votes(set_id, annotator="Ann")[1] == second
    assert store.votes(set_id)[0].created is not None
    assert store.remove_vote(set_id, "p0", "Ann")
    assert not store.remove_vote(set_id, "p0", "Ann")
    assert store.past_votes(set_id) == [first, second]
    assert [one.annotator for one in store.votes(set_id)] == ["Ann", "Ben"]


@pytest.mark.parametrize(
    "change",
    [
        {"choice": "left"},
        {"left": "right"},
        {"strength": 0},
        {"strength": 6},
        {"strength": True},
        {"seconds": -1.0},
        {"seconds": float("nan")},
        {"seconds": float("inf")},
        {"annotator": ""},
        {"annotator": "n" * 65},
        {"annotator": "\ud800"},
        {"annotator": "a\0b"},
        {"comment": "\ud800"},
        {"rubrics": ("\udfff",)},
        {"pair_id": "none"},
        {"set_id": "none"},
    ],
)
def test_a_vote_that_cannot_be_is_refused(store: Store, change: dict[str, Any]) -> None:
    set_id = set_of(store)
    given: dict[str, Any] = {
        "set_id": set_id,
        "pair_id": "p0",
        "annotator": "Ann",
        "choice": "A",
        "left": "A",
        **change,
    }
    with pytest.raises((ConfigError, SampleError)):
        store.put_vote(Vote(**given))
    assert store.votes(set_id) == []


def test_a_verdict_needs_its_pair(store: Store) -> None:
    with pytest.raises(ConfigError, match="no pair 'p9'"):
        store.set_verdict(set_of(store), "p9", "A", None)


def test_twenty_threads_at_once_lose_nothing(store: Store) -> None:
    set_id = set_of(store, 10)
    names = [f"person {i}" for i in range(20)]
    ready = threading.Barrier(len(names))

    def vote(name: str) -> None:
        ready.wait()
        for i in range(10):
            for choice in ("B", "A"):
                store.put_vote(Vote(set_id, f"p{i}", name, choice, "A", comment=f"{name} {i}"))  # type: ignore[arg-type]
            store.votes(set_id, annotator=name)

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(vote, names))
    votes = store.votes(set_id)
    assert len(votes) == len(store.past_votes(set_id)) == 200
    assert {(one.annotator, one.pair_id, one.comment) for one in votes} == {
        (name, f"p{i}", f"{name} {i}") for name in names for i in range(10)
    }
    assert {one.choice for one in votes} == {"A"}


def test_the_same_vote_from_many_threads_is_one_vote(store: Store) -> None:
    set_id = set_of(store, 1)
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: store.put_vote(Vote(set_id, "p0", "Ann", "A", "A")), range(40)))
    assert len(store.votes(set_id)) == 1
    assert len(store.past_votes(set_id)) == 39


WRITER = """
import sys, threading
from omnirm.app.store.store import Store, Vote
store, set_id = Store(sys.argv[1]), sys.argv[2]
said = threading.Lock()
def work(name):
    for round in range(100000):
        for i in range(50):
            store.put_vote(Vote(set_id, f"p{i}", name, "A", "B", comment=str(round)))
            with said:
                print(name, i, round, flush=True)
threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
[one.start() for one in threads]
"""


@pytest.mark.parametrize("lines", [1, 37, 230])
def test_what_was_stored_survives_a_killed_process(store: Store, tmp_path: Path, lines: int) -> None:
    set_id = set_of(store, 50)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, url_of(tmp_path), set_id], stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert writer.stdout is not None
    told = [writer.stdout.readline() for _ in range(lines)]
    os.kill(writer.pid, signal.SIGKILL)
    told += [line for line in writer.stdout if line.endswith("\n")]
    writer.stdout.close()
    assert writer.wait() == -signal.SIGKILL
    stored = {(one.annotator, one.pair_id): int(one.comment) for one in store.votes(set_id)}
    past = {(one.annotator, one.pair_id, int(one.comment)) for one in store.past_votes(set_id)}
    for line in told:
        name, pair, number = line.split()
        key = (name, f"p{pair}")
        assert stored[key] == int(number) or (*key, int(number)) in past
    with sqlite3.connect(tmp_path / "omnirm.db") as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    raw.close()
    store.put_vote(Vote(set_id, "p0", "after", "B", "A"))  # nobody holds a lock


# The database


def test_a_store_finds_everything_when_it_is_opened_again(tmp_path: Path) -> None:
    first = Store(url_of(tmp_path / "made" / "on the way"))
    set_id, id = set_of(first), first.add_judgment(RECORD, SAMPLE)
    first.put_vote(Vote(set_id, "p0", "Ann", "A", "B"))
    before = (first.pairs(set_id), first.votes(set_id), first.judgment(id), first.vote_sets())
    first.close()
    second = Store(url_of(tmp_path / "made" / "on the way"))
    assert (second.pairs(set_id), second.votes(set_id), second.judgment(id), second.vote_sets()) == before
    second.close()


def test_sqlite_writes_ahead_and_syncs(store: Store, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "omnirm.db") as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    raw.close()
    with store._database.read() as connection:
        for name, value in (("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 30_000)):
            assert connection.exec_driver_sql(f"PRAGMA {name}").scalar() == value


def test_the_migrations_make_the_tables_that_the_code_uses(store: Store, tmp_path: Path) -> None:
    engine = create_engine(url_of(tmp_path))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_many_that_open_a_new_database_at_once_all_get_it(tmp_path: Path) -> None:
    code = (
        "from sys import argv; from omnirm.app.store.store import Store; "
        "s = Store(argv[1]); s.add_job('judge', {}); s.close()"
    )
    others = [subprocess.Popen([sys.executable, "-c", code, url_of(tmp_path)]) for _ in range(3)]
    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(lambda _: Store(url_of(tmp_path)), range(6)))
    assert [one.wait() for one in others] == [0, 0, 0]
    assert len(stores[0].jobs()) == 3
    for one in stores:
        one.close()


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    Store(url_of(tmp_path)).close()
    with sqlite3.connect(tmp_path / "omnirm.db") as raw:
        raw.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    raw.close()
    before = (tmp_path / "omnirm.db").read_bytes()
    with pytest.raises(ConfigError, match="has version 9999, which this omnirm does not know; use a newer omnirm"):
        Store(url_of(tmp_path))
    assert (tmp_path / "omnirm.db").read_bytes() == before


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "not a URL"),
        ("omnirm.db", "not a URL"),
        ("/data/omnirm.db", "not a URL"),
        ("sqlite://", "name a file"),
        ("sqlite:///:memory:", "name a file"),
        ("sqlite:///file:x?mode=memory&uri=true", "name a file"),
        ("nonsense://host/name", "no database is called 'nonsense'"),
        ("postgresql+nonsense://host/name", "no database is called"),
        ("sqlite:////proc/nothing/omnirm.db", "its folder cannot be made"),
        ("postgresql://host:port/name", "not a URL"),
    ],
)
def test_a_url_that_is_none_says_what_to_write(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Store(url)


def test_no_message_has_the_password(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        Store("mysql+nonsense://ann:secret@host/name")
    assert "secret" not in str(refused.value)


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "omnirm.db").write_bytes(b"my thesis\n" * 1000)
    with pytest.raises(ConfigError, match="file is not a database"):
        Store(url_of(tmp_path))
    assert (tmp_path / "omnirm.db").read_bytes() == b"my thesis\n" * 1000


def test_a_database_that_fails_later_is_a_clean_error(store: Store, tmp_path: Path) -> None:
    set_id = set_of(store)
    with sqlite3.connect(tmp_path / "omnirm.db") as raw:
        raw.execute("DROP TABLE votes")
    raw.close()
    with pytest.raises(StoreError, match="no such table: votes") as failed:
        store.put_vote(Vote(set_id, "p0", "Ann", "A", "B", comment="private"))
    assert isinstance(failed.value, OmnirmError)
    assert "private" not in str(failed.value)
