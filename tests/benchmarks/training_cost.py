"""What a training step of ours costs beside a step of TRL's own trainer, on the same tokens of text.

    python tests/benchmarks/training_cost.py [--pairs N] [--rows B] [--accumulation A] [--only NAME] [--json FILE]

Both trainers run in one process, in turn, one step of the optimiser each, and who goes first alternates; the median and
range of the ratio of such pairs count, since single timings on shared machines do not. A step is everything from one
step's end to the next: ours encodes its rows in it, while TRL's trainer gets them tokenized. The losses of both must be
the same. Peak memory is of a process for each: how far it grows from before the trainer is made to its highest.

`grpo` gives both trainers the same rollouts, so that all but generating counts: ours reads and rewards them. In
`grpo-sampling` each samples its own with its own code, always the same number of tokens, and every token is of text.

The model is a Qwen3-VL of the embedded model's size with fresh weights: TRL's own trainer cannot train an Omni thinker.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from training_cost_grpo import our_grpo, our_sampling, stock_grpo, stock_sampling

WARM = 2  # steps that do not count


@dataclass(frozen=True)
class Subject:
    """What both sides of a comparison are given: fresh models with the same weights, and rows."""

    processor: Any
    model: Callable[[], Any]
    steps: int
    batch: int
    accumulation: int

    @property
    def rows(self) -> int:
        """As many as the steps take."""
        return self.steps * self.batch * self.accumulation


#: a run trains on its subject in a folder with a callback, and gives back its trainer
Run = Callable[[Subject, Path, Any], Any]


def subject(steps: int, batch: int, accumulation: int) -> Subject:
    """A Qwen3-VL as small as nano."""
    from omnirm.nano.build import Size, build_model, build_processor, train_tokenizer
    from omnirm.nano.instructions import vocabulary
    from omnirm.prompts.render import template_lines
    from omnirm.training.nano.stages import TEMPLATES

    size = Size(hidden=192, layers=6, intermediate=384)
    tokenizer = train_tokenizer("qwen3_vl", vocabulary(300), 1000, template_lines(*TEMPLATES))
    processor = build_processor("qwen3_vl", tokenizer, size)
    return Subject(processor, lambda: build_model("qwen3_vl", tokenizer, size, 0), steps, batch, accumulation)


# -- DPO


def preferences(count: int) -> list[Any]:
    """Judgments of the nano world with an analysis, in words; the rejected one is that of another pair."""
    from omnirm.nano.lessons import lesson
    from omnirm.training.rows import DPORow, Shown

    found, seed = [], 0
    while len(found) <= count:
        one = lesson(seed)
        seed += 1
        if one.task == "text_thinking":
            found.append(one)
    return [
        DPORow(str(i), "judgment", True, Shown(one.messages, one.prefill), one.completion, other.completion + " .")
        for i, (one, other) in enumerate(pairwise(found))
    ]


def dpo_settings(of: Subject) -> Any:
    from omnirm.training.dpo import DPOSettings

    return DPOSettings(
        learning_rate=1e-4, batch_size=of.batch, accumulation=of.accumulation, warmup=0.0, schedule="constant",
        sampling="sequential", log_steps=1, save_steps=10**6, workers=0,
    )  # fmt: skip


def our_dpo(of: Subject, output: Path, callback: Any) -> Any:
    """`train_dpo`."""
    from omnirm.preprocessing.types import Settings
    from omnirm.training.dpo import train_dpo
    from omnirm.training.models import Trainable

    one = Trainable(of.model(), of.processor, Settings(), "")
    return train_dpo(one, preferences(of.rows), dpo_settings(of), output, callbacks=[callback])


def stock_dpo(of: Subject, output: Path, callback: Any) -> Any:
    """TRL's DPOTrainer and collator as they are. It is given our ids after it was made, with a row of no meaning."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from omnirm.backends.hf_inputs import Conversation, InputEncoder
    from omnirm.training.settings import trainer_arguments

    encoder, settings = InputEncoder(of.processor), dpo_settings(of)
    rows = preferences(of.rows)
    prompts = encoder.unexpanded([Conversation(row.prompt.messages, (), row.prompt.prefill) for row in rows])
    ids = [
        {"prompt_ids": p, "chosen_ids": encoder.answer_ids(r.chosen), "rejected_ids": encoder.answer_ids(r.rejected)}
        for p, r in zip(prompts, rows, strict=True)
    ]
    arguments = DPOConfig(
        **trainer_arguments(settings, output, len(rows)),
        train_sampling_strategy="sequential",
        dataloader_pin_memory=False,
        max_length=None,
        beta=settings.beta,
    )
    model = of.model()
    trainer = DPOTrainer(
        model=model,
        ref_model=copy.deepcopy(model),
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}]),
        processing_class=of.processor.tokenizer,
        callbacks=[callback],
    )
    trainer.train_dataset = Dataset.from_list(ids)
    trainer.train()
    return trainer


# -- all


@dataclass(frozen=True)
class Comparison:
    """What is run, and which figure of the log must be the same in each step, up to a relative and an absolute part."""

    ours: Run
    stock: Run
    figure: str = "loss"
    relative: float = 1e-4
    absolute: float = 0.0


RUNS = {
    "dpo": Comparison(our_dpo, stock_dpo),
    "grpo": Comparison(our_grpo, stock_grpo, relative=2e-3, absolute=1e-5),  # TRL adds 1e-4 to a standard deviation
    "grpo-sampling": Comparison(
        our_sampling, stock_sampling, "num_tokens", 0.02
    ),  # where texts meet, TRL joins letters to tokens
}


# -- in turn


class Player:
    """One side, in a thread that waits for its turn after every step."""

    def __init__(self, run: Run, of: Subject, output: Path) -> None:
        from transformers import TrainerCallback

        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self.trainer: Any = None
        self.error: Exception | None = None
        self.wall, self.cpu = 0.0, 0.0
        player = self

        class Turns(TrainerCallback):
            def on_train_begin(self, *_: Any, **__: Any) -> None:
                player._pause()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                player.wall, player.cpu = time.perf_counter() - player._wall, time.process_time() - player._cpu
                player._pause()

        def body() -> None:
            try:
                self.trainer = run(of, output, Turns())
            except Exception as error:  # told to whoever waits
                self.error = error
            self._done.release()

        self._thread = threading.Thread(target=body, daemon=True)
        self._thread.start()
        self._wait()

    def step(self) -> tuple[float, float]:
        """Takes one step: wall and CPU seconds."""
        self._go.release()
        self._wait()
        return self.wall, self.cpu

    def finish(self, figure: str) -> list[float]:
        """Lets the run end: a figure of its log, of each step."""
        self.step()
        self._thread.join()
        return [entry[figure] for entry in self.trainer.state.log_history if figure in entry and "loss" in entry]

    def _pause(self) -> None:
        self._done.release()
        self._go.acquire()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def _wait(self) -> None:
        self._done.acquire()
        if self.error:
            raise self.error


def spread(values: Sequence[float]) -> list[float]:
    """Median, least, greatest."""
    return [statistics.median(values), min(values), max(values)]


def timings(runs: Comparison, of: Subject, folder: Path) -> dict[str, Any]:
    """Interleaved pairs of steps."""
    players = [Player(run, of, folder / str(i)) for i, run in enumerate((runs.ours, runs.stock))]
    times: list[list[tuple[float, float]]] = [[], []]
    for pair in range(of.steps):
        for i in (0, 1) if pair % 2 else (1, 0):
            times[i].append(players[i].step())
    ours, stock = (player.finish(runs.figure) for player in players)
    assert len(ours) == len(stock) == of.steps
    apart = [abs(a - b) - runs.relative * abs(b) - runs.absolute for a, b in zip(ours, stock, strict=True)]
    assert max(apart) <= 0, f"{runs.figure} not the same: {ours}, {stock}"
    counted = list(zip(times[0][WARM:], times[1][WARM:], strict=True))
    return {
        "pairs": len(counted),
        runs.figure: [stock[0], stock[-1]],
        "ours_s": spread([a[0] for a, _ in counted]),
        "stock_s": spread([b[0] for _, b in counted]),
        "wall": spread([a[0] / b[0] for a, b in counted]),
        "cpu": spread([a[1] / b[1] for a, b in counted]),
        "cpu_total": sum(a[1] for a, _ in counted) / sum(b[1] for _, b in counted),
    }


# -- memory


def growth(run: Run, of: Subject, folder: Path) -> float:
    """MiB from before the trainer is made to the highest, in this process."""
    from transformers import TrainerCallback

    import omnirm.training.dpo
    import omnirm.training.grpo  # noqa: F401  # what is only loaded counts for nobody

    of.model()
    before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    run(of, folder, TrainerCallback())
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 2**20


def memory(name: str, side: str, options: argparse.Namespace) -> float:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--only", name, "--grow", side, "--pairs", "2"]
    command += ["--rows", str(options.rows), "--accumulation", str(options.accumulation)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(told.splitlines()[-1])


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=12, help="interleaved pairs of steps that count (default: 12)")
    parser.add_argument("--rows", type=int, default=4, help="rows of a batch (4)")
    parser.add_argument("--accumulation", type=int, default=1, help="batches of a step (1)")
    parser.add_argument("--only", choices=list(RUNS), help="one method only")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--grow", choices=["ours", "stock"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    of = subject(options.pairs + WARM, options.rows, options.accumulation)
    results = {}
    for name in [options.only] if options.only else list(RUNS):
        with tempfile.TemporaryDirectory() as folder:
            quiet = contextlib.redirect_stdout(io.StringIO())  # the trainers print their logs
            if options.grow:
                run = RUNS[name].stock if options.grow == "stock" else RUNS[name].ours
                with quiet, contextlib.redirect_stderr(io.StringIO()):
                    grown = growth(run, replace(of, steps=options.pairs), Path(folder))
                print(grown)
                return
            with quiet, contextlib.redirect_stderr(io.StringIO()):
                found = timings(RUNS[name], of, Path(folder))
        found["memory_mib"] = [memory(name, side, options) for side in ("ours", "stock")]
        results[name] = found
        print(
            f"{name}: {options.rows} rows x {options.accumulation} a step, {found['pairs']} pairs of steps\n"
            f"  seconds a step: {found['ours_s'][0]:.3f} ours, {found['stock_s'][0]:.3f} TRL's own\n"
            "  wall {:.3f}x ({:.3f}-{:.3f}), ".format(*found["wall"])
            + "CPU {:.3f}x ({:.3f}-{:.3f})".format(*found["cpu"])
            + f", CPU of all steps {found['cpu_total']:.3f}x\n"
            + "  peak memory above the start: {:.0f} MiB ours, {:.0f} MiB TRL's own".format(*found["memory_mib"]),
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
