"""Everything behind the web app, put together: models, media, database, jobs, votes and runs. For the tabs, the API and
`omnirm serve`; none of it knows a widget.

    with open_studio(StudioSettings(data=Path("omnirm-data"))) as studio:
        job = studio.jobs.submit("judge", task.to_dict())
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from omnirm.app.jobs.jobs import Handler, JobService
from omnirm.app.jobs.tasks import JudgeHandler, JudgeSetHandler
from omnirm.app.media_store import MediaStore, UploadLimits
from omnirm.app.models import Models
from omnirm.app.runs.runs import Runs
from omnirm.app.service import ModelOptions, media_policy
from omnirm.app.store.store import Store
from omnirm.app.votes.voting import Voting
from omnirm.errors import ConfigError


@dataclass(frozen=True, slots=True)
class StudioSettings:
    """What a server offers and where it keeps things.

    data: folder of the database, media and jobs; made where it is not there. database: any SQLAlchemy URL, "" for
    SQLite in the data folder. models, disrms: those that can be chosen; the first is chosen already. media_roots:
    folders from which media of sample files may be taken in, besides the file's own. runs: folders below which run
    folders are looked for. pairs: sample files, folders or finished runs to vote on. workers: jobs at a time.
    """

    data: Path
    models: tuple[ModelOptions, ...] = (ModelOptions(),)
    disrms: tuple[str, ...] = ("nano",)
    database: str = ""
    media_roots: tuple[Path, ...] = ()
    runs: tuple[Path, ...] = ()
    pairs: tuple[Path, ...] = ()
    allow_remote: bool = False
    limits: UploadLimits = field(default_factory=UploadLimits)
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Studio:
    """The parts. notes: what was noticed at the start, a sentence each (rows of a vote set that could not be read)."""

    settings: StudioSettings
    store: Store
    media: MediaStore
    models: Models
    jobs: JobService
    votes: Voting
    runs: Runs
    notes: tuple[str, ...] = ()


@contextmanager
def open_studio(settings: StudioSettings) -> Iterator[Studio]:
    """The parts with jobs running; at the end jobs stop (and go on at the next start) and the database is closed.

    Raises:
        ConfigError: another process works on the data folder, a database that cannot be used, or a set of pairs that
            is none.
        OSError: the data folder cannot be made or written.
    """
    if not settings.models:
        raise ConfigError("no model: give at least one")
    data = settings.data.resolve()
    data.mkdir(parents=True, exist_ok=True)
    media_folder = data / "media"
    opening = replace(settings.models[0], media_roots=(), allow_remote=settings.allow_remote)
    media = MediaStore(media_folder, policy=media_policy(opening), limits=settings.limits)
    # models read what lies in the media store, and nothing else
    offered = tuple(replace(model, media_roots=(media_folder,), allow_remote=False) for model in settings.models)
    with ExitStack() as stack:
        store = Store(settings.database or f"sqlite:///{data / 'omnirm.db'}")
        stack.callback(store.close)
        models = Models(offered, disrms=settings.disrms)
        votes = Voting(store, media)
        notes = _imported(votes, settings)
        handlers: dict[str, Handler] = {
            "judge": JudgeHandler(models, store, keep_runs=False),  # the stored judgment has every call
            "judge-set": JudgeSetHandler(models, store),
        }
        jobs = JobService(store, data / "jobs", handlers, workers=settings.workers)
        jobs.start()
        stack.callback(jobs.stop)
        roots = (*settings.runs, data / "jobs")
        yield Studio(
            replace(settings, data=data), store, media, models, jobs, votes, Runs(roots, store, media_folder), notes
        )


def _imported(votes: Voting, settings: StudioSettings) -> tuple[str, ...]:
    """Takes in the sets to vote on that are not there yet."""
    known = {one.source for one in votes.sets()}
    notes: list[str] = []
    for source in settings.pairs:
        path = source.resolve()
        if str(path) in known:
            continue
        folder = path if path.is_dir() else path.parent
        report = votes.import_set(path, roots=(folder, *settings.media_roots))
        notes += [f"{source}: {problem}" for problem in report.problems]
    return tuple(notes)
