"""Judge jobs on scripted models and a real store: what they store, what a watcher sees, and what goes wrong alone."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from pathlib import Path

import pytest
from made_media import encoded_image
from scripted_rubrics import model, revise, says, section, step, writes

from omnirm.app import scaling, service
from omnirm.app.jobs.jobs import JobContext, JobService, Progress
from omnirm.app.jobs.tasks import JudgeHandler, JudgeSetHandler, JudgeSetTask, JudgeTask, probability_a
from omnirm.app.models import Models
from omnirm.app.scaling import ScalingOptions
from omnirm.app.service import JudgeOptions, ModelOptions
from omnirm.app.store.rows import VotePair
from omnirm.app.store.store import Store
from omnirm.backends import scripted
from omnirm.errors import BackendError, ConfigError, SampleError
from omnirm.judgment import Judgment, PointJudgment
from omnirm.rubrics.trajectory import ScaledJudgment
from omnirm.runs import read_rows
from omnirm.sample import Sample
from omnirm.scorers import scripted as scorers
from omnirm.types import Rubric

SOON = 60.0  # seconds that nothing here takes
NAMES = ("Correctness", "Brevity", "Tone", "Length", "Format", "Facts", "Style", "Colour", "Depth", "Order")
VERDICTS = {name: "AB"[i % 3 == 1] for i, name in enumerate(NAMES)}
THINKING = JudgeOptions(format="pairwise-thinking")
PAIR = {"id": "p", "prompt": "q", "candidates": ["first", "second"], "label": 0}


class Slow(scripted.ScriptedBackend):
    """A model whose call number `pause_at` waits until `go` is set."""

    def __init__(self, script, **options) -> None:
        super().__init__(script, **options)
        self.pause_at, self.paused, self.go = 10**9, threading.Event(), threading.Event()

    def generate(self, requests):
        if len(self.requests) + len(requests) > self.pause_at:
            self.paused.set()
            assert self.go.wait(SOON)
        return super().generate(requests)

    @property
    def steps(self) -> list[str]:
        return [step(request) for request in self.requests]


def broken():
    raise BackendError("broken: there is not enough memory for it\non cuda:7")


@pytest.fixture
def slow(monkeypatch):
    """The model `scripted:test`: plans ten rubrics, judges by the table. The reward model `scripted:begins` likes what
    begins with `first`."""
    judging = says(defaultdict(lambda: "A", VERDICTS))

    def judge(request):  # pictures have no text and single responses no letter: there it always says A
        texts = section(request, "response A") and section(request, "response B")
        return judging(request) if texts else scripted.say("A")(request)

    script = model(
        planning=writes(*NAMES), judge=judge, selection=lambda request: "1]]", refinement=revise,
        contrast=writes(*NAMES[:3]), decompose=writes(*NAMES[3:5]),
    )._script  # fmt: skip
    one = Slow(script, logprobs={"A": -0.1, "B": -2.4, "Yes": -0.2, "No": -1.7}, name="scripted:test")
    monkeypatch.setitem(scripted.NAMED, "test", lambda: one)
    monkeypatch.setitem(scripted.NAMED, "broken", broken)
    monkeypatch.setitem(scorers.NAMED, "begins", lambda item: float(item.response[0].value.startswith("first")))
    yield one
    one.go.set()


@pytest.fixture
def store(tmp_path):
    one = Store(f"sqlite:///{tmp_path / 'o.db'}")
    yield one
    one.close()


@pytest.fixture
def media(tmp_path):
    folder = tmp_path / "media"
    folder.mkdir()
    return folder


@pytest.fixture
def make(store, tmp_path, media, slow):
    made = []

    def jobs(**options) -> JobService:
        offered = [
            ModelOptions(name, media_roots=(media,))
            for name in ("scripted:test", "scripted:always-a", "scripted:broken")
        ]
        models = Models(offered, disrms=("scripted:begins",))
        handlers = {"judge": JudgeHandler(models, store, **options), "judge-set": JudgeSetHandler(models, store)}
        one = JobService(store, tmp_path / "jobs", handlers)
        one.start()
        made.append(one)
        return one

    yield jobs
    slow.go.set()
    for one in made:
        one.stop()


def task(sample=None, **more) -> JudgeTask:
    return JudgeTask(sample or PAIR, **{"model": "scripted:test", "judging": THINKING, **more})


def watched(jobs: JobService, one: JudgeTask | JudgeSetTask) -> list:
    kind = "judge" if isinstance(one, JudgeTask) else "judge-set"
    return list(jobs.watch(jobs.submit(kind, one.to_dict()), every=0.0))


def done(jobs: JobService, one: JudgeTask | JudgeSetTask):
    last = watched(jobs, one)[-1]
    assert last.state == "done", last.error
    return last


@pytest.fixture
def told(store, tmp_path, slow):
    """All that a handler reports for a task."""

    def reports(one: JudgeTask | JudgeSetTask, **options) -> list[Progress]:
        models = Models([ModelOptions("scripted:test")], disrms=("scripted:begins",))
        kind = JudgeHandler if isinstance(one, JudgeTask) else JudgeSetHandler
        folder = tmp_path / f"told-{len(list(tmp_path.iterdir()))}"
        found: list[Progress] = []
        id = store.add_job("judge", {})
        kind(models, store, **options)(JobContext(id, one.to_dict(), folder, found.append, lambda: None))
        return found

    return reports


def failed(jobs: JobService, one: JudgeTask | JudgeSetTask) -> str:
    last = watched(jobs, one)[-1]
    assert last.state == "failed"
    return last.error


# -- tasks


@pytest.mark.parametrize(
    "one",
    [
        task(),
        task(
            judging=JudgeOptions(orders="BA", samples=3, temperature=0.5, rubrics=(Rubric("Mine", "of course", 2.0),))
        ),
        task(scaling=ScalingOptions("meta", disrm="nano", given=(Rubric("One"),), stop_at=None), title="Ein Ü"),
        task({"id": "s", "prompt": "q", "candidates": ["a", "b", "c"]}, mode="score", method="p-yes"),
        JudgeSetTask("abc", scaling=ScalingOptions("vote", stop_at=0.9)),
    ],
)
def test_a_task_comes_back_as_it_was(one):
    assert type(one).from_dict(json.loads(json.dumps(one.to_dict()))) == one


@pytest.mark.parametrize(
    ("make_one", "said"),
    [
        (lambda: task({**PAIR, "candidates": ["a"]}), "comparing takes two candidates and there are 1"),
        (lambda: task({**PAIR, "candidates": []}), "candidates"),
        (lambda: task(mode="score", scaling=ScalingOptions()), "strategy vote is for pairs"),
        (lambda: task(judging=JudgeOptions(samples=0)), "samples 0: give at least 1"),
        (lambda: task(judging=JudgeOptions(orders=3)), "orders 3"),
        (lambda: task(scaling=ScalingOptions(rubrics=0)), "rubrics 0: ask for 1 to 100"),
        (lambda: task(scaling=ScalingOptions(run=Path("x"))), "run folder of its own"),
        (lambda: task(scaling=ScalingOptions("meta")), "strategy meta needs a reward model"),
        (lambda: task(scaling=ScalingOptions("single", given=(Rubric("x"),))), "single plans no rubrics"),
        (lambda: task(scaling=ScalingOptions(), judging=JudgeOptions(rubrics=(Rubric("x"),))), "scaling.given"),
        (lambda: JudgeTask.from_dict({**task().to_dict(), "colour": "red"}), "another version.*unknown key 'colour'"),
        (lambda: JudgeTask.from_dict({**task().to_dict(), "mode": "rank"}), "another version.*'rank' is none of"),
        (lambda: JudgeSetTask.from_dict({"model": "nano"}), "another version.*'set' is missing"),
    ],
)
def test_a_task_that_cannot_be_says_so_at_once(make_one, said):
    with pytest.raises((ConfigError, SampleError), match=said):
        make_one()


def test_nano_brings_its_own_reward_model():
    assert task(model="nano", scaling=ScalingOptions("meta")).scaling.disrm is None


# -- what is stored


def test_a_judgment_is_stored_as_the_judge_gives_it(make, store, slow):
    last = done(make(), task(title="Two answers"))
    stored = store.judgment(last.result["judgment"])
    direct = service.make_judge(slow, THINKING).compare(Sample.from_dict(PAIR))
    assert Judgment.from_dict(stored.record) == direct
    assert (stored.title, stored.verdict, stored.job, stored.sample) == ("Two answers", "A", last.id, PAIR)
    assert JudgeTask.from_dict(stored.task) == task(title="Two answers")


@pytest.mark.parametrize("strategy", ["single", "vote", "selected", "combined", "meta"])
def test_watching_a_strategy_changes_nothing(make, store, slow, strategy):
    options = ScalingOptions(strategy, disrm="scripted:begins" if strategy == "meta" else None)
    stored = store.judgment(done(make(), task(scaling=options)).result["judgment"])
    scaled, _ = scaling.make_scaled_judge(ModelOptions("scripted:test"), THINKING, options)
    assert ScaledJudgment.from_dict(stored.record) == scaled.compare(Sample.from_dict(PAIR))
    assert (stored.kind, stored.strategy, stored.verdict is not None) == ("scaled", strategy, True)


@pytest.mark.parametrize(("method", "calls"), [("rubric", 3), ("p-yes", 6)])
def test_single_responses_are_scored(told, store, slow, method, calls):
    sample = {"id": "s", "prompt": "q", "candidates": ["one", "two", "three"]}
    seen = told(task(sample, mode="score", method=method))
    (stored,) = store.judgments()
    direct = service.make_judge(slow, THINKING).score(Sample.from_dict(sample), method)
    assert PointJudgment.from_dict(stored.record) == direct
    assert (seen[-1].done, seen[-1].total) == (calls, calls)
    assert {one.detail for one in seen} >= {"", "responses 1-3 of 3"}


# -- what a watcher sees


def test_a_vote_over_ten_rubrics_tells_how_far_it_is(told, slow):
    seen = told(task(scaling=ScalingOptions("vote")))
    assert list(dict.fromkeys(one.step for one in seen)) == ["loading the model", "planning rubrics", "judging"]
    assert list(dict.fromkeys(one.detail for one in seen if one.detail)) == [
        "rubrics 1-2 of 10: Correctness, Brevity",
        "rubrics 3-4 of 10: Tone, Length",
        "rubrics 5-6 of 10: Format, Facts",
        "rubrics 7-8 of 10: Style, Colour",
        "rubrics 9-10 of 10: Depth, Order",
    ]
    assert max(slow.batches) <= 8
    assert {one.total for one in seen[1:]} == {21}
    for numbers in ([one.done for one in seen], [one.prompt_tokens for one in seen]):
        assert numbers == sorted(numbers)
        assert len(set(numbers)) == 7
    assert seen[-1].done == 21
    assert all(one.eta_s is not None for one in seen if one.step == "judging")


def test_a_watcher_sees_the_rubric_under_judgment(make, slow):
    jobs = make()
    slow.pause_at = 10
    watch = jobs.watch(jobs.submit("judge", task(scaling=ScalingOptions("vote")).to_dict()), every=0.01)
    seen = next(one for one in watch if slow.paused.is_set() and "5" in one.progress.detail)
    assert seen.progress.detail == "rubrics 5-6 of 10: Format, Facts"
    assert (seen.progress.step, seen.progress.done, seen.progress.total) == ("judging", 9, 21)
    assert seen.progress.prompt_tokens > seen.progress.completion_tokens > 0
    slow.go.set()
    assert list(watch)[-1].state == "done"


def test_smaller_parts_name_one_rubric_at_a_time(told, slow):
    details = [one.detail for one in told(task(scaling=ScalingOptions("vote")), chunk=1) if one.detail]
    assert list(dict.fromkeys(details)) == [f"rubric {i} of 10: {name}" for i, name in enumerate(NAMES, 1)]
    assert max(slow.batches) <= 2


def test_meta_goes_through_every_step(told):
    seen = told(task(scaling=ScalingOptions("meta", disrm="scripted:begins", rubrics=10)))
    steps = list(dict.fromkeys(one.step for one in seen))
    assert steps == ["loading the model", "planning rubrics", "judging", "refining", "scoring"]
    assert any(one.step == "refining" and one.detail.startswith("rubrics 1-") for one in seen)
    assert {one.total for one in seen[1:]} == {1 + 20 + 20 + 22}
    assert seen[-1].done == 63


@pytest.mark.parametrize(("strategy", "step"), [("selected", "selecting rubrics"), ("combined", "selecting rubrics")])
def test_selecting_is_a_step(told, strategy, step):
    seen = told(task(scaling=ScalingOptions(strategy)))
    assert list(dict.fromkeys(one.step for one in seen))[1:] == ["planning rubrics", step, "judging"]
    assert seen[-1].done == seen[-1].total
    assert any("Correctness" in one.detail for one in seen)


@pytest.mark.parametrize("planner", ["extended", "primary", "contrastive", "decomposed"])
def test_no_planner_breaks_the_count(told, planner):
    seen = told(task(scaling=ScalingOptions("vote", planner=planner, rubrics=3)))
    assert all(0 <= one.done <= one.total for one in seen)
    assert [one.done for one in seen] == sorted(one.done for one in seen)


def test_a_vote_that_is_settled_early_ends_with_what_was_done(make):
    last = done(make(), task(scaling=ScalingOptions("vote", stop_when_settled=True)))
    assert last.progress.done < 21


# -- stopping


def test_cancel_takes_effect_within_one_part(make, store, slow):
    jobs = make()
    slow.pause_at = 8
    id = jobs.submit("judge", task(scaling=ScalingOptions("vote")).to_dict())
    assert slow.paused.wait(SOON)
    assert jobs.cancel(id)
    assert jobs.status(id).state == "cancelled"
    slow.pause_at = 10**9
    slow.go.set()
    done(jobs, task(model="scripted:always-a"))
    assert len(slow.requests) <= 1 + 8 + 8
    assert [one.job for one in store.judgments()] == [jobs.recent()[0].id]


def stopped_midway(jobs: JobService, slow: Slow, one: JudgeTask | JudgeSetTask, after: int) -> str:
    """Submits a job, stops the service at the part that comes after so many calls, and gives the job's id."""
    slow.pause_at = len(slow.requests) + after
    id = jobs.submit("judge" if isinstance(one, JudgeTask) else "judge-set", one.to_dict())
    assert slow.paused.wait(SOON)
    slow.pause_at = 10**9
    threading.Timer(0.2, slow.go.set).start()
    jobs.stop()
    slow.paused.clear()
    slow.go.clear()
    return id


def test_a_job_that_was_stopped_goes_on_and_repeats_nothing(make, store, slow, tmp_path):
    jobs, one = make(), task(scaling=ScalingOptions("vote"))
    undisturbed = store.judgment(done(jobs, one).result["judgment"])
    before = len(slow.requests)
    id = stopped_midway(jobs, slow, one, 8)
    assert store.job(id).state == "running"
    made = len(slow.requests) - before
    assert 8 <= made <= 16
    again = make()
    last = again.wait(id, SOON)
    assert last.state == "done", last.error
    assert len(slow.requests) == before + 21
    assert (last.progress.done, last.progress.total) == (21, 21)
    stored = store.judgment(last.result["judgment"])
    assert stored.record == undisturbed.record
    assert last.progress.prompt_tokens == undisturbed.record["compute"]["prompt_tokens"]
    folder = tmp_path / "jobs" / id
    assert len((folder / "calls.jsonl").read_text().splitlines()) == 21
    assert [list(read_rows(folder, kind)) for kind in ("samples", "judgments")] == [[PAIR], [stored.record]]


def test_an_end_between_the_two_last_writes_gives_no_second_judgment(make, store):
    jobs = make()
    last = done(jobs, task())
    jobs.stop()
    store.update_job(last.id, state="running", result={})
    again = make().wait(last.id, SOON)
    assert (again.state, again.result) == ("done", last.result)
    assert len(store.judgments()) == 1


def test_a_run_folder_may_go_when_the_judgment_is_stored(make, store, tmp_path):
    last = done(make(keep_runs=False), task())
    assert not (tmp_path / "jobs" / last.id).exists()
    assert store.judgment(last.result["judgment"]).verdict == "A"


# -- what goes wrong


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"model": "/etc/passwd"}, "model '/etc/passwd' is not offered here: choose scripted:test or"),
        ({"model": "scripted:broken"}, "broken: there is not enough memory for it on cuda:7"),
        ({"scaling": ScalingOptions("meta", disrm="http://10.0.0.1/")}, "reward model 'http://10.0.0.1/' is not"),
        (
            {"scaling": ScalingOptions("meta", disrm="scripted:begins", refiner="http://10.0.0.1/")},
            "model 'http://10.0.0.1/' is not offered here",
        ),
    ],
)
def test_models_that_cannot_be_had(make, store, more, said):
    jobs = make()
    error = failed(jobs, task(**more))
    assert said in error
    assert "unexpected" not in error
    assert "\n" not in error
    assert store.judgments() == []
    assert done(jobs, task()).result


def test_an_old_job_fails_and_loses_no_other(make, store):
    jobs = make()
    spec = task().to_dict()
    spec["judging"]["colour"] = "red"
    old, odd = jobs.submit("judge", spec), jobs.submit("judge", {})
    good = jobs.submit("judge", task().to_dict())
    assert "written by another version of omnirm" in jobs.wait(old, SOON).error
    assert "'sample' is missing" in jobs.wait(odd, SOON).error
    assert jobs.wait(good, SOON).state == "done"


def test_only_media_of_the_store_are_judged(make, media, tmp_path):
    for folder in (media, tmp_path):
        (folder / "cat.png").write_bytes(encoded_image("PNG"))
    jobs = make()

    def shown(path) -> JudgeTask:
        return task({"id": "m", "prompt": "q", "candidates": [[{"type": "image", "image": str(path)}], "second"]})

    assert done(jobs, shown(media / "cat.png")).result
    for path in (tmp_path / "cat.png", "/etc/passwd", media / ".." / "cat.png", "http://127.0.0.1/cat.png"):
        error = failed(jobs, shown(path))
        assert "unexpected" not in error
    assert "no such file" in failed(jobs, shown(media / "dog.png"))


# -- sets


def vote_set(store: Store, *samples: dict) -> str:
    return store.add_vote_set("Answers", "test", [VotePair(f"p{i}", i, one) for i, one in enumerate(samples)])


def test_one_bad_pair_loses_no_other(make, store):
    bad = {"id": "b", "prompt": "q"}, {"id": "c", "prompt": "q", "candidates": ["a", "b", "c"]}
    id = vote_set(store, PAIR, *bad, {**PAIR, "candidates": ["second", "first"]})
    last = done(make(), JudgeSetTask(id, "scripted:test", THINKING))
    assert {key: last.result[key] for key in ("set", "pairs", "judged", "failed")} == {
        "set": id, "pairs": 4, "judged": 2, "failed": 2,
    }  # fmt: skip
    assert [one.split(":")[0] for one in last.result["problems"]] == ["p1", "p2"]
    pairs = store.pairs(id)
    assert [one.verdict for one in pairs] == ["A", None, None, "B"]
    assert pairs[0].probability_a == pytest.approx(1 - pairs[3].probability_a)
    first = store.judgment(pairs[0].judgment)
    assert (first.title, first.verdict, first.job) == ("Answers: p0", "A", last.id)
    assert JudgeTask.from_dict(first.task).judging == THINKING
    assert [bool(one.judgment) for one in pairs] == [True, False, True, True]


def test_a_set_is_told_pair_by_pair(told, store):
    id = vote_set(store, *[{**PAIR, "candidates": ["first", f"second {i}"]} for i in range(6)])
    seen = told(JudgeSetTask(id, "scripted:test", THINKING))
    assert [one for one in dict.fromkeys(one.detail for one in seen) if one] == ["pairs 1-4 of 6", "pairs 5-6 of 6"]
    assert {one.total for one in seen if one.step == "judging"} == {12}
    seen = told(JudgeSetTask(id, "scripted:test", THINKING, ScalingOptions("vote")))
    assert any(one.detail == "pair 2 of 6: rubrics 1-2 of 10: Correctness, Brevity" for one in seen)
    assert {one.total for one in seen[1:]} == {6 * 21}
    assert seen[-1].done == 6 * 21


def test_a_set_goes_on_where_it_was(make, store, slow):
    id = vote_set(store, *[{**PAIR, "candidates": ["first", f"second {i}"]} for i in range(12)])
    job = stopped_midway(make(), slow, JudgeSetTask(id, "scripted:test", THINKING), 12)
    early = [one.judgment for one in store.pairs(id)]
    assert 0 < sum(map(bool, early)) < 12
    last = make().wait(job, SOON)
    assert (last.state, last.result["judged"]) == ("done", 12)
    assert len(slow.requests) == 24
    assert len(store.judgments()) == 12
    now = [one.judgment for one in store.pairs(id)]
    assert all(a == b for a, b in zip(early, now, strict=True) if a)


def test_a_set_that_is_not_there(make):
    assert "vote set 'x': there is none" in failed(make(), JudgeSetTask("x", "scripted:test"))


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"verdict": None, "confidence": 0.9}, None),
        ({"verdict": "A", "probability_a": 0.8, "confidence": 0.6}, 0.8),
        ({"verdict": "A", "confidence": 0.75}, 0.75),
        ({"verdict": "B", "confidence": 0.75}, 0.25),
        ({"verdict": "tie", "confidence": 0.5}, 0.5),
        ({"verdict": "A", "confidence": None}, None),
    ],
)
def test_how_probable_a_is(record, expected):
    assert probability_a(record) == expected


# -- models


def test_a_model_is_loaded_once_and_only_if_it_is_offered(slow, monkeypatch):
    loads = []
    monkeypatch.setitem(scripted.NAMED, "count", lambda: loads.append(1) or Slow(lambda request: "A]]"))
    models = Models([ModelOptions("scripted:count"), ModelOptions("scripted:broken")], disrms=("scripted:length",))
    assert not models.loaded("scripted:count")
    threads = [threading.Thread(target=models.backend, args=("scripted:count",)) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert (loads, models.loaded("scripted:count")) == ([1], True)
    assert (models.names, models.scorer_names) == (("scripted:count", "scripted:broken"), ("scripted:length",))
    assert models.scorer("scripted:length") is models.scorer("scripted:length")
    assert list(models.load_all()) == ["scripted:broken"]
    for ask in (models.backend, models.scorer, models.options, models.policy, models.loaded):
        with pytest.raises(ConfigError, match="is not offered here"):
            ask("scripted:random")
    for wrong in ([], [ModelOptions(), ModelOptions()]):
        with pytest.raises(ConfigError):
            Models(wrong)


def test_a_model_answers_one_at_a_time(monkeypatch):
    inside, most = [], []

    def answer(request):
        inside.append(1)
        most.append(len(inside))
        threading.Event().wait(0.01)
        inside.pop()
        return "A]]"

    monkeypatch.setitem(scripted.NAMED, "busy", lambda: scripted.ScriptedBackend(answer))
    models = Models([ModelOptions("scripted:busy")], disrms=())
    judge = service.make_judge(models.backend("scripted:busy"), JudgeOptions(format="pairwise"))
    threads = [threading.Thread(target=judge.compare, args=(Sample.from_dict(PAIR),)) for _ in range(5)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert (len(most), max(most)) == (10, 1)
