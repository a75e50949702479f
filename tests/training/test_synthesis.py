"""The whole synthesis: files and cards, resuming, benchmarks, rollouts; with scripted models and once with nano."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scripted_rubrics import model, revise, says
from synthesis_pairs import VERDICTS, asked, explored, explorer, pair, plan

from omnirm.errors import BackendError, ConfigError, SampleError
from omnirm.judge import Judge
from omnirm.nano.samples import main as write_nano
from omnirm.rubrics.meta import Meta
from omnirm.rubrics.refine import ModelRefiner
from omnirm.runs import RunFolder
from omnirm.runs import read_rows as run_rows
from omnirm.training.rows import DPORow, GRPORow, SFTRow, read_rows
from omnirm.training.synthesis.choices import RowSettings
from omnirm.training.synthesis.explorer import Explorer
from omnirm.training.synthesis.filters import share_right, wide_enough, worth_exploring
from omnirm.training.synthesis.ngrams import Benchmarks, words
from omnirm.training.synthesis.sets import SETS, explore, make_sets, write_sets

SETTINGS = RowSettings(eps=1.0)
PAIRS = [pair(label=i % 2, id=f"s{i}", prompt=f"question {i}", metadata={"family": f"F{i % 2}"}) for i in range(5)]


def synthesise(folder: Path, one: Explorer, samples=PAIRS, settings=SETTINGS, benchmarks=None) -> dict[str, bytes]:
    with RunFolder(folder, {"model": "table"}, chunk=3) as run:
        recorded = run.backend(one.judge.backend)
        judge = Judge(recorded, format="pairwise-thinking", orders=1)
        meta = Meta(run.scorer(one.meta.scorer), ModelRefiner(recorded))
        own = Explorer(judge, type(one.planner)(recorded, count=4), meta)
        found = list(explore(own, samples, run, at_once=2))
        write_sets(make_sets(found, settings, benchmarks), folder, found, {"Models": {"judge": "table"}})
    names = [f"{name}.{ending}" for name in SETS for ending in ("parquet", "md")] + ["dropped.jsonl"]
    return {name: (folder / name).read_bytes() for name in names}


def test_the_sets_are_written_with_their_cards(tmp_path):
    synthesise(tmp_path, explorer())
    assert len(read_rows(tmp_path / "sft.parquet", SFTRow)) == 20
    assert {row.step for row in read_rows(tmp_path / "dpo.parquet", DPORow)} == {"selection", "picking"}
    assert [row.sample_id for row in read_rows(tmp_path / "grpo.parquet", GRPORow)] == [f"s{i}" for i in range(5)]
    card = (tmp_path / "sft.md").read_text()
    assert "20 rows from 5 of 5 pairs" in card
    for line in ("| step | planning | 5 |", "| step | picking | 5 |", "| thinking | thinking | 10 |",
                 "| modalities | text | 20 |", "| family | F0 | 12 |", "| family | F1 | 8 |",
                 "| judge | table |", "Nothing."):  # fmt: skip
        assert line in card, line
    assert "| eps of selection pairs | 1 |" in (tmp_path / "dpo.md").read_text()
    judgments = list(run_rows(tmp_path, "judgments"))
    assert [len(one["trajectories"]) for one in judgments] == [4] * 5
    assert [one["sample_id"] for one in run_rows(tmp_path, "explored")] == [f"s{i}" for i in range(5)]


def test_a_run_that_breaks_off_resumes_to_the_same_bytes(tmp_path):
    whole = synthesise(tmp_path / "whole", explorer())
    for limit in (1, 33):
        one = explorer()
        script, calls = one.judge.backend._script, []

        def limited(request, script=script, calls=calls, limit=limit):
            calls.append(request)
            if len(calls) > limit:
                raise KeyboardInterrupt
            return script(request)

        one.judge.backend._script = limited
        folder = tmp_path / str(limit)
        with pytest.raises(KeyboardInterrupt):
            synthesise(folder, one)
        again = explorer()
        assert synthesise(folder, again) == whole
        assert len(asked(again)) <= 65 - limit + 5  # 5 plans, 20 judgments, 40 revisions; a chunk may be lost
    same = explorer()
    assert synthesise(tmp_path / "whole", same, settings=RowSettings(eps=1.5))["dpo.parquet"] != whole["dpo.parquet"]
    assert asked(same) == []  # other rows from the same calls


def killed(folder: str, limit: str) -> None:
    """What a child process does: dies at a call."""
    one = explorer()
    script, left = one.judge.backend._script, [int(limit)]

    def deadly(request):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return script(request)

    one.judge.backend._script = deadly
    synthesise(Path(folder), one)


@pytest.mark.parametrize("limit", [9, 40])
def test_a_killed_run_resumes_to_the_same_bytes(tmp_path, limit):
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    code = f"import sys; sys.path[:0] = {paths!r}; from test_synthesis import killed; killed(*sys.argv[1:])"
    child = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run"), str(limit)], capture_output=True, text=True
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert (tmp_path / "run" / "calls.jsonl").stat().st_size
    assert synthesise(tmp_path / "run", explorer()) == synthesise(tmp_path / "whole", explorer())


def test_swapped_candidates_in_the_file_give_the_same_bytes(tmp_path):
    one = synthesise(tmp_path / "a", explorer())
    other = synthesise(tmp_path / "b", explorer(), samples=[sample.swapped() for sample in PAIRS])
    assert one == other


def test_rows_that_share_text_with_a_benchmark_are_dropped_and_listed(tmp_path):
    shared = "how many apples does a very hungry child eat on a long rainy day in june"
    benchmark = tmp_path / "bench.jsonl"
    said = "So, HOW many  apples does a “very” hungry child eat\u200b on a long rainy day?"
    benchmark.write_text(json.dumps({"turns": [{"text": said}]}))
    files = synthesise(
        tmp_path / "run",
        explorer(),
        samples=[*PAIRS, pair(id="leak", prompt=shared)],
        benchmarks=Benchmarks([benchmark]),
    )
    assert {row.sample_id for row in read_rows(tmp_path / "run" / "sft.parquet", SFTRow)} == {f"s{i}" for i in range(5)}
    dropped = [json.loads(line) for line in files["dropped.jsonl"].splitlines()]
    assert {(one["set"], one["sample_id"], one["reason"]) for one in dropped} == {
        (name, "leak", "overlap") for name in ("sft", "dpo", "grpo")
    }
    assert f'"how many apples does a very hungry child eat on a long rainy" in {benchmark}' == dropped[0]["detail"]
    assert "how many apples" in files["sft.md"].decode()


# -- n-grams


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Don't  stop!", ["don", "t", "stop"]), ("ＦＵＬＬ ﬁne", ["full", "fine"]), ("STRASSE straße", ["strasse"] * 2),
     ("zero\u200bwidth", ["zerowidth"]), ("三只猫 ok", ["三", "只", "猫", "ok"]), ("e\u0301té ÉTÉ", ["été"] * 2),
     ("a_b-c", ["a", "b", "c"])],
)  # fmt: skip
def test_words(text, expected):
    assert words(text) == expected


def benchmarks(folder: Path, text: str, name: str = "b.txt", n: int = 4) -> Benchmarks:
    (folder / name).write_text(text)
    return Benchmarks([folder / name], n)


def test_an_n_gram_within_one_text(tmp_path):
    found = benchmarks(tmp_path, "one two three four five six\n\nseven eight nine ten eleven")
    assert found.overlap(["zero Two, three FOUR five!"]).ngram == "two three four five"
    assert found.overlap(["two three four", "five six"]) is None  # none runs over the border of two texts
    assert found.overlap(["four five six seven"]) is None  # nor over that of two paragraphs
    assert len(found) == 3 + 2


def test_short_texts_count_as_a_whole(tmp_path):
    found = benchmarks(tmp_path, "what is two plus three", n=13)
    assert found.overlap(["What is two plus three?"]).ngram == "what is two plus three"
    assert found.overlap(["please tell me what is two plus three"]) is None
    assert benchmarks(tmp_path, "what is two plus three\n\nyes I do", n=13).overlap(["yes, I do"]) is None


def test_every_kind_of_file(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    nested = {"a": [{"b": "one two three four"}]}
    (tmp_path / "x.json").write_text(json.dumps([nested]))
    (tmp_path / "x.jsonl").write_text(json.dumps(nested) + "\n\n")
    pq.write_table(pa.table({"t": [nested], "j": [json.dumps(nested)], "n": [1]}), tmp_path / "x.parquet")
    for name in ("x.json", "x.jsonl", "x.parquet"):
        found = Benchmarks([tmp_path / name], 4).overlap(["zero one two three four"])
        assert (found.ngram, found.file) == ("one two three four", str(tmp_path / name))


@pytest.mark.parametrize(("name", "content", "said"), [
    ("x.csv", "a", "ending"), ("x.jsonl", "{\n", "x.jsonl:1"), ("x.txt", "few words", "nothing to check"),
    ("x.parquet", "no", "Parquet"), ("none.txt", None, "none.txt"),
])  # fmt: skip
def test_benchmarks_that_cannot_be_read(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(SampleError, match=said):
        Benchmarks([tmp_path / name])
    with pytest.raises(ConfigError):
        Benchmarks([], 1)


# -- filters


def test_filters():
    assert [worth_exploring([True] * k + [False] * (8 - k)) for k in range(9)] == [False] + [True] * 6 + [False] * 2
    assert share_right([True, None, False, True]) == 0.5
    assert [wide_enough(x) for x in (2.1, 2.0, 8.3 - 6.3, None, float("nan"), -3)] == [True] + [False] * 5
    with pytest.raises(ConfigError, match="no rollout"):
        worth_exploring([])


def test_rollouts_and_pointwise_scores_are_asked_for():
    scores = {"first": "8", "second": "5.5"}

    def judge(request):
        shown = str(request.messages[1])
        if "response A" not in shown:  # pointwise
            key = shown.split("# ")[1].split()[0]
            name = "first" if "first" in shown else "second"
            return f"t</think>\n<rubrics>1. R: r</rubrics>\n<evaluation>e</evaluation>\nTotal {key}: [[{scores[name]}]]"
        if "rubrics\\n" not in shown:
            return says({"": "AB"[request.seed % 2]})(request)
        return says(VERDICTS)(request)

    (one,) = explored(judge=judge, rollouts=8, pointwise=True)
    assert len(one.rollouts) == 8
    assert set(one.rollouts) == {"A", "B"}
    assert one.margin == 2.5
    (again,) = explored(judge=judge, rollouts=8, pointwise=True)
    assert again.rollouts == one.rollouts
    (none,) = explored()
    assert (none.rollouts, none.margin) == ((), None)


def test_a_model_that_goes_away_is_an_error():
    backend = model(planning=plan, judge=says(VERDICTS), refinement=revise)
    backend.generate = lambda requests: []
    one = explorer()
    broken = Explorer(Judge(backend, format="pairwise-thinking", orders=1), type(one.planner)(backend), one.meta)
    with pytest.raises(BackendError):
        broken.explore([pair()])


# -- the command with nano


def command(folder: Path, *more: str) -> list[str]:
    code = "from omnirm.app.cli import main; main()"
    return [sys.executable, "-c", code, "synth", str(folder / "pairs.jsonl"), "--run", str(folder / "run"),
            "--method", "dual-rm", "--rubrics", "3", *more]  # fmt: skip


@pytest.mark.slow
def test_a_killed_command_resumes_to_the_same_rows(tmp_path):
    """SIGKILL in the middle; then as if nothing had been."""
    files = {}
    for name in ("calm", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        write_nano([str(folder / "pairs.jsonl"), "--pairs", "4", "--split", "train", "--in-words"])
        calls, rows = folder / "run" / "calls.jsonl", folder / "run" / "sft.parquet"
        if name == "killed":
            child = subprocess.Popen(command(folder, "--at-once", "1"), stdout=subprocess.DEVNULL)
            while child.poll() is None and not (calls.exists() and calls.read_bytes().count(b"\n") >= 20):
                time.sleep(0.05)
            child.send_signal(signal.SIGKILL)
            assert child.wait() == -signal.SIGKILL
            assert not rows.exists()
        done = subprocess.run(command(folder, "--at-once", "1"), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        ends = [f"{one}.{end}" for one in SETS for end in ("parquet", "md")]
        files[name] = {one: (folder / "run" / one).read_bytes() for one in ends}
    assert files["killed"] == files["calm"]
    assert read_rows(tmp_path / "calm" / "run" / "grpo.parquet", GRPORow)
