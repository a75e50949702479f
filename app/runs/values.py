"""What is asked of stored runs and what comes back: plain frozen values, for `runs`, the Runs tab and the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from omnirm.app.runs.statistics import Share
from omnirm.errors import ConfigError

IN_APP = "app"  # the id of the judgments made in the app
Result = Literal["all", "right", "wrong", "unread", "read", "unlabelled"]
Orders = Literal["all", "agree", "disagree"]
Sort = Literal["as judged", "most confident", "least confident"]
RESULTS, ORDERS, SORTS = get_args(Result), get_args(Orders), get_args(Sort)


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run in a list.

    id: what the other methods take. settings: as `run.json` has them. state: `running`, `broken off` or `at rest`.
    rows, labelled, judged: None where they have not been counted yet (a later listing goes on counting).
    accuracy: of the labelled rows, unread ones counting as wrong. coverage: rows with a verdict.
    written: when the folder was last written, in UTC. problems: what could not be read, a sentence each.
    """

    id: str
    title: str
    model: str = ""
    strategy: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    state: str = "at rest"
    written: datetime | None = None
    rows: int | None = None
    labelled: int | None = None
    judged: int | None = None
    accuracy: Share | None = None
    coverage: Share | None = None
    problems: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Is nobody writing to it, and did it not break off?"""
        return self.state == "at rest"


@dataclass(frozen=True, slots=True)
class RowFilters:
    """Which rows, and in which order.

    result: `right` and `wrong` need a label and a verdict; `unread` has no verdict. orders: did readings in both orders
    agree? verdict: `A`, `B`, `tie`, ...; "" for any. modality: one that the sample has. text: occurs in the id, the
    sample or what the judge wrote. Rows without a confidence come last when sorted by it.
    """

    result: Result = "all"
    orders: Orders = "all"
    verdict: str = ""
    modality: str = ""
    text: str = ""
    sort: Sort = "as judged"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("result", self.result, RESULTS), ("orders", self.orders, ORDERS), ("sort", self.sort, SORTS),
        ):  # fmt: skip
            if value not in known:
                raise ConfigError(f"{name} {value!r}: give one of {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class RunRow:
    """One judgment of a run.

    number: in the run, from 0; position: among the rows that pass the filters, from 0.
    reasons: why there is no verdict, or why single readings have none. sample: in its file form, None where the run
    keeps none. permalink: the id of a judgment of the app, else "". problem: why the record could not be read, else "".
    """

    number: int
    position: int
    sample_id: str
    verdict: str | None
    label: str | None
    correct: bool | None
    confidence: float | None
    modalities: tuple[str, ...]
    orders_agree: bool | None
    reasons: tuple[str, ...]
    sample: dict[str, Any] | None
    record: dict[str, Any]
    title: str = ""
    permalink: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the rows that pass the filters: `total` of them are there, `rows` are those from `offset` on."""

    total: int
    offset: int
    rows: tuple[RunRow, ...]
