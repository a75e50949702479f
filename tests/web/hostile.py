"""Stored things in which every free text is a payload: samples, a finished run, judgments, a vote set with a verdict.

For `test_nothing_executes.py`. The records are real ones, made by the judge from scripted answers, whose free texts are
then replaced; they still read back as what they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

from scripted_rubrics import model, pair, revise, says, writes
from web.payloads import FILE_NAMES, PAYLOADS, batches

from omnirm.app.scaling import ScalingOptions, scaled_judge
from omnirm.app.service import JudgeOptions, make_judge
from omnirm.app.store.store import Store
from omnirm.backends.scripted import ScriptedBackend, prompt_text
from omnirm.judgment import Judgment, PointJudgment
from omnirm.rubrics.trajectory import ScaledJudgment
from omnirm.runs import RunFolder
from omnirm.scorers.load import load_scorer
from omnirm.types import Request

#: fields of records and samples that hold what a model, a candidate or a user wrote
FREE = frozenset(
    {"text", "name", "analysis", "analysis_a", "analysis_b", "detail", "prefill", "nonce", "planner", "disrm"}
    | {"refiner", "revision", "fallback", "source", "library_version", "failure"}
)
RUNS = (FILE_NAMES["image"], FILE_NAMES["template literal"])  # names of run folders
LISTS = frozenset({"comments", "refined"})


def filled(value: Any, texts: Iterator[str], key: str = "") -> Any:
    """The record with the next payload in each of its free texts."""
    if isinstance(value, dict):
        return {name: filled(one, texts, name) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [filled(one, texts, key) for one in value]
    return next(texts) if isinstance(value, str) and key in FREE | LISTS else value


def samples(size: int = 4) -> list[dict[str, Any]]:
    """Samples whose prompt, candidates, names, rubrics and metadata hold all payloads."""
    short = cycle(PAYLOADS.values())
    return [
        {
            "id": f"{i} {next(short)}",
            "prompt": f"prompt {text}",
            "candidates": [
                {"name": next(short), "content": f"A {text}"},
                {"name": next(short), "content": f"B {text}"},
            ],
            "label": i % 2,
            "rubrics": [{"name": next(short), "text": next(short)}],
            "metadata": {"family": next(short), next(short): next(short), "modality": next(short)},
        }
        for i, text in enumerate(batches(size))
    ]


def records() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """A record of each kind with its sample: of a pair, of an unread one, of responses one by one, a scaled one."""
    texts, shown = cycle([one.replace("\n", " ") for one in batches(3)]), cycle(samples())
    found = []
    for one in _real():
        sample = next(shown)
        record = {**filled(one.to_dict(), texts), "sample_id": sample["id"]}
        record["model"] = {"name": next(texts), "revision": next(texts)} if "model" in record else None
        record = {key: value for key, value in record.items() if value is not None or key in one.to_dict()}
        type(one).from_dict(record)  # still a record
        found.append((record, sample))
    return found


def _real() -> list[Judgment | PointJudgment | ScaledJudgment]:
    judging = JudgeOptions(format="pairwise-thinking")
    answers = says({"": "A", "Own": "A", "Truth": "A", "Tone": "B"})
    backend = model(judge=answers, planning=writes("Truth: is it so?", "Tone: is it kind?"), refinement=revise)
    both = pair("first response", "second response")
    meta = ScalingOptions("meta", rubrics=2, disrm="scripted:length")
    return [
        *make_judge(backend, judging).compare([both]),
        *make_judge(ScriptedBackend(lambda request: "no verdict"), judging).compare([both]),
        *make_judge(ScriptedBackend(_points), JudgeOptions()).score([both], "rubric"),
        *scaled_judge(make_judge(backend, judging), meta, scorer=load_scorer("scripted:length")).compare([both]),
    ]


def _points(request: Request) -> str:
    """A judge's analysis and scores of one response."""
    key = re.search(r"^# (\S+) response$", prompt_text(request), re.MULTILINE)
    assert key is not None
    said = "hm</think>\n<rubrics>1. Truth: is it so?</rubrics>\n<evaluation>It is.</evaluation>\n"
    return f"{said}Score {key[1]} 1: [[7]]\nTotal {key[1]}: [[7]]"


def stock(data: Path, runs: Path) -> dict[str, str]:
    """Fills a data folder and a folder of runs; gives back the ids of the stored judgments by kind."""
    data.mkdir(parents=True)
    found, ids = records(), {}
    store = Store(f"sqlite:///{data / 'omnirm.db'}")
    for record, sample in found:
        title = next(iter(PAYLOADS.values()))
        ids.setdefault(record["kind"], store.add_judgment(record, sample, title=title, task={}))
        if record["kind"] == "pairwise" and record["verdict"] is None:
            ids["unread"] = store.add_judgment(record, sample, title=title, task={})
    store.close()
    for name in RUNS:
        with RunFolder(runs / name, {"model": PAYLOADS["script"], "samples": PAYLOADS["out of double quotes"]}) as run:
            for record, sample in found:
                if record["kind"] == "pairwise":
                    run.append("judgments", record)
                    run.append("samples", sample)
            run.finish()
    return ids
