"""Run folders: what is asked again and what is not, rows, settings, locks, damage."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from omnirm.backends.scripted import ScriptedBackend, prompt_text
from omnirm.errors import BackendError, ConfigError, SampleError
from omnirm.judge import Judge
from omnirm.judgment import Judgment
from omnirm.rubrics.refine import CallableRefiner, ModelRefiner, RefineTask, Revision
from omnirm.runs import RunFolder, read_rows
from omnirm.runs.keys import request_key, scored_key
from omnirm.sample import Sample
from omnirm.scorers.base import Scored
from omnirm.types import Completion, Message, ParseFailure, Part, Request

SETTINGS = {"model": "scripted", "rubrics": 10, "sampling": {"temperature": 0.7, "seed": 0}}


def asked(text: str = "question", **options: Any) -> Request:
    return Request((Message("user", (Part("text", text),)),), **options)


def echo() -> ScriptedBackend:
    return ScriptedBackend(lambda request: f"{prompt_text(request)} {request.seed}")


def image_request(path: Path | str) -> Request:
    return Request((Message("user", (Part("image", str(path)), Part("text", "What is this?"))),))


# -- calls


def test_a_second_run_asks_for_nothing(tmp_path: Path) -> None:
    requests = [asked(f"question {i}", seed=i, track=("A",)) for i in range(10)]
    first, second = ScriptedBackend(lambda r: prompt_text(r), logprobs={"A": -1}), echo()
    with RunFolder(tmp_path / "run", SETTINGS, chunk=4) as run:
        answers = run.backend(first).generate(requests)
        assert (run.made, run.found) == (10, 0)
    with RunFolder(tmp_path / "run", SETTINGS) as run:
        assert run.backend(second).generate(requests[::-1]) == answers[::-1]
        assert (run.made, run.found) == (0, 10)
    assert second.requests == []
    assert answers[3].text == "question 3"
    assert answers[3].logprobs[0].top == {"A": -1}


def test_only_what_is_missing_is_asked_for_and_in_its_place(tmp_path: Path) -> None:
    backend = echo()
    with RunFolder(tmp_path, SETTINGS) as run:
        recorded = run.backend(backend)
        recorded.generate([asked("b"), asked("d")])
        texts = [one.text for one in recorded.generate([asked(t) for t in "abcda"])]
    assert texts == ["a 0", "b 0", "c 0", "d 0", "a 0"]
    assert [prompt_text(one) for one in backend.requests] == ["b", "d", "a", "c"]  # and equal ones once


@pytest.mark.parametrize(
    "other",
    [
        asked("other"),
        asked(prefill="<think>"),
        asked(max_new_tokens=7),
        asked(temperature=0.5),
        asked(top_p=0.9),
        asked(seed=1),
        asked(stop=("\n",)),
        asked(track=("A",)),
        Request((Message("system", (Part("text", "question"),)),)),
        Request((Message("user", (Part("text", "question", trusted=True),)),)),
        Request((Message("user", (Part("text", "quest"), Part("text", "ion"))),)),
    ],
)
def test_another_question_is_another_call(other: Request) -> None:
    assert request_key(echo(), other) != request_key(echo(), asked())


def test_another_model_is_another_call() -> None:
    keys = {
        request_key(ScriptedBackend([], name=name, revision=revision), asked()) for name in "ab" for revision in "12"
    }
    budget = ScriptedBackend([], name="a", revision="1")
    budget.media_settings = {"max_pixels": 100}
    assert len(keys | {request_key(budget, asked())}) == 5


def test_equal_settings_written_otherwise_are_the_same_call() -> None:
    assert request_key(echo(), asked(temperature=1, top_p=1)) == request_key(echo(), asked(temperature=1.0))


def test_files_count_by_content_not_by_name(tmp_path: Path) -> None:
    one, moved = tmp_path / "one.png", tmp_path / "deep" / "moved.png"
    moved.parent.mkdir()
    Image.new("RGB", (4, 4), "red").save(one)
    moved.write_bytes(one.read_bytes())
    before = request_key(echo(), image_request(one))
    assert request_key(echo(), image_request(moved)) == before
    assert request_key(echo(), image_request(moved.as_uri())) == before
    Image.new("RGB", (4, 4), "blue").save(one)
    assert request_key(echo(), image_request(one)) != before
    frames = [
        Request((Message("user", (Part("video", names),)),))
        for names in ([str(one), str(moved)], [str(moved), str(one)])
    ]
    assert request_key(echo(), frames[0]) != request_key(echo(), frames[1])


def test_a_changed_file_is_asked_about_again(tmp_path: Path) -> None:
    picture, backend = tmp_path / "a.png", ScriptedBackend(["red", "blue"])
    with RunFolder(tmp_path / "run", SETTINGS) as run:
        answers = []
        for colour in ("red", "blue", "red", "blue"):
            Image.new("RGB", (4, 4), colour).save(picture)
            answers += run.backend(backend).generate([image_request(picture)])
    assert [one.text for one in answers] == ["red", "blue", "red", "blue"]


@pytest.mark.parametrize(
    "value", ["/nowhere/a.png", "https://example.org/a.png", "data:image/png;base64,AAAA", "a\0b", ""]
)
def test_what_cannot_be_read_here_counts_by_its_reference(value: str) -> None:
    assert request_key(echo(), image_request(value)) == request_key(echo(), image_request(value))
    assert request_key(echo(), image_request(value)) != request_key(echo(), image_request(value + "x"))


def test_errors_are_tried_again_and_answers_are_not(tmp_path: Path) -> None:
    backend = ScriptedBackend(["fine", BackendError("backend_error: busy"), Completion("cut", "length"), "now"])
    requests = [asked(t) for t in "abc"]
    with RunFolder(tmp_path, SETTINGS) as run:
        first = run.backend(backend).generate(requests)
        second = run.backend(backend).generate(requests)
    assert [one.finish_reason for one in first] == ["stop", "error", "length"]
    assert [one.text for one in second] == ["fine", "now", "cut"]
    assert len(backend.requests) == 4


def test_what_was_recorded_before_a_crash_is_kept(tmp_path: Path) -> None:
    crash = ScriptedBackend([*"12345"])  # and then: used up
    requests = [asked(str(i)) for i in range(6)]
    with RunFolder(tmp_path, SETTINGS, chunk=2) as run, pytest.raises(BackendError, match="5 answers"):
        run.backend(crash).generate(requests)
    backend = echo()
    with RunFolder(tmp_path, SETTINGS, chunk=2) as run:
        texts = [one.text for one in run.backend(backend).generate(requests)]
    assert texts == ["1", "2", "3", "4", "4 0", "5 0"]
    assert len(backend.requests) == 2


def test_calls_that_begin_alike_are_asked_for_together(tmp_path: Path) -> None:
    def pair(sample: int, rubric: int) -> Request:
        parts = (f"key {sample}", f"prompt {sample}", f"response {sample}", f"rubric {rubric}")
        return Request(
            (Message("system", (Part("text", "Judge."),)), Message("user", tuple(Part("text", p) for p in parts)))
        )

    backend = echo()
    with RunFolder(tmp_path, SETTINGS, chunk=4) as run:
        run.backend(backend).generate([pair(sample, rubric) for sample in range(4) for rubric in range(3)])
        assert backend.batches == [6, 6]
        run.backend(backend).generate([pair(9, rubric) for rubric in range(20)])  # but no more than twice as many
        assert backend.batches[2:] == [8, 8, 4]
        run.backend(backend).generate([asked(str(i)) for i in range(9)])
        assert backend.batches[5:] == [4, 4, 1]


def test_a_resumed_run_asks_in_the_same_company(tmp_path: Path) -> None:
    requests = [asked(str(i)) for i in range(8)]
    backend = echo()
    with RunFolder(tmp_path, SETTINGS, chunk=4) as run:
        run.backend(backend).generate(requests[:4])
        run.backend(backend).generate(requests)
    assert [prompt_text(one) for one in backend.requests] == [str(i) for i in range(8)]
    assert backend.batches == [4, 4]


def test_a_wrong_number_of_answers_is_an_error_and_nothing_is_recorded(tmp_path: Path) -> None:
    class Short(ScriptedBackend):
        def generate(self, requests: Sequence[Request]) -> list[Completion]:
            return super().generate(requests)[:-1]

    with RunFolder(tmp_path, SETTINGS) as run:
        with pytest.raises(BackendError, match="1 answers to 2 requests"):
            run.backend(Short(["a", "b"])).generate([asked("a"), asked("b")])
        assert run.made == 0


def test_a_wrapped_backend_is_a_backend_like_the_other(tmp_path: Path) -> None:
    backend = ScriptedBackend([], name="some", revision="7", modalities={"text"})
    backend.media_settings = {"x": 1}
    with RunFolder(tmp_path, SETTINGS) as run:
        wrapped = run.backend(backend)
        assert (wrapped.name, wrapped.revision, wrapped.capabilities) == ("some", "7", backend.capabilities)
        assert wrapped.media_settings == {"x": 1}
        with pytest.raises(AttributeError, match="nothing_like_it"):
            _ = wrapped.nothing_like_it


def test_a_judge_gives_the_same_judgments_from_the_record(tmp_path: Path) -> None:
    samples = [Sample.from_dict({"id": str(i), "prompt": "2 + 3?", "candidates": ["5", str(i)]}) for i in range(5)]
    script = ScriptedBackend(
        lambda r: "A]]" if "5" in r.prefill or r.seed % 2 else "B]]", logprobs={"A": -0.1, "B": -2.3}
    )
    runs = []
    for backend in (script, ScriptedBackend([], logprobs={})):
        with RunFolder(tmp_path, SETTINGS) as run:
            runs.append(Judge(run.backend(backend), format="pairwise").compare(samples))
            for judgment in runs[-1]:
                run.append("judgments", judgment)
    assert runs[0] == runs[1]
    assert all(one.judged and one.margin is not None for one in runs[0])
    assert [Judgment.from_dict(row) for row in read_rows(tmp_path, "judgments")] == runs[0]


# -- scorers and refiners


class Scripted:
    name, revision, modalities = "scripted", "", frozenset({"text"})

    def __init__(self, *answers: float | ParseFailure) -> None:
        self.answers, self.seen = list(answers), 0

    def score(self, items: Sequence[Scored]) -> list[float | ParseFailure]:
        self.seen += len(items)
        return [self.answers.pop(0) for _ in items]


def scored(text: str, prompt: str = "q") -> Scored:
    return Scored((Message("user", (Part("text", prompt),)),), (Part("text", text),))


def test_scores_are_recorded_and_failures_are_not(tmp_path: Path) -> None:
    failure = ParseFailure("out_of_range", "nan")
    with RunFolder(tmp_path, SETTINGS) as run:
        first = run.scorer(Scripted(0.1 + 0.2, failure, -7)).score([scored(t) for t in "abca"])
    scorer = Scripted(5.0)
    with RunFolder(tmp_path, SETTINGS) as run:
        second = run.scorer(scorer).score([scored(t) for t in "abc"])
    assert first == [0.1 + 0.2, failure, -7.0, 0.1 + 0.2]
    assert second == [0.1 + 0.2, 5.0, -7.0]
    assert scorer.seen == 1


def test_a_score_belongs_to_conversation_and_response() -> None:
    items = [scored("a"), scored("b"), scored("a", "p"), Scored((), (Part("text", "a"),))]
    assert len({scored_key(Scripted(), item) for item in items}) == 4


def task(comments: str = "Too long.", candidate: int = 0, kind: str = "text") -> RefineTask:
    content: Any = {"type": "image", "image": "data:image/png;base64,AAAA"} if kind == "image" else "A long answer."
    return RefineTask(
        Sample.from_dict({"id": "s", "prompt": "q", "candidates": [content, content]}), candidate, (), comments
    )


def test_revisions_are_recorded(tmp_path: Path) -> None:
    seen: list[str] = []

    def edit(one: RefineTask) -> str:
        seen.append(one.comments)
        return f"Short. {len(seen)}"

    tasks = [task(), task("Too dull."), task(), task(candidate=1)]
    results = []
    for _ in range(2):
        with RunFolder(tmp_path, SETTINGS) as run:
            results.append(run.refiner(CallableRefiner(edit, modalities={"text"})).refine(tasks))
    assert [one.response[0].value for one in results[0]] == ["Short. 1", "Short. 2", "Short. 1", "Short. 3"]
    assert results[1] == results[0]
    assert len(seen) == 3


def test_failed_revisions_are_tried_again(tmp_path: Path) -> None:
    answers: list[Any] = [ValueError("editor is out"), "Short."]

    def edit(_: RefineTask) -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with RunFolder(tmp_path, SETTINGS) as run:
        refiner = run.refiner(CallableRefiner(edit, modalities={"text"}))
        (first,), (second,) = refiner.refine([task()]), refiner.refine([task()])
    assert isinstance(first, ParseFailure)
    assert isinstance(second, Revision)


def test_an_edited_picture_in_memory_is_kept_in_the_record(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (3, 2), "green")]
    results = []
    for _ in range(2):
        with RunFolder(tmp_path, SETTINGS) as run:
            refiner = run.refiner(CallableRefiner(lambda _: Part("image", pictures.pop()), modalities={"image"}))
            results += refiner.refine([task(kind="image")])
            run.append("trajectories", results[-1])
    assert results[0] == results[1]
    assert results[0].response[0].value.startswith("data:image/png;base64,iVBOR")


def test_a_revision_that_cannot_be_written_fails_alone(tmp_path: Path) -> None:
    class Odd:
        name, modalities = "odd", frozenset({"image"})

        def refine(self, tasks: Sequence[RefineTask]) -> list[Revision | ParseFailure]:
            values = [object(), b"bytes"]
            return [Revision((Part("image", value),), True) for value in values]

    with RunFolder(tmp_path, SETTINGS) as run:
        first, second = run.refiner(Odd()).refine([task(kind="image"), task(kind="image", candidate=1)])
    assert isinstance(first, ParseFailure)
    assert "give a path" in first.detail
    assert second == Revision((Part("image", "data:application/octet-stream;base64,Ynl0ZXM="),), True)


def test_a_model_that_refines_is_recorded_call_by_call(tmp_path: Path) -> None:
    backend = ScriptedBackend(lambda request: f"no such form {request.seed}")
    results = []
    for temperature in (0.0, 0.0, 0.5):
        with RunFolder(tmp_path, SETTINGS) as run:
            results.append(run.refiner(ModelRefiner(backend, temperature=temperature)).refine([task()]))
    assert isinstance(results[0][0], ParseFailure)  # an answer all the same, and not asked for again
    assert results[0] == results[1]
    assert [one.temperature for one in backend.requests] == [0.0, 0.5]


# -- rows


def test_rows_come_back_in_order_and_are_not_doubled(tmp_path: Path) -> None:
    rows = [{"sample": str(i), "value": i / 3, "text": "ü\ud800\n"} for i in range(5)]
    for count in (3, 5, 5):
        with RunFolder(tmp_path, SETTINGS) as run:
            for row in rows[:count]:
                run.append("trajectories", row)
            assert list(run.rows("trajectories")) == rows[:count]
    assert list(read_rows(tmp_path, "trajectories")) == rows
    assert list(read_rows(tmp_path, "judgments")) == []


def test_a_row_that_comes_out_differently_replaces_it_and_what_followed(tmp_path: Path) -> None:
    with RunFolder(tmp_path, SETTINGS) as run:
        for value in (1, None, 3, 4):
            run.append("judgments", {"value": value})
    with RunFolder(tmp_path, SETTINGS) as run:
        for value in (1, 2, 3):
            run.append("judgments", {"value": value})
    assert [row["value"] for row in read_rows(tmp_path, "judgments")] == [1, 2, 3]


def test_a_finished_run_over_fewer_samples_leaves_no_rows_of_the_longer_one(tmp_path: Path) -> None:
    for count, left in ((4, 4), (2, 2), (0, 2), (3, 3)):  # a kind that nothing was appended to is left alone
        with RunFolder(tmp_path, SETTINGS) as run:
            for i in range(count):
                run.append("judgments", {"value": i})
            run.finish()
        assert [row["value"] for row in read_rows(tmp_path, "judgments")] == list(range(left))


@pytest.mark.parametrize("row", [{"a": float("nan")}, {"a": float("inf")}, {"a": object()}, {"a": b"x"}])
def test_a_row_that_is_no_json_is_refused_and_nothing_is_written(row: dict[str, Any], tmp_path: Path) -> None:
    with RunFolder(tmp_path, SETTINGS) as run:
        run.append("rows", {"a": 1})
        with pytest.raises(SampleError, match="a row of rows"):
            run.append("rows", row)
        run.append("rows", {"a": 2})
    assert [one["a"] for one in read_rows(tmp_path, "rows")] == [1, 2]


@pytest.mark.parametrize("kind", ["calls", "", "../x", "A", "a b", "x.jsonl", "a\n", "a" * 65])
def test_a_kind_is_a_plain_name(kind: str, tmp_path: Path) -> None:
    with RunFolder(tmp_path, SETTINGS) as run, pytest.raises(ConfigError, match="kind"):
        run.append(kind, {})
    with pytest.raises(ConfigError, match="kind"):
        read_rows(tmp_path, kind)


def test_rows_can_be_read_while_they_are_written(tmp_path: Path) -> None:
    with RunFolder(tmp_path, SETTINGS) as run:
        run.append("rows", {"a": 1})
        with open(tmp_path / "rows.jsonl", "ab") as file:
            file.write(b'{"a": 2')
        assert list(read_rows(tmp_path, "rows")) == [{"a": 1}]


def test_a_damaged_row_is_named_and_written_anew_by_the_run(tmp_path: Path) -> None:
    with RunFolder(tmp_path, SETTINGS) as run:
        for i in range(3):
            run.append("rows", {"a": i})
    file = tmp_path / "rows.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b'{"a":1}', b'\0"a":1}'))
    with pytest.raises(SampleError, match=r"rows\.jsonl:2"):
        list(read_rows(tmp_path, "rows"))
    with RunFolder(tmp_path, SETTINGS) as run:
        for i in range(3):
            run.append("rows", {"a": i})
    assert file.read_bytes() == whole


# -- settings, locks, damage


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({**SETTINGS, "rubrics": 5}, r"rubrics \(10 then, 5 now\)"),
        ({**SETTINGS, "sampling": {"temperature": 0.7, "seed": 1}}, r"sampling\.seed \(0 then, 1 now\)"),
        ({**SETTINGS, "sampling": {"temperature": 0.7, "seed": False}}, r"sampling\.seed"),
        ({**SETTINGS, "new": 1}, r"new \(only now\)"),
        ({"rubrics": 10, "sampling": SETTINGS["sampling"]}, r"model \(only then\)"),
        ({**SETTINGS, "model": "x" * 1000}, r"model \(\"scripted\" then, \"x{56}\.\.\. now\)"),
    ],
)
def test_other_settings_are_refused_by_name(settings: dict[str, Any], named: str, tmp_path: Path) -> None:
    RunFolder(tmp_path, SETTINGS).close()
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(ConfigError, match=named):
        RunFolder(tmp_path, settings)
    assert (tmp_path / "run.json").read_bytes() == before
    RunFolder(tmp_path, SETTINGS).close()  # and the lock is free


def test_settings_in_another_order_are_the_same(tmp_path: Path) -> None:
    RunFolder(tmp_path, SETTINGS).close()
    RunFolder(tmp_path, {**dict(reversed(SETTINGS.items())), "rubrics": 10.0}).close()


def test_settings_and_versions_are_written(tmp_path: Path) -> None:
    for _ in range(2):
        RunFolder(tmp_path / "a" / "b", SETTINGS).close()
    written = json.loads((tmp_path / "a" / "b" / "run.json").read_bytes())
    assert written["settings"] == SETTINGS
    assert [sorted({"omnirm", "torch"} & set(one)) for one in written["versions"]] == [["omnirm", "torch"]]


def test_other_versions_are_noted_and_no_hindrance(tmp_path: Path) -> None:
    RunFolder(tmp_path, SETTINGS).close()
    file = tmp_path / "run.json"
    known = json.loads(file.read_bytes())
    file.write_text(json.dumps({**known, "versions": [{"omnirm": "0.0.1"}]}))
    RunFolder(tmp_path, SETTINGS).close()
    assert json.loads(file.read_bytes())["versions"] == [{"omnirm": "0.0.1"}, *known["versions"]]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b'{"omnirm_run": 1}', b"\xff"])
def test_damaged_settings_are_an_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"run\.json: is damaged"):
        RunFolder(tmp_path, SETTINGS)


def test_a_form_of_the_future_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"omnirm_run": 2, "settings": {}, "versions": []}')
    with pytest.raises(ConfigError, match="form 2"):
        RunFolder(tmp_path, SETTINGS)


def test_folders_of_other_things_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ConfigError, match=r"is no run folder \(it holds thesis\.tex\)"):
        RunFolder(tmp_path, SETTINGS)
    with pytest.raises(ConfigError, match="is a file"):
        RunFolder(tmp_path / "thesis.tex", SETTINGS)
    assert sorted(one.name for one in tmp_path.iterdir() if one.name != "lock") == ["thesis.tex"]


@pytest.mark.parametrize("settings", [{"a": float("nan")}, {"a": object()}])
def test_settings_that_are_no_json_are_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="settings of a run"):
        RunFolder(tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()


def test_a_chunk_is_at_least_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="chunk 0"):
        RunFolder(tmp_path, SETTINGS, chunk=0)


OPENING = "import sys; from omnirm.runs import RunFolder; RunFolder(sys.argv[1], {}); print('open'); sys.stdin.read()"


def test_a_second_writer_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", OPENING, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "open\n"
    with pytest.raises(ConfigError, match="another process"):
        RunFolder(tmp_path, {})
    first.kill()
    first.communicate()
    RunFolder(tmp_path, {}).close()


def test_a_folder_opens_once_in_one_process_and_the_refusal_does_not_unlock_it(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "run")
    with RunFolder(tmp_path / "run", {}):
        for path in (tmp_path / "run", link, tmp_path / "run" / ".." / "run"):
            with pytest.raises(ConfigError, match="in this process"):
                RunFolder(path, {})
        child = subprocess.run(
            [sys.executable, "-c", OPENING, str(tmp_path / "run")], input="", capture_output=True, text=True
        )
        assert "another process" in child.stderr
    RunFolder(link, {}).close()


def test_a_worker_forked_from_a_run_does_not_keep_it_locked(tmp_path: Path) -> None:
    program = (
        "import os, sys, time; from omnirm.runs import RunFolder; RunFolder(sys.argv[1], {})\n"
        "child = os.fork()\n"
        "if child == 0:\n    os.close(1); time.sleep(60)\n"
        "print(child, flush=True); os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    worker = int(done.stdout)
    try:
        RunFolder(tmp_path, {}).close()
    finally:
        os.kill(worker, 9)


def test_a_closed_run_answers_no_more(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, SETTINGS)
    backend = run.backend(echo())
    backend.generate([asked("a")])
    run.append("rows", {})
    run.close()
    run.close()
    for action in (
        lambda: backend.generate([asked("a")]),
        lambda: backend.generate([asked("b")]),
        lambda: run.append("rows", {}),
    ):
        with pytest.raises(ValueError, match="is closed"):
            action()


def test_damaged_calls_are_made_again(tmp_path: Path) -> None:
    requests = [asked(t) for t in "abcd"]
    with RunFolder(tmp_path, SETTINGS) as run:
        answers = run.backend(echo()).generate(requests)
    file = tmp_path / "calls.jsonl"
    lines = file.read_bytes().split(b"\n")
    lines[0] = b"\0" * len(lines[0])
    lines[1] = lines[1].replace(b'"text":', b'"tex":')
    lines[2] = lines[2].replace(b'"stop"', b'"stop')
    file.write_bytes(b"\n".join(lines))
    backend = echo()
    with RunFolder(tmp_path, SETTINGS) as run:
        assert run.backend(backend).generate(requests) == answers
        assert run.notes == [f"{file}: 1 lines are damaged; these calls are made again"]
    assert [prompt_text(one) for one in backend.requests] == ["a", "b", "c"]
    with RunFolder(tmp_path, SETTINGS) as run:
        run.backend(ScriptedBackend([])).generate(requests)


def test_a_full_disk_is_named_and_leaves_whole_lines(tmp_path: Path) -> None:
    requests = [asked(f"question {i}") for i in range(20)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RunFolder(tmp_path, SETTINGS, chunk=5) as run:
        backend = run.backend(echo())
        backend.generate(requests[:5])
        size = (tmp_path / "calls.jsonl").stat().st_size
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, limits[1]))  # a write stops half-way
            with pytest.raises(OSError, match=r"calls\.jsonl") as caught:
                backend.generate(requests)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert caught.value.filename == str(tmp_path / "calls.jsonl")
        assert (tmp_path / "calls.jsonl").stat().st_size == size
        assert len(backend.generate(requests)) == 20  # room again: the same run goes on
        assert run.made == 20
    with RunFolder(tmp_path, SETTINGS) as run:
        run.backend(ScriptedBackend([])).generate(requests)
        assert run.notes == []


def test_hostile_answers_stay_in_their_line(tmp_path: Path) -> None:
    texts = ["\n{}\n", "\u2028\u0085\r\n\0", "\ud800", '"}\n{"key":"', "é" * 100_000]
    requests = [asked(str(i), max_new_tokens=10**6) for i in range(len(texts))]
    with RunFolder(tmp_path, SETTINGS) as run:
        run.backend(ScriptedBackend(texts)).generate(requests)
    with RunFolder(tmp_path, SETTINGS) as run:
        assert [one.text for one in run.backend(ScriptedBackend([])).generate(requests)] == texts


def test_threads_share_a_run(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with RunFolder(tmp_path, SETTINGS, chunk=3) as run:
        backend = run.backend(echo())
        parts = [[asked(f"{i} {k}") for k in range(7)] for i in range(20)]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(backend.generate, parts))
    with RunFolder(tmp_path, SETTINGS) as run:
        again = [run.backend(ScriptedBackend([])).generate(part) for part in parts]
    assert again == answers
    assert [one.text for one in again[3]] == [f"3 {k} 0" for k in range(7)]


def test_the_record_is_exact_where_numbers_are_whole(tmp_path: Path) -> None:
    """A log-probability given as an int is a float the first time too: rows must not differ by a `.0`."""
    request = asked(track=("A",))
    rows = []
    for backend in (ScriptedBackend(["x"], logprobs={"A": -1}), ScriptedBackend([])):
        with RunFolder(tmp_path, SETTINGS) as run:
            (answer,) = run.backend(backend).generate([request])
            rows.append(json.dumps(dict(answer.logprobs[0].top)))
    assert rows == ['{"A": -1.0}', '{"A": -1.0}']


def test_the_example_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "runs.md").read_text(encoding="utf-8")
    example = text.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    for made in (4, 0):
        names: dict[str, Any] = {}
        exec(example, names)
        assert names["run"].made == made
    assert [row["verdict"] for row in names["rows"]] == ["tie", "tie"]


def test_media_given_in_memory_count_by_content(tmp_path: Path) -> None:
    request = image_request("x")
    (message,) = request.messages

    def with_image(colour: str) -> Request:
        part = Part("image", Image.new("RGB", (2, 2), colour))
        return replace(request, messages=(replace(message, parts=(part, *message.parts[1:])),))

    assert request_key(echo(), with_image("red")) == request_key(echo(), with_image("red"))
    assert request_key(echo(), with_image("red")) != request_key(echo(), with_image("blue"))
