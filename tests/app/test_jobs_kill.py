"""A server that is killed with SIGKILL in the middle of a long job: the next one goes on, and nothing is done twice.

Run as a program (`python test_jobs_kill.py FOLDER MODEL`) it is that server: it begins the job and says how far it is.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from omnirm.app.jobs.jobs import JobService
from omnirm.app.jobs.tasks import JudgeHandler, JudgeTask
from omnirm.app.models import Models
from omnirm.app.scaling import ScalingOptions
from omnirm.app.service import ModelOptions
from omnirm.app.store.store import Store
from omnirm.backends import scripted
from omnirm.backends.scripted import ScriptedBackend, toss
from omnirm.rubrics.trajectory import ScaledJudgment
from omnirm.types import Rubric

RUBRICS = ["Correctness", "Brevity", "Tone", "Format", "Facts", "Style", "Colour", "Depth", "Order", "Spelling"]
CALLS = 2 * len(RUBRICS)
SLOW = "scripted:slow"


def task(model: str) -> JudgeTask:
    haiku = {"id": "haiku", "prompt": "Write a haiku about spring.", "candidates": ["Petals fall,\nfrogs sing.", "Ah."]}
    given = tuple(Rubric(name) for name in RUBRICS)
    return JudgeTask(haiku, model=model, scaling=ScalingOptions("vote", given=given))


def slow() -> ScriptedBackend:
    """Takes a while, and says something else to every question."""

    def answer(request):
        time.sleep(0.05)
        return toss()(request)

    return ScriptedBackend(answer, name=SLOW)


@contextmanager
def serving(folder: Path, models: Models) -> Iterator[tuple[Store, JobService]]:
    store = Store(f"sqlite:///{folder / 'omnirm.db'}")
    jobs = JobService(store, folder / "jobs", {"judge": JudgeHandler(models, store)})
    jobs.start()
    try:
        yield store, jobs
    finally:
        jobs.stop()
        store.close()


class Counted:
    """A model, with its calls counted."""

    def __init__(self, model: str) -> None:
        self.models, self.calls = Models([ModelOptions(model)]), 0
        inner: Any = self.models.backend(model)
        generate = inner.generate

        def counted(requests):
            self.calls += len(requests)
            return generate(requests)

        inner.generate = counted


@pytest.mark.parametrize("model", [SLOW, pytest.param("nano", marks=pytest.mark.slow)])  # loads nano twice
def test_a_killed_job_goes_on_and_repeats_no_finished_call(tmp_path, monkeypatch, model):
    monkeypatch.setitem(scripted.NAMED, "slow", slow)
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    killed.mkdir()
    undisturbed.mkdir()
    with subprocess.Popen([sys.executable, __file__, str(killed), model], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        seen = [json.loads(line) for line in iter(server.stdout.readline, "") if killed_in_time(server, line)]
    assert server.returncode == -signal.SIGKILL
    assert seen, "the job was over before it could be killed"

    (folder,) = (one for one in (killed / "jobs").iterdir() if one.is_dir())
    before = (folder / "calls.jsonl").read_bytes().splitlines()
    assert 8 <= len(before) < CALLS

    counted = Counted(model)
    with serving(killed, counted.models) as (store, jobs):
        last = jobs.wait(folder.name, 300)
        assert (last.state, last.error) == ("done", "")
        resumed = store.judgment(last.result["judgment"])
        assert [one.id for one in store.judgments()] == [resumed.id]
    after = (folder / "calls.jsonl").read_bytes().splitlines()
    assert counted.calls == CALLS - len(before)
    assert len(after) == CALLS
    assert after[: len(before)] == before
    assert len({json.loads(line)["key"] for line in after}) == CALLS

    with serving(undisturbed, counted.models) as (store, jobs):
        last = jobs.wait(jobs.submit("judge", task(model).to_dict()), 300)
        assert last.state == "done", last.error
        whole = store.judgment(last.result["judgment"])
    assert resumed.record == whole.record
    assert [t.name for t in ScaledJudgment.from_dict(resumed.record).trajectories] == RUBRICS


def killed_in_time(server: subprocess.Popen, line: str) -> bool:
    """Kills the server in the third part of the calls, when two are finished; was this such a line?"""
    if not re.match(r"rubrics [57]", json.loads(line)["detail"]):
        return False
    server.send_signal(signal.SIGKILL)
    return True


def main(folder: Path, model: str) -> None:
    scripted.NAMED["slow"] = slow
    with serving(folder, Models([ModelOptions(model)])) as (_, jobs):
        for status in jobs.watch(jobs.submit("judge", task(model).to_dict()), every=0.02):
            sys.stdout.write(json.dumps({"done": status.progress.done, "detail": status.progress.detail}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
