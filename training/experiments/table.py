"""The papers' table in small: nano as it ships, SFT, DPO and GRPO on text alone, with and without the meta-verifier.

    python -m omnirm.nano.samples pairs.jsonl --pairs 320 --split train --in-words
    omnirm synth pairs.jsonl --run runs/table/synth --method dual-rm --rubrics 4
    python -m omnirm.training.experiments.table --root runs/table --seeds 0 1 2

Every stage is a recipe of `training/recipes/nano-table-*.toml` and a folder below `--root`: what is finished is not
made again, and what was stopped goes on. Judges are trained on pairs in words only and tested on pairs of all eight
families, media as media. `alone`: the judge plans K rubrics, picks one and judges by it, in both orders.
`meta-verifier`: the judgment under each of the K rubrics, the answer is the one with the highest meta-reward (families
whose responses are text: others cannot be refined).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from omnirm.errors import ConfigError
from omnirm.nano.world import FAMILIES, Family

Arm = Literal["base", "sft", "dpo", "grpo-rule", "grpo-meta"]
ARMS: tuple[Arm, ...] = ("base", "sft", "dpo", "grpo-rule", "grpo-meta")
REFINABLE: tuple[Family, ...] = ("T2T", "TI2T", "TV2T", "TA2T")  # their responses are text
GROUPS: dict[str, tuple[Family, ...]] = {
    "text": ("T2T",),
    "image": ("TI2T", "T2I", "TI2I"),
    "video": ("TV2T", "T2V"),
    "audio": ("TA2T", "T2A"),
}
_RECIPES = Path(__file__).parents[1] / "recipes"
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes: rubrics of a pair (K), test pairs of a family, and those judged with the meta-verifier."""

    rubrics: int = 4
    test_pairs: int = 25
    meta_pairs: int = 10


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


def train(arm: Arm, seed: int, root: Path) -> Path:
    """The folder of an arm's model, trained where it is not there yet."""
    from omnirm.backends.load import nano_folder
    from omnirm.training.recipe import read_recipe

    if arm == "base":
        return nano_folder()
    final = root / f"{arm}-{seed}" / "final"
    if (final / "omnirm.json").is_file():
        return final
    start = "nano" if arm == "sft" else str(train("sft", seed, root))
    method = arm.partition("-")[0]
    changes = [
        f"name={json.dumps(f'{arm}-{seed}')}", f"init={json.dumps(start)}", f"{method}.seed={seed}",
        f"data={json.dumps(str(root / 'synth' / f'{method}.parquet'))}",
    ]  # fmt: skip
    if arm == "grpo-rule":
        changes.append('grpo.reward="rule"')
    began = time.monotonic()
    folder = read_recipe(_RECIPES / f"nano-table-{method}.toml", changes).train(root)
    (folder.parent / "seconds.json").write_text(json.dumps(time.monotonic() - began), encoding="utf-8")
    return folder


def judged(model: Path, folder: Path, pairs: Sequence[Any], rubrics: int, *, pick: bool, verifier: bool) -> list[float]:
    """The share of right verdicts of each pair, over both orders (alone), or of the final one (meta-verifier)."""
    from omnirm.backends.hf import HFBackend
    from omnirm.judge import Judge
    from omnirm.rubrics.generated import GeneratedPlanner
    from omnirm.rubrics.meta import Meta
    from omnirm.rubrics.refine import ModelRefiner
    from omnirm.rubrics.strategies import ScaledJudge
    from omnirm.runs import RunFolder
    from omnirm.scorers.load import load_scorer

    settings = {"model": str(model), "rubrics": rubrics, "pick": pick, "verifier": verifier, "pairs": len(pairs)}
    with RunFolder(folder, settings, chunk=256) as run:
        backend = run.backend(HFBackend(str(model), device="cpu", batch_size=64, name="nano"))
        planner = GeneratedPlanner(backend, count=rubrics)
        judge = Judge(backend, format="pairwise-thinking", orders=2, pick=pick and not verifier)
        meta = Meta(run.scorer(load_scorer("nano")), ModelRefiner(backend)) if verifier else None
        scaled = ScaledJudge(judge, planner, "meta" if verifier else "selected", meta=meta)
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


def measure(arms: Sequence[Arm], seeds: Sequence[int], root: Path, plan: Plan, split: str) -> list[Cell]:
    """The table: each arm on each family and modality, alone and with the meta-verifier."""
    import numpy as np

    from omnirm.nano.world import preference
    from omnirm.training.nano.stages import drawn

    cells = []
    for arm in arms:
        own = [0] if arm == "base" else list(seeds)
        for verifier in (False, True):
            count = plan.meta_pairs if verifier else plan.test_pairs
            families = REFINABLE if verifier else FAMILIES
            right: dict[Family, Any] = {}
            for family in families:
                pairs = [drawn(preference(i, split, family).sample) for i in range(count)]  # type: ignore[arg-type]
                kind = "meta" if verifier else "alone"
                table = [
                    judged(
                        train(arm, seed, root), root / "judged" / f"{split}-{arm}-{seed}-{kind}-{family}", pairs,
                        plan.rubrics, pick=arm != "base", verifier=verifier,
                    )
                    for seed in own
                ]  # fmt: skip
                right[family] = np.array(table)  # [seeds, pairs]
            groups: dict[str, tuple[Family, ...]] = {family: (family,) for family in families}
            groups |= GROUPS | {"all": tuple(families)}
            for name, members in groups.items():
                kept = [right[family] for family in members if family in right]
                if kept:
                    cells.append(_cell(arm, verifier, name, np.concatenate(kept, axis=1)))
    return cells


def _cell(arm: str, verifier: bool, name: str, right: Any) -> Cell:
    import numpy as np

    means = right.mean(axis=0)
    drawn = np.random.default_rng(0).integers(0, len(means), (_RESAMPLES, len(means)))
    low, high = np.quantile(means[drawn].mean(axis=1), (0.025, 0.975))
    spread = tuple(float(x) for x in right.mean(axis=1))
    return Cell(arm, verifier, name, len(means), len(right), float(means.mean()), float(low), float(high), spread)


def text_table(cells: Sequence[Cell]) -> str:
    """The cells as Markdown, percent, an arm a row."""
    names = list(dict.fromkeys(cell.group for cell in cells))
    rows = list(dict.fromkeys((cell.arm, cell.verifier) for cell in cells))
    by = {(cell.arm, cell.verifier, cell.group): cell for cell in cells}
    out = ["| judge | meta-verifier | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for arm, verifier in rows:
        shown = [_shown(by.get((arm, verifier, name))) for name in names]
        out.append(f"| {arm} | {'yes' if verifier else ''} | " + " | ".join(shown) + " |")
    return "\n".join(out)


def _shown(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return f"{100 * cell.accuracy:.1f} [{100 * cell.low:.1f}, {100 * cell.high:.1f}]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains what is missing, measures, prints the table and writes `table.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("runs/table"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--threads", type=int, default=None)
    for name, value in asdict(Plan()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    options = parser.parse_args(arguments)
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    plan = Plan(options.rubrics, options.test_pairs, options.meta_pairs)
    if not (options.root / "synth" / "grpo.parquet").is_file():
        raise ConfigError(f"{options.root}/synth holds no rows yet: see training/EXPERIMENTS.md for its command")
    cells = measure(options.arms, options.seeds, options.root, plan, options.split)
    (options.root / f"table-{options.split}.json").write_text(
        json.dumps([asdict(cell) for cell in cells], indent=1) + "\n", encoding="utf-8"
    )
    print(text_table(cells))


if __name__ == "__main__":
    main()
