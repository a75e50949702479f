"""A run killed with SIGKILL at any byte or call ends, after resuming, exactly like one that was never disturbed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import run_pipeline

from omnirm.runs import RunFolder

CALLS = 63  # 9 plans, 27 judgments, 27 scores
FILES = ("trajectories.jsonl", "judgments.jsonl")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    calls: list[str] = []
    assert run_pipeline.run(folder, calls.append).made == len(calls) == CALLS
    return folder


def total_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def points() -> list[tuple[str, float]]:
    rng = random.Random(20)
    return [("byte", rng.random()) for _ in range(13)] + [("call", rng.random()) for _ in range(7)]


def finished_batches(folder: Path) -> int:
    """Calls in batches that are whole in the file, read as anybody could."""
    path, count = folder / "calls.jsonl", 0
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    for number, line in enumerate(lines, start=1):
        if json.loads(line)["rest"] == 0:
            count = number
    return count


@pytest.mark.parametrize(("kind", "share"), points())
def test_a_killed_run_resumes_to_the_same_bytes_and_repeats_no_finished_call(
    kind: str, share: float, undisturbed: Path, tmp_path: Path
) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"
    number = int(share * (total_bytes(undisturbed) if kind == "byte" else CALLS))
    command = [sys.executable, run_pipeline.__file__, str(folder), str(log), kind, str(number)]
    child = subprocess.run(command, capture_output=True, text=True)
    assert child.returncode == -signal.SIGKILL, child.stderr
    before = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    kept = finished_batches(folder)

    run = run_pipeline.run(folder, run_pipeline.file_log(tmp_path / "log2"))
    resumed = (tmp_path / "log2").read_text(encoding="utf-8").splitlines()

    for name in (*FILES, "calls.jsonl", "run.json"):
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes(), name
    assert run.found >= kept
    assert run.made == len(resumed) == CALLS - kept
    repeated = Counter(before) & Counter(resumed)
    assert sum(repeated.values()) == len(before) - kept <= run_pipeline.CHUNK


def test_a_run_that_is_killed_again_and_again_gets_there(undisturbed: Path, tmp_path: Path) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"
    rng = random.Random(3)
    deaths = 0
    while deaths < 40:
        step = str(rng.randrange(200, 9000))
        child = subprocess.run([sys.executable, run_pipeline.__file__, str(folder), str(log), "byte", step])
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL
        deaths += 1
    assert 2 < deaths < 40
    for name in (*FILES, "calls.jsonl"):
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes(), name


def test_a_file_cut_at_any_byte_keeps_its_whole_batches(undisturbed: Path, tmp_path: Path) -> None:
    whole = (undisturbed / "calls.jsonl").read_bytes()
    settings = (undisturbed / "run.json").read_bytes()
    lines = whole.split(b"\n")[:-1]
    assert [json.loads(line)["rest"] for line in lines[-5:]] == [3, 2, 1, 0, 0]
    last, fifth = (len(whole) - sum(len(line) + 1 for line in lines[-n:]) for n in (1, 5))
    for cut in [*range(fifth, last, 11), *range(last, len(whole) + 1)]:  # every byte of the last record
        (tmp_path / "run.json").write_bytes(settings)
        (tmp_path / "calls.jsonl").write_bytes(whole[:cut])
        with RunFolder(tmp_path, run_pipeline.SETTINGS) as run:
            found = sum(run.find(json.loads(line)["key"]) is not None for line in lines)
        kept = CALLS if cut == len(whole) else CALLS - 1 if cut >= last else CALLS - 5
        assert found == kept
        end = len(whole) if kept == CALLS else last if kept == CALLS - 1 else fifth
        assert (tmp_path / "calls.jsonl").read_bytes() == whole[:end]
        assert bool(run.notes) == (cut != end)
