"""What stored runs and judgments say: every run folder below some roots, and the judgments made in the app.

For the Runs tab and the API. Rows are numbered in their run from 0; a run of any length is listed by pages, read from a
few facts of each row that are remembered while its file stays as it is (`run_reading`).

    runs = Runs([Path("runs")], store)
    page = runs.rows("runs/first", filters=RowFilters(result="wrong", sort="least confident"), limit=50)
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnirm.app.runs.facts import RowFacts, reasons_of
from omnirm.app.runs.folders import Folder, find
from omnirm.app.runs.reading import Reader
from omnirm.app.runs.sources import FolderSource, Source, StoredFacts, StoreSource
from omnirm.app.runs.statistics import Comparison, RunSummary, compare, share, summarise
from omnirm.app.runs.values import IN_APP, ORDERS, RESULTS, SORTS, Page, RowFilters, RunInfo, RunRow
from omnirm.errors import ConfigError, SampleError

if TYPE_CHECKING:
    from omnirm.app.store.store import Store

_PATIENCE_S = 2.0  # for counting runs that were not read before, in one listing
_FOUND_FOR_S = 2.0  # that a look through the roots holds
_SEARCHES = 16  # remembered


class Runs:
    """Reads runs; never writes. Threads may share one.

    Args:
        roots: folders below which run folders are looked for; a root may be one itself. Nothing outside is read.
        store: of the judgments made in the app; None for none.
        media_roots: kept for callers that show media; this class opens none.
    """

    def __init__(
        self, roots: Sequence[Path], store: Store | None = None, media_roots: Path | Sequence[Path] = ()
    ) -> None:
        self.roots = tuple(Path(one) for one in roots)
        self.media_roots = (media_roots,) if isinstance(media_roots, Path) else tuple(media_roots)
        self._store, self._stored, self._reader = store, StoredFacts(), Reader()
        self._found: tuple[float, dict[str, Folder]] = (float("-inf"), {})
        self._searched: OrderedDict[tuple[Any, ...], list[int]] = OrderedDict()
        self._guard = threading.Lock()

    def list(self, *, patience: float = _PATIENCE_S) -> list[RunInfo]:
        """All runs: the judgments made in the app, then the folders, the one written last first.

        Args:
            patience: seconds to spend on counting what was not read before; the rest is listed uncounted.
        """
        until = time.monotonic() + patience
        found = [] if self._store is None else [self._info_of_app()]
        for folder in self._folders(renew=True).values():
            found.append(self._info(folder, count=time.monotonic() < until or self._reader.is_known(folder.judgments)))
        return found

    def info(self, run_id: str) -> RunInfo:
        """One run, counted. Raises `ConfigError` for an id that `list` does not give."""
        if run_id == IN_APP and self._store is not None:
            return self._info_of_app()
        return self._info(self._folder(run_id), count=True)

    def summary(self, run_id: str) -> RunSummary:
        """The figures of a run. Raises `ConfigError` for an id that `list` does not give."""
        source = self._source(run_id)
        facts = source.facts
        return summarise(facts, [source.modalities(number) for number in range(len(facts))])

    def rows(self, run_id: str, *, filters: RowFilters | None = None, offset: int = 0, limit: int = 50) -> Page:
        """Rows that pass the filters, with their records and samples.

        Args:
            run_id: as `list` gives it.
            filters: by default all rows as they were judged.
            offset, limit: which of them; a negative offset counts as 0, the limit is 1 to 1000.

        Raises:
            ConfigError: no such run, or a limit out of range.
        """
        if not 1 <= limit <= 1000:
            raise ConfigError(f"limit {limit}: give 1 to 1000")
        source, start = self._source(run_id), max(0, offset)
        numbers = self._filtered(run_id, source, filters or RowFilters())
        chosen = enumerate(numbers[start : start + limit], start=start)
        return Page(len(numbers), start, tuple(_row(source, number, position) for position, number in chosen))

    def row(self, run_id: str, number: int) -> RunRow:
        """One row. Raises `ConfigError` for a run or number that is not there."""
        source = self._source(run_id)
        if not 0 <= number < len(source.facts):
            raise ConfigError(f"run {run_id} has no row {number}: it has {len(source.facts)}, counted from 0")
        return _row(source, number, number)

    def compare(self, run_a: str, run_b: str) -> Comparison:
        """Two runs on the samples that both have, matched by id.

        Raises:
            ConfigError: an id that `list` does not give, twice the same, or the judgments made in the app, which are no
                judgments of one set of samples.
        """
        if IN_APP in (run_a, run_b):
            raise ConfigError("the judgments made in the app share no set of samples with a run: choose two runs")
        if run_a == run_b:
            raise ConfigError("both are the same run: choose two")
        a, b = self._source(run_a), self._source(run_b)
        return compare(a.facts, b.facts, a.text_hashes(), b.text_hashes())

    def folder(self, run_id: str) -> Path | None:
        """The folder of a run; None for the judgments made in the app. Raises `ConfigError` for no run's id."""
        return None if run_id == IN_APP and self._store is not None else self._folder(run_id).path

    # -- finding

    def _folders(self, *, renew: bool = False) -> dict[str, Folder]:
        looked, found = self._found
        if renew or time.monotonic() - looked > _FOUND_FOR_S:
            found = {id: one for id, one in find(self.roots).items() if not self._is_single_job(one)}
            self._found = time.monotonic(), found
        return found

    def _is_single_job(self, folder: Folder) -> bool:
        """Is it the work of one judgment made in the app, which is listed there already?"""
        if self._store is None or len(folder.path.name) > 64 or not folder.path.name.isascii():
            return False
        row = self._store.job(folder.path.name)
        return row is not None and row.kind == "judge"

    def _folder(self, run_id: str) -> Folder:
        found = self._folders().get(run_id) or self._folders(renew=True).get(run_id)
        if found is None:
            raise ConfigError(f"no run {run_id!r} here: choose one of the list")
        return found

    def _source(self, run_id: str) -> Source:
        if run_id == IN_APP and self._store is not None:
            return StoreSource(self._store, self._stored)
        return FolderSource(self._folder(run_id), self._reader)

    # -- describing

    def _info(self, folder: Folder, *, count: bool) -> RunInfo:
        settings = folder.settings
        scaling = settings.get("scaling")
        known: dict[str, Any] = {
            "id": folder.id, "title": folder.id, "model": _text(settings.get("model")),
            "strategy": _text(scaling.get("strategy")) if isinstance(scaling, Mapping) else "",
            "settings": settings, "versions": folder.versions, "state": folder.state,
            "written": datetime.fromtimestamp(folder.written, UTC),
        }  # fmt: skip
        if not count and folder.has_judgments:
            return RunInfo(**known, problems=(folder.problem,) if folder.problem else ())
        source = FolderSource(folder, self._reader)
        return RunInfo(**known, **_counted(source.facts), problems=tuple(source.problems))

    def _info_of_app(self) -> RunInfo:
        assert self._store is not None
        facts = StoreSource(self._store, self._stored).facts
        newest = self._store.judgments(limit=1)
        return RunInfo(
            IN_APP, "Judgments made in the app", written=newest[0].created if newest else None, **_counted(facts)
        )

    # -- choosing

    def _filtered(self, run_id: str, source: Source, filters: RowFilters) -> Sequence[int]:
        facts = source.facts
        numbers: Sequence[int] = range(len(facts))
        if text := filters.text.strip():
            numbers = self._search(run_id, source, text)
        keep = [number for number in numbers if _passes(facts[number], filters)]
        if filters.modality:
            keep = [number for number in keep if filters.modality in source.modalities(number)]
        if filters.sort != "as judged":
            sign = -1.0 if filters.sort == "most confident" else 1.0
            keep.sort(key=lambda n: (facts[n].confidence is None, sign * (facts[n].confidence or 0.0)))
        return keep

    def _search(self, run_id: str, source: Source, text: str) -> Sequence[int]:
        key = (run_id, text, source.version)
        with self._guard:
            known = self._searched.get(key)
        if known is None:
            known = source.matching(text)
            with self._guard:
                self._searched[key] = known
                while len(self._searched) > _SEARCHES:
                    self._searched.popitem(last=False)
        return known


def _passes(facts: RowFacts, filters: RowFilters) -> bool:
    if filters.verdict and facts.verdict != filters.verdict:
        return False
    disagrees = facts.agreeing < facts.in_both_orders
    if filters.orders != "all" and (not facts.in_both_orders or disagrees != (filters.orders == "disagree")):
        return False
    match filters.result:
        case "right" | "wrong":
            return facts.correct is (filters.result == "right")
        case "unread" | "read":
            return (facts.verdict is None) == (filters.result == "unread")
        case "unlabelled":
            return facts.label is None
    return True


def _row(source: Source, number: int, position: int) -> RunRow:
    facts, problem, record = source.facts[number], "", dict[str, Any]()
    try:
        record = source.record(number)
        reasons = reasons_of(record)
    except (SampleError, KeyError, TypeError, AttributeError) as error:
        reasons, problem = (), f"This judgment can no longer be read ({error})."
    return RunRow(
        number, position, facts.sample_id, facts.verdict, facts.label, facts.correct, facts.confidence,
        source.modalities(number), None if not facts.in_both_orders else facts.agreeing == facts.in_both_orders,
        reasons, source.sample(number), record, source.title(number), source.permalink(number), problem,
    )  # fmt: skip


def _counted(facts: Sequence[RowFacts]) -> dict[str, Any]:
    labelled = [one for one in facts if one.label is not None]
    judged = sum(one.verdict is not None for one in facts)
    return {
        "rows": len(facts), "labelled": len(labelled), "judged": judged,
        "accuracy": share(sum(one.correct is True for one in labelled), len(labelled)),
        "coverage": share(judged, len(facts)),
    }  # fmt: skip


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


__all__ = [
    "IN_APP",
    "ORDERS",
    "RESULTS",
    "SORTS",
    "Comparison",
    "Page",
    "RowFilters",
    "RunInfo",
    "RunRow",
    "RunSummary",
    "Runs",
]
