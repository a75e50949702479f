"""A small run in two stages, scored and refined, that can be killed at a chosen byte or call. For tests of run folders.

python run_pipeline.py FOLDER LOG byte|call N     # SIGKILL when N bytes are written to the folder, or at the Nth call
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from omnirm.backends.scripted import ScriptedBackend, prompt_text
from omnirm.runs import RunFolder
from omnirm.scorers.base import Scored
from omnirm.types import Message, ParseFailure, Part, Request

SETTINGS = {"samples": 9, "rubrics": 3}
CHUNK = 4


class LoggedScorer:
    """Scores by hash, and says so."""

    name, revision, modalities = "hash", "1", frozenset({"text"})

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log

    def score(self, items: list[Scored]) -> list[float | ParseFailure]:
        scores: list[float | ParseFailure] = []
        for item in items:
            text = str(item.response[0].value)
            self._log(f"score {text}")
            scores.append(int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 3e9)
        return scores


def question(text: str, seed: int) -> Request:
    return Request((Message("user", (Part("text", text),)),), temperature=0.7, seed=seed, track=("A", "B"))


def logged_backend(log: Callable[[str], None]) -> ScriptedBackend:
    """Answers with words made of question and seed, log-probabilities included."""

    def answer(request: Request) -> str:
        text = f"{prompt_text(request)} / {request.seed}"
        log(f"generate {text}")
        return f"{hashlib.sha256(text.encode()).hexdigest()[:12]} é 😀 A"

    def tell(request: Request, piece: str) -> dict[str, float]:
        return {"A": -0.1 * request.seed - len(piece) / 7, "B": -1}

    return ScriptedBackend(answer, logprobs=tell)


def run(folder: Path, log: Callable[[str], None]) -> RunFolder:
    """The whole run; the folder is closed when it comes back."""
    with RunFolder(folder, SETTINGS, chunk=CHUNK) as run:
        backend, scorer = run.backend(logged_backend(log)), run.scorer(LoggedScorer(log))
        for start in range(0, SETTINGS["samples"], 3):
            plans = backend.generate([question(f"plan {i}", i) for i in range(start, start + 3)])
            asked = [(i, k) for i in range(start, start + 3) for k in range(SETTINGS["rubrics"])]
            answers = backend.generate([question(f"{plans[i - start].text} rubric {k}", 100 * i + k) for i, k in asked])
            scores = scorer.score([Scored((), (Part("text", answer.text),)) for answer in answers])
            for (i, k), answer, score in zip(asked, answers, scores, strict=True):
                odds = [one.top["A"] - one.top["B"] for one in answer.logprobs]
                run.append(
                    "trajectories", {"sample": i, "rubric": k, "text": answer.text, "score": score, "odds": odds}
                )
            for i, plan in enumerate(plans, start):
                run.append("judgments", {"sample": i, "completion": plan})
    return run


def file_log(path: Path) -> Callable[[str], None]:
    """Lines added to a file with O_APPEND, not through `os.write`, which is counted."""
    file = open(path, "ab", buffering=0)  # noqa: SIM115

    def log(line: str) -> None:
        file.write(line.encode("utf-8", "backslashreplace") + b"\n")

    return log


def kill_at_byte(count: int) -> None:
    """Writes `count` bytes through `os.write` and not one more."""
    write, left = os.write, count

    def writing(descriptor: int, data: bytes) -> int:
        nonlocal left
        if len(data) > left:
            write(descriptor, data[:left])
            os.kill(os.getpid(), signal.SIGKILL)
        left -= len(data)
        return write(descriptor, data)

    os.write = writing  # type: ignore[assignment]


def killing(log: Callable[[str], None], count: int) -> Callable[[str], None]:
    """Logs `count` calls and dies in the next one."""
    left = count

    def logging(line: str) -> None:
        nonlocal left
        log(line)
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return logging


if __name__ == "__main__":
    folder, log_file, kind, number = sys.argv[1:]
    log = file_log(Path(log_file))
    if kind == "byte":
        kill_at_byte(int(number))
    run(Path(folder), killing(log, int(number)) if kind == "call" else log)
