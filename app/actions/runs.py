"""Stored runs from a program: the list, the rows of one, two compared sample by sample.

Beside `judging.py`, which says how these functions are meant. A run is named by the id that `runs` gives; no
path is ever taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from omnirm.app.plain_values import plain, sample_shown
from omnirm.app.runs.values import Orders, Result, RowFilters, Sort
from omnirm.app.studio import Studio  # not for types alone: the signatures are read when the app starts
from omnirm.errors import ConfigError

if TYPE_CHECKING:
    from omnirm.app.runs.values import RunInfo, RunRow

Run = Annotated[str, "id of a run, see `runs`; `app` has the judgments made in the app"]
_MOST_ROWS = 200
_MOST_DIFFERING = 1000
_ABOUT = ("id", "title", "model", "strategy", "state", "written", "rows", "labelled", "judged", "accuracy", "coverage",
          "problems")  # fmt: skip


def runs(studio: Studio) -> dict[str, Any]:
    """Every stored run with its size, and accuracy and coverage with intervals of 95 % where there are labels."""
    return {"runs": [_info(one) for one in studio.runs.list()]}


def run_summary(studio: Studio, run: Run) -> dict[str, Any]:
    """The figures of a run: accuracy, coverage, agreement of the two orders, by modality, calibration, tokens."""
    summary = plain(studio.runs.summary(run))
    summary.pop("tokens_by_row", None)  # as long as the run
    return {**_info(studio.runs.info(run)), "summary": summary}


def run_rows(
    studio: Studio,
    run: Run,
    offset: Annotated[int, "rows to leave out at the beginning"] = 0,
    limit: Annotated[int, "rows to give, 1 to 200"] = 20,
    result: Annotated[Result, "right and wrong need a label; unread rows have no verdict"] = "all",
    orders: Annotated[Orders, "did the readings in both orders agree?"] = "all",
    verdict: Annotated[str, "A, B or tie; empty for any"] = "",
    modality: Annotated[Literal["", "text", "image", "video", "audio"], "one that the sample has; empty for any"] = "",
    text: Annotated[str, "what occurs in the id, the sample or what the judge wrote"] = "",
    sort: Annotated[Sort, "by the order in the run, or by confidence"] = "as judged",
    full: Annotated[bool, "each row's whole record too"] = False,
) -> dict[str, Any]:
    """The rows of a run that pass the filters, with their samples and verdicts."""
    if not 1 <= limit <= _MOST_ROWS:
        raise ConfigError(f"limit {limit}: give 1 to {_MOST_ROWS}")
    filters = RowFilters(result=result, orders=orders, verdict=verdict, modality=modality, text=text, sort=sort)
    page = studio.runs.rows(run, filters=filters, offset=offset, limit=limit)
    return {
        "run": run,
        "total": page.total,
        "offset": page.offset,
        "rows": [_row(studio, one, full) for one in page.rows],
    }


def compare_runs(studio: Studio, run_a: Run, run_b: Run) -> dict[str, Any]:
    """Two runs on the samples that both judged: who was right where, whether that may be chance, where they differ."""
    found = plain(studio.runs.compare(run_a, run_b))
    found["differing"], left_out = found["differing"][:_MOST_DIFFERING], found["differing"][_MOST_DIFFERING:]
    return {"run_a": run_a, "run_b": run_b, **found, "differing_left_out": len(left_out)}


def _info(info: RunInfo) -> dict[str, Any]:
    return {"run": info.id, **{key: plain(getattr(info, key)) for key in _ABOUT if key != "id"}}


def _row(studio: Studio, row: RunRow, full: bool) -> dict[str, Any]:
    answer: Mapping[str, Any] = plain(row)
    rest = {key: value for key, value in answer.items() if key not in ("sample", "record", "permalink")}
    rest |= {"judgment": row.permalink, "sample": sample_shown(row.sample, studio.media.folder)}
    return rest | {"record": answer["record"]} if full else rest
