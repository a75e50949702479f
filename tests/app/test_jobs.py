"""The job service on a real store: order, progress, cancelling, failures, and every way in which a process can end."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from omnirm.app.jobs import jobs as jobs_module
from omnirm.app.jobs.jobs import Cancelled, JobService, Progress
from omnirm.app.store.database import StoreError
from omnirm.app.store.store import Store
from omnirm.errors import ConfigError, SampleError
from omnirm.preprocessing.types import MediaNotFound

SOON = 20.0  # seconds that nothing here takes


class Steps:
    """A handler whose jobs have `steps` parts; each waits until `more` is set (it is, at first)."""

    def __init__(self) -> None:
        self.more, self.done, self.begun = threading.Event(), [], threading.Semaphore(0)
        self.more.set()

    def __call__(self, context):
        kept = context.folder / "kept"
        first = int(kept.read_text()) if kept.exists() else 0
        for step in range(first, context.spec.get("steps", 1)):
            context.check()
            context.report(Progress("working", step, context.spec["steps"], f"step {step}", 10 * step, step, 30.0))
            self.begun.release()
            while not self.more.wait(0.01):
                context.check()
            self.done.append((context.spec.get("name", ""), step))
            kept.write_text(str(step + 1))
        return {"name": context.spec.get("name", "")}


@pytest.fixture
def store(tmp_path):
    with_store = Store(f"sqlite:///{tmp_path / 'o.db'}")
    yield with_store
    with_store.close()


@pytest.fixture
def steps():
    handler = Steps()
    yield handler
    handler.more.set()


@pytest.fixture
def make(store, tmp_path, steps):
    made = []

    def service(handlers=None, **options) -> JobService:
        one = JobService(store, tmp_path / "jobs", {"steps": steps, **(handlers or {})}, **options)
        made.append(one)
        return one

    yield service
    steps.more.set()
    for one in made:
        one.stop()


def begun(steps: Steps) -> None:
    assert steps.begun.acquire(timeout=SOON)


# -- order


def test_jobs_are_done_oldest_first_and_say_how_many_come_before(make, steps):
    service = make()
    ids = [service.submit("steps", {"name": name, "steps": 1}) for name in "abc"]
    assert [service.status(id).position for id in ids] == [0, 1, 2]
    steps.more.clear()
    service.start()
    begun(steps)
    first, second, third = (service.status(id) for id in ids)
    assert (first.state, first.position, first.started is not None) == ("running", None, True)
    assert [(one.state, one.position) for one in (second, third)] == [("queued", 0), ("queued", 1)]
    assert service.cancel(ids[1])
    assert service.status(ids[2]).position == 0
    steps.more.set()
    done = service.wait(ids[2], SOON)
    assert (done.state, done.result, done.over) == ("done", {"name": "c"}, True)
    assert [name for name, _ in steps.done] == ["a", "c"]
    assert done.created <= done.started <= done.finished
    assert [one.id for one in service.recent()] == ids[::-1]
    assert [one.id for one in service.recent(1)] == ids[2:]


def test_two_workers_do_two_jobs_at_once(make, steps):
    service = make(workers=2)
    steps.more.clear()
    service.start()
    ids = [service.submit("steps", {"name": name, "steps": 1}) for name in "abc"]
    begun(steps)
    begun(steps)
    assert [service.status(id).state for id in ids] == ["running", "running", "queued"]
    steps.more.set()
    assert {service.wait(id, SOON).state for id in ids} == {"done"}


def test_what_cannot_be_submitted(make):
    service = make(most_queued=2)
    with pytest.raises(ConfigError, match="kind of job 'nothing': give one of steps"):
        service.submit("nothing", {})
    with pytest.raises(SampleError, match="not JSON"):
        service.submit("steps", {"steps": Path()})
    for _ in range(2):
        service.submit("steps", {"steps": 1})
    with pytest.raises(ConfigError, match="2 jobs are waiting"):
        service.submit("steps", {"steps": 1})
    for ask in (service.status, service.cancel, service.wait, lambda id: next(service.watch(id))):
        with pytest.raises(ConfigError, match="job 'x': there is none"):
            ask("x")
    with pytest.raises(ConfigError, match="workers 0"):
        make(workers=0)


# -- watching


def test_a_watcher_sees_every_stage_and_the_end(make, steps):
    service = make()
    id = service.submit("steps", {"steps": 3})
    watched = service.watch(id, every=0.01)
    assert next(watched).state == "queued"
    steps.more.clear()
    service.start()
    begun(steps)
    seen = next(one for one in watched if one.progress.step)
    assert (seen.state, seen.progress.detail, seen.progress.total) == ("running", "step 0", 3)
    steps.more.set()
    states = list(watched)
    assert states[-1].state == "done"
    assert states[-1].progress.prompt_tokens == 20
    assert states[-1].progress.eta_s is None


def test_a_watcher_hears_at_least_every_two_seconds_and_the_time_left_runs_down(make, steps):
    service = make()
    id = service.submit("steps", {"steps": 1})
    steps.more.clear()
    service.start()
    begun(steps)
    began, seen = time.monotonic(), []
    for status in service.watch(id, every=0.05):
        seen.append(status.progress.eta_s)
        if time.monotonic() - began > 2.5:
            break
    assert len(seen) >= 3
    assert seen == sorted(seen, reverse=True)
    assert 30 >= seen[0] > seen[-1] >= 20


def test_statuses_come_no_faster_than_asked(make):
    service = make()

    def busy(context):
        for step in range(200):
            context.report(Progress("working", step, 200))
            time.sleep(0.005)
        return {}

    service = make({"busy": busy})
    service.start()
    assert 2 <= len(list(service.watch(service.submit("busy", {}), every=0.5))) <= 6


def test_wait_gives_up_in_time(make, steps):
    service = make()
    steps.more.clear()
    id = service.submit("steps", {"steps": 1})
    assert service.wait(id, 0.05).state == "queued"
    service.start()
    begun(steps)
    assert service.wait(id, 0.05).state == "running"


# -- cancelling


def test_a_running_job_stops_at_its_next_check(make, steps):
    service = make()
    service.start()
    steps.more.clear()
    id = service.submit("steps", {"steps": 100})
    begun(steps)
    assert service.cancel(id)
    status = service.wait(id, SOON)
    assert (status.state, status.error, status.progress.detail) == ("cancelled", "", "step 0")
    assert not service.cancel(id)
    other = service.submit("steps", {"steps": 1})
    steps.more.set()
    assert service.wait(other, SOON).state == "done"
    assert len(steps.done) <= 2  # of the first job not one more than was under way
    assert service.status(id).state == "cancelled"


def test_a_job_that_was_cancelled_has_no_result_even_if_it_comes(make):
    going, go = threading.Event(), threading.Event()

    def deaf(context):
        going.set()
        go.wait(SOON)
        return {"a": 1}

    service = make({"deaf": deaf})
    service.start()
    id = service.submit("deaf", {})
    assert going.wait(SOON)
    assert service.cancel(id)
    go.set()
    service.wait(service.submit("steps", {"steps": 1}), SOON)
    assert (service.status(id).state, service.status(id).result) == ("cancelled", {})


def test_a_handler_may_cancel_itself(make):
    def gives_up(context):
        raise Cancelled("enough")

    service = make({"gives-up": gives_up})
    service.start()
    assert service.wait(service.submit("gives-up", {}), SOON).state == "cancelled"


# -- failures


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConfigError("the model\nis not there"), "the model is not there"),
        (MediaNotFound("cat.png", "no such file", "upload it again"), "cat.png: no such file (upload it again)"),
        (ZeroDivisionError("by zero"), "unexpected ZeroDivisionError: by zero"),
        (ConfigError(""), "ConfigError"),
    ],
)
def test_a_job_that_fails_says_why_in_one_line_and_loses_no_other(make, caplog, error, said):
    def fails(context):
        raise error

    service = make({"fails": fails})
    service.start()
    ids = service.submit("fails", {}), service.submit("steps", {"steps": 1})
    failed, done = (service.wait(id, SOON) for id in ids)
    assert (failed.state, failed.error) == ("failed", said)
    assert done.state == "done"
    assert ("Traceback" in caplog.text) == (type(error) is ZeroDivisionError)


def test_a_result_that_cannot_be_kept_fails_the_job(make):
    service = make({"odd": lambda context: {"path": Path()}})
    service.start()
    failed = service.wait(service.submit("odd", {}), SOON)
    assert failed.state == "failed"
    assert "not JSON" in failed.error


def test_a_job_of_a_kind_that_is_gone_fails_alone(make, store):
    old = store.add_job("embroidery", {})
    service = make()
    service.start()
    assert "no jobs of the kind 'embroidery'" in service.wait(old, SOON).error
    assert service.wait(service.submit("steps", {"steps": 1}), SOON).state == "done"


def test_a_store_that_fails_for_a_while_loses_nothing(make, store, monkeypatch):
    monkeypatch.setattr(jobs_module, "_TRY_AGAIN", 0.02)
    real, broken = store.update_job, [3]

    def update(id, **changes):
        if changes.get("state") in ("running", "done") and broken[0]:
            broken[0] -= 1
            raise StoreError("the disk is full")
        return real(id, **changes)

    monkeypatch.setattr(store, "update_job", update)
    service = make()
    service.start()
    assert service.wait(service.submit("steps", {"steps": 2, "name": "a"}), SOON).result == {"name": "a"}
    broken[0] = 1
    assert service.wait(service.submit("steps", {"steps": 1}), SOON).state == "done"
    assert broken == [0]


# -- ends of the process


def test_stop_leaves_a_running_job_for_the_next_start(make, steps, store):
    service = make()
    service.start()
    steps.more.clear()
    first, second = (service.submit("steps", {"name": name, "steps": 2}) for name in "ab")
    begun(steps)
    watcher = threading.Thread(target=lambda: list(service.watch(first)))
    watcher.start()
    began = time.monotonic()
    service.stop()
    watcher.join(SOON)
    assert not watcher.is_alive()
    assert time.monotonic() - began < 5
    assert (store.job(first).state, store.job(second).state) == ("running", "queued")
    steps.more.set()
    again = make()
    assert again.status(first).progress.step == "working"
    again.start()
    assert [again.wait(id, SOON).state for id in (first, second)] == ["done", "done"]
    assert steps.done == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert again.status(first).created <= again.status(first).started


def test_a_service_can_start_again(make, steps):
    service = make()
    service.start()
    with pytest.raises(ConfigError, match="runs already"):
        service.start()
    service.stop()
    service.stop()
    id = service.submit("steps", {"steps": 1})
    service.start()
    assert service.wait(id, SOON).state == "done"


def test_jobs_that_ran_when_the_process_died_come_first(make, steps, store, tmp_path):
    waiting = store.add_job("steps", {"name": "waiting", "steps": 1})
    died = store.add_job("steps", {"name": "died", "steps": 3})
    store.update_job(died, state="running", progress={"step": "working", "done": 2, "total": 3})
    (tmp_path / "jobs" / died).mkdir(parents=True)
    (tmp_path / "jobs" / died / "kept").write_text("2")
    service = make()
    service.start()
    assert [service.wait(id, SOON).state for id in (waiting, died)] == ["done", "done"]
    assert steps.done == [("died", 2), ("waiting", 0)]


def test_a_job_that_kills_the_process_again_and_again_is_given_up(make, store):
    bad = store.add_job("steps", {"steps": 1})
    progress: dict = {}
    for _ in range(jobs_module.MOST_CRASHES):
        store.update_job(bad, state="running", progress=progress)
        service = make()
        service._work = lambda: None  # the process would end here
        service.start()
        service.stop()
        progress = store.job(bad).progress
        assert store.job(bad).state == "queued"
    other = store.add_job("steps", {"steps": 1})
    store.update_job(bad, state="running", progress=progress)
    service = make()
    service.start()
    assert service.wait(other, SOON).state == "done"
    assert "the app ended 4 times while this job ran" in service.status(bad).error


def test_a_long_job_may_be_interrupted_often_while_it_gets_further(make, store):
    long = store.add_job("steps", {"steps": 1})
    for done in range(1, 8):
        store.update_job(long, state="running", progress={**store.job(long).progress, "done": done})
        service = make()
        service._work = lambda: None
        service.start()
        service.stop()
        assert store.job(long).state == "queued"


def test_one_process_at_a_time(make):
    make().start()
    with pytest.raises(ConfigError, match="another omnirm works there"):
        make().start()


def test_progress_of_another_version_hides_nothing_else(make, store):
    id = store.add_job("steps", {"steps": 1})
    store.update_job(id, progress={"step": 7, "odd": True})
    assert make().status(id).progress == Progress()
