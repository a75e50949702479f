"""DWRL and PAR in small: judges of the nano world trained on pairs alone, each against the baselines of its paper.

    python -m omnirm.training.experiments.preferences --root runs/pref --seeds 0 1 2

All runs start from one short SFT of nano (`lessons`), which teaches the P(Yes) dialog, pointwise and pairwise
thinking, and in which only some thoughts look at what decides: that is left to be found. Then the same labelled pairs
in words train DWRL with and without its misalignment weight, GRPO on pairs and on scores (0/1 rewards), PAR and
Bradley-Terry, the last two also with flipped labels. Tested on other pairs, in words and (transfer) as media. Stages
are recipes of `training/recipes/nano-pref-*.toml` and folders below `--root`: what is finished is not made again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Literal

from omnirm.errors import ConfigError
from omnirm.nano.samples import pairs as world_pairs
from omnirm.nano.world import FAMILIES
from omnirm.sample import Sample
from omnirm.training.experiments.preference_lessons import lessons
from omnirm.training.experiments.stages import seconds_of, stage
from omnirm.training.nano.intervals import interval, percent
from omnirm.training.rows import SFTRow

Arm = Literal["sft", "bt", "dwrl", "dwrl-unweighted", "grpo-pair", "grpo-point", "par"]
Reading = Literal["p-yes", "scores", "verdicts", "scalar"]
#: [seeds, pairs], how right it was, by (arm, flips, reading, group)
Found = dict[tuple[str, int, str, str], Any]
#: how a judge of each arm is asked
READINGS: dict[str, tuple[Reading, ...]] = {
    "sft": ("p-yes", "scores", "verdicts"),
    "bt": ("scalar",),
    "dwrl": ("p-yes",),
    "dwrl-unweighted": ("p-yes",),
    "grpo-pair": ("verdicts",),
    "grpo-point": ("scores",),
    "par": ("scores",),
}
#: recipe of each arm, and what it changes there
_RECIPES: dict[str, tuple[str, tuple[str, ...]]] = {
    "sft": ("sft", ()),
    "bt": ("bt", ()),
    "dwrl": ("dwrl", ()),
    "dwrl-unweighted": ("dwrl", ("dwrl.misalignment=false",)),
    "grpo-pair": ("par", ('par.reward="binary"', 'par.mode="pairwise"', "par.generations={rollouts}")),
    "grpo-point": ("par", ('par.reward="binary"',)),
    "par": ("par", ()),
}
FLIPPED: tuple[Arm, ...] = ("par", "bt")
GROUPS = ("words", "media")
_COMPARED: tuple[tuple[Arm, Arm, int], ...] = (
    *(("dwrl", arm, 0) for arm in ("sft", "bt", "grpo-pair", "grpo-point", "dwrl-unweighted")),
    ("grpo-pair", "sft", 0),
    ("grpo-point", "sft", 0),
    ("par", "grpo-point", 0),
    *(("par", arm, flips) for arm in ("sft", "bt") for flips in (0, 20, 50)),
)
_LESSON_SEED, _PAIR_SEED = 5_000_000, 6_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes: pairs to make lessons of, labelled pairs, test pairs in words and as media.

    thoughts: a judge's samples on each response, or in each order. base: the model to start from, a folder or nano.
    """

    lessons: int = 720
    pairs: int = 192
    text_pairs: int = 120
    media_pairs: int = 70
    thoughts: int = 4
    base: str = "nano"


@dataclass(frozen=True, slots=True)
class Run:
    """One trained judge. flips: percent of its labels that are wrong."""

    arm: Arm
    seed: int
    flips: int = 0

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.arm}-{self.flips}-{self.seed}"


#: what every other run starts from
START = Run("sft", 0)


@dataclass(frozen=True, slots=True)
class Cell:
    """Accuracy of one arm, read in one way, over all its seeds: mean over pairs, 95 % bootstrap interval over pairs.

    spread: the accuracy of each seed.
    """

    arm: str
    flips: int
    reading: str
    group: str
    pairs: int
    accuracy: float
    low: float
    high: float
    spread: tuple[float, ...]


# -- data


def flipped(samples: Sequence[Sample], percent: int, seed: int) -> list[Sample]:
    """The samples with so many of their labels turned round, to the nearest one; those of a larger share hold them."""
    order = Random(f"flips {seed}").sample(range(len(samples)), len(samples))
    wrong = set(order[: round(percent / 100 * len(samples))])
    return [replace(one, label=1 - one.label) if i in wrong else one for i, one in enumerate(samples)]  # type: ignore[operator]


# -- training


def train(run: Run, root: Path, plan: Plan, changes: Sequence[str] = ()) -> Path:
    """The folder of a run's model, trained where it is not there yet.

    Args:
        run: which.
        root: folder of all runs.
        plan: sizes of the data.
        changes: `<method>.key=value` over the recipes; those of other methods do not count.
    """
    start = plan.base if run.arm == "sft" else str(train(START, root, plan, changes))
    recipe, own = _RECIPES[run.arm]
    asked = [f"{recipe}.seed={run.seed}", *(change for change in changes if change.startswith(f"{recipe}."))]
    asked += [change.format(rollouts=2 * plan.thoughts) for change in own]
    return stage(f"nano-pref-{recipe}", run.name, start, _data(run, root, plan), asked, root)


def _data(run: Run, root: Path, plan: Plan) -> Path:
    """The file that a run learns from."""
    from omnirm.sample import write_samples
    from omnirm.training.rows import write_rows

    if run.arm == "sft":
        path = root / "data" / "lessons.parquet"
        if not path.is_file():
            found = world_pairs(plan.lessons, "train", FAMILIES, first=_LESSON_SEED, in_words=True)
            write_rows(path, (row for i, pair in enumerate(found) for row in lessons(pair, i)), SFTRow)
        return path
    path = root / "data" / (f"pairs-{run.flips}-{run.seed}.jsonl" if run.flips else "pairs.jsonl")
    if not path.is_file():
        found = world_pairs(plan.pairs, "train", FAMILIES, first=_PAIR_SEED, in_words=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"unfinished-{path.name}")  # samples are known by their ending
        write_samples(unfinished, flipped([pair.sample for pair in found], run.flips, run.seed))
        unfinished.replace(path)
    return path


# -- testing


def right(one: Any) -> float:
    """1 for a pair that was decided right, 1/2 for one that was not decided, 0 for a wrong or an unreadable one."""
    label = "AB"[one.label] if isinstance(one.label, int) else one.label
    return 0.0 if one.verdict is None else 0.5 if one.verdict == "tie" else float(one.verdict == label)


def by_score(better: float | None, worse: float | None) -> float:
    """`right` for the scores of the better and of the worse response; None for one that could not be read."""
    if better is None or worse is None:
        return 0.0
    return 0.5 if better == worse else float(better > worse)


def judged(model: Path, reading: Reading, samples: Sequence[Sample], thoughts: int) -> list[float]:
    """How right a judge is about each pair: `thoughts` samples at temperature 1 on each response, or in each order."""
    if reading == "scalar":
        from omnirm.scorers.base import Scored
        from omnirm.scorers.load import load_scorer

        items = [Scored(one.prompt, c.parts) for one in samples for c in one.candidates]
        found = [x if isinstance(x, float) else None for x in load_scorer(str(model), device="cpu").score(items)]
        return [_by_label(one, found[2 * i : 2 * i + 2]) for i, one in enumerate(samples)]
    from omnirm.backends.hf import HFBackend
    from omnirm.by_yes import compare_by_yes
    from omnirm.judge import Judge

    backend = HFBackend(str(model), device="cpu", batch_size=64, name="nano")
    if reading == "p-yes":
        return [right(one) for one in compare_by_yes(backend, samples, thoughts, max_new_tokens=96)]
    judge = Judge(backend, format="pairwise-thinking", samples=thoughts, temperature=1.0, max_new_tokens=192)
    if reading == "verdicts":
        return [right(one) for one in judge.compare(samples)]
    scored = judge.score(samples)
    return [
        _by_label(sample, [candidate.score for candidate in one.candidates])
        for sample, one in zip(samples, scored, strict=True)
    ]


def _by_label(sample: Sample, scores: Sequence[float | None]) -> float:
    first, second = scores
    return by_score(first, second) if sample.label == 0 else by_score(second, first)


def tests_of(plan: Plan, split: Any) -> dict[str, Callable[[], list[Sample]]]:
    """Pairs of each group, made when they are needed: all families in words, and those with media as media."""
    from omnirm.training.nano.stages import drawn

    return {
        "words": lambda: [
            one.sample for one in world_pairs(plan.text_pairs, split, FAMILIES, first=10_000, in_words=True)
        ],
        "media": lambda: [
            drawn(one.sample) for one in world_pairs(plan.media_pairs, split, FAMILIES[1:], first=20_000)
        ],
    }


def measure(runs: Sequence[Run], root: Path, plan: Plan, split: str, changes: Sequence[str] = ()) -> Found:
    """How right every run is about every test pair; it is trained and judged where that is not done."""
    import numpy as np

    groups = tests_of(plan, split)
    found: dict[tuple[str, int, str, str], list[list[float]]] = {}
    drawn: dict[str, list[Sample]] = {}
    for run in runs:
        model = train(run, root, plan, changes)
        for reading in READINGS[run.arm]:
            for group, make in groups.items():
                path = root / "judged" / f"{split}-{run.name}-{reading}-{group}.json"
                if not path.is_file():
                    if group not in drawn:
                        drawn[group] = make()
                    values = judged(model, reading, drawn[group], plan.thoughts)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    unfinished = path.with_suffix(".part")
                    unfinished.write_text(json.dumps(values), encoding="utf-8")
                    unfinished.replace(path)
                    print(f"{path.stem}: {100 * sum(values) / len(values):.1f}", flush=True)
                values = json.loads(path.read_text(encoding="utf-8"))
                found.setdefault((run.arm, run.flips, reading, group), []).append(values)
    return {key: np.array(table) for key, table in found.items()}


def cells_of(found: Found) -> list[Cell]:
    """The table's cells."""
    cells = []
    for (arm, flips, reading, group), table in found.items():
        spread = tuple(float(x) for x in table.mean(axis=1))
        cells.append(Cell(arm, flips, reading, group, table.shape[1], *interval(table.mean(axis=0)), spread))
    return cells


def text_table(cells: Sequence[Cell], seconds: Mapping[tuple[str, int], Sequence[float | None]]) -> str:
    """The cells as Markdown, percent, an arm a row; seconds of training are means over seeds."""
    groups = list(dict.fromkeys(cell.group for cell in cells))
    by = {(cell.arm, cell.flips, cell.reading, cell.group): cell for cell in cells}
    heads = ["arm", "flipped", "read by", *groups, "seconds"]
    out = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for arm, flips, reading in dict.fromkeys((cell.arm, cell.flips, cell.reading) for cell in cells):
        shown = []
        for group in groups:
            cell = by.get((arm, flips, reading, group))
            shown.append(percent(cell.accuracy, cell.low, cell.high) if cell else "")
        known = [one for one in seconds.get((arm, flips), ()) if one is not None]
        shown.append(f"{sum(known) / len(known):.0f}" if known else "")
        out.append(f"| {arm} | {flips} | {reading} | {' | '.join(shown)} |")
    return "\n".join(out)


def differences(found: Found) -> str:
    """DWRL and PAR minus each of their baselines, pair by pair: points of accuracy with 95 % intervals, as Markdown."""
    out = ["| difference | flipped | group | points |", "|---|---|---|---|"]
    for ours, theirs, flips in _COMPARED:
        own = READINGS[ours][0]
        for reading in [own] if theirs == "sft" else READINGS[theirs]:  # what was gained is told in one way of reading
            for group in GROUPS:
                a = found.get((ours, flips, own, group))
                b = found.get((theirs, 0 if theirs == "sft" else flips, reading, group))
                if a is not None and b is not None:
                    points = percent(*interval(a.mean(axis=0) - b.mean(axis=0)), sign="+")
                    out.append(f"| {ours} - {theirs} ({reading}) | {flips} | {group} | {points} |")
    return "\n".join(out)


def runs_of(arms: Sequence[Arm], seeds: Sequence[int], flips: Sequence[int]) -> list[Run]:
    """Every arm with every seed; those that learn from flipped labels too with each share; the start once."""
    own = {"sft": [0]}
    return [
        Run(arm, seed, share)
        for arm in arms
        for share in (flips if arm in FLIPPED else (0,))
        for seed in own.get(arm, seeds)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains what is missing, measures, prints the tables and writes them to `table-<split>.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("runs/pref"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=list(READINGS), choices=list(READINGS))
    parser.add_argument("--flips", type=int, nargs="+", default=[0, 20, 50], help="percent, of par and bt")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--set", action="append", default=[], metavar="METHOD.KEY=VALUE", help="over the recipes")
    parser.add_argument("--threads", type=int, default=None)
    for name, value in asdict(Plan()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = parser.parse_args(arguments)
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    if any(not 0 <= share <= 100 for share in options.flips):
        parser.error("--flips: give percents, 0 to 100")
    plan = Plan(**{name: getattr(options, name) for name in asdict(Plan())})
    keep_plan(options.root, plan, options.set)
    runs = runs_of(options.arms, options.seeds, options.flips)
    found = measure(runs, options.root, plan, options.split, options.set)
    cells = cells_of(found)
    seconds: dict[tuple[str, int], list[float | None]] = {}
    for run in runs:
        seconds.setdefault((run.arm, run.flips), []).append(seconds_of(options.root / run.name))
    table = {"plan": asdict(plan), "changes": options.set, "cells": [asdict(cell) for cell in cells]}
    (options.root / f"table-{options.split}.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(text_table(cells, seconds), differences(found), sep="\n\n")


def keep_plan(root: Path, plan: Plan, changes: Sequence[str]) -> None:
    """Writes down what the runs of a folder are, or checks that they are this.

    Raises:
        ConfigError: the folder has runs of another plan.
    """
    path, now = root / "plan.json", {"plan": asdict(plan), "changes": list(changes)}
    if not path.is_file():
        root.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    elif (before := json.loads(path.read_text(encoding="utf-8"))) != now:
        raise ConfigError(f"{root}: has runs of {before}, and now {now} is asked for: name another --root")


if __name__ == "__main__":
    main()
