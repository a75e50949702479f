"""`omnirm judge` as a user meets it: output, JSON, files, stdin, exit codes, one clear line for every mistake."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from omnirm.app.cli import app
from omnirm.backends import scripted
from omnirm.backends.scripted import ScriptedBackend, prompt_text, say
from omnirm.errors import BackendError, SampleError
from omnirm.judgment import read_judgment

PAIR = ["judge", "--prompt", "What is 2 + 3?", "--a", "5", "--b", "6"]
A = ["--model", "scripted:always-a"]


def run(*arguments: str, input: str | bytes | None = None):
    return CliRunner().invoke(app, list(arguments), input=input)


@pytest.fixture
def reads_bad(monkeypatch):
    """A model named `scripted:test` that picks A, fails on media called bad, and cannot answer what says `nonsense`."""

    def answer(request):
        parts = [part for message in request.messages for part in message.parts]
        if any(part.type != "text" and "bad" in str(part.value) for part in parts):
            return BackendError("media_error: bad.png: truncated")
        return "?" if "nonsense" in prompt_text(request) else say("A")(request)

    monkeypatch.setitem(scripted.NAMED, "test", lambda: ScriptedBackend(answer))
    return ["--model", "scripted:test"]


def samples(*rows: dict | str) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


GOOD = {"id": "good", "prompt": "q", "candidates": ["a", "b"], "label": 0}
BAD_MEDIUM = {"id": "bad-medium", "prompt": [{"type": "image", "image": "bad.png"}, "q"], "candidates": ["a", "b"]}


# -- a pair from flags


def test_a_report_on_stdout():
    done = run(*PAIR, *A, "--orders", "1")
    assert done.exit_code == 0
    assert "What is 2 + 3?" in done.stdout
    assert "A is better" in done.stdout
    assert done.stderr == ""


def test_json_is_the_judgment_itself():
    done = run(*PAIR, *A, "--json", "--seed", "3", "--rubric", "Right (weight 2): Is it right?", "--rubric", "Short")
    assert done.exit_code == 0
    judgment = read_judgment(done.stdout)
    assert (judgment.verdict, judgment.position_consistent, judgment.decoding.seed) == ("tie", False, 3)
    assert [(r.name, r.text, r.weight) for r in judgment.rubrics] == [
        ("Right", "Is it right?", 2.0),
        ("Short", "", 1.0),
    ]
    assert done.stdout.count("\n") == 1


def test_a_random_judge_repeats_itself_by_seed():
    flags = [*PAIR, "--model", "scripted:random", "--samples", "5", "--json"]
    assert run(*flags).stdout == run(*flags).stdout
    assert len({run(*flags, "--seed", str(seed)).stdout for seed in range(4)}) == 4


def test_media_flags_become_parts_before_the_text():
    done = run(
        "judge", "--prompt", "Which?", "--prompt-audio", "p.wav", "--a-image", "1.png", "--a-image", "2.png",
        "--b-video", "v.mp4", "--b", "so", *A, "--orders", "AB", "--json",
    )  # fmt: skip
    assert done.exit_code == 0
    judgment = read_judgment(done.stdout)
    assert judgment.format == "pairwise"  # media: the verdict alone
    report = run("judge", "--prompt", "Which?", "--a-image", "1.png", "--a", "x", "--b", "y", *A).stdout
    assert re.search(r"A\n  \[image\] 1\.png .*\n  x *\nB", report)


def test_texts_from_files(tmp_path):
    (tmp_path / "a.txt").write_text("from a file ü", encoding="utf-8")
    done = run("judge", "--prompt", "q", "--a", f"@{tmp_path}/a.txt", "--b", "@@home", *A)
    assert "from a file ü" in done.stdout
    assert "@home" in done.stdout
    assert "@@home" not in done.stdout


def test_candidates_may_begin_with_a_dash():
    done = run("judge", "--prompt", "q", "--a", "- one\n- two", "--b", "--help", *A)
    assert done.exit_code == 0
    assert "- two" in done.stdout


def test_an_empty_answer_is_an_answer():
    assert run("judge", "--prompt", "q", "--a", "", "--b", "x", *A).exit_code == 0


def test_rubrics_from_a_file(tmp_path):
    path = tmp_path / "rubrics.json"
    path.write_text('[{"name": "Warmth", "weight": 3}, "Wit"]')
    judgment = read_judgment(run(*PAIR, *A, "--rubric", f"@{path}", "--json").stdout)
    assert [(r.name, r.weight) for r in judgment.rubrics] == [("Warmth", 3.0), ("Wit", 1.0)]


def test_ties():
    assert read_judgment(run(*PAIR, *A, "--tie-band", "0.5", "--orders", "1", "--json").stdout).verdict == "A"
    assert read_judgment(run(*PAIR, *A, "--allow-tie", "--json").stdout).allow_tie is True


def test_scoring_one_candidate(monkeypatch):
    def answer(request):
        key = prompt_text(request).split(" prompt\n")[0].rpartition("# ")[2]
        return f"x</think>\nTotal {key}: [[7]]"

    monkeypatch.setitem(scripted.NAMED, "seven", lambda: ScriptedBackend(answer))
    done = run("judge", "--prompt", "q", "--a", "x", "--score", "--model", "scripted:seven", "--json")
    assert done.exit_code == 0
    assert read_judgment(done.stdout).candidates[0].score == 7.0
    assert "7.00" in run("judge", "--prompt", "q", "--a", "x", "--score", "--model", "scripted:seven").stdout


# -- many samples


def test_a_file_gives_a_line_each(tmp_path, reads_bad):
    path = tmp_path / "many.jsonl"
    path.write_text(samples(GOOD, {**GOOD, "id": "other", "label": 1}))
    done = run("judge", str(path), *reads_bad, "--orders", "1", "--json")
    assert done.exit_code == 0
    assert [read_judgment(line).sample_id for line in done.stdout.splitlines()] == ["good", "other"]
    assert "2 of 2 judged, 1 of 2 as labelled" in done.stderr


def test_one_bad_sample_loses_nothing_else(tmp_path, reads_bad):
    path = tmp_path / "many.jsonl"
    rows = (GOOD, "not json", {"id": "no", "prompt": "q"}, GOOD, BAD_MEDIUM, {**GOOD, "id": "last"})
    path.write_text(samples(*rows))
    done = run("judge", str(path), *reads_bad, "--json")
    assert done.exit_code == 3
    found = [read_judgment(line) for line in done.stdout.splitlines()]
    assert [one.verdict is not None for one in found] == [True, False, False, False, False, True]
    assert [one.sample_id for one in found] == ["good", "many:2", "many:3", "many:4", "bad-medium", "last"]
    assert "not JSON" in found[1].error
    assert "candidates" in found[2].error
    assert "same id" in found[3].error
    assert found[4].reasons == ("media_error: bad.png: truncated",)
    assert "2 of 6 judged" in done.stderr


def test_nothing_judged(tmp_path, reads_bad):
    path = tmp_path / "many.jsonl"
    path.write_text(samples(BAD_MEDIUM, "{}"))
    assert run("judge", str(path), *reads_bad).exit_code == 4
    assert run("judge", "--prompt", "nonsense", "--a", "x", "--b", "y", *reads_bad).exit_code == 4


def test_a_json_list_and_media_beside_the_file(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setitem(scripted.NAMED, "seen", lambda: ScriptedBackend(lambda r: (seen.append(r), say("A")(r))[1]))
    (tmp_path / "one.json").write_text(json.dumps([{**GOOD, "prompt": [{"type": "image", "image": "pic.png"}]}]))
    assert run("judge", str(tmp_path / "one.json"), "--model", "scripted:seen").exit_code == 0
    values = [part.value for message in seen[0].messages for part in message.parts if part.type == "image"]
    assert values == [str(tmp_path / "pic.png")]


def test_stdin(reads_bad):
    done = run("judge", "-", *reads_bad, "--json", input=samples(GOOD, "", "oops", {**GOOD, "id": "two"}))
    assert done.exit_code == 3
    assert [read_judgment(line).sample_id for line in done.stdout.splitlines()] == ["good", "stdin:3", "two"]


def test_bytes_that_are_no_text(reads_bad):
    done = run("judge", "-", *reads_bad, "--json", input=b"\xff\xfe\x00\n" + samples(GOOD).encode())
    assert done.exit_code == 3
    assert "UTF-8" in read_judgment(done.stdout.splitlines()[0]).error


def test_rubrics_from_flags_replace_those_of_the_file(tmp_path, reads_bad):
    path = tmp_path / "s.jsonl"
    path.write_text(samples({**GOOD, "rubrics": ["Own"]}))
    own = read_judgment(run("judge", str(path), *reads_bad, "--json").stdout)
    other = read_judgment(run("judge", str(path), *reads_bad, "--json", "--rubric", "Other").stdout)
    assert ([r.name for r in own.rubrics], [r.name for r in other.rubrics]) == (["Own"], ["Other"])


def test_a_thinking_judge_picks_from_given_rubrics_or_adds_its_own(monkeypatch):
    asked = []

    def answer(request):
        asked.append(request.messages[0].parts[0].value)
        return say("A")(request)

    monkeypatch.setitem(scripted.NAMED, "test", lambda: ScriptedBackend(answer))
    given = [*PAIR, "--model", "scripted:test", "--orders", "1", "--rubric", "Right: Is it?", "--rubric", "Short"]
    runs = [run(*given, *more) for more in ([], ["--pick"], ["--own"], ["--strategy", "selected", "--pick"])]
    assert [done.exit_code for done in runs] == [0, 4, 0, 4], "the scripted answer names none of the list"
    plain, picked, own, selected = asked
    assert "Choose the one" in picked
    assert "Choose the one" in selected
    assert len({plain, picked, own}) == 3
    for more, says in ((["--pick", "--own"], "take one of them"), (["--strategy", "vote", "--pick"], "without pick")):
        done = run(*given, *more)
        assert (done.exit_code, says in done.stderr) == (2, True)


def test_out_writes_json_beside_the_report_and_spares_what_is_there(tmp_path):
    out = tmp_path / "out.jsonl"
    done = run(*PAIR, *A, "--out", str(out))
    assert done.exit_code == 0
    assert "Verdict" in done.stdout
    assert read_judgment(out.read_text()).verdict == "tie"
    refused = run(*PAIR, *A, "--out", str(out))
    assert refused.exit_code == 2
    assert "exists" in refused.stderr
    assert run(*PAIR, *A, "--out", str(out), "--overwrite", "--orders", "1").exit_code == 0
    assert read_judgment(out.read_text()).verdict == "A"


def test_a_model_that_dies_on_the_way_keeps_what_was_judged(tmp_path, monkeypatch):
    class Dying(ScriptedBackend):
        def generate(self, requests):
            if self.batches:
                raise BackendError("out of memory; lower --batch-size")
            return super().generate(requests)

    monkeypatch.setitem(scripted.NAMED, "dying", lambda: Dying(say("A")))
    path, out = tmp_path / "s.jsonl", tmp_path / "out.jsonl"
    path.write_text(samples(*({**GOOD, "id": f"s{i}"} for i in range(20))))
    done = run("judge", str(path), "--model", "scripted:dying", "--json", "--out", str(out))
    assert done.exit_code == 3
    assert "out of memory" in done.stderr
    assert len(done.stdout.splitlines()) == len(out.read_text().splitlines()) == 16


# -- mistakes


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["judge"], "nothing to judge"),
        (["judge", "--prompt", "q", "--a", "x", *A], "candidate B is empty"),
        (["judge", "--a", "x", "--b", "y", *A], "prompt is empty"),
        (["judge", "missing.jsonl", *A], "missing.jsonl: no such file"),
        (["judge", "s.jsonl", "--prompt", "q"], "not both"),
        ([*PAIR, "--model", "scripted:nobody"], "always-a"),
        ([*PAIR, "--model", ""], "no name"),
        ([*PAIR, *A, "--samples", "3", "--temperature", "0"], "same answer"),
        ([*PAIR, *A, "--top-p", "0"], "top_p"),
        ([*PAIR, *A, "--rubric", ": x"], "Name"),
        ([*PAIR, *A, "--rubric", "N (weight x): y"], "no number"),
        ([*PAIR, *A, "--rubric", "N (weight -1): y"], "0 or more"),
        ([*PAIR, *A, "--rubric", "N (weight nan): y"], "0 or more"),
        ([*PAIR, *A, "--a", "@missing.txt"], "missing.txt: No such file"),
        ([*PAIR, *A, "--media-root", "missing-folder"], "missing-folder"),
        ([*PAIR, *A, "--format", "listwise"], "listwise"),
        ([*PAIR, *A, "--orders", "3"], "3"),
        ([*PAIR, *A, "--tie-band", "0.7"], "0.5"),
        ([*PAIR, *A, "--samples", "0"], "1"),
        ([*PAIR, *A, "--out", "no-such-folder/out.jsonl"], "no-such-folder"),
        (["judge", "--nonsense"], "nonsense"),
    ],
)
def test_wrong_use_is_2_with_one_clear_line(arguments, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_wrong_files(tmp_path):
    wrong = tmp_path / "samples.csv"
    wrong.write_text("a,b")
    assert run("judge", str(wrong), *A).exit_code == 2
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n\n")
    done = run("judge", str(empty), *A)
    assert done.exit_code == 2
    assert "no samples" in done.stderr
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    assert run("judge", str(broken), *A).exit_code == 2


def test_a_model_that_cannot_be_loaded_is_4(monkeypatch):
    def fail():
        raise BackendError("org/model: no such model\nhere or on the hub")

    monkeypatch.setitem(scripted.NAMED, "fails", fail)
    done = run(*PAIR, "--model", "scripted:fails")
    assert done.exit_code == 4
    assert done.stderr == "omnirm: org/model: no such model here or on the hub\n"


def test_a_defect_is_1_and_debug_shows_it(monkeypatch):
    monkeypatch.setitem(scripted.NAMED, "buggy", lambda: ScriptedBackend(lambda r: str(1 / 0)))
    done = run(*PAIR, "--model", "scripted:buggy")
    assert done.exit_code == 1
    assert done.stderr == "omnirm: unexpected ZeroDivisionError: division by zero (see --debug)\n"
    assert isinstance(run(*PAIR, "--model", "scripted:buggy", "--debug").exception, ZeroDivisionError)


def test_interrupted(monkeypatch):
    def stop(request):
        raise KeyboardInterrupt

    monkeypatch.setitem(scripted.NAMED, "stops", lambda: ScriptedBackend(stop))
    assert run(*PAIR, "--model", "scripted:stops").exit_code == 130


def test_messages_do_not_obey_what_they_quote():
    done = run("judge", "evil\x1b[31m.jsonl", *A)
    assert "\x1b" not in done.stderr
    assert "<U+001B>" in done.stderr


# -- the real process


def process(*arguments: str, **more) -> subprocess.CompletedProcess:
    program = "from omnirm.app.cli import main; main()"
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, **more)


def test_the_installed_command():
    done = process(*PAIR, *A, "--json")
    assert done.returncode == 0
    assert read_judgment(done.stdout).verdict == "tie"
    assert done.stderr == b""


def test_stdin_of_a_real_process():
    done = process("judge", "-", *A, "--json", input=samples(GOOD, "x").encode())
    assert done.returncode == 3
    assert len(done.stdout.splitlines()) == 2


def test_a_reader_that_leaves_is_no_error(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text(samples(*({**GOOD, "id": f"s{i}", "prompt": "x" * 5000} for i in range(200))))
    program = "from omnirm.app.cli import main; main()"
    writer = subprocess.Popen(
        [sys.executable, "-c", program, "judge", str(path), *A, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    writer.stdout.readline()
    writer.stdout.close()
    errors = writer.stderr.read().decode()
    writer.wait(timeout=60)
    assert "Traceback" not in errors
    assert "Error" not in errors


def test_a_terminal_without_unicode_still_gets_a_report():
    done = process(*PAIR, *A, env={"PYTHONIOENCODING": "ascii", "PATH": "", "PYTHONUTF8": "0"})
    assert done.returncode == 0
    assert b"Verdict" in done.stdout


def test_read_rows_keeps_reading_behind_a_bad_line():
    from omnirm.app.service import read_rows

    rows = list(read_rows(io.BytesIO(samples("[1]", GOOD, GOOD).encode()), base=Path()))
    assert [(row.where, row.sample is not None) for row in rows] == [
        ("stdin:1", False),
        ("good", True),
        ("stdin:3", False),
    ]
    with pytest.raises(SampleError, match="jsonl"):
        list(read_rows(Path("x.csv")))
