"""The papers' table in small: nano as it ships, SFT, DPO and GRPO on text alone, with and without the meta-verifier.

    python -m omnirm.nano.samples pairs.jsonl --pairs 400 --split train --in-words
    omnirm synth pairs.jsonl --run runs/table/synth --method dual-rm --rubrics 4
    python -m omnirm.training.experiments.table --root runs/table --seeds 0 1 2

Every stage is a recipe of `training/recipes/nano-table-*.toml` and a folder below `--root`: what is finished is not
made again, and what was stopped goes on. Judges are trained on pairs in words only and tested on pairs of all eight
families, media as media. `grpo-rule` has the 0/1 reward; `grpo-zero` too, and no SFT before it. The base (`--base`,
nano as it ships) plans K rubrics of each pair, so every arm is asked with the same lists, as the rollouts of a group
are. `alone`: the judge picks one of the list and judges by it in one answer, in both orders, sampled as in training
(`--temperature`).
`meta-verifier`: the judgment under each of the K rubrics, the answer is the one with the highest meta-reward (families
whose responses are text: others cannot be refined).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from omnirm.errors import ConfigError
from omnirm.nano.world import FAMILIES, Family
from omnirm.sample import Sample
from omnirm.training.experiments.stages import seconds_of, stage
from omnirm.training.nano.intervals import interval, percent

Arm = Literal["base", "sft", "dpo", "grpo-rule", "grpo-meta", "grpo-zero"]
ARMS: tuple[Arm, ...] = ("base", "sft", "dpo", "grpo-rule", "grpo-meta", "grpo-zero")
REFINABLE: tuple[Family, ...] = ("T2T", "TI2T", "TV2T", "TA2T")  # their responses are text
GROUPS: dict[str, tuple[Family, ...]] = {
    "text": ("T2T",),
    "image": ("TI2T", "T2I", "TI2I"),
    "video": ("TV2T", "T2V"),
    "audio": ("TA2T", "T2A"),
}
#: [seeds, pairs], the share of right verdicts, by (arm, with meta-verifier, family)
Found = dict[tuple[str, bool, Family], Any]
_COMPARED: tuple[tuple[Arm, Arm], ...] = (
    ("sft", "base"), ("dpo", "sft"), ("grpo-rule", "sft"), ("grpo-meta", "sft"), ("grpo-meta", "dpo"),
    ("grpo-meta", "grpo-rule"), ("grpo-meta", "base"), ("grpo-zero", "base"), ("grpo-zero", "grpo-rule"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes: rubrics of a pair (K), test pairs of a family, and those judged with the meta-verifier.

    base: the model that every arm starts from, a folder or nano.
    """

    rubrics: int = 4
    test_pairs: int = 40
    meta_pairs: int = 15
    temperature: float = 1.0  # of judgments
    base: str = "nano"


@dataclass(frozen=True, slots=True)
class Cell:
    """Accuracy of one arm on some families over all its seeds: mean over pairs and orders, 95 % interval over pairs."""

    arm: str
    verifier: bool
    group: str
    pairs: int
    seeds: int
    accuracy: float
    low: float
    high: float
    spread: tuple[float, ...]  # the accuracy of each seed


def train(arm: Arm, seed: int, root: Path, base: str = "nano") -> Path:
    """The folder of an arm's model, trained where it is not there yet."""
    from omnirm.backends.load import checkpoint_path

    if arm == "base":
        return Path(checkpoint_path(base))
    method = arm.partition("-")[0]
    start = base if arm in ("sft", "grpo-zero") else str(train("sft", seed, root, base))
    changes = [f"{method}.seed={seed}", *(['grpo.reward="rule"'] if arm in ("grpo-rule", "grpo-zero") else [])]
    data = root / "synth" / f"{method}.parquet"
    return stage(f"nano-table-{method}", f"{arm}-{seed}", start, data, changes, root)


def with_lists(pairs: Sequence[Sample], folder: Path, count: int, base: str = "nano") -> list[Sample]:
    """The pairs with rubrics that the base plans for them; without any where its plan cannot be read."""
    from omnirm.backends.hf import HFBackend
    from omnirm.backends.load import checkpoint_path
    from omnirm.rubrics.generated import GeneratedPlanner
    from omnirm.runs import RunFolder

    with RunFolder(folder, {"model": base, "rubrics": count, "pairs": len(pairs)}, chunk=256) as run:
        backend = run.backend(HFBackend(checkpoint_path(base), device="cpu", batch_size=64, name="nano"))
        found = GeneratedPlanner(backend, count=count).plan(pairs)
        run.finish()
    # the gold rubric in the metadata would stand in for a list that there is not
    return [replace(one, rubrics=tuple(s.rubrics), metadata={}) for one, s in zip(pairs, found, strict=True)]


def judged(model: Path, folder: Path, pairs: Sequence[Any], plan: Plan, *, verifier: bool) -> list[float]:
    """The share of right verdicts of each pair with its list, over both orders (alone), or of the final one."""
    from omnirm.backends.hf import HFBackend
    from omnirm.judge import Judge
    from omnirm.rubrics.gold import GoldPlanner
    from omnirm.rubrics.meta import Meta
    from omnirm.rubrics.refine import ModelRefiner
    from omnirm.rubrics.strategies import ScaledJudge
    from omnirm.runs import RunFolder
    from omnirm.scorers.load import load_scorer

    sizes = {name: value for name, value in asdict(plan).items() if name != "base"}  # the lists are in the samples
    settings = {"model": str(model), "verifier": verifier, "pairs": len(pairs)} | sizes
    with RunFolder(folder, settings, chunk=256) as run:
        backend = run.backend(HFBackend(str(model), device="cpu", batch_size=64, name="nano"))
        judge = Judge(backend, format="pairwise-thinking", orders=2, temperature=plan.temperature, pick=not verifier)
        meta = Meta(run.scorer(load_scorer("nano")), ModelRefiner(backend)) if verifier else None
        scaled = ScaledJudge(judge, GoldPlanner(), "meta" if verifier else "selected", meta=meta)
        found = scaled.compare(pairs)
        for one in found:
            run.append("judgments", one)
        run.finish()
    return [_right(one, verifier) for one in found]


def _right(one: Any, verifier: bool) -> float:
    if verifier or one.top is None:
        return float(one.correct is True)
    orders = one.top.judgment.order_verdicts
    return sum(verdict == one.label for _, verdict in orders) / max(1, len(one.top.judgment.calls))


def measure(arms: Sequence[Arm], seeds: Sequence[int], root: Path, plan: Plan, split: str) -> Found:
    """How right each arm is about each test pair of each family, alone and with the meta-verifier."""
    import numpy as np

    from omnirm.nano.world import preference
    from omnirm.training.nano.stages import drawn

    found: Found = {}
    for arm in arms:
        for verifier in (False, True):
            count = plan.meta_pairs if verifier else plan.test_pairs
            for family in REFINABLE if verifier else FAMILIES:
                kind = "meta" if verifier else "alone"
                shown = [drawn(preference(i, split, family).sample) for i in range(count)]  # type: ignore[arg-type]
                pairs = with_lists(shown, root / "judged" / f"{split}-lists-{kind}-{family}", plan.rubrics, plan.base)
                table = []
                for seed in [0] if arm == "base" else seeds:
                    folder = root / "judged" / f"{split}-{arm}-{seed}-{kind}-{family}"
                    table.append(judged(train(arm, seed, root, plan.base), folder, pairs, plan, verifier=verifier))
                found[arm, verifier, family] = np.array(table)
    return found


def cells_of(found: Found) -> list[Cell]:
    """The table's cells: families, modalities and all."""
    import numpy as np

    cells = []
    for arm, verifier in dict.fromkeys((arm, verifier) for arm, verifier, _ in found):
        families = {family: right for (a, v, family), right in found.items() if (a, v) == (arm, verifier)}
        groups: dict[str, tuple[Family, ...]] = {family: (family,) for family in families} | GROUPS
        for name, members in (groups | {"all": tuple(families)}).items():
            kept = [families[family] for family in members if family in families]
            if kept:
                right = np.concatenate(kept, axis=1)
                spread = tuple(float(x) for x in right.mean(axis=1))
                cells.append(
                    Cell(arm, verifier, name, right.shape[1], len(right), *interval(right.mean(axis=0)), spread)
                )
    return cells


def differences(found: Found) -> str:
    """Each arm minus another, and each with the meta-verifier minus alone, on the same pairs: points, as Markdown."""
    asked = [((ours, False), (theirs, False)) for ours, theirs in _COMPARED]
    asked += [((arm, True), (arm, False)) for arm in ARMS]
    out = ["| difference | text | other responses or prompts | all |", "|---|---|---|---|"]
    for ours, theirs in asked:
        shown = []
        for members in (GROUPS["text"], FAMILIES[1:], FAMILIES):
            points = _minus(found, ours, theirs, members)
            shown.append("" if points is None else percent(*interval(points), sign="+"))
        if any(shown):
            names = [f"{arm}{' with meta-verifier' if verifier else ''}" for arm, verifier in (ours, theirs)]
            out.append(f"| {' - '.join(names)} | {' | '.join(shown)} |")
    return "\n".join(out)


def _minus(found: Found, ours: tuple[str, bool], theirs: tuple[str, bool], families: Sequence[Family]) -> Any:
    """Pair by pair, means over seeds; None where no family has both. Of the pairs that both have: the first ones."""
    import numpy as np

    points = []
    for family in families:
        a, b = found.get((*ours, family)), found.get((*theirs, family))
        if a is not None and b is not None:
            count = min(a.shape[1], b.shape[1])
            points.append(a.mean(axis=0)[:count] - b.mean(axis=0)[:count])
    return np.concatenate(points) if points else None


def text_table(cells: Sequence[Cell], seconds: Mapping[str, Sequence[float | None]]) -> str:
    """The cells as Markdown, percent, an arm a row; seconds of training are means over seeds."""
    names = list(dict.fromkeys(cell.group for cell in cells))
    rows = list(dict.fromkeys((cell.arm, cell.verifier) for cell in cells))
    by = {(cell.arm, cell.verifier, cell.group): cell for cell in cells}
    heads = ["judge", "meta-verifier", *names, "seconds"]
    out = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for arm, verifier in rows:
        found = [by.get((arm, verifier, name)) for name in names]
        shown = [percent(cell.accuracy, cell.low, cell.high) if cell else "" for cell in found]
        known = [] if verifier else [one for one in seconds.get(arm, ()) if one is not None]
        shown.append(f"{sum(known) / len(known):.0f}" if known else "")
        out.append(f"| {arm} | {'yes' if verifier else ''} | {' | '.join(shown)} |")
    return "\n".join(out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains what is missing, measures, prints the tables and writes them to `table-<split>.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("runs/table"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--threads", type=int, default=None)
    for name, value in asdict(Plan()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = parser.parse_args(arguments)
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    plan = Plan(**{name: getattr(options, name) for name in asdict(Plan())})
    if not (options.root / "synth" / "grpo.parquet").is_file():
        raise ConfigError(f"{options.root}/synth holds no rows yet: see training/EXPERIMENTS.md for its command")
    found = measure(options.arms, options.seeds, options.root, plan, options.split)
    cells = cells_of(found)
    table = {"plan": asdict(plan), "cells": [asdict(cell) for cell in cells]}
    (options.root / f"table-{options.split}.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    seconds = {arm: [seconds_of(options.root / f"{arm}-{seed}") for seed in options.seeds] for arm in options.arms}
    print(text_table(cells, seconds), differences(found), sep="\n\n")


if __name__ == "__main__":
    main()
